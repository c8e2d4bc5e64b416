//! Ends of topics: how far there is something committed to read.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;

use crate::client::{ANSWER_WITHIN, HubContext, Probe, explained, partition_count};
use crate::{Error, KafkaConfig};

/// First and next offset of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOffsets {
    /// The partition.
    pub partition: i32,
    /// Offset of the first record that is kept.
    pub low: i64,
    /// Offset after the last record that a `read_committed` reader can see.
    pub committed: i64,
    /// Offset after the last record, open transactions included.
    pub end: i64,
}

/// The ends of every partition of a topic. Blocks for some milliseconds, at most 15 s a partition.
///
/// # Errors
/// [`Error::NoTopic`] or what keeps Kafka from answering.
pub fn end_offsets(config: &KafkaConfig, topic: &str) -> Result<Vec<EndOffsets>, Error> {
    let doing = format!("asking for the end of topic {topic}");
    let committed = probe(config, Isolation::Committed, &doing)?;
    let uncommitted = probe(config, Isolation::Uncommitted, &doing)?;
    let context = committed.context().clone();
    let fail = |error| Error::new(config, &context, doing.clone(), error);
    let count = explained(&committed, partition_count(committed.client(), topic))
        .map_err(fail)?
        .ok_or_else(|| Error::NoTopic { doing: doing.clone(), topic: topic.to_owned() })?;
    let mut ends = Vec::new();
    for partition in 0..count {
        // Committed first: a transaction that ends in between cannot make it larger than the end.
        let (low, stable) = ask(&committed, topic, partition).map_err(fail)?;
        let (_, end) = ask(&uncommitted, topic, partition).map_err(fail)?;
        ends.push(EndOffsets { partition, low, committed: stable, end });
    }
    Ok(ends)
}

/// The partitions in which a transaction is open now.
pub(crate) fn held_back(config: &KafkaConfig, topic: &str) -> Result<Vec<i32>, Error> {
    let ends = end_offsets(config, topic)?;
    Ok(ends.into_iter().filter(|end| end.committed < end.end).map(|end| end.partition).collect())
}

/// Waits until everything that was written to a partition by now is either committed or aborted.
///
/// A reader that stops at the end of what is committed would otherwise miss records that are committed already, but
/// stand behind another producer's open transaction.
pub(crate) fn wait_until_settled(
    config: &KafkaConfig,
    topic: &str,
    partitions: &[i32],
    within: Duration,
    doing: &str,
) -> Result<(), Error> {
    let committed = probe(config, Isolation::Committed, doing)?;
    let uncommitted = probe(config, Isolation::Uncommitted, doing)?;
    let context = committed.context().clone();
    let fail = |error| Error::new(config, &context, doing, error);
    let until = Instant::now() + within;
    for partition in partitions {
        let (_, target) = ask(&uncommitted, topic, *partition).map_err(fail)?;
        let mut pause = Duration::from_millis(2);
        while ask(&committed, topic, *partition).map_err(fail)?.1 < target {
            if Instant::now() > until {
                return Err(Error::HeldBack { doing: doing.to_owned(), topic: topic.to_owned(), partition: *partition });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
    Ok(())
}

fn ask(probe: &Probe, topic: &str, partition: i32) -> KafkaResult<(i64, i64)> {
    explained(probe, probe.fetch_watermarks(topic, partition, ANSWER_WITHIN))
}

#[derive(Clone, Copy)]
enum Isolation {
    Committed,
    Uncommitted,
}

/// A consumer that is only asked questions.
fn probe(config: &KafkaConfig, isolation: Isolation, doing: &str) -> Result<Probe, Error> {
    let context = HubContext::default();
    let mut client = config.client();
    client.set(
        "isolation.level",
        match isolation {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        },
    );
    client.create_with_context(context.clone()).map_err(|error| Error::new(config, &context, doing, error))
}
