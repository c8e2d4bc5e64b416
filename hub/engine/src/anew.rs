//! Reading a stream anew: what its topic holds of rows that are gone by then is deleted there too.
//!
//! A snapshot tells which rows there are, not which ones went away while nobody followed (a lost slot, a truncate that a
//! compacted topic cannot say, a mapping that leaves rows out now). So the ends of a stream's topic are noted in the system's
//! checkpoint before anything of the snapshot is published. When the connector has handed over the last present row
//! ([`hub_sdk::Delivery::completed`]), every key that was there before and that neither the snapshot nor a change has told
//! since is deleted, before anything that comes later is published. Each step is in the checkpoint, so that a crash in
//! between costs nothing.
//!
//! A row that is refused now is not gone: its key keeps the state of before, as after a refused update. Which keys those are is
//! kept in memory alone; where it cannot be known (the hub was ended in between, the whole stream was parked), nothing is
//! deleted, which is told.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hub_kafka::{KafkaConfig, ReadPlan, Reader, Start, Until, end_offsets};
use hub_model::{Checkpoint, StreamName, fingerprint};
use hub_registry::{ClientError, Schemas};
use hub_transform::envelope::{Layout, Place, framed};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::RunError;
use crate::error::chain;

/// Partitions of a checkpoint that are the hub's own; connectors never see them.
const OWN: &str = "hub/";
const READ: &str = "hub/read/";
/// How long open transactions may hold a topic's end back before the reading is tried again.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// How far the reading of one stream is, as its checkpoint partition `hub/read/<stream>` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Reading {
    /// Ends of the topic's partitions before the snapshot, while it matters what is before them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<i64>,
    /// Whether every present row was published.
    #[serde(default)]
    read: bool,
    /// Whether rows were refused meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
    /// Rows were refused by an earlier run: which ones is not known any more.
    #[serde(skip)]
    unsure: bool,
}

/// What the hub keeps in a system's checkpoint beside its connector's positions.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    streams: BTreeMap<String, Reading>,
    /// The source has no present rows to read: nothing can be said to be gone.
    without_snapshot: bool,
}

impl Readings {
    /// Takes the hub's own partitions out of a system's checkpoint; what is left is the connector's.
    pub(crate) fn split(whole: &Checkpoint) -> (Self, Checkpoint) {
        let (mut own, mut rest) = (Self::default(), Checkpoint::empty());
        for (partition, position) in whole.iter() {
            let Some(position) = position else { continue };
            if let Some(stream) = partition.strip_prefix(READ) {
                let mut reading: Reading = serde_json::from_value(position.clone()).unwrap_or_default();
                reading.unsure = reading.refused;
                own.streams.insert(stream.to_owned(), reading);
            } else if !partition.starts_with(OWN) {
                rest.set(partition, position.clone());
            }
        }
        (own, rest)
    }

    /// The same of a source that tells changes alone, such as one that pushes: its streams count as read from the start.
    pub(crate) fn without_snapshot(self) -> Self {
        Self { without_snapshot: true, ..self }
    }

    /// Notes the ends of the topics of streams that are to be read, and forgets streams that are no longer wanted. The
    /// checkpoint that comes back must be durable before anything is read.
    pub(crate) async fn begin(
        &mut self,
        connectors: &Checkpoint,
        streams: &[(String, Arc<str>)],
        kafka: &KafkaConfig,
    ) -> Result<Checkpoint, RunError> {
        let mut moved = Checkpoint::empty();
        // Of a system that an older hub has read nothing is known; that all of it was read is the safe belief.
        let believed = self.without_snapshot || (self.streams.is_empty() && !connectors.is_empty());
        let is_settled = |known: &Reading| known.read || !self.without_snapshot;
        let new = streams.iter().filter(|(stream, _)| !self.streams.get(stream).is_some_and(is_settled));
        for (stream, topic) in new.cloned().collect::<Vec<_>>() {
            let reading = match believed {
                true => Reading { read: true, ..Reading::default() },
                false => Reading { before: ends(kafka.clone(), topic).await?, ..Reading::default() },
            };
            set(&mut moved, &stream, &reading);
            self.streams.insert(stream, reading);
        }
        let unwanted: Vec<_> = self.streams.keys().filter(|known| !streams.iter().any(|(stream, _)| stream == *known)).cloned().collect();
        for stream in unwanted {
            moved.remove(format!("{READ}{stream}"));
            self.streams.remove(&stream);
        }
        Ok(moved)
    }

