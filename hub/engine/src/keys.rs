//! Canonical topics as a source of keys, for connectors that must ask their source by key.
//!
//! Between two looks at a topic nothing is open: a hundred quiet systems cost no thread and no connection.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::types::Value;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use hub_kafka::{KafkaConfig, ReadPlan, Reader, Start, Until, end_offsets};
use hub_registry::Schemas;
use hub_sdk::{ErrorKind, KeyTopics, SourceError, TopicKeys};
use hub_transform::envelope::framed;

/// Between two looks at a topic whose keys are all handed over.
const PAUSE: Duration = Duration::from_secs(5);
/// Keys that are handed over at once.
const AT_ONCE: usize = 5_000;

/// Topics of this hub's Kafka.
#[derive(Clone)]
pub struct CanonicalKeys {
    kafka: KafkaConfig,
    schemas: Schemas,
}

impl CanonicalKeys {
    /// Those of a Kafka, written with the schemas of a registry.
    #[must_use]
    pub fn new(kafka: KafkaConfig, schemas: Schemas) -> Self {
        Self { kafka, schemas }
    }
}

impl fmt::Debug for CanonicalKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CanonicalKeys").finish_non_exhaustive()
    }
}

impl KeyTopics for CanonicalKeys {
    fn keys(&self, topic: &str, field: &str, from: Option<serde_json::Value>) -> BoxStream<'static, Result<TopicKeys, SourceError>> {
        let next = from.and_then(|from| serde_json::from_value(from).ok()).unwrap_or_default();
        let look = Look { source: self.clone(), topic: topic.to_owned(), field: field.to_owned(), next };
        let state = Following { look: Some(look), ready: VecDeque::new(), quiet: false };
        stream::unfold(state, Following::next).boxed()
    }
}

/// A topic that is looked at again and again; without a look after an error, which ends it.
struct Following {
    look: Option<Look>,
    ready: VecDeque<TopicKeys>,
    quiet: bool,
}

impl Following {
    async fn next(mut self) -> Option<(Result<TopicKeys, SourceError>, Self)> {
        loop {
            if let Some(keys) = self.ready.pop_front() {
                return Some((Ok(keys), self));
            }
            let look = self.look.take()?;
            if self.quiet {
                tokio::time::sleep(PAUSE).await;
            }
            let runtime = tokio::runtime::Handle::current();
            let looked = tokio::task::spawn_blocking(move || look.run(&runtime)).await;
            match looked {
                Ok(Ok((look, found))) => {
                    // Whoever asks learns once that all is read, also where nothing was there.
                    let told = self.quiet && found.iter().all(|found| found.keys.is_empty());
                    self.quiet = found.last().is_some_and(|last| last.caught_up);
                    self.look = Some(look);
                    if !told {
                        self.ready = found.into();
                    }
                }
                Ok(Err(error)) => return Some((Err(error), self)),
                Err(error) => {
                    let error = SourceError::new(ErrorKind::Defect, "reading keys from a topic").because(error.to_string());
                    return Some((Err(error), self));
                }
            }
        }
    }
}

/// One look: from the next offsets to what is committed now.
struct Look {
    source: CanonicalKeys,
    topic: String,
    field: String,
    /// The next offset of each partition; one that is absent is read from its beginning.
    next: BTreeMap<i32, i64>,
}

impl Look {
    fn run(mut self, runtime: &tokio::runtime::Handle) -> Result<(Self, Vec<TopicKeys>), SourceError> {
        let ends = end_offsets(&self.source.kafka, &self.topic).map_err(|error| self.failed(&error))?;
        let mut writers = Writers { schemas: self.source.schemas.clone(), runtime: runtime.clone(), known: BTreeMap::new() };
        let (mut keys, mut rest) = (Vec::new(), false);
        for (partition, end) in (0i32..).zip(&ends) {
            let from = self.next.get(&partition).copied();
            if from.unwrap_or(0) >= end.end {
                continue;
            }
            rest |= !self.read(partition, from, &mut writers, &mut keys)?;
            if rest {
                break;
            }
            // Markers of transactions stand behind the last record: they are passed too.
            let next = self.next.entry(partition).or_default();
            *next = end.end.max(*next);
        }
        let position = serde_json::to_value(&self.next).unwrap_or_default();
        Ok((self, vec![TopicKeys { keys, position, caught_up: !rest }]))
    }

