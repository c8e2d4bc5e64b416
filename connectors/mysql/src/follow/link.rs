//! The connection over which the server sends its log.

use std::time::Duration;

use hub_sdk::{ErrorKind, SourceError};
use tracing::{info, warn};

use super::position::LogPosition;
use crate::binlog::Gtids;
use crate::server::{Flavor, LogPlace, Server, cell};
use crate::wire::{ServerError, Session, WireError, code};

/// A connection that receives the log.
pub(super) struct Link {
    pub(super) session: Session,
    /// Bytes of the checksum behind each event, until a file's head says.
    pub(super) tail: usize,
}

/// Whether the position's file and offset are of this server and still there.
async fn is_same_log(server: &Server, session: &mut Session, position: &LogPosition) -> Result<bool, WireError> {
    let place = LogPlace { file: position.file.clone(), offset: position.offset };
    let files = server.log_files(session).await?;
    if !files.iter().any(|(file, size)| *file == place.file && *size >= place.offset) {
        return Ok(false);
    }
    match server.flavor {
        // The same GTIDs at the same place are the same history, whatever the server is called.
        Flavor::Maria => {
            let here = server.gtids_at(session, &place).await?;
            Ok(here.is_some_and(|here| server.gtids(&here) == server.gtids(&position.gtid)))
        }
        Flavor::Mysql => Ok(position.server == server.identity),
    }
}

/// Finds where to go on: at the file and offset where the server is the same, by GTID where another has taken over. The
/// position is changed so that places go on growing.
///
/// # Errors
/// The server has nothing to go on by.
pub(super) async fn locate(server: &Server, session: &mut Session, position: &mut LogPosition) -> Result<Start, SourceError> {
    let same = is_same_log(server, session, position).await.map_err(|error| error.into_source("looking where to go on in the log"))?;
    if same {
        return Ok(Start::Place(LogPlace { file: position.file.clone(), offset: position.offset }));
    }
    let gtids = server.gtids(&position.gtid).filter(|_| !position.gtid.is_empty());
    let Some(gtids) = gtids else {
        return Err(lost(position, "it has no such place, and there are no GTIDs to find it by".to_owned()));
    };
    warn!(file = position.file, offset = position.offset, gtid = position.gtid, "another log: going on by GTID");
    position.base = position.latest() + 1;
    position.server = server.identity.clone();
    // Unknown until the first transaction: the server says the file, and each transaction where it ends.
    position.file.clear();
    position.offset = 0;
    Ok(Start::Gtids(gtids))
}

/// Where the server is asked to begin.
#[derive(Clone, Debug)]
pub(super) enum Start {
    Place(LogPlace),
    Gtids(Gtids),
}

impl Link {
    /// Asks for the log.
    ///
    /// # Errors
    /// It is not given.
    pub(super) async fn open(server: &Server, reader: u32, heartbeat: Duration, start: &Start) -> Result<Self, SourceError> {
        let mut session = server.session().await?;
        let asked = ask(server, &mut session, reader, heartbeat, start).await;
        let tail = asked.map_err(|error| error.into_source("asking for the log"))?;
        session.channel.patience = heartbeat * 3 + Duration::from_secs(2);
        info!(?start, "following the log");
        Ok(Self { session, tail })
    }

    /// An error of the link, classified.
    pub(super) fn failed(error: WireError, position: &LogPosition) -> SourceError {
        match &error {
            WireError::Server(ServerError { code: code::LOG_FATAL, message, .. }) => {
                if message.contains("same server_uuid/server_id") || message.contains("same server-id") {
                    return SourceError::new(ErrorKind::Unreachable, "reading the log")
                        .because(error)
                        .advise("another reader has the same number: give each its own server_id");
                }
                lost(position, message.clone())
            }
            _ => error.into_source("reading the log"),
        }
    }
}

async fn ask(server: &Server, session: &mut Session, reader: u32, heartbeat: Duration, start: &Start) -> Result<usize, WireError> {
    let nanos = heartbeat.as_nanos();
    let checksum = session.one("SELECT @@GLOBAL.binlog_checksum").await?.unwrap_or_default();
    let mut settings = vec![format!(
        "SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}, @master_binlog_checksum = @@GLOBAL.binlog_checksum, \
         @source_binlog_checksum = @@GLOBAL.binlog_checksum"
    )];
    if server.flavor == Flavor::Maria {
        settings.push("SET @mariadb_slave_capability = 4".to_owned());
        if let Start::Gtids(gtids) = start {
            settings.push(format!("SET @slave_connect_state = '{gtids}', @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0"));
        }
    }
    for setting in settings {
        session.query(&setting).await?;
    }
    match start {
        Start::Place(place) => session.dump(reader, &place.file, u32::try_from(place.offset).unwrap_or(u32::MAX)).await,
        Start::Gtids(Gtids::Maria(_)) => session.dump(reader, "", 4).await,
        Start::Gtids(Gtids::Mysql(set)) => session.dump_gtid(reader, &set.encode()).await,
    }?;
    Ok(if cell(&checksum, 0).eq_ignore_ascii_case("NONE") { 0 } else { 4 })
}

/// The server no longer has what comes next.
fn lost(position: &LogPosition, why: String) -> SourceError {
    let place = if position.file.is_empty() { String::new() } else { format!(" {} {}", position.file, position.offset) };
    SourceError::new(ErrorKind::PositionLost, format!("going on in the log after{place} (GTID {:?})", position.gtid)).because(why).advise(
        "read the system anew (hub run --resnapshot); keep the log longer (binlog_expire_logs_seconds) than the hub may be away; \
             where another server took over, it must have log_slave_updates and every transaction of the first",
    )
}
