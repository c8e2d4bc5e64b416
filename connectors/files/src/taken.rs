//! Which files were taken, and how far: what the checkpoint says of each.

use std::collections::BTreeMap;

use hub_sdk::model::{Checkpoint, StreamName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::Entry;

/// Files that are gone from the folder and still remembered, so that the same one is not taken twice.
const REMEMBERED: usize = 5_000;

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Some of its rows are told.
    Partial,
    /// All of its rows are told.
    Taken,
    /// It cannot be read.
    Rejected,
}

/// One file that was looked into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Bytes.
    pub(crate) size: u64,
    /// When it was changed last, microseconds since 1970.
    pub(crate) modified: u64,
    /// The place's own mark of this state; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) etag: String,
    /// SHA-256 of its bytes as they lie there; empty for a delivery that a later one had overtaken before it was read.
    pub(crate) sha256: String,
    /// Rows that are told.
    pub(crate) rows: u64,
    /// How far it is.
    pub(crate) state: State,
    /// The look that wrote this.
    pub(crate) look: u64,
    /// A later state of the file that was refused; what was taken of it stays true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Refused>,
}

/// A state of a file that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Bytes.
    pub(crate) size: u64,
    /// When it was changed last, microseconds since 1970.
    pub(crate) modified: u64,
    /// The place's own mark of this state; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) etag: String,
}

impl Refused {
    fn is(&self, entry: &Entry) -> bool {
        (self.size, self.modified, &self.etag) == (entry.size, entry.modified, &entry.etag)
    }
}

/// Files of one stream.
#[derive(Debug)]
pub(crate) struct Files {
    prefix: String,
    complete: String,
    files: BTreeMap<String, Taken>,
    /// Whether the first snapshot is told.
    pub(crate) is_complete: bool,
}

impl Files {
    /// What a checkpoint says of a stream.
    pub(crate) fn restore(from: &Checkpoint, stream: &StreamName) -> Result<Self, String> {
        let (prefix, complete) = (format!("file/{stream}/"), format!("complete/{stream}"));
        let mut files = BTreeMap::new();
        for (partition, position) in from.iter() {
            if let (Some(name), Some(position)) = (partition.strip_prefix(&prefix), position) {
                let taken =
                    serde_json::from_value(position.clone()).map_err(|error| format!("checkpoint partition {partition}: {error}"))?;
                files.insert(name.to_owned(), taken);
            }
        }
        let is_complete = from.get(&complete).is_some();
        Ok(Self { prefix, complete, files, is_complete })
    }

    /// What is known of a file.
    pub(crate) fn get(&self, name: &str) -> Option<&Taken> {
        self.files.get(name)
    }

    /// Whether a file need not be looked into: it is as it was.
    pub(crate) fn is_settled(&self, entry: &Entry) -> bool {
        let Some(taken) = self.files.get(&entry.name) else { return false };
        let is_same = (taken.size, taken.modified, &taken.etag) == (entry.size, entry.modified, &entry.etag);
        is_same && taken.state != State::Partial || taken.refused.as_ref().is_some_and(|refused| refused.is(entry))
    }

    /// The name under which the same content was taken already.
    pub(crate) fn same_content(&self, name: &str, sha256: &str) -> Option<&str> {
        let same = |(other, taken): &(&String, &Taken)| *other != name && taken.state == State::Taken && taken.sha256 == sha256;
        self.files.iter().find(same).map(|(other, _)| other.as_str())
    }

    /// Whether any file was read to its end.
    pub(crate) fn any_taken(&self) -> bool {
        self.files.values().any(|taken| taken.state == State::Taken && !taken.sha256.is_empty())
    }

    /// Files that were refused and are remembered.
    pub(crate) fn rejected(&self) -> usize {
        self.files.values().filter(|taken| taken.state == State::Rejected || taken.refused.is_some()).count()
    }

    /// Takes note of a file in the checkpoint of the delivery that tells it.
    pub(crate) fn set(&mut self, name: &str, taken: Taken, checkpoint: &mut Checkpoint) {
        checkpoint.set(format!("{}{name}", self.prefix), serde_json::to_value(&taken).unwrap_or(Value::Null));
        self.files.insert(name.to_owned(), taken);
    }

    /// Takes note that the first snapshot is told.
    pub(crate) fn complete(&mut self, checkpoint: &mut Checkpoint) {
        self.is_complete = true;
        checkpoint.set(self.complete.clone(), Value::Bool(true));
    }

    /// Forgets the oldest of the files that are no longer there, where they are too many.
    pub(crate) fn forget(&mut self, present: &[Entry], checkpoint: &mut Checkpoint) {
        if self.files.len() <= REMEMBERED + present.len() {
            return;
        }
        let mut gone: Vec<(u64, String)> = self
            .files
            .iter()
            .filter(|(name, _)| !present.iter().any(|entry| entry.name == **name))
            .map(|(name, taken)| (taken.look, name.clone()))
            .collect();
        gone.sort_unstable();
        for (_, name) in gone.iter().take(gone.len().saturating_sub(REMEMBERED)) {
            self.files.remove(name);
            checkpoint.remove(format!("{}{name}", self.prefix));
        }
    }
}
