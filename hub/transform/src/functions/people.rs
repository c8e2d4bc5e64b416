//! What identifies a person: personal ID, insurance card, gender, telephone.

use unicode_normalization::UnicodeNormalization;

use super::dates::vn_date;
use super::faults::Refusal;
use super::kernel::Outcome;

/// Codes of the provinces in which births were registered (Circular 59/2021/TT-BCA); countries of birth begin at 101.
const PROVINCES: [u16; 63] = [
    1, 2, 4, 6, 8, 10, 11, 12, 14, 15, 17, 19, 20, 22, 24, 25, 26, 27, 30, 31, 33, 34, 35, 36, 37, 38, 40, 42, 44, 45, 46, 48, 49, 51, 52,
    54, 56, 58, 60, 62, 64, 66, 67, 68, 70, 72, 74, 75, 77, 79, 80, 82, 83, 84, 86, 87, 89, 91, 92, 93, 94, 95, 96,
];
const FIRST_COUNTRY: u16 = 101;

const LENGTH: Refusal = Refusal::new("bad-personal-id", "a personal ID has 12 digits");
const PLACE: Refusal = Refusal::new("bad-personal-id", "the first three digits are no province or country of birth registration");
const CENTURY: Refusal = Refusal::new("bad-personal-id", "the fourth digit gives a century that has not come yet");
const OLD: Refusal = Refusal::new("old-personal-id", "nine digits: an old identity card number (CMND), not a personal ID");
const BIRTH: Refusal = Refusal::new("personal-id-mismatch", "the personal ID contradicts the date of birth");
const GENDER: Refusal = Refusal::new("personal-id-mismatch", "the personal ID contradicts the gender");
const BAD_BIRTH: Refusal = Refusal::new("bad-date", "the date of birth beside the personal ID is not a date");
const BAD_GENDER: Refusal =
    Refusal::new("unknown-gender", "not a gender: expected Nam, Nữ, M, F, male, female, or give the source's own values as arguments");
const CARD: Refusal =
    Refusal::new("bad-insurance-card", "an insurance card has 2 letters, a benefit level 1 to 5 and 12 digits, or the 10 digits alone");
const PHONE: Refusal = Refusal::new("bad-phone", "not a Vietnamese telephone number");

/// `personal_id(text)`.
pub(super) fn personal_id(text: &str, out: &mut String) -> Outcome {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return check_personal_id(text).map_or_else(Outcome::Refused, |()| Outcome::Same);
    }
    let digits = tidy_number(text, out);
    if digits == Tidied::Blank {
        return Outcome::Null;
    }
    if digits == Tidied::Foreign {
        return Outcome::Refused(LENGTH);
    }
    let lost = match out.len() {
        12 => 0,
        // Numbers and spreadsheets drop leading zeros; a personal ID has at most two ("001" is Hà Nội).
        10 | 11 => 12 - out.len(),
        9 => return Outcome::Refused(OLD),
        _ => return Outcome::Refused(LENGTH),
    };
    out.insert_str(0, &"00"[..lost]);
    if let Err(refusal) = check_personal_id(out) {
        return Outcome::Refused(if lost > 0 { LENGTH } else { refusal });
    }
    Outcome::Written
}

