//! What a `read_committed` consumer sees, decoded by apache-avro with the registered schemas: not by the hub's own code.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use apache_avro::types::Value as Avro;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{BROKERS, PATIENCE, Setup};

/// One decoded record.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The key record as JSON; null without a key.
    pub key: Value,
    /// `r c u d t`, or `tombstone`.
    pub op: String,
    /// The state before.
    pub before: Value,
    /// The state after.
    pub after: Value,
    /// Where it comes from.
    pub source: Value,
    /// Names of its headers.
    pub headers: Vec<String>,
}

/// Key and value bytes and header names of one record.
pub type Raw = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<String>);

/// Every committed record of a topic, partition by partition; none where the topic does not exist.
#[must_use]
pub fn raw_records(topic: &str) -> Vec<Raw> {
    raw_records_of(BROKERS, topic)
}

/// The same at other brokers.
#[must_use]
pub fn raw_records_of(brokers: &str, topic: &str) -> Vec<Raw> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "e2e")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap() {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut open, mut records, started) = (partitions, Vec::new(), Instant::now());
    while open > 0 {
        assert!(started.elapsed() < PATIENCE, "{topic} cannot be read to its end");
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => {
                let headers = message.headers().map(|all| all.iter().map(|header| header.key.to_owned()).collect());
                records.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec), headers.unwrap_or_default()));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => panic!("{topic}: {error}"),
            None => {}
        }
    }
    records
}

/// Every committed record of a topic of a setup, decoded.
pub async fn events(setup: &Setup, topic: &str) -> Vec<Event> {
    let mut schemas = HashMap::new();
    let mut decoded = Vec::new();
    for (key, value, headers) in raw_records(topic) {
        let key = match key {
            Some(bytes) => decode(setup, &mut schemas, &bytes).await,
            None => Value::Null,
        };
        let event = match value {
            None => Event { key, op: "tombstone".into(), before: Value::Null, after: Value::Null, source: Value::Null, headers },
            Some(bytes) => {
                let envelope = decode(setup, &mut schemas, &bytes).await;
                Event {
                    key,
                    op: envelope["op"].as_str().unwrap_or_default().to_owned(),
                    before: envelope["before"].clone(),
                    after: envelope["after"].clone(),
                    source: envelope["source"].clone(),
                    headers,
                }
            }
        };
        decoded.push(event);
    }
    decoded
}

async fn decode(setup: &Setup, schemas: &mut HashMap<u32, apache_avro::Schema>, bytes: &[u8]) -> Value {
    assert_eq!(bytes[0], 0, "Confluent framing begins with 0");
    let id = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
    let schema = match schemas.entry(id) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(fetch(setup.registry, id).await),
    };
    let mut body = &bytes[5..];
    let value = apache_avro::from_avro_datum(schema, &mut body, None).unwrap();
    assert!(body.is_empty(), "nothing is left after the record");
    json(value)
}

async fn fetch(registry: u16, id: u32) -> apache_avro::Schema {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", registry)).await.expect("the embedded registry listens");
    let request = format!("GET /schemas/ids/{id} HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    apache_avro::Schema::parse_str(body["schema"].as_str().unwrap()).unwrap()
}

/// Avro as JSON that tests can compare: decimals as text of their unscaled number, times as numbers.
fn json(value: Avro) -> Value {
    match value {
        Avro::Union(_, inner) => json(*inner),
        Avro::Record(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, json(value))).collect()),
        Avro::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => value.into(),
        Avro::Long(value)
        | Avro::TimeMicros(value)
        | Avro::TimestampMillis(value)
        | Avro::TimestampMicros(value)
        | Avro::LocalTimestampMillis(value)
        | Avro::LocalTimestampMicros(value) => value.into(),
        Avro::Float(value) => value.into(),
        Avro::Double(value) => value.into(),
        Avro::String(text) | Avro::Enum(_, text) => text.into(),
        Avro::Uuid(uuid) => uuid.to_string().into(),
        Avro::Decimal(decimal) => {
            let bytes: Vec<u8> = Vec::<u8>::try_from(decimal).unwrap();
            let mut number = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1i128 } else { 0 };
            for byte in bytes {
                number = (number << 8) | i128::from(byte);
            }
            number.to_string().into()
        }
        Avro::Bytes(bytes) => bytes.into(),
        other => format!("{other:?}").into(),
    }
}