    /// Streams that are being read and whose topics may hold rows that are gone.
    pub(crate) fn under_way(&self) -> Vec<String> {
        let under_way = self.streams.iter().filter(|(_, reading)| !reading.read && reading.before.iter().any(|end| *end > 0));
        under_way.map(|(stream, _)| stream.clone()).collect()
    }

    /// Takes note that rows of streams that are being read were refused, in the checkpoint of the delivery that held them.
    pub(crate) fn refuse(&mut self, streams: &[Arc<str>], checkpoint: &mut Checkpoint) {
        for stream in streams {
            if let Some(reading) = self.streams.get_mut(&**stream).filter(|reading| !reading.refused) {
                reading.refused = true;
                set(checkpoint, stream, reading);
            }
        }
    }

    /// Takes note that streams are read, in the checkpoint of the delivery that says so.
    pub(crate) fn complete(&mut self, completed: &[StreamName], checkpoint: &mut Checkpoint) {
        for stream in completed {
            if let Some(reading) = self.streams.get_mut(stream.as_str()).filter(|reading| !reading.read) {
                reading.read = true;
                if reading.before.iter().all(|end| *end == 0) {
                    reading.before.clear();
                }
                set(checkpoint, stream.as_str(), reading);
            }
        }
    }

    /// A stream that is read and whose topic may hold rows that are gone.
    pub(crate) fn due(&self) -> Option<Due> {
        let due = self.streams.iter().find(|(_, reading)| reading.read && !reading.before.is_empty());
        due.map(|(stream, reading)| Due { stream: stream.clone(), before: reading.before.clone(), unsure: reading.unsure })
    }

    /// What is gone from a stream is deleted; the checkpoint that comes back says so.
    pub(crate) fn done(&mut self, stream: &str) -> Checkpoint {
        let mut moved = Checkpoint::empty();
        if let Some(reading) = self.streams.get_mut(stream) {
            *reading = Reading { read: true, ..Reading::default() };
            set(&mut moved, stream, reading);
        }
        moved
    }
}

/// A stream whose topic is to be looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) stream: String,
    /// Ends of its topic's partitions before the snapshot.
    pub(crate) before: Vec<i64>,
    /// Rows were refused that nobody remembers.
    pub(crate) unsure: bool,
}

fn set(checkpoint: &mut Checkpoint, stream: &str, reading: &Reading) {
    checkpoint.set(format!("{READ}{stream}"), serde_json::to_value(reading).unwrap_or_default());
}

async fn ends(kafka: KafkaConfig, topic: Arc<str>) -> Result<Vec<i64>, RunError> {
    let asked = tokio::task::spawn_blocking(move || end_offsets(&kafka, &topic)).await;
    let ends = asked.map_err(|error| RunError::Defect { doing: "asking for the end of a topic".to_owned(), why: error.to_string() })?;
    let ends = ends.map_err(|error| RunError::Kafka { doing: "preparing to read a stream".to_owned(), cause: chain(&error) })?;
    Ok(ends.into_iter().map(|end| end.end).collect())
}

/// Keys of a topic that were there before and are gone, and a place in the source's log that is not before any of its records.
#[derive(Debug, Default)]
pub(crate) struct Vanished {
    pub(crate) keys: Vec<Bytes>,
    pub(crate) place: Place,
}

/// What looks through a topic.
pub(crate) struct Search {
    pub(crate) kafka: KafkaConfig,
    pub(crate) schemas: Schemas,
    pub(crate) topic: Arc<str>,
    /// Ends of its partitions before the snapshot.
    pub(crate) before: Vec<i64>,
    /// Keys that are refused and therefore not gone.
    pub(crate) spared: HashSet<u128>,
    /// The searched topic may be large: a hub that stops does not wait for it.
    pub(crate) stop: CancellationToken,
}

