//! What a subscriber knows after the deliveries it got; refuses a delivery that says something twice or out of order.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use hub_sdk::Delivery;
use hub_sdk::model::{ChangeBatch, Checkpoint, Op};

/// How null is written.
pub const NULL: &str = "∅";

/// Rows of one stream by key, as text.
#[derive(Debug)]
pub struct Replica {
    key: &'static str,
    value: &'static str,
    /// Whether a change may come again after a restart.
    at_least_once: bool,
    /// The rows.
    pub rows: BTreeMap<String, String>,
    /// Everything that is durable.
    pub checkpoint: Checkpoint,
    /// Rows that were read.
    pub reads: usize,
    /// How often it was said that all present rows are handed over.
    pub completed: usize,
    /// Changes, deletes and truncates among them, as letters of their operation and keys.
    pub changes: Vec<String>,
    known: BTreeSet<String>,
    places: BTreeMap<String, (u64, u64)>,
    seen: BTreeSet<(u64, u64, String)>,
}

impl Replica {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(key: &'static str, value: &'static str, exactly_once: bool) -> Self {
        Self {
            key,
            value,
            at_least_once: !exactly_once,
            rows: BTreeMap::new(),
            checkpoint: Checkpoint::empty(),
            reads: 0,
            completed: 0,
            changes: Vec::new(),
            known: BTreeSet::new(),
            places: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Takes a delivery as durable.
    pub fn apply(&mut self, delivery: &Delivery) {
        for batch in &delivery.batches {
            let batch = batch.clone().check().unwrap_or_else(|error| panic!("a batch is not whole: {error}"));
            (0..batch.len()).for_each(|row| self.take(&batch, row));
        }
        self.completed += delivery.completed.len();
        self.checkpoint.merge(&delivery.checkpoint);
    }

    fn take(&mut self, batch: &ChangeBatch, row: usize) {
        let op = batch.ops[row];
        if op == Op::Truncate {
            self.changes.push("t".to_owned());
            return self.rows.clear();
        }
        let key = named(&batch.rows, self.key, row);
        if op == Op::Read {
            self.reads += 1;
            let is_new = self.known.insert(key.clone());
            assert!(is_new || self.at_least_once, "{key} is read though it is known");
            self.rows.insert(key, named(&batch.rows, self.value, row));
            return;
        }
        let place = (batch.origin.commit_position[row], batch.origin.ordinal[row]);
        let told = format!("{}{key}", op.letter());
        let is_new = self.seen.insert((place.0, place.1, told.clone()));
        assert!(is_new || self.at_least_once, "{told} at {place:?} came twice");
        if let Some(before) = self.places.insert(key.clone(), place) {
            assert!(before <= place || self.at_least_once, "{key} is out of order: {before:?}, then {place:?}");
        }
        self.changes.push(told);
        self.known.insert(key.clone());
        match op {
            Op::Delete => self.rows.remove(&key),
            _ => self.rows.insert(key, named(&batch.rows, self.value, row)),
        };
    }
}

fn named(rows: &RecordBatch, column: &str, row: usize) -> String {
    let place = rows.schema().index_of(column).unwrap_or_else(|error| panic!("the stream has no column {column}: {error}"));
    cell(rows, place, row)
}

/// One cell as text.
#[must_use]
pub fn cell(rows: &RecordBatch, column: usize, row: usize) -> String {
    let array = rows.column(column);
    if array.is_null(row) { NULL.to_owned() } else { array_value_to_string(array, row).unwrap() }
}
