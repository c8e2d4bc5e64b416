//! The one registry of the process: makes every metric of the catalogue and renders them for Prometheus.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector};

use crate::catalogue::{self as names, Kind, Metric};
use crate::{LaneMetrics, SystemMetrics};

/// The metrics could not be made or rendered: a defect of the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Two metrics of one name, or a name that Prometheus does not allow.
    #[error("could not register metric {name}: check its entry in the catalogue")]
    Register {
        /// The metric.
        name: String,
        /// Why.
        #[source]
        cause: prometheus::Error,
    },
}

/// All metrics of the process. Clones are one.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
    systems: Arc<Mutex<HashMap<String, SystemMetrics>>>,
}

/// The families of the catalogue, and what is made on demand.
pub(crate) struct Families {
    pub(crate) registry: Registry,
    pub(crate) capture_rows: IntCounterVec,
    pub(crate) capture_bytes: IntCounterVec,
    pub(crate) capture_lag: GaugeVec,
    pub(crate) capture_lag_bytes: GaugeVec,
    pub(crate) snapshot_rows: IntGaugeVec,
    pub(crate) snapshot_expected: IntGaugeVec,
    pub(crate) snapshot_chunks: IntGaugeVec,
    pub(crate) snapshot_chunks_done: IntGaugeVec,
    pub(crate) stream_parked: IntGaugeVec,
    pub(crate) batch_seconds: HistogramVec,
    pub(crate) reject_rows: IntCounterVec,
    pub(crate) publish_rows: IntCounterVec,
    pub(crate) publish_bytes: IntCounterVec,
    pub(crate) queue_bytes: IntGaugeVec,
    pub(crate) queue_limit_bytes: IntGaugeVec,
    pub(crate) queue_oldest: GaugeVec,
    pub(crate) state: IntGaugeVec,
    pub(crate) progress: GaugeVec,
    pub(crate) restarts: IntCounterVec,
    pub(crate) lane_transactions: IntCounterVec,
    pub(crate) lane_seconds: HistogramVec,
    pub(crate) lane_rows: HistogramVec,
    pub(crate) lane_recoveries: IntCounterVec,
    pub(crate) lane_ready: IntGaugeVec,
    process_resident: IntGaugeVec,
    process_cpu: GaugeVec,
    /// Gauges that sources report, by name, with their label names.
    pub(crate) source: Mutex<HashMap<String, (Vec<String>, GaugeVec)>>,
}

