//! Errors of topics, readers and tables: what was being done, what Kafka answered, and what to do next.

use std::fmt;

use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};

use crate::KafkaConfig;
use crate::client::HubContext;

/// Why something asked of Kafka did not come about.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No broker answers, or the link broke. Comes right by itself.
    #[error("Kafka at {brokers} did not answer while {doing}; check that it is up and reachable")]
    Unreachable {
        /// What was being done.
        doing: String,
        /// The brokers as configured.
        brokers: String,
        /// Kafka's answer.
        #[source]
        cause: Cause,
    },
    /// Login or a right is refused.
    #[error("Kafka at {brokers} refused {doing}; check user, password, certificate and the rights (ACLs) of the hub")]
    Denied {
        /// What was being done.
        doing: String,
        /// The brokers as configured.
        brokers: String,
        /// Kafka's answer.
        #[source]
        cause: Cause,
    },
    /// The settings cannot work.
    #[error("the Kafka settings cannot be used for {doing}; mend the kafka section of the configuration")]
    BadConfig {
        /// What was being done.
        doing: String,
        /// librdkafka's answer.
        #[source]
        cause: Cause,
    },
    /// A topic that should exist does not.
    #[error("topic {topic} does not exist (while {doing}); `hub apply` creates the hub's topics")]
    NoTopic {
        /// What was being done.
        doing: String,
        /// The topic.
        topic: String,
    },
    /// Transactions of others hold back the end of a topic.
    #[error(
        "an open transaction held back the end of topic {topic}, partition {partition} while {doing}; it ends by itself \
         after its transaction timeout; where it does not, `kafka-transactions.sh find-hanging` names its producer"
    )]
    HeldBack {
        /// What was being done.
        doing: String,
        /// The topic.
        topic: String,
        /// Its partition.
        partition: i32,
    },
    /// A record of the hub's own topics does not read as what it must be.
    #[error("{topic}, partition {partition}, offset {offset} is not a record of the hub: {what} (while {doing})")]
    BadRecord {
        /// What was being done.
        doing: String,
        /// The topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What is wrong, without its value.
        what: String,
    },
    /// Kafka answered with any other error.
    #[error("Kafka failed while {doing}")]
    Failed {
        /// What was being done.
        doing: String,
        /// Kafka's answer.
        #[source]
        cause: Cause,
    },
}

impl Error {
    /// Whether it may come right by itself.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::HeldBack { .. } | Self::Failed { .. })
    }

    /// Classifies what librdkafka answered.
    pub(crate) fn new(config: &KafkaConfig, context: &HubContext, doing: impl Into<String>, error: RdError) -> Self {
        let doing = doing.into();
        let cause = Cause::new(error, context);
        match cause.class() {
            Class::Unreachable => Self::Unreachable { doing, brokers: config.brokers.clone(), cause },
            Class::Denied => Self::Denied { doing, brokers: config.brokers.clone(), cause },
            Class::BadConfig => Self::BadConfig { doing, cause },
            Class::Fenced | Class::TooLarge | Class::NoTopic | Class::Other => Self::Failed { doing, cause },
        }
    }

    /// A blocking task that did not end by itself.
    pub(crate) fn interrupted(doing: impl Into<String>) -> Self {
        Self::Failed { doing: doing.into(), cause: Cause { error: RdError::Canceled, reason: None } }
    }
}

/// What Kafka answered, with librdkafka's reason where it gave one.
#[derive(Clone, Debug)]
pub struct Cause {
    pub(crate) error: RdError,
    reason: Option<String>,
}

/// What an answer means for the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Unreachable,
    Denied,
    BadConfig,
    Fenced,
    TooLarge,
    NoTopic,
    Other,
}

impl Cause {
    pub(crate) fn new(error: RdError, context: &HubContext) -> Self {
        let reason = if class_of(&error) == Class::Unreachable { context.last_reason() } else { None };
        Self { error, reason }
    }

    pub(crate) fn class(&self) -> Class {
        // A login that fails shows up as a time-out; the reason alone tells.
        let by_reason = self.reason.as_deref().is_some_and(|reason| {
            reason.contains("SASL authentication error")
                || reason.contains("Authentication failed")
                || reason.contains("SSL handshake failed")
                || reason.contains("SSL alert")
        });
        match class_of(&self.error) {
            Class::Unreachable if by_reason => Class::Denied,
            class => class,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{} ({reason})", self.error),
            None => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for Cause {}

/// Sorts librdkafka's and the brokers' error codes.
pub(crate) fn class_of(error: &RdError) -> Class {
    if matches!(error, RdError::ClientConfig(..) | RdError::ClientCreation(_)) {
        return Class::BadConfig;
    }
    let code = match error {
        RdError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    code.map_or(Class::Other, class_of_code)
}

/// The same for a bare code.
pub(crate) const fn class_of_code(code: Code) -> Class {
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::Resolve
        | Code::NetworkException
        | Code::BrokerNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::CoordinatorNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::NotCoordinator
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::WaitingForCoordinator => Class::Unreachable,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SecurityDisabled => Class::Denied,
        Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced => Class::Fenced,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => Class::TooLarge,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => Class::NoTopic,
        _ => Class::Other,
    }
}
