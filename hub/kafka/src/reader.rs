//! Reads what is committed in one topic: from its beginning, its end or an offset, to its end or for ever.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{HubContext, explained, partition_count};
use crate::error::{Class, class_of};
use crate::offsets::wait_until_settled;
use crate::{Error, KafkaConfig};

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record that is kept.
    Beginning,
    /// After the last one.
    End,
    /// This offset, in every partition that is read.
    Offset(i64),
    /// So many offsets before the end of each partition. Transaction markers count among them.
    Last(u32),
}

/// Where a reader stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The last record that is committed when the reader reaches it.
    Committed,
    /// The same, after waiting (at most so long) for every transaction that was open when the reader was opened: nothing
    /// committed before then is missed.
    Settled(Duration),
    /// Never.
    Forever,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    /// The topic.
    pub topic: String,
    /// One partition, or all.
    pub partition: Option<i32>,
    /// Where to begin.
    pub start: Start,
    /// Where to stop.
    pub until: Until,
    /// Only records with exactly this key.
    pub key: Option<Vec<u8>>,
}

impl ReadPlan {
    /// The whole topic as it is now.
    #[must_use]
    pub fn whole(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), partition: None, start: Start::Beginning, until: Until::Committed, key: None }
    }
}

/// A record in the reader's own buffer.
pub struct BorrowedRecord<'a> {
    message: BorrowedMessage<'a>,
}

/// A record of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp: Option<i64>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(String, Bytes)>,
}

/// What a reader has next.
#[derive(Debug)]
pub enum Next<'a> {
    /// A record.
    Record(BorrowedRecord<'a>),
    /// Nothing within the time given.
    Quiet,
    /// The end that was planned; there will be nothing more.
    End,
}

/// A `read_committed` reader of one topic. It blocks: in async code, use it from a blocking task.
pub struct Reader {
    config: KafkaConfig,
    context: HubContext,
    consumer: BaseConsumer<HubContext>,
    plan: ReadPlan,
    /// Partitions whose planned end is not reached yet.
    open: BTreeSet<i32>,
    /// How long it has waited since Kafka last showed that it is there.
    silent: Duration,
}

/// How long brokers may take to answer a look.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// How long brokers may be silent before a reader gives up on them.
const SILENCE: Duration = Duration::from_secs(15);

impl Reader {
    /// Prepares to read.
    ///
    /// # Errors
    /// [`Error::NoTopic`], [`Error::HeldBack`] for [`Until::Settled`], or what keeps Kafka from answering.
    pub fn open(config: &KafkaConfig, plan: ReadPlan) -> Result<Self, Error> {
        let context = HubContext::default();
        let doing = format!("opening topic {}", plan.topic);
        let fail = |error| Error::new(config, &context, doing.clone(), error);
        let consumer: BaseConsumer<HubContext> = reader_client(config, plan.until).create_with_context(context.clone()).map_err(fail)?;
        let count = explained(&consumer, partition_count(consumer.client(), &plan.topic))
            .map_err(fail)?
            .ok_or_else(|| Error::NoTopic { doing: doing.clone(), topic: plan.topic.clone() })?;
        let partitions: Vec<i32> = match plan.partition {
            Some(partition) => vec![partition],
            None => (0..count).collect(),
        };
        if let Until::Settled(within) = plan.until {
            wait_until_settled(config, &plan.topic, &partitions, within, &doing)?;
        }
        let mut assignment = TopicPartitionList::new();
        for partition in &partitions {
            let offset = match plan.start {
                Start::Beginning => Offset::Beginning,
                Start::End => Offset::End,
                Start::Offset(offset) => Offset::Offset(offset),
                Start::Last(count) => Offset::OffsetTail(i64::from(count)),
            };
            assignment.add_partition_offset(&plan.topic, *partition, offset).map_err(fail)?;
        }
        consumer.assign(&assignment).map_err(fail)?;
        Ok(Self { config: config.clone(), context, consumer, plan, open: partitions.into_iter().collect(), silent: Duration::ZERO })
    }

