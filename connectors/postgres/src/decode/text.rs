//! Text forms under the hub's session settings: ISO dates in UTC, hex bytea, shortest floats.

use super::Refusal;
use super::binary::BEYOND_MICROS;

const DAY_MICROS: i64 = 86_400_000_000;
const NO_BOOLEAN: Refusal = "neither t nor f";
const NO_INTEGER: Refusal = "not a whole number of this type";
const NO_DATE: Refusal = "not an ISO date";
const NO_TIME: Refusal = "not an ISO time";
const NO_HEX: Refusal = "not bytea in hex form";

#[inline]
pub(super) fn boolean(text: &[u8]) -> Result<bool, Refusal> {
    match text {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(NO_BOOLEAN),
    }
}

/// Any signed integer, and `oid` as one of 64 bits.
#[inline]
pub(super) fn integer<T: TryFrom<i64>>(text: &[u8]) -> Result<T, Refusal> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 {
        return Err(NO_INTEGER);
    }
    // 19 digits fit into 64 unsigned bits.
    let mut value = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(NO_INTEGER);
        }
        value = value * 10 + u64::from(digit);
    }
    let signed = if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() };
    signed.and_then(|signed| T::try_from(signed).ok()).ok_or(NO_INTEGER)
}

/// A float; PostgreSQL writes the shortest digits that give the same bits back.
#[inline]
pub(super) fn float<T: std::str::FromStr>(text: &[u8]) -> Result<T, Refusal> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or("not a number")
}

/// Days since 1970; `infinity` and `-infinity` are the extremes.
#[inline]
pub(super) fn date(text: &[u8]) -> Result<i32, Refusal> {
    match text {
        b"infinity" => return Ok(i32::MAX),
        b"-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let (days, rest) = leading_date(text)?;
    let days = match rest {
        b"" => days(Era::Common),
        b" BC" => days(Era::Before),
        _ => return Err(NO_DATE),
    };
    i32::try_from(days).map_err(|_| "a date beyond what 32-bit days can hold")
}

/// Microseconds since midnight.
#[inline]
pub(super) fn time(text: &[u8]) -> Result<i64, Refusal> {
    match leading_time(text)? {
        (micros, b"") => Ok(micros),
        _ => Err(NO_TIME),
    }
}

/// Microseconds since 1970, with or without an offset; `infinity` and `-infinity` are the extremes.
#[inline]
pub(super) fn timestamp(text: &[u8]) -> Result<i64, Refusal> {
    match text {
        b"infinity" => return Ok(i64::MAX),
        b"-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (days, rest) = leading_date(text)?;
    let Some((b' ', rest)) = rest.split_first() else { return Err(NO_DATE) };
    let (micros, rest) = leading_time(rest)?;
    let (offset_seconds, rest) = leading_offset(rest)?;
    let days = match rest {
        b"" => days(Era::Common),
        b" BC" => days(Era::Before),
        _ => return Err(NO_DATE),
    };
    let time = micros - offset_seconds * 1_000_000;
    days.checked_mul(DAY_MICROS).and_then(|day| day.checked_add(time)).filter(|micros| *micros != i64::MAX).ok_or(BEYOND_MICROS)
}

/// `\x` and two hex digits a byte.
pub(super) fn bytea(text: &[u8], into: &mut Vec<u8>) -> Result<(), Refusal> {
    let Some(hex) = text.strip_prefix(b"\\x") else { return Err(NO_HEX) };
    let (pairs, rest) = hex.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(NO_HEX);
    }
    let mut seen = 0;
    into.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (NIBBLES[usize::from(*high)], NIBBLES[usize::from(*low)]);
        seen |= high | low;
        (high << 4) | (low & 15)
    }));
    // Digits leave the upper half clear, whatever else sets it.
    if seen > 15 { Err(NO_HEX) } else { Ok(()) }
}

