//! Writes the envelope around encoded canonical records, byte for byte as Avro's binary form has it.
//!
//! The envelope is one fixed record (see `contract`), and nearly all of it is the same for every row of a batch. So its
//! constant stretches are encoded once and copied; a row costs five copies and a few varints. arrow-avro encodes what
//! varies by entity: the canonical record and the key.

use hub_model::{Op, Origin, SnapshotMark};

use super::SourceInfo;
use crate::avro::{ABSENT, FRAME, PRESENT, frame, put_bytes, put_long, put_optional_long};

/// A position as the signed number that the contract has; positions beyond 2^63 do not occur in a WAL.
fn long(position: u64) -> Option<i64> {
    if position == 0 { None } else { i64::try_from(position).ok() }
}

/// The stretches of the envelope that never change for a stream.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    frame: [u8; FRAME],
    /// `source.version, connector, name`.
    who: Vec<u8>,
    /// `source.db`.
    db: Vec<u8>,
    /// `source.schema, table`.
    table: Vec<u8>,
}

impl Fixed {
    pub(super) fn new(schema_id: u32, source: &SourceInfo) -> Self {
        let join = |parts: &[&str]| {
            let mut out = Vec::new();
            parts.iter().for_each(|part| put_bytes(&mut out, part.as_bytes()));
            out
        };
        Self {
            frame: frame(schema_id),
            who: join(&[&source.version, &source.connector, &source.system]),
            db: join(&[&source.db]),
            table: join(&[&source.schema, &source.table]),
        }
    }
}

/// Writes the envelopes of one batch.
#[derive(Debug)]
pub(super) struct Envelopes<'a> {
    fixed: &'a Fixed,
    origin: &'a Origin,
    /// `source.snapshot, db`.
    snapshot_and_db: Vec<u8>,
    /// `source.xmin, origin, origin_lsn`, `transaction`, and the length of `op`.
    before_op: [u8; 5],
    /// The envelope's own `ts_ms, ts_us, ts_ns`.
    published: Vec<u8>,
    /// The commit whose parts are held in `committed_ms` and `committed_us_ns`.
    commit_micros: Option<i64>,
    committed_ms: Vec<u8>,
    committed_us_ns: Vec<u8>,
    /// The commit position whose decimal digits are held in `sequence`.
    commit_position: u64,
    /// `["<commit position>","`.
    sequence: Vec<u8>,
}

impl<'a> Envelopes<'a> {
    pub(super) fn new(fixed: &'a Fixed, origin: &'a Origin, snapshot: SnapshotMark, now_micros: i64) -> Self {
        let mark = match snapshot {
            SnapshotMark::No => "false",
            SnapshotMark::Initial => "true",
            SnapshotMark::Incremental => "incremental",
        };
        // `snapshot` is `["string", "null"]`: its string is branch 0.
        let mut snapshot_and_db = vec![0];
        put_bytes(&mut snapshot_and_db, mark.as_bytes());
        snapshot_and_db.extend_from_slice(&fixed.db);
        let mut published = Vec::with_capacity(32);
        put_optional_long(&mut published, Some(now_micros.div_euclid(1000)));
        put_optional_long(&mut published, Some(now_micros));
        put_optional_long(&mut published, Some(now_micros.saturating_mul(1000)));
        Self {
            fixed,
            origin,
            snapshot_and_db,
            before_op: [ABSENT, ABSENT, ABSENT, ABSENT, 2],
            published,
            commit_micros: None,
            committed_ms: Vec::with_capacity(10),
            committed_us_ns: Vec::with_capacity(24),
            commit_position: 0,
            sequence: Vec::with_capacity(32),
        }
    }

    /// Bytes of an envelope without its records, at most: to reserve room.
    pub(super) fn overhead(&self) -> usize {
        const VARYING: usize = 2 + 10 + 64 + 22 + 22 + 1;
        let fixed = FRAME + self.fixed.who.len() + self.snapshot_and_db.len() + self.fixed.table.len();
        fixed + VARYING + self.before_op.len() + self.published.len()
    }

    /// Appends one envelope. `row` is the row's place in the origin.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, op: Op, before: Option<&[u8]>, after: Option<&[u8]>, row: usize) {
        out.extend_from_slice(&self.fixed.frame);
        for record in [before, after] {
            match record {
                None => out.push(ABSENT),
                Some(bytes) => {
                    out.push(PRESENT);
                    out.extend_from_slice(bytes);
                }
            }
        }
        let at = |column: &[u64]| column.get(row).copied().unwrap_or_default();
        self.hold_commit_time(self.origin.commit_micros.get(row).copied().unwrap_or_default());
        out.extend_from_slice(&self.fixed.who);
        out.extend_from_slice(&self.committed_ms);
        out.extend_from_slice(&self.snapshot_and_db);
        let position = at(&self.origin.position);
        self.put_sequence(out, at(&self.origin.commit_position), position);
        out.extend_from_slice(&self.committed_us_ns);
        out.extend_from_slice(&self.fixed.table);
        put_optional_long(out, long(at(&self.origin.transaction)));
        put_optional_long(out, long(position));
        out.extend_from_slice(&self.before_op);
        out.push(op as u8);
        out.extend_from_slice(&self.published);
    }

    fn hold_commit_time(&mut self, micros: i64) {
        if self.commit_micros == Some(micros) {
            return;
        }
        self.commit_micros = Some(micros);
        self.committed_ms.clear();
        put_long(&mut self.committed_ms, micros.div_euclid(1000));
        self.committed_us_ns.clear();
        put_optional_long(&mut self.committed_us_ns, Some(micros));
        put_optional_long(&mut self.committed_us_ns, Some(micros.saturating_mul(1000)));
    }

    /// `["<commit position>","<position>"]`, by which a sink may order rows; null where the source has no positions.
    fn put_sequence(&mut self, out: &mut Vec<u8>, commit_position: u64, position: u64) {
        if commit_position == 0 && position == 0 {
            out.push(ABSENT);
            return;
        }
        let mut digits = [0u8; 20];
        if self.commit_position != commit_position || self.sequence.is_empty() {
            self.commit_position = commit_position;
            self.sequence.clear();
            self.sequence.extend_from_slice(b"[\"");
            self.sequence.extend_from_slice(decimal(commit_position, &mut digits));
            self.sequence.extend_from_slice(b"\",\"");
        }
        let position = decimal(position, &mut digits);
        out.push(PRESENT);
        put_long(out, i64::try_from(self.sequence.len() + position.len() + 2).unwrap_or(i64::MAX));
        out.extend_from_slice(&self.sequence);
        out.extend_from_slice(position);
        out.extend_from_slice(b"\"]");
    }
}

fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for place in digits.iter_mut().rev() {
        start -= 1;
        *place = b'0' + (value % 10).to_le_bytes()[0];
        value /= 10;
        if value == 0 {
            break;
        }
    }
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_digits() {
        let mut digits = [0; 20];
        for value in [0, 7, 10, 24_023_128, u64::MAX] {
            assert_eq!(decimal(value, &mut digits), value.to_string().as_bytes());
        }
    }
}
