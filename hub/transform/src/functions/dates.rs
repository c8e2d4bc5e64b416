//! Dates and times as Vietnamese systems write them: day first, or compact, or a spreadsheet's serial number.

use super::faults::Refusal;
use super::kernel::Outcome;

const DAY_MICROS: i64 = 86_400_000_000;
/// 1970-01-01 as a spreadsheet counts days.
const SERIAL_EPOCH: i32 = 25_569;
/// Serials taken for dates: 1927-05-18 to 2099-12-31.
const SERIALS: std::ops::RangeInclusive<i32> = 10_000..=73_050;
const YEARS: std::ops::RangeInclusive<i32> = 1800..=2200;

const BAD_DATE: Refusal =
    Refusal::new("bad-date", "not a date: expected dd/MM/yyyy, yyyy-MM-dd, yyyyMMdd, MM/yyyy, yyyy or a spreadsheet's serial");
const NO_SUCH_DAY: Refusal = Refusal::new("bad-date", "no such day in the calendar between 1800 and 2200");
const BAD_TIMESTAMP: Refusal =
    Refusal::new("bad-timestamp", "not a date with time: expected dd/MM/yyyy HH:mm[:ss], yyyy-MM-dd HH:mm[:ss] or yyyyMMddHHmmss");
const HAS_OFFSET: Refusal =
    Refusal::new("bad-timestamp", "the time carries its own offset; map it with CAST(… AS TIMESTAMP WITH TIME ZONE) instead");

/// How much of a date is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    Day,
    Month,
    Year,
}

/// `vn_date`.
pub(super) fn vn_date(text: &str) -> Result<Option<i32>, Refusal> {
    // By far the most frequent form.
    if let [d1, d2, b'/', m1, m2, b'/', y1, y2, y3, y4] = text.as_bytes()
        && let (Some(day), Some(month), Some(year)) = (number(&[*d1, *d2]), number(&[*m1, *m2]), number(&[*y1, *y2, *y3, *y4]))
    {
        return days_of(year, month, day).map(Some).ok_or(NO_SUCH_DAY);
    }
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(date(text)?.0))
}

/// `vn_date_precision`.
pub(super) fn vn_date_precision(text: &str, out: &mut String) -> Outcome {
    let text = text.trim();
    if text.is_empty() {
        return Outcome::Null;
    }
    match date(text) {
        Ok((_, precision)) => {
            out.push_str(match precision {
                Precision::Day => "day",
                Precision::Month => "month",
                Precision::Year => "year",
            });
            Outcome::Written
        }
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// `vn_timestamp`.
pub(super) fn vn_timestamp(text: &str) -> Result<Option<i64>, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = text.as_bytes();
    if matches!(bytes.len(), 12 | 14) && bytes.iter().all(u8::is_ascii_digit) {
        let (Some(days), Some(clock)) = (compact(&bytes[..8]), compact_clock(&bytes[8..])) else {
            return Err(BAD_TIMESTAMP);
        };
        return Ok(Some(i64::from(days) * DAY_MICROS + clock));
    }
    if let Some(micros) = serial_with_time(text) {
        return Ok(Some(micros));
    }
    let (day, time) = halves(text);
    let (days, precision) = date(day).map_err(|refusal| if refusal == NO_SUCH_DAY { refusal } else { BAD_TIMESTAMP })?;
    match (time, precision) {
        (None, Precision::Day) => Ok(Some(i64::from(days) * DAY_MICROS)),
        (Some(time), Precision::Day) => Ok(Some(i64::from(days) * DAY_MICROS + clock(time)?)),
        _ => Err(BAD_TIMESTAMP),
    }
}

/// A date, its time of day (if any) checked and left out.
fn date(text: &str) -> Result<(i32, Precision), Refusal> {
    let (day, time) = halves(text);
    if let Some(time) = time {
        clock(time.trim_end_matches(['Z', 'z'])).map_err(|_| BAD_DATE)?;
    }
    let bytes = day.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) {
        return match bytes.len() {
            8 => compact(bytes).map(|days| (days, Precision::Day)).ok_or(NO_SUCH_DAY),
            5 => serial(day).map(|days| (days, Precision::Day)).ok_or(BAD_DATE),
            4 => days_of(number(bytes).ok_or(BAD_DATE)?, 1, 1).map(|days| (days, Precision::Year)).ok_or(NO_SUCH_DAY),
            _ => Err(BAD_DATE),
        };
    }
    let Some(separator) = bytes.iter().copied().find(|byte| matches!(byte, b'/' | b'-' | b'.')) else {
        return Err(BAD_DATE);
    };
    let mut parts = bytes.split(|byte| *byte == separator).map(|part| part.trim_ascii());
    let (Some(first), Some(second), third, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(BAD_DATE);
    };
    let read = |part: &[u8], longest: usize| if part.len() <= longest { number(part) } else { None };
    let parsed = match (third, first.len()) {
        (Some(third), 4) => (read(first, 4), read(second, 2), read(third, 2), Precision::Day),
        (Some(third), 1 | 2) if third.len() == 4 => (read(third, 4), read(second, 2), read(first, 2), Precision::Day),
        (None, 4) => (read(first, 4), read(second, 2), Some(1), Precision::Month),
        (None, 1 | 2) if second.len() == 4 => (read(second, 4), read(first, 2), Some(1), Precision::Month),
        (None, 5) if separator == b'.' => {
            return serial(&day[..5]).filter(|_| number(second).is_some()).map(|days| (days, Precision::Day)).ok_or(BAD_DATE);
        }
        _ => return Err(BAD_DATE),
    };
    let (Some(year), Some(month), Some(day), precision) = parsed else {
        return Err(BAD_DATE);
    };
    days_of(year, month, day).map(|days| (days, precision)).ok_or(NO_SUCH_DAY)
}

