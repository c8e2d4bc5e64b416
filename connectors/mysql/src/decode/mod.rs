//! Turns the cells of many rows straight into Arrow columns: one dispatch a column of a batch of rows, no allocation a cell.

mod column;
mod json;
mod number;
mod text;
mod time;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use hub_sdk::model::RowFault;

use crate::charset::Charsets;
use crate::kind::Layout;
use column::ColumnDecoder;
pub(crate) use column::Form;
pub(crate) use number::{decimal_bytes, whole};
pub(crate) use time::{Zeros, Zone};

/// Where a cell's bytes are in its ground; null where `from` is [`NULL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

const NULL: u32 = u32::MAX;
/// Picked instead of a row: a row of nulls.
pub(crate) const NO_ROW: u32 = u32::MAX;

impl Cell {
    pub(crate) const NULL: Self = Self { from: NULL, to: NULL };

    #[inline]
    pub(crate) fn of(from: usize, to: usize) -> Self {
        // A packet is never as long as 4 GiB: `max_allowed_packet` ends at 1 GiB.
        Self { from: from as u32, to: to as u32 }
    }

    #[inline]
    pub(crate) fn bytes(self, ground: &[u8]) -> Option<&[u8]> {
        if self.from == NULL { None } else { ground.get(self.from as usize..self.to as usize) }
    }
}

/// Cells of many rows, row after row, and the bytes that their places are counted in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid<'a> {
    pub(crate) ground: &'a [u8],
    pub(crate) cells: &'a [Cell],
    /// Cells of a row.
    pub(crate) width: usize,
}

impl<'a> Grid<'a> {
    #[inline]
    pub(crate) fn get(&self, row: u32, column: usize) -> Option<&'a [u8]> {
        if row == NO_ROW {
            return None;
        }
        self.cells.get(row as usize * self.width + column)?.bytes(self.ground)
    }
}

/// Why a cell cannot be represented; never the value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) why: &'static str,
}

impl Refusal {
    pub(crate) const fn undecodable(why: &'static str) -> Self {
        Self { code: "undecodable", why }
    }
}

/// What decoding is told besides the layout.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) charsets: Charsets,
    pub(crate) zeros: Zeros,
    /// The time zone of `DATETIME`.
    pub(crate) zone: Option<Zone>,
}

/// Arrow columns of one table.
#[derive(Debug)]
pub(crate) struct TableDecoder {
    schema: SchemaRef,
    columns: Vec<ColumnDecoder>,
    rows: usize,
}

impl TableDecoder {
    pub(crate) fn new(layout: &Layout, rules: &Rules) -> Self {
        let zoned = rules.zone.is_some();
        let columns = layout.columns.iter().map(|column| ColumnDecoder::new(&column.kind, rules)).collect();
        Self { schema: layout.schema(zoned), columns, rows: 0 }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// In which form the cells of each column come from now on.
    pub(crate) fn set_forms(&mut self, forms: &[Form]) {
        for (column, form) in self.columns.iter_mut().zip(forms) {
            column.form = *form;
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds the picked rows of a grid; [`NO_ROW`] adds nulls.
    pub(crate) fn extend(&mut self, grid: Grid<'_>, picks: &[u32]) {
        for (place, column) in self.columns.iter_mut().enumerate() {
            column.extend(picks.iter().map(|row| grid.get(*row, place)));
        }
        self.rows += picks.len();
    }

    /// Adds rows of nulls up to a number of rows.
    pub(crate) fn pad(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.rows);
        for column in &mut self.columns {
            column.extend(std::iter::repeat_n(None, missing));
        }
        self.rows += missing;
    }

    /// Hands over the rows and their faults, and begins anew.
    ///
    /// # Errors
    /// Only where columns contradict the schema: a defect.
    pub(crate) fn finish(&mut self) -> Result<(RecordBatch, Vec<RowFault>), ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        let mut faults = Vec::new();
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let (array, refused) = column.finish()?;
            arrays.push(array);
            let source_type = field.metadata().get(hub_sdk::model::SOURCE_TYPE).map_or("", String::as_str);
            faults.extend(refused.into_iter().map(|(row, refusal)| RowFault {
                row: u32::try_from(row).unwrap_or(u32::MAX),
                column: Some(field.name().as_str().into()),
                code: refusal.code,
                message: format!("column {} ({source_type}): {}", field.name(), refusal.why),
            }));
        }
        faults.sort_by_key(|fault| fault.row);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok((batch, faults))
    }
}
