//! What must exist in Kafka and in the registry before a system can run: topics and schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_kafka::{Cleanup as KafkaCleanup, KafkaConfig, Lane, Table, TopicFacts, TopicSpec, Topics, checkpoints};
use hub_model::{Checkpoint, SystemName};
use hub_registry::ClientError;
use hub_sdk::StreamShape;
use hub_transform::encode::{envelope_schema, key_schema};
use hub_transform::normalise::{MappingSpec, Place, Sql};
use hub_transform::{CanonicalSchema, CodeLists, reject};

use crate::RunError;
use crate::node::Shared;
use crate::spec::{At, Cleanup, Desired, OwnTopics, StreamPlaces, StreamSpec, TopicSettings};

/// Characters of a registry's refusal that are kept.
const MOST_WORDS: usize = 600;
/// Partitions of a data topic when nothing else is said.
const DEFAULT_PARTITIONS: i32 = 3;

/// A system that can run.
pub struct Prepared {
    /// Its name.
    pub system: SystemName,
    /// Its connector in the envelope's `source`.
    pub connector: String,
    /// Its database in the envelope's `source`; empty where its configuration names none.
    pub database: String,
    /// Its streams.
    pub streams: Vec<PreparedStream>,
    /// Its code lists.
    pub codes: Arc<CodeLists>,
    /// Its rejects topic.
    pub rejects: RejectsTopic,
    /// Largest record that the lane sends.
    pub record_limit: usize,
}

/// The rejects topic of a system.
pub struct RejectsTopic {
    /// Its name.
    pub topic: Arc<str>,
    /// Registered id of its value schema.
    pub schema_id: u32,
}

/// One stream that can be mapped and published.
pub struct PreparedStream {
    /// Its desired state.
    pub spec: StreamSpec,
    /// Its mapping.
    pub mapping: MappingSpec,
    /// Its canonical entity.
    pub canonical: CanonicalSchema,
    /// Its topic.
    pub topic: Arc<str>,
    /// Whether the topic is compacted: deletes end in a tombstone.
    pub compacted: bool,
    /// Largest record the topic takes, bytes.
    pub record_limit: usize,
    /// Registered id of the envelope; 0 where the registry refuses a schema of the stream.
    pub value_id: u32,
    /// Registered id of the key.
    pub key_id: u32,
    /// Source columns that identify a row in deletes; `None` while the source has not been looked at.
    pub identity: Option<Vec<String>>,
    /// The source's columns as they are now; `None` while the source has not been looked at.
    pub shape: Option<arrow::datatypes::SchemaRef>,
    /// Why the registry refuses a schema of the stream: its rows go to the rejects topic raw.
    pub refused: Option<String>,
}

impl PreparedStream {
    /// Its name at the source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.spec.source
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }
}

/// A stream's mapping in the transform's words, with the place of each expression where the record has it.
#[must_use]
pub fn mapping(desired: &Desired, at: usize) -> Option<MappingSpec> {
    let stream = desired.spec.streams.get(at)?;
    let none = StreamPlaces::default();
    let file: Arc<str> = desired.places.as_ref().map_or("", |places| places.file.as_str()).into();
    let places = desired.places.as_ref().and_then(|places| places.streams.get(at)).unwrap_or(&none);
    let place = |at: Option<At>| at.map(|(line, column)| Place { file: Arc::clone(&file), line, column });
    let sql = |text: &String, at: Option<At>| Sql { text: text.clone(), place: place(at) };
    Some(MappingSpec {
        entity: stream.entity.clone(),
        filter: stream.filter.as_ref().map(|text| sql(text, places.filter)),
        key: stream.key.clone(),
        fields: stream.map.iter().map(|(field, text)| (field.clone(), sql(text, places.fields.get(field).copied()))).collect(),
        codes: BTreeMap::new(),
        key_place: place(places.key),
        fields_place: None,
    })
}

