//! What a system is doing now, as `hub status`, `/readyz` and the status topic show it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_sdk::{Backlog, Progress, Unsettled, now_micros};
use hub_telemetry::SystemMetrics;
use serde::{Deserialize, Serialize};

/// For so long after a change became durable, the lag is the one that it had: a source that is being caught up with hands
/// its next changes over within this time.
const HOLD: Duration = Duration::from_secs(5);

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
            Self::Following => Metric::Following,
            Self::Retrying => Metric::Retrying,
            Self::Waiting => Metric::Waiting,
            Self::Stopped => Metric::Stopped,
            Self::Paused => Metric::Paused,
            Self::Removing => Metric::Removing,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.metric().as_str()
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
    /// When its state changed, milliseconds since 1970.
    #[serde(default)]
    pub since_ms: i64,
    /// How far its topics are behind its source, as the metric `hub_capture_lag_seconds` defines it. None while it is removed.
    pub lag_seconds: Option<f64>,
    /// Deliveries between its source and Kafka that are not durable yet.
    #[serde(default)]
    pub pending: usize,
    /// Seconds that the oldest of them has waited.
    #[serde(default)]
    pub pending_seconds: f64,
    /// The latest live change that is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
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

/// Where a system is in the changes of its source: numbers only, no key and no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the change was committed at the source, milliseconds since 1970.
    pub committed_ms: i64,
    /// Position of that commit, as the envelope's `source` has it (PostgreSQL: LSN).
    pub position: u64,
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
    backlog: Backlog,
    metrics: Option<SystemMetrics>,
}

#[derive(Debug)]
struct Inner {
    system: String,
    state: State,
    since: Instant,
    since_ms: i64,
    error: Option<String>,
    /// While it does not follow: since when its topics may be behind.
    behind: Instant,
    /// While it follows: when the last change became durable, and the lag that it had then.
    settled: (Instant, f64),
    position: Option<Position>,
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
    /// Rejected rows by reason.
    pub rejects: Vec<(&'static str, usize)>,
    /// Source commit of the latest live change: microseconds since 1970, and its position.
    pub latest: Option<(i64, u64)>,
}

impl Board {
    /// A board for a system that is starting, seen by nobody else.
    #[must_use]
    pub fn new(system: &str) -> Self {
        let now = Instant::now();
        let inner = Inner {
            system: system.to_owned(),
            state: State::Starting,
            since: now,
            since_ms: now_micros() / 1000,
            error: None,
            behind: now,
            settled: (now, 0.0),
            position: None,
            progress: now,
            streams: BTreeMap::new(),
            rated: (now, 0, 0.0),
        };
        Self { inner: Arc::new(Mutex::new(inner)), backlog: Backlog::default(), metrics: None }
    }

    /// The same, whose state is a metric from now on.
    #[must_use]
    pub fn measured(system: &str, metrics: SystemMetrics) -> Self {
        metrics.set_state(State::Starting.metric());
        Self { metrics: Some(metrics), ..Self::new(system) }
    }

