//! Vietnamese text of the time before Unicode: TCVN3 (ABC) and VNI-Windows, as it arrives from a database that took its bytes for
//! Latin-1 or Windows-1252.
//!
//! Text that holds a letter neither of those code pages has is Unicode already and stays as it is.

use unicode_normalization::UnicodeNormalization;

use super::kernel::Outcome;

/// The vowels, each with its tones: none, huyền, hỏi, ngã, sắc, nặng.
const VOWELS: [[char; 6]; 12] = [
    ['a', 'à', 'ả', 'ã', 'á', 'ạ'],
    ['ă', 'ằ', 'ẳ', 'ẵ', 'ắ', 'ặ'],
    ['â', 'ầ', 'ẩ', 'ẫ', 'ấ', 'ậ'],
    ['e', 'è', 'ẻ', 'ẽ', 'é', 'ẹ'],
    ['ê', 'ề', 'ể', 'ễ', 'ế', 'ệ'],
    ['i', 'ì', 'ỉ', 'ĩ', 'í', 'ị'],
    ['o', 'ò', 'ỏ', 'õ', 'ó', 'ọ'],
    ['ô', 'ồ', 'ổ', 'ỗ', 'ố', 'ộ'],
    ['ơ', 'ờ', 'ở', 'ỡ', 'ớ', 'ợ'],
    ['u', 'ù', 'ủ', 'ũ', 'ú', 'ụ'],
    ['ư', 'ừ', 'ử', 'ữ', 'ứ', 'ự'],
    ['y', 'ỳ', 'ỷ', 'ỹ', 'ý', 'ỵ'],
];

/// TCVN3 bytes 0x80 to 0xFF. The fonts have toned capitals only where TCVN 5712 added them (0x80 to 0x9F and a few others);
/// 0xB0 to 0xB4 are tones that follow their letter.
const TCVN3_HIGH: [char; 128] = [
    'À', 'Ả', 'Ã', 'Á', 'Ạ', 'Ặ', 'Ậ', 'È', 'Ẻ', 'Ẽ', 'É', 'Ẹ', 'Ệ', 'Ì', 'Ỉ', 'Ĩ', // 80
    'Í', 'Ị', 'Ò', 'Ỏ', 'Õ', 'Ó', 'Ọ', 'Ộ', 'Ờ', 'Ở', 'Ỡ', 'Ớ', 'Ợ', 'Ù', 'Ủ', 'Ũ', // 90
    '\u{a0}', 'Ă', 'Â', 'Ê', 'Ô', 'Ơ', 'Ư', 'Đ', 'ă', 'â', 'ê', 'ô', 'ơ', 'ư', 'đ', 'Ằ', // A0
    '\u{300}', '\u{309}', '\u{303}', '\u{301}', '\u{323}', 'à', 'ả', 'ã', 'á', 'ạ', 'Ẳ', 'ằ', 'ẳ', 'ẵ', 'ắ', 'Ẵ', // B0
    'Ắ', 'Ầ', 'Ẩ', 'Ẫ', 'Ấ', 'Ề', 'ặ', 'ầ', 'ẩ', 'ẫ', 'ấ', 'ậ', 'è', 'Ể', 'ẻ', 'ẽ', // C0
    'é', 'ẹ', 'ề', 'ể', 'ễ', 'ế', 'ệ', 'ì', 'ỉ', 'Ễ', 'Ế', 'Ồ', 'ĩ', 'í', 'ị', 'ò', // D0
    'Ổ', 'ỏ', 'õ', 'ó', 'ọ', 'ồ', 'ổ', 'ỗ', 'ố', 'ộ', 'ờ', 'ở', 'ỡ', 'ớ', 'ợ', 'ù', // E0
    'Ỗ', 'ủ', 'ũ', 'ú', 'ụ', 'ừ', 'ử', 'ữ', 'ứ', 'ự', 'ỳ', 'ỷ', 'ỹ', 'ý', 'ỵ', 'Ố', // F0
];

