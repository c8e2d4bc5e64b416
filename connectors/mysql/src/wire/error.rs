//! What goes wrong between a client and its server.

use std::io;

use hub_sdk::{ErrorKind, SourceError};

/// An error packet of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerError {
    pub(crate) code: u16,
    pub(crate) state: String,
    pub(crate) message: String,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server said nothing for {0} s")]
    Silent(u64),
    #[error("{} ({})", .0.message, .0.code)]
    Server(ServerError),
    #[error("the server's answer cannot be understood: {0}")]
    Protocol(&'static str),
    #[error("the server offers no TLS")]
    NoTls,
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("the account logs in by {0}, which the hub does not speak")]
    Plugin(String),
    #[error("the account's password may only be sent over TLS")]
    ClearPassword,
}

/// Errors of MySQL and MariaDB that say what is to be done.
pub(crate) mod code {
    /// The login is refused.
    pub(crate) const ACCESS_DENIED: u16 = 1045;
    /// No right on a database.
    pub(crate) const DB_ACCESS_DENIED: u16 = 1044;
    /// No right on a table.
    pub(crate) const TABLE_ACCESS_DENIED: u16 = 1142;
    /// No right on a column.
    pub(crate) const COLUMN_ACCESS_DENIED: u16 = 1143;
    /// A right of the whole server is missing.
    pub(crate) const PRIVILEGE_MISSING: u16 = 1227;
    /// The host may not log in.
    pub(crate) const HOST_REFUSED: u16 = 1130;
    /// The table is not there.
    pub(crate) const NO_TABLE: u16 = 1146;
    /// The table was changed after the view was opened.
    pub(crate) const TABLE_CHANGED: u16 = 1412;
    /// A column is not there.
    pub(crate) const NO_COLUMN: u16 = 1054;
    /// The log cannot be read from where it was asked.
    pub(crate) const LOG_FATAL: u16 = 1236;
}

impl WireError {
    /// The server's own error code.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Server(error) => Some(error.code),
            _ => None,
        }
    }

    /// Classified for the engine.
    pub(crate) fn into_source(self, doing: impl Into<String>) -> SourceError {
        let advice = match &self {
            Self::NoTls => Some("set tls.mode to disable, or let the server offer TLS"),
            Self::Tls(_) => Some("give the authority that signed the server's certificate as tls.ca"),
            Self::Plugin(_) => Some("let the account log in by mysql_native_password or caching_sha2_password"),
            Self::ClearPassword => Some("set tls.mode to require or higher"),
            Self::Server(error) if error.code == code::ACCESS_DENIED => Some("mend user and password, or the account's host"),
            Self::Server(error) if error.code == code::PRIVILEGE_MISSING => {
                Some("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the account (MariaDB: BINLOG MONITOR)")
            }
            _ => None,
        };
        let error = SourceError::new(self.kind(), doing).because(self);
        match advice {
            Some(advice) => error.advise(advice),
            None => error,
        }
    }

    /// What kind of trouble it is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_) | Self::Closed | Self::Silent(_) => ErrorKind::Unreachable,
            Self::Tls(_) | Self::NoTls | Self::Plugin(_) | Self::ClearPassword => ErrorKind::BadConfig,
            Self::Protocol(_) => ErrorKind::Defect,
            Self::Server(error) => match error.code {
                code::ACCESS_DENIED
                | code::DB_ACCESS_DENIED
                | code::TABLE_ACCESS_DENIED
                | code::COLUMN_ACCESS_DENIED
                | code::PRIVILEGE_MISSING
                | code::HOST_REFUSED => ErrorKind::Denied,
                code::NO_TABLE | code::NO_COLUMN => ErrorKind::StreamBroken,
                code::LOG_FATAL => ErrorKind::PositionLost,
                // Shutting down, killed, too many connections, lock waits, read-only: all of them pass.
                _ => ErrorKind::Unreachable,
            },
        }
    }
}

impl ServerError {
    /// Reads an error packet, its first byte (0xFF) left out.
    pub(crate) fn parse(rest: &[u8]) -> Self {
        let code = rest.get(..2).map_or(0, |code| u16::from(code[0]) | u16::from(code[1]) << 8);
        let rest = rest.get(2..).unwrap_or_default();
        let (state, message) = match rest {
            [b'#', rest @ ..] if rest.len() >= 5 => rest.split_at(5),
            _ => (&[][..], rest),
        };
        Self { code, state: String::from_utf8_lossy(state).into_owned(), message: String::from_utf8_lossy(message).into_owned() }
    }
}