/// Whether twelve digits can be a personal ID.
pub(super) fn check_personal_id(digits: &str) -> Result<(), Refusal> {
    let [a, b, c, century, ..] = digits.as_bytes() else {
        return Err(LENGTH);
    };
    let place = [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
    if place < FIRST_COUNTRY && PROVINCES.binary_search(&place).is_err() {
        return Err(PLACE);
    }
    // 0 and 1 are the 1900s, 2 and 3 the 2000s.
    if *century > b'3' {
        return Err(CENTURY);
    }
    Ok(())
}

/// `personal_id(text, birth_date, gender)`: also against what else is known of the person.
pub(super) fn personal_id_of(text: &str, birth: Option<&str>, sex: Option<&str>, out: &mut String) -> Outcome {
    let outcome = personal_id(text, out);
    let id = match outcome {
        Outcome::Same => text.as_bytes(),
        Outcome::Written => out.as_bytes(),
        Outcome::Null | Outcome::Refused(_) => return outcome,
    };
    let (century, year) = (i32::from(id[3] - b'0'), i32::from(id[4] - b'0') * 10 + i32::from(id[5] - b'0'));
    let born = 1900 + century / 2 * 100 + year;
    match birth.map(vn_date).transpose() {
        Err(_) => return Outcome::Refused(BAD_BIRTH),
        Ok(Some(Some(days))) if year_of(days) != born => return Outcome::Refused(BIRTH),
        Ok(_) => {}
    }
    match sex.filter(|sex| !sex.trim().is_empty()).map(sex_of) {
        Some(None) => Outcome::Refused(BAD_GENDER),
        Some(Some(Sex::Male)) if century % 2 == 1 => Outcome::Refused(GENDER),
        Some(Some(Sex::Female)) if century % 2 == 0 => Outcome::Refused(GENDER),
        _ => outcome,
    }
}

fn year_of(days: i32) -> i32 {
    // Exact within 1800 to 2200, where dates come from: years begin in March, so January and February belong to the one before.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    year + era * 400 + i32::from(of_year >= 306)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sex {
    Male,
    Female,
    Other,
}

fn sex_of(text: &str) -> Option<Sex> {
    let word: String = text.trim().nfc().flat_map(char::to_lowercase).collect();
    match word.as_str() {
        "nam" | "male" | "m" => Some(Sex::Male),
        "nữ" | "nu" | "female" | "f" => Some(Sex::Female),
        "khác" | "khac" | "other" | "o" => Some(Sex::Other),
        _ => None,
    }
}

/// `gender(text)`: words only, since 0 and 1 mean different things in different systems.
pub(super) fn gender(text: &str, out: &mut String) -> Outcome {
    if text.trim().is_empty() {
        return Outcome::Null;
    }
    let word = match sex_of(text) {
        Some(Sex::Male) => "male",
        Some(Sex::Female) => "female",
        Some(Sex::Other) => "other",
        None => return Outcome::Refused(BAD_GENDER),
    };
    out.push_str(word);
    if out == text { Outcome::Same } else { Outcome::Written }
}

/// `gender(text, male, female)`: the source's own values for the two.
pub(super) fn gender_by(text: &str, male: Option<&str>, female: Option<&str>, out: &mut String) -> Outcome {
    let text = text.trim();
    if text.is_empty() {
        return Outcome::Null;
    }
    if Some(text) == male {
        out.push_str("male");
    } else if Some(text) == female {
        out.push_str("female");
    } else {
        return Outcome::Refused(BAD_GENDER);
    }
    Outcome::Written
}

/// `insurance_card`.
pub(super) fn insurance_card(text: &str, out: &mut String) -> Outcome {
    out.extend(text.chars().filter(|c| !is_filler(*c)).flat_map(char::to_uppercase));
    let bytes = out.as_bytes();
    let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    let fits = match bytes.len() {
        0 => return Outcome::Null,
        10 => digits(bytes),
        15 => bytes[..2].iter().all(u8::is_ascii_uppercase) && (b'1'..=b'5').contains(&bytes[2]) && digits(&bytes[3..]),
        _ => false,
    };
    match (fits, out == text) {
        (false, _) => Outcome::Refused(CARD),
        (true, true) => Outcome::Same,
        (true, false) => Outcome::Written,
    }
}

/// `vn_phone`: to `+84…`, the eleven-digit mobile numbers of before 2018 in their new form.
pub(super) fn vn_phone(text: &str, out: &mut String) -> Outcome {
    let mut plus = false;
    for (at, c) in text.trim().chars().enumerate() {
        match c {
            '0'..='9' => out.push(c),
            '+' if at == 0 => plus = true,
            ' ' | '.' | '-' | '(' | ')' | '\u{a0}' => {}
            _ => return Outcome::Refused(PHONE),
        }
    }
    if out.is_empty() {
        return if plus { Outcome::Refused(PHONE) } else { Outcome::Null };
    }
    let prefix = if plus {
        if !out.starts_with("84") {
            return Outcome::Refused(PHONE);
        }
        2
    } else if out.starts_with("0084") {
        4
    } else if out.starts_with("84") && out.len() >= 11 {
        2
    } else {
        usize::from(out.starts_with('0'))
    };
    out.drain(..prefix);
    if plus && out.starts_with('0') {
        out.remove(0);
    }
    if out.len() == 10
        && let Some(new) = renumbered(out)
    {
        out.replace_range(..3, new);
    }
    let mobile = out.len() == 9 && matches!(out.as_bytes()[0], b'3' | b'5' | b'7' | b'8' | b'9');
    let landline = out.len() == 10 && out.starts_with('2');
    if !(mobile || landline) {
        return Outcome::Refused(PHONE);
    }
    out.insert_str(0, "+84");
    if out == text { Outcome::Same } else { Outcome::Written }
}

/// The two digits that replaced three in 2018.
fn renumbered(number: &str) -> Option<&'static str> {
    Some(match number.get(..3)? {
        "120" => "70",
        "121" => "79",
        "122" => "77",
        "126" => "76",
        "128" => "78",
        "123" => "83",
        "124" => "84",
        "125" => "85",
        "127" => "81",
        "129" => "82",
        "162" => "32",
        "163" => "33",
        "164" => "34",
        "165" => "35",
        "166" => "36",
        "167" => "37",
        "168" => "38",
        "169" => "39",
        "186" => "56",
        "188" => "58",
        "199" => "59",
        _ => return None,
    })
}

/// What was left of a number after tidying.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tidied {
    /// Nothing at all.
    Blank,
    /// Digits alone.
    Digits,
    /// Something that is no digit, blank or separator.
    Foreign,
}

