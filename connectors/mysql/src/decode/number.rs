//! Numbers as the protocol and the log have them.

use super::Refusal;

/// A little-endian whole number of 1, 2, 3, 4 or 8 bytes. Eight bytes without a sign beyond `i64` are for [`unsigned`].
#[inline]
pub(crate) fn whole(bytes: &[u8], signed: bool) -> i64 {
    match (bytes, signed) {
        ([a], true) => i64::from(*a as i8),
        ([a], false) => i64::from(*a),
        ([a, b], true) => i64::from(i16::from_le_bytes([*a, *b])),
        ([a, b], false) => i64::from(u16::from_le_bytes([*a, *b])),
        ([a, b, c], true) => i64::from(i32::from_le_bytes([0, *a, *b, *c]) >> 8),
        ([a, b, c], false) => i64::from(u32::from_le_bytes([*a, *b, *c, 0])),
        ([a, b, c, d], true) => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
        ([a, b, c, d], false) => i64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => unsigned(bytes) as i64,
    }
}

/// A little-endian whole number without a sign.
#[inline]
pub(crate) fn unsigned(bytes: &[u8]) -> u64 {
    crate::wire::little(bytes)
}

/// Digits that so many bytes of the packed decimal hold, by their number from 0 to 9.
const BYTES_OF: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
const POWERS: [i128; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// Bytes of a packed decimal.
pub(crate) fn decimal_bytes(precision: u8, scale: u8) -> usize {
    let (whole, part) = (usize::from(precision.saturating_sub(scale)), usize::from(scale));
    whole / 9 * 4 + BYTES_OF[whole % 9] + part / 9 * 4 + BYTES_OF[part % 9]
}

/// The digits of a packed decimal in pieces of up to nine, most significant first: number of digits, value.
fn pieces(bytes: &[u8], precision: u8, scale: u8, mut each: impl FnMut(usize, u32)) -> bool {
    let Some(first) = bytes.first() else { return false };
    let negative = first & 0x80 == 0;
    let mask = if negative { 0xff } else { 0 };
    let (whole, part) = (usize::from(precision.saturating_sub(scale)), usize::from(scale));
    let mut at = 0;
    let mut take = |digits: usize| {
        let count = BYTES_OF[digits];
        let mut value = 0u32;
        for place in at..at + count {
            let byte = bytes.get(place).copied().unwrap_or(0) ^ if place == 0 { mask ^ 0x80 } else { mask };
            value = value << 8 | u32::from(byte);
        }
        at += count;
        if digits > 0 {
            each(digits, value);
        }
    };
    take(whole % 9);
    (0..whole / 9).for_each(|_| take(9));
    (0..part / 9).for_each(|_| take(9));
    take(part % 9);
    negative
}

/// A packed decimal as the number that Arrow holds.
pub(crate) fn decimal_packed(bytes: &[u8], precision: u8, scale: u8) -> i128 {
    let mut number: i128 = 0;
    let negative = pieces(bytes, precision, scale, |digits, value| number = number * POWERS[digits] + i128::from(value));
    if negative { -number } else { number }
}

/// A packed decimal as text.
pub(crate) fn decimal_packed_text(bytes: &[u8], precision: u8, scale: u8, text: &mut Vec<u8>) {
    let mut digits_of = String::new();
    let negative = pieces(bytes, precision, scale, |digits, value| digits_of.push_str(&format!("{value:0digits$}")));
    let point = usize::from(precision.saturating_sub(scale)).min(digits_of.len());
    let (whole, part) = digits_of.split_at(point);
    let whole = whole.trim_start_matches('0');
    if negative {
        text.push(b'-');
    }
    text.extend_from_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
    if !part.is_empty() {
        text.push(b'.');
        text.extend_from_slice(part.as_bytes());
    }
}

/// A decimal in the server's text with `scale` digits after the point.
pub(crate) fn decimal_text(text: &[u8], scale: u8) -> Result<i128, Refusal> {
    const NOT: Refusal = Refusal::undecodable("it is no decimal number");
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut number: i128 = 0;
    let mut after: Option<u8> = None;
    for byte in digits {
        match (byte, &mut after) {
            (b'0'..=b'9', after) => {
                number = number.checked_mul(10).and_then(|number| number.checked_add(i128::from(byte - b'0'))).ok_or(NOT)?;
                if let Some(after) = after {
                    *after += 1;
                }
            }
            (b'.', None) => after = Some(0),
            _ => return Err(NOT),
        }
    }
    for _ in after.unwrap_or(0)..scale {
        number = number.checked_mul(10).ok_or(NOT)?;
    }
    Ok(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_packed_decimal_is_the_same_number_as_its_text() {
        // The example of MySQL's source: 1234567890.1234 as DECIMAL(14,4).
        let packed = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(decimal_bytes(14, 4), packed.len());
        assert_eq!(decimal_packed(&packed, 14, 4), 12_345_678_901_234);
        let negative: Vec<u8> = packed.iter().map(|byte| !byte).collect();
        assert_eq!(decimal_packed(&negative, 14, 4), -12_345_678_901_234);
        let mut text = Vec::new();
        decimal_packed_text(&negative, 14, 4, &mut text);
        assert_eq!(text, b"-1234567890.1234");
        assert_eq!(decimal_text(&text, 4), Ok(-12_345_678_901_234));
        assert_eq!(decimal_text(b"0.5", 2), Ok(50));
        assert!(decimal_text(b"1e5", 2).is_err());
    }

    #[test]
    fn whole_numbers_keep_their_sign_in_every_width() {
        assert_eq!(whole(&[0xff], true), -1);
        assert_eq!(whole(&[0xff, 0xff, 0xff], true), -1);
        assert_eq!(whole(&[0xff, 0xff, 0xff], false), 16_777_215);
        assert_eq!(whole(&[0, 0, 0x80], true), -8_388_608);
        assert_eq!(whole(&[0xff; 4], false), 4_294_967_295);
        assert_eq!(unsigned(&[0xff; 8]), u64::MAX);
    }
}
