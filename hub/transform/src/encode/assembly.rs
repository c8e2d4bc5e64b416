//! Puts the records of a batch together: envelopes around canonical records, keys, tombstones and headers in one block.

use std::sync::Arc;

use arrow_avro::writer::EncodedRows;
use bytes::Bytes;
use hub_model::{Block, Op, RecordHeader, Rows};

use super::datums::slice;
use super::envelope::Envelopes;
use super::{EncodeBatch, Encoded, Encoder, Refused, Retention, is_recorded, number};

/// Header of the delete of a changed key: the new key.
const NEW_KEY: &str = "__debezium.newkey";
/// Header of the create of a changed key: the old key.
const OLD_KEY: &str = "__debezium.oldkey";

/// Puts the envelopes of a batch together.
pub(super) struct Assembly<'a> {
    batch: &'a EncodeBatch<'a>,
    topic: &'a Arc<str>,
    tombstones_follow: bool,
    max_record_bytes: usize,
    records: &'a EncodedRows,
    old: Option<&'a EncodedRows>,
    keys: Option<&'a EncodedRows>,
    envelopes: Envelopes<'a>,
    data: Vec<u8>,
    offsets: Vec<usize>,
    /// Row of each record.
    rows: Vec<u32>,
    tombstones: Vec<u32>,
    too_large: Vec<(usize, usize)>,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(
        encoder: &'a Encoder,
        batch: &'a EncodeBatch<'a>,
        records: &'a EncodedRows,
        old: Option<&'a EncodedRows>,
        keys: Option<&'a EncodedRows>,
    ) -> Self {
        let envelopes = Envelopes::new(&encoder.fixed, batch.origin, batch.snapshot, batch.now_micros);
        let rows = batch.ops.len();
        let room = records.bytes().len() + old.map_or(0, |old| old.bytes().len()) + rows * envelopes.overhead();
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            batch,
            topic: &encoder.topic,
            tombstones_follow: encoder.retention == Retention::Compacted && keys.is_some(),
            max_record_bytes: encoder.max_record_bytes,
            records,
            old,
            keys,
            envelopes,
            data: Vec::with_capacity(room),
            offsets,
            rows: Vec::with_capacity(rows),
            tombstones: Vec::new(),
            too_large: Vec::new(),
        }
    }

    pub(super) fn put(&mut self, row: usize, refused: &Refused) {
        if refused.holds(row) {
            return;
        }
        let (batch, op) = (self.batch, self.batch.ops[row]);
        let record = is_recorded(batch, row).then(|| slice(self.records, row));
        let (before, after) = match op {
            Op::Read | Op::Create => (None, record),
            Op::Update => (self.old_record(row), record),
            Op::Delete => (record, None),
            Op::Truncate => (None, None),
        };
        let origin_row = batch.origin_rows.and_then(|rows| rows.get(row)).map_or(row, |origin| *origin as usize);
        let start = self.data.len();
        self.envelopes.put(&mut self.data, op, before, after, origin_row);
        let bytes = self.data.len() - start + self.keys.map_or(0, |keys| slice(keys, row).len());
        if bytes > self.max_record_bytes {
            self.data.truncate(start);
            self.too_large.push((row, bytes));
            return;
        }
        if op == Op::Delete && self.tombstones_follow {
            self.tombstones.push(number(self.rows.len()));
        }
        self.rows.push(number(row));
        self.offsets.push(self.data.len());
    }

    fn old_record(&self, row: usize) -> Option<&'a [u8]> {
        let known = self.batch.old_recorded.is_none_or(|recorded| recorded.value(row));
        self.old.filter(|_| known).map(|old| slice(old, row))
    }

    pub(super) fn finish(self, mut refused: Refused) -> Encoded {
        let limit = self.max_record_bytes;
        for (row, bytes) in &self.too_large {
            refused.add(*row, None, "too-large", format!("the record would be {bytes} bytes; its topic takes {limit}"));
        }
        let published = self.batch.now_micros.div_euclid(1000);
        let headers = self.headers();
        let block = Block {
            topic: Arc::clone(self.topic),
            keys: self.keys.map(|keys| self.record_keys(keys)),
            timestamps: vec![published; self.rows.len()],
            tombstones: self.tombstones,
            headers,
            values: Rows::new(Bytes::from(self.data), self.offsets),
        };
        let whole = self.rows.len() == self.batch.ops.len();
        Encoded { block, rows: (!whole).then_some(self.rows), rejects: refused.0.into_values().collect() }
    }

    /// A key per record. That of a truncate is empty, which stands for null: a framed key never is.
    fn record_keys(&self, keys: &EncodedRows) -> Rows {
        let whole = self.rows.len() == self.batch.ops.len() && !self.batch.ops.contains(&Op::Truncate);
        if whole {
            return Rows::new(keys.bytes().clone(), keys.offsets().to_vec());
        }
        let mut data = Vec::with_capacity(keys.bytes().len());
        let mut offsets = Vec::with_capacity(self.rows.len() + 1);
        offsets.push(0);
        for row in self.rows.iter().map(|row| *row as usize) {
            if self.batch.ops[row] != Op::Truncate {
                data.extend_from_slice(slice(keys, row));
            }
            offsets.push(data.len());
        }
        Rows::new(Bytes::from(data), offsets)
    }

    /// A changed key's two records point at each other, where both are published.
    fn headers(&self) -> Vec<RecordHeader> {
        let Some(keys) = self.keys else {
            return Vec::new();
        };
        let record_of = |row: u32| self.rows.binary_search(&row).ok().map(number);
        let key_of = |row: u32| Bytes::copy_from_slice(slice(keys, row as usize));
        let mut headers = Vec::with_capacity(self.batch.key_changes.len() * 2);
        for change in self.batch.key_changes {
            if let (Some(delete), Some(create)) = (record_of(change.delete), record_of(change.create)) {
                headers.push(RecordHeader { record: delete, name: NEW_KEY, value: key_of(change.create) });
                headers.push(RecordHeader { record: create, name: OLD_KEY, value: key_of(change.delete) });
            }
        }
        headers.sort_by_key(|header| header.record);
        headers
    }
}