/// Leaves the digits of a number: blanks, dots, hyphens and a spreadsheet's apostrophe or trailing `.0` go.
pub(super) fn tidy_number(text: &str, out: &mut String) -> Tidied {
    let trimmed = text.trim().trim_start_matches('\'');
    let trimmed = trimmed.strip_suffix(".0").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())).unwrap_or(trimmed);
    for c in trimmed.chars() {
        if c.is_ascii_digit() {
            out.push(c);
        } else if !is_filler(c) {
            return Tidied::Foreign;
        }
    }
    if out.is_empty() { Tidied::Blank } else { Tidied::Digits }
}

/// Characters that people put between the digits of a number.
pub(super) fn is_filler(c: char) -> bool {
    matches!(c, ' ' | '.' | '-' | '\t' | '\u{a0}' | '\u{200b}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    pub(super) fn run(rule: impl Fn(&str, &mut String) -> Outcome, text: &str) -> Result<Option<String>, &'static str> {
        let mut out = String::new();
        match rule(text, &mut out) {
            Outcome::Same => Ok(Some(text.to_owned())),
            Outcome::Written => Ok(Some(out)),
            Outcome::Null => Ok(None),
            Outcome::Refused(refusal) => Err(refusal.code),
        }
    }

    fn some(text: &str) -> Result<Option<String>, &'static str> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn personal_ids_regain_the_zeros_they_lost() {
        assert_eq!(run(personal_id, "074190000001"), some("074190000001"));
        assert_eq!(run(personal_id, "74190000001"), some("074190000001"));
        assert_eq!(run(personal_id, "1190000001"), some("001190000001"), "Hà Nội");
        assert_eq!(run(personal_id, " 074 190.000-001 "), some("074190000001"));
        assert_eq!(run(personal_id, "74190000001.0"), some("074190000001"));
        assert_eq!(run(personal_id, " "), Ok(None));
    }

    #[test]
    fn what_cannot_be_a_personal_id_is_refused() {
        assert_eq!(run(personal_id, "280123456"), Err("old-personal-id"));
        for bad in
            ["07419000000", "003190000001", "074990000001", "0741900000011", "7.419E+10", "07419000000x", "3190000001", "000190000001"]
        {
            assert_eq!(run(personal_id, bad), Err("bad-personal-id"), "{bad}");
        }
    }

    #[test]
    fn a_personal_id_is_held_against_birth_date_and_gender() {
        let check = |birth: Option<&str>, sex: Option<&str>| run(|text, out| personal_id_of(text, birth, sex, out), "074190000001");
        assert_eq!(check(Some("1990-05-31"), Some("Nữ")), some("074190000001"));
        assert_eq!(check(Some("31/05/1990"), None), some("074190000001"));
        assert_eq!(check(Some("1990-01-01"), None), some("074190000001"));
        assert_eq!(check(Some("1990-12-31"), None), some("074190000001"));
        assert_eq!(check(None, None), some("074190000001"));
        assert_eq!(check(Some("1991-01-01"), Some("Nữ")), Err("personal-id-mismatch"));
        assert_eq!(check(None, Some("Nam")), Err("personal-id-mismatch"));
        assert_eq!(check(Some("x"), None), Err("bad-date"));
        assert_eq!(run(|text, out| personal_id_of(text, Some("2004-02-29"), Some("nam"), out), "074204000001"), some("074204000001"));
    }

    #[test]
    fn genders_are_words_or_the_sources_own_values() {
        for (text, word) in
            [("Nam", "male"), ("NỮ", "female"), ("NU\u{31b}\u{303}", "female"), ("nu", "female"), ("Khác", "other"), ("M", "male")]
        {
            assert_eq!(run(gender, text), some(word), "{text}");
        }
        assert_eq!(run(gender, "1"), Err("unknown-gender"));
        assert_eq!(run(|text, out| gender_by(text, Some("1"), Some("0"), out), "0"), some("female"));
        assert_eq!(run(|text, out| gender_by(text, Some("1"), Some("0"), out), "2"), Err("unknown-gender"));
    }

    #[test]
    fn insurance_cards_keep_fifteen_characters_or_ten_digits() {
        assert_eq!(run(insurance_card, "dn 4 74 0123456789"), some("DN4740123456789"));
        assert_eq!(run(insurance_card, "0123456789"), some("0123456789"));
        for bad in ["DN6740123456789", "D14740123456789", "012345678", "DN474012345678X"] {
            assert_eq!(run(insurance_card, bad), Err("bad-insurance-card"), "{bad}");
        }
    }

    #[test]
    fn telephone_numbers_become_international() {
        for (text, number) in [
            ("0912 345 678", "+84912345678"),
            ("912345678", "+84912345678"),
            ("+84 (0) 912-345-678", "+84912345678"),
            ("0084912345678", "+84912345678"),
            ("84912345678", "+84912345678"),
            ("01681234567", "+84381234567"),
            ("0274.3822.825", "+842743822825"),
            ("+84912345678", "+84912345678"),
        ] {
            assert_eq!(run(vn_phone, text), some(number), "{text}");
        }
        for bad in ["113", "+1 202 555 0100", "09123456789", "0112345678", "không có"] {
            assert_eq!(run(vn_phone, bad), Err("bad-phone"), "{bad}");
        }
    }
}
