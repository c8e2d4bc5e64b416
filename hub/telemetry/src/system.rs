//! The handles of one system and of its streams.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, Opts};

use crate::metrics::{Families, clamp};

/// What a system is doing, in the words of `hub status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SystemState {
    /// It is being opened.
    Starting,
    /// Its first snapshot runs.
    Snapshot,
    /// It follows changes.
    Following,
    /// It failed and waits for its next try.
    Retrying,
    /// It failed and waits for a person to mend its source; tried now and then.
    Waiting,
    /// It stopped for good and says why.
    Stopped,
    /// It was stopped on purpose.
    Paused,
    /// It is being taken away.
    Removing,
}

impl SystemState {
    /// All states, in the order of a system's life.
    pub const ALL: [Self; 8] =
        [Self::Starting, Self::Snapshot, Self::Following, Self::Retrying, Self::Waiting, Self::Stopped, Self::Paused, Self::Removing];

    /// The state as a label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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

/// What is counted for one system. Clones are one.
#[derive(Clone)]
pub struct SystemMetrics {
    inner: Arc<Inner>,
}

struct Inner {
    system: String,
    families: Arc<Families>,
    lag: Gauge,
    queue_oldest: Gauge,
    batch_seconds: Histogram,
    progress: Gauge,
    /// Handles made on demand; locked once per batch at most.
    streams: Mutex<HashMap<String, StreamMetrics>>,
    rejects: Mutex<HashMap<String, IntCounter>>,
    restarts: Mutex<HashSet<String>>,
    /// Label values of the source gauges that have been set, by gauge.
    sources: Mutex<HashSet<(String, Vec<String>)>>,
}

/// What is counted for one stream of a system: plain atomic additions.
#[derive(Clone)]
pub struct StreamMetrics {
    captured_rows: IntCounter,
    captured_bytes: IntCounter,
    published_rows: IntCounter,
    published_bytes: IntCounter,
    labels: Arc<(String, String)>,
    families: Arc<Families>,
}

impl SystemMetrics {
    pub(crate) fn new(families: &Arc<Families>, system: &str) -> Self {
        let inner = Inner {
            lag: families.capture_lag.with_label_values(&[system]),
            queue_oldest: families.queue_oldest.with_label_values(&[system]),
            batch_seconds: families.batch_seconds.with_label_values(&[system]),
            progress: families.progress.with_label_values(&[system]),
            system: system.to_owned(),
            families: Arc::clone(families),
            streams: Mutex::default(),
            rejects: Mutex::default(),
            restarts: Mutex::default(),
            sources: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The handles of one stream. Keep them: this looks them up under a lock.
    #[must_use]
    pub fn stream(&self, stream: &str) -> StreamMetrics {
        let mut streams = self.inner.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = streams.get(stream) {
            return known.clone();
        }
        let made = StreamMetrics::new(&self.inner.families, &self.inner.system, stream);
        streams.insert(stream.to_owned(), made.clone());
        made
    }

    /// Counts rows that were dead-lettered for one reason code.
    pub fn rejected(&self, reason: &str, rows: usize) {
        let families = &self.inner.families;
        let mut rejects = self.inner.rejects.lock().unwrap_or_else(PoisonError::into_inner);
        let counter =
            rejects.entry(reason.to_owned()).or_insert_with(|| families.reject_rows.with_label_values(&[&self.inner.system, reason]));
        counter.inc_by(rows as u64);
    }

    /// Counts a restart from the checkpoint, by kind of error.
    pub fn restarted(&self, reason: &str) {
        let families = &self.inner.families;
        families.restarts.with_label_values(&[self.inner.system.as_str(), reason]).inc();
        self.inner.restarts.lock().unwrap_or_else(PoisonError::into_inner).insert(reason.to_owned());
    }

    /// Time that one batch took to be normalised and encoded.
    pub fn observe_batch(&self, took: Duration) {
        self.inner.batch_seconds.observe(took.as_secs_f64());
    }

    /// How far the topics are behind the source.
    pub fn set_lag(&self, lag: Duration) {
        self.inner.lag.set(lag.as_secs_f64());
    }

    /// How long the oldest delivery has waited for Kafka.
    pub fn set_queue_oldest(&self, waited: Duration) {
        self.inner.queue_oldest.set(waited.as_secs_f64());
    }

    /// Log of the source that is not yet confirmed, bytes; `None` where nobody knows now, which removes the series.
    pub fn set_lag_bytes(&self, bytes: Option<f64>) {
        let (family, labels) = (&self.inner.families.capture_lag_bytes, [self.inner.system.as_str()]);
        match bytes {
            Some(bytes) => family.with_label_values(&labels).set(bytes),
            // One that was never set is no mistake.
            None => drop(family.remove_label_values(&labels)),
        }
    }

    /// When the system last made progress, seconds since 1970-01-01 UTC.
    pub fn progressed_at(&self, unix_seconds: f64) {
        self.inner.progress.set(unix_seconds);
    }

    /// Says what the system is doing now.
    pub fn set_state(&self, state: SystemState) {
        let families = &self.inner.families;
        for each in SystemState::ALL {
            let gauge = families.state.with_label_values(&[self.inner.system.as_str(), each.as_str()]);
            gauge.set(i64::from(each == state));
        }
    }

    /// Sets the gauges `hub_source_<name>{system[, label]}` that the source reports about itself, and removes those of
    /// an earlier report that are no longer in it. The first use of a name fixes its label; a use with another one is
    /// dropped with a warning.
    pub fn set_source_gauges<'a>(&self, report: impl IntoIterator<Item = (&'a str, Option<(&'a str, &'a str)>, f64)>) {
        let mut seen = HashSet::new();
        for (name, label, value) in report {
            let label_names = std::iter::once("system").chain(label.map(|(name, _)| name)).map(str::to_owned).collect();
            let Some(family) = source_family(&self.inner.families, name, label_names) else { continue };
            let values: Vec<String> =
                std::iter::once(self.inner.system.as_str()).chain(label.map(|(_, value)| value)).map(str::to_owned).collect();
            if let Ok(gauge) = family.get_metric_with_label_values(&values) {
                gauge.set(value);
                seen.insert((name.to_owned(), values));
            }
        }
        let before = std::mem::replace(&mut *self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner), seen.clone());
        remove_source_series(&self.inner.families, before.difference(&seen));
    }

