//! Dates and times: packed by the log, in parts by the protocol.

use arrow::array::timezone::Tz;

use super::Refusal;
use crate::wire::big;

/// What becomes of `0000-00-00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Zeros {
    /// Null.
    #[default]
    Null,
    /// The row is refused.
    Reject,
}

/// A time zone by its name, for Arrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zone(pub(crate) String);

impl Zone {
    /// A zone that Arrow knows.
    pub(crate) fn new(name: &str) -> Option<Self> {
        name.parse::<Tz>().is_ok().then(|| Self(name.to_owned()))
    }
}

/// A date and time in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) year: u32,
    pub(crate) month: u32,
    pub(crate) day: u32,
    pub(crate) seconds: u32,
    pub(crate) micros: u32,
}

/// A duration of `TIME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) negative: bool,
    pub(crate) seconds: u32,
    pub(crate) micros: u32,
}

const SHORT: Refusal = Refusal::undecodable("it is cut off");
const DAY_MICROS: i64 = 86_400_000_000;

impl Parts {
    /// Days since 1970; `None` for the zero date where it means null.
    pub(crate) fn days(self, zeros: Zeros) -> Result<Option<i32>, Refusal> {
        if self.month == 0 || self.day == 0 {
            return match (self == Self::default(), zeros) {
                (true, Zeros::Null) => Ok(None),
                (true, Zeros::Reject) => Err(Refusal { code: "zero-date", why: "it is 0000-00-00" }),
                (false, _) => Err(Refusal { code: "zero-in-date", why: "its month or day is zero" }),
            };
        }
        if self.month > 12 || self.day > days_in(self.year, self.month) {
            return Err(Refusal { code: "no-such-date", why: "the calendar has no such day" });
        }
        Ok(Some(days_from_civil(self.year, self.month, self.day)))
    }

