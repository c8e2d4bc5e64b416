//! The messages of pgoutput, protocol version 1, read in place.

use crate::wire::Lsn;

/// A message that breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pgoutput message of type {tag:?} is broken: {what}")]
pub(crate) struct Broken {
    tag: char,
    what: &'static str,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Begin {
        commit: Lsn,
        commit_micros: i64,
        transaction: u32,
    },
    Commit {
        end: Lsn,
    },
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Old<'a>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    Message {
        at: Lsn,
        prefix: &'a [u8],
        content: &'a [u8],
    },
    /// Origins and types, which the catalogue tells better.
    Ignored,
}

/// The state before a change, as far as the replica identity keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Old<'a> {
    /// Not sent: the identity did not change.
    Same,
    /// The identity's columns; the others are null.
    Key(Tuple<'a>),
    /// Every column.
    Full(Tuple<'a>),
}

/// A table as the stream describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// Whether the replica identity is FULL.
    pub(crate) full: bool,
    pub(crate) columns: Vec<RelationColumn>,
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    pub(crate) name: String,
    pub(crate) oid: u32,
    pub(crate) typmod: i32,
    /// Whether it belongs to the replica identity.
    pub(crate) identity: bool,
}

/// The cells of one row, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    count: u16,
    cells: &'a [u8],
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    /// A TOASTed value that the update left alone; it is not sent.
    Unchanged,
    Value(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// The cells in the order of the relation's columns. Ends early where the bytes are broken, which [`parse`] excludes.
    pub(crate) fn cells(&self) -> Cells<'a> {
        Cells { left: self.count, bytes: self.cells }
    }

    /// How many bytes it takes in the stream.
    pub(crate) fn bytes(&self) -> usize {
        self.cells.len()
    }
}

/// Iterator over the cells of a [`Tuple`].
#[derive(Clone, Debug)]
pub(crate) struct Cells<'a> {
    left: u16,
    bytes: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    #[inline]
    fn next(&mut self) -> Option<Cell<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let (kind, rest) = self.bytes.split_first()?;
        match kind {
            b'n' => {
                self.bytes = rest;
                Some(Cell::Null)
            }
            b'u' => {
                self.bytes = rest;
                Some(Cell::Unchanged)
            }
            _ => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                self.bytes = rest;
                Some(Cell::Value(value))
            }
        }
    }
}

/// Reads one message.
pub(crate) fn parse(body: &[u8]) -> Result<Change<'_>, Broken> {
    let Some((tag, rest)) = body.split_first() else { return Err(Broken { tag: ' ', what: "it is empty" }) };
    let mut reader = Reader { tag: *tag, bytes: rest };
    match tag {
        b'I' => {
            let relation = reader.u32()?;
            reader.skip_tag(b'N')?;
            Ok(Change::Insert { relation, new: reader.tuple()? })
        }
        b'U' => {
            let relation = reader.u32()?;
            let old = reader.old()?;
            if old != Old::Same {
                reader.skip_tag(b'N')?;
            }
            Ok(Change::Update { relation, old, new: reader.tuple()? })
        }
        b'D' => Ok(Change::Delete { relation: reader.u32()?, old: reader.old()? }),
        b'B' => Ok(Change::Begin {
            commit: Lsn(reader.u64()?),
            commit_micros: reader.u64()?.cast_signed().saturating_add(crate::wire::EPOCH_MICROS),
            transaction: reader.u32()?,
        }),
        b'C' => {
            reader.take(9)?;
            Ok(Change::Commit { end: Lsn(reader.u64()?) })
        }
        b'R' => reader.relation().map(Change::Relation),
        b'T' => {
            let count = reader.u32()?;
            reader.take(1)?;
            let relations = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
            Ok(Change::Truncate { relations })
        }
        b'M' => {
            reader.take(1)?;
            let at = Lsn(reader.u64()?);
            let prefix = reader.text()?;
            let length = reader.u32()? as usize;
            Ok(Change::Message { at, prefix, content: reader.take(length)? })
        }
        b'O' | b'Y' => Ok(Change::Ignored),
        _ => Err(reader.broken("its type is unknown to protocol version 1")),
    }
}

