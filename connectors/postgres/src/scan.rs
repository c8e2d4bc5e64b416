//! Reads all present rows of a table from one view of it, without a slot: what `hub verify` compares topics with.

use hub_sdk::model::{Checkpoint, SnapshotMark, StreamName};
use hub_sdk::{Delivery, Outlet, SourceError, now_micros};

use crate::connector::{Postgres, major_version};
use crate::snapshot::{SliceReader, Stamp, plan_parts, snapshot_batch};
use crate::table::Table;
use crate::wire::{Lsn, Session, WireError};

/// The end of the WAL: of what is replayed, on a standby.
const WAL_END: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END";

/// Hands every present row of `stream` over, slice by slice.
///
/// # Errors
/// The server cannot be reached, the table is gone, or a right is missing.
pub(crate) async fn scan(source: &Postgres, stream: &StreamName, outlet: &Outlet) -> Result<(), SourceError> {
    let table = source.table(stream).await?;
    let mut session = source.session().await?;
    let major = major_version(&mut session).await?;
    let at = begin(&mut session).await.map_err(|error| error.into_source("opening a view of the table").of(stream.clone()))?;
    let read = read_all(source, &mut session, &table, major, at, outlet).await;
    session.close().await;
    read
}

/// Opens the view. The WAL's end is asked for first: what committed after it, and only that, may or may not be seen.
async fn begin(session: &mut Session) -> Result<Lsn, WireError> {
    let row = session.row(WAL_END).await?;
    let at = row.parse(0).ok_or_else(|| WireError::Protocol("the end of the WAL is no position".into()))?;
    session.query("SET idle_in_transaction_session_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    Ok(at)
}

async fn read_all(
    source: &Postgres,
    session: &mut Session,
    table: &Table,
    major: u32,
    at: Lsn,
    outlet: &Outlet,
) -> Result<(), SourceError> {
    let stamp = Stamp { at, micros: now_micros(), mark: SnapshotMark::Initial };
    let parts = plan_parts(session, table, 1, source.config.snapshot.chunk_mib).await?;
    let mut reader = SliceReader::new(table, source.context.limits, major);
    for part in &parts {
        for chunk in &part.chunks {
            let mut next = chunk.from;
            while next < chunk.to {
                let read = reader.read(session, part, next, chunk.to).await;
                let (slices, end) = read.map_err(|error| error.of(table.stream.clone()))?;
                next = end;
                let batches = slices.into_iter().map(|rows| snapshot_batch(&table.stream, rows, stamp)).collect();
                if outlet.deliver(Delivery::new(batches, Checkpoint::empty())).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