    /// The next record, waiting at most `wait` for it.
    ///
    /// # Errors
    /// What keeps Kafka from answering. A reader that has an end gives up after 15 s of silence, however often it is asked. One
    /// that runs for ever goes on by itself where that is possible, and may be asked again after an [`Error::Unreachable`].
    pub fn next(&mut self, wait: Duration) -> Result<Next<'_>, Error> {
        let until = Instant::now() + wait;
        loop {
            if self.plan.until != Until::Forever && self.open.is_empty() {
                return Ok(Next::End);
            }
            let asked = Instant::now();
            let polled = self.consumer.poll(until.saturating_duration_since(asked));
            self.silent = if polled.is_none() { self.silent + asked.elapsed() } else { Duration::ZERO };
            match polled {
                None if self.plan.until != Until::Forever && self.silent >= SILENCE => {
                    return Err(self.error(RdError::MessageConsumption(Code::OperationTimedOut)));
                }
                None => return Ok(Next::Quiet),
                Some(Ok(message)) => {
                    if self.plan.key.as_deref().is_none_or(|key| message.key() == Some(key)) {
                        return Ok(Next::Record(BorrowedRecord { message }));
                    }
                }
                Some(Err(RdError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) if self.passes(&error) => {}
                Some(Err(error)) => return Err(self.error(error)),
            }
        }
    }

    /// Asks whether Kafka answers. A reader that runs for ever does not tell by itself: it waits until Kafka is back.
    ///
    /// # Errors
    /// What keeps Kafka from answering within 5 s.
    pub fn look(&self) -> Result<(), Error> {
        let answer = self.consumer.client().fetch_metadata(Some(&self.plan.topic), LOOK_WITHIN);
        explained(&self.consumer, answer).map(drop).map_err(|error| self.error(error))
    }

    /// Visits every record up to the planned end.
    ///
    /// # Errors
    /// Kafka's, silence of the brokers for 15 s, or those of `visit`.
    pub fn each<E: From<Error>>(&mut self, mut visit: impl FnMut(&BorrowedRecord<'_>) -> Result<(), E>) -> Result<(), E> {
        loop {
            match self.next(SILENCE)? {
                Next::Record(record) => visit(&record)?,
                Next::End => return Ok(()),
                Next::Quiet => {}
            }
        }
    }

    /// Every record up to the planned end.
    ///
    /// # Errors
    /// As [`Reader::each`].
    pub fn collect(mut self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        self.each(|record| -> Result<(), Error> {
            records.push(record.to_owned());
            Ok(())
        })?;
        Ok(records)
    }

    /// Whether librdkafka mends it by itself while the reader goes on.
    fn passes(&self, error: &RdError) -> bool {
        self.plan.until == Until::Forever && class_of(error) == Class::Unreachable
    }

    fn error(&self, error: RdError) -> Error {
        Error::new(&self.config, &self.context, format!("reading topic {}", self.plan.topic), error)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl BorrowedRecord<'_> {
    /// Its partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.message.partition()
    }

    /// Its offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.message.offset()
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        self.message.timestamp().to_millis()
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.message.key()
    }

    /// Its value; `None` for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.message.payload()
    }

    /// Its headers, in order; a header without value is empty.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.message.headers();
        let count = headers.map_or(0, Headers::count);
        (0..count).filter_map(move |index| headers?.try_get(index).map(|header| (header.key, header.value.unwrap_or_default())))
    }

    /// A record of one's own.
    #[must_use]
    pub fn to_owned(&self) -> Record {
        Record {
            topic: self.message.topic().to_owned(),
            partition: self.partition(),
            offset: self.offset(),
            timestamp: self.timestamp(),
            key: self.key().map(Bytes::copy_from_slice),
            value: self.value().map(Bytes::copy_from_slice),
            headers: self.headers().map(|(name, value)| (name.to_owned(), Bytes::copy_from_slice(value))).collect(),
        }
    }
}

impl std::fmt::Debug for BorrowedRecord<'_> {
    /// Place only: keys and values are personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {}@{}", self.offset(), self.partition())
    }
}

fn reader_client(config: &KafkaConfig, until: Until) -> rdkafka::ClientConfig {
    // The end shows in an empty answer; a broker keeps that back for as long as it is allowed to wait.
    let wait = if until == Until::Forever { "200" } else { "10" };
    let mut client = config.client_with(&[
        ("fetch.wait.max.ms", wait),
        ("fetch.error.backoff.ms", "50"),
        ("fetch.queue.backoff.ms", "5"),
        ("queued.max.messages.kbytes", "16384"),
        ("topic.metadata.refresh.interval.ms", "10000"),
    ]);
    client
        // librdkafka wants a group even of a reader that joins none.
        .set("group.id", "provincial-hub-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true");
    client
}
