//! Which rows of a batch are published, and as what: the filter's meaning for changes.

use arrow::array::{Array, BooleanArray};
use arrow::record_batch::RecordBatch;
use hub_model::{ChangeBatch, Op};

/// One row that is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Row of the batch.
    pub(super) row: u32,
    /// As what it is published.
    pub(super) op: Op,
}

/// The rows to publish, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) chosen: Vec<Chosen>,
    /// Rows that the filter leaves out.
    pub(super) filtered: usize,
}

/// Chooses rows. `meets` and `met` say for each row whether its state (and its state before) meets the filter; `faulty`
/// rows are left out, they are rejects already.
///
/// A row that ceases to meet the filter is deleted for subscribers; one that begins to meet it is created, where the state
/// before is known, else updated: subscribers upsert.
///
/// `judged` says whether the filter can be judged from what a delete carries.
pub(super) fn select(
    batch: &ChangeBatch,
    meets: Option<&BooleanArray>,
    met: Option<&BooleanArray>,
    judged: bool,
    faulty: &[u32],
) -> Selection {
    let mut selection = Selection { chosen: Vec::with_capacity(batch.len()), filtered: 0 };
    let mut faulty = faulty.iter().copied().peekable();
    for (at, op) in batch.ops.iter().enumerate() {
        let row = u32::try_from(at).unwrap_or(u32::MAX);
        if faulty.next_if_eq(&row).is_some() {
            continue;
        }
        let met = met.filter(|_| batch.old.as_ref().is_some_and(|old| has_row(old, at)));
        match published_as(*op, meets.map(|mask| is_true(mask, at)), met.map(|mask| is_true(mask, at)), judged) {
            Some(op) => selection.chosen.push(Chosen { row, op }),
            None => selection.filtered += 1,
        }
    }
    selection
}

fn published_as(op: Op, meets: Option<bool>, met: Option<bool>, judged: bool) -> Option<Op> {
    let Some(meets) = meets else { return Some(op) };
    match op {
        Op::Read | Op::Create => meets.then_some(op),
        Op::Update => match (met, meets) {
            (Some(false), false) => None,
            (Some(false), true) => Some(Op::Create),
            (_, true) => Some(Op::Update),
            (_, false) => Some(Op::Delete),
        },
        // Without an image nobody knows whether the row met the filter: a delete of an unknown key does no harm.
        Op::Delete => (meets || !judged).then_some(Op::Delete),
        Op::Truncate => Some(Op::Truncate),
    }
}

fn is_true(mask: &BooleanArray, row: usize) -> bool {
    mask.is_valid(row) && mask.value(row)
}

/// Whether a row of `old` holds a state: one that is null everywhere holds none.
pub(super) fn has_row(old: &RecordBatch, row: usize) -> bool {
    old.columns().iter().any(|column| column.is_valid(row))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use hub_model::{Origin, SnapshotMark, StreamName};

    use super::*;

    fn batch(ops: Vec<Op>, old: Option<Vec<Option<i64>>>, full_images: bool) -> ChangeBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let rows = |values: Vec<Option<i64>>| RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(values))]).unwrap();
        let count = ops.len();
        let mut origin = Origin::with_capacity(count);
        (0..count).for_each(|_| origin.push(0, 0, 0, 0, 0));
        ChangeBatch {
            stream: StreamName::new("s").unwrap(),
            rows: rows(vec![Some(1); count]),
            old: old.map(rows),
            ops,
            full_images,
            origin,
            key_changes: Vec::new(),
            faults: Vec::new(),
            snapshot: SnapshotMark::No,
        }
    }

    fn ops(selection: &Selection) -> String {
        selection.chosen.iter().map(|chosen| chosen.op.letter()).collect()
    }

    #[test]
    fn without_a_filter_every_row_is_published_as_it_is() {
        let batch = batch(vec![Op::Read, Op::Create, Op::Update, Op::Delete, Op::Truncate], None, false);
        assert_eq!(ops(&select(&batch, None, None, false, &[])), "rcudt");
        assert_eq!(ops(&select(&batch, None, None, false, &[1, 3])), "rut", "faulty rows are rejects already");
    }

    #[test]
    fn an_update_that_leaves_the_filter_is_a_delete() {
        let batch = batch(vec![Op::Create, Op::Update, Op::Update, Op::Delete], None, false);
        let meets = BooleanArray::from(vec![Some(false), Some(false), Some(true), None]);
        let selection = select(&batch, Some(&meets), None, false, &[]);
        assert_eq!(ops(&selection), "dud");
        assert_eq!(selection.filtered, 1);
    }

    #[test]
    fn with_old_images_an_update_tells_whether_it_enters_leaves_or_stays_outside() {
        let batch = batch(vec![Op::Update, Op::Update, Op::Update, Op::Update], Some(vec![Some(1), Some(1), Some(1), None]), true);
        let meets = BooleanArray::from(vec![true, false, false, false]);
        let met = BooleanArray::from(vec![Some(false), Some(true), Some(false), None]);
        assert_eq!(ops(&select(&batch, Some(&meets), Some(&met), true, &[])), "cdd");
    }
}
