//! What identifies an organisation and its papers: tax code, agency code, dossier code, commune code.

use super::dates::days_of;
use super::faults::Refusal;
use super::kernel::Outcome;
use super::people::{Tidied, check_personal_id, is_filler, tidy_number};

const WEIGHTS: [u32; 9] = [31, 29, 23, 19, 17, 13, 7, 5, 3];

const TAX_LENGTH: Refusal = Refusal::new("bad-tax-code", "a tax code has 10 digits, 10 and a branch of 3, or the 12 of a personal ID");
const TAX_CHECK: Refusal = Refusal::new("bad-tax-code", "the check digit does not fit");
const TAX_BRANCH: Refusal = Refusal::new("bad-tax-code", "branch 000 does not exist");
const AGENCY: Refusal = Refusal::new("bad-agency-code", "not an agency code: expected H09.15.01 or, right to left, 000.01.15.H09");
const DOSSIER: Refusal = Refusal::new("bad-dossier-code", "not a dossier code: expected <agency code>-YYMMDD-NNNN");
const DOSSIER_DAY: Refusal = Refusal::new("bad-dossier-code", "the dossier code holds no possible day");
const COMMUNE: Refusal = Refusal::new("bad-commune-code", "a commune code has 5 digits");

/// `tax_code`.
pub(super) fn tax_code(text: &str, out: &mut String) -> Outcome {
    let (main, branch) = match text.trim().split_once('-').filter(|(main, _)| main.bytes().filter(u8::is_ascii_digit).count() >= 9) {
        Some((main, branch)) if branch.trim().len() == 3 => (main, branch.trim()),
        Some(_) => return Outcome::Refused(TAX_LENGTH),
        None => (text, ""),
    };
    match tidy_number(main, out) {
        Tidied::Blank => return Outcome::Null,
        Tidied::Foreign => return Outcome::Refused(TAX_LENGTH),
        Tidied::Digits => out.push_str(branch),
    }
    if !out.bytes().all(|byte| byte.is_ascii_digit()) {
        return Outcome::Refused(TAX_LENGTH);
    }
    if let Err(refusal) = settle_tax_code(out) {
        return Outcome::Refused(refusal);
    }
    if out == text { Outcome::Same } else { Outcome::Written }
}

/// Brings digits alone into one of the three forms, lost zeros restored.
fn settle_tax_code(digits: &mut String) -> Result<(), Refusal> {
    let restored = format!("0{digits}");
    match digits.len() {
        9 if has_check_digit(&restored) => *digits = restored,
        // A household business goes by a personal ID.
        11 if check_personal_id(&restored).is_ok() => *digits = restored,
        12 if digits.starts_with('0') => check_personal_id(digits).map_err(|_| TAX_LENGTH)?,
        12 if has_check_digit(&restored[..10]) => *digits = restored,
        12 => check_personal_id(digits).map_err(|_| TAX_LENGTH)?,
        10 | 13 if has_check_digit(&digits[..10]) => {}
        10 | 13 => return Err(TAX_CHECK),
        _ => return Err(TAX_LENGTH),
    }
    if digits.len() == 13 {
        if digits.ends_with("000") {
            return Err(TAX_BRANCH);
        }
        digits.insert(10, '-');
    }
    Ok(())
}

fn has_check_digit(code: &str) -> bool {
    let digit = |byte: &u8| u32::from(byte.wrapping_sub(b'0'));
    let bytes = code.as_bytes();
    let sum: u32 = bytes.iter().zip(WEIGHTS).map(|(byte, weight)| digit(byte) * weight).sum();
    bytes.get(9).is_some_and(|last| digit(last) == 10 - sum % 11)
}

/// `agency_code`: the right-to-left form of before 2020 becomes the left-to-right one.
pub(super) fn agency_code(text: &str, out: &mut String) -> Outcome {
    if text.trim().is_empty() {
        return Outcome::Null;
    }
    let tidy: String = text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_uppercase).collect();
    let mut parts: Vec<&str> = tidy.split('.').collect();
    if parts.len() > 1 && parts.last().is_some_and(|part| is_root(part)) {
        parts.reverse();
        while parts.last().is_some_and(|part| part.bytes().all(|byte| byte == b'0') && !part.is_empty()) {
            parts.pop();
        }
    }
    let Some((root, levels)) = parts.split_first() else {
        return Outcome::Refused(AGENCY);
    };
    let is_level = |part: &&str| {
        matches!(part.len(), 2 | 3) && part.bytes().all(|byte| byte.is_ascii_digit()) && part.bytes().any(|byte| byte != b'0')
    };
    if !is_root(root) || levels.len() > 3 || !levels.iter().all(is_level) {
        return Outcome::Refused(AGENCY);
    }
    out.push_str(&parts.join("."));
    if out == text { Outcome::Same } else { Outcome::Written }
}

/// A ministry or province: a letter and two digits.
fn is_root(part: &str) -> bool {
    matches!(part.as_bytes(), [letter, tens, ones] if letter.is_ascii_uppercase() && tens.is_ascii_digit() && ones.is_ascii_digit())
}

