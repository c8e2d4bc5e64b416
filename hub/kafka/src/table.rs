//! A small table in a compacted topic: text key → JSON document. Desired connectors and their status live in such.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::client::HubContext;
use crate::{BorrowedRecord, Cleanup, Error, KafkaConfig, Next, ReadPlan, Reader, Start, TopicSpec, Until};

/// A compacted topic of JSON documents. The last writer of a key wins.
pub struct Table {
    config: KafkaConfig,
    topic: String,
    context: HubContext,
    producer: FutureProducer<HubContext>,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its offset in the (one) partition: grows with every change of the table.
    pub offset: i64,
    /// The document.
    pub document: serde_json::Value,
}

/// One change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its offset.
    pub offset: i64,
    /// The new document; `None` where it was deleted.
    pub document: Option<serde_json::Value>,
}

/// How long a write may take.
const WRITE_WITHIN: Duration = Duration::from_secs(15);

impl Table {
    /// How the topic of a table is to be created: one partition, so that all changes have one order.
    #[must_use]
    pub fn topic(name: impl Into<String>, replication: u16) -> TopicSpec {
        let settings = [("segment.ms", "86400000"), ("min.cleanable.dirty.ratio", "0.1")];
        TopicSpec {
            name: name.into(),
            partitions: 1,
            replication,
            cleanup: Cleanup::Compact,
            settings: settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    /// Prepares access to the table in `topic`.
    ///
    /// # Errors
    /// [`Error::BadConfig`] where librdkafka refuses the settings.
    pub fn open(config: &KafkaConfig, topic: impl Into<String>) -> Result<Self, Error> {
        let topic = topic.into();
        let context = HubContext::default();
        let mut client = config.client_with(&[("linger.ms", "0"), ("queue.buffering.max.kbytes", "8192")]);
        let max_record = config.max_record_bytes.to_string();
        client
            .set("enable.idempotence", "true")
            .set("delivery.timeout.ms", WRITE_WITHIN.as_millis().to_string())
            .set("message.max.bytes", &max_record)
            .set("compression.type", config.compression.as_str())
            .set("partitioner", "murmur2_random");
        let producer = client
            .create_with_context(context.clone())
            .map_err(|error| Error::new(config, &context, format!("opening table {topic}"), error))?;
        Ok(Self { config: config.clone(), topic, context, producer })
    }

    /// All documents as they are now.
    ///
    /// # Errors
    /// [`Error`] when the topic cannot be read, or holds something else.
    pub async fn read(&self) -> Result<BTreeMap<String, Entry>, Error> {
        let (config, topic) = (self.config.clone(), self.topic.clone());
        let task = tokio::task::spawn_blocking(move || {
            let mut entries = BTreeMap::new();
            Reader::open(&config, ReadPlan::whole(&topic))?.each(|record| -> Result<(), Error> {
                let Change { key, offset, document } = change_of(&topic, record)?;
                match document {
                    Some(document) => entries.insert(key, Entry { offset, document }),
                    None => entries.remove(&key),
                };
                Ok(())
            })?;
            Ok(entries)
        });
        task.await.unwrap_or_else(|_| Err(Error::interrupted(format!("reading table {}", self.topic))))
    }

    /// Writes a document and waits until all replicas have it. Returns its offset.
    ///
    /// # Errors
    /// [`Error`] when Kafka did not take it within 15 s.
    pub async fn put(&self, key: &str, document: &serde_json::Value) -> Result<i64, Error> {
        self.write(key, Some(document.to_string().as_bytes())).await
    }

    /// Deletes a document and waits until all replicas know. One that is not there is no mistake.
    ///
    /// # Errors
    /// As [`Table::put`].
    pub async fn delete(&self, key: &str) -> Result<i64, Error> {
        self.write(key, None).await
    }

    async fn write(&self, key: &str, document: Option<&[u8]>) -> Result<i64, Error> {
        let mut record = FutureRecord::<str, [u8]>::to(&self.topic).key(key);
        record.payload = document;
        match self.producer.send(record, WRITE_WITHIN).await {
            Ok(delivered) => Ok(delivered.offset),
            Err((error, _)) => {
                let doing = format!("writing {key} to table {}", self.topic);
                Err(Error::new(&self.config, &self.context, doing, error))
            }
        }
    }

    /// Follows the table: everything from offset `after` + 1 on (from the beginning where it is `None`), then changes as
    /// they come. The follower blocks; use it from a blocking task.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn follow(&self, after: Option<i64>) -> Result<Follower, Error> {
        let plan = ReadPlan {
            topic: self.topic.clone(),
            partition: None,
            start: after.map_or(Start::Beginning, |offset| Start::Offset(offset + 1)),
            until: Until::Forever,
            key: None,
        };
        Ok(Follower { topic: self.topic.clone(), reader: Reader::open(&self.config, plan)? })
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Reads a table's changes as they come.
#[derive(Debug)]
pub struct Follower {
    topic: String,
    reader: Reader,
}

impl Follower {
    /// The next change; `None` where there is none within `wait`.
    ///
    /// # Errors
    /// As [`Reader::next`], and [`Error::BadRecord`] for a record that is no document; the next call goes on behind it.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Change>, Error> {
        match self.reader.next(wait)? {
            Next::Record(record) => change_of(&self.topic, &record).map(Some),
            Next::Quiet | Next::End => Ok(None),
        }
    }
}

fn change_of(topic: &str, record: &BorrowedRecord<'_>) -> Result<Change, Error> {
    let bad = |what: &str| Error::BadRecord {
        doing: format!("reading table {topic}"),
        topic: topic.to_owned(),
        partition: record.partition(),
        offset: record.offset(),
        what: what.to_owned(),
    };
    let key = record.key().and_then(|key| std::str::from_utf8(key).ok()).ok_or_else(|| bad("its key is not text"))?;
    let document = match record.value() {
        None => None,
        Some(value) => Some(serde_json::from_slice(value).map_err(|_| bad("its value is not JSON"))?),
    };
    Ok(Change { key: key.to_owned(), offset: record.offset(), document })
}
