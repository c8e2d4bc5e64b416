//! What is counted of a system that pushes, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use hub_sdk::SourceGauge;

/// The answers that are counted, each by itself.
const STATUSES: [u16; 10] = [200, 400, 401, 404, 405, 408, 413, 415, 429, 503];

/// Counts since the connector was opened.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    answers: [AtomicU64; STATUSES.len()],
    /// Connections that are open.
    pub(crate) connections: AtomicU64,
    /// Requests that wait for their answer.
    pub(crate) waiting: AtomicU64,
    keys: AtomicU64,
    forgotten: AtomicU64,
}

impl Figures {
    /// A request was answered.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(place) = STATUSES.iter().position(|known| *known == status)
            && let Some(count) = self.answers.get(place)
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keys that are remembered, and those that were forgotten within their window.
    pub(crate) fn keys(&self, remembered: u64, forgotten: u64) {
        self.keys.store(remembered, Ordering::Relaxed);
        if forgotten > 0 && self.forgotten.swap(forgotten, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "more requests came within the window than keys are remembered: raise `idempotency.keys`, or the oldest may come twice"
            );
        }
    }

    /// The figures as the hub exports them.
    pub(crate) fn gauges(&self) -> Vec<SourceGauge> {
        #[allow(clippy::cast_precision_loss, reason = "figures for dashboards")]
        let gauge = |name: &'static str, label, value: &AtomicU64| SourceGauge { name, label, value: value.load(Ordering::Relaxed) as f64 };
        let answers = STATUSES.iter().zip(&self.answers);
        let mut gauges: Vec<_> = answers.map(|(status, count)| gauge("answers", Some(("status", status.to_string())), count)).collect();
        gauges.push(gauge("connections", None, &self.connections));
        gauges.push(gauge("requests_waiting", None, &self.waiting));
        gauges.push(gauge("keys_remembered", None, &self.keys));
        gauges.push(gauge("keys_forgotten_early", None, &self.forgotten));
        gauges
    }
}

/// One more of something for as long as it lives.
pub(crate) struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    pub(crate) fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
