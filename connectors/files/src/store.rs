//! Where files are delivered: a folder, an SFTP server, a bucket. Each lists, fetches and puts aside in its own way.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hub_sdk::{ErrorKind, SourceError};

use crate::config::FilesConfig;

mod bucket;
mod folder;
mod names;
mod sftp;

pub(crate) use bucket::Bucket;
pub(crate) use folder::Folder;
pub(crate) use names::ACCEPT;
pub(crate) use sftp::Sftp;

/// One file that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name in the place.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
    /// When it was changed last, microseconds since 1970.
    pub(crate) modified: u64,
    /// The place's own mark of this state of the file; empty where it has none.
    pub(crate) etag: String,
}

/// A file that can be read from its beginning again and again.
pub(crate) struct Fetched {
    /// Its content, as it was when this was made.
    pub(crate) file: File,
    /// What it was then.
    pub(crate) entry: Entry,
}

/// A place of files.
pub(crate) enum Store {
    /// A folder of this machine.
    Folder(Folder),
    /// A folder on an SFTP server.
    Sftp(Sftp),
    /// A prefix in a bucket.
    Bucket(Bucket),
}

/// Why a place cannot be read or written.
#[derive(Debug)]
pub(crate) struct StoreError {
    /// What kind of trouble it is.
    pub(crate) kind: ErrorKind,
    /// Stable code for `hub check`.
    pub(crate) code: &'static str,
    /// In words.
    pub(crate) why: String,
    /// What to do next.
    pub(crate) advice: String,
    /// Whether the one file that was asked for is not there.
    pub(crate) is_gone: bool,
}

impl StoreError {
    fn new(kind: ErrorKind, code: &'static str, why: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { kind, code, why: why.into(), advice: advice.into(), is_gone: false }
    }

    /// As the hub gets it.
    pub(crate) fn told(self, doing: String) -> SourceError {
        SourceError::new(self.kind, doing).because(self.why).advise(self.advice)
    }
}

impl Store {
    /// The place that a configuration names; relative paths start at `directory`.
    pub(crate) fn new(config: &FilesConfig, directory: &Path) -> Result<Self, StoreError> {
        let spool = config.spool();
        match (&config.folder, &config.sftp, &config.s3) {
            (_, Some(place), _) => Ok(Self::Sftp(Sftp::new(place.clone(), directory.to_owned(), spool))),
            (_, _, Some(place)) => Bucket::new(place, directory, spool).map(Self::Bucket),
            (folder, ..) => Ok(Self::Folder(Folder::new(directory.join(folder.clone().unwrap_or_default())))),
        }
    }

    /// The place in words, without a secret.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Folder(folder) => folder.place(),
            Self::Sftp(sftp) => sftp.place(),
            Self::Bucket(bucket) => bucket.place(),
        }
    }

    /// Whether asking for it costs next to nothing.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    /// How long a state of a file must be seen before a later change is sure to show in what the place tells of it.
    pub(crate) fn resolution(&self) -> Duration {
        match self {
            // The times of SFTP are whole seconds.
            Self::Sftp(_) => Duration::from_millis(1_100),
            Self::Folder(_) | Self::Bucket(_) => Duration::ZERO,
        }
    }

    /// The files whose names fit a pattern, in the order of their delivery. Unfinished and hidden ones are left out.
    pub(crate) async fn list(&self, pattern: &str) -> Result<Vec<Entry>, StoreError> {
        let mut entries = match self {
            Self::Folder(folder) => folder.list(pattern).await?,
            Self::Sftp(sftp) => sftp.list(pattern).await?,
            Self::Bucket(bucket) => bucket.list(pattern).await?,
        };
        entries.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        Ok(entries)
    }

    /// A file as it is now.
    pub(crate) async fn fetch(&self, name: &str) -> Result<Fetched, StoreError> {
        match self {
            Self::Folder(folder) => folder.fetch(name).await,
            Self::Sftp(sftp) => sftp.fetch(name).await,
            Self::Bucket(bucket) => bucket.fetch(name).await,
        }
    }

    /// Moves a bad file into the sub-folder `aside`, with its report beside it. A file of the same name that lies there stays, and
    /// so does one that was delivered in the place of the bad one meanwhile.
    pub(crate) async fn set_aside(&self, aside: &str, bad: &Entry, report: String) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.set_aside(aside, bad, report).await,
            Self::Sftp(sftp) => sftp.set_aside(aside, bad, report).await,
            Self::Bucket(bucket) => bucket.set_aside(aside, bad, report).await,
        }
    }
}

/// Runs what waits for the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    let defect = |error: tokio::task::JoinError| StoreError::new(ErrorKind::Defect, "defect", error.to_string(), "tell the maintainers");
    tokio::task::spawn_blocking(work).await.map_err(defect)
}

/// A file without a name in the spool, for what comes from afar.
async fn spooled(spool: &Path) -> Result<tokio::fs::File, StoreError> {
    let folder: PathBuf = spool.to_owned();
    let made = blocking(move || crate::text::nameless(&folder)).await?;
    let mut file = tokio::fs::File::from_std(made.map_err(|error| unspooled(spool, &error))?);
    file.set_max_buf_size(1 << 20);
    Ok(file)
}

fn unspooled(spool: &Path, error: &std::io::Error) -> StoreError {
    let why = format!("writing a file into {}: {error}", spool.display());
    StoreError::new(ErrorKind::Unreachable, "spool", why, "let the hub write there and make room, or set `spool`")
}
