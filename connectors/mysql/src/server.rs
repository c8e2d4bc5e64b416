//! Reaches the server: the first of several that answers, who it is, and sessions with one form of values.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hub_sdk::model::SystemName;
use hub_sdk::{ErrorKind, SourceError};
use tracing::warn;

use crate::binlog::{Gtids, MariaPosition, MysqlSet};
use crate::config::MysqlConfig;
use crate::wire::{Address, Row, Session, WireError, encryption};

/// Whose dialect is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    Maria,
    Mysql,
}

/// The servers of a system.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    addresses: Vec<Address>,
    pub(crate) reader: u32,
    pub(crate) heartbeat: Duration,
}

/// The one server that a run reads.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) flavor: Flavor,
    /// As it tells it: `10.11.19-MariaDB`.
    pub(crate) version: String,
    /// By what it is known again: `server_uuid` of MySQL, `server_id` of MariaDB.
    pub(crate) identity: String,
}

/// A place in the log of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPlace {
    pub(crate) file: String,
    pub(crate) offset: u64,
}

impl LogPlace {
    /// The number of the file and the offset as one number that grows with the log.
    pub(crate) fn number(&self) -> u64 {
        let digits = self.file.rsplit_once('.').map_or("", |(_, digits)| digits);
        digits.parse::<u64>().unwrap_or(0) << 32 | self.offset.min(u64::from(u32::MAX))
    }
}

impl Servers {
    /// Prepares what every connection needs.
    ///
    /// # Errors
    /// The authority's file cannot be read.
    pub(crate) fn new(config: &MysqlConfig, directory: &Path, system: &SystemName) -> Result<Self, SourceError> {
        let encryption = encryption(&config.tls, directory)?;
        let address = |(host, port)| Address {
            host,
            port,
            user: config.user.clone(),
            password: config.password.clone(),
            encryption: encryption.clone(),
            connect: Duration::from_secs(config.connect_timeout_s),
            patience: Duration::from_secs(config.query_timeout_s),
        };
        let addresses = config.hosts().into_iter().map(address).collect();
        Ok(Self { addresses, reader: config.reader(system), heartbeat: config.heartbeat() })
    }

    /// The first server that answers.
    ///
    /// # Errors
    /// None does, or one refuses the login.
    pub(crate) async fn reach(&self) -> Result<(Server, Session), SourceError> {
        let mut last = None;
        for address in &self.addresses {
            match open(address).await {
                Ok(mut session) => {
                    let server = identify(address, &mut session).await.map_err(|error| error.into_source(connecting(address)))?;
                    return Ok((server, session));
                }
                Err(error) if error.kind() == ErrorKind::Unreachable => {
                    warn!(host = address.host, port = address.port, %error, "server out of reach");
                    last = Some(error.into_source(connecting(address)));
                }
                Err(error) => return Err(error.into_source(connecting(address))),
            }
        }
        Err(last.unwrap_or_else(|| SourceError::new(ErrorKind::BadConfig, "connecting").because("no host is given")))
    }
}

fn connecting(address: &Address) -> String {
    format!("connecting to {}:{} as {}", address.host, address.port, address.user)
}

impl Server {
    /// A further session with it.
    ///
    /// # Errors
    /// It cannot be reached any more.
    pub(crate) async fn session(&self) -> Result<Session, SourceError> {
        open(&self.address).await.map_err(|error| error.into_source(connecting(&self.address)))
    }

    /// A session whose rows come as they are stored, under one snapshot a transaction.
    ///
    /// # Errors
    /// As [`Server::session`].
    pub(crate) async fn reader(&self) -> Result<Session, SourceError> {
        let mut session = self.session().await?;
        let timeout = match self.flavor {
            Flavor::Maria => "SET SESSION max_statement_time = 0",
            Flavor::Mysql => "SET SESSION max_execution_time = 0",
        };
        let settings = [
            // Text as it is stored, so that it is decoded here like that of the log.
            "SET character_set_results = NULL",
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            timeout,
        ];
        for setting in settings {
            session.query(setting).await.map_err(|error| error.into_source("preparing a session"))?;
        }
        Ok(session)
    }

