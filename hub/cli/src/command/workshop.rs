//! One stream's pipeline as it would run today, for commands that compare and replay: nothing is created or registered.

use apache_avro::Schema;
use hub_engine::pipeline::Pipeline;
use hub_engine::prepare;
use hub_engine::spec::Naming;
use hub_engine::status::Board;
use hub_kafka::{Cleanup, KafkaConfig, TopicFacts, TopicSpec, Topics};
use hub_model::{Block, ChangeBatch, SystemName};
use hub_sdk::StreamShape;
use hub_telemetry::Metrics;
use hub_transform::encode::envelope_schema;
use hub_transform::reject::{Reject, parse};

use crate::avro::Decoder;
use crate::config::{HubFile, LoadedSystem};
use crate::failure::Failure;
use hub_transform::envelope::Layout;

/// Topic of the rejects that a workshop makes; they are read back and never published.
const REJECTS: &str = "rejects";

/// Rows go in, records and refusals come out.
pub(crate) struct Workshop {
    /// Topic of the records.
    pub(crate) topic: String,
    schema: String,
    pipeline: Pipeline,
}

/// What a batch became.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Records of the data topic.
    pub(crate) block: Option<Block>,
    /// Refused rows, with their reasons.
    pub(crate) rejects: Vec<Reject>,
    /// Rows that the filter leaves out.
    pub(crate) filtered: u64,
}

impl Workshop {
    /// The workshop of one stream of a system whose topics and schemas exist.
    pub(crate) async fn open(
        hub: &HubFile,
        system: &LoadedSystem,
        at: usize,
        shapes: &[StreamShape],
        decoder: &Decoder,
    ) -> Result<Self, Failure> {
        let spec = &system.desired.spec;
        let cannot = |error: &dyn std::fmt::Display| Failure::unavailable(format!("preparing {}", spec.system), error);
        let Some(stream) = spec.streams.get(at) else { return Err(cannot(&"it has no such stream")) };
        let naming = Naming::new(hub.kafka.topic_prefix.clone());
        let topic = naming.data(&spec.system, &stream.entity);
        let ids = decoder.ids(&topic).await?;
        let [facts, rejects] = facts(&hub.kafka, [topic.clone(), naming.rejects(&spec.system)]).await?;
        let name = SystemName::new(&spec.system).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut prepared = prepare::offline(&system.desired, at, &name, shapes, &topic, ids).map_err(|error| cannot(&error))?;
        let largest = hub.kafka.max_record_bytes as usize;
        prepared.record_limit = rejects.max_message_bytes.min(largest);
        prepared.rejects.topic = REJECTS.into();
        spec.config.get("database").and_then(|name| name.as_str()).unwrap_or_default().clone_into(&mut prepared.database);
        if let Some(kind) = hub_connectors::kinds().iter().find(|kind| kind.name == spec.connector) {
            kind.source.clone_into(&mut prepared.connector);
        }
        for stream in &mut prepared.streams {
            stream.compacted = facts.compacted;
            stream.record_limit = facts.max_message_bytes.min(largest);
        }
        let entity = prepared.streams.first().map(|stream| stream.canonical.clone()).ok_or_else(|| cannot(&"it has no such stream"))?;
        let schema = envelope_schema(&entity, &topic);
        let metrics = Metrics::new().map_err(|error| cannot(&error))?.system(name.as_str());
        let pipeline = Pipeline::new(prepared, Board::new(name.as_str()), metrics).map_err(|error| cannot(&error))?;
        Ok(Self { topic, schema, pipeline })
    }

    /// Today's envelope, and how its records are laid out.
    pub(crate) fn envelope(&self) -> Result<(Schema, Layout), Failure> {
        let doing = || format!("reading the schema of {}", self.topic);
        let schema = Schema::parse_str(&self.schema).map_err(|error| Failure::unavailable(doing(), error))?;
        let layout = Layout::of(&schema).ok_or_else(|| Failure::unavailable(doing(), "it is no envelope"))?;
        Ok((schema, layout))
    }

    /// Maps and encodes rows as the hub would at `now_micros` (microseconds since 1970-01-01 UTC).
    pub(crate) fn make(&mut self, batch: ChangeBatch, now_micros: i64) -> Result<Made, Failure> {
        let mapping = |error: &dyn std::fmt::Display| Failure::unavailable("mapping rows", error);
        let processed = self.pipeline.process(vec![batch], now_micros).map_err(|error| mapping(&error))?;
        let filtered = processed.tally.streams.iter().map(|(_, [_, _, _, filtered])| filtered).sum();
        let mut made = Made { filtered, ..Made::default() };
        for block in processed.blocks {
            if *block.topic != *REJECTS {
                made.block = Some(block);
                continue;
            }
            for record in 0..block.len() {
                made.rejects.push(parse(block.values.row(record)).map_err(|error| mapping(&error))?);
            }
        }
        Ok(made)
    }
}

/// What Kafka knows of two topics that must exist.
async fn facts(kafka: &KafkaConfig, names: [String; 2]) -> Result<[TopicFacts; 2], Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure::unavailable("asking Kafka for the topics", error);
    let topics = Topics::connect(kafka).map_err(|error| cannot(&error))?;
    let there = tokio::task::block_in_place(|| names.iter().map(|name| topics.partitions(name)).collect::<Result<Vec<_>, _>>());
    for (name, partitions) in names.iter().zip(there.map_err(|error| cannot(&error))?) {
        if partitions.is_none() {
            return Err(Failure::Unavailable(format!("there is no topic {name}: `hub run` creates it when the system starts")));
        }
    }
    let specs = names.map(|name| TopicSpec {
        name,
        partitions: 1,
        replication: kafka.replication,
        cleanup: Cleanup::Compact,
        settings: std::collections::BTreeMap::new(),
    });
    let found = topics.ensure(&specs).await.map_err(|error| cannot(&error))?;
    found.try_into().map_err(|_| cannot(&"the answer names other topics"))
}
