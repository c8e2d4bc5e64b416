//! The latest state of each key of a topic, as hashes, and what is there twice or out of order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::types::Value;
use hub_kafka::{BorrowedRecord, KafkaConfig, ReadPlan, Start, Topics, Until};
use hub_model::fingerprint;
use indicatif::ProgressBar;

use super::each_record;
use crate::avro::Decoder;
use crate::failure::Failure;
use hub_transform::envelope::{FRAME, Facts, Layout, Place, framed};

/// How long open transactions are waited for.
const SETTLE: Duration = Duration::from_secs(30);

/// The latest of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latest {
    /// Where the source's log has it.
    pub(crate) place: Place,
    /// What happened.
    pub(crate) op: u8,
    /// Hash of its state as of the comparison's bound; absent where it is deleted.
    pub(crate) state: Option<u128>,
    /// It changed after the bound: it is not judged.
    pub(crate) moved: bool,
}

/// How a record stands to the one before it with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Later, or the first.
    Later,
    /// The same once more.
    Same,
    /// Older.
    Older,
}

impl Latest {
    /// Takes the next record of the key. What comes after `bound` (0: nothing does) is not judged.
    fn take(&mut self, facts: &Facts<'_>, bound: u64) -> Order {
        let order = match facts.place.cmp(&self.place) {
            _ if self.op == 0 => Order::Later,
            std::cmp::Ordering::Less => Order::Older,
            std::cmp::Ordering::Equal if self.op == facts.op => Order::Same,
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Order::Later,
        };
        (self.place, self.op) = (facts.place, facts.op);
        self.moved |= bound > 0 && facts.place.commit > bound;
        if !self.moved {
            self.state = facts.after.map(fingerprint);
        }
        order
    }
}

/// What a topic holds.
pub(crate) struct Fold<'a> {
    kafka: &'a KafkaConfig,
    topic: &'a str,
    decoder: &'a mut Decoder,
    local: &'a Schema,
    layout: &'a Layout,
    writers: HashMap<u32, Writer>,
    next: BTreeMap<i32, i64>,
    bound: u64,
    /// The latest of each key.
    pub(crate) keys: HashMap<u128, Latest>,
    /// Records, tombstones not counted.
    pub(crate) events: u64,
    /// Records that repeat the place of the one before them with the same key.
    pub(crate) duplicates: u64,
    /// Records that are older than the one before them with the same key.
    pub(crate) disordered: u64,
    /// Keys that were asked for, as they are encoded.
    pub(crate) shown: Vec<(u128, Vec<u8>)>,
    show: HashSet<u128>,
    only: Option<HashSet<u128>>,
    overtaken: Vec<Vec<u8>>,
}

/// How the records of one schema are read.
enum Writer {
    /// As they would be written today.
    Same,
    /// By an older or newer schema: decoded, and written as today.
    Other(Box<Schema>),
}

impl<'a> Fold<'a> {
    /// Nothing yet. `local` is today's envelope, `layout` its layout, `bound` the source's.
    pub(crate) fn new(
        kafka: &'a KafkaConfig,
        topic: &'a str,
        decoder: &'a mut Decoder,
        local: &'a Schema,
        layout: &'a Layout,
        bound: u64,
    ) -> Self {
        Self {
            kafka,
            topic,
            decoder,
            local,
            layout,
            writers: HashMap::new(),
            next: BTreeMap::new(),
            bound,
            keys: HashMap::new(),
            events: 0,
            duplicates: 0,
            disordered: 0,
            shown: Vec::new(),
            show: HashSet::new(),
            only: None,
            overtaken: Vec::new(),
        }
    }

    /// Keeps these keys alone.
    pub(crate) fn only(mut self, keys: HashSet<u128>) -> Self {
        self.only = Some(keys);
        self
    }

    /// Keeps the keys with these hashes when they are read.
    pub(crate) fn showing(mut self, show: HashSet<u128>) -> Self {
        self.show = show;
        self
    }

    /// Reads what is committed and was not read yet; tells how many records that was.
    pub(crate) fn catch_up(&mut self, bar: &ProgressBar) -> Result<u64, Failure> {
        let doing = |error| Failure::unavailable(format!("asking for the partitions of {}", self.topic), error);
        let count = Topics::connect(self.kafka).and_then(|topics| topics.partitions(self.topic)).map_err(doing)?;
        let mut records = 0;
        for partition in 0..count.and_then(|count| i32::try_from(count).ok()).unwrap_or_default() {
            let from = self.next.get(&partition).copied();
            let plan = ReadPlan {
                topic: self.topic.to_owned(),
                partition: Some(partition),
                start: from.map_or(Start::Beginning, Start::Offset),
                until: if from.is_none() { Until::Settled(SETTLE) } else { Until::Committed },
                key: None,
            };
            let kafka = self.kafka;
            self.next.entry(partition).or_default();
            each_record(kafka, plan, |record| {
                records += 1;
                bar.inc(1);
                self.next.insert(partition, record.offset() + 1);
                self.take(record)
            })?;
        }
        Ok(records)
    }

