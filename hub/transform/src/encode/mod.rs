//! Encodes canonical rows as Kafka records: Debezium's envelope in Avro with Confluent framing, keys, tombstones, headers.
//!
//! One [`Encoder`] per stream. What it refuses (a record too large, a key that is null) is handed back row by row, to be
//! dead-lettered; what it fails on ([`EncodeError`]) is a defect of the mapping that fed it.

mod assembly;
mod contract;
mod datums;
mod envelope;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;
use bytes::Bytes;
use hub_model::{Block, KeyChange, Op, Origin, Rows, SnapshotMark};

pub use contract::{KeyError, envelope_schema, key_schema, namespace};

use crate::schema::CanonicalSchema;
use assembly::Assembly;
use datums::Datums;
use envelope::{Envelopes, Fixed};

/// What the envelope's `source` says of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// Version of the hub.
    pub version: String,
    /// Kind of connector in Debezium's words: `postgresql`.
    pub connector: String,
    /// The system, `mot-cua`; Debezium's logical server name.
    pub system: String,
    /// Database.
    pub db: String,
    /// Schema of the table; empty where the source has none.
    pub schema: String,
    /// Table, endpoint or file set.
    pub table: String,
}

/// How a topic treats the rows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// The last record of a key stays: a tombstone follows each delete, a truncate cannot be told.
    Compacted,
    /// Records stay for a time: no tombstones, truncates are published.
    Timed,
}

/// What an [`Encoder`] is made of.
#[derive(Clone, Debug)]
pub struct EncoderInput {
    /// The canonical entity.
    pub canonical: CanonicalSchema,
    /// Fields of the key, in order; none for a topic without keys.
    pub key: Vec<String>,
    /// Registered id of [`envelope_schema`].
    pub value_schema_id: u32,
    /// Registered id of [`key_schema`]; unused without key fields.
    pub key_schema_id: u32,
    /// The stream's part of the envelope.
    pub source: SourceInfo,
    /// Topic of the records.
    pub topic: Arc<str>,
    /// Whether the topic is compacted.
    pub retention: Retention,
    /// Key and value together may not be longer, in bytes; the topic's `max.message.bytes` less some room for headers.
    pub max_record_bytes: usize,
}

/// Rows to encode. All columns describe the same rows, in the order in which they are to be published.
#[derive(Clone, Copy, Debug)]
pub struct EncodeBatch<'a> {
    /// What happened to each row.
    pub ops: &'a [Op],
    /// Canonical records, columns as in [`CanonicalSchema::arrow`]: the state after each row, for a delete the one before it.
    /// Rows that have none (truncates, deletes without full images) may hold nulls anywhere.
    pub records: &'a RecordBatch,
    /// Which rows have a record; `None`: all but truncates.
    pub recorded: Option<&'a BooleanBuffer>,
    /// Canonical records before updates, where the source keeps them.
    pub old: Option<&'a RecordBatch>,
    /// Which rows of `old` hold a record; `None`: those of all updates.
    pub old_recorded: Option<&'a BooleanBuffer>,
    /// Key columns in the encoder's order, a key for each row but truncates. Not read where the encoder has no key fields.
    pub keys: &'a RecordBatch,
    /// Deletes and creates that are one change of key, as rows of this batch.
    pub key_changes: &'a [KeyChange],
    /// Where rows come from, by row of the change batch.
    pub origin: &'a Origin,
    /// For each row here its row in `origin`; `None`: the same.
    pub origin_rows: Option<&'a [u32]>,
    /// Whether and how a snapshot read the rows.
    pub snapshot: SnapshotMark,
    /// Time of publishing, microseconds since 1970-01-01 UTC.
    pub now_micros: i64,
}

/// A row that cannot be published as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeReject {
    /// Row of the [`EncodeBatch`].
    pub row: u32,
    /// Canonical field, where one is to blame.
    pub field: Option<Arc<str>>,
    /// Stable reason code: `too-large`, `truncate-on-compacted`, `null-key`, `null-required`, `no-record`.
    pub code: &'static str,
    /// What is wrong, without the value.
    pub message: String,
}

/// Encoded rows and the refused ones.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// What goes to the topic.
    pub block: Block,
    /// For each record of the block its row of the [`EncodeBatch`]; `None`: the same, nothing was refused.
    pub rows: Option<Vec<u32>>,
    /// What does not, ascending by row.
    pub rejects: Vec<EncodeReject>,
}

