//! Places in the stream of changes, and what may be confirmed to the server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hub_sdk::model::Checkpoint;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::snapshot::{SNAPSHOT_PREFIX, StreamSnapshot};
use crate::wire::Lsn;

/// Name of the checkpoint's partition that holds a [`WalPosition`].
pub(crate) const WAL_PARTITION: &str = "wal";

/// The checkpoint's partition `wal`: every change up to and including (`commit_lsn`, `ordinal`) is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WalPosition {
    pub(crate) commit_lsn: Lsn,
    /// Place of the last change in its transaction, counted from 0 over all published tables.
    pub(crate) ordinal: u64,
    /// Every transaction that committed before it is published whole: what may be confirmed.
    pub(crate) resume_lsn: Lsn,
}

impl WalPosition {
    /// The position of a system of which nothing has been followed yet. No transaction commits at 0/0.
    pub(crate) fn before_everything(resume_lsn: Lsn) -> Self {
        Self { commit_lsn: Lsn(0), ordinal: 0, resume_lsn }
    }

    /// Whether a change is at or before it.
    pub(crate) fn includes(&self, commit: Lsn, ordinal: u64) -> bool {
        (commit, ordinal) <= (self.commit_lsn, self.ordinal)
    }

    /// As the value of the checkpoint's partition.
    pub(crate) fn to_json(self) -> serde_json::Value {
        serde_json::json!({
            "commit_lsn": self.commit_lsn,
            "ordinal": self.ordinal,
            "resume_lsn": self.resume_lsn,
        })
    }
}

/// What the engine has acknowledged, shared with the loop that tells the server.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    state: Mutex<AckState>,
    /// Signalled whenever more may be confirmed.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct AckState {
    resume: Lsn,
    /// Streams whose snapshot is not durable as a whole: WAL from their start on may be needed again.
    unfinished: BTreeMap<String, Lsn>,
}

impl Acknowledged {
    /// Begins anew from what Kafka holds.
    pub(crate) fn reset(&self, from: &Checkpoint) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            *state = AckState::default();
        }
        self.advance(from);
    }

    /// Lays a durable checkpoint over what is known.
    pub(crate) fn advance(&self, durable: &Checkpoint) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for (partition, position) in durable.iter() {
                state.take(partition, position);
            }
        }
        self.changed.notify_one();
    }

    /// Keeps the WAL from `start` on until the stream's snapshot is durable.
    pub(crate) fn hold(&self, stream: &str, start: Lsn) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unfinished.insert(stream.to_owned(), start);
    }

    /// What is durable as far as the stream of changes goes.
    pub(crate) fn resume(&self) -> Lsn {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).resume
    }

    /// What the server may be told: durable, and not needed by an unfinished snapshot.
    pub(crate) fn confirmable(&self) -> Lsn {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unfinished.values().copied().fold(state.resume, Lsn::min)
    }
}

impl AckState {
    fn take(&mut self, partition: &str, position: Option<&serde_json::Value>) {
        if partition == WAL_PARTITION {
            let read = position.and_then(|value| WalPosition::deserialize(value).ok());
            self.resume = read.map_or(self.resume, |wal| wal.resume_lsn.max(self.resume));
            return;
        }
        let Some(stream) = partition.strip_prefix(SNAPSHOT_PREFIX) else { return };
        match position.and_then(|value| StreamSnapshot::deserialize(value).ok()) {
            Some(snapshot) if !snapshot.complete => {
                self.unfinished.insert(stream.to_owned(), snapshot.start_lsn);
            }
            _ => {
                self.unfinished.remove(stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wal(lsn: &str) -> Checkpoint {
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set(WAL_PARTITION, json!({"commit_lsn": "0/1", "ordinal": 3, "resume_lsn": lsn}));
        checkpoint
    }

    #[test]
    fn wal_that_an_unfinished_snapshot_needs_is_not_confirmed() {
        let held = Acknowledged::default();
        held.reset(&wal("0/10"));
        held.hold("public.a", Lsn(0x20));
        held.advance(&wal("0/50"));
        assert_eq!(held.confirmable(), Lsn(0x20));
        let mut done = Checkpoint::empty();
        done.set("snapshot/public.a", json!({"start_lsn": "0/20", "parts": [], "complete": true}));
        held.advance(&done);
        assert_eq!(held.confirmable(), Lsn(0x50));
    }

    #[test]
    fn a_late_acknowledgement_does_not_move_back() {
        let held = Acknowledged::default();
        held.reset(&wal("0/50"));
        held.advance(&wal("0/40"));
        assert_eq!(held.confirmable(), Lsn(0x50));
    }

    #[test]
    fn changes_are_skipped_by_transaction_and_ordinal() {
        let position = WalPosition { commit_lsn: Lsn(5), ordinal: 2, resume_lsn: Lsn(4) };
        assert!(position.includes(Lsn(4), 99));
        assert!(position.includes(Lsn(5), 2));
        assert!(!position.includes(Lsn(5), 3));
        assert!(!position.includes(Lsn(6), 0));
        assert!(!WalPosition::before_everything(Lsn(9)).includes(Lsn(9), 0));
    }
}
