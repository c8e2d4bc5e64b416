//! Snapshots beside the stream of changes: of a stream that was added, or whose first snapshot was cut off by a crash.
//!
//! Each slice is read in a fresh snapshot, then a watermark is written into the WAL. When the watermark has come by in the
//! stream, every change that the slice could have seen is behind us, so its rows are delivered except those whose key
//! the stream has touched: a later state of them is published already.

use std::sync::Arc;
use std::time::Duration;

use hub_sdk::model::{ChangeBatch, SnapshotMark, StreamName};
use hub_sdk::{BatchLimits, ErrorKind, SourceError};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::copy::{Rows, SliceReader};
use super::initial::{Stamp, snapshot_batch, unreadable};
use super::plan::{Part, StreamSnapshot, plan_parts};
use super::progress::Board;
use crate::table::Table;
use crate::wire::{Address, Lsn, Purpose, Session, WireError, literal};

/// How often it is looked whether older transactions on a table have ended.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// A stream whose present rows are not all published.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    pub(crate) table: Table,
    pub(crate) state: StreamSnapshot,
}

/// A slice that waits for its watermark.
#[derive(Debug)]
pub(crate) struct ChunkRead {
    pub(crate) stream: StreamName,
    pub(crate) rows: Vec<Rows>,
    /// The WAL's end before they were read: a later truncate makes them stale.
    pub(crate) low: Lsn,
    /// The watermark: deliverable when the stream of changes has passed it.
    pub(crate) high: Lsn,
    /// The stream's state once these rows are published.
    pub(crate) state: StreamSnapshot,
    /// Told what became of it.
    pub(crate) fate: oneshot::Sender<ChunkFate>,
}

/// What became of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkFate {
    /// Handed over, so many rows of it.
    Delivered(u64),
    /// The table was truncated since it was read: read again.
    Stale,
}

/// What the reader needs.
pub(crate) struct Incremental {
    pub(crate) address: Address,
    pub(crate) system: String,
    pub(crate) limits: BatchLimits,
    pub(crate) major: u32,
    pub(crate) chunk_mib: u64,
    pub(crate) board: Arc<Board>,
    /// Where slices go; the follower takes one at a time.
    pub(crate) chunks: mpsc::Sender<ChunkRead>,
}

