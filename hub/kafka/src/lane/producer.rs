//! One transactional producer of a lane: fence, begin, send, drain, commit, abort. Blocking; polled by its caller alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_model::Block;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::LaneError;
use crate::KafkaConfig;
use crate::client::HubContext;
use crate::error::{Cause, Class};

/// librdkafka's own overhead of a record, at most (`RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`), with some room.
const RECORD_OVERHEAD: usize = 128;

/// Largest key, value and headers of a record together that librdkafka takes.
pub(super) fn record_limit(config: &KafkaConfig) -> usize {
    (config.max_record_bytes as usize).saturating_sub(RECORD_OVERHEAD)
}

/// Whether librdkafka takes the settings at all.
pub(super) fn check(config: &KafkaConfig, lane: &Arc<str>) -> Result<(), LaneError> {
    TransactionalProducer::create(config, &format!("{lane}-check")).map(drop).map_err(|failure| LaneError::new(lane, failure.cause))
}

/// Something went wrong with a producer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// The topic whose record was refused, and the bytes of its value, where it is known.
    pub(super) refused: Option<(String, usize)>,
}

/// How a commit ended.
pub(super) enum Commit {
    /// It is durable.
    Done,
    /// It is not, and the transaction must be aborted.
    Abort(Failure),
    /// The producer is of no more use, and only a new one of the same id can settle what became of it.
    Unsettled(Failure),
}

/// First error of a delivery, and librdkafka's log.
#[derive(Default)]
struct Delivery {
    hub: HubContext,
    failed: AtomicBool,
    first: Mutex<Option<(Code, String, usize)>>,
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.hub.log(level, facility, message);
    }

    fn error(&self, error: RdError, reason: &str) {
        self.0.hub.error(error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

#[derive(Clone, Default)]
struct DeliveryContext(Arc<Delivery>);

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = ();

    /// Only failures come here (`delivery.report.only.error`).
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let bytes = message.payload().map_or(0, <[u8]>::len) + message.key().map_or(0, <[u8]>::len);
        let mut first = self.0.first.lock().unwrap_or_else(PoisonError::into_inner);
        match first.as_mut() {
            None => *first = Some((code, message.topic().to_owned(), bytes)),
            // Of a batch that is refused as too large, the largest record is the one to look at.
            Some((held, topic, largest)) if *held == code && topic == message.topic() => *largest = bytes.max(*largest),
            // What follows a refusal (purged records) says less than the refusal.
            Some(held) if matches!(held.0, Code::PurgeQueue | Code::PurgeInflight) => {
                *held = (code, message.topic().to_owned(), bytes);
            }
            Some(_) => {}
        }
        self.0.failed.store(true, Ordering::Release);
    }
}

/// A producer with a transactional id.
pub(super) struct TransactionalProducer {
    producer: BaseProducer<DeliveryContext>,
    delivery: DeliveryContext,
}

/// No record of a transaction leaves before: librdkafka registers its partitions a millisecond after the first record
/// (`rd_kafka_txn_add_partition`), and the broker's answer takes its time too.
const REGISTERED_AFTER: Duration = Duration::from_micros(1_400);
/// Between two looks for acknowledgements: a part of what a commit takes.
const WAIT: Duration = Duration::from_micros(100);
/// The same when Kafka has not answered for a while.
const SLOW_WAIT: Duration = Duration::from_millis(5);
/// After so long without an acknowledgement, Kafka is looked at less often.
const SLOW_AFTER: Duration = Duration::from_millis(200);
/// How long one attempt to commit waits for its answer. Attempts are repeated until there is one.
const COMMIT_ATTEMPT: Duration = Duration::from_secs(5);
/// How long an abort may take before the producer is given up.
const ABORT_WITHIN: Duration = Duration::from_secs(10);

impl TransactionalProducer {
    pub(super) fn create(config: &KafkaConfig, id: &str) -> Result<Self, Failure> {
        let mut client = config.client_with(&[
            ("linger.ms", "0"),
            // Requests of all partitions leave together: one after the other costs a small transaction half a millisecond.
            ("max.in.flight.requests.per.connection", "5"),
            ("batch.num.messages", "10000"),
            ("batch.size", "900000"),
            // Bounds what a lane holds beside its publications.
            ("queue.buffering.max.kbytes", "32768"),
            ("queue.buffering.max.messages", "200000"),
            ("socket.send.buffer.bytes", "1048576"),
            // A topic that does not exist is told soon: the engine creates them before it publishes.
            ("topic.metadata.propagation.max.ms", "5000"),
        ]);
        let max_record = config.max_record_bytes.to_string();
        let timeout = config.transaction_timeout_ms.to_string();
        client
            .set("transactional.id", id)
            .set("transaction.timeout.ms", &timeout)
            .set("delivery.timeout.ms", &timeout)
            .set("compression.type", config.compression.as_str())
            .set("message.max.bytes", &max_record)
            .set("partitioner", "murmur2_random")
            .set("delivery.report.only.error", "true");
        let delivery = DeliveryContext::default();
        match client.create_with_context(delivery.clone()) {
            Ok(producer) => Ok(Self { producer, delivery }),
            Err(error) => Err(Failure { cause: Cause::new(error, &delivery.0.hub), refused: None }),
        }
    }

