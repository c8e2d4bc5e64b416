//! The rejects topic's record: a row that its mapping or schema refused, whole, with the reason, so that it can be mended and replayed.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use hub_model::{Block, ChangeBatch, Op, Rows};
use serde::{Deserialize, Serialize};

/// Avro schema of the record. Fields are only ever added at the end, with defaults.
pub const SCHEMA: &str = r#"{"type":"record","name":"Reject","namespace":"vn.hub","doc":"A source row that could not be published, with its reason.","fields":[
{"name":"system","type":"string"},{"name":"stream","type":"string"},{"name":"entity","type":"string"},{"name":"op","type":"string"},
{"name":"commit_position","type":"long"},{"name":"position","type":"long"},{"name":"ordinal","type":"long"},{"name":"transaction","type":"long"},
{"name":"field","type":["null","string"],"default":null},{"name":"reason","type":"string"},{"name":"message","type":"string"},
{"name":"raw","type":"string","doc":"The source row as JSON: every value as text in Arrow's form, null where it is null."},
{"name":"mapping_version","type":"string"},{"name":"source_ts_us","type":"long"},{"name":"rejected_ts_us","type":"long"}]}"#;

/// What is the same for all rejects of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectContext {
    system: String,
    entity: String,
    mapping_version: String,
}

impl RejectContext {
    /// The context of a stream under one mapping version; empty while none could be planned.
    #[must_use]
    pub fn new(system: &str, entity: &str, mapping_version: &str) -> Self {
        Self { system: system.to_owned(), entity: entity.to_owned(), mapping_version: mapping_version.to_owned() }
    }
}

/// One refused row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectRow {
    /// Row of the batch.
    pub row: u32,
    /// Canonical field or source column, where one is to blame.
    pub field: Option<Arc<str>>,
    /// Stable reason code.
    pub code: &'static str,
    /// What is wrong, without the value.
    pub message: Cow<'static, str>,
}

/// A reject as it was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// System.
    pub system: String,
    /// Stream.
    pub stream: String,
    /// Canonical entity.
    pub entity: String,
    /// What happened to the row, an [`Op`] letter.
    pub op: String,
    /// Position of the commit.
    pub commit_position: i64,
    /// Position of the row.
    pub position: i64,
    /// Place in the transaction.
    pub ordinal: i64,
    /// The source's transaction number.
    pub transaction: i64,
    /// Field to blame.
    pub field: Option<String>,
    /// Reason code.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// The source row as JSON.
    pub raw: String,
    /// Version of the mapping that refused it.
    pub mapping_version: String,
    /// Commit time at the source, microseconds since 1970.
    pub source_ts_us: i64,
    /// When it was rejected, microseconds since 1970.
    pub rejected_ts_us: i64,
}

