//! What all Kafka clients of the hub share: librdkafka's log goes to tracing, and its last reason is kept for errors.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};

/// The callbacks of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct HubContext {
    last_reason: Arc<Mutex<Option<String>>>,
}

impl HubContext {
    /// Why the brokers could last not be used, in librdkafka's words: `Connect to ipv4#… failed: Connection refused`.
    pub(crate) fn last_reason(&self) -> Option<String> {
        self.last_reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets it: the brokers answered.
    pub(crate) fn answered(&self) {
        self.last_reason.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl ClientContext for HubContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // librdkafka retries by itself what it logs; only what it gives up on is worth a person's eye.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(target: "librdkafka", facility, "{message}");
            }
            _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: RdError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        tracing::debug!(target: "librdkafka", %error, reason, "client error");
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        let mut last = self.last_reason.lock().unwrap_or_else(PoisonError::into_inner);
        // "1/1 brokers are down" says less than the broken connection before it.
        if !(all_down && last.is_some()) {
            *last = Some(reason.to_owned());
        }
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for HubContext {}

/// How long a question to the brokers may take before it counts as unanswered.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A client that is only asked questions.
pub(crate) type Probe = BaseConsumer<HubContext>;

/// Serves what librdkafka has to say when a question failed, so that the context knows the reason.
pub(crate) fn explained<T>(probe: &Probe, answer: Result<T, RdError>) -> Result<T, RdError> {
    let until = Instant::now() + Duration::from_millis(200);
    // A poll that has served a log line looks like one that found nothing: only the clock ends this.
    while answer.is_err() && probe.context().last_reason().is_none() && Instant::now() < until {
        probe.poll(Duration::from_millis(5));
    }
    answer
}

/// Partitions of a topic; `None` where it does not exist (yet).
pub(crate) fn partition_count<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<Option<i32>, RdError> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error() {
        Some(error) => match RDKafkaErrorCode::from(error) {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Ok(None),
            code => Err(RdError::MetadataFetch(code)),
        },
        None if found.partitions().is_empty() => Ok(None),
        None => Ok(Some(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))),
    }
}
