//! What the hub shows of itself: the metric catalogue, the handles that count, and the log set-up.
//!
//! Every metric is a typed field made from [`CATALOGUE`]; nothing else registers one, but for the gauges that a source
//! reports about itself (`hub_source_<name>`). Handles ([`SystemMetrics`], [`StreamMetrics`], [`LaneMetrics`]) are
//! resolved once, so that counting on the hot path is one atomic addition per batch.

mod catalogue;
mod lane;
mod logging;
mod metrics;
mod system;

pub use catalogue::{CATALOGUE, Kind, Metric};
pub use lane::LaneMetrics;
pub use logging::{Format, LoggingError, init};
pub use metrics::{Metrics, MetricsError};
pub use system::{StreamMetrics, SystemMetrics, SystemState};
