//! What was captured and is not durable yet: how much of it, for how long, and of when. Readiness and lag are told by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_model::{ChangeBatch, SnapshotMark};

/// The deliveries of one system between its connector and Kafka. Clones are one. Locked twice per delivery, never per row.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    changed_micros: Option<i64>,
}

/// What waits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Deliveries.
    pub deliveries: usize,
    /// How long the oldest of them has waited; zero where none waits.
    pub waited: Duration,
    /// Source commit of the oldest live change among them, microseconds since 1970. Rows of a snapshot have none.
    pub changed_micros: Option<i64>,
}

/// One delivery's place in the backlog, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    backlog: Backlog,
}

impl Backlog {
    /// What waits at `now`.
    #[must_use]
    pub fn unsettled(&self, now: Instant) -> Unsettled {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = |waiting: &Waiting| now.saturating_duration_since(waiting.since);
        Unsettled {
            deliveries: held.waiting.len(),
            waited: held.waiting.values().map(waited).max().unwrap_or_default(),
            changed_micros: held.waiting.values().filter_map(|waiting| waiting.changed_micros).min(),
        }
    }

    /// Takes a place for these batches.
    pub(crate) fn enter(&self, batches: &[ChangeBatch]) -> Place {
        let live = batches.iter().filter(|batch| batch.snapshot == SnapshotMark::No);
        let changed_micros = live.filter_map(|batch| batch.origin.commit_micros.first().copied()).min();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let number = held.next;
        held.next += 1;
        held.waiting.insert(number, Waiting { since: Instant::now(), changed_micros });
        Place { number, backlog: self.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backlog.held.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&self.number);
    }
}