/// The capitals that TCVN 5712 put among the control characters.
const TCVN3_LOW: [(u8, char); 12] = [
    (0x01, 'Ú'),
    (0x02, 'Ụ'),
    (0x04, 'Ừ'),
    (0x05, 'Ử'),
    (0x06, 'Ữ'),
    (0x11, 'Ứ'),
    (0x12, 'Ự'),
    (0x13, 'Ỳ'),
    (0x14, 'Ỷ'),
    (0x15, 'Ỹ'),
    (0x16, 'Ý'),
    (0x17, 'Ỵ'),
];

/// What Windows-1252 shows for bytes 0x80 to 0x9F; the five it leaves out stay control characters.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–',
    '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// `from_tcvn3`.
pub(super) fn from_tcvn3(text: &str, out: &mut String) -> Outcome {
    let changes = |c: char| !(c == ' ' || c.is_ascii_graphic());
    if !text.chars().any(changes) {
        return Outcome::Same;
    }
    let mut tones = false;
    for c in text.chars() {
        let Some(byte) = byte_of(c) else {
            return Outcome::Same;
        };
        let letter = match byte {
            0x80.. => TCVN3_HIGH[usize::from(byte - 0x80)],
            low => TCVN3_LOW.iter().find(|(code, _)| *code == low).map_or(c, |(_, letter)| *letter),
        };
        tones |= ('\u{300}'..='\u{323}').contains(&letter);
        out.push(letter);
    }
    if tones {
        *out = out.nfc().collect();
    }
    Outcome::Written
}

/// `from_vni`.
pub(super) fn from_vni(text: &str, out: &mut String) -> Outcome {
    if text.is_ascii() || text.chars().any(|c| byte_of(c).is_none()) {
        return Outcome::Same;
    }
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let small = lower(c);
        let pair = rest.peek().and_then(|mark| vni_pair(small, lower(*mark)));
        if pair.is_some() {
            rest.next();
        }
        let letter = pair.or_else(|| vni_single(small));
        match letter {
            Some(letter) if c != small => out.extend(letter.to_uppercase()),
            Some(letter) => out.push(letter),
            None => out.push(c),
        }
    }
    Outcome::Written
}

/// A base letter followed by its mark.
fn vni_pair(base: char, mark: char) -> Option<char> {
    let tone = |marks: &str| marks.chars().position(|each| each == mark);
    // Marks that bring a circumflex or a breve along, then marks that are a tone alone.
    let (vowel, tone) = match base {
        'a' | 'e' | 'o' if tone("âàåãáä").is_some() => (vowel_of(base)? + circumflex_step(base), tone("âàåãáä")?),
        'a' if tone("êèúüéë").is_some() => (1, tone("êèúüéë")?),
        'a' | 'e' | 'o' | 'u' | 'y' => (vowel_of(base)?, tone("\0øûõùï")?),
        'ô' => (8, tone("\0øûõùï")?),
        'ö' => (10, tone("\0øûõùï")?),
        _ => return None,
    };
    VOWELS.get(vowel).and_then(|row| row.get(tone)).copied()
}

/// Letters that are one byte in VNI.
fn vni_single(letter: char) -> Option<char> {
    Some(match letter {
        'ñ' => 'đ',
        'ô' => 'ơ',
        'ö' => 'ư',
        'í' => 'í',
        'ì' => 'ì',
        'æ' => 'ỉ',
        'ó' => 'ĩ',
        'ò' => 'ị',
        'î' => 'ỵ',
        _ => return None,
    })
}

fn vowel_of(base: char) -> Option<usize> {
    VOWELS.iter().position(|row| row[0] == base)
}

/// From a plain vowel's row to its circumflex's.
const fn circumflex_step(base: char) -> usize {
    if base == 'a' { 2 } else { 1 }
}

/// Lower case within Latin-1, where it is one character.
fn lower(c: char) -> char {
    match c {
        'A'..='Z' | 'À'..='Ö' | 'Ø'..='Þ' => char::from_u32(c as u32 + 32).unwrap_or(c),
        other => other,
    }
}

