//! What the tests share: topics of their own, blocks of numbered rows, and a source that goes on from its checkpoint.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub_kafka::{
    Cleanup, Committed, KafkaConfig, Lane, LaneError, LaneInput, LaneLimits, Publication, ReadPlan, Reader, Record, Session, TopicSpec,
    Topics, Until, checkpoints,
};
use hub_model::{Block, Checkpoint, RecordHeader, Rows, SystemName};
use hub_telemetry::Metrics;
use tokio::sync::{oneshot, watch};

/// The Kafka of the tests; fails where it cannot be reached.
pub fn kafka() -> KafkaConfig {
    let brokers = std::env::var("HUB_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:19092".to_owned());
    let reached = brokers
        .split(',')
        .filter_map(|broker| std::net::ToSocketAddrs::to_socket_addrs(broker).ok())
        .flatten()
        .any(|address| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok());
    assert!(reached, "no Kafka at {brokers}: run `make up`, or set HUB_TEST_KAFKA to one that is running");
    KafkaConfig::at(brokers)
}

/// Milliseconds since 1970, whole seconds.
fn this_second() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() * 1_000
}

/// Shows the hub's log where `RUST_LOG` says so.
pub fn logged() {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        // A second test of the process finds it installed.
        let _ = hub_telemetry::init(hub_telemetry::Format::Pretty, &filter);
    }
}

/// A name that no other test and no earlier run has.
pub fn fresh(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!("test-{what}-{now}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A lane's surroundings: its checkpoints topic and one topic for rows.
pub struct Ground {
    pub config: KafkaConfig,
    pub lane_name: String,
    pub checkpoints: String,
    pub topic: String,
    /// How far [`run_source`] has come.
    pub progress: watch::Sender<u64>,
}

impl Ground {
    /// The names, without the topics.
    pub fn named(config: KafkaConfig, what: &str) -> Self {
        let name = fresh(what);
        Self {
            config,
            lane_name: name.clone(),
            checkpoints: format!("{name}.checkpoints"),
            topic: format!("{name}.rows"),
            progress: watch::Sender::new(0),
        }
    }

    /// With the topics; `settings` are those of the topic of rows.
    pub async fn prepare(config: KafkaConfig, what: &str, settings: &[(&str, &str)]) -> Self {
        let ground = Self::named(config, what);
        ground.create(settings).await;
        logged();
        ground
    }

    pub async fn create(&self, settings: &[(&str, &str)]) {
        let rows = TopicSpec {
            name: self.topic.clone(),
            partitions: 1,
            replication: 1,
            // Nothing that is counted may be compacted away.
            cleanup: Cleanup::Delete,
            settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        let specs = [checkpoints::topic(&self.checkpoints, 1), rows];
        Topics::connect(&self.config).unwrap().ensure(&specs).await.unwrap();
    }

    pub fn lane(&self) -> Lane {
        Lane::start(LaneInput {
            config: self.config.clone(),
            name: self.lane_name.clone(),
            checkpoints_topic: self.checkpoints.clone(),
            limits: LaneLimits::default(),
            metrics: Metrics::new().unwrap().lane(&self.lane_name),
        })
        .unwrap()
    }

    /// Everything committed in the topic of rows.
    pub async fn records(&self) -> Vec<Record> {
        let (config, topic) = (self.config.clone(), self.topic.clone());
        // A commit is answered before every reader can see it.
        let plan = ReadPlan { until: Until::Settled(Duration::from_secs(60)), ..ReadPlan::whole(topic) };
        tokio::task::spawn_blocking(move || Reader::open(&config, plan).unwrap().collect().unwrap()).await.unwrap()
    }

    pub async fn values(&self) -> Vec<String> {
        let text = |record: Record| String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap();
        self.records().await.into_iter().map(text).collect()
    }

    pub async fn checkpoint(&self, system: &SystemName) -> Checkpoint {
        checkpoints::read(&self.config, &self.checkpoints, system).await.unwrap()
    }

    /// A block with these values under the keys `k0`, `k1` …
    pub fn block(&self, values: &[&str]) -> Block {
        let keys: Vec<String> = (0..values.len()).map(|row| format!("k{row}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Block {
            topic: self.topic.as_str().into(),
            keys: Some(rows(&keys)),
            values: rows(values),
            timestamps: (0..values.len()).map(|row| this_second() + i64::try_from(row).unwrap()).collect(),
            tombstones: Vec::new(),
            headers: Vec::new(),
        }
    }
}

pub fn rows(values: &[&str]) -> Rows {
    let mut offsets = vec![0];
    for value in values {
        offsets.push(offsets[offsets.len() - 1] + value.len());
    }
    Rows::new(values.concat().into(), offsets)
}

pub fn header(record: u32, name: &'static str, value: &'static str) -> RecordHeader {
    RecordHeader { record, name, value: value.as_bytes().into() }
}

pub fn system(name: &str) -> SystemName {
    SystemName::new(name).unwrap()
}

/// A checkpoint of the one partition `wal`.
pub fn at(position: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::empty();
    checkpoint.set("wal", serde_json::json!(position));
    checkpoint
}

/// Where a checkpoint of [`at`] stands.
pub fn position(checkpoint: &Checkpoint) -> u64 {
    checkpoint.get("wal").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// Hands a publication over; the outcome comes later.
pub async fn submit(
    lane: &Lane,
    session: &Session,
    blocks: Vec<Block>,
    checkpoint: Checkpoint,
) -> oneshot::Receiver<Result<Committed, LaneError>> {
    let (told, outcome) = oneshot::channel();
    let done = Box::new(move |outcome| drop(told.send(outcome)));
    lane.publish(Publication { session: session.clone(), blocks, checkpoint, done, held: Box::new(()) }).await;
    outcome
}

/// Publishes and waits for the outcome.
pub async fn publish(lane: &Lane, session: &Session, blocks: Vec<Block>, checkpoint: Checkpoint) -> Result<Committed, LaneError> {
    submit(lane, session, blocks, checkpoint).await.await.expect("done is always called")
}

/// Publishes the numbers after the checkpoint up to `last`, `step` at a time, up to four publications under way, as an
/// engine does: after a failure it opens again and goes on from the checkpoint. Returns how often it failed.
pub async fn run_source(ground: &Ground, lane: &Lane, system: &SystemName, last: u64, step: u64) -> usize {
    let mut failures = 0;
    loop {
        let opened = match lane.open(system).await {
            Ok(opened) => opened,
            Err(error) if error.is_retriable() => {
                failures += 1;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        match from_checkpoint(ground, lane, &opened.session, position(&opened.checkpoint), last, step).await {
            Ok(()) => return failures,
            Err(error) if error.is_retriable() => failures += 1,
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
}

async fn from_checkpoint(ground: &Ground, lane: &Lane, session: &Session, mut next: u64, last: u64, step: u64) -> Result<(), LaneError> {
    let mut under_way = std::collections::VecDeque::new();
    while next < last || !under_way.is_empty() {
        while next < last && under_way.len() < 4 {
            let to = (next + step).min(last);
            let numbers: Vec<String> = (next..to).map(|number| number.to_string()).collect();
            let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
            under_way.push_back((to, submit(lane, session, vec![ground.block(&numbers)], at(to)).await));
            next = to;
        }
        if let Some((to, outcome)) = under_way.pop_front() {
            outcome.await.expect("done is always called")?;
            ground.progress.send_replace(to);
        }
    }
    Ok(())
}
