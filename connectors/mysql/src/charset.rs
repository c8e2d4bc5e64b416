//! Character sets of columns: how the bytes that are stored become UTF-8.

use std::collections::BTreeMap;
use std::sync::Arc;

use encoding_rs::Encoding;

use crate::wire::{Session, WireError};

/// How the text of a column is stored.
#[derive(Clone, Debug)]
pub(crate) enum Charset {
    /// `utf8mb4`, `utf8mb3`, `ascii`: as it is.
    Utf8,
    /// One byte a letter, in the server's own table of them.
    Single(Arc<Letters>),
    /// Chinese, Japanese and Korean sets.
    Wide(&'static Encoding),
    /// `ucs2`, `utf16`.
    Utf16Big,
    /// `utf16le`.
    Utf16Little,
    /// `utf32`.
    Utf32,
    /// One that the hub cannot read: every text of it is refused.
    Unknown,
}

/// The letter of every byte; `None` where the server has none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Letters([Option<char>; 256]);

/// Character sets of one server by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Charsets {
    known: BTreeMap<String, Charset>,
}

impl Charsets {
    /// Asks the server for the letters of every one-byte set that is named.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn load(session: &mut Session, names: Vec<&str>) -> Result<Self, WireError> {
        let mut known = BTreeMap::new();
        for name in names {
            if known.contains_key(name) {
                continue;
            }
            let charset = match by_name(name) {
                Some(charset) => charset,
                None => letters(session, name).await?.map_or(Charset::Unknown, |letters| Charset::Single(Arc::new(letters))),
            };
            known.insert(name.to_owned(), charset);
        }
        Ok(Self { known })
    }

    /// Whether no server was asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Takes what another knows besides.
    pub(crate) fn merge(&mut self, other: Self) {
        self.known.extend(other.known);
    }

    /// The set of a name.
    pub(crate) fn get(&self, name: &str) -> Charset {
        self.known.get(name).cloned().or_else(|| by_name(name)).unwrap_or(Charset::Unknown)
    }

    /// Whether text of a set can be read.
    pub(crate) fn has(&self, name: &str) -> bool {
        !matches!(self.get(name), Charset::Unknown)
    }
}

/// Sets that are known without asking.
fn by_name(name: &str) -> Option<Charset> {
    Some(match name {
        "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Charset::Utf8,
        "gbk" | "gb2312" => Charset::Wide(encoding_rs::GBK),
        "gb18030" => Charset::Wide(encoding_rs::GB18030),
        "big5" => Charset::Wide(encoding_rs::BIG5),
        "sjis" | "cp932" => Charset::Wide(encoding_rs::SHIFT_JIS),
        "ujis" | "eucjpms" => Charset::Wide(encoding_rs::EUC_JP),
        "euckr" => Charset::Wide(encoding_rs::EUC_KR),
        "ucs2" | "utf16" => Charset::Utf16Big,
        "utf16le" => Charset::Utf16Little,
        "utf32" => Charset::Utf32,
        _ => return None,
    })
}

/// The letters of a one-byte set, byte by byte from the server; `None` for one that it does not have or that is wider.
async fn letters(session: &mut Session, name: &str) -> Result<Option<Letters>, WireError> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(None);
    }
    let width = session.one(&format!("SELECT MAXLEN FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME = '{name}'")).await?;
    if width.and_then(|row| row.into_iter().next().flatten()).as_deref() != Some("1") {
        return Ok(None);
    }
    let cells: Vec<String> = (0..=255u8).map(|byte| format!("HEX(CONVERT(_{name} X'{byte:02X}' USING utf32))")).collect();
    let row = session.one(&format!("SELECT {}", cells.join(","))).await?.unwrap_or_default();
    let mut letters = [None; 256];
    for (byte, (letter, hex)) in letters.iter_mut().zip(row).enumerate() {
        let code = hex.and_then(|hex| u32::from_str_radix(&hex, 16).ok());
        // A byte without a letter comes as a question mark, which only the one of ASCII is.
        *letter = code.and_then(char::from_u32).filter(|letter| *letter != '?' || byte == usize::from(b'?'));
    }
    Ok(Some(Letters(letters)))
}

impl Charset {
    /// Appends a text as UTF-8; says whether it could be read. UTF-8 itself is checked by whoever takes the whole column.
    #[inline]
    pub(crate) fn append(&self, bytes: &[u8], text: &mut Vec<u8>) -> bool {
        match self {
            Self::Utf8 => {
                text.extend_from_slice(bytes);
                true
            }
            _ => self.convert(bytes, text),
        }
    }

    fn convert(&self, bytes: &[u8], text: &mut Vec<u8>) -> bool {
        let before = text.len();
        let is_whole = match self {
            Self::Utf8 | Self::Unknown => false,
            Self::Single(letters) => bytes.iter().all(|byte| letters.0[usize::from(*byte)].is_some_and(|letter| push(letter, text))),
            Self::Wide(encoding) => {
                let (decoded, had_errors) = encoding.decode_without_bom_handling(bytes);
                text.extend_from_slice(decoded.as_bytes());
                !had_errors
            }
            Self::Utf16Big => {
                wide(bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])), text) && bytes.len().is_multiple_of(2)
            }
            Self::Utf16Little => {
                wide(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])), text) && bytes.len().is_multiple_of(2)
            }
            Self::Utf32 => {
                let letter = |four: &[u8]| char::from_u32(u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
                bytes.chunks_exact(4).all(|four| letter(four).is_some_and(|letter| push(letter, text))) && bytes.len().is_multiple_of(4)
            }
        };
        if !is_whole {
            text.truncate(before);
        }
        is_whole
    }
}

fn push(letter: char, text: &mut Vec<u8>) -> bool {
    text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    true
}

fn wide(units: impl Iterator<Item = u16>, text: &mut Vec<u8>) -> bool {
    char::decode_utf16(units).all(|letter| letter.is_ok_and(|letter| push(letter, text)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn wide_sets_are_read_and_half_a_letter_is_refused() {
        let read = |name: &str, bytes: &[u8]| {
            let mut text = Vec::new();
            by_name(name).unwrap().append(bytes, &mut text).then(|| String::from_utf8(text).unwrap())
        };
        assert_eq!(read("gbk", &[0xd6, 0xd0, b'a']), Some("中a".to_owned()));
        assert_eq!(read("ucs2", &[0x1e, 0xc7]), Some("ệ".to_owned()));
        assert_eq!(read("utf16le", &[0x3d, 0xd8, 0x00, 0xde]), Some("😀".to_owned()));
        assert_eq!(read("utf32", &[0, 1, 0xf6, 0]), Some("😀".to_owned()));
        assert_eq!(read("ucs2", &[0x1e]), None);
        assert_eq!(read("gbk", &[0xff]), None);
    }
}
