//! The open batch of one stream: cells go from the replication buffer straight into its columns.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use hub_sdk::model::{ChangeBatch, KeyChange, Op, Origin, RowFault, SnapshotMark, StreamName};

use super::pgoutput::{Cell, Old, Relation, Tuple};
use crate::decode::{self, TableDecoder, Wire};
use crate::table::Table;
use crate::types::{Catalogue, ColumnType};

/// Where one change comes from; the same for both rows of a changed key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) commit_micros: i64,
    pub(super) commit: u64,
    pub(super) at: u64,
    pub(super) ordinal: u64,
    pub(super) transaction: u64,
}

/// A value that the server did not send and that has to be read again.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) row: usize,
    pub(super) column: usize,
    /// The key's cells, in the stream's wire form; empty where the key itself was not sent.
    pub(super) key: Vec<Vec<u8>>,
}

/// A batch as it was closed, before what is missing has been read again.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) batch: ChangeBatch,
    pub(super) missing: Vec<Missing>,
    pub(super) shape: Arc<Shape>,
    /// Rows at its head that Kafka holds already: they only count as touched.
    pub(super) known: usize,
}

/// The columns of a batch.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) columns: Vec<ColumnType>,
    /// Places of the key in `columns`.
    pub(super) key: Vec<usize>,
}

/// One captured stream while it is followed.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) table: Table,
    /// Columns of `decoder`.
    pub(super) shape: Arc<Shape>,
    /// For each column of the relation its place in `columns`, where it is captured.
    targets: Vec<Option<usize>>,
    /// Places of the key among the relation's columns.
    key_cells: Vec<usize>,
    full: bool,
    wire: Wire,
    decoder: TableDecoder,
    /// States before updates; made with the first of them.
    old: Option<TableDecoder>,
    ops: Vec<Op>,
    origin: Origin,
    key_changes: Vec<KeyChange>,
    missing: Vec<Missing>,
    known: usize,
}

impl Stream {
    pub(super) fn new(table: Table, wire: Wire) -> Self {
        Self {
            decoder: TableDecoder::new(&table.columns, wire),
            shape: Arc::new(Shape { columns: table.columns.clone(), key: table.key.clone() }),
            table,
            targets: Vec::new(),
            key_cells: Vec::new(),
            full: false,
            wire,
            old: None,
            ops: Vec::new(),
            origin: Origin::default(),
            key_changes: Vec::new(),
            missing: Vec::new(),
            known: 0,
        }
    }

    pub(super) fn name(&self) -> &StreamName {
        &self.table.stream
    }

    /// Whether the relation differs from the shape in use, so that the open batch must be closed before [`Stream::adopt`].
    pub(super) fn differs(&self, relation: &Relation, catalogue: &Catalogue) -> bool {
        self.full != relation.full || !same_shape(&self.shape.columns, &self.columns_of(relation, catalogue))
    }

    /// Takes up a relation. True when the shape of the batches changes with it.
    pub(super) fn adopt(&mut self, relation: &Relation, catalogue: &Catalogue) -> bool {
        let columns = self.columns_of(relation, catalogue);
        self.full = relation.full;
        let place_of = |name: &str| columns.iter().position(|column| *column.name == *name);
        self.targets = relation.columns.iter().map(|column| place_of(&column.name)).collect();
        let key_names: Vec<_> =
            self.table.key.iter().filter_map(|place| self.table.columns.get(*place)).map(|c| Arc::clone(&c.name)).collect();
        let key = key_names.iter().filter_map(|name| place_of(name)).collect();
        self.key_cells = key_names.iter().filter_map(|name| relation.columns.iter().position(|column| column.name == **name)).collect();
        if same_shape(&self.shape.columns, &columns) {
            return false;
        }
        self.decoder = TableDecoder::new(&columns, self.wire);
        self.old = None;
        self.shape = Arc::new(Shape { columns, key });
        true
    }

