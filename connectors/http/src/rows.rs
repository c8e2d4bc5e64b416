//! Rows on their way into batches of text columns.

use arrow::error::ArrowError;
use hub_sdk::model::{ChangeBatch, Op, RowFault, StreamName};
use hub_sdk::records::{Fields, TextRows};
use hub_sdk::{BatchLimits, Digest, Look, join_key, split_key};

/// Rows that wait to be handed over.
pub(crate) struct Telling {
    text: TextRows,
    key: Vec<String>,
    ops: Vec<Op>,
    faults: Vec<RowFault>,
}

/// Why a row is not told whole.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) column: Option<String>,
    pub(crate) message: String,
}

impl Telling {
    /// With the columns of the key, and those that a mapping reads.
    pub(crate) fn new(key: &[String], columns: &[String]) -> Self {
        let columns: Vec<String> = key.iter().chain(columns).cloned().collect();
        Self { text: TextRows::new(&columns), key: key.to_vec(), ops: Vec::new(), faults: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn tell(&mut self, op: Op, fields: &Fields, fault: Option<Fault>) {
        if let Some(Fault { code, column, message }) = fault {
            let row = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
            self.faults.push(RowFault { row, column: column.map(Into::into), code, message });
        }
        self.text.push(fields.iter().map(|(name, value)| (name.as_str(), value.as_deref())));
        self.ops.push(op);
    }

    /// Adds the delete of a row, which has nothing but its key.
    pub(crate) fn delete(&mut self, key: &str) {
        let fields = self.key.iter().cloned().zip(split_key(key).into_iter().map(Some)).collect();
        self.tell(Op::Delete, &fields, None);
    }

    /// Whether they are enough for a batch.
    pub(crate) fn is_full(&self, limits: BatchLimits) -> bool {
        self.ops.len() >= limits.rows.max(1) || self.text.bytes() >= limits.bytes
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The columns so far.
    pub(crate) fn schema(&self) -> std::sync::Arc<arrow::datatypes::Schema> {
        self.text.schema()
    }

    /// The rows that wait as batches of reads and of changes, in order.
    pub(crate) fn batches(&mut self, stream: &StreamName, look: &mut Look) -> Result<Vec<ChangeBatch>, ArrowError> {
        let rows = self.text.finish()?;
        let (ops, faults) = (std::mem::take(&mut self.ops), std::mem::take(&mut self.faults));
        Ok(look.batches(stream, &rows, &ops, &faults, false))
    }
}

/// The key of a row; the column that has no value where there is none.
pub(crate) fn key_of<'a>(fields: &Fields, key: &'a [String]) -> Result<String, &'a str> {
    let part = |column: &'a String| {
        let value = fields.iter().find(|(name, _)| name == column).and_then(|(_, value)| value.as_deref());
        value.filter(|value| !value.is_empty()).ok_or(column.as_str())
    };
    Ok(join_key(&key.iter().map(part).collect::<Result<Vec<_>, _>>()?))
}

/// A digest that depends neither on the order of the columns nor on those without a value.
pub(crate) fn digest_of(fields: &Fields) -> u64 {
    let value = |(name, value): &(String, Option<String>)| {
        let mut digest = Digest::default();
        digest.value(Some(name.as_bytes()));
        digest.value(Some(value.as_deref()?.as_bytes()));
        Some(digest.finish())
    };
    fields.iter().filter_map(value).fold(0, u64::wrapping_add)
}

/// A digest of all rows of a page, in their order.
pub(crate) fn page_digest(rows: &[Fields]) -> u64 {
    let mut digest = Digest::default();
    for row in rows {
        digest.value(Some(&digest_of(row).to_le_bytes()));
    }
    digest.finish()
}