impl Search {
    /// Reads the topic back, partition by partition. `None` where the hub is to stop.
    ///
    /// # Errors
    /// [`RunError::Kafka`] where the topic cannot be read.
    pub(crate) async fn run(self) -> Result<Option<Vanished>, RunError> {
        let runtime = tokio::runtime::Handle::current();
        let searching = tokio::task::spawn_blocking(move || self.search(&runtime)).await;
        searching.map_err(|error| RunError::Defect { doing: "looking for rows that are gone".to_owned(), why: error.to_string() })?
    }

    fn search(&self, runtime: &tokio::runtime::Handle) -> Result<Option<Vanished>, RunError> {
        let mut vanished = Vanished::default();
        let mut layouts = Layouts { schemas: &self.schemas, runtime, known: BTreeMap::new(), failed: None };
        for (partition, before) in (0i32..).zip(&self.before).filter(|(_, before)| **before > 0) {
            let mut alive = HashSet::new();
            let whole = self.each(partition, |key, value, offset| {
                let facts = value.and_then(|value| layouts.facts(value));
                vanished.place = vanished.place.max(facts.map_or(Place::default(), |(place, _)| place));
                let has_state = value.is_some() && facts.is_none_or(|(_, has_state)| has_state);
                match offset < *before && has_state {
                    true => alive.insert(fingerprint(key)),
                    false => alive.remove(&fingerprint(key)),
                };
                layouts.failed.is_none()
            })?;
            if let Some(error) = layouts.failed.take() {
                return Err(RunError::Registry { subject: self.topic.to_string(), why: error.to_string() });
            }
            alive.retain(|key| !self.spared.contains(key));
            // Only hashes are kept while the topic is read; the few keys that are gone are fetched afterwards.
            let all = whole
                && self.each(partition, |key, _, offset| {
                    if offset < *before && alive.remove(&fingerprint(key)) {
                        vanished.keys.push(Bytes::copy_from_slice(key));
                    }
                    !alive.is_empty() && offset < *before
                })?;
            if !all {
                return Ok(None);
            }
        }
        Ok(Some(vanished))
    }

    /// Visits the keyed records of a partition until its end or until `visit` has seen enough. False where the hub is to stop.
    fn each(&self, partition: i32, mut visit: impl FnMut(&[u8], Option<&[u8]>, i64) -> bool) -> Result<bool, RunError> {
        let kafka = |error: hub_kafka::Error| RunError::Kafka { doing: format!("reading topic {} back", self.topic), cause: chain(&error) };
        let plan = ReadPlan {
            topic: self.topic.to_string(),
            partition: Some(partition),
            start: Start::Beginning,
            until: Until::Settled(SETTLED_WITHIN),
            key: None,
        };
        let mut reader = Reader::open(&self.kafka, plan).map_err(kafka)?;
        let read = reader.each(|record| match record.key() {
            _ if self.stop.is_cancelled() => Err(Halt::Stopped),
            Some(key) if !visit(key, record.value(), record.offset()) => Err(Halt::Enough),
            _ => Ok(()),
        });
        match read {
            Ok(()) | Err(Halt::Enough) => Ok(true),
            Err(Halt::Stopped) => Ok(false),
            Err(Halt::Failed(error)) => Err(kafka(error)),
        }
    }
}

/// Why a topic is not read to its end.
enum Halt {
    /// The hub stops.
    Stopped,
    /// Nothing that follows matters.
    Enough,
    /// Kafka's reason.
    Failed(hub_kafka::Error),
}

impl From<hub_kafka::Error> for Halt {
    fn from(error: hub_kafka::Error) -> Self {
        Self::Failed(error)
    }
}

/// Layouts of the schemas that the records of a topic were written with.
struct Layouts<'a> {
    schemas: &'a Schemas,
    runtime: &'a tokio::runtime::Handle,
    known: BTreeMap<u32, Option<Layout>>,
    /// Why the registry could not be asked: what it would have said must not be guessed.
    failed: Option<ClientError>,
}