/// The columns that a delete carries: all of them where the source keeps full images.
#[must_use]
pub fn identity(shape: &StreamShape) -> Vec<String> {
    if shape.full_images {
        return shape.schema.fields().iter().map(|field| field.name().clone()).collect();
    }
    shape.identity.clone()
}

/// The code lists of a system's record.
///
/// # Errors
/// What is wrong with the first list that cannot be used.
pub fn code_lists(codes: &BTreeMap<String, String>) -> Result<CodeLists, String> {
    let mut lists = CodeLists::default();
    for (name, text) in codes {
        lists.add(name, text, &format!("codes/{name}.csv")).map_err(|faults: Vec<_>| format!("code list {name}: {}", joined(&faults)))?;
    }
    Ok(lists)
}

fn joined(faults: &[impl std::fmt::Display]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn kafka_error(doing: impl Into<String>) -> impl FnOnce(hub_kafka::Error) -> RunError {
    let doing = doing.into();
    move |cause| RunError::Kafka { doing, cause: crate::error::chain(&cause) }
}

/// Creates the hub's own topics.
pub(crate) async fn own_topics(kafka: &KafkaConfig, own: &OwnTopics) -> Result<(), RunError> {
    let specs = [
        checkpoints::topic(own.checkpoints.clone(), kafka.replication),
        Table::topic(own.connectors.clone(), kafka.replication),
        Table::topic(own.status.clone(), kafka.replication),
    ];
    let topics = Topics::connect(kafka).map_err(kafka_error("connecting to Kafka"))?;
    topics.ensure(&specs).await.map_err(kafka_error("creating the hub's own topics"))?;
    Ok(())
}

/// Creates the topics of a system and registers its schemas. A stream whose schema is refused is prepared as refused, unless all are.
pub(crate) async fn system(
    shared: &Shared,
    desired: &Desired,
    system: &SystemName,
    shapes: &[StreamShape],
    record_limit: usize,
) -> Result<Prepared, RunError> {
    let bad = |why: String| RunError::BadSystem { system: system.to_string(), why };
    let codes = Arc::new(code_lists(&desired.codes).map_err(bad)?);
    let rejects_topic: Arc<str> = shared.naming.rejects(system.as_str()).into();
    let mut specs = vec![rejects_spec(&rejects_topic, shared)];
    let mut names: Vec<Arc<str>> = Vec::new();
    for stream in &desired.spec.streams {
        let name: Arc<str> = shared.naming.data(system.as_str(), &stream.entity).into();
        specs.push(topic_spec(&name, &stream.topic.or(&shared.topic_defaults), shared));
        names.push(name);
    }
    let facts = ensure(shared, &specs, format!("creating the topics of {system}")).await?;
    let mut streams = Vec::with_capacity(names.len());
    let mut refusal = None;
    for (at, ((stream, topic), facts)) in desired.spec.streams.iter().zip(names).zip(facts.iter().skip(1)).enumerate() {
        let text = desired.schemas.get(&stream.entity).ok_or_else(|| bad(format!("its record lacks the schema {}", stream.entity)))?;
        let canonical = CanonicalSchema::parse(text).map_err(|error| bad(error.to_string()))?;
        let ids = schemas(shared, system, stream, &canonical, &topic).await;
        let refused = ids.as_ref().err().filter(|error| matches!(error, RunError::SchemaRefused { .. }));
        let refused = refused.map(|error| format!("{error}; then replay its rows: hub rejects replay {system}"));
        let (value_id, key_id) = match ids {
            Err(error) if refused.is_some() => {
                refusal = Some(error);
                (0, 0)
            }
            ids => ids?,
        };
        let shape = shapes.iter().find(|shape| shape.stream.as_str() == stream.source);
        streams.push(PreparedStream {
            mapping: mapping(desired, at).ok_or_else(|| bad(format!("it has no stream {at}")))?,
            spec: stream.clone(),
            canonical,
            topic,
            compacted: facts.compacted,
            record_limit: facts.max_message_bytes.min(record_limit),
            value_id,
            key_id,
            identity: shape.map(identity),
            shape: shape.map(|shape| Arc::clone(&shape.schema)),
            refused,
        });
    }
    // Where nothing can be published, rows wait at their source: there is no other stream for whose sake they must be read.
    if let Some(refusal) = refusal.filter(|_| streams.iter().all(|stream: &PreparedStream| stream.refused.is_some())) {
        return Err(refusal);
    }
    let schema_id = register(shared, &format!("{rejects_topic}-value"), reject::SCHEMA).await?;
    Ok(Prepared {
        system: system.clone(),
        connector: shared
            .kinds
            .iter()
            .find(|kind| kind.name == desired.spec.connector)
            .map_or_else(|| desired.spec.connector.clone(), |kind| kind.source.to_owned()),
        database: desired.spec.config.get("database").and_then(|name| name.as_str()).unwrap_or_default().to_owned(),
        streams,
        codes,
        rejects: RejectsTopic { topic: rejects_topic, schema_id },
        record_limit: facts.first().map_or(record_limit, |facts| facts.max_message_bytes.min(record_limit)),
    })
}

/// Creates topics that are not there yet; tells where one that is there differs.
pub(crate) async fn ensure(shared: &Shared, specs: &[TopicSpec], doing: String) -> Result<Vec<TopicFacts>, RunError> {
    let topics = Topics::connect(&shared.kafka).map_err(kafka_error("connecting to Kafka"))?;
    let facts = topics.ensure(specs).await.map_err(kafka_error(doing))?;
    report_differences(&facts);
    Ok(facts)
}

/// One stream of a system, prepared for a comparison: nothing is created or registered. `ids` are the registered ids of
/// its value and key schemas.
///
/// # Errors
/// [`RunError::BadSystem`] where its record cannot be used.
pub fn offline(
    desired: &Desired,
    at: usize,
    system: &SystemName,
    shapes: &[StreamShape],
    topic: &str,
    ids: (u32, u32),
) -> Result<Prepared, RunError> {
    let bad = |why: String| RunError::BadSystem { system: system.to_string(), why };
    let codes = Arc::new(code_lists(&desired.codes).map_err(bad)?);
    let stream = desired.spec.streams.get(at).ok_or_else(|| bad(format!("it has no stream {at}")))?;
    let text = desired.schemas.get(&stream.entity).ok_or_else(|| bad(format!("its record lacks the schema {}", stream.entity)))?;
    let shape = shapes.iter().find(|shape| shape.stream.as_str() == stream.source);
    let prepared = PreparedStream {
        mapping: mapping(desired, at).ok_or_else(|| bad(format!("it has no stream {at}")))?,
        spec: stream.clone(),
        canonical: CanonicalSchema::parse(text).map_err(|error| bad(error.to_string()))?,
        topic: topic.into(),
        compacted: false,
        record_limit: usize::MAX,
        value_id: ids.0,
        key_id: ids.1,
        identity: shape.map(identity),
        shape: None,
        refused: None,
    };
    Ok(Prepared {
        system: system.clone(),
        connector: desired.spec.connector.clone(),
        database: String::new(),
        streams: vec![prepared],
        codes,
        rejects: RejectsTopic { topic: "rejects".into(), schema_id: 0 },
        record_limit: usize::MAX,
    })
}

/// Whether the registry takes the schemas of a stream now.
pub(crate) async fn accepts(shared: &Shared, desired: &Desired, system: &SystemName, stream: &StreamSpec) -> Result<(), RunError> {
    let bad = |why: String| RunError::BadSystem { system: system.to_string(), why };
    let text = desired.schemas.get(&stream.entity).ok_or_else(|| bad(format!("its record lacks the schema {}", stream.entity)))?;
    let canonical = CanonicalSchema::parse(text).map_err(|error| bad(error.to_string()))?;
    let topic = shared.naming.data(system.as_str(), &stream.entity);
    schemas(shared, system, stream, &canonical, &topic).await.map(|_ids| ())
}

/// Registers the schemas of a stream; gives the ids of value and key.
async fn schemas(
    shared: &Shared,
    system: &SystemName,
    stream: &StreamSpec,
    canonical: &CanonicalSchema,
    topic: &str,
) -> Result<(u32, u32), RunError> {
    let bad = |why: String| RunError::BadSystem { system: system.to_string(), why };
    let key = key_schema(canonical, &stream.key, topic).map_err(|error| bad(error.to_string()))?;
    let value_id = register(shared, &format!("{topic}-value"), &envelope_schema(canonical, topic)).await?;
    let key_id = register(shared, &format!("{topic}-key"), &key).await?;
    Ok((value_id, key_id))
}

/// Registers a schema under a subject; gives its id.
pub(crate) async fn register(shared: &Shared, subject: &str, schema: &str) -> Result<u32, RunError> {
    shared.schemas.register(subject, schema).await.map_err(|error| {
        let (subject, why) = (subject.to_owned(), error.to_string());
        match error {
            ClientError::Incompatible { .. } | ClientError::Invalid { .. } => RunError::SchemaRefused { subject, why: brief(&why) },
            _ => RunError::Registry { subject, why },
        }
    })
}

/// A registry's words without the whole earlier schema, which it quotes behind them: they are told with every row.
fn brief(why: &str) -> String {
    let words = why.split(", {oldSchema").next().unwrap_or(why);
    match words.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

fn topic_spec(name: &str, settings: &TopicSettings, shared: &Shared) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions: settings.partitions.and_then(|count| u32::try_from(count).ok()).unwrap_or(DEFAULT_PARTITIONS.unsigned_abs()),
        replication: settings.replication.and_then(|count| u16::try_from(count).ok()).unwrap_or(shared.kafka.replication),
        cleanup: match settings.cleanup {
            Some(Cleanup::Delete) => KafkaCleanup::Delete,
            Some(Cleanup::Compact) | None => KafkaCleanup::Compact,
        },
        settings: settings.settings.clone(),
    }
}

