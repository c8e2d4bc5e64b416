//! Binary forms, as the types' `*send` functions write them: big-endian, times in microseconds since 2000-01-01.

use super::Refusal;

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

const WIDTH: Refusal = "a binary value of another length than its type has";
/// A finite time that Arrow cannot hold, or holds only as what stands for infinity.
pub(super) const BEYOND_MICROS: Refusal = "a time beyond what 64-bit microseconds since 1970 can hold";

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes.try_into().map_err(|_| WIDTH)
}

#[inline]
pub(super) fn boolean(bytes: &[u8]) -> Result<bool, Refusal> {
    Ok(fixed::<1>(bytes)?[0] != 0)
}

#[inline]
pub(super) fn int2(bytes: &[u8]) -> Result<i16, Refusal> {
    Ok(i16::from_be_bytes(fixed(bytes)?))
}

#[inline]
pub(super) fn int4(bytes: &[u8]) -> Result<i32, Refusal> {
    Ok(i32::from_be_bytes(fixed(bytes)?))
}

#[inline]
pub(super) fn int8(bytes: &[u8]) -> Result<i64, Refusal> {
    Ok(i64::from_be_bytes(fixed(bytes)?))
}

#[inline]
pub(super) fn oid(bytes: &[u8]) -> Result<i64, Refusal> {
    Ok(i64::from(u32::from_be_bytes(fixed(bytes)?)))
}

/// All not-a-numbers become one, as in text.
#[inline]
pub(super) fn float4(bytes: &[u8]) -> Result<f32, Refusal> {
    let value = f32::from_be_bytes(fixed(bytes)?);
    Ok(if value.is_nan() { f32::NAN } else { value })
}

/// All not-a-numbers become one, as in text.
#[inline]
pub(super) fn float8(bytes: &[u8]) -> Result<f64, Refusal> {
    let value = f64::from_be_bytes(fixed(bytes)?);
    Ok(if value.is_nan() { f64::NAN } else { value })
}

/// Days since 1970. Infinities keep the extremes that PostgreSQL itself gives them; no finite date reaches those.
#[inline]
pub(super) fn date(bytes: &[u8]) -> Result<i32, Refusal> {
    match i32::from_be_bytes(fixed(bytes)?) {
        infinite @ (i32::MIN | i32::MAX) => Ok(infinite),
        days => days.checked_add(EPOCH_DAYS).ok_or("a date beyond what 32-bit days can hold"),
    }
}

/// Microseconds since midnight; `24:00:00` is 86,400,000,000.
#[inline]
pub(super) fn time(bytes: &[u8]) -> Result<i64, Refusal> {
    int8(bytes)
}

/// Microseconds since 1970. Infinities keep PostgreSQL's extremes; a finite time that would reach one is refused.
#[inline]
pub(super) fn timestamp(bytes: &[u8]) -> Result<i64, Refusal> {
    match int8(bytes)? {
        infinite @ (i64::MIN | i64::MAX) => Ok(infinite),
        micros => micros.checked_add(EPOCH_MICROS).filter(|micros| *micros != i64::MAX).ok_or(BEYOND_MICROS),
    }
}

/// The text behind the version byte.
#[inline]
pub(super) fn jsonb(bytes: &[u8]) -> Result<&[u8], Refusal> {
    match bytes.split_first() {
        Some((1, json)) => Ok(json),
        _ => Err("a jsonb of an unknown version"),
    }
}

/// `8-4-4-4-12` in lower case.
pub(super) fn uuid(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), Refusal> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes: [u8; 16] = fixed(bytes)?;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    into.extend_from_slice(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_keep_their_extremes_and_no_finite_time_can_reach_them() {
        assert_eq!(timestamp(&i64::MAX.to_be_bytes()), Ok(i64::MAX));
        assert_eq!(timestamp(&i64::MIN.to_be_bytes()), Ok(i64::MIN));
        let last = i64::MAX - EPOCH_MICROS;
        assert_eq!(timestamp(&(last - 1).to_be_bytes()), Ok(i64::MAX - 1));
        assert_eq!(timestamp(&last.to_be_bytes()), Err(BEYOND_MICROS));
        assert_eq!(timestamp(&(last + 1).to_be_bytes()), Err(BEYOND_MICROS));
        assert_eq!(date(&i32::MAX.to_be_bytes()), Ok(i32::MAX));
    }

    #[test]
    fn a_value_of_the_wrong_length_is_refused() {
        assert_eq!(int4(&[0, 0, 1]), Err(WIDTH));
        assert_eq!(boolean(&[]), Err(WIDTH));
        assert_eq!(uuid(&[0; 15], &mut Vec::new()), Err(WIDTH));
        assert!(jsonb(&[2, b'{', b'}']).is_err());
    }
}