    /// Microseconds since 1970.
    pub(crate) fn micros(self, zeros: Zeros) -> Result<Option<i64>, Refusal> {
        let days = self.days(zeros)?;
        Ok(days.map(|days| i64::from(days) * DAY_MICROS + i64::from(self.seconds) * 1_000_000 + i64::from(self.micros)))
    }
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years from 0 to 9999 only.
fn days_from_civil(year: u32, month: u32, day: u32) -> i32 {
    let year = year as i32 - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = month as i32;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day as i32 - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Three bytes of the log.
#[inline]
pub(crate) fn date_packed(bytes: &[u8]) -> Parts {
    let packed = crate::wire::little(bytes) as u32;
    Parts { day: packed & 31, month: packed >> 5 & 15, year: packed >> 9, ..Parts::default() }
}

/// `DATETIME` of the log: five bytes, and the fraction.
#[inline]
pub(crate) fn datetime_packed(bytes: &[u8], digits: u8) -> Result<Parts, Refusal> {
    let (head, fraction) = bytes.split_at_checked(5).ok_or(SHORT)?;
    let packed = big(head) & 0x7f_ffff_ffff;
    let (date, time) = ((packed >> 17) as u32, (packed & 0x1_ffff) as u32);
    let months = date >> 5;
    Ok(Parts {
        year: months / 13,
        month: months % 13,
        day: date & 31,
        seconds: (time >> 12) * 3_600 + (time >> 6 & 63) * 60 + (time & 63),
        micros: fraction_packed(fraction, digits),
    })
}

/// `DATETIME` of the log in the form before MySQL 5.6: its decimal digits.
pub(crate) fn datetime_old(bytes: &[u8]) -> Parts {
    let number = crate::wire::little(bytes);
    let (date, time) = ((number / 1_000_000) as u32, (number % 1_000_000) as u32);
    Parts {
        year: date / 10_000,
        month: date / 100 % 100,
        day: date % 100,
        seconds: time / 10_000 * 3_600 + time / 100 % 100 * 60 + time % 100,
        micros: 0,
    }
}

/// A date or a date and time of the binary protocol.
pub(crate) fn parts(bytes: &[u8]) -> Result<Parts, Refusal> {
    let mut parts = Parts::default();
    if let [low, high, month, day, ..] = *bytes {
        parts = Parts { year: u32::from(u16::from_le_bytes([low, high])), month: month.into(), day: day.into(), ..parts };
    } else if !bytes.is_empty() {
        return Err(SHORT);
    }
    if let [_, _, _, _, hour, minute, second, ..] = *bytes {
        parts.seconds = u32::from(hour) * 3_600 + u32::from(minute) * 60 + u32::from(second);
    }
    if let Some(micros) = bytes.get(7..11) {
        parts.micros = crate::wire::little(micros) as u32;
    }
    Ok(parts)
}

/// `TIMESTAMP` of the log: seconds since 1970 in four bytes, and the fraction; zero is the zero date.
#[inline]
pub(crate) fn timestamp_packed(bytes: &[u8], digits: u8, zeros: Zeros) -> Result<Option<i64>, Refusal> {
    let (head, fraction) = bytes.split_at_checked(4).ok_or(SHORT)?;
    instant(big(head) as i64, fraction_packed(fraction, digits), zeros)
}

/// Seconds and microseconds since 1970.
pub(crate) fn instant(seconds: i64, micros: u32, zeros: Zeros) -> Result<Option<i64>, Refusal> {
    if seconds == 0 && micros == 0 {
        return Parts::default().micros(zeros);
    }
    Ok(Some(seconds * 1_000_000 + i64::from(micros)))
}

/// The fraction of a second, in as many bytes as its digits need.
#[inline]
fn fraction_packed(bytes: &[u8], digits: u8) -> u32 {
    let number = big(bytes) as u32;
    match digits {
        0 => 0,
        1 | 2 => number * 10_000,
        3 | 4 => number * 100,
        _ => number,
    }
}

/// Bytes that the digits of a fraction take.
pub(crate) fn fraction_bytes(digits: u8) -> usize {
    usize::from(digits.div_ceil(2))
}

/// `TIME` of the log: three bytes and the fraction, counted from the middle of their range.
pub(crate) fn time_packed(bytes: &[u8], digits: u8) -> Result<Span, Refusal> {
    let width = fraction_bytes(digits);
    let whole = bytes.get(..3 + width).ok_or(SHORT)?;
    let middle = 0x80_0000i64 << (8 * width);
    let packed = big(whole) as i64 - middle;
    let distance = packed.unsigned_abs();
    let fraction = (distance & ((1 << (8 * width)) - 1)) as u32;
    let packed = (distance >> (8 * width)) as u32;
    let micros = match digits {
        0 => 0,
        1 | 2 => fraction * 10_000,
        3 | 4 => fraction * 100,
        _ => fraction,
    };
    let seconds = (packed >> 12 & 0x3ff) * 3_600 + (packed >> 6 & 63) * 60 + (packed & 63);
    Ok(Span { negative: middle > big(whole) as i64, seconds, micros })
}

/// `TIME` of the log in the form before MySQL 5.6: its decimal digits.
pub(crate) fn time_old(bytes: &[u8]) -> Span {
    let number = super::whole(bytes, true);
    let digits = number.unsigned_abs() as u32;
    Span { negative: number < 0, seconds: digits / 10_000 * 3_600 + digits / 100 % 100 * 60 + digits % 100, micros: 0 }
}

/// `TIME` of the binary protocol.
pub(crate) fn time_parts(bytes: &[u8]) -> Result<Span, Refusal> {
    let [negative, a, b, c, d, hour, minute, second, fraction @ ..] = bytes else {
        return if bytes.is_empty() { Ok(Span::default()) } else { Err(SHORT) };
    };
    let days = u32::from_le_bytes([*a, *b, *c, *d]);
    let seconds = days * 86_400 + u32::from(*hour) * 3_600 + u32::from(*minute) * 60 + u32::from(*second);
    Ok(Span { negative: *negative != 0, seconds, micros: crate::wire::little(fraction) as u32 })
}

/// Writes a span in the server's words; the fraction is left out where it is zero.
pub(crate) fn push_span(span: Span, text: &mut Vec<u8>) {
    let sign = if span.negative { "-" } else { "" };
    let (hours, minutes, seconds) = (span.seconds / 3_600, span.seconds / 60 % 60, span.seconds % 60);
    let whole = format!("{sign}{hours:02}:{minutes:02}:{seconds:02}");
    text.extend_from_slice(whole.as_bytes());
    if span.micros > 0 {
        text.extend_from_slice(format!(".{:06}", span.micros).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        let days = |year, month, day| Parts { year, month, day, ..Parts::default() }.days(Zeros::Null);
        assert_eq!(days(1970, 1, 1), Ok(Some(0)));
        assert_eq!(days(1000, 1, 1), Ok(Some(-354_285)));
        assert_eq!(days(9999, 12, 31), Ok(Some(2_932_896)));
        assert_eq!(days(2024, 2, 29), Ok(Some(19_782)));
        assert_eq!(days(2023, 2, 29).unwrap_err().code, "no-such-date");
        assert_eq!(days(2023, 0, 7).unwrap_err().code, "zero-in-date");
        assert_eq!(days(0, 0, 0), Ok(None));
        assert_eq!(Parts::default().days(Zeros::Reject).unwrap_err().code, "zero-date");
    }

    #[test]
    fn a_negative_time_keeps_its_fraction() {
        // -00:00:01.50 as TIME(2): MySQL's own example is 7FFFFE CE.
        let span = time_packed(&[0x7f, 0xff, 0xfe, 0xce], 2).unwrap();
        assert_eq!(span, Span { negative: true, seconds: 1, micros: 500_000 });
        let mut text = Vec::new();
        push_span(span, &mut text);
        assert_eq!(text, b"-00:00:01.500000");
    }
}