    fn columns_of(&self, relation: &Relation, catalogue: &Catalogue) -> Vec<ColumnType> {
        let captured = relation.columns.iter().filter(|column| self.table.captures(&column.name));
        captured
            .map(|column| {
                // The table's own definition spells the type as the server does; the stream has only numbers.
                let known = self
                    .table
                    .columns
                    .iter()
                    .find(|known| *known.name == *column.name && known.oid == column.oid && known.typmod == column.typmod);
                known.cloned().unwrap_or_else(|| catalogue.column(&column.name, column.oid, column.typmod))
            })
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Says that all rows of the open batch are in Kafka already.
    pub(super) fn mark_known(&mut self) {
        self.known = self.ops.len();
    }

    pub(super) fn insert(&mut self, new: &Tuple<'_>, place: Place) {
        self.push_row(new, None, Op::Create, place);
    }

    pub(super) fn update(&mut self, old: &Old<'_>, new: &Tuple<'_>, place: Place) {
        let before = match old {
            Old::Same => None,
            Old::Key(tuple) | Old::Full(tuple) => Some(tuple),
        };
        let full = if let Old::Full(tuple) = old { Some(tuple) } else { None };
        if let Some(before) = before
            && self.key_changed(before, new)
        {
            let delete = self.ops.len();
            self.push_cells(before);
            self.end_row(Op::Delete, place);
            self.push_row(new, full, Op::Create, place);
            if let (Ok(delete), Ok(create)) = (u32::try_from(delete), u32::try_from(delete + 1)) {
                self.key_changes.push(KeyChange { delete, create });
            }
            return;
        }
        if let Some(full) = full {
            self.push_old(full);
        }
        self.push_row(new, before, Op::Update, place);
    }

    pub(super) fn delete(&mut self, old: &Old<'_>, place: Place) {
        if let Old::Key(tuple) | Old::Full(tuple) = old {
            self.push_cells(tuple);
        }
        self.end_row(Op::Delete, place);
    }

    pub(super) fn truncate(&mut self, place: Place) {
        self.decoder.push_null_row();
        self.ops.push(Op::Truncate);
        self.origin.push(place.commit_micros, place.commit, place.at, place.ordinal, place.transaction);
    }

    /// Adds the new state of a row. `before` fills what an update left unchanged and did not send.
    fn push_row(&mut self, new: &Tuple<'_>, before: Option<&Tuple<'_>>, op: Op, place: Place) {
        for (index, (cell, target)) in new.cells().zip(&self.targets).enumerate() {
            let Some(column) = *target else { continue };
            match cell {
                Cell::Value(bytes) => self.decoder.push(column, decode::Cell::Bytes(bytes)),
                Cell::Null => self.decoder.push(column, decode::Cell::Null),
                Cell::Unchanged => {
                    let known = before.and_then(|before| before.cells().nth(index));
                    if let Some(Cell::Value(bytes)) = known {
                        self.decoder.push(column, decode::Cell::Bytes(bytes));
                    } else {
                        let unchanged = self.decoder.push_unchanged(column);
                        let key = self.key_bytes(new, before);
                        self.missing.push(Missing { row: unchanged.row, column: unchanged.column, key });
                    }
                }
            }
        }
        self.end_row(op, place);
    }

    fn push_cells(&mut self, tuple: &Tuple<'_>) {
        for (cell, target) in tuple.cells().zip(&self.targets) {
            let Some(column) = *target else { continue };
            self.decoder.push(column, value_or_null(cell));
        }
    }

    /// Adds the state before the row that comes next.
    fn push_old(&mut self, tuple: &Tuple<'_>) {
        let old = self.old.get_or_insert_with(|| TableDecoder::new(&self.shape.columns, self.wire));
        while old.rows() < self.ops.len() {
            old.push_null_row();
        }
        for (cell, target) in tuple.cells().zip(&self.targets) {
            let Some(column) = *target else { continue };
            old.push(column, value_or_null(cell));
        }
        old.finish_row();
    }

    #[inline]
    fn end_row(&mut self, op: Op, place: Place) {
        self.decoder.finish_row();
        self.ops.push(op);
        self.origin.push(place.commit_micros, place.commit, place.at, place.ordinal, place.transaction);
    }

    fn key_changed(&self, before: &Tuple<'_>, new: &Tuple<'_>) -> bool {
        self.key_cells.iter().any(|place| match (before.cells().nth(*place), new.cells().nth(*place)) {
            (Some(Cell::Value(before)), Some(Cell::Value(new))) => before != new,
            // A key part that was not sent did not change.
            (_, Some(Cell::Unchanged)) => false,
            (before, new) => before != new,
        })
    }

    fn key_bytes(&self, new: &Tuple<'_>, before: Option<&Tuple<'_>>) -> Vec<Vec<u8>> {
        let part = |place: usize| match new.cells().nth(place) {
            Some(Cell::Value(bytes)) => Some(bytes.to_vec()),
            _ => match before.and_then(|before| before.cells().nth(place)) {
                Some(Cell::Value(bytes)) => Some(bytes.to_vec()),
                _ => None,
            },
        };
        self.key_cells.iter().map(|place| part(*place)).collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    /// Closes the open batch and begins a new one.
    pub(super) fn close(&mut self) -> Result<Closed, ArrowError> {
        let rows = self.ops.len();
        let (columns, mut faults) = self.decoder.finish()?;
        let old = self.close_old(rows, &mut faults)?;
        let batch = ChangeBatch {
            stream: self.table.stream.clone(),
            ops: std::mem::replace(&mut self.ops, Vec::with_capacity(rows)),
            rows: columns,
            old,
            full_images: self.full,
            origin: std::mem::replace(&mut self.origin, Origin::with_capacity(rows)),
            key_changes: std::mem::take(&mut self.key_changes),
            faults,
            snapshot: SnapshotMark::No,
        };
        Ok(Closed {
            batch,
            missing: std::mem::take(&mut self.missing),
            shape: Arc::clone(&self.shape),
            known: std::mem::take(&mut self.known),
        })
    }

    fn close_old(&mut self, rows: usize, faults: &mut Vec<RowFault>) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(old) = self.old.as_mut().filter(|old| old.rows() > 0) else { return Ok(None) };
        while old.rows() < rows {
            old.push_null_row();
        }
        let (columns, old_faults) = old.finish()?;
        faults.extend(old_faults);
        faults.sort_by_key(|fault| fault.row);
        Ok(Some(columns))
    }
}

#[inline]
fn value_or_null(cell: Cell<'_>) -> decode::Cell<'_> {
    match cell {
        Cell::Value(bytes) => decode::Cell::Bytes(bytes),
        Cell::Null | Cell::Unchanged => decode::Cell::Null,
    }
}

fn same_shape(left: &[ColumnType], right: &[ColumnType]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| left.name == right.name && left.oid == right.oid && left.typmod == right.typmod && left.kind == right.kind)
}

impl Closed {
    /// Drops the rows that Kafka holds already.
    pub(super) fn without_known(self) -> Self {
        if self.known == 0 {
            return self;
        }
        let Self { mut batch, mut missing, shape, known } = self;
        batch.ops.drain(..known);
        batch.rows = batch.rows.slice(known, batch.rows.num_rows() - known);
        batch.old = batch.old.map(|old| old.slice(known, old.num_rows() - known));
        for column in [&mut batch.origin.commit_position, &mut batch.origin.position] {
            column.drain(..known);
        }
        batch.origin.ordinal.drain(..known);
        batch.origin.transaction.drain(..known);
        batch.origin.commit_micros.drain(..known);
        let head = u32::try_from(known).unwrap_or(u32::MAX);
        batch.key_changes.retain(|change| change.delete >= head);
        for change in &mut batch.key_changes {
            change.delete -= head;
            change.create -= head;
        }
        batch.faults.retain(|fault| fault.row >= head);
        for fault in &mut batch.faults {
            fault.row -= head;
        }
        missing.retain(|value| value.row >= known);
        for value in &mut missing {
            value.row -= known;
        }
        Self { batch, missing, shape, known: 0 }
    }
}
