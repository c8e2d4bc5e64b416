//! From change batches to Kafka blocks: one worker per stream normalises and encodes; what is refused becomes a reject.
//!
//! Nothing here waits: it is pure work on columns, called by the session between its queues.

mod select;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use hub_model::{Block, ChangeBatch, Origin, RowFault, SnapshotMark, StreamName};
use hub_telemetry::{StreamMetrics, SystemMetrics};
use hub_transform::reject::RejectEncoder;

use crate::RunError;
use crate::prepare::Prepared;
use crate::status::{Board, Tally};
use worker::{Output, StreamWorker};

/// Keys that were refused while their stream was read anew: not published, and not gone either.
#[derive(Debug, Default)]
pub(crate) struct Spared {
    /// Their hashes.
    pub(crate) keys: HashSet<u128>,
    /// Rows were refused whose keys are not known.
    pub(crate) unsure: bool,
}

/// Deletes in one block.
const VANISHED_AT_ONCE: usize = 5_000;

/// What a delivery became.
pub struct Processed {
    /// Records to publish, data and rejects, in order.
    pub blocks: Vec<Block>,
    /// What to count once they are durable.
    pub tally: Tally,
    /// Streams that are read anew and had rows refused.
    pub refusing: Vec<Arc<str>>,
}

/// The workers of a system's streams.
pub struct Pipeline {
    workers: HashMap<StreamName, StreamWorker>,
    streams: HashMap<Arc<str>, StreamMetrics>,
    rejects: RejectEncoder,
    metrics: SystemMetrics,
    board: Board,
}

impl Pipeline {
    /// The pipeline of a prepared system.
    ///
    /// # Errors
    /// [`RunError::BadSystem`] or [`RunError::Defect`] where an encoder cannot be made.
    pub fn new(mut prepared: Prepared, board: Board, metrics: SystemMetrics) -> Result<Self, RunError> {
        let mut workers = HashMap::new();
        let mut streams = HashMap::new();
        let rejects = RejectEncoder::new(&prepared.rejects.topic, prepared.rejects.schema_id, prepared.record_limit);
        for stream in std::mem::take(&mut prepared.streams) {
            let name = StreamName::new(stream.source())
                .map_err(|error| RunError::BadSystem { system: prepared.system.to_string(), why: error.to_string() })?;
            let key: Arc<str> = stream.source().into();
            streams.insert(key, metrics.stream(stream.source()));
            let shape = stream.shape.clone();
            let mut worker = StreamWorker::new(stream, &prepared)?;
            // A mapping that does not fit is told at once, not with the next change of the table.
            if let Some(shape) = shape {
                worker.plan_for(&shape, &board);
            }
            workers.insert(name, worker);
        }
        Ok(Self { workers, streams, rejects, metrics, board })
    }

    /// Normalises and encodes what was delivered.
    ///
    /// # Errors
    /// [`RunError::Defect`] when a batch does not fit its encoder: nothing of it is published then.
    pub fn process(&mut self, batches: Vec<ChangeBatch>, now_micros: i64) -> Result<Processed, RunError> {
        let mut blocks = Vec::with_capacity(batches.len());
        let (mut tally, mut refusing) = (Tally::default(), Vec::new());
        let started = std::time::Instant::now();
        for batch in batches {
            if batch.is_empty() {
                continue;
            }
            let batch = batch.check().map_err(|error| defect("checking a batch", &error))?;
            let Some(worker) = self.workers.get_mut(&batch.stream) else {
                let why = format!("no stream {} is mapped", batch.stream);
                return Err(RunError::Defect { doing: "finding a batch's mapping".to_owned(), why });
            };
            let output = worker.process(&batch, now_micros, &self.board)?;
            let stream = Arc::clone(worker.stream());
            if worker.is_read_anew() && !output.rejects.is_empty() {
                refusing.push(Arc::clone(&stream));
            }
            self.count(&batch, &stream, &output, &mut tally);
            self.collect(&batch, output, now_micros, &mut blocks)?;
        }
        self.metrics.observe_batch(started.elapsed());
        Ok(Processed { blocks, tally, refusing })
    }

    /// The streams with their topics.
    #[must_use]
    pub fn topics(&self) -> Vec<(String, Arc<str>)> {
        self.workers.values().map(|worker| (worker.stream().to_string(), Arc::clone(worker.topic()))).collect()
    }

