//! One process of the hub: its lanes and the systems that run on them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub_kafka::{Health, KafkaConfig, Lane, LaneError, LaneInput, LaneLimits, Topics};
use hub_model::SystemName;
use hub_registry::Schemas;
use hub_sdk::{Budget, DynConnector, KeyTopics, Kind};
use hub_telemetry::Metrics;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::RunError;
use crate::bulletin::Bulletin;
use crate::error::chain;
use crate::keys::CanonicalKeys;
use crate::prepare;
use crate::removal::Removal;
use crate::spec::{Desired, Naming, TopicSettings};
use crate::status::{Board, State, SystemStatus};
use crate::supervisor::{Supervisor, open};

/// Replaces secret references in a configuration; the path is where relative files start.
pub type SecretResolver = dyn Fn(&Value, &Path) -> Result<Value, String> + Send + Sync;

/// What a node is started with.
pub struct NodeInput {
    /// How Kafka is reached.
    pub kafka: KafkaConfig,
    /// Topic names.
    pub naming: Naming,
    /// Settings of topics whose stream says nothing else.
    pub topic_defaults: TopicSettings,
    /// The schema registry.
    pub schemas: Schemas,
    /// Connectors that this node has.
    pub kinds: Vec<Kind>,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Bytes that queues may hold.
    pub queue_bytes: usize,
    /// Lanes of this node.
    pub lanes: u16,
    /// How secrets are resolved.
    pub secrets: Arc<SecretResolver>,
    /// The node's name in the status topic: host and port of its operators' port.
    pub name: String,
}

/// What the systems of a node share.
pub(crate) struct Shared {
    pub(crate) kafka: KafkaConfig,
    pub(crate) naming: Naming,
    pub(crate) topic_defaults: TopicSettings,
    pub(crate) schemas: Schemas,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) metrics: Metrics,
    pub(crate) budget: Budget,
    pub(crate) secrets: Arc<SecretResolver>,
    pub(crate) bulletin: Bulletin,
}

impl Shared {
    /// The topics of this hub as sources of keys.
    pub(crate) fn keys(&self) -> Option<Arc<dyn KeyTopics>> {
        Some(Arc::new(CanonicalKeys::new(self.kafka.clone(), self.schemas.clone())))
    }
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    lanes: Vec<Arc<Lane>>,
    systems: Mutex<BTreeMap<String, Running>>,
    /// Systems of the connectors topic that have not been looked at yet.
    awaited: Mutex<BTreeSet<String>>,
}