    /// Removes every series of this system. A series that is not there is no mistake.
    pub(crate) fn remove_series(&self) {
        let families = &self.inner.families;
        let system = self.inner.system.as_str();
        let _ = families.capture_lag.remove_label_values(&[system]);
        let _ = families.capture_lag_bytes.remove_label_values(&[system]);
        let _ = families.queue_oldest.remove_label_values(&[system]);
        let _ = families.batch_seconds.remove_label_values(&[system]);
        let _ = families.progress.remove_label_values(&[system]);
        for state in SystemState::ALL {
            let _ = families.state.remove_label_values(&[system, state.as_str()]);
        }
        for reason in self.inner.rejects.lock().unwrap_or_else(PoisonError::into_inner).keys() {
            let _ = families.reject_rows.remove_label_values(&[system, reason.as_str()]);
        }
        for reason in self.inner.restarts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = families.restarts.remove_label_values(&[system, reason.as_str()]);
        }
        for stream in self.inner.streams.lock().unwrap_or_else(PoisonError::into_inner).values() {
            stream.remove_series(families);
        }
        remove_source_series(families, self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner).iter());
    }
}

impl std::fmt::Debug for StreamMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamMetrics").field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SystemMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemMetrics").field("system", &self.inner.system).finish_non_exhaustive()
    }
}

