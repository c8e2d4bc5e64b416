//! Reads the hub's topics as a `read_committed` subscriber does: rdkafka, the registry over HTTP, apache-avro. None of the hub's own code.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use apache_avro::Schema;
use apache_avro::types::Value;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::error::ProvinceError;

/// How long the brokers may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// Where the topics and their schemas are.
#[derive(Clone, Debug)]
pub struct TopicAccess {
    /// Brokers, `127.0.0.1:19092`.
    pub brokers: String,
    /// The schema registry, `127.0.0.1:18081`.
    pub registry: String,
    /// What topic names begin with, `h09.mot-cua`.
    pub prefix: String,
}

/// One decoded record; `value` is `None` for a tombstone.
pub(crate) struct Record {
    pub(crate) key: Option<Value>,
    pub(crate) value: Option<Value>,
}

/// What the keys of a topic are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Framed Avro records.
    Avro,
    /// Something that is not looked at; the rejects topic has text.
    Ignored,
}

/// Gives every committed record of a topic to `see`, in the order of each partition.
pub(crate) async fn read(access: &TopicAccess, topic: &str, keys: Keys, mut see: impl FnMut(Record)) -> Result<(), ProvinceError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &access.brokers)
        .set("group.id", "province-reconcile")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .map_err(|source| kafka(topic, source))?;
    let mut open = assign(&consumer, topic)?;
    let mut schemas = HashMap::new();
    let mut heard = Instant::now();
    while open > 0 {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let key = decode(access, &mut schemas, topic, message.key().filter(|_| keys == Keys::Avro)).await?;
                let value = decode(access, &mut schemas, topic, message.payload()).await?;
                see(Record { key, value });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(source)) => return Err(kafka(topic, source)),
            None if heard.elapsed() > SILENCE => return Err(ProvinceError::Silent { topic: topic.to_owned() }),
            None => {}
        }
    }
    Ok(())
}

/// Assigns all partitions from their beginning and gives their number.
fn assign(consumer: &BaseConsumer, topic: &str) -> Result<usize, ProvinceError> {
    let metadata = consumer.fetch_metadata(Some(topic), SILENCE).map_err(|source| kafka(topic, source))?;
    let partitions = metadata.topics().first().map_or(0, |found| found.partitions().len());
    if partitions == 0 {
        return Err(ProvinceError::NoTopic { topic: topic.to_owned() });
    }
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|found| found.partitions()) {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).map_err(|source| kafka(topic, source))?;
    }
    consumer.assign(&list).map_err(|source| kafka(topic, source))?;
    Ok(partitions)
}

/// Decodes Confluent framing: a zero, the schema's id, the datum.
async fn decode(
    access: &TopicAccess,
    schemas: &mut HashMap<u32, Schema>,
    topic: &str,
    bytes: Option<&[u8]>,
) -> Result<Option<Value>, ProvinceError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let broken = |why: String| ProvinceError::BrokenRecord { topic: topic.to_owned(), why };
    let (Some(0), Some(id), Some(mut datum)) = (bytes.first(), bytes.get(1..5), bytes.get(5..)) else {
        return Err(broken("it is not framed as Confluent's clients do".to_owned()));
    };
    let id = u32::from_be_bytes(id.try_into().map_err(|_| broken("its schema id is cut off".to_owned()))?);
    let schema = match schemas.entry(id) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(fetch(access, id).await?),
    };
    apache_avro::from_avro_datum(schema, &mut datum, None).map(Some).map_err(|error| broken(error.to_string()))
}

/// One schema from the registry. A plain request is all it takes; an HTTP client would be a dependency for it alone.
async fn fetch(access: &TopicAccess, id: u32) -> Result<Schema, ProvinceError> {
    let refused = |why: String| ProvinceError::Registry { registry: access.registry.clone(), id, why };
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(&access.registry).await?;
        let request = format!("GET /schemas/ids/{id} HTTP/1.0\r\nhost: {}\r\n\r\n", access.registry);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange.await.map_err(|error| refused(error.to_string()))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: serde_json::Value = serde_json::from_str(body).map_err(|error| refused(error.to_string()))?;
    let text = body.get("schema").and_then(serde_json::Value::as_str).ok_or_else(|| refused(body.to_string()))?;
    Schema::parse_str(text).map_err(|error| refused(error.to_string()))
}

fn kafka(topic: &str, source: KafkaError) -> ProvinceError {
    ProvinceError::Kafka { topic: topic.to_owned(), source }
}

/// A field of a record, unions opened.
pub(crate) fn field<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    match open(record) {
        Value::Record(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| open(value)),
        _ => None,
    }
}

/// A field's text; empty where there is none.
pub(crate) fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    match field(record, name) {
        Some(Value::String(text) | Value::Enum(_, text)) => text,
        _ => "",
    }
}

/// A key record as text: its values, joined.
pub(crate) fn key_text(key: &Value) -> String {
    let Value::Record(fields) = open(key) else { return String::new() };
    let values = fields.iter().map(|(_, value)| match open(value) {
        Value::String(text) | Value::Enum(_, text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Long(number) => number.to_string(),
        other => format!("{other:?}"),
    });
    values.collect::<Vec<_>>().join("|")
}

fn open(value: &Value) -> &Value {
    match value {
        Value::Union(_, inner) => open(inner),
        other => other,
    }
}
