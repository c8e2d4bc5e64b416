//! Topics: creates what is missing and tells how what exists differs. Never changes an existing topic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};

use crate::client::{ANSWER_WITHIN, HubContext, Probe, explained, partition_count};
use crate::{Error, KafkaConfig};

/// How a topic sheds old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Keeps the last record of each key.
    Compact,
    /// Drops what is older or more than its retention.
    Delete,
}

impl Cleanup {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Delete => "delete",
        }
    }
}

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Partitions to create it with.
    pub partitions: u32,
    /// Replicas to create it with.
    pub replication: u16,
    /// How it sheds old records.
    pub cleanup: Cleanup,
    /// Further topic settings, `retention.ms` and the like.
    pub settings: BTreeMap<String, String>,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// Whether this call created it.
    pub created: bool,
    /// Its partitions.
    pub partitions: u32,
    /// Largest record batch it takes, bytes.
    pub max_message_bytes: usize,
    /// Whether it is compacted, so that deletes need tombstones.
    pub compacted: bool,
    /// Where it differs from what was asked for.
    pub differences: Vec<Difference>,
}

/// One setting of an existing topic that is not as asked for. The hub leaves it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `partitions`, or the name of a topic setting.
    pub setting: String,
    /// What was asked for.
    pub wanted: String,
    /// What the topic has.
    pub found: String,
}

/// Access to the topics of a Kafka.
pub struct Topics {
    config: KafkaConfig,
    context: HubContext,
    admin: AdminClient<HubContext>,
    /// Asked for metadata: it tells why brokers cannot be used, an admin client does not.
    probe: Probe,
}

/// The value Kafka has for `max.message.bytes` unless told otherwise.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

impl Topics {
    /// Prepares access. Nothing is asked of Kafka yet.
    ///
    /// # Errors
    /// [`Error::BadConfig`] where librdkafka refuses the settings.
    pub fn connect(config: &KafkaConfig) -> Result<Self, Error> {
        let context = HubContext::default();
        let fail = |error| Error::new(config, &context, "setting up topic administration", error);
        let admin = AdminClient::from_config_and_context(&config.client(), context.clone()).map_err(fail)?;
        let probe = config.client().create_with_context(context.clone()).map_err(fail)?;
        Ok(Self { config: config.clone(), context, admin, probe })
    }

    /// Creates the topics that are missing, waits until the brokers know them, and tells what is there.
    /// Facts come in the order of `specs`. Existing topics are never changed.
    ///
    /// # Errors
    /// [`Error`] of the first topic that could not be created or described; those before it exist.
    pub async fn ensure(&self, specs: &[TopicSpec]) -> Result<Vec<TopicFacts>, Error> {
        let mut created = Vec::with_capacity(specs.len());
        for spec in specs {
            created.push(self.partitions(&spec.name)?.is_none());
        }
        let missing: Vec<&TopicSpec> = specs.iter().zip(&created).filter_map(|(spec, missing)| missing.then_some(spec)).collect();
        if !missing.is_empty() {
            self.create(&missing).await?;
        }
        let mut partitions = Vec::with_capacity(specs.len());
        for spec in specs {
            partitions.push(self.wait_for(&spec.name).await?);
        }
        let resources = self.describe(specs).await?;
        let facts = specs.iter().zip(created).zip(partitions).zip(resources);
        Ok(facts.map(|(((spec, created), partitions), found)| facts_of(spec, created, partitions, &found)).collect())
    }

    /// Partitions of a topic; `None` where it does not exist.
    ///
    /// # Errors
    /// [`Error`] when Kafka cannot be asked. Blocks for at most 15 s.
    pub fn partitions(&self, topic: &str) -> Result<Option<u32>, Error> {
        let found = explained(&self.probe, partition_count(self.probe.client(), topic))
            .map_err(|error| self.error(format!("looking up topic {topic}"), error))?;
        Ok(found.and_then(|count| u32::try_from(count).ok()))
    }

