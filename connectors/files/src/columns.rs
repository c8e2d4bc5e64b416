//! Text columns that are filled cell by cell and checked as a whole: no allocation and no decoding for a single cell.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBufferBuilder, RecordBatchOptions, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::model::SOURCE_TYPE;
use hub_sdk::records::TEXT;
use memchr::memmem;

use crate::row::Cells;

/// What a decoder writes for bytes that are not in the encoding.
const REPLACED: &str = "\u{fffd}";

/// The columns of a stream so far and the rows that wait. A column that appears later is null in the rows before; once there,
/// it stays in every later batch.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    names: Vec<String>,
    places: HashMap<String, usize>,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Column {
    text: Vec<u8>,
    /// Where each value ends.
    ends: Vec<i32>,
    /// Rows without a value, in order.
    nulls: Vec<u32>,
}

/// A cell that could not be decoded. It is null in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadCell {
    /// Row of the batch.
    pub(crate) row: u32,
    /// Place of its column.
    pub(crate) column: usize,
}

impl Columns {
    /// With columns that are there from the start, whether any row has them or not: those that a mapping reads.
    pub(crate) fn new(names: &[String]) -> Self {
        let mut columns = Self::default();
        names.iter().for_each(|name| _ = columns.column(name));
        columns
    }

    /// Place of a column, which is made where it is new.
    pub(crate) fn column(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let mut column = Column::default();
        (0..self.rows).for_each(|row| column.null(row));
        self.columns.push(column);
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// Name of a column.
    pub(crate) fn name(&self, place: usize) -> Option<&str> {
        self.names.get(place).map(String::as_str)
    }

    /// Adds a row: cells that have a place go there, the others are left out, and columns without a cell are null.
    pub(crate) fn push(&mut self, places: &[usize], cells: Cells<'_>) {
        for (cell, place) in places.iter().enumerate().take(cells.len()) {
            let Some(column) = self.columns.get_mut(*place).filter(|column| column.ends.len() == self.rows) else { continue };
            match cells.raw(cell) {
                Some(value) => {
                    self.bytes += value.len();
                    column.value(value);
                }
                None => column.null(self.rows),
            }
        }
        if places.len() < self.columns.len() || cells.len() < places.len() {
            let rows = self.rows;
            self.columns.iter_mut().filter(|column| column.ends.len() == rows).for_each(|column| column.null(rows));
        }
        self.rows += 1;
    }

    /// Bytes of the text that waits.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The columns so far, all nullable text.
    pub(crate) fn schema(&self) -> SchemaRef {
        let field = |name: &String| {
            let metadata = HashMap::from([(SOURCE_TYPE.to_owned(), TEXT.to_owned())]);
            Field::new(name, DataType::Utf8, true).with_metadata(metadata)
        };
        Arc::new(Schema::new(self.names.iter().map(field).collect::<Vec<_>>()))
    }

    /// The rows so far, and begins anew with the same columns. With `is_decoded` the text came out of a decoder, and what this
    /// could not read is told as undecodable.
    ///
    /// # Errors
    /// Where Arrow refuses the columns: a defect.
    pub(crate) fn finish(&mut self, is_decoded: bool) -> Result<(RecordBatch, Vec<BadCell>), ArrowError> {
        let (rows, mut bad) = (std::mem::take(&mut self.rows), Vec::new());
        self.bytes = 0;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (place, column) in self.columns.iter_mut().enumerate() {
            columns.push(Arc::new(column.finish(rows, is_decoded, |row| bad.push(BadCell { row, column: place }))?));
        }
        bad.sort_by_key(|cell| (cell.row, cell.column));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok((RecordBatch::try_new_with_options(self.schema(), columns, &options)?, bad))
    }
}

impl Column {
    fn value(&mut self, value: &[u8]) {
        self.text.extend_from_slice(value);
        // A batch is far below 2 GiB; an end that does not fit is refused by Arrow.
        self.ends.push(i32::try_from(self.text.len()).unwrap_or(i32::MAX));
    }

    fn null(&mut self, row: usize) {
        self.nulls.push(u32::try_from(row).unwrap_or(u32::MAX));
        self.ends.push(self.ends.last().copied().unwrap_or(0));
    }

