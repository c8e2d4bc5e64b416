//! What can go wrong on a connection, and which kind of source error it is.

use std::fmt;
use std::io;

use hub_sdk::{ErrorKind, SourceError};

use crate::client::kind_of_sqlstate;

/// An error that the server sent. Its detail is left out: it may quote values of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerError {
    /// SQLSTATE, `42P01`.
    pub(crate) code: String,
    /// The message, first line.
    pub(crate) message: String,
    /// The server's own advice.
    pub(crate) hint: Option<String>,
}

impl ServerError {
    /// Reads the fields of an `ErrorResponse` body.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut error = Self { code: String::new(), message: String::new(), hint: None };
        for field in body.split(|byte| *byte == 0) {
            let Some((tag, text)) = field.split_first() else { continue };
            let text = || String::from_utf8_lossy(text).into_owned();
            match tag {
                b'C' => error.code = text(),
                b'M' => error.message = text(),
                b'H' => error.hint = Some(text()),
                _ => {}
            }
        }
        error
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        match &self.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("cannot reach {host}:{port}")]
    Connect { host: String, port: u16, source: io::Error },
    #[error("{host}:{port} did not answer within {seconds} s")]
    Timeout { host: String, port: u16, seconds: u64 },
    #[error("the link to the server broke")]
    Broken(#[source] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server was silent for {0} s")]
    Silent(u64),
    #[error("TLS with {host} failed")]
    Tls { host: String, source: io::Error },
    #[error("{host} does not speak TLS, which the configuration requires")]
    NoTls { host: String },
    #[error("cannot log in: {0}")]
    Login(String),
    #[error("the server refused")]
    Server(#[source] ServerError),
    #[error("unexpected message from the server: {0}")]
    Protocol(String),
}

impl WireError {
    /// What the engine has to know of it. Callers refine what a SQLSTATE means in their own place.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken(_) | Self::Closed | Self::Silent(_) => ErrorKind::Unreachable,
            Self::Tls { .. } | Self::NoTls { .. } => ErrorKind::BadConfig,
            Self::Login(_) => ErrorKind::Denied,
            Self::Server(error) => kind_of_sqlstate(&error.code, &error.message),
            Self::Protocol(_) => ErrorKind::Defect,
        }
    }

    /// The SQLSTATE, where the server sent one.
    pub(crate) fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }

    /// The server's message, where it sent one.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Server(error) => &error.message,
            _ => "",
        }
    }

    /// As an error of the source. `doing` reads after "failed while".
    pub(crate) fn into_source(self, doing: impl Into<String>) -> SourceError {
        SourceError::new(self.kind(), doing).because(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_is_read_without_its_detail() {
        let body = b"SFATAL\0C28P01\0Mpassword authentication failed\0Drow (1, secret)\0Htry again\0\0";
        let error = ServerError::parse(body);
        assert_eq!(error.to_string(), "password authentication failed (SQLSTATE 28P01); hint: try again");
        assert_eq!(WireError::Server(error).kind(), ErrorKind::Denied);
    }
}
