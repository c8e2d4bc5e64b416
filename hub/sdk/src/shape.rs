//! What a connector tells of its source: streams, findings, gauges.

use arrow::datatypes::SchemaRef;
use hub_model::StreamName;
use serde::Serialize;

/// One column of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name at the source.
    pub name: String,
    /// The source's own type, `numeric(14,2)`.
    pub source_type: String,
    /// Whether the source allows nulls.
    pub nullable: bool,
    /// Place in the key, from 1.
    pub key: Option<u16>,
    /// The source's remark on it, where there is one.
    pub comment: Option<String>,
}

/// One stream that could be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamShape {
    /// Its name.
    pub stream: StreamName,
    /// Its columns as captured, in order; all nullable. Field metadata [`hub_model::SOURCE_TYPE`] gives the source's type.
    pub schema: SchemaRef,
    /// Its columns as the source describes them, in the same order.
    pub columns: Vec<Column>,
    /// Columns that identify a row in deletes (key or replica identity).
    pub identity: Vec<String>,
    /// Whether deletes and updates carry the whole state before.
    pub full_images: bool,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Estimated bytes.
    pub bytes: Option<u64>,
    /// What stands in the way of capturing it.
    pub findings: Vec<Finding>,
}

/// One thing that a probe found wrong, with what mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it stops the capture (`true`) or is only worth knowing.
    pub fatal: bool,
    /// Stable code, kebab-case: `wal-level`, `no-replication-right`.
    pub code: &'static str,
    /// In words, what is wrong.
    pub message: String,
    /// SQL or a setting that mends it.
    pub remedy: Option<String>,
}

/// What a probe learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The server in its own words, `PostgreSQL 15.18`.
    pub server: String,
    /// What is wrong or worth knowing.
    pub findings: Vec<Finding>,
}

impl Probe {
    /// Whether nothing stops the capture.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.findings.iter().all(|finding| !finding.fatal)
    }
}

/// One figure of the source's health, exported as `hub_source_<name>{system}`; `lag_bytes` as `hub_capture_lag_bytes{system}`.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceGauge {
    /// Metric suffix with its unit: `lag_bytes`, `slot_safe_wal_bytes`, `slot_lost_in_seconds`.
    pub name: &'static str,
    /// One further bounded label, such as `("wal_status", "reserved")`.
    pub label: Option<(&'static str, String)>,
    /// The figure.
    pub value: f64,
}

/// How far the snapshot of a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The stream.
    pub stream: StreamText,
    /// Rows read so far.
    pub rows: u64,
    /// Estimated rows in all.
    pub rows_expected: Option<u64>,
    /// Chunks that are durable.
    pub chunks_done: u64,
    /// Chunks in all.
    pub chunks: u64,
}

/// A stream's name as text, for serialised reports.
pub type StreamText = String;
