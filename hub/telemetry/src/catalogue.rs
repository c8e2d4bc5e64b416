//! Every metric of the hub by name, with its type, labels and meaning: what dashboards and the reference page
//! (`docs/metrics.md`) rely on.

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// One metric of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// `hub_<stage>_<what>_<unit>[_total]`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels, in order. All have few and bounded values.
    pub labels: &'static [&'static str],
    /// What it says, for people.
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

const SYSTEM: &[&str] = &["system"];
const STREAM: &[&str] = &["system", "stream"];
const LANE: &[&str] = &["lane"];

use Kind::{Counter, Gauge, Histogram};

pub(crate) const CAPTURE_ROWS: Metric = metric(
    "hub_capture_rows_total",
    Counter,
    STREAM,
    "Rows taken from the source, snapshot and live together; rows taken again after a restart count again",
);
pub(crate) const CAPTURE_BYTES: Metric =
    metric("hub_capture_bytes_total", Counter, STREAM, "Bytes of the captured rows as columns in memory");
pub(crate) const CAPTURE_LAG: Metric = metric(
    "hub_capture_lag_seconds",
    Gauge,
    SYSTEM,
    "How far the topics are behind the source: age of the oldest captured change that is not durable in Kafka, now minus its \
     commit at the source; for 5 s afterwards the age that the last one had when it became durable; then 0. While the system \
     does not follow its source, the time since it last was up to date, or since it was started here",
);
pub(crate) const CAPTURE_LAG_BYTES: Metric = metric(
    "hub_capture_lag_bytes",
    Gauge,
    SYSTEM,
    "Bytes of the source's log that are not yet confirmed to it, by its own account every 5 s; absent where it cannot tell or be reached",
);
pub(crate) const SNAPSHOT_ROWS: Metric = metric("hub_snapshot_rows", Gauge, STREAM, "Rows read so far by the running or last snapshot");
pub(crate) const SNAPSHOT_EXPECTED: Metric =
    metric("hub_snapshot_expected_rows", Gauge, STREAM, "Rows that the snapshot expects, by the source's estimate");
pub(crate) const SNAPSHOT_CHUNKS: Metric = metric("hub_snapshot_chunks", Gauge, STREAM, "Chunks into which the snapshot is cut");
pub(crate) const SNAPSHOT_CHUNKS_DONE: Metric =
    metric("hub_snapshot_done_chunks", Gauge, STREAM, "Chunks of the snapshot that are durable");
pub(crate) const STREAM_PARKED: Metric =
    metric("hub_stream_parked", Gauge, STREAM, "1 while the stream is parked and the others of its system go on, else 0");
pub(crate) const BATCH_SECONDS: Metric = metric("hub_transform_batch_seconds", Histogram, SYSTEM, "Time to normalise and encode one batch");
pub(crate) const REJECT_ROWS: Metric = metric(
    "hub_reject_rows_total",
    Counter,
    &["system", "reason"],
    "Rows refused by mapping or schema and committed to the rejects topic, by reason code",
);
pub(crate) const PUBLISH_ROWS: Metric = metric("hub_publish_rows_total", Counter, STREAM, "Rows committed to Kafka, rejects not counted");
pub(crate) const PUBLISH_BYTES: Metric =
    metric("hub_publish_bytes_total", Counter, STREAM, "Bytes of keys and values committed to Kafka, before compression");
pub(crate) const QUEUE_BYTES: Metric = metric("hub_queue_bytes", Gauge, &[], "Bytes of rows between sources and Kafka now");
pub(crate) const QUEUE_OLDEST: Metric = metric(
    "hub_queue_oldest_seconds",
    Gauge,
    SYSTEM,
    "How long the oldest delivery between the source and Kafka has waited; 0 where none waits. Over http.stalled_after_s, /readyz says no",
);
pub(crate) const QUEUE_LIMIT_BYTES: Metric =
    metric("hub_queue_limit_bytes", Gauge, &[], "Bytes of rows that may be between sources and Kafka");