    /// A stream is read anew from now on.
    pub(crate) fn begin_reading(&mut self, stream: &str) {
        self.workers.values_mut().filter(|worker| **worker.stream() == *stream).for_each(StreamWorker::begin_reading);
    }

    /// A stream is read: what was refused meanwhile.
    pub(crate) fn end_reading(&mut self, stream: &str) -> Spared {
        self.workers.values_mut().find(|worker| **worker.stream() == *stream).map(StreamWorker::end_reading).unwrap_or_default()
    }

    /// Deletes of a stream's rows of which only the keys in its topic are left, in blocks of a size to publish at once.
    #[must_use]
    pub fn vanished(&self, stream: &str, keys: &[Bytes], place: (u64, u64), now_micros: i64) -> Vec<Block> {
        let Some(worker) = self.workers.values().find(|worker| **worker.stream() == *stream) else { return Vec::new() };
        keys.chunks(VANISHED_AT_ONCE).map(|keys| worker.vanished(keys, place, now_micros)).collect()
    }

    fn collect(&mut self, batch: &ChangeBatch, output: Output, now_micros: i64, blocks: &mut Vec<Block>) -> Result<(), RunError> {
        if !output.rejects.is_empty() {
            let block = self
                .rejects
                .encode(batch, &output.rejects, &output.context, now_micros)
                .map_err(|error| defect("encoding rejects", &error))?;
            blocks.push(block);
        }
        if let Some(block) = output.block.filter(|block| !block.is_empty()) {
            blocks.push(block);
        }
        Ok(())
    }

    fn count(&self, batch: &ChangeBatch, stream: &Arc<str>, output: &Output, tally: &mut Tally) {
        let captured = batch.len();
        let published = output.block.as_ref().map_or(0, Block::len);
        if let Some(metrics) = self.streams.get(stream) {
            metrics.captured(captured, batch.bytes());
        }
        tally.rejects.extend(output.reasons());
        let counts = [captured, published, output.rejects.len(), output.filtered].map(|count| count as u64);
        tally.streams.push((Arc::clone(stream), counts));
        tally.bytes.push((Arc::clone(stream), output.block.as_ref().map_or(0, Block::bytes)));
        if batch.snapshot == SnapshotMark::No {
            let latest = batch.origin.commit_micros.last().copied().zip(batch.origin.commit_position.last().copied());
            tally.latest = latest.max(tally.latest);
        }
    }

    /// Counts what is durable now.
    pub fn settled(&self, tally: &Tally) {
        for ((stream, counts), (_, bytes)) in tally.streams.iter().zip(&tally.bytes) {
            if let Some(metrics) = self.streams.get(stream) {
                metrics.published(usize::try_from(counts[1]).unwrap_or(usize::MAX), *bytes);
            }
        }
        for (reason, rows) in &tally.rejects {
            self.metrics.rejected(reason, *rows);
        }
    }
}

/// The rows of a snapshot's batch in parts of at most `rows`, sharing its columns.
pub fn rows_of(batch: &ChangeBatch, rows: usize) -> impl Iterator<Item = ChangeBatch> {
    let rows = rows.max(1);
    (0..batch.len()).step_by(rows).map(move |from| {
        let count = rows.min(batch.len() - from);
        let range = from..from + count;
        ChangeBatch {
            stream: batch.stream.clone(),
            ops: batch.ops[range.clone()].to_vec(),
            rows: batch.rows.slice(from, count),
            old: batch.old.as_ref().map(|old| old.slice(from, count)),
            full_images: batch.full_images,
            origin: Origin {
                commit_micros: batch.origin.commit_micros[range.clone()].to_vec(),
                commit_position: batch.origin.commit_position[range.clone()].to_vec(),
                position: batch.origin.position[range.clone()].to_vec(),
                ordinal: batch.origin.ordinal[range.clone()].to_vec(),
                transaction: batch.origin.transaction[range.clone()].to_vec(),
            },
            key_changes: Vec::new(),
            faults: batch
                .faults
                .iter()
                .filter(|fault| range.contains(&(fault.row as usize)))
                .map(|fault| RowFault { row: fault.row - u32::try_from(from).unwrap_or(u32::MAX), ..fault.clone() })
                .collect(),
            snapshot: batch.snapshot,
        }
    })
}

fn defect(doing: &str, error: &dyn std::error::Error) -> RunError {
    RunError::Defect { doing: doing.to_owned(), why: crate::error::chain(error) }
}