    /// Reads a partition on; false where enough is read and more may follow.
    fn read(&mut self, partition: i32, from: Option<i64>, writers: &mut Writers, keys: &mut Vec<String>) -> Result<bool, SourceError> {
        let start = from.map_or(Start::Beginning, Start::Offset);
        let plan = ReadPlan { topic: self.topic.clone(), partition: Some(partition), start, until: Until::Committed, key: None };
        let mut reader = Reader::open(&self.source.kafka, plan).map_err(|error| self.failed(&error))?;
        let (topic, field, next) = (&self.topic, &self.field, &mut self.next);
        let read = reader.each(|record| {
            let found = record.value().map(|value| writers.field(value, topic, field)).transpose().map_err(Halt::Failed)?;
            keys.extend(found.flatten());
            next.insert(partition, record.offset() + 1);
            if keys.len() >= AT_ONCE { Err(Halt::Enough) } else { Ok(()) }
        });
        match read {
            Ok(()) => Ok(true),
            Err(Halt::Enough) => Ok(false),
            Err(Halt::Failed(error)) => Err(error),
            Err(Halt::Kafka(error)) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &hub_kafka::Error) -> SourceError {
        let kind = match error {
            hub_kafka::Error::NoTopic { .. } => ErrorKind::NotPrepared,
            _ => ErrorKind::Unreachable,
        };
        SourceError::new(kind, format!("reading keys from topic {}", self.topic)).because(crate::error::chain(error))
    }
}

/// Why a partition is not read to its end.
enum Halt {
    Enough,
    Failed(SourceError),
    Kafka(hub_kafka::Error),
}

impl From<hub_kafka::Error> for Halt {
    fn from(error: hub_kafka::Error) -> Self {
        Self::Kafka(error)
    }
}

/// The schemas that records were written with.
struct Writers {
    schemas: Schemas,
    runtime: tokio::runtime::Handle,
    known: BTreeMap<u32, Schema>,
}

impl Writers {
    /// The field of a record's present state as text; `None` where it is null, or the record tells a delete.
    fn field(&mut self, value: &[u8], topic: &str, field: &str) -> Result<Option<String>, SourceError> {
        let doing = || format!("reading field {field} of a record of topic {topic}");
        let Some((id, mut body)) = framed(value) else {
            let error = SourceError::new(ErrorKind::BadConfig, doing());
            return Err(error.because("it is no Avro record in Confluent framing: name a topic that this hub publishes"));
        };
        let schema = self.schema(id).map_err(|(kind, why)| SourceError::new(kind, doing()).because(why))?;
        let datum = apache_avro::from_avro_datum(schema, &mut body, None)
            .map_err(|error| SourceError::new(ErrorKind::Defect, doing()).because(error.to_string()))?;
        let Some(state) = state(datum) else { return Ok(None) };
        let names = || state.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let Some((_, found)) = state.iter().find(|(name, _)| name == field) else {
            return Err(SourceError::new(ErrorKind::BadConfig, doing()).because(format!("there is no such field; there are {}", names())));
        };
        text(found).map_err(|what| SourceError::new(ErrorKind::BadConfig, doing()).because(format!("{what} cannot be a key")))
    }

    fn schema(&mut self, id: u32) -> Result<&Schema, (ErrorKind, String)> {
        if !self.known.contains_key(&id) {
            let text = self.runtime.block_on(self.schemas.by_id(id)).map_err(|error| (ErrorKind::Unreachable, error.to_string()))?;
            let parsed = Schema::parse_str(&text).map_err(|error| (ErrorKind::Defect, error.to_string()))?;
            self.known.insert(id, parsed);
        }
        self.known.get(&id).ok_or_else(|| (ErrorKind::Defect, format!("schema {id} was not kept")))
    }
}

/// The state after of an envelope; a record that is none is its own.
fn state(datum: Value) -> Option<Vec<(String, Value)>> {
    let Value::Record(mut fields) = datum else { return None };
    let Some(at) = fields.iter().position(|(name, _)| name == "after") else { return Some(fields) };
    match fields.swap_remove(at).1 {
        Value::Union(_, value) => match *value {
            Value::Record(fields) => Some(fields),
            _ => None,
        },
        Value::Record(fields) => Some(fields),
        _ => None,
    }
}

/// A key as text: texts as they are, whole numbers in digits.
fn text(value: &Value) -> Result<Option<String>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::Union(_, value) => text(value),
        Value::String(text) | Value::Enum(_, text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Value::Int(number) => Ok(Some(number.to_string())),
        Value::Long(number) => Ok(Some(number.to_string())),
        Value::Uuid(uuid) => Ok(Some(uuid.to_string())),
        _ => Err("a value that is neither text nor a whole number"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn record(fields: &[(&str, Value)]) -> Value {
        Value::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn the_state_of_an_envelope_is_what_comes_after_and_a_plain_record_is_its_own() {
        let person = record(&[("id", Value::Long(7))]);
        let envelope = |after| record(&[("before", Value::Null), ("after", after), ("op", Value::String("c".into()))]);
        assert_eq!(state(envelope(Value::Union(1, Box::new(person.clone())))), state(person));
        assert_eq!(state(envelope(Value::Union(0, Box::new(Value::Null)))), None);
    }

    #[test]
    fn a_key_is_a_text_or_a_whole_number_and_never_empty() {
        assert_eq!(text(&Value::Union(1, Box::new(Value::String("074".into())))), Ok(Some("074".to_owned())));
        assert_eq!(text(&Value::Long(7)), Ok(Some("7".to_owned())));
        assert_eq!(text(&Value::String(String::new())), Ok(None));
        assert_eq!(text(&Value::Union(0, Box::new(Value::Null))), Ok(None));
        assert!(text(&Value::Double(0.1)).is_err());
    }
}
