//! The registry's topic: created where it is missing, refused where it would lose or reorder schemas.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why a registry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// librdkafka refuses the settings.
    #[error("the settings of Kafka for the schemas topic {topic} are refused; correct the kafka section")]
    BadConfig {
        /// The topic.
        topic: String,
        /// librdkafka's words.
        #[source]
        cause: KafkaError,
    },
    /// Kafka does not answer, or does not let the topic be used. May come right by itself.
    #[error("could not {doing} the schemas topic {topic}; see that Kafka is up and lets this user use the topic")]
    Kafka {
        /// What was tried: create, describe, read.
        doing: &'static str,
        /// The topic.
        topic: String,
        /// Kafka's words.
        #[source]
        cause: KafkaError,
    },
    /// The topic exists and cannot hold schemas.
    #[error("the schemas topic {topic} cannot be used: {why}")]
    Unsuitable {
        /// The topic.
        topic: String,
        /// Why, and what to do.
        why: String,
    },
    /// The topic was not read to its end in time.
    #[error("the schemas topic {topic} was not read to its end within {seconds} s; see that Kafka is up, then start again")]
    Late {
        /// The topic.
        topic: String,
        /// How long it was tried, seconds.
        seconds: u64,
    },
}

impl StartError {
    /// Whether trying again later may help.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Kafka { .. } | Self::Late { .. })
    }
}

/// Creates the topic where it is missing; looks whether it is fit where it exists.
pub(super) async fn ensure(client: &ClientConfig, topic: &str, replication: u16, within: Duration) -> Result<(), StartError> {
    let admin: AdminClient<DefaultClientContext> =
        client.create().map_err(|cause| StartError::BadConfig { topic: topic.to_owned(), cause })?;
    let failed = |doing| move |cause| StartError::Kafka { doing, topic: topic.to_owned(), cause };
    let options = AdminOptions::new().request_timeout(Some(within)).operation_timeout(Some(within));
    let wanted = NewTopic::new(topic, 1, TopicReplication::Fixed(i32::from(replication))).set("cleanup.policy", "compact");
    let results = admin.create_topics([&wanted], &options).await.map_err(failed("create"))?;
    for result in results {
        match result {
            Ok(_) => return Ok(()),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(failed("create")(KafkaError::AdminOp(code))),
        }
    }
    let resource = [ResourceSpecifier::Topic(topic)];
    let described = admin.describe_configs(&resource, &options).await.map_err(failed("describe"))?;
    let policy = described.into_iter().flatten().find_map(|found| found.get("cleanup.policy").and_then(|entry| entry.value.clone()));
    let unsuitable = |why: String| Err(StartError::Unsuitable { topic: topic.to_owned(), why });
    if policy.as_deref().is_some_and(|policy| policy != "compact") {
        let policy = policy.unwrap_or_default();
        return unsuitable(format!("its cleanup.policy is {policy}, which loses old schemas; set cleanup.policy=compact"));
    }
    let name = topic.to_owned();
    let metadata = tokio::task::spawn_blocking(move || admin.inner().fetch_metadata(Some(&name), within)).await;
    let metadata = metadata.map_err(|_| failed("describe")(KafkaError::Canceled))?.map_err(failed("describe"))?;
    let partitions = metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len());
    if partitions == 1 {
        return Ok(());
    }
    unsuitable(format!("it has {partitions} partitions, and schemas need the one order of 1; name another topic"))
}
