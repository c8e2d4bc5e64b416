//! Asks a source every few seconds what it says of itself, also while nothing is captured: that is when its log piles up.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use hub_sdk::{DynConnector, SourceGauge};
use hub_telemetry::SystemMetrics;

/// Between two questions.
const PERIOD: Duration = Duration::from_secs(5);
/// How often it is looked whether there is a connector yet.
const LOOK: Duration = Duration::from_millis(500);
/// A source that does not answer within this is asked again later.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A source that refused is left alone for so long: each question may be a login.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The gauge that is the lag in bytes of every kind of source.
const LAG: &str = "lag_bytes";

/// Asks until it is aborted. What is not known now is no series: an old figure would look like a good one.
pub(crate) async fn watch(held: Arc<Mutex<Option<Arc<dyn DynConnector>>>>, metrics: SystemMetrics) {
    let mut refused: Option<(Instant, Arc<dyn DynConnector>)> = None;
    let mut wait = LOOK;
    loop {
        tokio::time::sleep(wait).await;
        let Some(connector) = held.lock().unwrap_or_else(PoisonError::into_inner).clone() else { continue };
        wait = PERIOD;
        if refused.as_ref().is_some_and(|(at, other)| Arc::ptr_eq(other, &connector) && at.elapsed() < AGAIN_AFTER) {
            continue;
        }
        match tokio::time::timeout(ANSWER_WITHIN, AssertUnwindSafe(connector.gauges()).catch_unwind()).await {
            Ok(Ok(Ok(gauges))) => {
                refused = None;
                tell(&gauges, &metrics);
            }
            Ok(Ok(Err(error))) => {
                tracing::debug!(error = %error.report(), "source gauges cannot be read");
                refused = Some((Instant::now(), connector));
                tell(&[], &metrics);
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("a source did not say how it is within {ANSWER_WITHIN:?}, or its connector panicked");
                refused = Some((Instant::now(), connector));
                tell(&[], &metrics);
            }
        }
    }
}

fn tell(gauges: &[SourceGauge], metrics: &SystemMetrics) {
    metrics.set_lag_bytes(gauges.iter().find(|gauge| gauge.name == LAG).map(|gauge| gauge.value));
    let own = gauges.iter().filter(|gauge| gauge.name != LAG);
    metrics
        .set_source_gauges(own.map(|gauge| (gauge.name, gauge.label.as_ref().map(|(name, value)| (*name, value.as_str())), gauge.value)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use hub_telemetry::Metrics;

    use super::*;

    #[test]
    fn the_lag_in_bytes_has_one_name_and_goes_when_nobody_knows_it() {
        let metrics = Metrics::new().unwrap();
        let system = metrics.system("demo");
        let gauge = |name, value| SourceGauge { name, label: None, value };
        tell(&[gauge(LAG, 7.0), gauge("slot_active", 1.0)], &system);
        let text = metrics.render();
        assert!(text.contains("hub_capture_lag_bytes{system=\"demo\"} 7") && text.contains("hub_source_slot_active{system=\"demo\"} 1"));
        assert!(!text.contains("hub_source_lag_bytes"), "{text}");
        tell(&[], &system);
        let text = metrics.render();
        assert!(!text.contains("hub_capture_lag_bytes{") && !text.contains("hub_source_slot_active{"), "{text}");
    }
}
