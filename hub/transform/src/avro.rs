//! The few bytes of Avro's binary form that are written by hand: numbers, texts, unions with null, Confluent framing.

/// Index of the null branch of `["null", T]`.
pub(crate) const ABSENT: u8 = 0;
/// Index of the other branch of `["null", T]`, as Avro writes it.
pub(crate) const PRESENT: u8 = 2;
/// Bytes before every record: a zero and the schema's id.
pub(crate) const FRAME: usize = 5;

/// Confluent framing.
pub(crate) fn frame(schema_id: u32) -> [u8; FRAME] {
    let id = schema_id.to_be_bytes();
    [0, id[0], id[1], id[2], id[3]]
}

/// Appends a `long` or `int` (zigzag, then seven bits a byte).
pub(crate) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = [0u8; 10];
    let mut used = 0;
    for byte in &mut bytes {
        used += 1;
        let low = rest.to_le_bytes()[0] & 0x7F;
        rest >>= 7;
        if rest == 0 {
            *byte = low;
            break;
        }
        *byte = low | 0x80;
    }
    out.extend_from_slice(&bytes[..used]);
}

/// Appends a `string` or `bytes`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    out.extend_from_slice(bytes);
}

/// Appends a `["null", "long"]`.
pub(crate) fn put_optional_long(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        None => out.push(ABSENT),
        Some(value) => {
            out.push(PRESENT);
            put_long(out, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_avro_has_them() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (-64, vec![0x7F]),
            (64, vec![0x80, 1]),
            (i64::MAX, vec![0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
            (i64::MIN, vec![0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        ] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn a_frame_is_a_zero_and_the_id_with_its_greatest_byte_first() {
        assert_eq!(frame(258), [0, 0, 0, 1, 2]);
    }
}
