//! Opens a view of all tables at once whose place in the log is known.

use hub_sdk::SourceError;
use tracing::debug;

use crate::server::{Flavor, LogPlace, Server, cell};
use crate::wire::{Session, WireError, code};

/// How often MySQL's log is looked at before and after a view, until both looks agree.
const TRIES: u32 = 50;
const VIEW: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";

/// Opens a view; changes up to its place are in it, and none after.
///
/// # Errors
/// The server cannot be asked, or it has no log.
pub(crate) async fn open_view(server: &Server, session: &mut Session) -> Result<LogPlace, SourceError> {
    let opened = match server.flavor {
        Flavor::Maria => maria(session).await,
        Flavor::Mysql => mysql(server, session).await?,
    };
    opened.map_err(|error| error.into_source("opening a view of the tables"))
}

/// MariaDB knows the place of each view itself, without a lock.
async fn maria(session: &mut Session) -> Result<LogPlace, WireError> {
    session.query(VIEW).await?;
    let rows = session.query("SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
    let of = |name: &str| rows.iter().find(|row| cell(row, 0).eq_ignore_ascii_case(name)).map(|row| cell(row, 1)).unwrap_or_default();
    let (file, offset) = (of("binlog_snapshot_file"), of("binlog_snapshot_position"));
    if file.is_empty() {
        return Err(WireError::Protocol("the view has no place in the log; is log_bin on?"));
    }
    Ok(LogPlace { file, offset: offset.parse().unwrap_or(0) })
}

/// MySQL does not: commits are held for an instant (`RELOAD`); without that right two looks at a quiet log must agree.
async fn mysql(server: &Server, session: &mut Session) -> Result<Result<LogPlace, WireError>, SourceError> {
    let mut locking = server.session().await?;
    let locked = match locking.query("FLUSH TABLES WITH READ LOCK").await {
        Ok(_) => true,
        Err(error) if matches!(error.code(), Some(code::PRIVILEGE_MISSING | code::ACCESS_DENIED)) => false,
        Err(error) => return Ok(Err(error)),
    };
    let opened = looks(server, session, &mut locking, if locked { 1 } else { TRIES }).await;
    if locked && let Err(error) = locking.query("UNLOCK TABLES").await {
        // The lock goes with its connection.
        debug!(%error, "unlocking");
    }
    locking.close().await;
    Ok(opened)
}

async fn looks(server: &Server, session: &mut Session, looking: &mut Session, tries: u32) -> Result<LogPlace, WireError> {
    for _ in 0..tries {
        let before = server.log_end(looking).await?;
        session.query(VIEW).await?;
        let after = server.log_end(looking).await?;
        match (before, after) {
            (Some(before), Some(after)) if before == after || tries == 1 => return Ok(after.0),
            (None, _) | (_, None) => return Err(WireError::Protocol("the server has no log; is log_bin on?")),
            _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
    Err(WireError::Protocol("the log never rests: GRANT RELOAD ON *.* TO the account"))
}
