//! The contract between the hub and its connectors: what a connector must do, and what it may use.
//!
//! A connector implements [`Connector`] and classifies its errors; the engine alone decides what follows from them.
//! `connectors/all` registers connectors as [`Kind`]s; nothing else names them.

mod abilities;
mod backlog;
pub mod edxml;
mod erased;
mod error;
mod keys;
mod known;
mod outlet;
mod poll;
pub mod records;
mod secret;
mod shape;
pub mod tls;
mod topics;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use abilities::Abilities;
pub use backlog::{Backlog, Unsettled};
pub use erased::{ConfigFault, DynConnector, Kind, pointer_part};
pub use error::{ErrorKind, SourceError};
pub use hub_model as model;
pub use hub_model::Evidence;
pub use keys::{Digest, escape, join_key, split_key, unescape};
pub use known::{Known, Noted};
pub use outlet::{Budget, Delivery, Ended, Outlet, Permit, Shut, outlet, outlet_into};
pub use poll::{Look, Looks, key_rows, now_micros};
pub use secret::Secret;
pub use shape::{Column, Finding, Probe, Progress, SourceGauge, StreamShape, StreamText};
pub use topics::{KeyTopics, TopicKeys};

use hub_model::{Checkpoint, StreamName, SystemName};

/// What a connector is opened with besides its own configuration.
#[derive(Clone, Debug)]
pub struct OpenContext {
    /// The system it reads. Names slots and publications at the source.
    pub system: SystemName,
    /// The streams that are mapped, and what of each is needed.
    pub streams: Vec<StreamRequest>,
    /// When a batch must close.
    pub limits: BatchLimits,
    /// Where relative paths of its configuration start.
    pub directory: PathBuf,
    /// The hub's own topics, for connectors that ask by key; `None` where there is no Kafka (`hub check` without a broker).
    pub topics: Option<Arc<dyn KeyTopics>>,
}

impl OpenContext {
    /// A system with its streams; the usual limits, the working folder, no topics.
    #[must_use]
    pub fn new(system: SystemName, streams: Vec<StreamRequest>) -> Self {
        Self { system, streams, limits: BatchLimits::default(), directory: ".".into(), topics: None }
    }
}

/// One stream that the hub wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// The stream, as the connector names it.
    pub stream: StreamName,
    /// The columns that its mapping reads; empty means all. Keys come anyway.
    pub columns: Vec<String>,
}

/// When a batch closes, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Rows of all streams together.
    pub rows: usize,
    /// Bytes of decoded values.
    pub bytes: usize,
    /// Age of the oldest change; a quiet source's single change waits no longer than this.
    pub age: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { rows: 8_192, bytes: 4 << 20, age: Duration::from_millis(2) }
    }
}

/// A source of changes. One value serves one system.
///
/// # Invariants a connector keeps
/// - Every change is delivered once per run, in order within its key; a delivery's checkpoint says exactly what is behind it.
/// - Started from a checkpoint it delivers nothing at or before it, and everything after it.
/// - It confirms to its source only what [`Connector::acknowledge`] has been told is durable.
pub trait Connector: Sized + Send + Sync + 'static {
    /// The name in `connector:` of a system file.
    const NAME: &'static str;
    /// Its name in the envelope's `source.connector`, in Debezium's words.
    const SOURCE: &'static str = Self::NAME;
    /// Its `config:` section. Unknown keys must be refused (`#[serde(deny_unknown_fields)]`).
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema + Send;

    /// What it can do with this configuration.
    fn abilities(config: &Self::Config) -> Abilities;

    /// Faults of a configuration that parsed, found without the network.
    fn check(config: &Self::Config) -> Vec<ConfigFault> {
        let _ = config;
        Vec::new()
    }

    /// Prepares to read. Makes no connection that outlives the call unless it can be mended later.
    fn open(config: Self::Config, context: OpenContext) -> impl Future<Output = Result<Self, SourceError>> + Send;

    /// Looks whether the source can be reached, read and followed, and says in words what is wrong and what mends it.
    fn probe(&self) -> impl Future<Output = Result<Probe, SourceError>> + Send;

    /// Lists the streams that could be captured.
    fn discover(&self) -> impl Future<Output = Result<Vec<StreamShape>, SourceError>> + Send;

    /// Reads up to `rows` present rows of a stream, in the same columns and types as [`Connector::capture`] yields.
    fn sample(&self, stream: &StreamName, rows: usize) -> impl Future<Output = Result<hub_model::ChangeBatch, SourceError>> + Send;

    /// Reads every present row of a stream once, as one consistent view, and leaves nothing behind at the source. Rows are
    /// [`hub_model::Op::Read`]s in the columns and types of [`Connector::capture`]; their `commit_position` is one at or before
    /// the view: a change published with a later one may or may not be in it. Deliveries carry no checkpoint.
    fn scan(&self, stream: &StreamName, outlet: Outlet) -> impl Future<Output = Result<(), SourceError>> + Send {
        drop(outlet);
        let error = SourceError::new(ErrorKind::BadConfig, "reading all rows of a stream").of(stream.clone());
        std::future::ready(Err(error.because(format!("the {} connector cannot read a stream without capturing it", Self::NAME))))
    }

    /// Reads everything after `from` into `outlet`: a snapshot where the streams were never read, then changes for ever.
    /// Ends with an error, or with `Ok` when the outlet is shut.
    fn capture(&self, from: Checkpoint, outlet: Outlet) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Is told that everything up to `durable` is in Kafka. Must be quick; the source may be told later.
    fn acknowledge(&self, durable: &Checkpoint);

    /// Lag and health of the source, for metrics. A gauge `lag_bytes` is the log of the source that is not yet confirmed to
    /// it. Asked for every few seconds, also while nothing is captured.
    fn gauges(&self) -> impl Future<Output = Result<Vec<SourceGauge>, SourceError>> + Send;

    /// How far a running snapshot is.
    fn progress(&self) -> Vec<Progress> {
        Vec::new()
    }

    /// The system is deleted: removes what it left at the source (slots, publications).
    fn release(&self) -> impl Future<Output = Result<(), SourceError>> + Send;
}