/// Date and time of day, cut at the first blank or `T`.
fn halves(text: &str) -> (&str, Option<&str>) {
    match text.find([' ', 'T']) {
        // "5 / 3 / 2024" has blanks within the date.
        Some(at) if !text[at..].trim_start().starts_with(['/', '-', '.']) && !text[..at].ends_with(['/', '-', '.']) => {
            (&text[..at], Some(text[at + 1..].trim()))
        }
        _ => (text, None),
    }
}

/// Microseconds of `HH:mm[:ss[.ffffff]]`, with `h` for the first colon and SA/CH or AM/PM allowed.
fn clock(text: &str) -> Result<i64, Refusal> {
    let (text, half) = match text.get(text.len().saturating_sub(2)..) {
        Some("SA" | "AM" | "sa" | "am") => (text[..text.len() - 2].trim_end(), Some(0)),
        Some("CH" | "PM" | "ch" | "pm") => (text[..text.len() - 2].trim_end(), Some(12)),
        _ => (text, None),
    };
    if text.ends_with(['Z', 'z']) || text.contains(['+', '-']) {
        return Err(HAS_OFFSET);
    }
    let mut parts = text.split([':', 'h']);
    let mut next = |limit: i32| parts.next().map(|part| two_digits(part).filter(|value| *value < limit).ok_or(BAD_TIMESTAMP));
    let hour = next(24).ok_or(BAD_TIMESTAMP)??;
    let minute = next(60).ok_or(BAD_TIMESTAMP)??;
    let seconds = parts.next();
    if parts.next().is_some() {
        return Err(BAD_TIMESTAMP);
    }
    let micros = seconds.map_or(Some(0), seconds_micros).ok_or(BAD_TIMESTAMP)?;
    let hour = match half {
        None => hour,
        Some(base) if (1..=12).contains(&hour) => hour % 12 + base,
        Some(_) => return Err(BAD_TIMESTAMP),
    };
    Ok((i64::from(hour) * 60 + i64::from(minute)) * 60_000_000 + micros)
}

/// `ss[.ffffff]`; digits beyond microseconds are cut.
fn seconds_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let seconds = two_digits(whole).filter(|value| *value < 60)?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some(i64::from(seconds) * 1_000_000 + micros)
}

fn compact_clock(digits: &[u8]) -> Option<i64> {
    let hour = number(&digits[..2]).filter(|value| *value < 24)?;
    let minute = number(&digits[2..4]).filter(|value| *value < 60)?;
    let second = if digits.len() > 4 { number(&digits[4..]).filter(|value| *value < 60)? } else { 0 };
    Some(((i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second)) * 1_000_000)
}

/// `yyyyMMdd`.
fn compact(digits: &[u8]) -> Option<i32> {
    days_of(number(&digits[..4])?, number(&digits[4..6])?, number(&digits[6..8])?)
}