/// The byte that Latin-1 or Windows-1252 shows as this character.
fn byte_of(c: char) -> Option<u8> {
    u8::try_from(c as u32).ok().or_else(|| {
        let index = WINDOWS_1252.iter().position(|shown| *shown == c)?;
        u8::try_from(0x80 + index).ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read(rule: fn(&str, &mut String) -> Outcome, text: &str) -> String {
        let mut out = String::new();
        match rule(text, &mut out) {
            Outcome::Same => text.to_owned(),
            Outcome::Written => out,
            Outcome::Null | Outcome::Refused(_) => panic!("{text:?} was refused"),
        }
    }

    /// The 67 letters beyond a to z, in both cases.
    fn letters() -> Vec<char> {
        let small = VOWELS.iter().flatten().copied().filter(|c| !c.is_ascii()).chain(['đ']);
        let letters: Vec<char> = small.flat_map(|c| [c].into_iter().chain(c.to_uppercase())).collect();
        assert_eq!(letters.len(), 134);
        letters
    }

    fn shown(byte: u8) -> [char; 2] {
        let latin1 = char::from(byte);
        [latin1, if (0x80..0xa0).contains(&byte) { WINDOWS_1252[usize::from(byte - 0x80)] } else { latin1 }]
    }

    #[test]
    fn all_134_letters_come_back_from_tcvn3_read_as_latin1_or_windows_1252() {
        for letter in letters() {
            let low = TCVN3_LOW.iter().find(|(_, each)| *each == letter).map(|(byte, _)| *byte);
            let high = || TCVN3_HIGH.iter().position(|each| *each == letter).map(|at| u8::try_from(at + 0x80).unwrap());
            let byte = low.or_else(high).unwrap_or_else(|| panic!("{letter} has no byte"));
            for seen in shown(byte) {
                assert_eq!(read(from_tcvn3, &format!("x{seen}x")), format!("x{letter}x"));
            }
        }
    }

    #[test]
    fn tcvn3_text_of_old_extracts_becomes_unicode() {
        assert_eq!(read(from_tcvn3, "Hµ Néi"), "Hà Nội");
        assert_eq!(read(from_tcvn3, "NguyÔn V¨n Tr\u{ad}êng"), "Nguyễn Văn Trường");
        assert_eq!(read(from_tcvn3, "§Æng ThÞ Quúnh, B×nh D\u{ad}¬ng"), "Đặng Thị Quỳnh, Bình Dương");
        assert_eq!(read(from_tcvn3, "E³ e\u{b4}"), "É ẹ");
        assert_eq!(read(from_tcvn3, "Bình Dương"), "Bình Dương", "Unicode already");
    }

    #[test]
    fn vni_text_of_old_extracts_becomes_unicode() {
        assert_eq!(read(from_vni, "Haø Noäi"), "Hà Nội");
        assert_eq!(read(from_vni, "Nguyeãn Vaên Tröôøng"), "Nguyễn Văn Trường");
        assert_eq!(read(from_vni, "ÑAËNG THÒ QUYØNH, BÌNH DÖÔNG"), "ĐẶNG THỊ QUỲNH, BÌNH DƯƠNG");
        assert_eq!(read(from_vni, "Trần"), "Trần", "Unicode already");
    }

    #[test]
    fn all_134_letters_come_back_from_vni() {
        let tones = ["", "ø", "û", "õ", "ù", "ï"];
        let code = |letter: char| -> String {
            let (row, tone) = VOWELS
                .iter()
                .enumerate()
                .find_map(|(row, vowels)| vowels.iter().position(|each| *each == letter).map(|tone| (row, tone)))
                .unwrap_or((99, 0));
            let circumflex = ["â", "à", "å", "ã", "á", "ä"][tone];
            match row {
                1 => format!("a{}", ["ê", "è", "ú", "ü", "é", "ë"][tone]),
                2 => format!("a{circumflex}"),
                4 => format!("e{circumflex}"),
                7 => format!("o{circumflex}"),
                5 => ["i", "ì", "æ", "ó", "í", "ò"][tone].to_owned(),
                8 => format!("ô{}", tones[tone]),
                10 => format!("ö{}", tones[tone]),
                11 if tone == 5 => "î".to_owned(),
                0 | 3 | 6 | 9 | 11 => format!("{}{}", VOWELS[row][0], tones[tone]),
                _ => "ñ".to_owned(),
            }
        };
        for letter in letters() {
            let small: char = letter.to_lowercase().next().unwrap();
            let mut coded = code(small);
            if small != letter {
                coded = coded.to_uppercase();
            }
            assert_eq!(read(from_vni, &format!("x{coded}x")), format!("x{letter}x"), "{coded}");
        }
    }
}
