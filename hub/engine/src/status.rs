//! What a system is doing now, as `hub status`, `/readyz` and the status topic show it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_sdk::Progress;
use serde::{Deserialize, Serialize};

/// State of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Being prepared: topics, schemas, checkpoint.
    Starting,
    /// Reading what is there already.
    Snapshot,
    /// Following changes.
    Following,
    /// In trouble that is tried again by itself.
    Retrying,
    /// In trouble that a person must mend at the source; tried again now and then.
    Waiting,
    /// Stopped until a person decides.
    Stopped,
    /// Stopped on purpose.
    Paused,
    /// Being taken away: slot, publication, checkpoint, record.
    Removing,
}

impl State {
    /// The state as metrics show it.
    #[must_use]
    pub const fn metric(self) -> hub_telemetry::SystemState {
        use hub_telemetry::SystemState as Metric;
        match self {
            Self::Starting => Metric::Starting,
            Self::Snapshot => Metric::Snapshot,
            Self::Following => Metric::Running,
            Self::Retrying => Metric::Retrying,
            Self::Waiting | Self::Paused => Metric::Paused,
            Self::Stopped | Self::Removing => Metric::Stopped,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Snapshot => "snapshot",
            Self::Following => "following",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Removing => "removing",
        }
    }
}

/// One stream in a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its topic.
    pub topic: String,
    /// Rows captured in this run.
    pub captured: u64,
    /// Records published in this run.
    pub published: u64,
    /// Rows rejected in this run.
    pub rejected: u64,
    /// Rows that its filter left out in this run.
    pub filtered: u64,
    /// Why its rows go to the rejects topic raw, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<String>,
}

/// One system in a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemStatus {
    /// Its name.
    pub system: String,
    /// Its state.
    pub state: State,
    /// Seconds since its state changed.
    pub since_seconds: u64,
    /// Age of the last published change at its commit in Kafka, in seconds.
    pub lag_seconds: Option<f64>,
    /// Records per second over the last report.
    pub rate: f64,
    /// The last error with what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why its lane publishes nothing now: Kafka is away, or another hub has taken the lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
    /// Seconds since rows or keepalives last made progress.
    pub idle_seconds: u64,
    /// Streams by source name.
    pub streams: BTreeMap<String, StreamStatus>,
    /// Snapshots under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshot: Vec<SnapshotStatus>,
}

/// How far the snapshot of a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// The stream.
    pub stream: String,
    /// Rows read.
    pub rows: u64,
    /// Rows expected, an estimate.
    pub expected: Option<u64>,
    /// Chunks that are durable.
    pub chunks_done: u64,
    /// Chunks in all.
    pub chunks: u64,
}

impl From<Progress> for SnapshotStatus {
    fn from(progress: Progress) -> Self {
        Self {
            stream: progress.stream,
            rows: progress.rows,
            expected: progress.rows_expected,
            chunks_done: progress.chunks_done,
            chunks: progress.chunks,
        }
    }
}

/// The living status of one system, shared by its tasks.
#[derive(Clone, Debug)]
pub struct Board {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    system: String,
    state: State,
    since: Instant,
    error: Option<String>,
    lag: Option<f64>,
    progress: Instant,
    streams: BTreeMap<String, StreamStatus>,
    rated: (Instant, u64, f64),
}

/// What one publication added, told once it is durable.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Per stream: captured, published, rejected, filtered.
    pub streams: Vec<(Arc<str>, [u64; 4])>,
    /// Per stream: encoded bytes.
    pub bytes: Vec<(Arc<str>, usize)>,
    /// Source commit time of the latest live change, microseconds since 1970.
    pub latest_micros: Option<i64>,
}

impl Board {
    /// A board for a system that is starting.
    #[must_use]
    pub fn new(system: &str) -> Self {
        let now = Instant::now();
        let inner = Inner {
            system: system.to_owned(),
            state: State::Starting,
            since: now,
            error: None,
            lag: None,
            progress: now,
            streams: BTreeMap::new(),
            rated: (now, 0, 0.0),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        // A poisoned lock only means that a reporting thread died; the figures are still good.
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enters a state. An error stays shown until rows flow again.
    pub fn enter(&self, state: State, error: Option<String>) {
        self.with(|inner| {
            if inner.state != state {
                inner.state = state;
                inner.since = Instant::now();
            }
            if error.is_some() || matches!(state, State::Following | State::Paused) {
                inner.error = error;
            }
        });
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        self.with(|inner| inner.state)
    }

    /// Names a stream and its topic.
    pub fn stream(&self, stream: &str, topic: &str) {
        self.with(|inner| topic.clone_into(&mut inner.streams.entry(stream.to_owned()).or_default().topic));
    }

    /// Says that a stream is parked, or is no more.
    pub fn park(&self, stream: &str, why: Option<String>) {
        self.with(|inner| inner.streams.entry(stream.to_owned()).or_default().parked = why);
    }

    /// Adds what became durable.
    pub fn add(&self, tally: &Tally, lag_seconds: Option<f64>) {
        self.with(|inner| {
            inner.progress = Instant::now();
            inner.lag = lag_seconds.or(inner.lag);
            for (stream, [captured, published, rejected, filtered]) in &tally.streams {
                if let Some(held) = inner.streams.get_mut(stream.as_ref()) {
                    held.captured += captured;
                    held.published += published;
                    held.rejected += rejected;
                    held.filtered += filtered;
                }
            }
        });
    }

    /// A report of now. `snapshot` is the connector's progress.
    #[must_use]
    pub fn report(&self, snapshot: Vec<Progress>) -> SystemStatus {
        self.with(|inner| {
            let published: u64 = inner.streams.values().map(|stream| stream.published).sum();
            let (at, before, rate) = inner.rated;
            let elapsed = at.elapsed();
            let rate = if elapsed >= Duration::from_secs(1) {
                #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
                let fresh = published.saturating_sub(before) as f64 / elapsed.as_secs_f64();
                inner.rated = (Instant::now(), published, fresh);
                fresh
            } else {
                rate
            };
            SystemStatus {
                system: inner.system.clone(),
                state: inner.state,
                since_seconds: inner.since.elapsed().as_secs(),
                lag_seconds: inner.lag,
                rate,
                error: inner.error.clone(),
                blocked: None,
                idle_seconds: inner.progress.elapsed().as_secs(),
                streams: inner.streams.clone(),
                snapshot: snapshot.into_iter().map(SnapshotStatus::from).collect(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_until_the_system_follows_again() {
        let board = Board::new("mot-cua");
        board.enter(State::Retrying, Some("no route".into()));
        board.enter(State::Starting, None);
        assert_eq!(board.report(Vec::new()).error.as_deref(), Some("no route"));
        board.enter(State::Following, None);
        assert_eq!(board.report(Vec::new()).error, None);
    }
}
