//! A folder on an SFTP server that is known by its host key.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as Shelf, PoisonError};
use std::time::{Duration, Instant};

use hub_sdk::ErrorKind;
use russh::Disconnect;
use russh::client::{self, AuthResult};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh_sftp::client::SftpSession;
use russh_sftp::client::error::Error as Failure;
use russh_sftp::protocol::{FileAttributes, StatusCode};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::names::{free, is_delivery};
use super::{Entry, Fetched, StoreError, spooled, unspooled};
use crate::config::SftpPlace;

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that was idle for longer is not used again: servers and firewalls close such ones without a word.
const IDLE: Duration = Duration::from_secs(10);

/// A folder on an SFTP server.
pub(crate) struct Sftp {
    place: SftpPlace,
    directory: PathBuf,
    spool: PathBuf,
    session: Mutex<Option<Arc<Session>>>,
}

struct Session {
    sftp: SftpSession,
    /// The connection lives as long as this does.
    connection: client::Handle<Pinned>,
    used: Shelf<Instant>,
}

/// Lets nobody but the server of one host key pass.
struct Pinned {
    expected: Option<String>,
    /// The fingerprint that the server showed.
    shown: Arc<Shelf<Option<String>>>,
}

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let shown = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.fingerprint(HashAlg::Sha256),
            PublicKeyOrCertificate::Certificate(certificate) => certificate.public_key().fingerprint(HashAlg::Sha256),
        };
        let shown = shown.to_string();
        let is_known = self.expected.as_deref().is_some_and(|expected| expected.trim_end_matches('=') == shown);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(is_known)
    }
}

impl Sftp {
    pub(super) fn new(place: SftpPlace, directory: PathBuf, spool: PathBuf) -> Self {
        Self { place, directory, spool, session: Mutex::new(None) }
    }

