//! Follows the registry's topic on a thread of its own and keeps the [`State`] at its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::Instant;

use super::state::State;
use super::topic::StartError;

/// How long one poll waits: also how long stopping may take.
const POLL: Duration = Duration::from_millis(100);

/// What the topic says, kept up to date.
pub(super) struct Follower {
    state: Arc<RwLock<State>>,
    progress: watch::Receiver<Progress>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How far the topic has been read.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The first offset that is not yet in the state.
    next: i64,
    /// The end of the topic was reached once.
    ended: bool,
}

impl Follower {
    /// Reads the topic to its end, then goes on reading.
    pub(super) async fn start(client: &ClientConfig, topic: &str, within: Duration) -> Result<Self, StartError> {
        let consumer: BaseConsumer = client
            .clone()
            .set("group.id", format!("{topic}-reader"))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("queued.max.messages.kbytes", "4096")
            .create()
            .map_err(|cause| StartError::BadConfig { topic: topic.to_owned(), cause })?;
        let mut partition = TopicPartitionList::new();
        let assigned = partition.add_partition_offset(topic, 0, Offset::Beginning).and_then(|()| consumer.assign(&partition));
        assigned.map_err(|cause| StartError::Kafka { doing: "read", topic: topic.to_owned(), cause })?;

        let (tell, progress) = watch::channel(Progress::default());
        let (state, stop) = (Arc::new(RwLock::new(State::default())), Arc::new(AtomicBool::new(false)));
        let follow = Follow { consumer, state: Arc::clone(&state), tell, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("schemas-topic".to_owned()).spawn(move || follow.run());
        let thread = thread.map_err(|_| StartError::Unsuitable {
            topic: topic.to_owned(),
            why: "the system lets no further thread be started; raise the limit of threads".to_owned(),
        })?;
        let mut follower = Self { state, progress, stop, thread: Some(thread) };
        follower
            .reached(Instant::now() + within, |progress| progress.ended)
            .await
            .then_some(())
            .ok_or_else(|| StartError::Late { topic: topic.to_owned(), seconds: within.as_secs() })?;
        follower.progress.mark_unchanged();
        Ok(follower)
    }

    /// What the topic says now.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        // A panic while applying leaves whole records: the state is still what the topic said up to then.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the record at `offset` is in the state; false when `deadline` comes first.
    pub(super) async fn has_read(&self, offset: i64, deadline: Instant) -> bool {
        self.reached(deadline, |progress| progress.next > offset).await
    }

    async fn reached(&self, deadline: Instant, reached: impl Fn(&Progress) -> bool) -> bool {
        let mut progress = self.progress.clone();
        matches!(tokio::time::timeout_at(deadline, progress.wait_for(reached)).await, Ok(Ok(_)))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It looks at the flag after each poll; a panic of its own was already logged by the runtime.
            let _ = thread.join();
        }
    }
}

struct Follow {
    consumer: BaseConsumer,
    state: Arc<RwLock<State>>,
    tell: watch::Sender<Progress>,
    stop: Arc<AtomicBool>,
}

impl Follow {
    fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let offset = message.offset();
                    if let Some(key) = message.key() {
                        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                        if let Err(error) = state.apply(key, message.payload()) {
                            tracing::warn!(offset, %error, "record of the schemas topic passed over");
                        }
                    }
                    self.tell.send_modify(|progress| progress.next = offset + 1);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.tell.send_if_modified(|progress| !std::mem::replace(&mut progress.ended, true));
                }
                Some(Err(error)) => tracing::warn!(%error, "schemas topic cannot be read now; trying on"),
            }
        }
    }
}
