//! The rejects topic's record: a row that its mapping or schema refused, whole, with the reason, so that it can be mended and replayed.

mod raw;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use arrow::error::ArrowError;
use bytes::Bytes;
use hub_model::{Block, ChangeBatch, Op, Rows};
use serde::{Deserialize, Serialize};

use crate::avro::{ABSENT, FRAME, PRESENT, frame, put_bytes, put_long};

use raw::RawRows;
pub use raw::raw_rows;

/// Avro schema of the record. Fields are only ever added at the end, with defaults.
pub const SCHEMA: &str = r#"{"type":"record","name":"Reject","namespace":"vn.hub","doc":"A source row that could not be published, with its reason.","fields":[
{"name":"system","type":"string"},{"name":"stream","type":"string"},{"name":"entity","type":"string"},{"name":"op","type":"string"},
{"name":"commit_position","type":"long"},{"name":"position","type":"long"},{"name":"ordinal","type":"long"},{"name":"transaction","type":"long"},
{"name":"field","type":["null","string"],"default":null},{"name":"reason","type":"string"},{"name":"message","type":"string"},
{"name":"raw","type":"string","doc":"The source row as JSON, exact: decimals and dates are strings, bytes hexadecimal."},
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

/// Why rejects cannot be written, or one cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum RejectError {
    /// The bytes do not begin as a framed record does.
    #[error("reading a record of the rejects topic: its {bytes} bytes do not begin with Confluent framing")]
    Frame {
        /// Length of the value.
        bytes: usize,
    },
    /// The bytes are no reject record.
    #[error("reading a record of the rejects topic")]
    Avro(#[source] Box<apache_avro::Error>),
    /// The raw row does not fit the stream's present columns.
    #[error("reading column {column:?} of a reject's raw row: it no longer fits the stream's columns")]
    Raw {
        /// The column.
        column: String,
        /// Arrow's reason.
        source: ArrowError,
    },
    /// The raw row is no JSON object.
    #[error("reading the raw row of a reject as JSON")]
    Json(#[source] serde_json::Error),
    /// The raw row was cut when it was rejected.
    #[error(
        "the raw row of a reject was cut, since it was larger than its topic takes: mend the row at its source instead of replaying it"
    )]
    Cut,
    /// The rows of a batch cannot be written as text.
    #[error("writing column {column:?} of rejected rows as JSON")]
    Write {
        /// The column.
        column: String,
        /// Arrow's reason.
        source: ArrowError,
    },
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

    /// The raw row; where it is larger than the topic takes, each long value is cut and the row says so.
    fn fitting(&self, raw: &RawRows<'_>, row: usize) -> String {
        let whole = raw.json(row);
        let limit = self.max_record_bytes.saturating_sub(ROOM);
        if whole.len() <= limit { whole } else { raw.cut(row, limit) }
    }

    fn put(&self, out: &mut Vec<u8>, batch: &ChangeBatch, reject: &RejectRow, raw: &str, context: &RejectContext, now_micros: i64) {
        let (row, origin) = (reject.row as usize, &batch.origin);
        out.extend_from_slice(&frame(self.schema_id));
        let op = batch.ops.get(row).copied().unwrap_or(Op::Read).letter();
        for text in [context.system.as_str(), batch.stream.as_str(), context.entity.as_str(), op] {
            put_bytes(out, text.as_bytes());
        }
        for column in [&origin.commit_position, &origin.position, &origin.ordinal, &origin.transaction] {
            put_long(out, i64::try_from(at(column, row)).unwrap_or(i64::MAX));
        }
        match &reject.field {
            Some(field) => {
                out.push(PRESENT);
                put_bytes(out, field.as_bytes());
            }
            None => out.push(ABSENT),
        }
        for text in [reject.code, &reject.message, raw, &context.mapping_version] {
            put_bytes(out, text.as_bytes());
        }
        put_long(out, origin.commit_micros.get(row).copied().unwrap_or_default());
        put_long(out, now_micros);
    }
}

fn at(column: &[u64], row: usize) -> u64 {
    column.get(row).copied().unwrap_or_default()
}

/// Reads a reject back from a record's value, framing included.
///
/// # Errors
/// [`RejectError::Frame`] or [`RejectError::Avro`] when the bytes are something else.
pub fn parse(value: &[u8]) -> Result<Reject, RejectError> {
    let avro = |error| RejectError::Avro(Box::new(error));
    let (0, Some(mut body)) = (value.first().copied().unwrap_or(1), value.get(FRAME..)) else {
        return Err(RejectError::Frame { bytes: value.len() });
    };
    let datum = apache_avro::from_avro_datum(schema()?, &mut body, None).map_err(avro)?;
    apache_avro::from_value(&datum).map_err(avro)
}