/// Why a reject cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum RejectError {
    /// The bytes are no reject record.
    #[error("reading a record of the rejects topic")]
    Avro(#[source] Box<apache_avro::Error>),
    /// The raw row is not one of the stream's present columns.
    #[error("reading the raw row of a reject against the stream's columns")]
    Raw(#[source] ArrowError),
    /// The raw row is no JSON object.
    #[error("reading the raw row of a reject as JSON")]
    Json(#[source] serde_json::Error),
    /// The rows of a batch cannot be written as text.
    #[error("writing the raw rows of rejects")]
    Write(#[source] ArrowError),
}

/// Encodes rejects for one topic.
#[derive(Debug)]
pub struct RejectEncoder {
    topic: Arc<str>,
    schema_id: u32,
    max_record_bytes: usize,
}

/// Room for everything but the raw row.
const ROOM: usize = 4096;

impl RejectEncoder {
    /// For `topic`, whose value schema is registered as `schema_id` and which takes records of at most so many bytes.
    #[must_use]
    pub fn new(topic: &Arc<str>, schema_id: u32, max_record_bytes: usize) -> Self {
        Self { topic: Arc::clone(topic), schema_id, max_record_bytes }
    }

    /// One record per refused row of the batch.
    ///
    /// # Errors
    /// [`RejectError::Write`] when a column has no text form.
    pub fn encode(
        &self,
        batch: &ChangeBatch,
        rejects: &[RejectRow],
        context: &RejectContext,
        now_micros: i64,
    ) -> Result<Block, RejectError> {
        let raw = RawRows::new(&batch.rows)?;
        let (mut values, mut value_ends) = (Vec::with_capacity(rejects.len() * 512), vec![0]);
        let (mut keys, mut key_ends) = (Vec::with_capacity(rejects.len() * 48), vec![0]);
        for reject in rejects {
            let row = reject.row as usize;
            self.put(&mut values, batch, reject, &self.fitting(&raw, row), context, now_micros);
            value_ends.push(values.len());
            let origin = &batch.origin;
            let key = format!("{}/{}/{}", batch.stream, at(&origin.commit_position, row), at(&origin.ordinal, row));
            keys.extend_from_slice(key.as_bytes());
            key_ends.push(keys.len());
        }
        Ok(Block {
            topic: Arc::clone(&self.topic),
            keys: Some(Rows::new(Bytes::from(keys), key_ends)),
            values: Rows::new(Bytes::from(values), value_ends),
            timestamps: vec![now_micros.div_euclid(1000); rejects.len()],
            tombstones: Vec::new(),
            headers: Vec::new(),
        })
    }

    /// The raw row; where it is larger than the topic takes, each long value is cut and says so.
    fn fitting(&self, raw: &RawRows<'_>, row: usize) -> String {
        let whole = raw.json(row, usize::MAX);
        let limit = self.max_record_bytes.saturating_sub(ROOM);
        if whole.len() <= limit { whole } else { raw.json(row, limit / (raw.columns.len().max(1) * 6)) }
    }

    fn put(&self, out: &mut Vec<u8>, batch: &ChangeBatch, reject: &RejectRow, raw: &str, context: &RejectContext, now_micros: i64) {
        let (row, origin) = (reject.row as usize, &batch.origin);
        out.push(0);
        out.extend_from_slice(&self.schema_id.to_be_bytes());
        text(out, &context.system);
        text(out, batch.stream.as_str());
        text(out, &context.entity);
        text(out, batch.ops.get(row).copied().unwrap_or(Op::Read).letter());
        for column in [&origin.commit_position, &origin.position, &origin.ordinal, &origin.transaction] {
            long(out, i64::try_from(at(column, row)).unwrap_or(i64::MAX));
        }
        match &reject.field {
            Some(field) => {
                long(out, 1);
                text(out, field);
            }
            None => long(out, 0),
        }
        text(out, reject.code);
        text(out, &reject.message);
        text(out, raw);
        text(out, &context.mapping_version);
        long(out, origin.commit_micros.get(row).copied().unwrap_or_default());
        long(out, now_micros);
    }
}

fn at(column: &[u64], row: usize) -> u64 {
    column.get(row).copied().unwrap_or_default()
}

fn text(out: &mut Vec<u8>, text: &str) {
    long(out, i64::try_from(text.len()).unwrap_or(i64::MAX));
    out.extend_from_slice(text.as_bytes());
}

/// Avro's zigzag variable-length integer.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

/// Rows of a batch as JSON objects of texts.
struct RawRows<'a> {
    columns: Vec<(String, ArrayFormatter<'a>)>,
    rows: &'a RecordBatch,
}

impl<'a> RawRows<'a> {
    fn new(rows: &'a RecordBatch) -> Result<Self, RejectError> {
        let options = FormatOptions::new().with_display_error(false);
        let mut columns = Vec::with_capacity(rows.num_columns());
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            columns.push((field.name().clone(), ArrayFormatter::try_new(column.as_ref(), &options).map_err(RejectError::Write)?));
        }
        Ok(Self { columns, rows })
    }

    fn json(&self, row: usize, longest: usize) -> String {
        let mut object = serde_json::Map::with_capacity(self.columns.len());
        for ((name, formatter), column) in self.columns.iter().zip(self.rows.columns()) {
            let value = if column.is_null(row) {
                serde_json::Value::Null
            } else {
                let mut value = String::new();
                // A value without a text form stays empty: the reason of the reject is still told.
                let _ = write!(value, "{}", formatter.value(row));
                if value.len() > longest {
                    let end = value.floor_char_boundary(longest);
                    value.truncate(end);
                    value.push_str(" …cut");
                }
                value.into()
            };
            object.insert(name.clone(), value);
        }
        serde_json::Value::Object(object).to_string()
    }
}

/// Reads a reject back from a record's value, framing included.
///
/// # Errors
/// [`RejectError::Avro`] when the bytes are something else.
pub fn parse(value: &[u8]) -> Result<Reject, RejectError> {
    let avro = |error| RejectError::Avro(Box::new(error));
    let schema = apache_avro::Schema::parse_str(SCHEMA).map_err(avro)?;
    let mut body = value.get(5..).unwrap_or_default();
    let datum = apache_avro::from_avro_datum(&schema, &mut body, None).map_err(avro)?;
    apache_avro::from_value(&datum).map_err(avro)
}

/// Raw rows as columns of a stream again, for a replay.
///
/// # Errors
/// [`RejectError::Json`] or [`RejectError::Raw`] when a row does not fit the columns.
pub fn raw_rows(raw: &[&str], schema: &SchemaRef) -> Result<RecordBatch, RejectError> {
    let mut objects = Vec::with_capacity(raw.len());
    for text in raw {
        objects.push(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).map_err(RejectError::Json)?);
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    for field in schema.fields() {
        let texts: arrow::array::StringArray =
            objects.iter().map(|object| object.get(field.name()).and_then(serde_json::Value::as_str)).collect();
        let column = if matches!(field.data_type(), arrow::datatypes::DataType::Binary) {
            std::sync::Arc::new(texts.iter().map(|text| text.and_then(unhex)).collect::<arrow::array::BinaryArray>()) as _
        } else {
            arrow::compute::cast_with_options(&texts, field.data_type(), &options).map_err(RejectError::Raw)?
        };
        columns.push(column);
    }
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(RejectError::Raw)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use arrow::array::{BinaryArray, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use hub_model::{Origin, SnapshotMark, StreamName};

    use super::*;

    fn batch() -> ChangeBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("tên", DataType::Utf8, true),
            Field::new("phi", DataType::Decimal128(14, 2), true),
            Field::new("lúc", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("tệp", DataType::Binary, true),
        ]));
        let rows = RecordBatch::try_new(
            schema,
            vec![
                Arc::new(Int64Array::from(vec![7, 8])),
                Arc::new(StringArray::from(vec![Some("Nguyễn \"A\""), None])),
                Arc::new(Decimal128Array::from(vec![-150, 1]).with_precision_and_scale(14, 2).unwrap()),
                Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_123_456, 0]).with_timezone("UTC")),
                Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), None])),
            ],
        )
        .unwrap();
        let mut origin = Origin::default();
        origin.push(1, 2, 3, 4, 5);
        origin.push(1, 2, 3, 5, 5);
        ChangeBatch {
            stream: StreamName::new("public.x").unwrap(),
            ops: vec![Op::Create, Op::Update],
            rows,
            old: None,
            full_images: false,
            origin,
            key_changes: Vec::new(),
            faults: Vec::new(),
            snapshot: SnapshotMark::No,
        }
    }

    #[test]
    fn a_reject_is_read_back_with_its_whole_row() {
        let batch = batch();
        let row = |row| RejectRow { row, field: Some("born".into()), code: "bad-date", message: "no such day".into() };
        let encoder = RejectEncoder::new(&"t".into(), 9, 1 << 20);
        let block = encoder.encode(&batch, &[row(0), row(1)], &RejectContext::new("mot-cua", "x.Y", "v1"), 77).unwrap();
        let first = parse(block.values.row(0)).unwrap();
        assert_eq!((first.reason.as_str(), first.field.as_deref(), first.op.as_str()), ("bad-date", Some("born"), "c"));
        assert_eq!((first.commit_position, first.position, first.ordinal, first.rejected_ts_us), (2, 3, 4, 77));
        let second = parse(block.values.row(1)).unwrap();
        let again = raw_rows(&[&first.raw, &second.raw], &batch.rows.schema()).unwrap();
        assert_eq!(again, batch.rows);
    }

    #[test]
    fn a_row_too_large_for_the_topic_is_cut_and_says_so() {
        let batch = batch();
        let raw = RawRows::new(&batch.rows).unwrap();
        assert!(raw.json(0, 3).contains("Ngu …cut"));
    }
}