/// The value of each hex digit; 255 for what is none.
const NIBBLES: [u8; 256] = {
    let mut table = [255_u8; 256];
    let mut value = 0_u8;
    while value < 16 {
        let digit = b"0123456789abcdef"[value as usize];
        table[digit as usize] = value;
        table[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    table
};

#[derive(Clone, Copy)]
enum Era {
    Common,
    Before,
}

/// `YYYY-MM-DD`, years of four digits or more, and what follows. The era stands at the very end of the text, so the days
/// are told once it is known.
#[inline]
fn leading_date(text: &[u8]) -> Result<(impl Fn(Era) -> i64, &[u8]), Refusal> {
    let dash = text.iter().position(|byte| *byte == b'-').filter(|dash| (4..=7).contains(dash)).ok_or(NO_DATE)?;
    let year = digits(&text[..dash]).ok_or(NO_DATE)?;
    let Some((date, rest)) = text[dash..].split_first_chunk::<6>() else { return Err(NO_DATE) };
    let [b'-', m1, m2, b'-', d1, d2] = *date else { return Err(NO_DATE) };
    let month = digits(&[m1, m2]).filter(|month| (1..=12).contains(month)).ok_or(NO_DATE)?;
    let day = digits(&[d1, d2]).filter(|day| (1..=31).contains(day)).ok_or(NO_DATE)?;
    let days = move |era| {
        let year = match era {
            Era::Common => year,
            Era::Before => 1 - year,
        };
        days_from_civil(year, month, day)
    };
    Ok((days, rest))
}

/// `HH:MM:SS[.ffffff]` in microseconds and what follows.
#[inline]
fn leading_time(text: &[u8]) -> Result<(i64, &[u8]), Refusal> {
    let Some((clock, mut rest)) = text.split_first_chunk::<8>() else { return Err(NO_TIME) };
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *clock else { return Err(NO_TIME) };
    let (hours, minutes, seconds) = match (digits(&[h1, h2]), digits(&[m1, m2]), digits(&[s1, s2])) {
        (Some(hours @ 0..=24), Some(minutes @ 0..=59), Some(seconds @ 0..=60)) => (hours, minutes, seconds),
        _ => return Err(NO_TIME),
    };
    let mut micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000;
    if let Some((b'.', fraction)) = rest.split_first() {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=6).contains(&length) {
            return Err(NO_TIME);
        }
        let (fraction, after) = fraction.split_at(length);
        micros += digits(fraction).ok_or(NO_TIME)? * [0, 100_000, 10_000, 1_000, 100, 10, 1][length];
        rest = after;
    }
    Ok((micros, rest))
}

/// `+HH[:MM[:SS]]` in seconds, 0 where there is none, and what follows.
#[inline]
fn leading_offset(text: &[u8]) -> Result<(i64, &[u8]), Refusal> {
    let sign = match text.first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Ok((0, text)),
    };
    let mut rest = &text[1..];
    let mut seconds = 0;
    for (unit, first) in [(3_600, true), (60, false), (1, false)] {
        if !first {
            match rest.split_first() {
                Some((b':', after)) => rest = after,
                _ => break,
            }
        }
        let Some((pair, after)) = rest.split_first_chunk::<2>() else { return Err(NO_TIME) };
        seconds += digits(pair).ok_or(NO_TIME)? * unit;
        rest = after;
    }
    Ok((sign * seconds, rest))
}

#[inline]
fn digits(text: &[u8]) -> Option<i64> {
    let mut value = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; year 0 is 1 BC. Counts years from March, in eras of 400.
#[inline]
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn dates_run_from_4713_bc_to_the_year_5874897() {
        assert_eq!(date(b"1970-01-01"), Ok(0));
        assert_eq!(date(b"2000-02-29"), Ok(11_016));
        assert_eq!(date(b"0001-01-01"), Ok(-719_162));
        assert_eq!(date(b"0001-12-31 BC"), Ok(-719_163));
        assert_eq!(date(b"4714-11-24 BC"), Ok(-2_440_588));
        assert_eq!(date(b"5874897-12-31"), Ok(2_145_042_905));
        assert_eq!(date(b"infinity"), Ok(i32::MAX));
        for bad in ["", "2000-1-01", "2000-01-01x", "01/02/2000", "99999999-01-01", "2000-13-01"] {
            assert!(date(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_keep_microseconds_offsets_and_the_last_midnight() {
        assert_eq!(time(b"24:00:00"), Ok(DAY_MICROS));
        assert_eq!(time(b"00:00:00.5"), Ok(500_000));
        assert_eq!(timestamp(b"1970-01-02 00:00:00.000001"), Ok(DAY_MICROS + 1));
        assert_eq!(timestamp(b"1970-01-01 07:00:00+07"), Ok(0));
        assert_eq!(timestamp(b"1970-01-01 00:00:00-01:30:10"), Ok(5_410_000_000));
        assert_eq!(timestamp(b"0001-12-31 00:00:00+00 BC"), Ok(-719_163 * DAY_MICROS));
        assert_eq!(timestamp(b"294247-01-10 04:00:54.775806"), Ok(i64::MAX - 1));
        assert_eq!(timestamp(b"294247-01-10 04:00:54.775807"), Err(BEYOND_MICROS));
        assert_eq!(timestamp(b"294276-12-31 23:59:59"), Err(BEYOND_MICROS));
        for bad in ["1970-01-01", "1970-01-01T00:00:00", "1970-01-01 00:00", "1970-01-01 00:00:00.", "1970-01-01 00:00:00.1234567"] {
            assert!(timestamp(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn integers_stop_at_the_ends_of_their_type() {
        assert_eq!(integer::<i64>(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer::<i64>(b"9223372036854775807"), Ok(i64::MAX));
        assert_eq!(integer::<i64>(b"9223372036854775808"), Err(NO_INTEGER));
        assert_eq!(integer::<i16>(b"-32768"), Ok(i16::MIN));
        assert_eq!(integer::<i16>(b"32768"), Err(NO_INTEGER));
        for bad in ["", "-", "1a", "+1", "99999999999999999999"] {
            assert!(integer::<i64>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytea_is_read_from_hex_only() {
        let read = |text: &[u8]| {
            let mut bytes = Vec::new();
            bytea(text, &mut bytes).map(|()| bytes)
        };
        assert_eq!(read(b"\\x00ff7F"), Ok(vec![0, 255, 127]));
        assert_eq!(read(b"\\x"), Ok(vec![]));
        for bad in [&b"\\x0"[..], b"\\x0g", b"00", b""] {
            assert_eq!(read(bad), Err(NO_HEX));
        }
    }
}