impl Incremental {
    /// Reads all unfinished streams, one after the other. Ends early when the follower has gone.
    ///
    /// # Errors
    /// The link broke, a table is gone, or a right is missing.
    pub(crate) async fn run(self, streams: Vec<Unfinished>) -> Result<(), SourceError> {
        if streams.is_empty() {
            return Ok(());
        }
        let opening = |error: WireError| error.into_source("opening the reader of added streams");
        let mut session = Session::connect(&self.address, Purpose::Sql).await.map_err(opening)?;
        session.query("SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '60s'").await.map_err(opening)?;
        for unfinished in streams {
            let table = unfinished.table.clone();
            if !self.read_stream(&mut session, unfinished).await.map_err(|error| unreadable(error, &table))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// False when the follower has gone.
    async fn read_stream(&self, session: &mut Session, unfinished: Unfinished) -> Result<bool, SourceError> {
        let Unfinished { table, mut state } = unfinished;
        wait_for_older_writers(session, &table).await?;
        let fresh = plan_parts(session, &table, 1, self.chunk_mib).await?;
        if !take_up(&mut state, fresh) {
            info!(stream = %table.stream, "the snapshot of the stream begins anew");
        }
        state.settle();
        self.board.begin(&table.stream, table.rows, state.chunks());
        if state.complete {
            let nothing = Slice { low: Lsn(0), rows: Vec::new(), end: 0 };
            return self.hand_over(&table, nothing, session, state).await.map(|fate| fate.is_some());
        }
        let mut reader = SliceReader::new(&table, self.limits, self.major);
        while let Some((part_index, chunk_index, part)) = next_chunk(&state) {
            let Some(chunk) = part.chunks.get(chunk_index).copied() else { break };
            let Some(slice) = read_slice(session, &mut reader, &part, chunk.next, chunk.to).await? else {
                warn!(stream = %table.stream, "the table was rewritten, its snapshot begins anew");
                state.parts = Some(plan_parts(session, &table, 1, self.chunk_mib).await?);
                continue;
            };
            let mut after = state.clone();
            after.advance(part_index, chunk_index, slice.end);
            match self.hand_over(&table, slice, session, after.clone()).await? {
                None => return Ok(false),
                Some(ChunkFate::Stale) => continue,
                Some(ChunkFate::Delivered(rows)) => {
                    state = after;
                    self.board.add(&table.stream, rows, (!state.complete).then(|| state.chunks()));
                }
            }
        }
        info!(stream = %table.stream, "the stream's present rows are read");
        Ok(true)
    }

    /// Writes the watermark and waits until the follower has dealt with the slice. `None` when it has gone.
    async fn hand_over(
        &self,
        table: &Table,
        slice: Slice,
        session: &mut Session,
        state: StreamSnapshot,
    ) -> Result<Option<ChunkFate>, SourceError> {
        // Transactional, so that its commit also flushes all WAL before it: the watermark is sure to come by.
        let row = session
            .row(&format!("SELECT pg_catalog.pg_logical_emit_message(true, 'hub', {})", literal(&self.system)))
            .await
            .map_err(|error| error.into_source("writing a watermark into the WAL"))?;
        let high = row.parse(0).ok_or_else(|| SourceError::new(ErrorKind::Defect, "reading the place of a watermark"))?;
        let (fate, told) = oneshot::channel();
        let chunk = ChunkRead { stream: table.stream.clone(), rows: slice.rows, low: slice.low, high, state, fate };
        if self.chunks.send(chunk).await.is_err() {
            return Ok(None);
        }
        Ok(told.await.ok())
    }
}

impl ChunkRead {
    /// The slice's rows as batches of changes, after `keep` has left out the touched ones.
    pub(crate) fn into_batches<E>(
        rows: Vec<Rows>,
        stream: &StreamName,
        high: Lsn,
        micros: i64,
        mut keep: impl FnMut(Rows) -> Result<Rows, E>,
    ) -> Result<Vec<ChangeBatch>, E> {
        let stamp = Stamp { at: high, micros, mark: SnapshotMark::Incremental };
        let mut batches = Vec::with_capacity(rows.len());
        for rows in rows {
            let kept = keep(rows)?;
            if kept.0.num_rows() > 0 {
                batches.push(snapshot_batch(stream, kept, stamp));
            }
        }
        Ok(batches)
    }
}

/// Waits for transactions that wrote to the table before now. Those that began before the table was published are not
/// in the stream of changes, so a slice must be able to see them.
async fn wait_for_older_writers(session: &mut Session, table: &Table) -> Result<(), SourceError> {
    let failed = |error: WireError| error.into_source("waiting for older transactions on the table");
    let heaps = if table.partitioned {
        format!("SELECT relid::oid FROM pg_catalog.pg_partition_tree({})", table.oid)
    } else {
        table.oid.to_string()
    };
    let holders = format!(
        "SELECT DISTINCT virtualtransaction FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND granted \
         AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
         AND relation IN ({heaps}) AND pid IS DISTINCT FROM pg_backend_pid() AND mode IN ('RowExclusiveLock', \
         'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
    );
    let before: Vec<String> = holder_names(session.query(&holders).await.map_err(failed)?);
    let mut left = before;
    while !left.is_empty() {
        tokio::time::sleep(LOCK_POLL).await;
        let now = holder_names(session.query(&holders).await.map_err(failed)?);
        left.retain(|holder| now.contains(holder));
    }
    Ok(())
}

fn holder_names(rows: Vec<crate::wire::Row>) -> Vec<String> {
    rows.iter().filter_map(|row| row.get(0).map(str::to_owned)).collect()
}

/// Goes on with the chunks of the checkpoint where the heaps still are the same files; else begins anew (false).
fn take_up(state: &mut StreamSnapshot, fresh: Vec<Part>) -> bool {
    let same = |held: &Vec<Part>| {
        held.len() == fresh.len()
            && held.iter().zip(&fresh).all(|(held, fresh)| held.table == fresh.table && held.relfilenode == fresh.relfilenode)
    };
    if !state.parts.as_ref().is_some_and(same) {
        let anew = state.parts.is_none();
        state.parts = Some(fresh);
        return anew;
    }
    for (held, fresh) in state.parts.iter_mut().flatten().zip(fresh) {
        held.sql_name = fresh.sql_name;
        held.bytes_per_block = fresh.bytes_per_block;
    }
    true
}

fn next_chunk(state: &StreamSnapshot) -> Option<(usize, usize, Part)> {
    state.parts.iter().flatten().enumerate().find_map(|(index, part)| {
        let chunk = part.chunks.iter().position(|chunk| !chunk.is_done())?;
        Some((index, chunk, part.clone()))
    })
}

/// A slice as it was read.
#[derive(Debug)]
struct Slice {
    low: Lsn,
    rows: Vec<Rows>,
    /// The block after its last.
    end: u64,
}

/// Reads a slice in a transaction of its own; `None` when the heap is another file than planned.
async fn read_slice(
    session: &mut Session,
    reader: &mut SliceReader,
    part: &Part,
    from: u64,
    to: u64,
) -> Result<Option<Slice>, SourceError> {
    let failed = |error: WireError| error.into_source("reading a slice of the table");
    let row = session.row("SELECT pg_catalog.pg_current_wal_insert_lsn()").await.map_err(failed)?;
    let low = row.parse(0).unwrap_or_default();
    // The lock comes before the transaction's snapshot, so the file cannot change between the check and the read.
    session
        .query(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {} IN ACCESS SHARE MODE", part.sql_name))
        .await
        .map_err(failed)?;
    let row = session.row(&format!("SELECT pg_catalog.pg_relation_filenode({})", part.table)).await.map_err(failed)?;
    let read = if row.parse::<u32>(0) == Some(part.relfilenode) {
        let (rows, end) = reader.read(session, part, from, to).await?;
        Some(Slice { low, rows, end })
    } else {
        None
    };
    session.query("COMMIT").await.map_err(failed)?;
    Ok(read)
}
