//! What a consumer knows after the deliveries it got; refuses a delivery that says something twice.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use hub_sdk::Delivery;
use hub_sdk::model::{ChangeBatch, Checkpoint, Op};
use tokio_postgres::Client;

use crate::rig::Run;

/// Rows by stream and key (the first column), as text.
#[derive(Default)]
pub(crate) struct Replica {
    pub(crate) rows: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) deliveries: usize,
    pub(crate) reads: usize,
    pub(crate) changes: usize,
    pub(crate) seen: BTreeSet<(String, u64, u64, &'static str, String)>,
    pub(crate) known: BTreeSet<(String, String)>,
    pub(crate) last: BTreeMap<(String, String), (u64, u64)>,
}

impl Replica {
    /// Takes a delivery as durable.
    pub(crate) fn apply(&mut self, delivery: &Delivery) {
        for batch in &delivery.batches {
            let checked = batch.clone().check().unwrap();
            for row in 0..checked.len() {
                self.take(&checked, row);
            }
        }
        self.checkpoint.merge(&delivery.checkpoint);
        self.deliveries += 1;
    }

    fn take(&mut self, batch: &ChangeBatch, row: usize) {
        let stream = batch.stream.to_string();
        let (op, key) = (batch.ops[row], cell(&batch.rows, 0, row));
        let place = (batch.origin.commit_position[row], batch.origin.ordinal[row]);
        let rows = self.rows.entry(stream.clone()).or_default();
        if op == Op::Read {
            self.reads += 1;
            assert!(self.known.insert((stream.clone(), key.clone())), "{stream} {key} is read though it is known");
            rows.insert(key, text(&batch.rows, row));
            return;
        }
        self.changes += 1;
        let whole = (stream.clone(), place.0, place.1, op.letter(), key.clone());
        assert!(self.seen.insert(whole.clone()), "twice: {whole:?}");
        if let Some(before) = self.last.insert((stream.clone(), key.clone()), place) {
            assert!(before <= place, "{stream} {key} out of order: {before:?} then {place:?}");
        }
        self.known.insert((stream, key.clone()));
        match op {
            Op::Truncate => rows.clear(),
            Op::Delete => {
                rows.remove(&key);
            }
            _ => {
                rows.insert(key, text(&batch.rows, row));
            }
        }
    }

    /// Takes deliveries and acknowledges them, until a row with this key has come in a stream.
    pub(crate) async fn until_key(&mut self, run: &mut Run, stream: &str, key: &str) {
        while !self.rows.get(stream).is_some_and(|rows| rows.contains_key(key)) {
            self.one(run).await;
        }
    }

    /// Takes one delivery and acknowledges it.
    pub(crate) async fn one(&mut self, run: &mut Run) {
        let delivery = run.next().await;
        self.apply(&delivery);
        hub_sdk::Connector::acknowledge(run.connector.as_ref(), &delivery.checkpoint);
    }

    /// Whether the snapshot of a stream is complete in the checkpoint.
    pub(crate) fn is_complete(&self, stream: &str) -> bool {
        self.checkpoint.get(&format!("snapshot/{stream}")).is_some_and(|state| state["complete"] == true)
    }

    /// Compares with the table itself: its columns as text in order.
    pub(crate) async fn assert_same(&self, client: &Client, stream: &str) {
        let columns = client.prepare(&format!("SELECT * FROM {stream}")).await.unwrap();
        let list: Vec<_> = columns.columns().iter().map(|column| format!("coalesce(\"{}\"::text, '∅')", column.name())).collect();
        let query = format!("SELECT {}, concat_ws('|', {}) FROM {stream}", list[0], list.join(", "));
        let source: BTreeMap<String, String> =
            client.query(&query, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
        let empty = BTreeMap::new();
        let mine = self.rows.get(stream).unwrap_or(&empty);
        let missing: Vec<_> = source.keys().filter(|key| !mine.contains_key(*key)).take(5).collect();
        let extra: Vec<_> = mine.keys().filter(|key| !source.contains_key(*key)).take(5).collect();
        let different: Vec<_> = source.iter().filter(|(key, row)| mine.get(*key).is_some_and(|mine| mine != *row)).take(5).collect();
        assert!(
            missing.is_empty() && extra.is_empty() && different.is_empty(),
            "{stream}: missing {missing:?}, extra {extra:?}, different {different:?}"
        );
    }
}

/// One cell as text; `∅` for null.
pub(crate) fn cell(rows: &RecordBatch, column: usize, row: usize) -> String {
    let array = rows.column(column);
    if array.is_null(row) { "∅".to_owned() } else { array_value_to_string(array, row).unwrap() }
}

fn text(rows: &RecordBatch, row: usize) -> String {
    (0..rows.num_columns()).map(|column| cell(rows, column, row)).collect::<Vec<_>>().join("|")
}
