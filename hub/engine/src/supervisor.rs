//! Keeps one system running: prepares it, runs it, and decides what follows when a run ends.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hub_kafka::Lane;
use hub_model::SystemName;
use hub_sdk::{BatchLimits, DynConnector, ErrorKind, Kind, OpenContext, SourceError, StreamRequest};
use hub_telemetry::SystemMetrics;
use tokio_util::sync::CancellationToken;

use crate::RunError;
use crate::anew::Readings;
use crate::error::panicked;
use crate::node::{SecretResolver, Shared};
use crate::pipeline::Pipeline;
use crate::policy::{Action, BackOff};
use crate::prepare;
use crate::session::{Run, Task};
use crate::spec::Desired;
use crate::status::{Board, State};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a system that waits for a person looks whether it was mended.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// One supervised system.
pub(crate) struct Supervisor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) desired: Desired,
    pub(crate) system: SystemName,
    pub(crate) lane: Arc<Lane>,
    pub(crate) board: Board,
    /// The open connector, for progress and release.
    pub(crate) connector: Arc<std::sync::Mutex<Option<Arc<dyn DynConnector>>>>,
}

impl Supervisor {
    /// Runs until `stop`. Where a person has to decide, it waits for that.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut back_off = BackOff::new(FIRST_WAIT, LONGEST_WAIT);
        let _gauges = Task(tokio::spawn(crate::gauges::watch(Arc::clone(&self.connector), self.metrics())));
        loop {
            let before = self.published();
            let error = match AssertUnwindSafe(self.attempt(&stop)).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(panic) => panicked("running the system", &*panic),
            };
            if stop.is_cancelled() {
                return;
            }
            if self.published() > before {
                back_off.reset();
            }
            self.metrics().restarted(error.reason());
            let wait = match error.action() {
                Action::Retry => {
                    tracing::warn!(system = %self.system, %error, "the run ended; trying again");
                    self.enter(State::Retrying, &error);
                    back_off.next(jitter())
                }
                Action::TellAndRetry => {
                    tracing::error!(system = %self.system, %error, "the run ended; mend it at the source, the hub looks again");
                    self.enter(State::Waiting, &error);
                    LOOK_AGAIN
                }
                Action::Stop => {
                    tracing::error!(system = %self.system, %error, "the system is stopped until a person decides");
                    self.enter(State::Stopped, &error);
                    // Its slot goes on holding back the source's log: the gauges are watched on.
                    return stop.cancelled().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn enter(&self, state: State, error: &RunError) {
        self.board.enter(state, Some(error.to_string()));
    }

    fn metrics(&self) -> SystemMetrics {
        self.shared.metrics.system(self.system.as_str())
    }

    fn published(&self) -> u64 {
        self.board.report(Vec::new()).streams.values().map(|stream| stream.published + stream.rejected).sum()
    }

    async fn attempt(&self, stop: &CancellationToken) -> Result<(), RunError> {
        // A source that does not answer must not hold up whoever wants the system to stop.
        let run = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            run = self.prepare() => run?,
        };
        run.run(stop).await
    }

    async fn prepare(&self) -> Result<Run<'_>, RunError> {
        if !matches!(self.board.state(), State::Retrying | State::Waiting) {
            self.board.enter(State::Starting, None);
        }
        let connector = open(&self.desired, &self.shared.kinds, &*self.shared.secrets).await?;
        if let Ok(mut held) = self.connector.lock() {
            *held = Some(Arc::clone(&connector));
        }
        let shapes = connector.discover().await?;
        let prepared = prepare::system(&self.shared, &self.desired, &self.system, &shapes, self.lane.record_limit()).await?;
        for stream in &prepared.streams {
            self.board.stream(stream.source(), stream.topic());
        }
        let opened = self.lane.open(&self.system).await.map_err(RunError::Lane)?;
        let (readings, checkpoint) = Readings::split(&opened.checkpoint);
        let metrics = self.metrics();
        Ok(Run {
            session: opened.session,
            connector,
            pipeline: Pipeline::new(prepared, self.board.clone(), metrics.clone())?,
            lane: &self.lane,
            budget: self.shared.budget.clone(),
            board: &self.board,
            metrics,
            checkpoint,
            readings,
            kafka: self.shared.kafka.clone(),
            schemas: self.shared.schemas.clone(),
        })
    }
}

/// Opens a system's connector with its secrets resolved.
///
/// # Errors
/// [`RunError::BadSystem`] where its record cannot be used, or what the connector says.
pub async fn open(desired: &Desired, kinds: &[Kind], secrets: &SecretResolver) -> Result<Arc<dyn DynConnector>, RunError> {
    let name = &desired.spec.system;
    let bad = |why: String| RunError::BadSystem { system: name.clone(), why };
    let spec = &desired.spec;
    let kind = kinds
        .iter()
        .find(|kind| kind.name == spec.connector)
        .ok_or_else(|| bad(format!("this node has no connector {}", spec.connector)))?;
    let config = secrets(&spec.config, Path::new(&desired.directory))
        .map_err(|why| SourceError::new(ErrorKind::Denied, format!("resolving the secrets of {name}")).because(why))?;
    let mut streams = Vec::with_capacity(spec.streams.len());
    for stream in &spec.streams {
        streams.push(StreamRequest {
            stream: hub_model::StreamName::new(&stream.source).map_err(|error| bad(error.to_string()))?,
            columns: Vec::new(),
        });
    }
    let context = OpenContext {
        system: SystemName::new(name).map_err(|error| bad(error.to_string()))?,
        streams,
        limits: BatchLimits::default(),
        directory: Path::new(&desired.directory).to_owned(),
    };
    Ok(kind.open(config, context).await?)
}

/// Chance for the back-off: the clock's lowest digits are chance enough to spread systems.
fn jitter() -> f64 {
    f64::from(u32::try_from(crate::session::now_micros().rem_euclid(1000)).unwrap_or(0)) / 1000.0
}
