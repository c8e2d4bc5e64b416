//! What is kept of an exchange: digests for the audit topic, and both sides whole where the configuration asks for it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chrono::{DateTime, Days, NaiveDate};
use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, SourceError, now_micros};
use sha2::{Digest as _, Sha256};

use crate::config::EvidenceConfig;
use crate::request::Built;

/// Where exchanges are kept whole.
#[derive(Debug)]
pub(crate) struct Keeper {
    folder: Option<PathBuf>,
    days: u32,
    next: AtomicU64,
    cleaned: std::sync::Mutex<Option<NaiveDate>>,
}

impl Keeper {
    /// By the configuration; a relative folder starts at `directory`.
    pub(crate) fn new(config: &EvidenceConfig, directory: &Path) -> Self {
        let folder = config.keep.as_ref().map(|keep| directory.join(keep));
        Self { folder, days: config.keep_days, next: AtomicU64::new(0), cleaned: Default::default() }
    }

    /// Keeps both sides of an exchange; where, below the folder. Empty where nothing is kept.
    ///
    /// # Errors
    /// [`ErrorKind::NotPrepared`] where the folder cannot be written: what must be kept is not asked for without it.
    pub(crate) async fn keep(&self, stream: &StreamName, request: Vec<u8>, answer: Bytes) -> Result<String, SourceError> {
        let Some(folder) = self.folder.clone() else { return Ok(String::new()) };
        let micros = now_micros();
        let today = DateTime::from_timestamp_micros(micros).unwrap_or_default().date_naive();
        let safe: String = stream.as_str().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
        let name = format!("{today}/{safe}-{micros}-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let clean = {
            let mut cleaned = self.cleaned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (cleaned.replace(today) != Some(today)).then(|| today.checked_sub_days(Days::new(self.days.into()))).flatten()
        };
        let (kept, place) = (name.clone(), folder.display().to_string());
        let written = tokio::task::spawn_blocking(move || {
            if let Some(before) = clean {
                remove_before(&folder, before);
            }
            fs::create_dir_all(folder.join(today.to_string()))?;
            write(&folder.join(format!("{name}.request")), &request)?;
            write(&folder.join(format!("{name}.answer")), &answer)
        });
        let failed = |why: String| {
            SourceError::new(ErrorKind::NotPrepared, format!("keeping an exchange in {place}"))
                .because(why)
                .advise("give the hub's account the right to write there, or leave `evidence.keep` out")
        };
        match written.await {
            Ok(Ok(())) => Ok(kept),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes the folders of days that are over. What cannot be removed is tried again the next day.
fn remove_before(folder: &Path, before: NaiveDate) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let day = entry.file_name().to_str().and_then(|name| name.parse::<NaiveDate>().ok());
        if day.is_some_and(|day| day < before)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), %error, "kept exchanges cannot be removed");
        }
    }
}

/// A request as it is kept, without the login: method and address, a line end, the body.
pub(crate) fn request_bytes(built: &Built) -> Vec<u8> {
    let mut bytes = format!("{} {}\n", built.method, built.url).into_bytes();
    bytes.extend_from_slice(built.body.as_deref().unwrap_or_default());
    bytes
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
