//! `numeric`, from base-10000 digits or text, into 128-bit decimals or PostgreSQL's own text.

use super::Refusal;

const NOT_FINITE: Refusal = "NaN or infinity, which a decimal cannot hold";
const NOT_NUMERIC: Refusal = "not a numeric";
const BEYOND: Refusal = "more digits than the column's precision and scale";

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// Powers of ten that 128 bits hold.
const POWERS: [u128; 39] = {
    let mut powers = [1_u128; 39];
    let mut exponent = 1;
    while exponent < 39 {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// A numeric's binary form: `digits[i]` counts 10000^(weight - i).
struct Binary<'a> {
    weight: i32,
    sign: u16,
    /// Decimal digits after the point that are shown.
    shown: usize,
    digits: &'a [[u8; 2]],
}

impl<'a> Binary<'a> {
    #[inline]
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let Some((&[n1, n2, w1, w2, s1, s2, d1, d2], rest)) = bytes.split_first_chunk::<8>() else { return Err(NOT_NUMERIC) };
        let (digits, odd) = rest.as_chunks::<2>();
        if digits.len() != usize::from(u16::from_be_bytes([n1, n2])) || !odd.is_empty() {
            return Err(NOT_NUMERIC);
        }
        Ok(Self {
            weight: i32::from(i16::from_be_bytes([w1, w2])),
            sign: u16::from_be_bytes([s1, s2]),
            shown: usize::from(u16::from_be_bytes([d1, d2])),
            digits,
        })
    }
}

/// The value times 10^scale. Exact, or refused.
#[inline]
pub(super) fn decimal_of_binary(bytes: &[u8], precision: u8, scale: u8) -> Result<i128, Refusal> {
    let number = Binary::read(bytes)?;
    let negative = match number.sign {
        POSITIVE => false,
        NEGATIVE => true,
        NAN | INFINITY | MINUS_INFINITY => return Err(NOT_FINITE),
        _ => return Err(NOT_NUMERIC),
    };
    let Some((last, leading)) = number.digits.split_last() else { return Ok(0) };
    // Power of ten that the last digit counts once the whole is multiplied by 10^scale.
    let count = i32::try_from(number.digits.len()).map_err(|_| NOT_NUMERIC)?;
    let exponent = 4 * (number.weight - count + 1) + i32::from(scale);
    let last = u128::from(u16::from_be_bytes(*last));
    let leading = leading_digits(leading)?;
    let magnitude = if exponent >= 0 {
        let power = usize::try_from(exponent).ok().and_then(|exponent| POWERS.get(exponent)).ok_or(BEYOND)?;
        leading.checked_mul(10_000).and_then(|value| value.checked_add(last)).and_then(|value| value.checked_mul(*power))
    } else if exponent > -4 {
        // Only a part of the last digit is inside the scale; the rest of it must be zeros.
        let cut = POWERS[exponent.unsigned_abs() as usize];
        if last % cut != 0 {
            return Err(BEYOND);
        }
        leading.checked_mul(10_000 / cut).and_then(|value| value.checked_add(last / cut))
    } else {
        // PostgreSQL strips zero digits at the end: this one would be lost.
        return Err(BEYOND);
    };
    signed(magnitude.ok_or(BEYOND)?, negative, precision)
}

#[inline]
fn leading_digits(digits: &[[u8; 2]]) -> Result<u128, Refusal> {
    if digits.len() <= 4 {
        // 16 decimal digits: cheaper in 64 bits.
        let value = digits.iter().fold(0_u64, |value, digit| value * 10_000 + u64::from(u16::from_be_bytes(*digit)));
        return Ok(u128::from(value));
    }
    digits
        .iter()
        .try_fold(0_u128, |value, digit| value.checked_mul(10_000)?.checked_add(u128::from(u16::from_be_bytes(*digit))))
        .ok_or(BEYOND)
}

/// The value times 10^scale. Exact, or refused.
#[inline]
pub(super) fn decimal_of_text(text: &[u8], precision: u8, scale: u8) -> Result<i128, Refusal> {
    let (negative, number) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let point = number.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (&number[..point], &number[point + 1..]),
        None => (number, &[][..]),
    };
    if whole.is_empty() || !whole[0].is_ascii_digit() {
        return Err(if matches!(number, b"NaN" | b"Infinity") { NOT_FINITE } else { NOT_NUMERIC });
    }
    let scale = usize::from(scale);
    let (inside, outside) = fraction.split_at(fraction.len().min(scale));
    if outside.iter().any(|byte| *byte != b'0') {
        return Err(BEYOND);
    }
    let magnitude = append_digits(0, whole)
        .and_then(|value| append_digits(value, inside))?
        .checked_mul(POWERS[(scale - inside.len()).min(38)])
        .ok_or(BEYOND)?;
    signed(magnitude, negative, precision)
}

/// Digits behind those of `value`, 18 at a time in 64 bits.
#[inline]
fn append_digits(mut value: u128, digits: &[u8]) -> Result<u128, Refusal> {
    for chunk in digits.chunks(18) {
        let mut part = 0_u64;
        for byte in chunk {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(NOT_NUMERIC);
            }
            part = part * 10 + u64::from(digit);
        }
        value = value.checked_mul(POWERS[chunk.len()]).and_then(|value| value.checked_add(u128::from(part))).ok_or(BEYOND)?;
    }
    Ok(value)
}