    /// Keys, as they are encoded, of records that are older than the one before them; told once, and only of chosen keys.
    pub(crate) fn overtaken(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.overtaken)
    }

    fn take(&mut self, record: &BorrowedRecord<'_>) -> Result<(), Failure> {
        // A record without a key is a truncate: it says nothing of one key.
        let Some(key) = record.key().and_then(|key| key.get(FRAME..)).map(fingerprint) else { return Ok(()) };
        if self.only.as_ref().is_some_and(|only| !only.contains(&key)) {
            return Ok(());
        }
        if self.show.contains(&key) && !self.shown.iter().any(|(shown, _)| *shown == key) {
            self.shown.push((key, record.key().unwrap_or_default().to_vec()));
        }
        let Some(value) = record.value() else {
            let latest = self.keys.entry(key).or_default();
            if !latest.moved {
                latest.state = None;
            }
            return Ok(());
        };
        self.events += 1;
        let (topic, local, is_chosen) = (self.topic, self.local, self.only.is_some());
        let unreadable = || {
            let (offset, partition) = (record.offset(), record.partition());
            Failure::Unavailable(format!("record {offset} of partition {partition} of {topic} is no envelope of its schema"))
        };
        let (id, body) = framed(value).ok_or_else(unreadable)?;
        let rewritten;
        let body = match self.writer(id)? {
            Writer::Same => body,
            Writer::Other(writer) => {
                rewritten = match (rewrite(writer, local, body), is_chosen) {
                    // Who asks for chosen keys wants to know where they are, not in which state.
                    (Err(_), true) => rewrite_stateless(writer, local, body)?,
                    (rewritten, _) => rewritten?,
                };
                rewritten.as_slice()
            }
        };
        let facts = self.layout.facts(body).ok_or_else(unreadable)?;
        if self.apply(key, &facts) == Order::Older && self.only.is_some() {
            self.overtaken.push(record.key().unwrap_or_default().to_vec());
        }
        Ok(())
    }

    fn apply(&mut self, key: u128, facts: &Facts<'_>) -> Order {
        let latest = self.keys.entry(key).or_default();
        let order = latest.take(facts, self.bound);
        self.duplicates += u64::from(order == Order::Same);
        self.disordered += u64::from(order == Order::Older);
        order
    }

    fn writer(&mut self, id: u32) -> Result<&Writer, Failure> {
        if !self.writers.contains_key(&id) {
            let handle = tokio::runtime::Handle::current();
            let schema = handle.block_on(self.decoder.schema(id))?.clone();
            let same = schema.canonical_form() == self.local.canonical_form();
            self.writers.insert(id, if same { Writer::Same } else { Writer::Other(Box::new(schema)) });
        }
        self.writers.get(&id).ok_or_else(|| Failure::Unavailable(format!("schema {id} was lost; please report it as a defect of the hub")))
    }
}

fn rewrite(writer: &Schema, local: &Schema, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut rest = body;
    let value = apache_avro::from_avro_datum(writer, &mut rest, Some(local));
    let bytes = value.and_then(|value| apache_avro::to_avro_datum(local, value));
    bytes.map_err(|error| Failure::unavailable("reading a record of another version of its schema as today's", error))
}

/// The same of a record whose states do not fit today's schema: without them.
fn rewrite_stateless(writer: &Schema, local: &Schema, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut rest = body;
    let value = apache_avro::from_avro_datum(writer, &mut rest, None).map(|value| match value {
        Value::Record(mut fields) => {
            for (_, state) in fields.iter_mut().filter(|(name, _)| name == "before" || name == "after") {
                *state = Value::Union(0, Box::new(Value::Null));
            }
            Value::Record(fields)
        }
        other => other,
    });
    let bytes = value.and_then(|value| value.resolve(local)).and_then(|value| apache_avro::to_avro_datum(local, value));
    bytes.map_err(|error| Failure::unavailable("reading the place of a record of another version of its schema", error))
}

/// The hash of a raw row as the rejects topic keeps it, whatever the order of its columns; those that are null, such as new
/// ones, count for nothing.
pub(crate) fn hash_raw(raw: &str) -> u128 {
    match serde_json::from_str::<BTreeMap<String, serde_json::Value>>(raw) {
        Ok(mut columns) => {
            columns.retain(|_, value| !value.is_null());
            fingerprint(serde_json::to_string(&columns).unwrap_or_default().as_bytes())
        }
        Err(_) => fingerprint(raw.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(op: u8, commit: u64, after: Option<&[u8]>) -> Facts<'_> {
        Facts { op, place: Place { commit, position: commit }, after }
    }

    #[test]
    fn the_latest_record_of_a_key_is_its_state_and_repetitions_are_seen() {
        let mut latest = Latest::default();
        assert_eq!(latest.take(&facts(b'c', 10, Some(b"a")), 0), Order::Later);
        assert_eq!(latest.take(&facts(b'c', 10, Some(b"a")), 0), Order::Same);
        assert_eq!(latest.take(&facts(b'u', 20, Some(b"b")), 0), Order::Later);
        assert_eq!(latest.state, Some(fingerprint(b"b")));
        assert_eq!(latest.take(&facts(b'u', 15, Some(b"c")), 0), Order::Older);
        assert_eq!(latest.take(&facts(b'd', 30, None), 0), Order::Later);
        assert_eq!(latest.state, None);
    }

    #[test]
    fn what_is_published_after_the_bound_leaves_the_state_as_it_was_then() {
        let mut latest = Latest::default();
        latest.take(&facts(b'c', 10, Some(b"a")), 15);
        latest.take(&facts(b'u', 20, Some(b"b")), 15);
        assert!(latest.moved);
        assert_eq!(latest.state, Some(fingerprint(b"a")));
    }

    #[test]
    fn a_raw_row_is_the_same_with_a_new_column_that_is_null() {
        assert_eq!(hash_raw(r#"{"a":1,"b":"x"}"#), hash_raw(r#"{"b":"x","a":1,"new":null}"#));
        assert_ne!(hash_raw(r#"{"a":1}"#), hash_raw(r#"{"a":2}"#));
        assert_eq!(hash_raw("no JSON"), fingerprint(b"no JSON"));
    }
}