/// Rejects are kept for 30 days unless the defaults say otherwise: people need time to mend data.
fn rejects_spec(name: &str, shared: &Shared) -> TopicSpec {
    let mut settings = BTreeMap::from([("retention.ms".to_owned(), (30_i64 * 24 * 3600 * 1000).to_string())]);
    if let Some(retention) = shared.topic_defaults.settings.get("retention.ms") {
        settings.insert("retention.ms".to_owned(), retention.clone());
    }
    TopicSpec { name: name.to_owned(), partitions: 1, replication: shared.kafka.replication, cleanup: KafkaCleanup::Delete, settings }
}

fn report_differences(facts: &[TopicFacts]) {
    for fact in facts {
        for difference in &fact.differences {
            tracing::warn!(
                topic = fact.name,
                setting = difference.setting,
                wanted = difference.wanted,
                found = difference.found,
                "an existing topic differs from its configuration; it is left as it is"
            );
        }
    }
}

/// Removes a system's checkpoint, through the lane, so that no older publication can bring it back.
pub(crate) async fn forget(lane: &Lane, system: &SystemName) -> Result<(), RunError> {
    let opened = lane.open(system).await.map_err(RunError::Lane)?;
    let mut removal = Checkpoint::empty();
    for (partition, _) in opened.checkpoint.iter() {
        removal.remove(partition);
    }
    if removal.is_empty() {
        return Ok(());
    }
    lane.commit(&opened.session, Vec::new(), removal).await.map(|_committed| ()).map_err(RunError::Lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_without_the_schema_that_it_quotes() {
        let why = "it does not fit: {errorType:'X', path:'/a'}, {oldSchemaVersion: 1}, {oldSchema: '{…}'}";
        assert_eq!(brief(why), "it does not fit: {errorType:'X', path:'/a'}");
        assert_eq!(brief(&"ê".repeat(2000)).chars().count(), MOST_WORDS + 1);
    }
}