    /// Names of all topics, sorted, Kafka's own left out.
    ///
    /// # Errors
    /// [`Error`] when Kafka cannot be asked. Blocks for at most 15 s.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let metadata =
            explained(&self.probe, self.probe.fetch_metadata(None, ANSWER_WITHIN)).map_err(|error| self.error("listing topics", error))?;
        let mut names: Vec<String> =
            metadata.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| !name.starts_with("__")).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes a topic with all its records. One that does not exist is no mistake.
    ///
    /// # Errors
    /// [`Error`] when Kafka refuses or cannot be asked.
    pub async fn delete(&self, topic: &str) -> Result<(), Error> {
        let doing = || format!("deleting topic {topic}");
        let results = self.admin.delete_topics(&[topic], &options()).await.map_err(|error| self.error(doing(), error))?;
        for (_, code) in results.into_iter().filter_map(Result::err) {
            if code != Code::UnknownTopicOrPartition {
                return Err(self.error(doing(), RdError::AdminOp(code)));
            }
        }
        Ok(())
    }

    async fn create(&self, missing: &[&TopicSpec]) -> Result<(), Error> {
        let new: Vec<NewTopic<'_>> = missing.iter().map(|spec| new_topic(spec)).collect();
        let results = self.admin.create_topics(&new, &options()).await.map_err(|error| self.error("creating topics", error))?;
        for (topic, code) in results.into_iter().filter_map(Result::err) {
            // Another hub may have been quicker.
            if code != Code::TopicAlreadyExists {
                return Err(self.error(format!("creating topic {topic}"), RdError::AdminOp(code)));
            }
        }
        Ok(())
    }

    /// A created topic is known to a broker a little after the controller has answered.
    async fn wait_for(&self, topic: &str) -> Result<u32, Error> {
        let until = Instant::now() + ANSWER_WITHIN;
        loop {
            if let Some(partitions) = self.partitions(topic)? {
                return Ok(partitions);
            }
            if Instant::now() > until {
                return Err(self.error(format!("waiting for topic {topic} to appear"), RdError::MetadataFetch(Code::OperationTimedOut)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn describe(&self, specs: &[TopicSpec]) -> Result<Vec<ConfigResource>, Error> {
        let mut resources = Vec::with_capacity(specs.len());
        for chunk in specs.chunks(100) {
            let asked: Vec<ResourceSpecifier<'_>> = chunk.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
            let answers =
                self.admin.describe_configs(&asked, &options()).await.map_err(|error| self.error("reading topic settings", error))?;
            for (answer, spec) in answers.into_iter().zip(chunk) {
                resources.push(
                    answer.map_err(|code| self.error(format!("reading the settings of topic {}", spec.name), RdError::AdminOp(code)))?,
                );
            }
        }
        Ok(resources)
    }

    fn error(&self, doing: impl Into<String>, error: RdError) -> Error {
        Error::new(&self.config, &self.context, doing, error)
    }
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("brokers", &self.config.brokers).finish_non_exhaustive()
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER_WITHIN)).operation_timeout(Some(ANSWER_WITHIN))
}

fn new_topic(spec: &TopicSpec) -> NewTopic<'_> {
    let partitions = i32::try_from(spec.partitions.max(1)).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(i32::from(spec.replication.max(1)));
    let new = NewTopic::new(&spec.name, partitions, replication).set("cleanup.policy", spec.cleanup.as_str());
    spec.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
}

fn facts_of(spec: &TopicSpec, created: bool, partitions: u32, found: &ConfigResource) -> TopicFacts {
    let setting = |name: &str| found.get(name).and_then(|entry| entry.value.as_deref());
    let mut differences = Vec::new();
    let mut compare = |name: &str, wanted: &str, found: Option<&str>| {
        if found != Some(wanted) {
            let found = found.unwrap_or("unknown").to_owned();
            differences.push(Difference { setting: name.to_owned(), wanted: wanted.to_owned(), found });
        }
    };
    compare("partitions", &spec.partitions.max(1).to_string(), Some(&partitions.to_string()));
    compare("cleanup.policy", spec.cleanup.as_str(), setting("cleanup.policy"));
    for (name, wanted) in &spec.settings {
        compare(name, wanted, setting(name));
    }
    TopicFacts {
        name: spec.name.clone(),
        created,
        partitions,
        max_message_bytes: setting("max.message.bytes").and_then(|value| value.parse().ok()).unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
        compacted: setting("cleanup.policy").is_some_and(|policy| policy.split(',').any(|part| part.trim() == "compact")),
        differences,
    }
}