struct Reader<'a> {
    tag: u8,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn broken(&self, what: &'static str) -> Broken {
        Broken { tag: char::from(self.tag), what }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(|| self.broken("it is cut off"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(|| self.broken("it is cut off"))?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Broken> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'a [u8], Broken> {
        let end = self.bytes.iter().position(|byte| *byte == 0).ok_or_else(|| self.broken("a text has no end"))?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    fn name(&mut self) -> Result<String, Broken> {
        let text = self.text()?;
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| self.broken("a name is not UTF-8"))
    }

    fn skip_tag(&mut self, wanted: u8) -> Result<(), Broken> {
        if self.u8()? == wanted { Ok(()) } else { Err(self.broken("a row of another kind is expected")) }
    }

    fn old(&mut self) -> Result<Old<'a>, Broken> {
        match self.u8()? {
            b'K' => self.tuple().map(Old::Key),
            b'O' => self.tuple().map(Old::Full),
            b'N' => Ok(Old::Same),
            _ => Err(self.broken("a row of unknown kind")),
        }
    }

    /// Finds the end of a row and checks that every cell is whole.
    #[inline]
    fn tuple(&mut self) -> Result<Tuple<'a>, Broken> {
        let count = self.u16()?;
        let start = self.bytes;
        let mut cells = Cells { left: count, bytes: start };
        let whole = cells.by_ref().count();
        if whole != usize::from(count) {
            return Err(self.broken("a row is cut off"));
        }
        self.bytes = cells.bytes;
        Ok(Tuple { count, cells: &start[..start.len() - cells.bytes.len()] })
    }

    fn relation(&mut self) -> Result<Relation, Broken> {
        let oid = self.u32()?;
        let schema = self.name()?;
        let table = self.name()?;
        let full = self.u8()? == b'f';
        let count = self.u16()?;
        let mut columns = Vec::with_capacity(count.into());
        for _ in 0..count {
            let identity = self.u8()? & 1 == 1;
            let name = self.name()?;
            let oid = self.u32()?;
            let typmod = self.u32()?.cast_signed();
            columns.push(RelationColumn { name, oid, typmod, identity });
        }
        // The catalogue's own schema is sent as an empty name.
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        Ok(Relation { oid, schema, table, full, columns })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failing test should stop at once")]

    use super::*;

    fn tuple(cells: &[Cell<'_>]) -> Vec<u8> {
        let mut out = u16::try_from(cells.len()).unwrap().to_be_bytes().to_vec();
        for cell in cells {
            match cell {
                Cell::Null => out.push(b'n'),
                Cell::Unchanged => out.push(b'u'),
                Cell::Value(value) => {
                    out.push(b'b');
                    out.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    out.extend(*value);
                }
            }
        }
        out
    }

    #[test]
    fn an_update_with_a_changed_key_gives_both_rows() {
        let old = [Cell::Value(b"7"), Cell::Null];
        let new = [Cell::Value(b"8"), Cell::Unchanged];
        let mut body = vec![b'U', 0, 0, 0, 42, b'K'];
        body.extend(tuple(&old));
        body.push(b'N');
        body.extend(tuple(&new));
        let Ok(Change::Update { relation: 42, old: Old::Key(before), new: after }) = parse(&body) else { panic!("no update with a key") };
        assert_eq!(before.cells().collect::<Vec<_>>(), old);
        assert_eq!(after.cells().collect::<Vec<_>>(), new);
    }

    #[test]
    fn every_cut_of_a_message_is_refused_and_none_panics() {
        let mut body = vec![b'U', 0, 0, 0, 42, b'O'];
        body.extend(tuple(&[Cell::Value(b"7"), Cell::Null]));
        body.push(b'N');
        body.extend(tuple(&[Cell::Value(b"8"), Cell::Unchanged]));
        for end in 0..body.len() {
            assert!(parse(&body[..end]).is_err(), "cut at {end}");
        }
        assert!(parse(&body).is_ok());
    }

    #[test]
    fn a_relation_tells_its_columns_and_identity() {
        let mut body = vec![b'R', 0, 0, 0, 9];
        body.extend(b"public\0h\xE1\xBB\x93 s\xC6\xA1\0d\0\x01\x01id\0");
        body.extend(20_u32.to_be_bytes());
        body.extend((-1_i32).to_be_bytes());
        let Ok(Change::Relation(relation)) = parse(&body) else { panic!("no relation") };
        assert_eq!(relation.table, "hồ sơ");
        assert!(!relation.full);
        let id = RelationColumn { name: "id".into(), oid: 20, typmod: -1, identity: true };
        assert_eq!(relation.columns, [id]);
    }
}