    /// Deliveries of the system that are not durable yet.
    #[must_use]
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        // A poisoned lock only means that a reporting thread died; the figures are still good.
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enters a state. An error stays shown until rows flow again.
    pub fn enter(&self, state: State, error: Option<String>) {
        let unsettled = self.backlog.unsettled(Instant::now());
        self.with(|inner| {
            if inner.state != state {
                inner.change(state, &unsettled);
            }
            if error.is_some() || matches!(state, State::Following | State::Paused) {
                inner.error = error;
            }
        });
        if let Some(metrics) = &self.metrics {
            metrics.set_state(state.metric());
        }
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
    pub fn add(&self, tally: &Tally) {
        self.with(|inner| {
            inner.progress = Instant::now();
            if let Some((micros, position)) = tally.latest {
                inner.settled = (inner.progress, age(micros, now_micros()));
                inner.position = Some(Position { committed_ms: micros / 1000, position });
            }
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
        let now = Instant::now();
        let unsettled = self.backlog.unsettled(now);
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
                since_ms: inner.since_ms,
                lag_seconds: (inner.state != State::Removing).then(|| inner.lag(&unsettled, now, now_micros())),
                pending: unsettled.deliveries,
                pending_seconds: unsettled.waited.as_secs_f64(),
                position: inner.position,
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

impl Inner {
    fn change(&mut self, state: State, unsettled: &Unsettled) {
        let now = Instant::now();
        let lag = self.lag(unsettled, now, now_micros());
        match (self.state, state) {
            (_, State::Following) => self.settled = (now, lag),
            (State::Following, _) => self.behind = now.checked_sub(Duration::from_secs_f64(lag)).unwrap_or(now),
            _ => {}
        }
        self.state = state;
        self.since = now;
        self.since_ms = now_micros() / 1000;
    }

    /// How far the topics are behind the source, in seconds; see `hub_capture_lag_seconds` of the metric catalogue.
    fn lag(&self, unsettled: &Unsettled, now: Instant, now_micros: i64) -> f64 {
        let since = |at: Instant| now.saturating_duration_since(at);
        match (self.state, unsettled.changed_micros) {
            (State::Following, Some(changed)) => age(changed, now_micros),
            (State::Following, None) if since(self.settled.0) < HOLD => self.settled.1,
            (State::Following, None) => 0.0,
            _ => since(self.behind).as_secs_f64(),
        }
    }
}

/// Seconds since a time at the source. Its clock may be ahead of ours.
#[allow(clippy::cast_precision_loss, reason = "a lag for people")]
fn age(micros: i64, now_micros: i64) -> f64 {
    now_micros.saturating_sub(micros).max(0) as f64 / 1e6
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

    fn live(micros: i64) -> Unsettled {
        Unsettled { deliveries: 1, waited: Duration::ZERO, changed_micros: Some(micros) }
    }

    fn about(lag: f64, expected: f64) {
        assert!((lag - expected).abs() < 0.5, "{lag} is not about {expected}");
    }

    #[test]
    fn lag_grows_while_a_change_waits_and_is_nothing_when_all_is_durable() {
        let board = Board::new("mot-cua");
        board.enter(State::Following, None);
        let (now, micros) = (Instant::now(), now_micros());
        let after = |seconds: u64| (now + Duration::from_secs(seconds), micros + i64::try_from(seconds).unwrap_or(0) * 1_000_000);
        let lag = |unsettled: &Unsettled, seconds: u64| board.with(|inner| inner.lag(unsettled, after(seconds).0, after(seconds).1));
        about(lag(&live(micros), 10), 10.0);
        about(lag(&live(micros), 60), 60.0);
        about(lag(&live(micros + 9_000_000), 0), 0.0);
        about(lag(&Unsettled::default(), 60), 0.0);
        board.add(&Tally { latest: Some((micros - 3_600_000_000, 7)), ..Tally::default() });
        about(lag(&Unsettled::default(), 1), 3600.0);
        about(lag(&Unsettled::default(), 10), 0.0);
        assert_eq!(board.report(Vec::new()).position.map(|position| position.position), Some(7));
    }

    #[test]
    fn lag_grows_while_the_system_does_not_follow_its_source() {
        let board = Board::new("mot-cua");
        let at = |seconds: u64| {
            board.with(|inner| inner.lag(&Unsettled::default(), Instant::now() + Duration::from_secs(seconds), now_micros()))
        };
        about(at(30), 30.0);
        board.enter(State::Following, None);
        about(at(30), 0.0);
        for state in [State::Retrying, State::Starting, State::Stopped, State::Paused] {
            board.enter(state, None);
            about(at(90), 90.0);
        }
        board.enter(State::Removing, None);
        assert_eq!(board.report(Vec::new()).lag_seconds, None);
    }
}
