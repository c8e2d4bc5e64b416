//! What the runs say of themselves, for gauges and progress. Touched once a delivery or a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_sdk::{Progress, SourceGauge};

use crate::limits::Pulse;

/// How far the first run of a stream is.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    read: u64,
    expected: Option<u64>,
    deliveries: u64,
    is_complete: bool,
}

#[derive(Debug, Default)]
struct Said {
    streams: BTreeMap<String, Rows>,
    running: Option<Arc<Pulse>>,
    foreign: u64,
    last: Option<Duration>,
    completed: Option<Instant>,
}

/// What the runs of one system said last.
#[derive(Debug, Default)]
pub(crate) struct Board {
    said: Mutex<Said>,
}

impl Board {
    fn with<T>(&self, work: impl FnOnce(&mut Said) -> T) -> T {
        work(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// So many records of a stream were read in this run.
    pub(crate) fn read(&self, stream: &str, records: u64, is_complete: bool) {
        self.with(|said| {
            let rows = said.streams.entry(stream.to_owned()).or_default();
            *rows = Rows { read: records, deliveries: rows.deliveries + 1, is_complete, ..*rows };
        });
    }

    /// The source expects so many rows.
    pub(crate) fn expect(&self, stream: &str, rows: u64) {
        self.with(|said| said.streams.entry(stream.to_owned()).or_default().expected = Some(rows));
    }

    /// A run has begun.
    pub(crate) fn began(&self, pulse: Arc<Pulse>) {
        self.with(|said| said.running = Some(pulse));
    }

    /// So many lines were no messages.
    pub(crate) fn foreign(&self, lines: u64) {
        self.with(|said| said.foreign += lines);
    }

    /// A run has ended.
    pub(crate) fn ended(&self, took: Duration, is_good: bool) {
        self.with(|said| {
            said.running = None;
            said.last = Some(took);
            if is_good {
                said.completed = Some(Instant::now());
            }
        });
    }

    /// How far the first runs are.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        let of = |(stream, rows): (&String, &Rows)| Progress {
            stream: stream.clone(),
            rows: rows.read,
            rows_expected: rows.expected,
            chunks_done: rows.deliveries,
            chunks: 0,
        };
        self.with(|said| said.streams.iter().filter(|(_, rows)| !rows.is_complete).map(of).collect())
    }

    /// Figures for metrics.
    pub(crate) fn gauges(&self) -> Vec<SourceGauge> {
        let gauge = |name, value| SourceGauge { name, label: None, value };
        self.with(|said| {
            let memory = said.running.as_ref().map_or(0, |pulse| pulse.memory_kib());
            #[allow(clippy::cast_precision_loss, reason = "figures for people")]
            let (memory, foreign) = (memory as f64 * 1024.0, said.foreign as f64);
            let mut gauges = vec![gauge("child_memory_bytes", memory), gauge("foreign_lines", foreign)];
            gauges.extend(said.last.map(|took| gauge("run_seconds", took.as_secs_f64())));
            gauges.extend(said.completed.map(|at| gauge("lag_seconds", at.elapsed().as_secs_f64())));
            gauges
        })
    }
}