/// Why rows cannot be encoded at all: the encoder and what feeds it do not fit each other.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The key fields cannot make a key.
    #[error("preparing the encoder of {entity}")]
    Key {
        /// The entity.
        entity: String,
        /// What is wrong with the key.
        source: KeyError,
    },
    /// arrow-avro refused the schema or a column.
    #[error("encoding {what} of {entity} as Avro")]
    Avro {
        /// Records or keys.
        what: &'static str,
        /// The entity.
        entity: String,
        /// arrow-avro's reason.
        source: arrow_avro::errors::AvroError,
    },
    /// Columns are not those of the schema.
    #[error("the {what} of {entity} do not have the columns of its schema: rebuild the mapping")]
    Columns {
        /// Records, old records or keys.
        what: &'static str,
        /// The entity.
        entity: String,
        /// The first difference, where Arrow names it.
        source: ArrowError,
    },
    /// Columns differ in length.
    #[error("encoding {entity}: {what} has {found} rows where {expected} are expected")]
    Rows {
        /// The column.
        what: &'static str,
        /// The entity.
        entity: String,
        /// Its rows.
        found: usize,
        /// Rows of `ops`.
        expected: usize,
    },
}

/// Encodes the rows of one stream for one topic.
#[derive(Debug)]
pub struct Encoder {
    entity: String,
    topic: Arc<str>,
    retention: Retention,
    max_record_bytes: usize,
    fixed: Fixed,
    records: Datums,
    keys: Option<Datums>,
    required: Vec<(usize, Arc<str>)>,
}

impl Encoder {
    /// Prepares the encoder of a stream.
    ///
    /// # Errors
    /// [`EncodeError`] when the key fields cannot make a key, or arrow-avro does not know a type.
    pub fn new(input: &EncoderInput) -> Result<Self, EncodeError> {
        let entity = input.canonical.name().to_owned();
        let keyed = |source| EncodeError::Key { entity: entity.clone(), source };
        let key = contract::key_fields(&input.canonical, &input.key).map_err(keyed)?;
        let json = key_schema(&input.canonical, &input.key, &input.topic).map_err(keyed)?;
        let arrow = input.canonical.arrow();
        let places = key.iter().filter_map(|field| arrow.index_of(field.name()).ok()).collect::<Vec<_>>();
        let key_columns = arrow.project(&places).map_err(|source| EncodeError::Columns { what: "keys", entity: entity.clone(), source })?;
        let keys = match input.key.as_slice() {
            [] => None,
            _ => Some(Datums::new("keys", &entity, &key_columns, &json, Some(input.key_schema_id))?),
        };
        let required = input.canonical.fields().iter().enumerate().filter(|(_, field)| !field.nullable());
        Ok(Self {
            topic: Arc::clone(&input.topic),
            retention: input.retention,
            max_record_bytes: input.max_record_bytes,
            fixed: Fixed::new(input.value_schema_id, &input.source),
            records: Datums::new("records", &entity, &arrow, input.canonical.json(), None)?,
            keys,
            required: required.map(|(place, field)| (place, Arc::from(field.name()))).collect(),
            entity,
        })
    }

    /// Encodes a batch.
    ///
    /// # Errors
    /// [`EncodeError`] when columns are not those of the schema or differ in length; nothing is encoded then.
    pub fn encode(&mut self, batch: &EncodeBatch<'_>) -> Result<Encoded, EncodeError> {
        self.check(batch)?;
        let records = self.records.encode(&self.entity, batch.records)?;
        let old = batch.old.map(|old| self.records.encode(&self.entity, old)).transpose()?;
        let keys = match &mut self.keys {
            Some(keys) => Some(keys.encode(&self.entity, batch.keys)?),
            None => None,
        };
        let refused = self.refuse(batch);
        let mut assembly = Assembly::new(self, batch, &records, old.as_ref(), keys.as_ref());
        for row in 0..batch.ops.len() {
            assembly.put(row, &refused);
        }
        Ok(assembly.finish(refused))
    }

    /// Deletes of rows of which nothing is left but their keys, as their topic has them (framed): rows that went away while
    /// nobody followed. Each stands at `place` (commit position, position) in the source's log, and has no state before.
    #[must_use]
    pub fn vanished(&self, keys: &[Bytes], place: (u64, u64), now_micros: i64) -> Block {
        let mut origin = Origin::default();
        origin.push(now_micros, place.0, place.1, 0, 0);
        let mut envelopes = Envelopes::new(&self.fixed, &origin, SnapshotMark::No, now_micros);
        let (mut values, mut value_ends) = (Vec::with_capacity(keys.len() * envelopes.overhead()), vec![0]);
        let (mut joined, mut key_ends) = (Vec::new(), vec![0]);
        for key in keys {
            envelopes.put(&mut values, Op::Delete, None, None, 0);
            value_ends.push(values.len());
            joined.extend_from_slice(key);
            key_ends.push(joined.len());
        }
        let tombstones = if self.retention == Retention::Compacted { (0..number(keys.len())).collect() } else { Vec::new() };
        Block {
            topic: Arc::clone(&self.topic),
            keys: Some(Rows::new(Bytes::from(joined), key_ends)),
            values: Rows::new(Bytes::from(values), value_ends),
            timestamps: vec![now_micros.div_euclid(1000); keys.len()],
            tombstones,
            headers: Vec::new(),
        }
    }

