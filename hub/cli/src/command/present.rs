//! Every present row of a source as it would be published today, as hashes.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use hub_model::{Block, ChangeBatch, Op, Origin, StreamName, fingerprint};
use hub_sdk::{Budget, DynConnector};
use indicatif::ProgressBar;

use super::fold::hash_raw;
use super::workshop::Workshop;
use crate::failure::Failure;
use hub_transform::envelope::{FRAME, Layout};

/// Bytes of rows that are under way between the source and the comparison.
const BUDGET: usize = 16 << 20;
/// Deliveries that wait.
const DEPTH: usize = 4;

/// What the source holds.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// Rows that are there.
    pub(crate) rows: u64,
    /// Rows that the filter leaves out.
    pub(crate) filtered: u64,
    /// Hash of the state that each key should have.
    pub(crate) states: HashMap<u128, u128>,
    /// Rows whose key another row has too.
    pub(crate) shared_keys: u64,
    /// Rows that today's mapping refuses, by field and reason code.
    pub(crate) reasons: BTreeMap<(String, String), u64>,
    /// Refused rows: hash of the raw row, and of its key where that can be made.
    pub(crate) refused: HashMap<u128, Option<u128>>,
    /// Every commit up to this position of the source's log is in what was read; 0 where the source has none.
    pub(crate) bound: u64,
    /// Keys that were asked for, as they are encoded.
    pub(crate) shown: Vec<(u128, Vec<u8>)>,
}

/// Reads a stream whole. `show` are hashes of keys to keep.
pub(crate) async fn read(
    connector: &dyn DynConnector,
    stream: &StreamName,
    workshop: &mut Workshop,
    layout: &Layout,
    show: &HashSet<u128>,
    bar: &ProgressBar,
) -> Result<Present, Failure> {
    let (outlet, mut deliveries) = hub_sdk::outlet(Budget::new(BUDGET), DEPTH);
    let mut source = Present::default();
    let take = async {
        while let Some((delivery, _permit)) = deliveries.recv().await {
            for batch in delivery.batches {
                bar.inc(batch.len() as u64);
                tokio::task::block_in_place(|| source.take(batch, workshop, layout, show))?;
            }
        }
        Ok::<(), Failure>(())
    };
    let scan = async {
        let read = connector.scan(stream, outlet).await;
        read.map_err(|error| Failure::Unavailable(error.report()))
    };
    tokio::try_join!(scan, take)?;
    Ok(source)
}

impl Present {
    fn take(&mut self, mut batch: ChangeBatch, workshop: &mut Workshop, layout: &Layout, show: &HashSet<u128>) -> Result<(), Failure> {
        self.rows += batch.len() as u64;
        self.bound = batch.origin.commit_position.first().copied().unwrap_or_default().max(self.bound);
        // All rows of a scan have the same place; their ordinals are free to tell which row was refused.
        for (row, ordinal) in batch.origin.ordinal.iter_mut().enumerate() {
            *ordinal = row as u64;
        }
        let made = workshop.make(batch.clone(), 0)?;
        self.filtered += made.filtered;
        if let Some(block) = &made.block {
            self.keep(block, layout, show)?;
        }
        for reject in made.rejects {
            let row = u32::try_from(reject.ordinal).unwrap_or(u32::MAX);
            let key = key_of(&batch, row, workshop)?;
            self.refused.insert(hash_raw(&reject.raw), key);
            *self.reasons.entry((reject.field.unwrap_or_default(), reject.reason)).or_default() += 1;
        }
        Ok(())
    }

    fn keep(&mut self, block: &Block, layout: &Layout, show: &HashSet<u128>) -> Result<(), Failure> {
        let Some(keys) = &block.keys else { return Ok(()) };
        for record in 0..block.len() {
            let facts = block.values.row(record).get(FRAME..).and_then(|body| layout.facts(body));
            let Some(after) = facts.and_then(|facts| facts.after) else {
                return Err(Failure::Unavailable(
                    "a row became a record without a state; please report it as a defect of the hub".to_owned(),
                ));
            };
            let key = fingerprint(keys.row(record).get(FRAME..).unwrap_or_default());
            if show.contains(&key) {
                self.shown.push((key, keys.row(record).to_vec()));
            }
            if self.states.insert(key, fingerprint(after)).is_some() {
                self.shared_keys += 1;
            }
        }
        Ok(())
    }
}

/// The hash of a refused row's key, where its mapping gives one: the key of its delete.
fn key_of(batch: &ChangeBatch, row: u32, workshop: &mut Workshop) -> Result<Option<u128>, Failure> {
    let rows = take_record_batch(&batch.rows, &UInt32Array::from(vec![row]))
        .map_err(|error| Failure::unavailable("taking a row out of a batch", error))?;
    let mut origin = Origin::with_capacity(1);
    origin.push(0, 0, 0, 0, 0);
    let delete = ChangeBatch {
        ops: vec![Op::Delete],
        rows,
        full_images: false,
        origin,
        old: None,
        key_changes: Vec::new(),
        faults: Vec::new(),
        ..batch.clone()
    };
    let made = workshop.make(delete, 0)?;
    let keys = made.block.and_then(|block| block.keys);
    Ok(keys.filter(|keys| !keys.is_empty()).and_then(|keys| keys.row(0).get(FRAME..).map(fingerprint)))
}
