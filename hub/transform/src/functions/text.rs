//! Tidies text: Unicode form, names, blanks, digits.

use unicode_normalization::UnicodeNormalization;

use super::kernel::Outcome;
use crate::normalise::is_nfc;

/// `nfc`.
pub(super) fn nfc(text: &str, out: &mut String) -> Outcome {
    if is_nfc(text) {
        return Outcome::Same;
    }
    out.extend(text.nfc());
    Outcome::Written
}

/// `blank_to_null`.
pub(super) fn blank_to_null(text: &str, _: &mut String) -> Outcome {
    if text.chars().all(|c| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}')) { Outcome::Null } else { Outcome::Same }
}

/// `only_digits`.
pub(super) fn only_digits(text: &str, out: &mut String) -> Outcome {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Outcome::Same;
    }
    out.extend(text.chars().filter(char::is_ascii_digit));
    if out.is_empty() { Outcome::Null } else { Outcome::Written }
}

/// `proper_name`: each word of one case gets a capital; a word of mixed case stays as it was written.
pub(super) fn proper_name(text: &str, out: &mut String) -> Outcome {
    let text_nfc;
    let tidy = if is_nfc(text) {
        text
    } else {
        text_nfc = text.nfc().collect::<String>();
        &text_nfc
    };
    for word in tidy.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        // "McDonald" stays, "NGUYỄN" and "nguyễn" do not.
        let mixed = word.chars().skip(1).any(char::is_uppercase) && word.chars().any(char::is_lowercase);
        let mut begins = true;
        for c in word.chars() {
            match (begins, mixed) {
                (true, _) => push_capital(c, out),
                (false, true) => out.push(c),
                (false, false) => push_small(c, out),
            }
            begins = matches!(c, '\'' | '’' | '-' | '(' | '.');
        }
    }
    match out.as_str() {
        "" => Outcome::Null,
        same if same == text => Outcome::Same,
        _ => Outcome::Written,
    }
}

/// The letters of Vietnamese between U+1EA0 and U+1EF9 are pairs, the capital even; the general tables are slow for them.
const PAIRS: std::ops::RangeInclusive<u32> = 0x1ea0..=0x1ef9;

fn push_capital(c: char, out: &mut String) {
    match c {
        _ if c.is_ascii() => out.push(c.to_ascii_uppercase()),
        _ if PAIRS.contains(&(c as u32)) => out.push(char::from_u32(c as u32 & !1).unwrap_or(c)),
        _ => out.extend(c.to_uppercase()),
    }
}

fn push_small(c: char, out: &mut String) {
    match c {
        _ if c.is_ascii() => out.push(c.to_ascii_lowercase()),
        _ if PAIRS.contains(&(c as u32)) => out.push(char::from_u32(c as u32 | 1).unwrap_or(c)),
        _ => out.extend(c.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn run(rule: fn(&str, &mut String) -> Outcome, text: &str) -> Option<String> {
        let mut out = String::new();
        match rule(text, &mut out) {
            Outcome::Same => Some(text.to_owned()),
            Outcome::Written => Some(out),
            Outcome::Null => None,
            Outcome::Refused(refusal) => panic!("{text:?} was refused: {}", refusal.code),
        }
    }

    #[test]
    fn names_in_capitals_become_proper() {
        for (text, name) in [
            ("NGUYỄN VĂN TRƯỜNG", "Nguyễn Văn Trường"),
            ("đặng  thị quỳnh ", "Đặng Thị Quỳnh"),
            ("H'HEN NIÊ", "H'Hen Niê"),
            ("Ronald McDonald", "Ronald McDonald"),
            ("TRẦN-LÊ Y", "Trần-Lê Y"),
            ("LE\u{302} ANH", "Lê Anh"),
        ] {
            assert_eq!(run(proper_name, text).as_deref(), Some(name), "{text}");
        }
        assert_eq!(run(proper_name, "  "), None);
    }

    #[test]
    fn the_short_cut_for_vietnamese_letters_agrees_with_unicode() {
        for c in ('\0'..='\u{1f00}').filter(|c| c.is_alphabetic()) {
            let (mut capital, mut small) = (String::new(), String::new());
            push_capital(c, &mut capital);
            push_small(c, &mut small);
            assert_eq!((capital, small), (c.to_uppercase().collect(), c.to_lowercase().collect()), "{c}");
        }
    }

    #[test]
    fn blank_text_is_null() {
        assert_eq!(run(blank_to_null, " \u{a0}\t"), None);
        assert_eq!(run(blank_to_null, " a "), Some(" a ".to_owned()));
        assert_eq!(run(only_digits, "số 12/3"), Some("123".to_owned()));
        assert_eq!(run(only_digits, "không"), None);
    }

    #[test]
    fn decomposed_text_is_composed() {
        assert_eq!(run(nfc, "Ha\u{300} No\u{302}\u{323}i").as_deref(), Some("Hà Nội"));
    }
}
