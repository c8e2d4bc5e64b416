//! The hub's own topics as a source of keys, for a connector that must ask its source by key.

use std::fmt;

use futures::stream::BoxStream;

use crate::SourceError;

/// Keys that stand in a topic, as they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicKeys {
    /// Values of the field in the order of the topic, as text; those of deleted records and empty ones are left out. One value
    /// may come again and again.
    pub keys: Vec<String>,
    /// Opaque: reading goes on after these keys when it is given back.
    pub position: serde_json::Value,
    /// Everything that was in the topic when it was asked for has been handed over.
    pub caught_up: bool,
}

/// Reads canonical topics. The engine gives it to a connector in [`crate::OpenContext`], so that no connector knows Kafka.
pub trait KeyTopics: fmt::Debug + Send + Sync {
    /// The values of `field` of the records of `topic` after `from`, and of those to come; it never ends by itself. Committed
    /// records alone are read. Ends with an error where the topic or the field is not there.
    fn keys(&self, topic: &str, field: &str, from: Option<serde_json::Value>) -> BoxStream<'static, Result<TopicKeys, SourceError>>;
}