    /// Reads GTIDs in the server's form.
    pub(crate) fn gtids(&self, text: &str) -> Option<Gtids> {
        match self.flavor {
            Flavor::Maria => MariaPosition::parse(text).map(Gtids::Maria),
            Flavor::Mysql => MysqlSet::parse(text).map(Gtids::Mysql),
        }
    }

    /// Where the log ends, with the GTIDs up to there; `None` where there is no log.
    ///
    /// # Errors
    /// The server cannot be asked, or a right is missing.
    pub(crate) async fn log_end(&self, session: &mut Session) -> Result<Option<(LogPlace, Gtids)>, WireError> {
        let row = match self.flavor {
            Flavor::Maria => session.one("SHOW MASTER STATUS").await?,
            Flavor::Mysql => match session.one("SHOW BINARY LOG STATUS").await {
                // 8.0 knows it by its older name only.
                Err(WireError::Server(error)) if error.code == 1064 => session.one("SHOW MASTER STATUS").await?,
                other => other?,
            },
        };
        let Some(row) = row else { return Ok(None) };
        let place = LogPlace { file: cell(&row, 0), offset: cell(&row, 1).parse().unwrap_or(4) };
        let gtids = match self.flavor {
            Flavor::Maria => self.gtids_at(session, &place).await?.unwrap_or_default(),
            Flavor::Mysql => cell(&row, 4),
        };
        let gtids = self.gtids(&gtids).ok_or(WireError::Protocol("its GTIDs"))?;
        Ok(Some((place, gtids)))
    }

    /// MariaDB: the GTIDs up to a place of its log; `None` where it has no such place.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn gtids_at(&self, session: &mut Session, place: &LogPlace) -> Result<Option<String>, WireError> {
        let sql = format!("SELECT BINLOG_GTID_POS({}, {})", crate::kind::literal(&place.file), place.offset);
        Ok(session.one(&sql).await?.and_then(|row| row.into_iter().next().flatten()))
    }

    /// Files of the log with their sizes.
    ///
    /// # Errors
    /// The server cannot be asked, or a right is missing.
    pub(crate) async fn log_files(&self, session: &mut Session) -> Result<Vec<(String, u64)>, WireError> {
        let rows = session.query("SHOW BINARY LOGS").await?;
        Ok(rows.iter().map(|row| (cell(row, 0), cell(row, 1).parse().unwrap_or(0))).collect())
    }
}

/// A cell as text; empty for null.
pub(crate) fn cell(row: &Row, place: usize) -> String {
    row.get(place).cloned().flatten().unwrap_or_default()
}

async fn open(address: &Address) -> Result<Session, WireError> {
    let mut session = Session::connect(address).await?;
    // A reader that waits for Kafka must not be thrown out for it.
    let settings = "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = '', net_write_timeout = 31536000, net_read_timeout = 31536000, \
                    wait_timeout = 31536000";
    session.query(settings).await?;
    Ok(session)
}

async fn identify(address: &Address, session: &mut Session) -> Result<Server, WireError> {
    let version = cell(&session.one("SELECT VERSION()").await?.unwrap_or_default(), 0);
    let flavor = if version.contains("MariaDB") { Flavor::Maria } else { Flavor::Mysql };
    let names = variables(session, &["server_id", "server_uuid"]).await?;
    let identity = names.get("server_uuid").or_else(|| names.get("server_id")).cloned().unwrap_or_default();
    Ok(Server { address: address.clone(), flavor, version, identity })
}

/// Settings of the server by name.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn variables(session: &mut Session, names: &[&str]) -> Result<BTreeMap<String, String>, WireError> {
    let list: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let rows = session.query(&format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", list.join(", "))).await?;
    Ok(rows.iter().map(|row| (cell(row, 0).to_ascii_lowercase(), cell(row, 1))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_grow_over_files() {
        let place = |file: &str, offset| LogPlace { file: file.to_owned(), offset }.number();
        assert!(place("a.b.000009", 1 << 30) < place("a.b.000010", 4));
        assert!(place("binlog.999999", 9) < place("binlog.1000000", 4));
    }
}