    /// Makes every older producer of the id useless and settles its transaction. May be called again after it failed by
    /// time.
    pub(super) fn fence(&self, within: Duration) -> Result<(), Failure> {
        let fenced = self.producer.init_transactions(within);
        // librdkafka's reasons arrive as events.
        self.producer.poll(Duration::ZERO);
        fenced.map_err(|error| self.failure(error))?;
        self.delivery.0.hub.answered();
        Ok(())
    }

    /// Partitions of a topic; `None` where it does not exist.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<i32>, Failure> {
        let counted = crate::client::partition_count(self.producer.client(), topic);
        self.producer.poll(Duration::ZERO);
        counted.map_err(|error| self.failure(error))
    }

    pub(super) fn begin(&self) -> Result<(), Failure> {
        self.delivery.0.failed.store(false, Ordering::Release);
        self.delivery.0.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.producer.begin_transaction().map_err(|error| self.failure(error))
    }

    /// Sends all records of a block. Waits while the producer's queue is full.
    pub(super) fn send(&self, block: &Block, waiting: &mut Waiting<'_>) -> Result<(), Failure> {
        let mut headers = block.headers.as_slice();
        let mut tombstones = block.tombstones.iter().copied().peekable();
        for (row, record) in (0..block.len()).zip(0_u32..) {
            // An empty key stands for null (truncates): a framed key never is.
            let key = block.keys.as_ref().map(|keys| keys.row(row)).filter(|key| !key.is_empty());
            let mut message = BaseRecord::<[u8], [u8], ()>::to(&block.topic).payload(block.values.row(row));
            message.key = key;
            message.timestamp = block.timestamps.get(row).copied();
            if headers.first().is_some_and(|header| header.record == record) {
                let count = headers.iter().take_while(|header| header.record == record).count();
                let (own, rest) = headers.split_at(count);
                headers = rest;
                message.headers = Some(own.iter().fold(OwnedHeaders::new_with_capacity(count), |all, header| {
                    all.insert(Header { key: header.name, value: Some(header.value.as_ref()) })
                }));
            }
            self.enqueue(message, waiting)?;
            if tombstones.next_if_eq(&record).is_some() {
                let mut tombstone = BaseRecord::<[u8], [u8], ()>::to(&block.topic);
                tombstone.key = key;
                tombstone.timestamp = block.timestamps.get(row).copied();
                self.enqueue(tombstone, waiting)?;
            }
        }
        // Serves librdkafka's log and errors without waiting.
        self.producer.poll(Duration::ZERO);
        self.check()
    }

    /// Sends one record to a partition of the caller's choice; no value makes a tombstone.
    pub(super) fn send_to(
        &self,
        topic: &str,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        waiting: &mut Waiting<'_>,
    ) -> Result<(), Failure> {
        let mut message = BaseRecord::<[u8], [u8], ()>::to(topic).key(key).partition(partition);
        message.payload = value;
        self.enqueue(message, waiting)
    }

    fn enqueue(&self, mut message: BaseRecord<'_, [u8], [u8], ()>, waiting: &mut Waiting<'_>) -> Result<(), Failure> {
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((RdError::MessageProduction(Code::QueueFull), unsent)) => {
                    message = unsent;
                    self.wait(waiting)?;
                }
                Err((error, unsent)) => {
                    let bytes = unsent.payload.map_or(0, <[u8]>::len) + unsent.key.map_or(0, <[u8]>::len);
                    let refused = Some((unsent.topic.to_owned(), bytes));
                    return Err(Failure { cause: Cause::new(error, &self.delivery.0.hub), refused });
                }
            }
        }
    }

    /// Records that no broker has acknowledged yet.
    pub(super) fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// Waits a moment for acknowledgements.
    pub(super) fn wait(&self, waiting: &mut Waiting<'_>) -> Result<(), Failure> {
        // rdkafka's poll spins for times below a millisecond. Acknowledgements need no poll: only failures are events.
        std::thread::sleep(if waiting.is_long() { SLOW_WAIT } else { WAIT });
        self.producer.poll(Duration::ZERO);
        self.check()?;
        waiting.observe(self.in_flight());
        match waiting.gone_on(|| self.silent()) {
            true => Ok(()),
            false => Err(self.failure(RdError::Canceled)),
        }
    }

    /// Waits until every record of a transaction that began at `began` is acknowledged.
    pub(super) fn drain(&self, began: Instant, waiting: &mut Waiting<'_>) -> Result<(), Failure> {
        let earliest = REGISTERED_AFTER.saturating_sub(began.elapsed());
        if !earliest.is_zero() && self.in_flight() > 0 {
            std::thread::sleep(earliest);
        }
        while self.in_flight() > 0 {
            self.wait(waiting)?;
        }
        self.check()
    }

    /// Commits, asking again until the outcome is known. Everything must be drained.
    pub(super) fn commit(&self, waiting: &mut Waiting<'_>) -> Commit {
        loop {
            match self.producer.commit_transaction(COMMIT_ATTEMPT) {
                Ok(()) => {
                    self.delivery.0.hub.answered();
                    return Commit::Done;
                }
                Err(RdError::Transaction(error)) if error.is_retriable() => {
                    self.producer.poll(Duration::ZERO);
                    if !waiting.gone_on(|| self.silent()) {
                        return Commit::Unsettled(self.failure(RdError::Canceled));
                    }
                }
                Err(RdError::Transaction(error)) if error.txn_requires_abort() => {
                    return Commit::Abort(self.failure(RdError::Transaction(error)));
                }
                Err(error @ RdError::Flush(_)) => return Commit::Abort(self.failure(error)),
                Err(error) => return Commit::Unsettled(self.failure(error)),
            }
        }
    }

    /// Aborts. False where the producer is of no more use.
    pub(super) fn abort(&self) -> bool {
        let until = Instant::now() + ABORT_WITHIN;
        loop {
            match self.producer.abort_transaction(Duration::from_millis(200)) {
                Ok(()) => return true,
                Err(RdError::Transaction(error)) if error.is_retriable() && Instant::now() < until => {
                    // Its records' failures arrive as events; the abort goes on when they are served.
                    self.producer.poll(Duration::from_millis(1));
                }
                Err(error) => {
                    tracing::debug!(%error, "could not abort a transaction");
                    return false;
                }
            }
        }
    }

    fn check(&self) -> Result<(), Failure> {
        if !self.delivery.0.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let first = self.delivery.0.first.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (code, refused) = first.map_or((Code::Unknown, None), |(code, topic, bytes)| (code, Some((topic, bytes))));
        // The producer's own fatal error (fenced) says more than the record that died of it.
        let code = match self.producer.client().fatal_error() {
            Some((fatal, _)) if matches!(code, Code::Fatal | Code::PurgeQueue | Code::PurgeInflight) => fatal,
            _ => code,
        };
        Err(Failure { cause: Cause::new(RdError::MessageProduction(code), &self.delivery.0.hub), refused })
    }

    fn failure(&self, error: RdError) -> Failure {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| RdError::Global(code));
        Failure { cause: Cause::new(fatal.unwrap_or(error), &self.delivery.0.hub), refused: None }
    }

    /// What Kafka's silence looks like to others.
    fn silent(&self) -> Cause {
        Cause::new(RdError::Global(Code::OperationTimedOut), &self.delivery.0.hub)
    }
}