    fn finish(&mut self, rows: usize, is_decoded: bool, mut blame: impl FnMut(u32)) -> Result<StringArray, ArrowError> {
        let (text, ends, mut nulls) = self.take();
        let is_suspect = is_decoded && memmem::find(&text, REPLACED.as_bytes()).is_some();
        let text = Buffer::from_vec(text);
        if !is_suspect && let Ok(array) = array(rows, text.clone(), &ends, &nulls) {
            return Ok(array);
        }
        // Some cell cannot be decoded: only now is each looked at.
        let (mut kept, mut start) = (Vec::with_capacity(text.len()), 0);
        let mut kept_ends = Vec::with_capacity(ends.len());
        for (row, end) in ends.iter().enumerate() {
            let end = usize::try_from(*end).unwrap_or(start);
            let value = text.get(start..end).unwrap_or_default();
            let is_bad = std::str::from_utf8(value).map_or(true, |value| is_decoded && value.contains(REPLACED));
            if is_bad {
                let row = u32::try_from(row).unwrap_or(u32::MAX);
                blame(row);
                nulls.push(row);
            } else {
                kept.extend_from_slice(value);
            }
            kept_ends.push(i32::try_from(kept.len()).unwrap_or(i32::MAX));
            start = end;
        }
        array(rows, Buffer::from_vec(kept), &kept_ends, &nulls)
    }

    /// What it holds; the next batch is of about the same size.
    fn take(&mut self) -> (Vec<u8>, Vec<i32>, Vec<u32>) {
        let (text, ends) = (Vec::with_capacity(self.text.len()), Vec::with_capacity(self.ends.len()));
        (std::mem::replace(&mut self.text, text), std::mem::replace(&mut self.ends, ends), std::mem::take(&mut self.nulls))
    }
}

fn array(rows: usize, text: Buffer, ends: &[i32], nulls: &[u32]) -> Result<StringArray, ArrowError> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    offsets.extend_from_slice(ends);
    let validity = (!nulls.is_empty()).then(|| {
        let mut valid = BooleanBufferBuilder::new(rows);
        valid.append_n(rows, true);
        nulls.iter().for_each(|row| valid.set_bit(*row as usize, false));
        NullBuffer::new(valid.finish())
    });
    StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), text, validity)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::row::Row;

    fn push(columns: &mut Columns, places: &[usize], cells: &[Option<&[u8]>]) {
        let mut row = Row::default();
        for cell in cells {
            row.push(cell.unwrap_or_default());
            row.end_cell(cell.is_none());
        }
        columns.push(places, row.own());
    }

    fn texts(batch: &RecordBatch, column: usize) -> Vec<Option<&str>> {
        batch.column(column).as_string::<i32>().iter().collect()
    }

    #[test]
    fn columns_grow_and_stay_and_a_mapped_column_is_there_though_no_row_has_it() {
        let mut columns = Columns::new(&["mapped".to_owned()]);
        let a = columns.column("a");
        push(&mut columns, &[a], &[Some(b"1")]);
        let b = columns.column("b");
        push(&mut columns, &[b, a], &[Some(b""), None]);
        let (first, bad) = columns.finish(false).unwrap();
        assert!(bad.is_empty());
        assert_eq!((texts(&first, 0), texts(&first, 1), texts(&first, 2)), (vec![None; 2], vec![Some("1"), None], vec![None, Some("")]));
        push(&mut columns, &[], &[]);
        let (second, _) = columns.finish(false).unwrap();
        assert_eq!((second.num_rows(), second.schema(), second.column(1).null_count()), (1, first.schema(), 1));
    }

    #[test]
    fn of_cells_that_cannot_be_decoded_only_those_are_lost() {
        let mut columns = Columns::default();
        let a = columns.column("a");
        // Half a letter at the end of one value and half at the beginning of the next are not one letter.
        for value in [b"An".as_slice(), b"\xe1\xba", b"\xa5", "Bình".as_bytes()] {
            push(&mut columns, &[a], &[Some(value)]);
        }
        let (batch, bad) = columns.finish(false).unwrap();
        assert_eq!(texts(&batch, 0), [Some("An"), None, None, Some("Bình")]);
        assert_eq!(bad, [BadCell { row: 1, column: 0 }, BadCell { row: 2, column: 0 }]);
        push(&mut columns, &[a], &[Some("a\u{fffd}".as_bytes())]);
        push(&mut columns, &[a], &[Some(b"b")]);
        let (batch, bad) = columns.finish(true).unwrap();
        assert_eq!((texts(&batch, 0), bad), (vec![None, Some("b")], vec![BadCell { row: 0, column: 0 }]));
    }
}