pub(crate) const STATE: Metric =
    metric("hub_system_state", Gauge, &["system", "state"], "1 for the state the system is in, 0 for all others");
pub(crate) const PROGRESS: Metric = metric(
    "hub_system_progress_timestamp_seconds",
    Gauge,
    SYSTEM,
    "When something of the system last became durable, rows or a position without any, seconds since 1970; 0 before the first time",
);
pub(crate) const RESTARTS: Metric =
    metric("hub_system_restarts_total", Counter, &["system", "reason"], "Restarts of the system from its checkpoint, by kind of error");
pub(crate) const LANE_TRANSACTIONS: Metric =
    metric("hub_lane_transactions_total", Counter, &["lane", "outcome"], "Kafka transactions by outcome: committed or aborted");
pub(crate) const LANE_TRANSACTION_SECONDS: Metric =
    metric("hub_lane_transaction_seconds", Histogram, LANE, "Time from begin to the end of the commit");
pub(crate) const LANE_TRANSACTION_ROWS: Metric = metric("hub_lane_transaction_rows", Histogram, LANE, "Records in one transaction");
pub(crate) const LANE_RECOVERIES: Metric =
    metric("hub_lane_recoveries_total", Counter, LANE, "Times that the lane had to make its producers anew and fence again");
pub(crate) const LANE_READY: Metric = metric("hub_lane_ready", Gauge, LANE, "1 while the lane can publish, 0 while it waits for Kafka");
pub(crate) const PROCESS_RESIDENT: Metric = metric("hub_process_resident_bytes", Gauge, &[], "Resident memory of the process");
pub(crate) const PROCESS_CPU: Metric = metric("hub_process_cpu_seconds", Gauge, &[], "User and system CPU time that the process has used");

/// All metrics, in the order of the reference page. Gauges that a source reports about itself come beside these, as
/// `hub_source_<name>{system, …}`.
pub const CATALOGUE: &[Metric] = &[
    CAPTURE_ROWS,
    CAPTURE_BYTES,
    CAPTURE_LAG,
    CAPTURE_LAG_BYTES,
    SNAPSHOT_ROWS,
    SNAPSHOT_EXPECTED,
    SNAPSHOT_CHUNKS,
    SNAPSHOT_CHUNKS_DONE,
    STREAM_PARKED,
    BATCH_SECONDS,
    REJECT_ROWS,
    PUBLISH_ROWS,
    PUBLISH_BYTES,
    QUEUE_BYTES,
    QUEUE_LIMIT_BYTES,
    QUEUE_OLDEST,
    STATE,
    PROGRESS,
    RESTARTS,
    LANE_TRANSACTIONS,
    LANE_TRANSACTION_SECONDS,
    LANE_TRANSACTION_ROWS,
    LANE_RECOVERIES,
    LANE_READY,
    PROCESS_RESIDENT,
    PROCESS_CPU,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a failing test may panic")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_on_the_reference_page_with_its_type_labels_and_meaning() {
        let page = include_str!("../../../docs/metrics.md");
        for metric in CATALOGUE {
            let start = format!("| `{}` |", metric.name);
            let row = page.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("docs/metrics.md has no row for {}", metric.name));
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 6, "name, type, labels, unit, meaning, alert: {row}");
            let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let labels = if labels.is_empty() { "–".to_owned() } else { labels };
            assert_eq!((cells[1], cells[2]), (format!("{:?}", metric.kind).to_lowercase().as_str(), labels.as_str()), "{row}");
            assert!(cells[4].starts_with(metric.help), "the page and the help text of {} differ: {}", metric.name, metric.help);
        }
    }

    #[test]
    fn names_are_unique_and_follow_the_pattern() {
        let names: BTreeSet<_> = CATALOGUE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for metric in CATALOGUE {
            assert!(metric.name.starts_with("hub_"), "{}", metric.name);
            assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Counter, "{}", metric.name);
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