/// What a wait for Kafka reports to and is ended by.
pub(super) struct Waiting<'a> {
    /// When Kafka last showed that it works.
    since: Instant,
    in_flight: usize,
    reported: bool,
    stop: &'a AtomicBool,
    report: &'a dyn Fn(Cause),
}

/// After so long without an answer, the lane counts as waiting for Kafka.
const REPORT_AFTER: Duration = Duration::from_secs(3);

impl<'a> Waiting<'a> {
    pub(super) fn new(stop: &'a AtomicBool, report: &'a dyn Fn(Cause)) -> Self {
        Self { since: Instant::now(), in_flight: 0, reported: false, stop, report }
    }

    /// Takes note of how many records are not acknowledged; a change is a sign of life.
    fn observe(&mut self, in_flight: usize) {
        if in_flight != self.in_flight {
            self.in_flight = in_flight;
            self.since = Instant::now();
        }
    }

    fn is_long(&self) -> bool {
        self.since.elapsed() > SLOW_AFTER
    }

    /// Whether to go on. Reports once that Kafka is silent. A stop is heeded only while Kafka is.
    fn gone_on(&mut self, silent: impl Fn() -> Cause) -> bool {
        let long = self.since.elapsed() > REPORT_AFTER;
        if long && !self.reported {
            self.reported = true;
            (self.report)(silent());
        }
        !(long && self.stop.load(Ordering::Acquire))
    }

    /// Whether it has been reported that Kafka is silent.
    pub(super) fn was_reported(&self) -> bool {
        self.reported
    }
}

impl Failure {
    pub(super) fn class(&self) -> Class {
        self.cause.class()
    }

    /// Whether the lane itself gave up waiting, to stop.
    pub(super) fn is_canceled(&self) -> bool {
        self.cause.error == RdError::Canceled
    }
}
