//! Keys that the stream of changes has touched while a stream's present rows are being read.

use std::collections::HashSet;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use hub_sdk::model::{RowFault, fingerprint};

/// 128-bit hashes of keys. Two different keys share one with a chance of 2⁻⁶⁴ even among four billion.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    keys: HashSet<u128>,
}

impl Touched {
    /// Adds the keys of every row of a batch.
    ///
    /// # Errors
    /// A key column of a type that has no order: a defect.
    pub(crate) fn add(&mut self, rows: &RecordBatch, key: &[usize]) -> Result<(), ArrowError> {
        self.keys.extend(key_hashes(rows, key)?);
        Ok(())
    }

    /// Keeps the rows whose key is not touched.
    ///
    /// # Errors
    /// As [`Touched::add`].
    pub(crate) fn untouched(
        &self,
        rows: &RecordBatch,
        faults: Vec<RowFault>,
        key: &[usize],
    ) -> Result<(RecordBatch, Vec<RowFault>), ArrowError> {
        if self.keys.is_empty() {
            return Ok((rows.clone(), faults));
        }
        let keep: Vec<bool> = key_hashes(rows, key)?.iter().map(|hash| !self.keys.contains(hash)).collect();
        if keep.iter().all(|keep| *keep) {
            return Ok((rows.clone(), faults));
        }
        let faults = faults
            .into_iter()
            .filter(|fault| keep.get(fault.row as usize).copied().unwrap_or(false))
            .map(|fault| {
                let before = keep[..fault.row as usize].iter().filter(|keep| **keep).count();
                RowFault { row: u32::try_from(before).unwrap_or(u32::MAX), ..fault }
            })
            .collect();
        Ok((filter_record_batch(rows, &BooleanArray::from(keep))?, faults))
    }
}

/// A hash per row of the key's columns; of all columns for a table without a key.
///
/// # Errors
/// A column of a type that has no order: a defect.
pub(crate) fn key_hashes(rows: &RecordBatch, key: &[usize]) -> Result<Vec<u128>, ArrowError> {
    let columns: Vec<ArrayRef> =
        if key.is_empty() { rows.columns().to_vec() } else { key.iter().filter_map(|place| rows.columns().get(*place)).cloned().collect() };
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let encoded = converter.convert_columns(&columns)?;
    Ok(encoded.iter().map(|row| fingerprint(row.as_ref())).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop at once")]

    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn batch(ids: &[i64], names: &[&str]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap()
    }

    #[test]
    fn rows_whose_key_was_touched_are_left_out_and_faults_move_with_their_rows() {
        let mut touched = Touched::default();
        touched.add(&batch(&[2, 9], &["x", "y"]), &[0]).unwrap();
        let fault = |row| RowFault { row, column: None, code: "undecodable", message: String::new() };
        let (rows, faults) = touched.untouched(&batch(&[1, 2, 3], &["a", "b", "c"]), vec![fault(1), fault(2)], &[0]).unwrap();
        assert_eq!(rows, batch(&[1, 3], &["a", "c"]));
        assert_eq!(faults, [fault(1)]);
    }
}
