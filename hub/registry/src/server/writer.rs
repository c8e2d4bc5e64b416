//! Writes to the registry's topic so that several registries on one topic never disagree.
//!
//! There is one transactional id for a topic, so Kafka lets one registry write at a time. Taking over is
//! `init_transactions`, which ends the other's transaction and shuts it out, followed by a mark that is waited for until
//! it is read back: the state then holds all that was ever committed. What is decided on that state is committed or, when
//! another registry has taken over meanwhile, refused by Kafka, and decided anew.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use tokio::time::Instant;

use super::follower::Follower;
use super::record::{Key, Record};
use super::topic::StartError;

/// Kafka gives up a transaction after this long without word from its writer.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

const SILENT: &str = "Kafka did not answer in time";

/// Why nothing was written, or may not have been.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Another registry has taken over, or Kafka asks for the transaction to be done again: decide anew.
    Superseded(KafkaError),
    /// Kafka could not be reached; nothing was written.
    Away(String),
    /// Kafka did not say in time whether it was written.
    Unknown(&'static str),
    /// The record is larger than the topic takes.
    TooLarge,
    /// Kafka refuses.
    Refused(KafkaError),
}

/// The right to write, while no other registry has taken it.
pub(super) struct Writer {
    producer: Arc<FutureProducer>,
    topic: Arc<str>,
}

/// The settings of writers, checked.
pub(super) fn settings(client: &ClientConfig, topic: &str) -> Result<ClientConfig, StartError> {
    let mut settings = client.clone();
    settings
        .set("transactional.id", format!("{topic}-writer"))
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
        .set("message.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
        .set("acks", "all")
        .set("linger.ms", "0");
    match settings.create::<FutureProducer>() {
        Ok(_) => Ok(settings),
        Err(cause) => Err(StartError::BadConfig { topic: topic.to_owned(), cause }),
    }
}

impl Writer {
    /// Shuts other writers out and waits until all that they committed is in the follower's state.
    pub(super) async fn take_over(
        settings: &ClientConfig,
        topic: Arc<str>,
        follower: &Follower,
        deadline: Instant,
    ) -> Result<Self, WriteError> {
        let producer: FutureProducer = settings.create().map_err(WriteError::Refused)?;
        let writer = Self { producer: Arc::new(producer), topic };
        match writer.shut_others_out(follower, deadline).await {
            Ok(()) => Ok(writer),
            Err(error) => {
                writer.retire();
                // Nothing but a mark was under way, so silence means that nothing was written.
                Err(before_commit(error))
            }
        }
    }

    async fn shut_others_out(&self, follower: &Follower, deadline: Instant) -> Result<(), WriteError> {
        let producer = Arc::clone(&self.producer);
        blocking(deadline, move |left| producer.init_transactions(left)).await?.map_err(classify)?;
        let mark = Record { key: Key::Noop { magic: 0 }.text(), value: None };
        self.write(vec![mark], follower, deadline).await
    }

    /// Ends the producer, off the runtime's threads: it waits for threads of its own.
    pub(super) fn retire(self) {
        drop(tokio::task::spawn_blocking(move || drop(self)));
    }

    /// Writes the records in one transaction and waits until they are in the follower's state. After an error the
    /// right to write is lost: take over again.
    pub(super) async fn write(&self, records: Vec<Record>, follower: &Follower, deadline: Instant) -> Result<(), WriteError> {
        let deliveries = self.send(&records)?;
        let mut last = None;
        // All are waited for before the commit, whose own waiting is in steps of 100 ms.
        for delivery in deliveries {
            match tokio::time::timeout_at(deadline, delivery).await {
                Ok(Ok(Ok(delivered))) => last = last.max(Some(delivered.offset)),
                Ok(Ok(Err((error, _)))) => return Err(before_commit(classify(error))),
                Ok(Err(_)) | Err(_) => return Err(WriteError::Away(SILENT.to_owned())),
            }
        }
        let producer = Arc::clone(&self.producer);
        blocking(deadline, move |left| producer.commit_transaction(left)).await?.map_err(at_commit)?;
        match last {
            Some(offset) if !follower.has_read(offset, deadline).await => {
                Err(WriteError::Unknown("what was written was not read back in time"))
            }
            _ => Ok(()),
        }
    }

    fn send(&self, records: &[Record]) -> Result<Vec<DeliveryFuture>, WriteError> {
        self.producer.begin_transaction().map_err(classify)?;
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            let mut message = FutureRecord::to(&self.topic).partition(0).key(&record.key);
            if let Some(value) = &record.value {
                message = message.payload(value);
            }
            deliveries.push(self.producer.send_result(message).map_err(|(error, _)| classify(error))?);
        }
        Ok(deliveries)
    }
}

/// Before the commit, silence means that nothing was written.
fn before_commit(error: WriteError) -> WriteError {
    match error {
        WriteError::Unknown(_) => WriteError::Away(SILENT.to_owned()),
        other => other,
    }
}

/// A commit may have reached Kafka though its answer did not reach us.
fn at_commit(error: KafkaError) -> WriteError {
    match classify(error) {
        WriteError::Away(_) => WriteError::Unknown("the connection to Kafka was lost during the commit"),
        other => other,
    }
}

/// Runs a call of librdkafka that waits, off the runtime's threads.
async fn blocking<T: Send + 'static>(deadline: Instant, call: impl FnOnce(Duration) -> T + Send + 'static) -> Result<T, WriteError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(WriteError::Away(SILENT.to_owned()));
    }
    tokio::task::spawn_blocking(move || call(left)).await.map_err(|_| WriteError::Unknown("the writing thread ended"))
}

fn classify(error: KafkaError) -> WriteError {
    let superseded = match &error {
        KafkaError::Transaction(inner) => inner.is_fatal() || inner.txn_requires_abort() || inner.is_retriable(),
        _ => false,
    };
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => WriteError::TooLarge,
        Some(
            RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::ConcurrentTransactions
            | RDKafkaErrorCode::PurgeQueue
            | RDKafkaErrorCode::PurgeInflight,
        ) => WriteError::Superseded(error),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::PolicyViolation,
        ) => WriteError::Refused(error),
        Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::RequestTimedOut) => {
            WriteError::Unknown(SILENT)
        }
        Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure) => WriteError::Away(error.to_string()),
        _ if superseded => WriteError::Superseded(error),
        _ => WriteError::Refused(error),
    }
}