fn serial(digits: &str) -> Option<i32> {
    let serial = digits.parse().ok().filter(|serial| SERIALS.contains(serial))?;
    Some(serial - SERIAL_EPOCH)
}

/// A spreadsheet's serial with a fraction of a day, to the second.
fn serial_with_time(text: &str) -> Option<i64> {
    let (days, fraction) = text.split_once('.')?;
    if days.len() != 5 || fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let days = serial(days)?;
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    #[allow(clippy::cast_possible_truncation, reason = "a fraction of a day has at most 86,400 seconds")]
    let seconds = (fraction * 86_400.0).round() as i64;
    Some(i64::from(days) * DAY_MICROS + seconds * 1_000_000)
}

fn two_digits(text: &str) -> Option<i32> {
    if text.len() > 2 { None } else { number(text.as_bytes()) }
}

/// A number of one to nine digits.
fn number(digits: &[u8]) -> Option<i32> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0')))
}

/// Days since 1970-01-01 of a day of the Gregorian calendar between 1800 and 2200.
pub(super) fn days_of(year: i32, month: i32, day: i32) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i32::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !YEARS.contains(&year) || !(1..=last).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_way_of_writing_a_date_gives_the_same_day() {
        let day = days_of(2024, 3, 5);
        for text in [
            "05/03/2024",
            "5/3/2024",
            "5-3-2024",
            "05.03.2024",
            "2024-03-05",
            "2024/03/05",
            "20240305",
            "45356",
            "45356.0",
            " 05/03/2024 ",
            "05/03/2024 08:30",
            "2024-03-05T08:30:00Z",
            "5 / 3 / 2024",
        ] {
            assert_eq!(vn_date(text).unwrap(), day, "{text}");
        }
        assert_eq!(day, Some(19_787));
        assert_eq!(vn_date("1954").unwrap(), days_of(1954, 1, 1));
        assert_eq!(vn_date("7/1954").unwrap(), days_of(1954, 7, 1));
        assert_eq!(vn_date("1954-07").unwrap(), days_of(1954, 7, 1));
        assert_eq!(vn_date("  ").unwrap(), None);
    }

    #[test]
    fn impossible_and_ambiguous_dates_are_refused() {
        for text in [
            "31/02/2023",
            "29/02/1900",
            "32/01/2024",
            "5/13/2024",
            "01/02/98",
            "20241301",
            "010203",
            "00/00/0000",
            "abc",
            "1/2/3/4",
            "2024--01",
            "99999",
            "1",
            "05/03/2024 25:00",
            "01/01/0001",
        ] {
            assert_eq!(vn_date(text).unwrap_err().code, "bad-date", "{text}");
        }
        assert_eq!(vn_date("29/02/2000").unwrap(), days_of(2000, 2, 29));
    }

    #[test]
    fn times_of_day_are_read_in_both_halves_of_the_day() {
        let at = |hour: i64, minute: i64, second: i64| {
            Some(i64::from(days_of(2024, 3, 5).unwrap()) * DAY_MICROS + ((hour * 60 + minute) * 60 + second) * 1_000_000)
        };
        for (text, micros) in [
            ("05/03/2024 08:30", at(8, 30, 0)),
            ("05/03/2024 8h30", at(8, 30, 0)),
            ("05/03/2024 08:30:15 CH", at(20, 30, 15)),
            ("05/03/2024 12:05 SA", at(0, 5, 0)),
            ("2024-03-05T23:59:59", at(23, 59, 59)),
            ("20240305083015", at(8, 30, 15)),
            ("202403050830", at(8, 30, 0)),
            ("45356.5", at(12, 0, 0)),
            ("05/03/2024", at(0, 0, 0)),
        ] {
            assert_eq!(vn_timestamp(text).unwrap(), micros, "{text}");
        }
        assert_eq!(vn_timestamp("2024-03-05 08:30:15.123456789").unwrap(), at(8, 30, 15).map(|micros| micros + 123_456));
        for text in
            ["05/03/2024 24:00", "05/03/2024 13:00 CH", "03/2024", "2024-03-05T08:30:00+07:00", "2024-03-05T08:30:00Z", "05/03/2024 8", "x"]
        {
            assert_eq!(vn_timestamp(text).unwrap_err().code, "bad-timestamp", "{text}");
        }
    }
}
