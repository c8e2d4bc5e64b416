//! Writes MySQL's binary JSON as the text that its server would select.

use super::Refusal;
use super::number::decimal_packed_text;
use super::time::{Span, push_span};
use crate::wire::little;

const CUT: Refusal = Refusal::undecodable("the binary JSON is cut off");
const DEEP: Refusal = Refusal::undecodable("the JSON is nested too deeply");
/// MySQL itself allows no more.
const DEPTH: usize = 100;

/// Writes a document. A value of no bytes is what a column that became NOT NULL holds: null.
pub(super) fn push(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let Some((kind, rest)) = bytes.split_first() else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    value(*kind, rest, out, 0)
}

fn value(kind: u8, bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<(), Refusal> {
    let first = |count: usize| bytes.get(..count).ok_or(CUT);
    match kind {
        0..=3 => container(kind, bytes, out, depth)?,
        4 => match first(1)?[0] {
            0 => out.extend_from_slice(b"null"),
            1 => out.extend_from_slice(b"true"),
            _ => out.extend_from_slice(b"false"),
        },
        5 => put(out, little(first(2)?) as u16 as i16),
        6 => put(out, little(first(2)?)),
        7 => put(out, little(first(4)?) as u32 as i32),
        8 => put(out, little(first(4)?)),
        9 => put(out, little(first(8)?) as i64),
        10 => put(out, little(first(8)?)),
        11 => float(f64::from_bits(little(first(8)?)), out),
        12 => {
            let (length, at) = length(bytes)?;
            string(bytes.get(at..at + length).ok_or(CUT)?, out);
        }
        15 => {
            let own = *bytes.first().ok_or(CUT)?;
            let rest = bytes.get(1..).ok_or(CUT)?;
            let (length, at) = length(rest)?;
            opaque(own, rest.get(at..at + length).ok_or(CUT)?, out)?;
        }
        _ => return Err(Refusal::undecodable("the binary JSON has an unknown type")),
    }
    Ok(())
}

/// An object (0, 1) or an array (2, 3), small (0, 2) or large.
fn container(kind: u8, bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<(), Refusal> {
    if depth >= DEPTH {
        return Err(DEEP);
    }
    let is_object = kind < 2;
    let width = if kind.is_multiple_of(2) { 2 } else { 4 };
    let number = |at: usize, count: usize| bytes.get(at..at + count).map(|bytes| little(bytes) as usize).ok_or(CUT);
    let count = number(0, width)?;
    let keys = 2 * width;
    let entries = keys + if is_object { count * (width + 2) } else { 0 };
    out.push(if is_object { b'{' } else { b'[' });
    for place in 0..count {
        if place > 0 {
            out.extend_from_slice(b", ");
        }
        if is_object {
            let at = keys + place * (width + 2);
            let (start, length) = (number(at, width)?, number(at + width, 2)?);
            string(bytes.get(start..start + length).ok_or(CUT)?, out);
            out.extend_from_slice(b": ");
        }
        let at = entries + place * (width + 1);
        let kind = *bytes.get(at).ok_or(CUT)?;
        let is_inline = matches!(kind, 4..=6) || (width == 4 && matches!(kind, 7 | 8));
        let start = if is_inline { at + 1 } else { number(at + 1, width)? };
        value(kind, bytes.get(start..).ok_or(CUT)?, out, depth + 1)?;
    }
    out.push(if is_object { b'}' } else { b']' });
    Ok(())
}

/// A length of seven bits a byte, and where it ends.
fn length(bytes: &[u8]) -> Result<(usize, usize), Refusal> {
    let mut length = 0;
    for (place, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((length, place + 1));
        }
    }
    Err(CUT)
}

/// Values of SQL types within a document.
fn opaque(own: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    match own {
        // NEWDECIMAL
        0 | 246 => {
            let [precision, scale, packed @ ..] = bytes else { return Err(CUT) };
            decimal_packed_text(packed, *precision, *scale, out);
        }
        // DATE, DATETIME, TIMESTAMP, TIME: as the server keeps them in memory
        7 | 10 | 11 | 12 => {
            let packed = little(bytes.get(..8).ok_or(CUT)?) as i64;
            out.push(b'"');
            if own == 11 {
                time(packed, out)
            } else {
                date(packed, own == 10, out)
            }
            out.push(b'"');
        }
        _ => {
            out.extend_from_slice(format!("\"base64:type{own}:").as_bytes());
            base64(bytes, out);
            out.push(b'"');
        }
    }
    Ok(())
}

fn time(packed: i64, out: &mut Vec<u8>) {
    let distance = packed.unsigned_abs();
    let (whole, micros) = ((distance >> 24) as u32, (distance & 0xff_ffff) as u32);
    let seconds = (whole >> 12 & 0x3ff) * 3_600 + (whole >> 6 & 63) * 60 + (whole & 63);
    push_span(Span { negative: packed < 0, seconds, micros }, out);
    if micros == 0 {
        out.extend_from_slice(b".000000");
    }
}

fn date(packed: i64, is_date: bool, out: &mut Vec<u8>) {
    let (whole, micros) = ((packed >> 24) as u64, packed & 0xff_ffff);
    let (date, time) = (whole >> 17, whole & 0x1_ffff);
    let months = date >> 5;
    out.extend_from_slice(format!("{:04}-{:02}-{:02}", months / 13, months % 13, date & 31).as_bytes());
    if !is_date {
        out.extend_from_slice(format!(" {:02}:{:02}:{:02}.{micros:06}", time >> 12, time >> 6 & 63, time & 63).as_bytes());
    }
}

fn put(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// The shortest digits that give the number back, with a point or an exponent so that it stays a floating-point number.
fn float(number: f64, out: &mut Vec<u8>) {
    let size = number.abs();
    if size != 0.0 && !(1e-5..1e15).contains(&size) {
        return put(out, format_args!("{number:e}"));
    }
    put(out, number);
    if number.fract() == 0.0 {
        out.extend_from_slice(b".0");
    }
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    out.push(b'"');
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let is_there = place <= group.len();
            out.push(if is_there { LETTERS[(bits >> (18 - 6 * place) & 63) as usize] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_small_document_is_written_as_the_server_writes_it() {
        // {"a": [1, null, "hai"]} by MySQL's documented format.
        let inner = [2, 3, 0, 20, 0, 5, 1, 0, 4, 0, 0, 12, 13, 0];
        let mut array = inner[1..].to_vec();
        array[2] = 17;
        array.extend_from_slice(&[3, b'h', b'a', b'i']);
        let mut document = vec![0u8];
        document.extend_from_slice(&[1, 0, 29, 0, 11, 0, 1, 0, 2, 12, 0, b'a']);
        document.extend_from_slice(&array);
        let mut out = Vec::new();
        push(&document, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a": [1, null, "hai"]}"#);
        assert!(push(&document[..20], &mut Vec::new()).is_err());
    }

    #[test]
    fn floating_point_numbers_stay_such() {
        let text = |number| {
            let mut out = Vec::new();
            float(number, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!([text(2.0), text(2.5), text(1e100), text(-0.001)], ["2.0", "2.5", "1e100", "-0.001"]);
    }
}
