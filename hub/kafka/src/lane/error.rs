//! Why a publication was not committed, and what its system does about it.

use std::sync::Arc;

use hub_model::SystemName;

use crate::error::{Cause, Class};

/// Why a publication was not committed. The same error goes to every publication of a transaction.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaneError {
    /// Kafka went away in the middle and is back, or will be.
    #[error("lane {lane} lost Kafka in the middle of a transaction; the system goes on from its checkpoint")]
    Unreachable {
        /// The lane.
        lane: Arc<str>,
        /// Kafka's answer.
        #[source]
        cause: Cause,
    },
    /// The transaction was given up for another reason.
    #[error("lane {lane} gave up a transaction; the system goes on from its checkpoint")]
    Aborted {
        /// The lane.
        lane: Arc<str>,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// Another system's publication broke the transaction that this one was in.
    #[error("lane {lane} gave up a transaction because of system {culprit}; this system goes on from its checkpoint")]
    Neighbour {
        /// The lane.
        lane: Arc<str>,
        /// The system that broke it.
        culprit: SystemName,
    },
    /// A record is larger than Kafka takes. Publish it as a reject instead.
    #[error(
        "a record of {bytes} bytes of system {system} is too large for topic {topic} ({}); \
         raise max.message.bytes of the topic and max_record_bytes of the kafka section, or let it be rejected",
        limit.map_or_else(|| "the topic's own limit".to_owned(), |limit| format!("at most {limit}"))
    )]
    TooLarge {
        /// The system.
        system: SystemName,
        /// The topic.
        topic: Arc<str>,
        /// Bytes of key and value.
        bytes: usize,
        /// What the lane takes; `None` where the broker refused by the topic's own limit.
        limit: Option<usize>,
    },
    /// A topic does not exist.
    #[error("topic {topic} does not exist; `hub apply` creates the topics of a system")]
    NoTopic {
        /// The lane.
        lane: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// Kafka's answer.
        #[source]
        cause: Cause,
    },
    /// Login or a right is refused.
    #[error("Kafka refused lane {lane}; check its login and the rights (ACLs) to write topics and transactional ids")]
    Denied {
        /// The lane.
        lane: Arc<str>,
        /// Kafka's answer.
        #[source]
        cause: Cause,
    },
    /// librdkafka refuses the settings.
    #[error("the Kafka settings cannot be used for lane {lane}; mend the kafka section of the configuration")]
    BadConfig {
        /// The lane.
        lane: Arc<str>,
        /// librdkafka's answer.
        #[source]
        cause: Cause,
    },
    /// Another hub has taken the lane.
    #[error("another hub has taken lane {lane}; stop one of them, or give them topic prefixes of their own")]
    Fenced {
        /// The lane.
        lane: Arc<str>,
    },
    /// The session ended by an earlier error or a newer session.
    #[error("this session of system {system} has ended; open a new one and go on from its checkpoint")]
    Stale {
        /// The system.
        system: SystemName,
    },
    /// The checkpoint could not be read back.
    #[error("could not read the checkpoint of system {system}")]
    Checkpoint {
        /// The system.
        system: SystemName,
        /// Why.
        #[source]
        cause: Arc<crate::Error>,
    },
    /// The lane was stopped before the publication's turn came, or while Kafka did not answer its commit.
    #[error("lane {lane} was stopped")]
    Stopped {
        /// The lane.
        lane: Arc<str>,
    },
    /// The lane panicked with the publication in its hands. Whether it was committed, the checkpoint of the next session tells.
    #[error("lane {lane} panicked, a defect of the hub, and begins anew; the system goes on from its checkpoint; please report it")]
    Lost {
        /// The lane.
        lane: Arc<str>,
    },
    /// Anything else.
    #[error("lane {lane} failed: {cause}")]
    Fatal {
        /// The lane.
        lane: Arc<str>,
        /// Why.
        cause: Arc<str>,
    },
}

impl LaneError {
    /// Whether a new session may simply go on from the checkpoint.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Aborted { .. } | Self::Neighbour { .. } | Self::Stale { .. } | Self::Lost { .. } => true,
            Self::Checkpoint { cause, .. } => cause.is_retriable(),
            Self::TooLarge { .. }
            | Self::NoTopic { .. }
            | Self::Denied { .. }
            | Self::BadConfig { .. }
            | Self::Fenced { .. }
            | Self::Stopped { .. }
            | Self::Fatal { .. } => false,
        }
    }

    /// What kept a lane from asking Kafka something beside its transactions.
    pub(crate) fn of(lane: &Arc<str>, error: crate::Error) -> Self {
        use crate::Error as Asked;
        match error {
            Asked::Unreachable { cause, .. }
            | Asked::Denied { cause, .. }
            | Asked::BadConfig { cause, .. }
            | Asked::Failed { cause, .. } => Self::new(lane, cause),
            other @ (Asked::NoTopic { .. } | Asked::HeldBack { .. } | Asked::BadRecord { .. }) => {
                Self::Fatal { lane: Arc::clone(lane), cause: other.to_string().into() }
            }
        }
    }

    /// Sorts Kafka's answer to a lane.
    pub(crate) fn new(lane: &Arc<str>, cause: Cause) -> Self {
        let lane = Arc::clone(lane);
        match cause.class() {
            Class::Unreachable => Self::Unreachable { lane, cause },
            Class::Denied => Self::Denied { lane, cause },
            Class::BadConfig => Self::BadConfig { lane, cause },
            Class::Fenced => Self::Fenced { lane },
            Class::TooLarge | Class::NoTopic | Class::Other => Self::Aborted { lane, cause },
        }
    }
}
