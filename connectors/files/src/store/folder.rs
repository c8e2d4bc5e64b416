//! A folder of this machine, or one that is mounted there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hub_sdk::ErrorKind;

use super::names::{free, is_delivery};
use super::{Entry, Fetched, StoreError, blocking};

/// A folder of files.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn place(&self) -> String {
        format!("folder {}", self.path.display())
    }

    pub(super) async fn list(&self, pattern: &str) -> Result<Vec<Entry>, StoreError> {
        let (path, pattern) = (self.path.clone(), pattern.to_owned());
        blocking(move || list(&path, &pattern)).await?.map_err(classified)
    }

    pub(super) async fn fetch(&self, name: &str) -> Result<Fetched, StoreError> {
        let (path, name) = (self.path.join(name), name.to_owned());
        let open = move || {
            let file = File::open(path)?;
            let entry = entry(name, &file.metadata()?);
            Ok(Fetched { file, entry })
        };
        blocking(open).await?.map_err(|error: io::Error| {
            let is_gone = error.kind() == io::ErrorKind::NotFound;
            StoreError { is_gone, ..classified(error) }
        })
    }

    pub(super) async fn set_aside(&self, aside: &str, bad: &Entry, report: String) -> Result<(), StoreError> {
        let (path, aside, bad) = (self.path.clone(), aside.to_owned(), bad.clone());
        blocking(move || set_aside(&path, &aside, &bad, &report)).await?.map_err(classified)
    }
}

fn list(folder: &Path, pattern: &str) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        let Ok(name) = file.file_name().into_string() else { continue };
        if !is_delivery(pattern, &name) {
            continue;
        }
        // A file may be gone again, and a link may lead nowhere: neither is there.
        let Ok(metadata) = fs::metadata(file.path()) else { continue };
        if metadata.is_file() {
            entries.push(entry(name, &metadata));
        }
    }
    Ok(entries)
}

fn entry(name: String, metadata: &fs::Metadata) -> Entry {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let modified = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    Entry { name, size: metadata.len(), modified, etag: String::new() }
}

fn set_aside(folder: &Path, aside: &str, bad: &Entry, report: &str) -> io::Result<()> {
    let path = folder.join(&bad.name);
    if entry(bad.name.clone(), &fs::metadata(&path)?) != *bad {
        return Ok(());
    }
    let target = folder.join(aside);
    fs::create_dir_all(&target)?;
    let mut count = 1;
    let (name, beside) = loop {
        let (name, beside) = free(&bad.name, count);
        if !target.join(&name).exists() {
            break (name, beside);
        }
        count += 1;
    };
    fs::write(target.join(beside), report)?;
    fs::rename(path, target.join(name))
}

/// What an error of the file system means.
fn classified(error: io::Error) -> StoreError {
    let (kind, code, advice) = match error.kind() {
        io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "folder-denied", "let the user of the hub read the folder and its files"),
        io::ErrorKind::NotADirectory => {
            (ErrorKind::Denied, "folder-denied", "`folder` leads through a file; give the folder that holds the files")
        }
        // A folder that is not there is a mount that is lost, more often than not: what is there again tomorrow is read then.
        _ => (ErrorKind::Unreachable, "folder-missing", "mount the folder again, or mend `folder`"),
    };
    StoreError::new(kind, code, error.to_string(), advice)
}