impl Metrics {
    /// Makes every metric of the catalogue.
    ///
    /// # Errors
    /// [`MetricsError`] where the catalogue itself is wrong; its tests keep it right.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let families = Families {
            capture_rows: counter(&registry, &names::CAPTURE_ROWS)?,
            capture_bytes: counter(&registry, &names::CAPTURE_BYTES)?,
            capture_lag: gauge(&registry, &names::CAPTURE_LAG)?,
            capture_lag_bytes: gauge(&registry, &names::CAPTURE_LAG_BYTES)?,
            snapshot_rows: int_gauge(&registry, &names::SNAPSHOT_ROWS)?,
            snapshot_expected: int_gauge(&registry, &names::SNAPSHOT_EXPECTED)?,
            snapshot_chunks: int_gauge(&registry, &names::SNAPSHOT_CHUNKS)?,
            snapshot_chunks_done: int_gauge(&registry, &names::SNAPSHOT_CHUNKS_DONE)?,
            stream_parked: int_gauge(&registry, &names::STREAM_PARKED)?,
            batch_seconds: histogram(&registry, &names::BATCH_SECONDS, SECONDS)?,
            reject_rows: counter(&registry, &names::REJECT_ROWS)?,
            publish_rows: counter(&registry, &names::PUBLISH_ROWS)?,
            publish_bytes: counter(&registry, &names::PUBLISH_BYTES)?,
            queue_bytes: int_gauge(&registry, &names::QUEUE_BYTES)?,
            queue_limit_bytes: int_gauge(&registry, &names::QUEUE_LIMIT_BYTES)?,
            queue_oldest: gauge(&registry, &names::QUEUE_OLDEST)?,
            state: int_gauge(&registry, &names::STATE)?,
            progress: gauge(&registry, &names::PROGRESS)?,
            restarts: counter(&registry, &names::RESTARTS)?,
            lane_transactions: counter(&registry, &names::LANE_TRANSACTIONS)?,
            lane_seconds: histogram(&registry, &names::LANE_TRANSACTION_SECONDS, SECONDS)?,
            lane_rows: histogram(&registry, &names::LANE_TRANSACTION_ROWS, ROWS)?,
            lane_recoveries: counter(&registry, &names::LANE_RECOVERIES)?,
            lane_ready: int_gauge(&registry, &names::LANE_READY)?,
            process_resident: int_gauge(&registry, &names::PROCESS_RESIDENT)?,
            process_cpu: gauge(&registry, &names::PROCESS_CPU)?,
            registry,
            source: Mutex::default(),
        };
        Ok(Self { families: Arc::new(families), systems: Arc::default() })
    }

    /// The handles of one system; the same ones for the same name.
    #[must_use]
    pub fn system(&self, system: &str) -> SystemMetrics {
        let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        systems.entry(system.to_owned()).or_insert_with(|| SystemMetrics::new(&self.families, system)).clone()
    }

    /// Removes every series of a system that is deleted.
    pub fn forget_system(&self, system: &str) {
        let known = self.systems.lock().unwrap_or_else(PoisonError::into_inner).remove(system);
        if let Some(known) = known {
            known.remove_series();
        }
    }

    /// The handles of one lane.
    #[must_use]
    pub fn lane(&self, lane: &str) -> LaneMetrics {
        LaneMetrics::new(&self.families, lane)
    }

    /// Says how many bytes of rows are between sources and Kafka, and how many may be.
    pub fn set_queue_bytes(&self, used: usize, limit: usize) {
        self.families.queue_bytes.with_label_values::<&str>(&[]).set(clamp(used));
        self.families.queue_limit_bytes.with_label_values::<&str>(&[]).set(clamp(limit));
    }

    /// All series in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.observe_process();
        let mut text = String::with_capacity(64 << 10);
        if let Err(cause) = TextEncoder::new().encode_utf8(&self.families.registry.gather(), &mut text) {
            tracing::error!(%cause, "could not render metrics");
        }
        text
    }

    /// Reads memory and CPU of the process from /proc, where there is one.
    fn observe_process(&self) {
        if let Some(resident) = std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
            self.families.process_resident.with_label_values::<&str>(&[]).set(resident);
        }
        if let Some(cpu) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
            self.families.process_cpu.with_label_values::<&str>(&[]).set(cpu);
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Buckets of durations: a lone transaction takes 2 to 4 ms, a full one some 100 ms.
const SECONDS: &[f64] = &[0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];
/// Buckets of record counts.
const ROWS: &[f64] = &[1.0, 10.0, 100.0, 1_000.0, 10_000.0, 50_000.0, 100_000.0];

pub(crate) fn clamp(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// `VmRSS:    123 kB` of /proc/self/status, in bytes.
fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<i64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// User and system time of /proc/self/stat. Linux reports them in 1/100 s on every platform Rust supports.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses and may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: u32 = fields.get(11)?.parse().ok()?;
    let system: u32 = fields.get(12)?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / 100.0)
}

fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: &Metric,
    kind: Kind,
    made: prometheus::Result<C>,
) -> Result<C, MetricsError> {
    debug_assert_eq!(metric.kind, kind, "{} is declared as another kind", metric.name);
    made.and_then(|made| registry.register(Box::new(made.clone())).map(|()| made))
        .map_err(|cause| MetricsError::Register { name: metric.name.to_owned(), cause })
}

fn counter(registry: &Registry, metric: &Metric) -> Result<IntCounterVec, MetricsError> {
    registered(registry, metric, Kind::Counter, IntCounterVec::new(opts(metric), metric.labels))
}

fn gauge(registry: &Registry, metric: &Metric) -> Result<GaugeVec, MetricsError> {
    registered(registry, metric, Kind::Gauge, GaugeVec::new(opts(metric), metric.labels))
}

