//! Keeps one system running: prepares it, runs it, and decides what follows when a run ends.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use hub_kafka::Lane;
use hub_model::SystemName;
use hub_sdk::{BatchLimits, DynConnector, ErrorKind, KeyTopics, Kind, OpenContext, SourceError, StreamRequest};
use hub_telemetry::SystemMetrics;
use tokio_util::sync::CancellationToken;

use crate::RunError;
use crate::anew::Readings;
use crate::audit::Audit;
use crate::error::panicked;
use crate::node::{SecretResolver, Shared};
use crate::parking::{Parking, Trouble};
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

/// How a run ended when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It was asked to.
    Stopped,
    /// A parked stream was mended: the next run takes it up.
    Mended,
}

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
        let mut parking = Parking::default();
        let _gauges = Task(tokio::spawn(crate::gauges::watch(Arc::clone(&self.connector), self.metrics())));
        loop {
            let before = self.published();
            let error = match AssertUnwindSafe(self.attempt(&stop, &mut parking)).catch_unwind().await {
                Ok(Ok(Ended::Stopped)) => return,
                Ok(Ok(Ended::Mended)) => continue,
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
            if self.park(&mut parking, &error) {
                continue;
            }
            let wait = match error.action() {
                Action::Retry => {
                    tracing::warn!(system = %self.system, %error, "the run ended; trying again");
                    self.enter(State::Retrying, &error);
                    back_off.next(jitter())
                }
                Action::TellAndRetry | Action::Park => {
                    if error.broken_stream().is_some() {
                        parking.release_all();
                    }
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

    /// Leaves a broken stream out of the next run. False where that does not help.
    fn park(&self, parking: &mut Parking, error: &RunError) -> bool {
        let Some(stream) = error.broken_stream().filter(|_| self.takes_streams_up()) else { return false };
        let parked = parking.broken(&self.desired, stream.as_str(), error.to_string(), (Instant::now(), jitter()));
        if parked {
            tracing::error!(
                system = %self.system, %stream, %error,
                "the stream is parked and the others go on; once it is mended it is read anew by itself"
            );
        }
        parked
    }

    /// Whether a stream that is left out can come back without a new snapshot of all.
    fn takes_streams_up(&self) -> bool {
        self.can(|abilities| abilities.add_streams)
    }

    /// Whether the connector declares an ability for this configuration.
    fn can(&self, ability: fn(&hub_sdk::Abilities) -> bool) -> bool {
        let kind = self.shared.kinds.iter().find(|kind| kind.name == self.desired.spec.connector);
        kind.and_then(|kind| kind.abilities(&self.desired.spec.config)).is_some_and(|abilities| ability(&abilities))
    }

    /// Shows which streams are parked.
    fn show(&self, parking: &Parking) {
        for stream in &self.desired.spec.streams {
            self.board.stream(&stream.source, &self.shared.naming.data(self.system.as_str(), &stream.entity));
            self.board.park(&stream.source, parking.get(&stream.source).map(|parked| parked.why.clone()));
        }
    }

    /// Returns when a parked stream was mended; until then only if there is one.
    async fn mended(&self, parking: &mut Parking) {
        loop {
            let Some((stream, at)) = parking.next() else { return std::future::pending().await };
            tokio::time::sleep_until(at.into()).await;
            let Err(why) = self.look(parking, &stream).await else {
                tracing::info!(system = %self.system, stream, "the parked stream was mended: it is taken up again");
                return parking.release(&stream);
            };
            tracing::debug!(system = %self.system, stream, why, "the stream stays parked");
            self.board.park(&stream, Some(why.clone()));
            parking.still(&stream, why, Instant::now());
        }
    }

    /// Looks whether a parked stream would run now, beside the others. Else says why not.
    async fn look(&self, parking: &Parking, stream: &str) -> Result<(), String> {
        let mut alone = self.desired.clone();
        alone.spec.streams.retain(|spec| spec.source == stream);
        let (Some(parked), Some(spec)) = (parking.get(stream), alone.spec.streams.first()) else { return Ok(()) };
        match parked.trouble {
            Trouble::Refused => prepare::accepts(&self.shared, &alone, &self.system, spec).await.map_err(|error| error.to_string()),
            Trouble::Broken => {
                let connector =
                    open(&alone, &self.shared.kinds, &*self.shared.secrets, self.shared.keys()).await.map_err(|error| error.to_string())?;
                let probe = connector.probe().await.map_err(|error| error.report())?;
                let wrong = probe.findings.iter().filter(|finding| finding.fatal).map(|finding| match &finding.remedy {
                    Some(remedy) => format!("{}; {remedy}", finding.message),
                    None => finding.message.clone(),
                });
                let wrong: Vec<String> = wrong.collect();
                if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
            }
        }
    }

    fn published(&self) -> u64 {
        self.board.report(Vec::new()).streams.values().map(|stream| stream.published + stream.rejected).sum()
    }

    async fn attempt(&self, stop: &CancellationToken, parking: &mut Parking) -> Result<Ended, RunError> {
        // A source that does not answer must not hold up whoever wants the system to stop.
        let run = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            run = self.prepare(parking) => run?,
        };
        let halt = stop.child_token();
        let mut running = std::pin::pin!(run.run(&halt));
        tokio::select! {
            ended = &mut running => ended.map(|()| Ended::Stopped),
            () = self.mended(parking) => {
                halt.cancel();
                running.await.map(|()| Ended::Mended)
            }
        }
    }

    async fn prepare(&self, parking: &mut Parking) -> Result<Run<'_>, RunError> {
        if !matches!(self.board.state(), State::Retrying | State::Waiting) {
            self.board.enter(State::Starting, None);
        }
        let desired = parking.without_broken(&self.desired);
        let connector = open(&desired, &self.shared.kinds, &*self.shared.secrets, self.shared.keys()).await?;
        if let Ok(mut held) = self.connector.lock() {
            *held = Some(Arc::clone(&connector));
        }
        let shapes = connector.discover().await?;
        let prepared = prepare::system(&self.shared, &desired, &self.system, &shapes, self.lane.record_limit()).await?;
        for stream in &prepared.streams {
            match &stream.refused {
                Some(why) => self.refuse(parking, stream.source(), why),
                None => parking.release(stream.source()),
            }
        }
        self.show(parking);
        let opened = self.lane.open(&self.system).await.map_err(RunError::Lane)?;
        let (readings, checkpoint) = Readings::split(&opened.checkpoint);
        let readings = if self.can(|abilities| abilities.snapshot) { readings } else { readings.without_snapshot() };
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
            audit: Audit::new(&self.shared, &self.system),
        })
    }

    fn refuse(&self, parking: &mut Parking, stream: &str, why: &str) {
        if parking.get(stream).is_none() {
            tracing::error!(
                system = %self.system, stream, why,
                "the stream is parked and the others go on; its rows go to the rejects topic raw until its schema is accepted, then replay them"
            );
        }
        parking.refused(stream, why.to_owned(), Instant::now());
    }
}

/// Opens a system's connector with its secrets resolved; `topics` are the hub's own, where there is a Kafka.
///
/// # Errors
/// [`RunError::BadSystem`] where its record cannot be used, or what the connector says.
pub async fn open(
    desired: &Desired,
    kinds: &[Kind],
    secrets: &SecretResolver,
    topics: Option<Arc<dyn KeyTopics>>,
) -> Result<Arc<dyn DynConnector>, RunError> {
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
        topics,
    };
    Ok(kind.open(config, context).await?)
}

/// Chance for the back-off: the clock's lowest digits are chance enough to spread systems.
fn jitter() -> f64 {
    f64::from(u32::try_from(hub_sdk::now_micros().rem_euclid(1000)).unwrap_or(0)) / 1000.0
}
