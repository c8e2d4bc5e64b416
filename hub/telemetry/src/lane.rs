//! The handles of one lane.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use crate::metrics::Families;

/// What a lane counts, once per transaction.
#[derive(Clone, Debug)]
pub struct LaneMetrics {
    committed: IntCounter,
    aborted: IntCounter,
    seconds: Histogram,
    rows: Histogram,
    recoveries: IntCounter,
    ready: IntGauge,
}

impl LaneMetrics {
    pub(crate) fn new(families: &Families, lane: &str) -> Self {
        Self {
            committed: families.lane_transactions.with_label_values(&[lane, "committed"]),
            aborted: families.lane_transactions.with_label_values(&[lane, "aborted"]),
            seconds: families.lane_seconds.with_label_values(&[lane]),
            rows: families.lane_rows.with_label_values(&[lane]),
            recoveries: families.lane_recoveries.with_label_values(&[lane]),
            ready: families.lane_ready.with_label_values(&[lane]),
        }
    }

    /// A transaction of so many records was committed, so long after it began.
    pub fn committed(&self, records: usize, took: Duration) {
        self.committed.inc();
        self.seconds.observe(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a count of records in memory is far below 2^52")]
        self.rows.observe(records as f64);
    }

    /// A transaction failed.
    pub fn aborted(&self) {
        self.aborted.inc();
    }

    /// The lane made its producers anew.
    pub fn recovered(&self) {
        self.recoveries.inc();
    }

    /// Whether the lane can publish now.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}
