//! Turns PostgreSQL's cells straight into Arrow columns: one enum dispatch a cell, no allocation.

mod binary;
mod column;
mod numeric;
mod text;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::model::RowFault;

use crate::types::{ColumnType, schema_of};
use column::ColumnDecoder;

/// The form in which the server sends values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Each type's own binary form. A column without a binary decoder ([`crate::types::Kind::Opaque`]) comes as text
    /// here too: its snapshot selects `column::text`, whose binary form is the text.
    Binary,
    /// Text, under [`crate::config::SESSION_SETTINGS`].
    Text,
}

/// One value as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL null.
    Null,
    /// Its bytes in the decoder's [`Wire`] form.
    Bytes(&'a [u8]),
}

/// A TOASTed value that an update left unchanged and the server did not send; its cell is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unchanged {
    /// Row of the batch.
    pub row: usize,
    /// Column of the decoder.
    pub column: usize,
}

/// Why a cell cannot be represented; never the value itself.
pub(crate) type Refusal = &'static str;

/// The reason code of a cell that cannot be represented.
pub const UNDECODABLE: &str = "undecodable";

/// Arrow columns of one table, filled cell by cell. Push each column of a row once, in any order, then
/// [`TableDecoder::finish_row`].
#[derive(Debug)]
pub struct TableDecoder {
    schema: SchemaRef,
    columns: Vec<ColumnDecoder>,
    wire: Wire,
    rows: usize,
    bytes: usize,
    /// `bytes` at the start of the unfinished row.
    bytes_before_row: usize,
    /// Bytes that a row takes whatever it holds.
    fixed_bytes: usize,
    faults: Vec<RowFault>,
}

impl TableDecoder {
    /// An empty decoder for these columns.
    #[must_use]
    pub fn new(columns: &[ColumnType], wire: Wire) -> Self {
        let decoders: Vec<_> = columns.iter().map(ColumnDecoder::new).collect();
        Self {
            schema: schema_of(columns),
            fixed_bytes: decoders.iter().map(ColumnDecoder::fixed_bytes).sum(),
            columns: decoders,
            wire,
            rows: 0,
            bytes: 0,
            bytes_before_row: 0,
            faults: Vec::new(),
        }
    }

    /// The columns in Arrow.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds a cell to the unfinished row. One that cannot be represented becomes null, with a fault.
    #[inline]
    pub fn push(&mut self, column: usize, cell: Cell<'_>) {
        let Some(decoder) = self.columns.get_mut(column) else {
            debug_assert!(false, "column {column} of {}", self.schema.fields().len());
            return;
        };
        match cell {
            Cell::Null => decoder.push_null(),
            Cell::Bytes(bytes) => {
                self.bytes += bytes.len();
                if let Err(refusal) = decoder.push(self.wire, bytes) {
                    self.refuse(column, refusal);
                }
            }
        }
    }

    /// Adds null for a TOASTed value that was not sent, and says where it is.
    pub fn push_unchanged(&mut self, column: usize) -> Unchanged {
        self.push(column, Cell::Null);
        Unchanged { row: self.rows, column }
    }

    /// Adds a whole row of nulls (truncates; the old image of a row that has none) and finishes it.
    pub fn push_null_row(&mut self) {
        for decoder in &mut self.columns {
            decoder.push_null();
        }
        self.finish_row();
    }

    /// Ends the row.
    #[inline]
    pub fn finish_row(&mut self) {
        self.rows += 1;
        self.bytes += self.fixed_bytes;
        self.bytes_before_row = self.bytes;
    }

    /// Takes back the cells and faults of the unfinished row.
    pub fn undo_row(&mut self) {
        for decoder in &mut self.columns {
            decoder.truncate(self.rows);
        }
        self.bytes = self.bytes_before_row;
        let rows = self.rows;
        self.faults.retain(|fault| (fault.row as usize) < rows);
    }

    /// Finished rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// About how many bytes the rows hold, the unfinished one included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands over the finished rows and their faults, and begins anew with room for as many. An unfinished row is undone;
    /// a column that got too few cells is filled with nulls.
    ///
    /// # Errors
    /// Only where columns contradict the schema: a defect.
    pub fn finish(&mut self) -> Result<(RecordBatch, Vec<RowFault>), ArrowError> {
        self.undo_row();
        let rows = std::mem::take(&mut self.rows);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        let mut invalid = Vec::new();
        for (column, decoder) in self.columns.iter_mut().enumerate() {
            let (array, rows_refused) = decoder.finish(rows)?;
            arrays.push(array);
            invalid.extend(rows_refused.into_iter().map(|row| (column, row)));
        }
        for (column, row) in invalid {
            self.faults.push(self.fault(column, row, "text is not UTF-8"));
        }
        self.bytes = 0;
        self.bytes_before_row = 0;
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort_by_key(|fault| fault.row);
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok((batch, faults))
    }

    #[cold]
    fn refuse(&mut self, column: usize, refusal: Refusal) {
        if let Some(decoder) = self.columns.get_mut(column) {
            decoder.push_null();
        }
        self.faults.push(self.fault(column, self.rows, refusal));
    }

    fn fault(&self, column: usize, row: usize, refusal: Refusal) -> RowFault {
        let field = self.schema.field(column);
        let source_type = field.metadata().get(hub_sdk::model::SOURCE_TYPE).map_or("", String::as_str);
        RowFault {
            row: u32::try_from(row).unwrap_or(u32::MAX),
            column: Some(field.name().as_str().into()),
            code: UNDECODABLE,
            message: format!("column {} ({source_type}): {refusal}", field.name()),
        }
    }
}
