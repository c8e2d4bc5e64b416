//! Many changes of one stream as Arrow columns.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::{Op, StreamName};

/// Whether the rows of a batch come from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMark {
    /// A live change.
    No,
    /// The first snapshot of a system.
    Initial,
    /// A snapshot taken while changes are being followed.
    Incremental,
}

/// Where each row of a batch comes from, one entry per row in every column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Source commit time, microseconds since 1970-01-01 UTC. For a snapshot, when it was taken.
    pub commit_micros: Vec<i64>,
    /// Position of the transaction's commit (PostgreSQL: commit LSN).
    pub commit_position: Vec<u64>,
    /// Position of the row's own record (PostgreSQL: LSN).
    pub position: Vec<u64>,
    /// Place of the row in its transaction, from 0, counted over all streams.
    pub ordinal: Vec<u64>,
    /// The source's transaction number; 0 where it has none.
    pub transaction: Vec<u64>,
}

impl Origin {
    /// An empty origin with room for `rows`.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            commit_micros: Vec::with_capacity(rows),
            commit_position: Vec::with_capacity(rows),
            position: Vec::with_capacity(rows),
            ordinal: Vec::with_capacity(rows),
            transaction: Vec::with_capacity(rows),
        }
    }

    /// Adds one row's origin.
    pub fn push(&mut self, commit_micros: i64, commit_position: u64, position: u64, ordinal: u64, transaction: u64) {
        self.commit_micros.push(commit_micros);
        self.commit_position.push(commit_position);
        self.position.push(position);
        self.ordinal.push(ordinal);
        self.transaction.push(transaction);
    }

    /// How many rows it describes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commit_micros.len()
    }

    /// Whether it describes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commit_micros.is_empty()
    }
}

/// A changed key: the old key's delete and the new key's create, rows of the same batch, delete first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Row of the delete.
    pub delete: u32,
    /// Row of the create.
    pub create: u32,
}

/// A row that its connector could not decode whole. It is dead-lettered, never dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// Row of the batch.
    pub row: u32,
    /// Source column, where one is to blame.
    pub column: Option<Arc<str>>,
    /// Stable reason code, kebab-case: `undecodable`, `toast-vanished`.
    pub code: &'static str,
    /// What is wrong, without the value.
    pub message: String,
}

/// Many changes of one stream, column-wise; the only form in which rows leave a connector.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The stream.
    pub stream: StreamName,
    /// What happened to each row.
    pub ops: Vec<Op>,
    /// One row per change in the source's columns, all nullable: the state after it, for a delete the state before it.
    /// A delete whose source keeps only keys has nulls elsewhere and `full_images` false.
    pub rows: RecordBatch,
    /// The states before updates, row for row with `rows` (all-null rows where there is none), where the source keeps them.
    pub old: Option<RecordBatch>,
    /// Whether `rows` of deletes (and `old`) hold every column and not the key alone.
    pub full_images: bool,
    /// Where each row comes from.
    pub origin: Origin,
    /// Deletes and creates that are one change of key.
    pub key_changes: Vec<KeyChange>,
    /// Rows that could not be decoded whole.
    pub faults: Vec<RowFault>,
    /// Whether and how a snapshot read them.
    pub snapshot: SnapshotMark,
}

/// A batch whose columns do not agree in length: a defect of its connector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("change batch of {stream}: {what} has {found} rows where {expected} are expected")]
pub struct BatchError {
    stream: StreamName,
    what: &'static str,
    found: usize,
    expected: usize,
}

impl ChangeBatch {
    /// Checks that all columns describe the same number of rows.
    ///
    /// # Errors
    /// [`BatchError`] names the first that does not.
    pub fn check(self) -> Result<Self, BatchError> {
        let expected = self.rows.num_rows();
        let lengths = [
            ("ops", self.ops.len()),
            ("origin", self.origin.len()),
            ("origin.commit_position", self.origin.commit_position.len()),
            ("origin.position", self.origin.position.len()),
            ("origin.ordinal", self.origin.ordinal.len()),
            ("origin.transaction", self.origin.transaction.len()),
            ("old", self.old.as_ref().map_or(expected, RecordBatch::num_rows)),
        ];
        match lengths.into_iter().find(|(_, found)| *found != expected) {
            Some((what, found)) => Err(BatchError { stream: self.stream, what, found, expected }),
            None => Ok(self),
        }
    }

    /// How many changes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes its columns hold in memory, for queue bounds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let old = self.old.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        self.rows.get_array_memory_size() + old + self.ops.len() * 41
    }
}
