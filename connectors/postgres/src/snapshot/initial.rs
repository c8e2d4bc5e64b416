//! The first snapshot of a system: parallel readers share one exported snapshot.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hub_sdk::model::{ChangeBatch, Checkpoint, Op, Origin, SnapshotMark, StreamName};
use hub_sdk::{BatchLimits, Delivery, ErrorKind, Outlet, SourceError};
use tokio::task::JoinSet;
use tracing::info;

use super::copy::{Rows, SliceReader};
use super::plan::{SNAPSHOT_PREFIX, StreamSnapshot};
use super::progress::Board;
use crate::table::Table;
use crate::wire::{Address, Lsn, Purpose, Session, WireError, literal};

/// What the readers need.
pub(crate) struct Initial {
    pub(crate) address: Address,
    /// The exported snapshot's name.
    pub(crate) snapshot: String,
    pub(crate) readers: usize,
    pub(crate) limits: BatchLimits,
    pub(crate) major: u32,
    pub(crate) outlet: Outlet,
    pub(crate) board: Arc<Board>,
    /// When the snapshot was taken, microseconds since 1970-01-01 UTC.
    pub(crate) taken_micros: i64,
    /// Each table with its plan.
    pub(crate) streams: Vec<(Table, StreamSnapshot)>,
}

/// How a snapshot ended when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every row was handed over.
    Complete,
    /// Nobody receives any more.
    Shut,
}

/// One chunk to read.
#[derive(Clone, Copy, Debug)]
struct Job {
    stream: usize,
    part: usize,
    chunk: usize,
}

struct Shared {
    initial: Initial,
    jobs: Mutex<VecDeque<Job>>,
    /// Held while a delivery is handed over, so that a later position of a stream includes every earlier one.
    states: Vec<tokio::sync::Mutex<StreamSnapshot>>,
}

/// Reads everything that the snapshot shows. `exporter` is kept open until all readers have imported its snapshot.
///
/// # Errors
/// The first reader's error; the others are stopped.
pub(crate) async fn read_initial(initial: Initial, exporter: Session) -> Result<Ended, SourceError> {
    let states = initial.streams.iter().map(|(_, plan)| tokio::sync::Mutex::new(plan.clone())).collect();
    let jobs: VecDeque<Job> = jobs(&initial.streams);
    for (table, plan) in &initial.streams {
        initial.board.begin(&table.stream, table.rows, plan.chunks());
    }
    let readers = initial.readers.clamp(1, jobs.len().max(1));
    let shared = Arc::new(Shared { initial, jobs: Mutex::new(jobs), states });
    let mut sessions = Vec::with_capacity(readers);
    for _ in 0..readers {
        sessions.push(import(&shared.initial).await?);
    }
    drop(exporter);
    let mut running = JoinSet::new();
    for session in sessions {
        running.spawn(read_jobs(Arc::clone(&shared), session));
    }
    let mut ended = Ended::Complete;
    while let Some(joined) = running.join_next().await {
        let joined = joined.map_err(|error| SourceError::new(ErrorKind::Defect, "reading the snapshot").because(error))?;
        if joined? == Ended::Shut {
            ended = Ended::Shut;
        }
    }
    info!(streams = shared.states.len(), ?ended, "snapshot read");
    Ok(ended)
}

/// An error in reading one table. A refused right is the table's own trouble: the session itself was let in.
pub(super) fn unreadable(error: SourceError, table: &Table) -> SourceError {
    if error.kind() != ErrorKind::Denied {
        return error.of(table.stream.clone());
    }
    SourceError::new(ErrorKind::StreamBroken, "reading the table")
        .of(table.stream.clone())
        .because(error.report())
        .advise(format!("GRANT SELECT ON {} to the hub's role", table.member().sql_name()))
}