struct Running {
    desired: Desired,
    board: Board,
    connector: Arc<Mutex<Option<Arc<dyn DynConnector>>>>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Node {
    /// Prepares the hub's own topics and starts the lanes, which fences any earlier node of the same prefix.
    ///
    /// # Errors
    /// [`RunError::Kafka`] when Kafka cannot be used.
    pub async fn start(input: NodeInput) -> Result<Self, RunError> {
        let own = input.naming.own();
        prepare::own_topics(&input.kafka, &own).await?;
        let mut lanes = Vec::with_capacity(usize::from(input.lanes.max(1)));
        for number in 0..input.lanes.max(1) {
            let lane = Lane::start(LaneInput {
                config: input.kafka.clone(),
                name: input.naming.lane(number),
                checkpoints_topic: own.checkpoints.clone(),
                limits: LaneLimits::default(),
                metrics: input.metrics.lane(&number.to_string()),
            });
            lanes.push(Arc::new(lane.map_err(RunError::Lane)?));
        }
        let shared = Shared {
            bulletin: Bulletin::open(&input.kafka, &own.status, input.name)?,
            kafka: input.kafka,
            naming: input.naming,
            topic_defaults: input.topic_defaults,
            schemas: input.schemas,
            kinds: input.kinds,
            metrics: input.metrics,
            budget: Budget::new(input.queue_bytes),
            secrets: input.secrets,
        };
        Ok(Self { shared: Arc::new(shared), lanes, systems: Mutex::default(), awaited: Mutex::default() })
    }

    /// Makes one system run as desired. An unchanged one goes on undisturbed; a changed one is restarted from its checkpoint.
    ///
    /// # Errors
    /// [`RunError::BadSystem`] when its name cannot be used.
    pub async fn put(&self, desired: Desired) -> Result<(), RunError> {
        let name = desired.spec.system.clone();
        let same = |running: &Running| running.desired.runs_as(&desired);
        self.replace(&name, same, |system| self.spawn(system, desired.clone())).await
    }

    /// Puts what `make` makes in the place of a system, unless the one that is there is the same.
    async fn replace(&self, name: &str, same: impl Fn(&Running) -> bool, make: impl FnOnce(SystemName) -> Running) -> Result<(), RunError> {
        let system = SystemName::new(name).map_err(|error| RunError::BadSystem { system: name.to_owned(), why: error.to_string() })?;
        if self.lock(|systems| systems.get(name).is_some_and(&same)) {
            return Ok(());
        }
        self.halt(name).await;
        self.shared.bulletin.revive(name);
        let running = make(system);
        self.lock(|systems| systems.insert(name.to_owned(), running));
        Ok(())
    }

    fn spawn(&self, system: SystemName, desired: Desired) -> Running {
        let board = Board::measured(system.as_str(), self.shared.metrics.system(system.as_str()));
        let stop = CancellationToken::new();
        let connector = Arc::new(Mutex::new(None));
        let task = if desired.paused {
            board.enter(State::Paused, None);
            None
        } else {
            let supervisor = Supervisor {
                shared: Arc::clone(&self.shared),
                desired: desired.clone(),
                lane: Arc::clone(&self.lanes[self.lane_of(system.as_str())]),
                system,
                board: board.clone(),
                connector: Arc::clone(&connector),
            };
            Some(tokio::spawn(supervisor.run(stop.clone())))
        };
        Running { desired, board, connector, stop, task }
    }

    fn lane_of(&self, system: &str) -> usize {
        // FNV-1a: stable over versions and machines, which the standard hasher does not promise.
        struct Fnv(u64);
        impl Hasher for Fnv {
            fn finish(&self) -> u64 {
                self.0
            }
            fn write(&mut self, bytes: &[u8]) {
                for byte in bytes {
                    self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
        }
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.write(system.as_bytes());
        usize::try_from(hash.finish() % self.lanes.len().max(1) as u64).unwrap_or(0)
    }

    /// Takes a system away: what it left at its source, its checkpoint, and last its record in the connectors topic. It is
    /// tried until it comes about; [`Node::put`] of the same name ends it.
    ///
    /// # Errors
    /// [`RunError::BadSystem`] when its name cannot be used.
    pub async fn remove(&self, desired: Desired, topic: &str) -> Result<(), RunError> {
        let name = desired.spec.system.clone();
        let same = |running: &Running| running.desired == desired;
        self.replace(&name, same, |system| {
            let (board, stop) = (Board::measured(&name, self.shared.metrics.system(&name)), CancellationToken::new());
            board.enter(State::Removing, None);
            let removal = Removal {
                shared: Arc::clone(&self.shared),
                desired: desired.clone(),
                lane: Arc::clone(&self.lanes[self.lane_of(&name)]),
                system,
                board: board.clone(),
                topic: topic.to_owned(),
            };
            let task = Some(tokio::spawn(removal.run(stop.clone())));
            Running { desired: desired.clone(), board, connector: Arc::default(), stop, task }
        })
        .await
    }

    /// Stops a system and keeps its checkpoint and what it has at its source.
    pub async fn halt(&self, name: &str) {
        let Some(mut running) = self.lock(|systems| systems.remove(name)) else { return };
        running.stop.cancel();
        if let Some(task) = running.task.take() {
            // A supervisor ends within its connector's grace; its panic was reported by the runtime.
            let _ = task.await;
        }
        // Nobody asks the source any more, and old figures would look like good ones.
        let metrics = self.shared.metrics.system(name);
        metrics.set_lag_bytes(None);
        metrics.set_source_gauges([]);
    }

    /// Stops a system whose record is gone, and forgets its metrics and its status.
    pub(crate) async fn leave(&self, name: &str) {
        self.halt(name).await;
        self.shared.metrics.forget_system(name);
        if let Err(error) = self.shared.bulletin.forget(name).await {
            tracing::warn!(
                system = name,
                error = &error as &dyn std::error::Error,
                "the status of a system that is gone cannot be deleted"
            );
        }
    }

    /// Names systems that are to be looked at before the node counts as ready.
    pub(crate) fn expect(&self, systems: impl IntoIterator<Item = String>) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).extend(systems);
    }

    /// A system's record was looked at.
    pub(crate) fn arrived(&self, system: &str) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(system);
    }

    /// Systems whose record in the connectors topic has not been looked at yet.
    #[must_use]
    pub fn awaited(&self) -> Vec<String> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Stops a system and removes what it left at its source (slot, publication) and its checkpoint.
    ///
    /// # Errors
    /// What the source says. The checkpoint is removed only after the source let go.
    pub async fn delete(&self, desired: &Desired) -> Result<(), RunError> {
        let name = &desired.spec.system;
        let system = SystemName::new(name).map_err(|error| RunError::BadSystem { system: name.clone(), why: error.to_string() })?;
        self.halt(name).await;
        open(desired, &self.shared.kinds, &*self.shared.secrets, None).await?.release().await?;
        self.forget(&system).await
    }

    /// Removes a system's checkpoint, so that its next start is a first start.
    ///
    /// # Errors
    /// [`RunError::Kafka`] or [`RunError::Lane`].
    pub async fn forget(&self, system: &SystemName) -> Result<(), RunError> {
        prepare::forget(&self.lanes[self.lane_of(system.as_str())], system).await
    }

    /// The status of every system. What keeps its lane from publishing is its trouble too.
    #[must_use]
    pub fn status(&self) -> Vec<SystemStatus> {
        self.lock(|systems| systems.iter().map(|(name, running)| running.status(self.lane(name))).collect())
    }

