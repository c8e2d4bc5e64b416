//! Measures a lane against a real Kafka: rows per second, CPU per row, and the latency of small transactions.
//!
//! `cargo run --release -p hub-kafka --example lane -- 127.0.0.1:19092 [million rows]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss, reason = "a measuring tool, not part of the hub")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hub_kafka::{Cleanup, KafkaConfig, Lane, LaneInput, LaneLimits, Publication, Session, TopicSpec, Topics, checkpoints};
use hub_model::{Block, Checkpoint, Rows, SystemName};
use hub_telemetry::Metrics;
use tokio::sync::{Semaphore, oneshot};

const BATCH: usize = 8_192;
const KEY: usize = 20;
const VALUE: usize = 180;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut config = KafkaConfig::at(arguments.next().unwrap_or_else(|| "127.0.0.1:19092".to_owned()));
    let millions: usize = arguments.next().map_or(1, |text| text.parse().expect("a number of million rows"));
    for setting in arguments {
        let (key, value) = setting.split_once('=').expect("librdkafka settings as key=value");
        config.properties.insert(key, value);
    }
    let topics = Topics::connect(&config).unwrap();
    let specs = [
        checkpoints::topic("bench.checkpoints", 1),
        TopicSpec {
            name: "bench.rows".to_owned(),
            partitions: 4,
            replication: 1,
            cleanup: Cleanup::Delete,
            settings: [("retention.bytes".to_owned(), "100000000".to_owned())].into(),
        },
    ];
    topics.ensure(&specs).await.unwrap();
    let lane = Lane::start(LaneInput {
        config,
        name: "bench-lane".to_owned(),
        checkpoints_topic: "bench.checkpoints".to_owned(),
        limits: LaneLimits::default(),
        metrics: Metrics::new().unwrap().lane("bench-lane"),
    })
    .unwrap();
    let system = SystemName::new("bench").unwrap();
    let session = lane.open(&system).await.unwrap().session;
    bulk(&lane, &session, millions * 1_000_000).await;
    for (rows, every) in [(10, Duration::from_millis(10)), (10, Duration::from_millis(2)), (1_000, Duration::from_millis(20))] {
        small(&lane, &session, rows, every, 1_000).await;
    }
    lane.stop().await;
}

/// Publishes batches as fast as the lane takes them.
async fn bulk(lane: &Lane, session: &Session, rows: usize) {
    let block = block(BATCH);
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let transactions = Arc::new(AtomicUsize::new(0));
    // Eight batches under way at most: the memory a system may hold.
    let room = Arc::new(Semaphore::new(8));
    for number in 0..rows / BATCH {
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set("wal", serde_json::json!({"lsn": number}));
        let counted = Arc::clone(&transactions);
        lane.publish(Publication {
            session: session.clone(),
            blocks: vec![block.clone()],
            checkpoint,
            done: Box::new(move |outcome| {
                outcome.expect("committed");
                counted.fetch_add(1, Ordering::Relaxed);
            }),
            held: Box::new(permit),
        })
        .await;
    }
    let _all = room.acquire_many(8).await.unwrap();
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let done = (rows / BATCH * BATCH) as f64;
    println!(
        "bulk: {:.0} rows/s, {:.2} s, CPU {:.3} us/row ({:.2} s), resident {} kB",
        done / took,
        took,
        cpu / done * 1e6,
        cpu,
        resident()
    );
}

/// Publishes few rows now and then, and waits for each commit beside that.
async fn small(lane: &Lane, session: &Session, rows: usize, every: Duration, count: usize) {
    let block = block(rows);
    let cpu = cpu_seconds();
    let mut ticks = tokio::time::interval(every);
    let mut waiting = Vec::new();
    let began = Instant::now();
    for number in 0..count {
        ticks.tick().await;
        let (told, outcome) = oneshot::channel();
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set("wal", serde_json::json!({"lsn": number}));
        let sent = Instant::now();
        lane.publish(Publication {
            session: session.clone(),
            blocks: vec![block.clone()],
            checkpoint,
            done: Box::new(move |outcome| drop(told.send((outcome.map(|_| sent.elapsed()),)))),
            held: Box::new(()),
        })
        .await;
        waiting.push(outcome);
    }
    let mut times = Vec::new();
    for outcome in waiting {
        times.push(outcome.await.unwrap().0.expect("committed"));
    }
    let took = began.elapsed().as_secs_f64();
    times.sort_unstable();
    println!(
        "{rows} rows every {every:?}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms, CPU {:.1} % of a core",
        times[count / 2].as_secs_f64() * 1e3,
        times[count * 99 / 100].as_secs_f64() * 1e3,
        times[count - 1].as_secs_f64() * 1e3,
        (cpu_seconds() - cpu) / took * 100.0
    );
}

fn block(rows: usize) -> Block {
    let fill = |width: usize| {
        let mut data = Vec::with_capacity(rows * width);
        let mut state = 1_u64;
        for row in 0..rows {
            let start = data.len();
            data.extend_from_slice(format!("{row:010}").as_bytes());
            while data.len() < start + width {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                data.push(b'a' + u8::try_from(state >> 60).unwrap());
            }
        }
        Rows::new(data.into(), (0..=rows).map(|row| row * width).collect())
    };
    Block {
        topic: "bench.rows".into(),
        keys: Some(fill(KEY)),
        values: fill(VALUE),
        timestamps: vec![1_700_000_000_000; rows],
        tombstones: Vec::new(),
        headers: Vec::new(),
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
