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
        let (mut is_zstd, mut length) = (true, 0u64);
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
            length = bytes.rest().len() as u64;
            bytes.rest().to_vec()
        };
        let payload = Self { plain };
        // Cut off it would end early, and nobody would notice.
        let whole: usize = payload.events().map(<[u8]>::len).sum();
        if payload.plain.len() as u64 != length || whole != payload.plain.len() { Err(BROKEN) } else { Ok(payload) }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::binlog::Event;

    fn event(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut event = vec![0, 0, 0, 0, kind, 1, 0, 0, 0];
        event.extend_from_slice(&u32::try_from(19 + body.len()).unwrap().to_le_bytes());
        event.extend_from_slice(&[0; 6]);
        event.extend_from_slice(body);
        event
    }

    #[test]
    fn a_packed_transaction_of_mysql_has_its_events_in_order() {
        let plain = [event(2, b"first"), event(16, b"second!")].concat();
        let packed = zstd::bulk::compress(&plain, 3).unwrap();
        let (size, whole) = (u8::try_from(packed.len()).unwrap(), u8::try_from(plain.len()).unwrap());
        let head = [1, 1, size, 2, 1, 0, 3, 1, whole, 0];
        let payload = Payload::parse(&[head.as_slice(), &packed].concat()).unwrap();
        let events: Vec<_> = payload.events().map(|bytes| Event::parse(bytes, 0).unwrap()).collect();
        let told: Vec<_> = events.iter().map(|event| (event.header.kind, event.body)).collect();
        assert_eq!(told, [(2, b"first".as_slice()), (16, b"second!".as_slice())]);
        assert!(Payload::parse(&head).is_err());
    }
}
