//! The checkpoints topic: one compacted record per partition of a system's checkpoint, written by lanes, read on start.
//!
//! A record's key is `<system>|<partition>` (a system name has no `|`), its value the position as JSON, a tombstone
//! for a partition to forget. All records of a system are in one Kafka partition, so that their order is kept and
//! reading one system back reads one partition only. The number of Kafka partitions must never change.
//!
//! A key `|<lane>` is a lane's mark (see [`mark`]); readers pass over it.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_model::{Checkpoint, SystemName};
use rdkafka::consumer::Consumer as _;

use crate::client::{HubContext, Probe, explained, partition_count};
use crate::reader::BorrowedRecord;
use crate::{Cleanup, Error, KafkaConfig, ReadPlan, Reader, Start, TopicSpec, Until};

/// Partitions of a checkpoints topic that the hub creates.
pub const PARTITIONS: u32 = 8;

/// How the checkpoints topic is to be created. Its segments are small, so that reading it back stays quick: only
/// closed segments are compacted.
#[must_use]
pub fn topic(name: impl Into<String>, replication: u16) -> TopicSpec {
    let settings = [
        ("segment.bytes", "16777216"),
        ("segment.ms", "3600000"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("max.compaction.lag.ms", "7200000"),
    ];
    TopicSpec {
        name: name.into(),
        partitions: PARTITIONS,
        replication,
        cleanup: Cleanup::Compact,
        settings: settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}

/// The last committed checkpoint of one system; empty where it was never published.
///
/// Only what no older lane can add to any more is sure: call it after the system's lane has fenced, as
/// [`crate::Lane::open`] does. Transactions of other lanes that are open in the same partition are waited for.
///
/// # Errors
/// [`Error`] when the topic does not exist, cannot be read, or holds something else.
pub async fn read(config: &KafkaConfig, topic: &str, system: &SystemName) -> Result<Checkpoint, Error> {
    let (config, topic, system) = (config.clone(), topic.to_owned(), system.clone());
    let task = tokio::task::spawn_blocking(move || read_blocking(&config, &topic, &system));
    task.await.unwrap_or_else(|_| Err(Error::interrupted("reading a checkpoint")))
}

/// The last committed checkpoints of all systems.
///
/// # Errors
/// As [`read`].
pub async fn read_all(config: &KafkaConfig, topic: &str) -> Result<BTreeMap<SystemName, Checkpoint>, Error> {
    let (config, topic) = (config.clone(), topic.to_owned());
    let task = tokio::task::spawn_blocking(move || {
        let mut all: BTreeMap<SystemName, Checkpoint> = BTreeMap::new();
        each(&config, &topic, None, "reading all checkpoints", |system, partition, position| {
            apply(all.entry(system).or_default(), partition, position);
        })?;
        Ok(all)
    });
    task.await.unwrap_or_else(|_| Err(Error::interrupted("reading all checkpoints")))
}

fn read_blocking(config: &KafkaConfig, topic: &str, wanted: &SystemName) -> Result<Checkpoint, Error> {
    let doing = format!("reading the checkpoint of {wanted}");
    let partitions = count_partitions(config, topic, &doing)?;
    let mut checkpoint = Checkpoint::empty();
    each(config, topic, Some(partition_of(wanted, partitions)), &doing, |system, partition, position| {
        if system == *wanted {
            apply(&mut checkpoint, partition, position);
        }
    })?;
    Ok(checkpoint)
}

/// What is stored is the whole, not a move: a forgotten partition is not there.
fn apply(checkpoint: &mut Checkpoint, partition: &str, position: Option<serde_json::Value>) {
    match position {
        Some(position) => checkpoint.set(partition, position),
        None => {
            let mut kept = Checkpoint::empty();
            for (name, position) in checkpoint.iter() {
                if let Some(position) = position
                    && name != partition
                {
                    kept.set(name, position.clone());
                }
            }
            *checkpoint = kept;
        }
    }
}

/// How long another lane's open transaction may hold back the end: the longest transaction timeout and some more.
fn patience(config: &KafkaConfig) -> Duration {
    Duration::from_millis(u64::from(config.transaction_timeout_ms)) + Duration::from_secs(30)
}

fn each(
    config: &KafkaConfig,
    topic: &str,
    partition: Option<i32>,
    doing: &str,
    mut visit: impl FnMut(SystemName, &str, Option<serde_json::Value>),
) -> Result<(), Error> {
    let plan = ReadPlan { topic: topic.to_owned(), partition, start: Start::Beginning, until: Until::Settled(patience(config)), key: None };
    Reader::open(config, plan)?.each(|record| {
        if record.key().is_some_and(|key| key.starts_with(b"|")) {
            return Ok(());
        }
        let bad = |what: &str| Error::BadRecord {
            doing: doing.to_owned(),
            topic: topic.to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            what: what.to_owned(),
        };
        let (system, partition) = parse_key(record).ok_or_else(|| bad("its key is not <system>|<partition>"))?;
        let position = match record.value() {
            None => None,
            Some(value) => Some(serde_json::from_slice(value).map_err(|_| bad("its value is not JSON"))?),
        };
        visit(system, partition, position);
        Ok(())
    })
}

fn parse_key<'a>(record: &'a BorrowedRecord<'_>) -> Option<(SystemName, &'a str)> {
    let (system, partition) = std::str::from_utf8(record.key()?).ok()?.split_once('|')?;
    Some((SystemName::new(system).ok()?, partition))
}

/// The key of a record.
pub(crate) fn key(system: &SystemName, partition: &str) -> String {
    format!("{system}|{partition}")
}

/// The key of a lane's mark: a tombstone that means nothing, and ends a transaction of its producer that was left open.
pub(crate) fn mark(lane: &str) -> String {
    format!("|{lane}")
}

/// The Kafka partition that holds a system's records: FNV-1a of its name, stable for ever.
pub(crate) fn partition_of(system: &SystemName, partitions: i32) -> i32 {
    let hash = system.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::try_from(hash % u32::try_from(partitions.max(1)).unwrap_or(1)).unwrap_or(0)
}

/// How many partitions the topic has.
pub(crate) fn count_partitions(config: &KafkaConfig, topic: &str, doing: &str) -> Result<i32, Error> {
    let context = HubContext::default();
    let fail = |error| Error::new(config, &context, doing, error);
    let consumer: Probe = config.client().create_with_context(context.clone()).map_err(fail)?;
    explained(&consumer, partition_count(consumer.client(), topic))
        .map_err(fail)?
        .ok_or_else(|| Error::NoTopic { doing: doing.to_owned(), topic: topic.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn the_partition_of_a_system_never_changes() {
        let place = |name: &str| partition_of(&SystemName::new(name).unwrap(), 8);
        // Written down once: systems that are running find their checkpoints there.
        assert_eq!([place("mot-cua"), place("csdl-dan-cu"), place("dat-dai")], [1, 4, 1]);
    }

    #[test]
    fn a_tombstone_forgets_a_partition() {
        let mut checkpoint = Checkpoint::empty();
        apply(&mut checkpoint, "wal", Some(serde_json::json!(1)));
        apply(&mut checkpoint, "snapshot/a", Some(serde_json::json!(2)));
        apply(&mut checkpoint, "snapshot/a", None);
        assert_eq!(checkpoint.iter().collect::<Vec<_>>(), [("wal", Some(&serde_json::json!(1)))]);
    }
}