impl Layouts<'_> {
    /// Place and whether there is a state after; `None` for a record that cannot be read, which then counts as a state.
    fn facts(&mut self, value: &[u8]) -> Option<(Place, bool)> {
        let (id, body) = framed(value)?;
        if !self.known.contains_key(&id) {
            let layout = match self.runtime.block_on(self.schemas.by_id(id)) {
                Ok(text) => Layout::parse(&text),
                // The record was not written by a hub of this registry.
                Err(ClientError::Missing { .. }) => None,
                Err(error) => {
                    self.failed = Some(error);
                    return None;
                }
            };
            self.known.insert(id, layout);
        }
        let facts = self.known.get(&id)?.as_ref()?.facts(body)?;
        Some((facts.place, facts.after.is_some()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    fn whole() -> Checkpoint {
        let mut whole = Checkpoint::empty();
        whole.set("wal", json!(7));
        whole.set("hub/read/a", json!({"before": [3, 0]}));
        whole.set("hub/read/b", json!({"read": true}));
        whole
    }

    #[test]
    fn a_connector_never_sees_what_is_the_hubs_own() {
        let (own, rest) = Readings::split(&whole());
        assert_eq!(rest.iter().map(|(partition, _)| partition).collect::<Vec<_>>(), ["wal"]);
        assert_eq!(own.streams.len(), 2);
    }

    #[tokio::test]
    async fn a_source_without_present_rows_is_never_read_anew() {
        let (own, rest) = Readings::split(&whole());
        let mut own = own.without_snapshot();
        let streams = ["a", "b", "c"].map(|stream| (stream.to_owned(), Arc::from("nowhere")));
        // No broker is asked where its topics end.
        let moved = own.begin(&rest, &streams, &KafkaConfig::at("127.0.0.1:1")).await.unwrap();
        assert_eq!(moved.get("hub/read/a"), Some(&json!({"read": true})));
        assert_eq!(moved.get("hub/read/c"), Some(&json!({"read": true})));
        assert!(own.under_way().is_empty() && own.due().is_none());
    }

    #[test]
    fn a_stream_is_due_when_it_is_read_and_its_topic_held_something_before() {
        let (mut own, _) = Readings::split(&whole());
        assert_eq!(own.due(), None);
        let mut checkpoint = Checkpoint::empty();
        own.complete(&[StreamName::new("a").unwrap(), StreamName::new("b").unwrap()], &mut checkpoint);
        assert_eq!(checkpoint.get("hub/read/a"), Some(&json!({"before": [3, 0], "read": true})));
        assert_eq!(checkpoint.get("hub/read/b"), None, "it was read before");
        assert_eq!(own.due(), Some(Due { stream: "a".to_owned(), before: vec![3, 0], unsure: false }));
        assert_eq!(own.done("a").get("hub/read/a"), Some(&json!({"read": true})));
        assert_eq!(own.due(), None);
    }

    #[test]
    fn a_later_run_knows_that_rows_were_refused_and_not_which() {
        let (mut own, _) = Readings::split(&whole());
        let mut checkpoint = Checkpoint::empty();
        own.refuse(&["a".into()], &mut checkpoint);
        own.complete(&[StreamName::new("a").unwrap()], &mut checkpoint);
        assert!(own.due().is_some_and(|due| !due.unsure), "this run knows them itself");
        let (own, _) = Readings::split(&checkpoint);
        assert!(own.due().is_some_and(|due| due.unsure));
    }

    #[test]
    fn an_empty_topic_has_nothing_that_could_be_gone() {
        let mut own = Readings::default();
        own.streams.insert("a".to_owned(), Reading { before: vec![0, 0], ..Reading::default() });
        let mut checkpoint = Checkpoint::empty();
        own.complete(&[StreamName::new("a").unwrap()], &mut checkpoint);
        assert_eq!((own.due(), checkpoint.get("hub/read/a")), (None, Some(&json!({"read": true}))));
    }
}
