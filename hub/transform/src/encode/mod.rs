//! Encodes canonical rows as Kafka records: Debezium's envelope in Avro with Confluent framing, keys, tombstones, headers.
//!
//! One [`Encoder`] per stream. What it refuses (a record too large, a key that is null) is handed back row by row, to be
//! dead-lettered; what it fails on ([`EncodeError`]) is a defect of the mapping that fed it.

mod contract;
mod envelope;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_avro::schema::{FingerprintStrategy, SCHEMA_METADATA_KEY};
use arrow_avro::writer::format::{AvroBinaryFormat, AvroSoeFormat};
use arrow_avro::writer::{EncodedRows, Encoder as AvroEncoder, WriterBuilder};
use bytes::Bytes;
use hub_model::{Block, KeyChange, Op, Origin, RecordHeader, Rows, SnapshotMark};

pub use contract::{KeyError, envelope_schema, key_schema, namespace};

use crate::schema::CanonicalSchema;
use envelope::{Envelopes, Fixed};

/// Header of the delete of a changed key: the new key.
const NEW_KEY: &str = "__debezium.newkey";
/// Header of the create of a changed key: the old key.
const OLD_KEY: &str = "__debezium.oldkey";

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
        let keyless = self.keys.is_some().then(|| batch.keys.columns()).unwrap_or_default();
        for column in keyless.iter().filter(|column| column.null_count() > 0) {
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
                let message = "the table was truncated, which a compacted topic cannot say: snapshot the stream anew".to_owned();
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
struct Refused(std::collections::BTreeMap<usize, EncodeReject>);

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

/// Rows of one Avro record schema, by arrow-avro.
#[derive(Debug)]
struct Datums {
    what: &'static str,
    schema: SchemaRef,
    encoder: AvroEncoder,
}

impl Datums {
    /// `schema_id` frames each row; without one the rows are bare Avro.
    fn new(what: &'static str, entity: &str, columns: &Schema, avro: &str, schema_id: Option<u32>) -> Result<Self, EncodeError> {
        // Nullable in Arrow whatever Avro says: rows without a record hold nulls, and their bytes are never read.
        let fields: Vec<Field> = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let metadata = [(SCHEMA_METADATA_KEY.to_owned(), avro.to_owned())].into();
        let schema = Schema::new_with_metadata(fields, metadata);
        let builder = WriterBuilder::new(schema);
        let encoder = match schema_id {
            Some(id) => builder.with_fingerprint_strategy(FingerprintStrategy::Id(id)).build_encoder::<AvroSoeFormat>(),
            None => builder.build_encoder::<AvroBinaryFormat>(),
        }
        .map_err(|source| EncodeError::Avro { what, entity: entity.to_owned(), source })?;
        Ok(Self { what, schema: encoder.schema(), encoder })
    }

    fn encode(&mut self, entity: &str, rows: &RecordBatch) -> Result<EncodedRows, EncodeError> {
        let what = self.what;
        let columns = |source| EncodeError::Columns { what, entity: entity.to_owned(), source };
        let given = rows.schema_ref().fields();
        let differs = given.iter().zip(self.schema.fields()).find(|(given, wanted)| given.name() != wanted.name());
        if let Some((given, wanted)) = differs {
            return Err(columns(ArrowError::SchemaError(format!("column {:?} stands in the place of {:?}", given.name(), wanted.name()))));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), rows.columns().to_vec(), &options).map_err(columns)?;
        let avro = |source| EncodeError::Avro { what, entity: entity.to_owned(), source };
        self.encoder.encode(&rows).map_err(avro)?;
        Ok(self.encoder.flush())
    }
}

fn slice(rows: &EncodedRows, row: usize) -> &[u8] {
    match (rows.offsets().get(row), rows.offsets().get(row + 1)) {
        (Some(start), Some(end)) => rows.bytes().get(*start..*end).unwrap_or_default(),
        _ => &[],
    }
}

/// Puts the envelopes of a batch together.
struct Assembly<'a> {
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
    fn new(
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

    fn put(&mut self, row: usize, refused: &Refused) {
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

    fn finish(self, mut refused: Refused) -> Encoded {
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
