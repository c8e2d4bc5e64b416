//! One process of the hub: its lanes and the systems that run on them.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hub_kafka::{Health, KafkaConfig, Lane, LaneError, LaneInput, LaneLimits, Topics};
use hub_model::SystemName;
use hub_registry::Schemas;
use hub_sdk::{Budget, DynConnector, Kind};
use hub_telemetry::Metrics;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::RunError;
use crate::error::chain;
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
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    lanes: Vec<Arc<Lane>>,
    systems: Mutex<BTreeMap<String, Running>>,
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
            kafka: input.kafka,
            naming: input.naming,
            topic_defaults: input.topic_defaults,
            schemas: input.schemas,
            kinds: input.kinds,
            metrics: input.metrics,
            budget: Budget::new(input.queue_bytes),
            secrets: input.secrets,
        };
        Ok(Self { shared: Arc::new(shared), lanes, systems: Mutex::new(BTreeMap::new()) })
    }

    /// Makes one system run as desired. An unchanged one goes on undisturbed; a changed one is restarted from its checkpoint.
    ///
    /// # Errors
    /// [`RunError::BadSystem`] when its name cannot be used.
    pub async fn put(&self, desired: Desired) -> Result<(), RunError> {
        let name = desired.spec.system.clone();
        let system = SystemName::new(&name).map_err(|error| RunError::BadSystem { system: name.clone(), why: error.to_string() })?;
        if self.lock(|systems| systems.get(&name).is_some_and(|running| running.desired.runs_as(&desired))) {
            return Ok(());
        }
        self.halt(&name).await;
        let running = self.spawn(system, desired);
        self.lock(|systems| systems.insert(name, running));
        Ok(())
    }

    fn spawn(&self, system: SystemName, desired: Desired) -> Running {
        let board = Board::new(system.as_str());
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
        let system = SystemName::new(&name).map_err(|error| RunError::BadSystem { system: name.clone(), why: error.to_string() })?;
        if self.lock(|systems| systems.get(&name).is_some_and(|running| running.desired == desired)) {
            return Ok(());
        }
        self.halt(&name).await;
        let (board, stop) = (Board::new(&name), CancellationToken::new());
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
        let running = Running { desired, board, connector: Arc::default(), stop, task };
        self.lock(|systems| systems.insert(name, running));
        Ok(())
    }

    /// Stops a system and keeps its checkpoint and what it has at its source.
    pub async fn halt(&self, name: &str) {
        let Some(mut running) = self.lock(|systems| systems.remove(name)) else { return };
        running.stop.cancel();
        if let Some(task) = running.task.take() {
            // A supervisor ends within its connector's grace; its panic was reported by the runtime.
            let _ = task.await;
        }
    }

    /// Stops a system and removes what it left at its source (slot, publication) and its checkpoint.
    ///
    /// # Errors
    /// What the source says. The checkpoint is removed only after the source let go.
    pub async fn delete(&self, desired: &Desired) -> Result<(), RunError> {
        let name = &desired.spec.system;
        let system = SystemName::new(name).map_err(|error| RunError::BadSystem { system: name.clone(), why: error.to_string() })?;
        self.halt(name).await;
        open(desired, &self.shared.kinds, &*self.shared.secrets).await?.release().await?;
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
        self.lock(|systems| {
            systems
                .iter()
                .map(|(name, running)| {
                    let connector = running.connector.lock().ok().and_then(|held| held.clone());
                    let mut report = running.board.report(connector.map(|connector| connector.progress()).unwrap_or_default());
                    report.blocked = trouble(&self.lanes[self.lane_of(name)]);
                    report.error = report.error.or_else(|| report.blocked.clone());
                    report
                })
                .collect()
        })
    }

    /// The systems that run here, as they were put.
    #[must_use]
    pub fn desired(&self) -> Vec<Desired> {
        self.lock(|systems| systems.values().map(|running| running.desired.clone()).collect())
    }

    /// Bytes that queues hold now, and may hold.
    #[must_use]
    pub fn queued_bytes(&self) -> (usize, usize) {
        (self.shared.budget.used(), self.shared.budget.total())
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
    }

    fn lock<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Running>) -> T) -> T {
        change(&mut self.systems.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Why a lane publishes nothing now.
fn trouble(lane: &Lane) -> Option<String> {
    match &*lane.health().borrow() {
        Health::Waiting(error) => Some(chain(error)),
        Health::Fenced => Some(LaneError::Fenced { lane: lane.name().into() }.to_string()),
        Health::Starting | Health::Ready | Health::Stopped => None,
    }
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
