//! Opening a connection: TLS, start-up parameters, password.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hub_sdk::Secret;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::WireError;
use super::inbox::Message;
use super::session::Session;
use super::transport::{Socket, Transport};
use crate::client::Encryption;
use crate::config::session_options;

/// Where a server is and how to log in.
#[derive(Clone)]
pub(crate) struct Address {
    /// Host name, address, or a folder with a Unix socket (begins with `/`).
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) database: String,
    /// Shown in `pg_stat_activity`.
    pub(crate) application: String,
    pub(crate) encryption: Encryption,
    /// How long a connection may take to open, TLS and login included.
    pub(crate) patience: Duration,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// SQL and COPY.
    Sql,
    /// A walsender bound to the database.
    Replication,
}

/// Opens a connection and logs in.
pub(super) async fn connect(address: &Address, purpose: Purpose) -> Result<Session, WireError> {
    let opening = async {
        let transport = open_link(address).await?;
        let mut session = Session::over(transport);
        log_in(&mut session, address, purpose).await?;
        Ok(session)
    };
    tokio::time::timeout(address.patience, opening).await.unwrap_or_else(|_elapsed| {
        Err(WireError::Timeout { host: address.host.clone(), port: address.port, seconds: address.patience.as_secs() })
    })
}

async fn open_link(address: &Address) -> Result<Transport, WireError> {
    let refused = |source| WireError::Connect { host: address.host.clone(), port: address.port, source };
    if address.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", address.host, address.port);
        return Ok(Transport::Unix(UnixStream::connect(path).await.map_err(refused)?));
    }
    let link = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(refused)?;
    link.set_nodelay(true).map_err(refused)?;
    let mut link = Socket::Watched(link);
    let (tls, required) = match &address.encryption {
        Encryption::Never => return Ok(Transport::Tcp(link)),
        Encryption::IfOffered(tls) => (tls, false),
        Encryption::Always(tls) => (tls, true),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    link.write_all(&request).await.map_err(WireError::Broken)?;
    if link.read_u8().await.map_err(WireError::Broken)? != b'S' {
        if required {
            return Err(WireError::NoTls { host: address.host.clone() });
        }
        return Ok(Transport::Tcp(link));
    }
    let failed = |source| WireError::Tls { host: address.host.clone(), source };
    let name = ServerName::try_from(address.host.clone()).map_err(|error| failed(std::io::Error::other(error)))?;
    let link = TlsConnector::from(Arc::clone(tls)).connect(name, link).await.map_err(failed)?;
    Ok(Transport::Tls(Box::new(link)))
}

async fn log_in(session: &mut Session, address: &Address, purpose: Purpose) -> Result<(), WireError> {
    let options = session_options();
    let mut parameters = vec![
        ("user", address.user.as_str()),
        ("database", address.database.as_str()),
        ("application_name", address.application.as_str()),
        ("options", options.as_str()),
    ];
    if purpose == Purpose::Replication {
        parameters.push(("replication", "database"));
    }
    session.send_with(|out| frontend::startup_message(parameters.iter().copied(), out)).await?;
    let mut scram: Option<sasl::ScramSha256> = None;
    loop {
        let step = match session.message().await? {
            Message::Authentication(body) => Step::read(body)?,
            Message::Ready => return Ok(()),
            Message::Error(error) => return Err(WireError::Server(error)),
            _ => continue,
        };
        match step {
            Step::Done => {}
            Step::Clear => {
                let password = password_of(address)?;
                session.send_with(|out| frontend::password_message(password.as_bytes(), out)).await?;
            }
            Step::Md5(salt) => {
                let hash = md5_hash(address.user.as_bytes(), password_of(address)?.as_bytes(), salt);
                session.send_with(|out| frontend::password_message(hash.as_bytes(), out)).await?;
            }
            Step::Scram => {
                let begun = sasl::ScramSha256::new(password_of(address)?.as_bytes(), sasl::ChannelBinding::unsupported());
                session.send_with(|out| frontend::sasl_initial_response(sasl::SCRAM_SHA_256, begun.message(), out)).await?;
                scram = Some(begun);
            }
            Step::Continue(data) => {
                let state = scram.as_mut().ok_or_else(|| WireError::Protocol("SCRAM without a beginning".into()))?;
                state.update(&data).map_err(|error| WireError::Login(error.to_string()))?;
                session.send_with(|out| frontend::sasl_response(state.message(), out)).await?;
            }
            Step::Final(data) => {
                let state = scram.as_mut().ok_or_else(|| WireError::Protocol("SCRAM without a beginning".into()))?;
                state.finish(&data).map_err(|error| WireError::Login(error.to_string()))?;
            }
        }
    }
}

fn password_of(address: &Address) -> Result<&str, WireError> {
    match &address.password {
        Some(password) => Ok(password.reveal()),
        None => Err(WireError::Login(format!("the server wants a password of {}, none is configured", address.user))),
    }
}

/// One step of the server's authentication.
enum Step {
    Done,
    Clear,
    Md5([u8; 4]),
    Scram,
    Continue(Vec<u8>),
    Final(Vec<u8>),
}

impl Step {
    fn read(body: &[u8]) -> Result<Self, WireError> {
        let broken = || WireError::Protocol("a broken authentication request".into());
        let (code, rest) = body.split_first_chunk::<4>().ok_or_else(broken)?;
        match u32::from_be_bytes(*code) {
            0 => Ok(Self::Done),
            3 => Ok(Self::Clear),
            5 => Ok(Self::Md5(*rest.first_chunk::<4>().ok_or_else(broken)?)),
            10 if rest.split(|byte| *byte == 0).any(|name| name == sasl::SCRAM_SHA_256.as_bytes()) => Ok(Self::Scram),
            11 => Ok(Self::Continue(rest.to_vec())),
            12 => Ok(Self::Final(rest.to_vec())),
            other => Err(WireError::Login(format!(
                "the server asks for authentication method {other}; password, md5 and scram-sha-256 are supported"
            ))),
        }
    }
}