/// `dossier_code`: tidied and checked; the agency stays in the form that is printed on the receipt.
pub(super) fn dossier_code(text: &str, out: &mut String) -> Outcome {
    out.extend(text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_uppercase));
    if out.is_empty() {
        return Outcome::Null;
    }
    let mut parts = out.rsplitn(3, '-');
    let (Some(sequence), Some(day), Some(agency)) = (parts.next(), parts.next(), parts.next()) else {
        return Outcome::Refused(DOSSIER);
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mut scratch = String::new();
    if sequence.len() < 4
        || !digits(sequence)
        || day.len() != 6
        || !digits(day)
        || matches!(agency_code(agency, &mut scratch), Outcome::Refused(_) | Outcome::Null)
    {
        return Outcome::Refused(DOSSIER);
    }
    let pair = |at: usize| day[at..at + 2].parse().unwrap_or(0);
    if days_of(2000 + pair(0), pair(2), pair(4)).is_none() {
        return Outcome::Refused(DOSSIER_DAY);
    }
    if out == text { Outcome::Same } else { Outcome::Written }
}

/// `commune_code`.
pub(super) fn commune_code(text: &str, out: &mut String) -> Outcome {
    match tidy_number(text, out) {
        Tidied::Blank => return Outcome::Null,
        Tidied::Foreign => return Outcome::Refused(COMMUNE),
        Tidied::Digits => {}
    }
    if out.len() > 5 || out.bytes().all(|byte| byte == b'0') || text.contains(is_filler) && text.trim().contains(is_filler) {
        return Outcome::Refused(COMMUNE);
    }
    let lost = 5 - out.len();
    out.insert_str(0, &"0000"[..lost]);
    if out == text { Outcome::Same } else { Outcome::Written }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn run(rule: fn(&str, &mut String) -> Outcome, text: &str) -> Result<Option<String>, &'static str> {
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
    fn real_tax_codes_pass_and_regain_lost_zeros() {
        for code in ["0300588569", "0101248141", "0100109106", "3700145020"] {
            assert_eq!(run(tax_code, code), some(code));
            let number = code.trim_start_matches('0');
            assert_eq!(run(tax_code, number), some(code), "{number}");
            assert_eq!(run(tax_code, &format!("{code}-001")), some(&format!("{code}-001")));
            assert_eq!(run(tax_code, &format!("{code}001")), some(&format!("{code}-001")));
            assert_eq!(run(tax_code, &format!("{number}-001")), some(&format!("{code}-001")));
        }
        assert_eq!(run(tax_code, "300588569001"), some("0300588569-001"));
        assert_eq!(run(tax_code, "074190000001"), some("074190000001"), "household business");
        assert_eq!(run(tax_code, "74190000001"), some("074190000001"));
        assert_eq!(run(tax_code, "03 0058 8569"), some("0300588569"));
        assert_eq!(run(tax_code, ""), Ok(None));
    }

    #[test]
    fn tax_codes_with_a_wrong_digit_are_refused() {
        for bad in [
            "0300588568",
            "300588568",
            "0300588569-000",
            "0300588569-01",
            "030058856",
            "12345",
            "03005885691234",
            "MST0300588569",
            "000190000001",
        ] {
            assert_eq!(run(tax_code, bad), Err("bad-tax-code"), "{bad}");
        }
    }

    #[test]
    fn agency_codes_of_both_directions_become_one() {
        for (text, code) in [
            ("000.00.01.H09", "H09.01"),
            ("000.01.15.H09", "H09.15.01"),
            ("000.00.00.H09", "H09"),
            ("001.01.15.H09", "H09.15.01.001"),
            ("H09.15.01", "H09.15.01"),
            (" h09.15 ", "H09.15"),
            ("H09", "H09"),
        ] {
            assert_eq!(run(agency_code, text), some(code), "{text}");
        }
        for bad in ["H9.15", "000.05.00.H09", "H09.15.01.001.002", "H09.1", "H09..01", "15.01", "."] {
            assert_eq!(run(agency_code, bad), Err("bad-agency-code"), "{bad}");
        }
    }

    #[test]
    fn dossier_codes_need_an_agency_a_day_and_a_sequence() {
        assert_eq!(run(dossier_code, "000.00.15.h09-240305-0012 "), some("000.00.15.H09-240305-0012"));
        assert_eq!(run(dossier_code, "H09.15-240305-12345"), some("H09.15-240305-12345"));
        for bad in ["H09.15-240230-0012", "H09.15-240305-12", "240305-0012", "X-240305-0012", "H09.15-24030-0012"] {
            assert_eq!(run(dossier_code, bad), Err("bad-dossier-code"), "{bad}");
        }
    }

    #[test]
    fn commune_codes_have_five_digits() {
        assert_eq!(run(commune_code, "25747"), some("25747"));
        assert_eq!(run(commune_code, "1"), some("00001"));
        for bad in ["0", "257470", "25x47", "25 747"] {
            assert_eq!(run(commune_code, bad), Err("bad-commune-code"), "{bad}");
        }
    }
}