    pub(super) fn place(&self) -> String {
        let SftpPlace { host, port, user, folder, .. } = &self.place;
        format!("sftp://{user}@{host}:{port}/{}", folder.trim_start_matches('/'))
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.place.folder.trim_end_matches('/'))
    }

    pub(super) async fn list(&self, pattern: &str) -> Result<Vec<Entry>, StoreError> {
        let session = self.session().await?;
        let listed = session.sftp.read_dir(self.place.folder.as_str()).await;
        let mut entries = Vec::new();
        for file in self.settled(listed).await? {
            let (name, mut attributes) = (file.file_name(), file.metadata());
            if !is_delivery(pattern, &name) {
                continue;
            }
            if attributes.is_symlink() {
                // A link may lead nowhere: nothing is there then.
                let Ok(followed) = session.sftp.metadata(self.path(&name)).await else { continue };
                attributes = followed;
            }
            if attributes.is_regular() {
                entries.push(entry(name, &attributes));
            }
        }
        Ok(entries)
    }

    pub(super) async fn fetch(&self, name: &str) -> Result<Fetched, StoreError> {
        let session = self.session().await?;
        let opened = session.sftp.open(self.path(name)).await;
        let mut remote = self.settled(opened).await?;
        let mut local = spooled(&self.spool).await?;
        let copied = tokio::io::copy_buf(&mut tokio::io::BufReader::with_capacity(256 << 10, &mut remote), &mut local).await;
        let size = match copied {
            Ok(size) => size,
            Err(error) => {
                let is_disk = local.flush().await.is_err() || error.kind() == std::io::ErrorKind::StorageFull;
                self.forget().await;
                return Err(if is_disk { unspooled(&self.spool, &error) } else { unreachable(error.to_string()) });
            }
        };
        let rewound = async {
            local.flush().await?;
            local.rewind().await
        };
        rewound.await.map_err(|error| unspooled(&self.spool, &error))?;
        // What it was at the end of reading: a file that was written to meanwhile shows another time or size.
        let attributes = self.settled(remote.metadata().await).await?;
        let _read = remote.close().await;
        let was = entry(name.to_owned(), &attributes);
        let entry = Entry { size: if was.size == size { size } else { u64::MAX }, ..was };
        Ok(Fetched { file: local.into_std().await, entry })
    }

    pub(super) async fn set_aside(&self, aside: &str, bad: &Entry, report: String) -> Result<(), StoreError> {
        let session = self.session().await?;
        let attributes = self.settled(session.sftp.metadata(self.path(&bad.name)).await).await?;
        if entry(bad.name.clone(), &attributes) != *bad {
            return Ok(());
        }
        let folder = self.path(aside);
        if session.sftp.metadata(folder.as_str()).await.is_err() {
            self.settled(session.sftp.create_dir(folder.as_str()).await).await?;
        }
        let mut count = 1;
        let (name, beside) = loop {
            let (name, beside) = free(&bad.name, count);
            if !self.settled(session.sftp.try_exists(format!("{folder}/{name}")).await).await? {
                break (name, beside);
            }
            count += 1;
        };
        let created = session.sftp.create(format!("{folder}/{beside}")).await;
        let mut written = self.settled(created).await?;
        written.write_all(report.as_bytes()).await.map_err(|error| unreachable(error.to_string()))?;
        written.close().await.map_err(|error| unreachable(error.to_string()))?;
        let renamed = session.sftp.rename(self.path(&bad.name), format!("{folder}/{name}")).await;
        self.settled(renamed).await
    }

    /// What an operation gave; where the connection is to blame it is given up.
    async fn settled<T>(&self, result: Result<T, Failure>) -> Result<T, StoreError> {
        let Err(error) = result else { return result.map_err(|_| unreachable("")) };
        let error = classified(&error);
        if error.kind == ErrorKind::Unreachable && !error.is_gone {
            self.forget().await;
        }
        Err(error)
    }

    async fn forget(&self) {
        self.session.lock().await.take();
    }

    /// The connection, or a new one.
    async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref() {
            let mut used = session.used.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may be in the middle of a long file.
            if used.elapsed() < IDLE || Arc::strong_count(session) > 1 {
                *used = Instant::now();
                drop(used);
                return Ok(Arc::clone(session));
            }
        }
        if let Some(idle) = held.take() {
            let _gone_already = idle.connection.disconnect(Disconnect::ByApplication, "", "en").await;
        }
        let connected = tokio::time::timeout(PATIENCE, self.connect()).await;
        let session = Arc::new(connected.map_err(|_| unreachable(format!("no answer within {PATIENCE:?}")))??);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn connect(&self) -> Result<Session, StoreError> {
        let shown = Arc::new(Shelf::new(None));
        let pinned = Pinned { expected: self.place.host_key.clone(), shown: Arc::clone(&shown) };
        let config = client::Config { keepalive_interval: Some(PATIENCE), nodelay: true, ..client::Config::default() };
        let address = (self.place.host.as_str(), self.place.port);
        let connected = client::connect(Arc::new(config), address, pinned).await;
        let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut connection = match (connected, shown) {
            (Ok(connection), _) => connection,
            (Err(russh::Error::UnknownKey), Some(shown)) => return Err(self.unknown(&shown)),
            (Err(error), _) => return Err(unreachable(error.to_string())),
        };
        self.login(&mut connection).await?;
        let channel = connection.channel_open_session().await.map_err(|error| unreachable(error.to_string()))?;
        channel.request_subsystem(true, "sftp").await.map_err(|error| unreachable(error.to_string()))?;
        let config = russh_sftp::client::Config { request_timeout_secs: PATIENCE.as_secs(), ..Default::default() };
        let sftp = SftpSession::new_with_config(channel.into_stream(), config).await.map_err(|error| {
            let advice = "have SFTP enabled for the account at the server";
            StoreError {
                kind: ErrorKind::Unreachable,
                ..StoreError::new(ErrorKind::NotPrepared, "sftp-refused", error.to_string(), advice)
            }
        })?;
        Ok(Session { sftp, connection, used: Shelf::new(Instant::now()) })
    }

    fn unknown(&self, shown: &str) -> StoreError {
        match &self.place.host_key {
            None => StoreError::new(
                ErrorKind::BadConfig,
                "host-key-missing",
                format!("the host key of the server is not known; it shows {shown}"),
                format!("ask the server's operator for its fingerprint, and if it is this one, set host_key: \"{shown}\""),
            ),
            Some(known) => StoreError::new(
                ErrorKind::Denied,
                "host-key-changed",
                format!("the server shows the host key {shown}, and {known} is expected: it may be another server"),
                format!("ask the server's operator whether its key was changed, and only then set host_key: \"{shown}\""),
            ),
        }
    }

    async fn login(&self, connection: &mut client::Handle<Pinned>) -> Result<(), StoreError> {
        let user = self.place.user.as_str();
        let result = match (&self.place.password, &self.place.key_file) {
            (Some(password), _) => connection.authenticate_password(user, password.reveal()).await,
            (None, Some(file)) => {
                let (path, passphrase) = (self.directory.join(file), self.place.key_passphrase.clone());
                let shown = path.display().to_string();
                let loaded = super::blocking(move || load_secret_key(path, passphrase.as_ref().map(hub_sdk::Secret::reveal))).await?;
                let key = loaded.map_err(|error| {
                    let advice = "mend `key_file` or `key_passphrase`, and let the hub's user read the file";
                    StoreError::new(ErrorKind::Denied, "key-unreadable", format!("reading {shown}: {error}"), advice)
                })?;
                let hash = connection.best_supported_rsa_hash().await.ok().flatten().flatten();
                connection.authenticate_publickey(user, PrivateKeyWithHashAlg::new(Arc::new(key), hash)).await
            }
            (None, None) => connection.authenticate_none(user).await,
        };
        match result {
            Ok(AuthResult::Success) => Ok(()),
            Ok(AuthResult::Failure { remaining_methods, .. }) => {
                let methods = remaining_methods.iter().map(String::from).collect::<Vec<_>>().join(", ");
                Err(StoreError::new(
                    ErrorKind::Denied,
                    "login-refused",
                    format!("the server refuses the login of {user}; it takes {methods}"),
                    "mend `user` and `password` or `key_file`, or have the key entered for the account at the server",
                ))
            }
            Err(error) => Err(unreachable(error.to_string())),
        }
    }
}

fn entry(name: String, attributes: &FileAttributes) -> Entry {
    let modified = u64::from(attributes.mtime.unwrap_or(0)) * 1_000_000;
    Entry { name, size: attributes.size.unwrap_or(0), modified, etag: String::new() }
}

fn unreachable(why: impl Into<String>) -> StoreError {
    StoreError::new(ErrorKind::Unreachable, "server-unreachable", why, "see whether the server runs and can be reached from here")
}

fn classified(error: &Failure) -> StoreError {
    let Failure::Status(status) = error else { return unreachable(error.to_string()) };
    let why = error.to_string();
    match status.status_code {
        StatusCode::NoSuchFile => {
            let advice = "mend `sftp.folder`, or have the folder made at the server";
            StoreError { is_gone: true, ..StoreError::new(ErrorKind::Unreachable, "folder-missing", why, advice) }
        }
        StatusCode::PermissionDenied => {
            let advice = "let the account read the folder and its files at the server";
            StoreError::new(ErrorKind::Denied, "folder-denied", why, advice)
        }
        _ => unreachable(why),
    }
}