    /// Framed keys of rows that are not published; a row whose key columns are not all there has none.
    ///
    /// # Errors
    /// [`EncodeError`] when columns are not those of the key.
    pub fn keys_of(&mut self, keys: &RecordBatch) -> Result<Vec<Bytes>, EncodeError> {
        let Some(datums) = &mut self.keys else { return Ok(Vec::new()) };
        let encoded = datums.encode(&self.entity, keys)?;
        let whole = |row: &usize| keys.columns().iter().all(|column| column.is_valid(*row));
        Ok((0..keys.num_rows()).filter(whole).map(|row| Bytes::copy_from_slice(datums::slice(&encoded, row))).collect())
    }

    fn check(&self, batch: &EncodeBatch<'_>) -> Result<(), EncodeError> {
        let expected = batch.ops.len();
        let of = |rows: Option<usize>| rows.unwrap_or(expected);
        let origin = batch.origin_rows.map_or(batch.origin.len(), <[u32]>::len);
        let found = [
            ("records", batch.records.num_rows()),
            ("recorded", of(batch.recorded.map(BooleanBuffer::len))),
            ("old", of(batch.old.map(RecordBatch::num_rows))),
            ("old_recorded", of(batch.old_recorded.map(BooleanBuffer::len))),
            ("keys", of(self.keys.as_ref().map(|_| batch.keys.num_rows()))),
            ("origin", origin),
        ];
        match found.into_iter().find(|(_, rows)| *rows != expected) {
            None => Ok(()),
            Some((what, found)) => Err(EncodeError::Rows { what, entity: self.entity.clone(), found, expected }),
        }
    }

    /// Rows that cannot be published whatever their size, found column-wise: batches without any cost nothing per row.
    fn refuse(&self, batch: &EncodeBatch<'_>) -> Refused {
        let mut refused = Refused::default();
        let key_columns = if self.keys.is_some() { batch.keys.columns() } else { &[] };
        for column in key_columns.iter().filter(|column| column.null_count() > 0) {
            for row in (0..batch.ops.len()).filter(|row| column.is_null(*row) && batch.ops[*row] != Op::Truncate) {
                refused.add(row, None, "null-key", "a key column is null".to_owned());
            }
        }
        for (place, field) in &self.required {
            let column = batch.records.column(*place);
            if column.null_count() == 0 {
                continue;
            }
            for row in (0..batch.ops.len()).filter(|row| column.is_null(*row) && is_recorded(batch, *row)) {
                refused.add(row, Some(Arc::clone(field)), "null-required", format!("required field {field:?} is null"));
            }
        }
        let truncates = self.retention == Retention::Compacted;
        for (row, op) in batch.ops.iter().enumerate() {
            if *op == Op::Truncate && truncates {
                let message =
                    "the table was truncated, which a compacted topic cannot say: `hub run --resnapshot SYSTEM` deletes what is gone"
                        .to_owned();
                refused.add(row, None, "truncate-on-compacted", message);
            } else if op.has_after() && batch.recorded.is_some_and(|recorded| !recorded.value(row)) {
                refused.add(row, None, "no-record", "the row has no canonical record".to_owned());
            }
        }
        refused
    }
}

fn is_recorded(batch: &EncodeBatch<'_>, row: usize) -> bool {
    batch.ops[row] != Op::Truncate && batch.recorded.is_none_or(|recorded| recorded.value(row))
}

/// Refused rows, at most one reason each.
#[derive(Debug, Default)]
struct Refused(BTreeMap<usize, EncodeReject>);

impl Refused {
    fn add(&mut self, row: usize, field: Option<Arc<str>>, code: &'static str, message: String) {
        let reject = EncodeReject { row: number(row), field, code, message };
        self.0.entry(row).or_insert(reject);
    }

    fn holds(&self, row: usize) -> bool {
        !self.0.is_empty() && self.0.contains_key(&row)
    }
}

/// A row or record number; batches are far below 2^32 rows.
fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}
