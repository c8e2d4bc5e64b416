//! Events that the server compressed: MariaDB's own kinds, and MySQL's whole transactions.

use std::io::Read;

use flate2::read::ZlibDecoder;

use crate::wire::{Bytes, WireError, big};

const BROKEN: WireError = WireError::Protocol("a compressed event cannot be unpacked");
/// The most that one event or transaction may unpack to; servers hold no larger one in memory either.
const MOST: u64 = 1 << 30;

/// Unpacks what MariaDB packed: a byte with the kind of packing and the width of the length, the length, and zlib's bytes.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut bytes = Bytes::new(packed);
    let head = bytes.u8()?;
    if head & 0x80 == 0 || head >> 4 & 7 != 0 {
        return Err(BROKEN);
    }
    let length = big(bytes.take(usize::from(head & 7))?);
    if length > MOST {
        return Err(BROKEN);
    }
    let mut plain = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    ZlibDecoder::new(bytes.rest()).take(length + 1).read_to_end(&mut plain).map_err(|_| BROKEN)?;
    if plain.len() as u64 == length { Ok(plain) } else { Err(BROKEN) }
}

/// The body of a statement's event, its text unpacked.
pub(crate) fn unpack_query(body: &[u8]) -> Result<Vec<u8>, WireError> {
    let text = super::Query::parse(body)?.text;
    let mut plain = body.get(..body.len() - text.len()).unwrap_or_default().to_vec();
    plain.extend_from_slice(&unpack(text)?);
    Ok(plain)
}

/// The rows of an event, unpacked.
pub(crate) fn unpack_rows(rows: &[u8]) -> Result<Vec<u8>, WireError> {
    unpack(rows)
}

/// The events of a transaction that MySQL packed as a whole.
#[derive(Debug)]
pub(crate) struct Payload {
    plain: Vec<u8>,
}

impl Payload {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Bytes::new(body);
        let (mut is_zstd, mut length) = (true, 0);
        loop {
            let field = bytes.packed()?.ok_or(BROKEN)?;
            if field == 0 {
                break;
            }
            let mut value = Bytes::new(bytes.text()?.unwrap_or_default());
            match field {
                2 => is_zstd = value.packed()? == Some(0),
                3 => length = value.packed()?.unwrap_or(0),
                _ => {}
            }
        }
        if length > MOST {
            return Err(BROKEN);
        }
        let plain = if is_zstd {
            zstd::bulk::decompress(bytes.rest(), usize::try_from(length).unwrap_or(0)).map_err(|_| BROKEN)?
        } else {
            bytes.rest().to_vec()
        };
        Ok(Self { plain })
    }

    /// Its events, one after the other, each with its head.
    pub(crate) fn events(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.plain.as_slice();
        std::iter::from_fn(move || {
            let length = rest.get(9..13).map(crate::wire::little)?;
            let (event, later) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            rest = later;
            Some(event)
        })
    }
}
