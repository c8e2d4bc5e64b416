//! Reads again by key the TOASTed values that an update left unchanged and the server did not send.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::error::ArrowError;
use hub_sdk::model::{ChangeBatch, RowFault};
use hub_sdk::{ErrorKind, SourceError};

use super::stream::{Missing, Shape};
use crate::decode::{Cell, TableDecoder, Wire};
use crate::table::Table;
use crate::types::ColumnType;
use crate::wire::{Address, Lookup, Purpose, Session, WireError, quote};

/// The reason code of a row whose value cannot be read again, because the row is gone.
pub(crate) const TOAST_VANISHED: &str = "toast-vanished";

/// How the values of one table are read again.
pub(super) struct Again<'a> {
    pub(super) address: &'a Address,
    pub(super) table: &'a Table,
    pub(super) wire: Wire,
    pub(super) shape: &'a Shape,
}

impl Again<'_> {
    /// Fills what is missing in a batch, by one round trip per 64 rows over a connection of its own.
    ///
    /// # Errors
    /// The source cannot be asked. A row that is gone is a fault of the batch and no error.
    pub(super) async fn fill(
        &self,
        session: &mut Option<Session>,
        batch: &mut ChangeBatch,
        missing: &[Missing],
    ) -> Result<(), SourceError> {
        let stream = &self.table.stream;
        let doing = || format!("reading unchanged values of {stream} again");
        let defect = |error: ArrowError| SourceError::new(ErrorKind::Defect, doing()).because(error);
        let wanted: Vec<usize> = missing.iter().map(|value| value.column).collect::<BTreeSet<_>>().into_iter().collect();
        let rows = one_per_row(missing);
        let columns: Vec<ColumnType> = wanted.iter().filter_map(|column| self.shape.columns.get(*column)).cloned().collect();
        let mut decoder = TableDecoder::new(&columns, self.wire);
        let read = self.read(session, &columns, &rows, &mut decoder).await;
        let found_as = read.map_err(|error| error.into_source(doing()).of(stream.clone()))?;
        let (found, faults) = decoder.finish().map_err(defect)?;
        let places: HashMap<usize, Option<usize>> = rows.iter().map(|value| value.row).zip(found_as).collect();
        patch(batch, &wanted, missing, &places, &found).map_err(defect)?;
        let row_of: HashMap<usize, usize> = places.iter().filter_map(|(row, at)| at.map(|at| (at, *row))).collect();
        for fault in faults {
            if let Some(row) = row_of.get(&(fault.row as usize)) {
                batch.faults.push(RowFault { row: u32::try_from(*row).unwrap_or(u32::MAX), ..fault });
            }
        }
        let gone = missing.iter().filter(|value| places.get(&value.row).is_none_or(Option::is_none));
        batch.faults.extend(gone.map(|value| vanished(value, self.shape)));
        batch.faults.sort_by_key(|fault| fault.row);
        Ok(())
    }

    /// Reads the rows; gives for each its place in `decoder`, `None` for one that is gone.
    async fn read(
        &self,
        session: &mut Option<Session>,
        columns: &[ColumnType],
        rows: &[&Missing],
        decoder: &mut TableDecoder,
    ) -> Result<Vec<Option<usize>>, WireError> {
        let mut found_as = vec![None; rows.len()];
        let key: Vec<&ColumnType> = self.shape.key.iter().filter_map(|place| self.shape.columns.get(*place)).collect();
        let asked: Vec<usize> = (0..rows.len()).filter(|row| !key.is_empty() && rows[*row].key.len() == key.len()).collect();
        if asked.is_empty() {
            return Ok(found_as);
        }
        let mut open = match session.take() {
            Some(open) => open,
            None => Session::connect(self.address, Purpose::Sql).await?,
        };
        let keys: Vec<_> = asked.iter().map(|row| rows[*row].key.clone()).collect();
        let sql = statement(self.table, columns, &key);
        let types: Vec<u32> = key.iter().map(|column| column.oid).collect();
        let lookup = Lookup { sql: &sql, key_types: &types, binary: self.wire == Wire::Binary };
        // A connection that failed is not kept.
        open.look_up(&lookup, &keys, |index, body| {
            found_as[asked[index]] = Some(decoder.rows());
            push_data_row(decoder, body)
        })
        .await?;
        *session = Some(open);
        Ok(found_as)
    }
}

fn one_per_row(missing: &[Missing]) -> Vec<&Missing> {
    let mut rows: Vec<&Missing> = Vec::with_capacity(missing.len());
    for value in missing {
        // Values of one row follow one another.
        if rows.last().is_none_or(|last| last.row != value.row) {
            rows.push(value);
        }
    }
    rows
}

fn statement(table: &Table, columns: &[ColumnType], key: &[&ColumnType]) -> String {
    let select: Vec<_> = columns.iter().map(|column| quote(&column.name)).collect();
    let condition: Vec<_> = key.iter().enumerate().map(|(place, column)| format!("{} = ${}", quote(&column.name), place + 1)).collect();
    format!("SELECT {} FROM {} WHERE {}", select.join(", "), table.member().sql_name(), condition.join(" AND "))
}

fn push_data_row(decoder: &mut TableDecoder, body: &[u8]) -> Result<(), WireError> {
    let broken = || WireError::Protocol("a broken row".into());
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(broken)?;
    for column in 0..usize::from(u16::from_be_bytes(*count)) {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            decoder.push(column, Cell::Null);
            rest = tail;
            continue;
        };
        let (value, tail) = tail.split_at_checked(length).ok_or_else(broken)?;
        decoder.push(column, Cell::Bytes(value));
        rest = tail;
    }
    decoder.finish_row();
    Ok(())
}

/// Replaces the missing cells of the affected columns by the rows `found` at `places`.
fn patch(
    batch: &mut ChangeBatch,
    wanted: &[usize],
    missing: &[Missing],
    places: &HashMap<usize, Option<usize>>,
    found: &RecordBatch,
) -> Result<(), ArrowError> {
    let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
    for (place, column) in wanted.iter().enumerate() {
        let Some(original) = columns.get(*column).map(Arc::clone) else { continue };
        let mut sources: Vec<(usize, usize)> = (0..original.len()).map(|row| (0, row)).collect();
        for value in missing.iter().filter(|value| value.column == *column) {
            if let Some(Some(at)) = places.get(&value.row) {
                sources[value.row] = (1, *at);
            }
        }
        columns[*column] = interleave(&[original.as_ref(), found.column(place).as_ref()], &sources)?;
    }
    batch.rows = RecordBatch::try_new(batch.rows.schema(), columns)?;
    Ok(())
}

fn vanished(value: &Missing, shape: &Shape) -> RowFault {
    let column = shape.columns.get(value.column).map(|column| Arc::clone(&column.name));
    RowFault {
        row: u32::try_from(value.row).unwrap_or(u32::MAX),
        column,
        code: TOAST_VANISHED,
        message: "the update left a large value unchanged, and the row was gone when it was read again; \
                  replica identity FULL would carry it"
            .to_owned(),
    }
}
