//! The other end: what a `read_committed` consumer of the topic sees.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};

use crate::Outcome;

/// The private Kafka.
pub(crate) const BROKERS: &str = "127.0.0.1:19092";

/// A consumer of all partitions of a topic from `offset`, which waits for what comes.
pub(crate) fn consumer(topic: &str, offset: Offset) -> Outcome<BaseConsumer> {
    consumer_that(topic, offset, "false")
}

/// The same; `tells_ends` says whether it tells the end of each partition.
fn consumer_that(topic: &str, offset: Offset, tells_ends: &str) -> Outcome<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", BROKERS)
        .set("group.id", "hub-bench")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", tells_ends)
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "16384")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let partitions = metadata.topics().first().map(|topic| topic.partitions().len()).unwrap_or_default();
    if partitions == 0 {
        return Err(format!("there is no topic {topic}").into());
    }
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions)? {
        list.add_partition_offset(topic, partition, offset)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Calls `take` with every committed record of a topic, from its beginning to its end.
pub(crate) fn read_all(topic: &str, mut take: impl FnMut(&BorrowedMessage<'_>)) -> Outcome<u64> {
    let consumer = consumer_that(topic, Offset::Beginning, "true")?;
    let mut open = consumer.assignment()?.count();
    let (started, mut count) = (Instant::now(), 0);
    while open > 0 {
        match consumer.poll(Duration::from_secs(5)) {
            Some(Ok(message)) => {
                count += 1;
                take(&message);
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            None if started.elapsed() > Duration::from_secs(300) => return Err("the topic cannot be read to its end".into()),
            None => {}
        }
    }
    Ok(count)
}

/// The number that an Avro key record of one long field holds, after the 5 bytes of Confluent framing.
pub(crate) fn key_number(key: &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (at, byte) in key.get(5..)?.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64) ^ -((value & 1) as i64));
        }
    }
    None
}