    /// The status of the systems that this node may speak for: of a lane that another node has taken, that one tells.
    pub(crate) fn told(&self) -> Vec<SystemStatus> {
        let ours = |name: &str| !matches!(*self.lane(name).health().borrow(), Health::Fenced);
        self.lock(|systems| systems.iter().filter(|(name, _)| ours(name)).map(|(name, running)| running.status(self.lane(name))).collect())
    }

    pub(crate) fn bulletin(&self) -> &Bulletin {
        &self.shared.bulletin
    }

    fn lane(&self, system: &str) -> &Lane {
        &self.lanes[self.lane_of(system)]
    }

    /// Brings what is measured when it is asked for up to date: queues, lag and snapshots.
    pub fn observe(&self) {
        let metrics = &self.shared.metrics;
        metrics.set_queue_bytes(self.shared.budget.used(), self.shared.budget.total());
        self.lock(|systems| {
            // What is being removed leaves no series behind.
            for (name, running) in systems.iter().filter(|(_, running)| running.board.state() != State::Removing) {
                let (status, system) = (running.status(self.lane(name)), metrics.system(name));
                system.set_queue_oldest(seconds(status.pending_seconds));
                system.set_lag(seconds(status.lag_seconds.unwrap_or_default()));
                for (stream, status) in &status.streams {
                    system.stream(stream).set_parked(status.parked.is_some());
                }
                for progress in status.snapshot {
                    let count = |chunks: u64| usize::try_from(chunks).unwrap_or(usize::MAX);
                    let (done, chunks) = (count(progress.chunks_done), count(progress.chunks));
                    system.stream(&progress.stream).snapshot(progress.rows, progress.expected, done, chunks);
                }
            }
        });
    }

    /// The systems that run here, as they were put.
    #[must_use]
    pub fn desired(&self) -> Vec<Desired> {
        self.lock(|systems| systems.values().map(|running| running.desired.clone()).collect())
    }

    /// Stops all systems, then the lanes.
    pub async fn shut_down(&self) {
        let names: Vec<String> = self.lock(|systems| {
            systems.values().for_each(|running| running.stop.cancel());
            systems.keys().cloned().collect()
        });
        for name in names {
            self.halt(&name).await;
        }
        self.shared.bulletin.farewell().await;
    }

    fn lock<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Running>) -> T) -> T {
        change(&mut self.systems.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Running {
    fn status(&self, lane: &Lane) -> SystemStatus {
        let connector = self.connector.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut report = self.board.report(connector.map(|connector| connector.progress()).unwrap_or_default());
        report.blocked = trouble(lane);
        report.error = report.error.or_else(|| report.blocked.clone());
        // A supervisor ends only when it is told to; a removal ends when it is done.
        let ended = self.task.as_ref().is_some_and(JoinHandle::is_finished) && !self.stop.is_cancelled();
        if ended && report.state != State::Removing {
            report.state = State::Stopped;
            report.error = Some("its task has ended, a defect of the hub; restart the hub, and please report it".to_owned());
        }
        report
    }
}

/// Why a lane publishes nothing now.
fn trouble(lane: &Lane) -> Option<String> {
    if lane.has_ended() {
        return Some(format!("the thread of lane {} has ended, a defect of the hub; restart the hub, and please report it", lane.name()));
    }
    match &*lane.health().borrow() {
        Health::Waiting(error) => Some(chain(error)),
        Health::Fenced => Some(LaneError::Fenced { lane: lane.name().into() }.to_string()),
        Health::Stopped => Some(LaneError::Stopped { lane: lane.name().into() }.to_string()),
        Health::Starting | Health::Ready => None,
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Checks Kafka's answer before anything is started.
///
/// # Errors
/// [`RunError::Kafka`] with the client's words.
pub async fn reach_kafka(config: &KafkaConfig) -> Result<(), RunError> {
    let config = config.clone();
    let answer = tokio::task::spawn_blocking(move || Topics::connect(&config).and_then(|topics| topics.list()).map(|_| ())).await;
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(RunError::Kafka { doing: "connecting to Kafka".to_owned(), cause: error.to_string() }),
        Err(error) => Err(RunError::Defect { doing: "connecting to Kafka".to_owned(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use hub_telemetry::Metrics;

    use super::*;

    #[tokio::test]
    async fn a_system_whose_task_has_ended_is_stopped_and_says_what_to_do() {
        let lane = Lane::start(LaneInput {
            config: KafkaConfig::at("127.0.0.1:1"),
            name: "ended".to_owned(),
            checkpoints_topic: "none".to_owned(),
            limits: LaneLimits::default(),
            metrics: Metrics::new().unwrap().lane("0"),
        });
        let desired = serde_json::json!({
            "spec": {"system": "demo", "connector": "none", "streams": []}, "schemas": {}, "codes": {}, "directory": "/"
        });
        let task = tokio::spawn(async {});
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
        let board = Board::new("demo");
        board.enter(State::Following, None);
        let desired = serde_json::from_value(desired).unwrap();
        let running = Running { desired, board, connector: Arc::default(), stop: CancellationToken::new(), task: Some(task) };
        let status = running.status(&lane.unwrap());
        assert_eq!(status.state, State::Stopped);
        assert!(status.error.unwrap().contains("restart the hub"));
    }
}
