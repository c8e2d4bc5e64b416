//! A lane: the transactional publisher of the systems that hash to it. Rows, rejects and checkpoints of a publication are
//! in one Kafka transaction; many small publications share one, a large one fills it alone.
//!
//! # What holds
//! - A publication's `done` is called exactly once, after its fate is settled: committed, or never to be committed.
//!   (Only where a lane is stopped while Kafka is away, or panics, can a commit stay unknown; the next lane of the name, or
//!   the lane itself before it answers the next [`Lane::open`], settles it.)
//! - After an error, nothing of that system is published until it has opened a new [`Session`]: publications of the old
//!   one, queued or yet to come, are answered with [`LaneError::Stale`].
//! - [`Lane::open`] returns the checkpoint that the new session goes on from; no older publication can follow it.
//!
//! # How it works
//! A thread of its own drives two producers in turn. Two, because Kafka finishes a transaction after it has answered the
//! commit, and the next one of the same id would wait 20 ms for that. A transaction is begun when every record of the one
//! before it is acknowledged, and committed when that one is committed: that keeps the order. Starting fences both ids,
//! so that an older lane of the same name can commit nothing any more.

mod error;
mod producer;
mod transaction;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub_model::{Block, Checkpoint, SystemName};
use hub_telemetry::LaneMetrics;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use error::LaneError;

use crate::{KafkaConfig, checkpoints};
use worker::{Command, Worker};

/// What a lane is started with.
#[derive(Clone, Debug)]
pub struct LaneInput {
    /// How Kafka is reached.
    pub config: KafkaConfig,
    /// Its name, unique among the lanes of a Kafka: `<prefix>-lane-3`. It begins the transactional ids.
    pub name: String,
    /// The checkpoints topic (see [`checkpoints::topic`]). It must exist before a session is opened.
    pub checkpoints_topic: String,
    /// When a transaction is full.
    pub limits: LaneLimits,
    /// Where it counts.
    pub metrics: LaneMetrics,
}

/// When a transaction takes no more publications, whichever comes first. One publication is never cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Records.
    pub records: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
    /// Publications that wait in its queue.
    pub queue: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self { records: 50_000, bytes: 16 << 20, queue: 64 }
    }
}

/// The right to publish for a system, until the next failure or the next [`Lane::open`] of the same system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    system: SystemName,
    generation: u64,
}

impl Session {
    /// The system.
    #[must_use]
    pub fn system(&self) -> &SystemName {
        &self.system
    }
}

/// A new session and where it goes on from.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The right to publish.
    pub session: Session,
    /// Everything that is committed of the system.
    pub checkpoint: Checkpoint,
}

/// Who is told the outcome of a publication.
pub type Done = Box<dyn FnOnce(Result<Committed, LaneError>) + Send>;

/// What is to be published at once.
pub struct Publication {
    /// For whom.
    pub session: Session,
    /// The records, in order. Empty where only the checkpoint moves.
    pub blocks: Vec<Block>,
    /// The partitions that these records move.
    pub checkpoint: Checkpoint,
    /// Is told the outcome, on the lane's thread: it must not block.
    pub done: Done,
    /// Dropped when the outcome is known: the memory that the records hold.
    pub held: Box<dyn Send>,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication").field("session", &self.session).field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

/// A publication is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its records, tombstones counted, checkpoints not.
    pub records: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
    /// From the begin of its transaction to the end of the commit.
    pub took: Duration,
}

/// Tells a publication's outcome once, also where the publication is dropped without one: its lane has panicked then.
struct Told {
    lane: Arc<str>,
    done: Option<Done>,
}

impl Told {
    fn tell(mut self, outcome: Result<Committed, LaneError>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(LaneError::Lost { lane: Arc::clone(&self.lane) }));
        }
    }
}

/// Whether a lane can publish.
#[derive(Clone, Debug)]
pub enum Health {
    /// It has not fenced yet.
    Starting,
    /// It publishes.
    Ready,
    /// It waits for Kafka, or makes its producers anew; publications wait.
    Waiting(LaneError),
    /// Another hub has taken the lane. Nothing will be published any more.
    Fenced,
    /// It was stopped.
    Stopped,
}

/// What the lane's thread and its handles share.
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    /// Answered by the thread between two transactions.
    pub(crate) opens: Mutex<Vec<OpenRequest>>,
    pub(crate) health: watch::Sender<Health>,
}

pub(crate) struct OpenRequest {
    pub(crate) system: SystemName,
    pub(crate) answer: oneshot::Sender<Result<Session, LaneError>>,
}

