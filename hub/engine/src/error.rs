//! Why a system's run ended, with what to do next.

use hub_kafka::LaneError;
use hub_sdk::SourceError;

use crate::policy::{Action, decide};

/// The end of one run of a system. The supervisor tries again, waits or stops by [`RunError::action`].
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source.
    #[error("{}", .0.report())]
    Source(#[from] SourceError),
    /// Publishing.
    #[error("publishing to Kafka failed: {}", chain(.0))]
    Lane(LaneError),
    /// Topics or checkpoints in Kafka.
    #[error("{doing} failed: {cause}")]
    Kafka {
        /// What was being done.
        doing: String,
        /// The client's words.
        cause: String,
    },
    /// The schema registry refused a schema.
    #[error("the registry refuses the schema of {subject}: {why}; change the schema compatibly, or relax the subject's compatibility")]
    SchemaRefused {
        /// The subject.
        subject: String,
        /// The registry's words.
        why: String,
    },
    /// The schema registry cannot be used.
    #[error("the schema registry cannot be used for {subject}: {why}")]
    Registry {
        /// The subject.
        subject: String,
        /// The client's words.
        why: String,
    },
    /// The system's record cannot be run.
    #[error("system {system} cannot run: {why}")]
    BadSystem {
        /// The system.
        system: String,
        /// What is wrong.
        why: String,
    },
    /// The connector ended without an error and without being asked to.
    #[error("the connector ended its capture, though nothing told it to; the system goes on from its checkpoint; please report it")]
    Ended,
    /// A panic: a mistake of the hub or of a connector.
    #[error("a defect of the hub: it panicked while {doing} ({why}); the system goes on from its checkpoint; please report it")]
    Panic {
        /// What was being done.
        doing: &'static str,
        /// What it said, where that cannot hold a value of a row.
        why: String,
    },
    /// The hub's own mistake.
    #[error("a defect of the hub while {doing}: {why}; please report it")]
    Defect {
        /// What was being done.
        doing: String,
        /// What went wrong.
        why: String,
    },
}

impl RunError {
    /// The one stream that is in trouble, where the others can go on without it.
    #[must_use]
    pub fn broken_stream(&self) -> Option<&hub_model::StreamName> {
        match self {
            Self::Source(error) if self.action() == Action::Park => error.stream(),
            _ => None,
        }
    }

    /// A stable word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Lane(_) => "lane",
            Self::Kafka { .. } => "kafka",
            Self::SchemaRefused { .. } => "schema-refused",
            Self::Registry { .. } => "registry",
            Self::BadSystem { .. } => "bad-system",
            Self::Ended => "ended",
            Self::Panic { .. } => "panic",
            Self::Defect { .. } => "defect",
        }
    }

    /// What the supervisor does next.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::Source(error) => decide(error.kind()),
            Self::Kafka { .. } | Self::Registry { .. } | Self::Ended | Self::Panic { .. } => Action::Retry,
            Self::Lane(error) if error.is_retriable() => Action::Retry,
            // A record that is too large is learned by the pipeline and dead-lettered by the next run.
            Self::Lane(LaneError::TooLarge { .. }) => Action::Retry,
            Self::Lane(LaneError::Fenced { .. } | LaneError::BadConfig { .. }) => Action::Stop,
            Self::Lane(_) | Self::SchemaRefused { .. } => Action::TellAndRetry,
            Self::BadSystem { .. } | Self::Defect { .. } => Action::Stop,
        }
    }
}

/// The error of a panic. A message that was put together at run time may hold a value of a row, so only fixed ones are told.
pub(crate) fn panicked(doing: &'static str, panic: &(dyn std::any::Any + Send)) -> RunError {
    let fixed = panic.downcast_ref::<&'static str>();
    RunError::Panic { doing, why: fixed.map_or_else(|| "the place is in the log".to_owned(), |words| (*words).to_owned()) }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