fn int_gauge(registry: &Registry, metric: &Metric) -> Result<IntGaugeVec, MetricsError> {
    registered(registry, metric, Kind::Gauge, IntGaugeVec::new(opts(metric), metric.labels))
}

fn histogram(registry: &Registry, metric: &Metric, buckets: &[f64]) -> Result<HistogramVec, MetricsError> {
    let opts = HistogramOpts::new(metric.name, metric.help).buckets(buckets.to_vec());
    registered(registry, metric, Kind::Histogram, HistogramVec::new(opts, metric.labels))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failing test may panic")]

    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::{CATALOGUE, SystemState};

    /// Metrics in which every family has a series.
    fn touched() -> Metrics {
        let metrics = Metrics::new().unwrap();
        let system = metrics.system("mot-cua");
        let stream = system.stream("public.ho_so");
        stream.captured(10, 400);
        stream.published(9, 360);
        stream.snapshot(5, Some(10), 1, 2);
        stream.set_parked(true);
        system.rejected("bad-date", 1);
        system.restarted("unreachable");
        system.observe_batch(Duration::from_millis(3));
        system.set_lag(Duration::from_secs(1));
        system.set_lag_bytes(Some(77.0));
        system.set_queue_oldest(Duration::from_secs(2));
        system.set_state(SystemState::Following);
        system.progressed_at(1_700_000_000.0);
        let lane = metrics.lane("hub-lane-0");
        lane.committed(10, Duration::from_millis(2));
        lane.aborted();
        lane.recovered();
        lane.set_ready(true);
        metrics.set_queue_bytes(1, 2);
        metrics
    }

    fn families(text: &str) -> BTreeSet<&str> {
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
    }

    #[test]
    fn everything_registered_is_in_the_catalogue_and_the_other_way_round() {
        let text = touched().render();
        assert_eq!(families(&text), CATALOGUE.iter().map(|metric| metric.name).collect::<BTreeSet<_>>());
        for metric in CATALOGUE {
            for label in metric.labels {
                let series = text.lines().find(|line| line.starts_with(metric.name)).unwrap_or_else(|| panic!("{text}"));
                assert!(series.contains(&format!("{label}=\"")), "{series} lacks {label}");
            }
        }
    }

    #[test]
    fn a_system_is_in_exactly_one_state() {
        let metrics = touched();
        metrics.system("mot-cua").set_state(SystemState::Stopped);
        let text = metrics.render();
        let set: Vec<_> = text.lines().filter(|line| line.starts_with("hub_system_state{") && line.ends_with(" 1")).collect();
        assert_eq!(set, [r#"hub_system_state{state="stopped",system="mot-cua"} 1"#]);
    }

    #[test]
    fn a_lag_in_bytes_that_nobody_knows_is_no_series() {
        let metrics = touched();
        assert!(metrics.render().contains(r#"hub_capture_lag_bytes{system="mot-cua"} 77"#));
        metrics.system("mot-cua").set_lag_bytes(None);
        assert!(!metrics.render().contains("hub_capture_lag_bytes{"), "0 would be a lie");
    }

    #[test]
    fn gauges_of_a_source_carry_its_labels_and_go_with_the_system() {
        let metrics = touched();
        let system = metrics.system("mot-cua");
        system.set_source_gauges([("slot", Some(("wal_status", "reserved")), 1.0), ("slot_lag_bytes", None, 5.0)]);
        system.set_source_gauges([("slot", Some(("wal_status", "lost")), 1.0), ("slot_lag_bytes", None, 6.0)]);
        let text = metrics.render();
        let series: Vec<_> = text.lines().filter(|line| line.starts_with("hub_source_")).collect();
        let expected = [r#"hub_source_slot{system="mot-cua",wal_status="lost"} 1"#, r#"hub_source_slot_lag_bytes{system="mot-cua"} 6"#];
        assert_eq!(series, expected, "what is no longer reported is gone");
        metrics.forget_system("mot-cua");
        let text = metrics.render();
        assert!(!text.contains("mot-cua"), "{text}");
    }

    #[test]
    fn the_process_is_read_from_proc() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2 kB\n"), Some(2048));
        assert_eq!(cpu_seconds("1 (a b) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0"), Some(2.0));
    }
}
