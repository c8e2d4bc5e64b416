//! Headers of events, and the small events.

use crate::wire::{Bytes, WireError};

/// Numbers of the kinds of events that matter here.
pub(crate) mod kind {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const FORMAT: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const WRITE_V1: u8 = 23;
    pub(crate) const UPDATE_V1: u8 = 24;
    pub(crate) const DELETE_V1: u8 = 25;
    pub(crate) const INCIDENT: u8 = 26;
    pub(crate) const WRITE: u8 = 30;
    pub(crate) const UPDATE: u8 = 31;
    pub(crate) const DELETE: u8 = 32;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const PARTIAL_UPDATE: u8 = 39;
    pub(crate) const PAYLOAD: u8 = 40;
    pub(crate) const GTID_TAGGED: u8 = 42;
    pub(crate) const MARIA_GTID: u8 = 162;
    pub(crate) const QUERY_PACKED: u8 = 165;
    pub(crate) const WRITE_PACKED_V1: u8 = 166;
    pub(crate) const UPDATE_PACKED_V1: u8 = 167;
    pub(crate) const WRITE_PACKED: u8 = 169;
    pub(crate) const UPDATE_PACKED: u8 = 170;
    pub(crate) const DELETE_PACKED: u8 = 171;
}

/// What every event begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Seconds since 1970.
    pub(crate) seconds: u32,
    pub(crate) kind: u8,
    pub(crate) server: u32,
    /// Where the event ends in its file; 0 for one that is in none.
    pub(crate) end: u32,
}

const HEADER: usize = 19;

/// One event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) header: Header,
    pub(crate) body: &'a [u8],
}

impl<'a> Event<'a> {
    /// Reads the head of an event, behind which there are `tail` bytes of a checksum.
    pub(crate) fn parse(bytes: &'a [u8], tail: usize) -> Result<Self, WireError> {
        let mut head = Bytes::new(bytes);
        let seconds = head.u32()?;
        let kind = head.u8()?;
        let server = head.u32()?;
        let length = head.u32()? as usize;
        let end = head.u32()?;
        let body = bytes.get(HEADER..length.saturating_sub(tail)).ok_or(WireError::Protocol("an event is cut off"))?;
        Ok(Self { header: Header { seconds, kind, server, end }, body })
    }

    /// Whether it is an event of rows, in any of its versions.
    pub(crate) fn is_rows(&self) -> bool {
        matches!(self.header.kind, kind::WRITE_V1..=kind::DELETE_V1 | kind::WRITE..=kind::DELETE | kind::WRITE_PACKED_V1..=kind::DELETE_PACKED)
    }
}

/// Bytes of the checksum behind each event of a file, as the file's head says: the byte before the head's own checksum.
pub(crate) fn checksum_bytes(bytes: &[u8]) -> Option<usize> {
    let kind = bytes.get(bytes.len().checked_sub(5)?)?;
    Some(if *kind == 1 { 4 } else { 0 })
}

/// The log goes on in another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotate {
    pub(crate) offset: u64,
    pub(crate) file: String,
}

impl Rotate {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Bytes::new(body);
        let offset = bytes.u64()?;
        Ok(Self { offset, file: String::from_utf8_lossy(bytes.rest()).into_owned() })
    }
}

/// A statement in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) database: &'a [u8],
    pub(crate) text: &'a [u8],
}

impl<'a> Query<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut bytes = Bytes::new(body);
        bytes.take(8)?;
        let database = usize::from(bytes.u8()?);
        bytes.take(2)?;
        let status = usize::from(bytes.u16()?);
        bytes.take(status)?;
        let database = bytes.take(database)?;
        bytes.take(1)?;
        Ok(Self { database, text: bytes.rest() })
    }
}

/// The head of a group of events of MariaDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MariaGtid {
    pub(crate) domain: u32,
    pub(crate) sequence: u64,
    flags: u8,
}

impl MariaGtid {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Bytes::new(body);
        let sequence = bytes.u64()?;
        let domain = bytes.u32()?;
        Ok(Self { domain, sequence, flags: bytes.u8()? })
    }

    /// Whether one event makes up the group: a statement that commits by itself.
    pub(crate) fn is_alone(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether the group is prepared and will be decided upon later.
    pub(crate) fn is_prepared(&self) -> bool {
        self.flags & 64 != 0
    }
}

/// The head of a transaction of MySQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MysqlGtid {
    pub(crate) source: [u8; 16],
    pub(crate) number: u64,
    /// When it was committed, in microseconds since 1970.
    pub(crate) committed: Option<u64>,
}

impl MysqlGtid {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut bytes = Bytes::new(body);
        bytes.take(1)?;
        let mut source = [0; 16];
        source.copy_from_slice(bytes.take(16)?);
        let number = bytes.u64()?;
        // Logical clock (a type of 2, two numbers), then seven bytes of microseconds; the highest bit says that another follows.
        let committed = match bytes.u8() {
            Ok(2) => bytes.take(16).and_then(|_| bytes.number(7)).ok().map(|micros| micros & !(1 << 55)),
            _ => None,
        };
        Ok(Self { source, number, committed })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_head_of_a_transaction_of_mysql_has_its_number_and_its_time() {
        let mut body = vec![1];
        body.extend_from_slice(&[0xab; 16]);
        body.extend_from_slice(&42u64.to_le_bytes());
        body.push(2);
        body.extend_from_slice(&[0; 16]);
        // The highest of seven bytes says that the original commit follows.
        body.extend_from_slice(&(1_700_000_000_000_000u64 | 1 << 55).to_le_bytes()[..7]);
        let expected = MysqlGtid { source: [0xab; 16], number: 42, committed: Some(1_700_000_000_000_000) };
        assert_eq!(MysqlGtid::parse(&body).unwrap(), expected);
        assert_eq!(MysqlGtid::parse(&body[..25]).unwrap().committed, None);
    }
}