/// [`SCHEMA`], parsed once.
fn schema() -> Result<&'static apache_avro::Schema, RejectError> {
    static PARSED: OnceLock<apache_avro::Schema> = OnceLock::new();
    if let Some(schema) = PARSED.get() {
        return Ok(schema);
    }
    let schema = apache_avro::Schema::parse_str(SCHEMA).map_err(|error| RejectError::Avro(Box::new(error)))?;
    Ok(PARSED.get_or_init(|| schema))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
    use hub_model::{Origin, SnapshotMark, StreamName};

    use super::*;

    fn batch() -> ChangeBatch {
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from(vec![7, 8]))),
            ("tên", Arc::new(StringArray::from(vec![Some("Nguyễn \"A\""), None]))),
            ("tệp", Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), None]))),
        ];
        let mut origin = Origin::default();
        origin.push(1, 2, 3, 4, 5);
        origin.push(1, 2, 3, 5, 5);
        ChangeBatch {
            stream: StreamName::new("public.x").unwrap(),
            ops: vec![Op::Create, Op::Update],
            rows: RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap(),
            old: None,
            full_images: false,
            origin,
            key_changes: Vec::new(),
            faults: Vec::new(),
            snapshot: SnapshotMark::No,
        }
    }

    fn reject(row: u32, field: Option<&str>) -> RejectRow {
        RejectRow { row, field: field.map(Into::into), code: "bad-date", message: "no such day".into() }
    }

    #[test]
    fn a_reject_is_read_back_with_its_whole_row() {
        let batch = batch();
        let encoder = RejectEncoder::new(&"t".into(), 9, 1 << 20);
        let context = RejectContext::new("mot-cua", "x.Y", "v1");
        let block = encoder.encode(&batch, &[reject(0, Some("born")), reject(1, None)], &context, 77).unwrap();
        let keys = block.keys.as_ref().unwrap();
        assert_eq!((keys.row(0), keys.row(1)), (&b"public.x/2/4"[..], &b"public.x/2/5"[..]));
        let second = parse(block.values.row(1)).unwrap();
        let expected = Reject {
            system: "mot-cua".into(),
            stream: "public.x".into(),
            entity: "x.Y".into(),
            op: "c".into(),
            commit_position: 2,
            position: 3,
            ordinal: 4,
            transaction: 5,
            field: Some("born".into()),
            reason: "bad-date".into(),
            message: "no such day".into(),
            raw: r#"{"id":7,"tên":"Nguyễn \"A\"","tệp":"00ff"}"#.into(),
            mapping_version: "v1".into(),
            source_ts_us: 1,
            rejected_ts_us: 77,
        };
        let first = parse(block.values.row(0)).unwrap();
        assert_eq!(first, expected);
        assert_eq!((second.field, second.op.as_str()), (None, "u"));
        assert_eq!(raw_rows(&[&first.raw, &second.raw], &batch.rows.schema()).unwrap(), batch.rows);
    }

    #[test]
    fn a_row_too_large_for_the_topic_is_cut_says_so_and_is_not_replayed() {
        let mut batch = batch();
        let long = "ă".repeat(100_000);
        let columns: [(&str, ArrayRef); 2] =
            [("id", Arc::new(Int64Array::from(vec![7, 8]))), ("tên", Arc::new(StringArray::from(vec![long.as_str(), "ngắn"])))];
        batch.rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
        let encoder = RejectEncoder::new(&"t".into(), 9, 20_000);
        let context = RejectContext::new("mot-cua", "x.Y", "v1");
        let block = encoder.encode(&batch, &[reject(0, None), reject(1, None)], &context, 77).unwrap();
        assert!(block.values.row(0).len() < 20_000);
        let (cut, whole) = (parse(block.values.row(0)).unwrap(), parse(block.values.row(1)).unwrap());
        assert!(cut.raw.starts_with(r#"{"hub.cut":true,"id":7,"tên":"ăă"#));
        assert!(matches!(raw_rows(&[&cut.raw], &batch.rows.schema()), Err(RejectError::Cut)));
        assert!(raw_rows(&[&whole.raw], &batch.rows.schema()).is_ok());
    }

    #[test]
    fn bytes_that_are_no_reject_are_told_from_it() {
        assert!(matches!(parse(b"{}"), Err(RejectError::Frame { bytes: 2 })));
        assert!(matches!(parse(&[0, 0, 0, 0, 9, 1]), Err(RejectError::Avro(_))));
    }
}