fn jobs(streams: &[(Table, StreamSnapshot)]) -> VecDeque<Job> {
    let mut jobs = VecDeque::new();
    for (stream, (_, plan)) in streams.iter().enumerate() {
        for (part, heap) in plan.parts.iter().flatten().enumerate() {
            jobs.extend((0..heap.chunks.len()).map(|chunk| Job { stream, part, chunk }));
        }
    }
    jobs
}

/// Opens a reader's transaction on the exported snapshot, and keeps the tables from being rewritten meanwhile.
async fn import(initial: &Initial) -> Result<Session, SourceError> {
    let failed = |error: WireError| error.into_source("opening a reader of the snapshot");
    let mut session = Session::connect(&initial.address, Purpose::Sql).await.map_err(failed)?;
    session.query("SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '60s'").await.map_err(failed)?;
    session
        .query(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}", literal(&initial.snapshot)))
        .await
        .map_err(failed)?;
    for (table, _) in &initial.streams {
        let locked = session.query(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", table.member().sql_name())).await;
        locked.map_err(|error| unreadable(failed(error), table))?;
    }
    Ok(session)
}

async fn read_jobs(shared: Arc<Shared>, mut session: Session) -> Result<Ended, SourceError> {
    loop {
        let job = shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(job) = job else { return Ok(Ended::Complete) };
        if read_chunk(&shared, &mut session, job).await? == Ended::Shut {
            return Ok(Ended::Shut);
        }
    }
}

async fn read_chunk(shared: &Shared, session: &mut Session, job: Job) -> Result<Ended, SourceError> {
    let initial = &shared.initial;
    let (Some((table, plan)), Some(state)) = (initial.streams.get(job.stream), shared.states.get(job.stream)) else {
        return Ok(Ended::Complete);
    };
    let heap = plan.parts.as_ref().and_then(|parts| parts.get(job.part));
    let Some((heap, chunk)) = heap.and_then(|heap| Some((heap, heap.chunks.get(job.chunk)?))) else {
        return Ok(Ended::Complete);
    };
    let mut reader = SliceReader::new(table, initial.limits, initial.major);
    let mut next = chunk.next;
    while next < chunk.to {
        let (rows, end) = reader.read(session, heap, next, chunk.to).await.map_err(|error| unreadable(error, table))?;
        next = end;
        let count: u64 = rows.iter().map(|(rows, _)| rows.num_rows() as u64).sum();
        let stamp = Stamp { at: plan.start_lsn, micros: initial.taken_micros, mark: SnapshotMark::Initial };
        let batches = rows.into_iter().map(|rows| snapshot_batch(&table.stream, rows, stamp)).collect();
        let mut held = state.lock().await;
        held.advance(job.part, job.chunk, next);
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set(format!("{SNAPSHOT_PREFIX}{}", table.stream), held.to_json());
        let completed = held.complete.then(|| table.stream.clone()).into_iter().collect();
        if initial.outlet.deliver(Delivery::new(batches, checkpoint).completing(completed)).await.is_err() {
            return Ok(Ended::Shut);
        }
        initial.board.add(&table.stream, count, (!held.complete).then(|| held.chunks()));
    }
    Ok(Ended::Complete)
}

/// Where and when a snapshot read its rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) at: Lsn,
    pub(crate) micros: i64,
    pub(crate) mark: SnapshotMark,
}

/// Rows of a snapshot as a batch of changes.
pub(crate) fn snapshot_batch(stream: &StreamName, (rows, faults): Rows, stamp: Stamp) -> ChangeBatch {
    let count = rows.num_rows();
    ChangeBatch {
        stream: stream.clone(),
        ops: vec![Op::Read; count],
        rows,
        old: None,
        full_images: true,
        origin: Origin {
            commit_micros: vec![stamp.micros; count],
            commit_position: vec![stamp.at.0; count],
            position: vec![stamp.at.0; count],
            ordinal: vec![0; count],
            transaction: vec![0; count],
        },
        key_changes: Vec::new(),
        faults,
        snapshot: stamp.mark,
    }
}