/// A running lane. Dropping it stops it.
pub struct Lane {
    name: Arc<str>,
    config: KafkaConfig,
    checkpoints_topic: String,
    queue: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    health: watch::Receiver<Health>,
    /// Checkpoints are read one after the other: a start with 100 systems must not open 100 readers.
    reading: Semaphore,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Lane {
    /// Starts the lane's thread. It fences at once, and tries again for as long as Kafka is away; see [`Lane::health`].
    ///
    /// # Errors
    /// [`LaneError::BadConfig`] where librdkafka refuses the settings, [`LaneError::Fatal`] where no thread can be had.
    pub fn start(input: LaneInput) -> Result<Self, LaneError> {
        let name: Arc<str> = input.name.as_str().into();
        producer::check(&input.config, &name)?;
        let (queue, commands) = mpsc::channel(input.limits.queue.max(1));
        let (health, watched) = watch::channel(Health::Starting);
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), opens: Mutex::default(), health });
        let (config, checkpoints_topic) = (input.config.clone(), input.checkpoints_topic.clone());
        let worker = Worker::new(input, Arc::clone(&shared), commands);
        let thread = std::thread::Builder::new()
            .name(format!("lane {name}"))
            .spawn(move || worker.live())
            .map_err(|cause| LaneError::Fatal { lane: Arc::clone(&name), cause: cause.to_string().into() })?;
        Ok(Self { name, config, checkpoints_topic, queue, shared, health: watched, reading: Semaphore::new(2), thread: Some(thread) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its thread has ended, though nobody stopped it: nothing is published any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(std::thread::JoinHandle::is_finished)
    }

    /// Whether it can publish, now and as it changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Largest record that the lane takes, bytes of key, value and headers.
    #[must_use]
    pub fn record_limit(&self) -> usize {
        producer::record_limit(&self.config)
    }

    /// Begins a session of a system: ends its older one, waits until nothing of it is in a transaction, and reads the
    /// checkpoint back. Call it before a connector is started.
    ///
    /// # Errors
    /// Why the lane cannot publish now, answered at its next attempt; try again later where
    /// [`LaneError::is_retriable`]. [`LaneError::Checkpoint`] where the checkpoint cannot be read.
    pub async fn open(&self, system: &SystemName) -> Result<Opened, LaneError> {
        let (answer, answered) = oneshot::channel();
        let request = OpenRequest { system: system.clone(), answer };
        self.shared.opens.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        // A full queue means that the thread is awake; it looks at the requests before its next transaction.
        if let Err(mpsc::error::TrySendError::Closed(_)) = self.queue.try_send(Command::Look) {
            return Err(self.stopped());
        }
        let session = answered.await.unwrap_or_else(|_| Err(self.stopped()))?;
        let _turn = self.reading.acquire().await;
        let checkpoint = checkpoints::read(&self.config, &self.checkpoints_topic, system)
            .await
            .map_err(|cause| LaneError::Checkpoint { system: system.clone(), cause: Arc::new(cause) })?;
        Ok(Opened { session, checkpoint })
    }

    /// Publishes, and waits until it is durable.
    ///
    /// # Errors
    /// The outcome of the publication; [`LaneError::Lost`] where there is none.
    pub async fn commit(&self, session: &Session, blocks: Vec<Block>, checkpoint: Checkpoint) -> Result<Committed, LaneError> {
        let (told, outcome) = oneshot::channel();
        // Nobody listens any more only when the caller was cancelled.
        let done = Box::new(move |result| drop(told.send(result)));
        self.publish(Publication { session: session.clone(), blocks, checkpoint, done, held: Box::new(()) }).await;
        outcome.await.unwrap_or_else(|_| Err(LaneError::Lost { lane: Arc::clone(&self.name) }))
    }

    /// Hands a publication over, waiting for a place in the queue. The outcome is told to its `done`, also where the lane
    /// has stopped.
    pub async fn publish(&self, mut publication: Publication) {
        let told = Told { lane: Arc::clone(&self.name), done: Some(publication.done) };
        publication.done = Box::new(move |outcome| told.tell(outcome));
        if let Err(mpsc::error::SendError(Command::Publish(publication))) = self.queue.send(Command::Publish(Box::new(publication))).await {
            (publication.done)(Err(self.stopped()));
        }
    }

    /// Stops after the transaction that runs; what still waits is answered with [`LaneError::Stopped`].
    pub async fn stop(mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!(lane = &*self.name, "the lane's thread ended by a panic");
            }
        }
    }

    fn ask_to_stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.queue.try_send(Command::Look);
    }

    fn stopped(&self) -> LaneError {
        LaneError::Stopped { lane: Arc::clone(&self.name) }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("name", &self.name).finish_non_exhaustive()
    }
}
