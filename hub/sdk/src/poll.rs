//! Sources that are looked at again and again: the place of a look in time, and the batches that it tells.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_model::{ChangeBatch, Checkpoint, Op, Origin, RowFault, SnapshotMark, StreamName};
use serde_json::Value;

use crate::split_key;

/// Numbers the looks at a source: microseconds since 1970, but always more than the one before, whatever the clock does.
#[derive(Clone, Debug)]
pub struct Looks {
    partition: String,
    last: u64,
}

impl Looks {
    /// Goes on after the last look that a checkpoint knows of.
    #[must_use]
    pub fn restore(from: &Checkpoint, stream: &StreamName) -> Self {
        let partition = format!("look/{stream}");
        let last = from.get(&partition).and_then(Value::as_u64).unwrap_or(0);
        Self { partition, last }
    }

    /// Whether there was no look yet: what is found now is a first snapshot.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.last == 0
    }

    /// Begins a look.
    pub fn begin(&mut self) -> Look {
        self.last = u64::try_from(now_micros()).unwrap_or(0).max(self.last + 1);
        Look { at: self.last, ordinal: 0 }
    }

    /// Writes the last look into the checkpoint of a delivery that it made.
    pub fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.set(self.partition.clone(), Value::from(self.last));
    }
}

/// One look at a source. Its rows are ordered by their ordinals.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When, in microseconds since 1970; also the commit position of its rows.
    pub at: u64,
    ordinal: u64,
}

impl Look {
    /// Rows that this look found as batches of reads and of changes, in order; faults are by their place among `rows`.
    pub fn batches(
        &mut self,
        stream: &StreamName,
        rows: &RecordBatch,
        ops: &[Op],
        faults: &[RowFault],
        full_images: bool,
    ) -> Vec<ChangeBatch> {
        let (mut batches, mut from) = (Vec::new(), 0);
        while from < ops.len() {
            let is_read = ops[from] == Op::Read;
            let count = ops[from..].iter().take_while(|op| (**op == Op::Read) == is_read).count();
            let mut batch = self.batch(stream, ops[from..from + count].to_vec(), rows.slice(from, count), full_images);
            let inside = |fault: &&RowFault| (from..from + count).contains(&(fault.row as usize));
            let first = u32::try_from(from).unwrap_or(0);
            batch.faults = faults.iter().filter(inside).map(|fault| RowFault { row: fault.row - first, ..fault.clone() }).collect();
            batches.push(batch);
            from += count;
        }
        batches
    }

    /// A batch of rows that this look found, in order after those of its batches before.
    pub fn batch(&mut self, stream: &StreamName, ops: Vec<Op>, rows: RecordBatch, full_images: bool) -> ChangeBatch {
        let mut origin = Origin::with_capacity(ops.len());
        let micros = i64::try_from(self.at).unwrap_or(i64::MAX);
        for _ in &ops {
            origin.push(micros, self.at, self.at, self.ordinal, 0);
            self.ordinal += 1;
        }
        let snapshot = if ops.first() == Some(&Op::Read) { SnapshotMark::Initial } else { SnapshotMark::No };
        ChangeBatch {
            stream: stream.clone(),
            ops,
            rows,
            old: None,
            full_images,
            origin,
            key_changes: Vec::new(),
            faults: Vec::new(),
            snapshot,
        }
    }
}

/// Rows that have nothing but their keys, as deletes tell them. `keys` are of [`crate::join_key`], their parts in the order of
/// `identity`, which are places of columns.
///
/// # Errors
/// A part that is not of its column's type: the checkpoint is of another shape of the stream.
pub fn key_rows(schema: &SchemaRef, identity: &[usize], keys: &[Box<str>]) -> Result<RecordBatch, ArrowError> {
    let parts: Vec<Vec<String>> = keys.iter().map(|key| split_key(key)).collect();
    let column = |(place, field): (usize, &Arc<arrow::datatypes::Field>)| -> Result<ArrayRef, ArrowError> {
        let Some(part) = identity.iter().position(|column| *column == place) else {
            return Ok(new_null_array(field.data_type(), keys.len()));
        };
        let texts: StringArray = parts.iter().map(|parts| parts.get(part).map(String::as_str)).collect();
        cast(&texts, field.data_type())
    };
    let columns = schema.fields().iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &RecordBatchOptions::new().with_row_count(Some(keys.len())))
}

/// Microseconds since 1970-01-01 UTC.
#[must_use]
pub fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    #[test]
    fn a_look_is_later_than_the_one_before_though_the_clock_went_back() {
        let stream = StreamName::new("a").unwrap();
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set("look/a", Value::from(u64::MAX / 2));
        let mut looks = Looks::restore(&checkpoint, &stream);
        assert!(!looks.is_first());
        assert_eq!(looks.begin().at, u64::MAX / 2 + 1);
        looks.save(&mut checkpoint);
        assert_eq!(Looks::restore(&checkpoint, &stream).begin().at, u64::MAX / 2 + 2);
    }

    #[test]
    fn deletes_carry_typed_keys_and_nothing_else() {
        let field = |name: &str, kind| Field::new(name, kind, true);
        let schema = Arc::new(Schema::new(vec![field("a", DataType::Int64), field("x", DataType::Utf8), field("b", DataType::Utf8)]));
        let rows = key_rows(&schema, &[0, 2], &[crate::join_key(&["7", "hai"]).into()]).unwrap();
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 7);
        assert!(rows.column(1).is_null(0));
        assert_eq!(rows.column(2).as_string::<i32>().value(0), "hai");
    }
}
