//! Readers side by side: each takes chunk after chunk, opens a view for it and hands its rows over.

use std::sync::Arc;

use hub_sdk::model::{Checkpoint, SnapshotMark};
use hub_sdk::{BatchLimits, Delivery, ErrorKind, Outlet, Shut, SourceError, now_micros};
use tokio::task::JoinSet;
use tracing::info;

use super::land::{Chunk, Land};
use super::rows::{RowReader, Slice, batch, select};
use super::territory::{SNAPSHOT_PREFIX, Territory};
use super::view::open_view;
use crate::catalog::Table;
use crate::decode::Rules;
use crate::server::Server;
use crate::wire::{Session, code};

/// How often a view is opened anew for one chunk before the run gives up.
const TRIES: u32 = 100;

/// What all readers share.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) server: Server,
    pub(crate) rules: Rules,
    pub(crate) limits: BatchLimits,
    pub(crate) land: Arc<Land>,
    /// The tables, plot by plot; none for one that has nothing to read.
    pub(crate) tables: Arc<Vec<Table>>,
    /// What is added to places of this server's log.
    pub(crate) base: u64,
    pub(crate) mark: SnapshotMark,
    pub(crate) outlet: Outlet,
}

/// Reads whatever is unread; returns when all is handed over, or the outlet is shut.
///
/// # Errors
/// Why a reader cannot go on, classified.
pub(crate) async fn read_all(reading: Reading, workers: usize) -> Result<(), SourceError> {
    let mut readers = JoinSet::new();
    for plot in 0..reading.tables.len() {
        // A table that was read to its end just before a crash, and one without a row.
        if complete(&reading, plot).await.is_err() {
            return Ok(());
        }
    }
    for _ in 0..workers.max(1) {
        readers.spawn(worker(reading.clone()));
    }
    while let Some(ended) = readers.join_next().await {
        match ended {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(Shut))) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(error) => return Err(SourceError::new(ErrorKind::Defect, "reading tables").because(error)),
        }
    }
    Ok(())
}

type Ended = Result<Result<(), Shut>, SourceError>;

async fn worker(reading: Reading) -> Ended {
    let mut session: Option<Session> = None;
    while let Some(chunk) = reading.land.next_chunk() {
        let read = match session.take() {
            Some(session) => chunk_of(&reading, &chunk, session).await,
            None => chunk_of(&reading, &chunk, reading.server.reader().await?).await,
        };
        reading.land.land(&chunk);
        match read? {
            Ok(Some(same)) => session = Some(same),
            // The view was lost to a change of the table: what is left of the chunk is taken up again.
            Ok(None) => {}
            Err(Shut) => return Ok(Err(Shut)),
        }
        if complete(&reading, chunk.plot).await.is_err() {
            return Ok(Err(Shut));
        }
    }
    if let Some(mut session) = session {
        // Ignored: the view goes with its connection.
        let _gone = session.query("COMMIT").await;
        session.close().await;
    }
    Ok(Ok(()))
}

/// Says that a stream is complete, where it has become so.
async fn complete(reading: &Reading, plot: usize) -> Result<(), Shut> {
    let _turn = reading.land.turn.lock().await;
    let (Some(territory), Some(table)) = (reading.land.complete(plot), reading.tables.get(plot)) else { return Ok(()) };
    info!(stream = %table.stream, "all present rows are read");
    let delivery = Delivery::new(Vec::new(), checkpoint(table, &territory)).completing(vec![table.stream.clone()]);
    reading.outlet.deliver(delivery).await
}

fn checkpoint(table: &Table, territory: &Territory) -> Checkpoint {
    let mut checkpoint = Checkpoint::empty();
    checkpoint.set(format!("{SNAPSHOT_PREFIX}{}", table.stream), territory.to_json());
    checkpoint
}

/// Reads a chunk to its end; gives the session back, or none where its view was lost.
async fn chunk_of(reading: &Reading, chunk: &Chunk, mut session: Session) -> Result<Result<Option<Session>, Shut>, SourceError> {
    let Some(table) = reading.tables.get(chunk.plot) else { return Ok(Ok(Some(session))) };
    let place = view(reading, chunk, &mut session).await?;
    let stamp = (place, now_micros());
    let sql = select(table, chunk.after.as_ref(), chunk.upto.as_ref());
    let is_sortable = table.layout.is_sortable();
    let mut rows = match RowReader::start(&mut session, table, &reading.rules, reading.limits, &sql).await {
        Ok(rows) => rows,
        Err(error) if is_stale(&error) => return Ok(Ok(None)),
        Err(error) => return Err(error),
    };
    loop {
        let slice = match rows.next().await {
            Ok(slice) => slice,
            Err(error) if error.code() == Some(code::TABLE_CHANGED) => return Ok(Ok(None)),
            Err(error) => return Err(error.into_source("reading the table").of_stream(table)),
        };
        let Some(mut slice) = slice else { break };
        let count = slice.rows.num_rows() as u64;
        let last = slice.last.take().filter(|_| is_sortable);
        if deliver(reading, chunk, table, (slice, last, count), stamp).await.is_err() {
            return Ok(Err(Shut));
        }
    }
    let _turn = reading.land.turn.lock().await;
    let territory = reading.land.mark(chunk, None, place, 0);
    if reading.outlet.deliver(Delivery::new(Vec::new(), checkpoint(table, &territory))).await.is_err() {
        return Ok(Err(Shut));
    }
    Ok(Ok(Some(session)))
}

/// A view that the follower has not passed.
async fn view(reading: &Reading, chunk: &Chunk, session: &mut Session) -> Result<u64, SourceError> {
    for _ in 0..TRIES {
        let place = reading.base + open_view(&reading.server, session).await?.number();
        if reading.land.take_off(chunk, place) {
            return Ok(place);
        }
        // The log may be sent before its transaction is seen by others.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Err(SourceError::new(ErrorKind::Unreachable, "opening a view of the tables").because("the log is always ahead of what can be seen"))
}

/// Hands rows over with the checkpoint that is behind them; a table whose keys are not compared has none before its end.
async fn deliver(
    reading: &Reading,
    chunk: &Chunk,
    table: &Table,
    (slice, last, count): (Slice, Option<super::key::Key>, u64),
    stamp: (u64, i64),
) -> Result<(), Shut> {
    let batches = vec![batch(&table.stream, slice, stamp, reading.mark)];
    let Some(last) = last else {
        reading.land.count(chunk, count);
        return reading.outlet.deliver(Delivery::new(batches, Checkpoint::empty())).await;
    };
    let _turn = reading.land.turn.lock().await;
    let territory = reading.land.mark(chunk, Some(last), stamp.0, count);
    reading.outlet.deliver(Delivery::new(batches, checkpoint(table, &territory))).await
}

/// Whether the table was changed after the view was opened.
fn is_stale(error: &SourceError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<crate::wire::WireError>());
    cause.is_some_and(|cause| cause.code() == Some(code::TABLE_CHANGED))
}

trait OfStream {
    fn of_stream(self, table: &Table) -> Self;
}

impl OfStream for SourceError {
    /// Names the stream where it alone is concerned: a broken link concerns all.
    fn of_stream(self, table: &Table) -> Self {
        if self.kind() == ErrorKind::StreamBroken { self.of(table.stream.clone()) } else { self }
    }
}