#[inline]
fn signed(magnitude: u128, negative: bool, precision: u8) -> Result<i128, Refusal> {
    if magnitude >= POWERS[usize::from(precision).min(38)] {
        return Err(BEYOND);
    }
    let value = i128::try_from(magnitude).map_err(|_| BEYOND)?;
    Ok(if negative { -value } else { value })
}

/// What `numeric_out` writes.
pub(super) fn text_of_binary(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), Refusal> {
    let number = Binary::read(bytes)?;
    match number.sign {
        POSITIVE => {}
        NEGATIVE => into.push(b'-'),
        NAN => return push(into, b"NaN"),
        INFINITY => return push(into, b"Infinity"),
        MINUS_INFINITY => return push(into, b"-Infinity"),
        _ => return Err(NOT_NUMERIC),
    }
    let digit = |index: i32| {
        let stored = usize::try_from(index).ok().and_then(|index| number.digits.get(index));
        stored.map_or(0, |digit| u16::from_be_bytes(*digit))
    };
    if number.weight < 0 {
        into.push(b'0');
    }
    for index in 0..=number.weight {
        let four = four_digits(digit(index))?;
        let skipped = if index == 0 { four.iter().take(3).take_while(|byte| **byte == b'0').count() } else { 0 };
        into.extend_from_slice(&four[skipped..]);
    }
    if number.shown > 0 {
        into.push(b'.');
        let end = into.len() + number.shown;
        // Below 0 where zeros stand between the point and the first stored digit.
        let mut index = number.weight + 1;
        while into.len() < end {
            into.extend_from_slice(&four_digits(digit(index))?);
            index += 1;
        }
        into.truncate(end);
    }
    Ok(())
}

fn push(into: &mut Vec<u8>, text: &[u8]) -> Result<(), Refusal> {
    into.extend_from_slice(text);
    Ok(())
}

#[inline]
fn four_digits(value: u16) -> Result<[u8; 4], Refusal> {
    if value > 9_999 {
        return Err(NOT_NUMERIC);
    }
    let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or(0);
    Ok([digit(value / 1000), digit(value / 100), digit(value / 10), digit(value)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn binary(weight: i16, sign: u16, shown: u16, digits: &[u16]) -> Vec<u8> {
        let count = u16::try_from(digits.len()).unwrap();
        let mut bytes = Vec::new();
        for word in [count, weight.cast_unsigned(), sign, shown].iter().chain(digits) {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn a_decimal_is_the_same_from_binary_and_from_text() {
        let cases = [
            (binary(0, POSITIVE, 2, &[12, 5000]), &b"12.50"[..], 14, 2, 1_250),
            (binary(1, NEGATIVE, 2, &[1, 0, 100]), b"-10000.01", 14, 2, -1_000_001),
            (binary(-1, POSITIVE, 4, &[1]), b"0.0001", 5, 4, 1),
            (binary(-2, POSITIVE, 8, &[1]), b"0.00000001", 9, 8, 1),
            (binary(0, POSITIVE, 0, &[]), b"0", 5, 0, 0),
            (binary(0, POSITIVE, 3, &[]), b"0.000", 5, 3, 0),
            (binary(2, POSITIVE, 0, &[5]), b"500000000", 38, 0, 500_000_000),
        ];
        for (bytes, text, precision, scale, expected) in cases {
            assert_eq!(decimal_of_binary(&bytes, precision, scale), Ok(expected), "{text:?}");
            assert_eq!(decimal_of_text(text, precision, scale), Ok(expected), "{text:?}");
            let mut written = Vec::new();
            text_of_binary(&bytes, &mut written).unwrap();
            assert_eq!(written, text);
        }
    }

    #[test]
    fn thirty_eight_digits_fit_and_the_next_does_not() {
        let nines = [b'9'; 38];
        let largest = 10_i128.pow(38) - 1;
        assert_eq!(decimal_of_text(&nines, 38, 0), Ok(largest));
        assert_eq!(decimal_of_text(&[b'9'; 39], 38, 0), Err(BEYOND));
        assert_eq!(
            decimal_of_binary(&binary(9, POSITIVE, 0, &[99, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999]), 38, 0),
            Ok(largest)
        );
        // numeric(38,1): the last digit counts only in part.
        assert_eq!(
            decimal_of_binary(&binary(9, NEGATIVE, 1, &[9, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9000]), 38, 1),
            Ok(-largest)
        );
    }

    #[test]
    fn what_a_decimal_cannot_hold_is_refused_and_never_rounded() {
        assert_eq!(decimal_of_binary(&binary(0, NAN, 0, &[]), 14, 2), Err(NOT_FINITE));
        assert_eq!(decimal_of_text(b"NaN", 14, 2), Err(NOT_FINITE));
        assert_eq!(decimal_of_text(b"-Infinity", 14, 2), Err(NOT_FINITE));
        assert_eq!(decimal_of_text(b"1.234", 14, 2), Err(BEYOND));
        assert_eq!(decimal_of_binary(&binary(0, POSITIVE, 3, &[1, 2340]), 14, 2), Err(BEYOND));
        assert_eq!(decimal_of_binary(&binary(-2, POSITIVE, 8, &[1]), 14, 2), Err(BEYOND));
        assert_eq!(decimal_of_binary(&[0, 1], 14, 2), Err(NOT_NUMERIC));
        for bad in ["", "-", ".5", "1e5", "1.x", "abc"] {
            assert_eq!(decimal_of_text(bad.as_bytes(), 14, 2), Err(NOT_NUMERIC), "{bad}");
        }
    }
}