impl StreamMetrics {
    fn new(families: &Arc<Families>, system: &str, stream: &str) -> Self {
        Self {
            captured_rows: families.capture_rows.with_label_values(&[system, stream]),
            captured_bytes: families.capture_bytes.with_label_values(&[system, stream]),
            published_rows: families.publish_rows.with_label_values(&[system, stream]),
            published_bytes: families.publish_bytes.with_label_values(&[system, stream]),
            labels: Arc::new((system.to_owned(), stream.to_owned())),
            families: Arc::clone(families),
        }
    }

    /// Counts rows taken from the source.
    pub fn captured(&self, rows: usize, bytes: usize) {
        self.captured_rows.inc_by(rows as u64);
        self.captured_bytes.inc_by(bytes as u64);
    }

    /// Counts rows committed to Kafka.
    pub fn published(&self, rows: usize, bytes: usize) {
        self.published_rows.inc_by(rows as u64);
        self.published_bytes.inc_by(bytes as u64);
    }

    /// Says whether the stream is parked.
    pub fn set_parked(&self, parked: bool) {
        self.families.stream_parked.with_label_values(&[self.labels.0.as_str(), self.labels.1.as_str()]).set(parked.into());
    }

    /// Says how far the stream's snapshot is. Looked up, once every few seconds: most streams never have one.
    pub fn snapshot(&self, rows: u64, expected: Option<u64>, chunks_done: usize, chunks: usize) {
        let families = &self.families;
        let labels = [self.labels.0.as_str(), self.labels.1.as_str()];
        families.snapshot_rows.with_label_values(&labels).set(i64::try_from(rows).unwrap_or(i64::MAX));
        if let Some(expected) = expected {
            families.snapshot_expected.with_label_values(&labels).set(i64::try_from(expected).unwrap_or(i64::MAX));
        }
        families.snapshot_chunks_done.with_label_values(&labels).set(clamp(chunks_done));
        families.snapshot_chunks.with_label_values(&labels).set(clamp(chunks));
    }

    fn remove_series(&self, families: &Families) {
        let labels = [self.labels.0.as_str(), self.labels.1.as_str()];
        let _ = families.capture_rows.remove_label_values(&labels);
        let _ = families.capture_bytes.remove_label_values(&labels);
        let _ = families.publish_rows.remove_label_values(&labels);
        let _ = families.publish_bytes.remove_label_values(&labels);
        let _ = families.snapshot_rows.remove_label_values(&labels);
        let _ = families.snapshot_expected.remove_label_values(&labels);
        let _ = families.snapshot_chunks.remove_label_values(&labels);
        let _ = families.snapshot_chunks_done.remove_label_values(&labels);
        let _ = families.stream_parked.remove_label_values(&labels);
    }
}

fn remove_source_series<'a>(families: &Families, series: impl Iterator<Item = &'a (String, Vec<String>)>) {
    let known = families.source.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, values) in series {
        if let Some((_, family)) = known.get(name) {
            let _ = family.remove_label_values(values);
        }
    }
}

/// The family of a source gauge, made on first use; `None` where it exists with other labels or its name is not allowed.
fn source_family(families: &Families, name: &str, label_names: Vec<String>) -> Option<GaugeVec> {
    let mut known = families.source.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((names, family)) = known.get(name) {
        if *names != label_names {
            tracing::warn!(gauge = name, "a source reports this gauge with other labels than another: dropped");
            return None;
        }
        return Some(family.clone());
    }
    let labels: Vec<&str> = label_names.iter().map(String::as_str).collect();
    let opts = Opts::new(format!("hub_source_{name}"), "Reported by the source's connector about itself");
    let made = GaugeVec::new(opts, &labels).and_then(|made| families.registry.register(Box::new(made.clone())).map(|()| made));
    match made {
        Ok(made) => {
            known.insert(name.to_owned(), (label_names, made.clone()));
            Some(made)
        }
        Err(cause) => {
            tracing::warn!(gauge = name, %cause, "a source reports a gauge that cannot be registered: dropped");
            None
        }
    }
}
