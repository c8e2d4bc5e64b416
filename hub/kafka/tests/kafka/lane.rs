//! Lanes: exactly once, in order, fenced.

use std::time::Duration;

use hub_kafka::{Cleanup, Health, LaneError, Publication, ReadPlan, Reader, TopicSpec, Topics, Until};
use hub_model::{Block, Checkpoint};
use serde_json::json;

use crate::fixture::{Ground, at, header, kafka, position, publish, rows, run_source, submit, system};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_in_order_with_keys_headers_timestamps_and_tombstones() {
    let ground = Ground::prepare(kafka(), "form", &[]).await;
    let lane = ground.lane();
    let session = lane.open(&system("form")).await.unwrap().session;
    let mut block = ground.block(&["created", "deleted", ""]);
    block.tombstones = vec![1];
    block.headers = vec![header(1, "__debezium.newkey", "k9"), header(1, "second", ""), header(2, "third", "3")];
    let committed = publish(&lane, &session, vec![block], at(1)).await.unwrap();
    assert_eq!((committed.records, committed.bytes), (4, "createddeletedk0k1k2".len()));

    let records = ground.records().await;
    let seen: Vec<_> = records
        .iter()
        .map(|record| {
            let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
            (record.key.as_deref().unwrap(), record.value.as_deref(), record.timestamp.unwrap() % 1000, headers)
        })
        .collect();
    let expected = [
        (&b"k0"[..], Some(&b"created"[..]), 0, vec![]),
        (b"k1", Some(b"deleted"), 1, vec![("__debezium.newkey", &b"k9"[..]), ("second", b"")]),
        (b"k1", None, 1, vec![]),
        (b"k2", Some(b""), 2, vec![("third", b"3")]),
    ];
    assert_eq!(seen, expected);
    lane.stop().await;
}

/// Flink and Kafka Streams join topics partition by partition: a key must be where a Java producer puts it. The hashes are
/// those that Kafka's own tests expect of its murmur2 (`UtilsTest.testMurmur2`).
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_in_the_partition_where_a_java_producer_puts_it() {
    const HASHES: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    const PARTITIONS: u32 = 7;
    let ground = Ground::prepare(kafka(), "murmur2", &[]).await;
    let topic = format!("{}.wide", ground.topic);
    let spec =
        TopicSpec { name: topic.clone(), partitions: PARTITIONS, replication: 1, cleanup: Cleanup::Delete, settings: Default::default() };
    Topics::connect(&ground.config).unwrap().ensure(&[spec]).await.unwrap();
    let lane = ground.lane();
    let session = lane.open(&system("murmur2")).await.unwrap().session;
    let keys = HASHES.map(|(key, _)| key);
    let block = Block { topic: topic.as_str().into(), keys: Some(rows(&keys)), ..ground.block(&keys) };
    publish(&lane, &session, vec![block], at(1)).await.unwrap();

    let (config, plan) = (ground.config.clone(), ReadPlan { until: Until::Settled(PATIENCE), ..ReadPlan::whole(topic) });
    let records = tokio::task::spawn_blocking(move || Reader::open(&config, plan).unwrap().collect().unwrap()).await.unwrap();
    let mut found: Vec<_> = records.iter().map(|record| (record.key.clone().unwrap(), record.partition)).collect();
    let mut expected: Vec<_> = HASHES.map(|(key, hash)| (key.into(), (hash & i32::MAX) % PARTITIONS.cast_signed())).to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    lane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_read_back_is_the_last_that_was_committed() {
    let ground = Ground::prepare(kafka(), "checkpoint", &[]).await;
    let lane = ground.lane();
    let (one, other) = (system("one"), system("other"));
    let opened = lane.open(&one).await.unwrap();
    assert_eq!(opened.checkpoint, Checkpoint::empty());
    let mut first = Checkpoint::empty();
    first.set("wal", json!({"lsn": 7, "ordinal": 1}));
    first.set("snapshot/public.a", json!({"chunks": [[0, null]]}));
    first.set("slot", json!("hub_one"));
    publish(&lane, &opened.session, vec![ground.block(&["1"])], first).await.unwrap();
    let mut second = Checkpoint::empty();
    second.set("wal", json!({"lsn": 9, "ordinal": 0}));
    second.remove("snapshot/public.a");
    publish(&lane, &opened.session, vec![], second).await.unwrap();
    let session = lane.open(&other).await.unwrap().session;
    publish(&lane, &session, vec![], at(5)).await.unwrap();

    let mut expected = Checkpoint::empty();
    expected.set("wal", json!({"lsn": 9, "ordinal": 0}));
    expected.set("slot", json!("hub_one"));
    assert_eq!(ground.checkpoint(&one).await, expected);
    assert_eq!(lane.open(&one).await.unwrap().checkpoint, expected);
    let all = hub_kafka::checkpoints::read_all(&ground.config, &ground.checkpoints).await.unwrap();
    assert_eq!(all, [(one, expected), (other, at(5))].into());
    lane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_publications_arrive_once_and_in_order() {
    let ground = Ground::prepare(kafka(), "order", &[]).await;
    let lane = ground.lane();
    let numbers = system("numbers");
    assert_eq!(run_source(&ground, &lane, &numbers, 20_000, 7).await, 0);
    assert_eq!(ground.values().await, (0..20_000).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(position(&ground.checkpoint(&numbers).await), 20_000);
    lane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_lane_of_the_same_name_commits_nothing_more() {
    let ground = Ground::prepare(kafka(), "zombie", &[]).await;
    let zombie = ground.lane();
    let name = system("fenced");
    let old = zombie.open(&name).await.unwrap().session;
    publish(&zombie, &old, vec![ground.block(&["before"])], at(1)).await.unwrap();

    let heir = ground.lane();
    let opened = heir.open(&name).await.unwrap();
    assert_eq!(position(&opened.checkpoint), 1);
    let refused = publish(&zombie, &old, vec![ground.block(&["zombie"])], at(2)).await;
    assert!(matches!(refused, Err(LaneError::Fenced { .. })), "{refused:?}");
    assert!(matches!(*zombie.health().borrow(), Health::Fenced));
    assert!(matches!(zombie.open(&name).await, Err(LaneError::Fenced { .. })));
    publish(&heir, &opened.session, vec![ground.block(&["after"])], at(2)).await.unwrap();

    assert_eq!(ground.values().await, ["before", "after"]);
    zombie.stop().await;
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_the_lane_is_refused_alone_and_named() {
    let mut config = kafka();
    config.max_record_bytes = 10_000;
    let ground = Ground::prepare(config, "large", &[]).await;
    let lane = ground.lane();
    let (big, small) = (system("big"), system("small"));
    let big_session = lane.open(&big).await.unwrap().session;
    let small_session = lane.open(&small).await.unwrap().session;
    let huge = "x".repeat(10_000);
    let refused = submit(&lane, &big_session, vec![ground.block(&["fits", &huge])], at(1)).await;
    let queued = submit(&lane, &big_session, vec![ground.block(&["queued behind it"])], at(2)).await;
    publish(&lane, &small_session, vec![ground.block(&["neighbour"])], at(1)).await.unwrap();
    match refused.await.unwrap() {
        Err(LaneError::TooLarge { system, topic, bytes, limit }) => {
            assert_eq!((system, &*topic, bytes, limit), (big.clone(), &*ground.topic, 10_002, Some(lane.record_limit())));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(queued.await.unwrap(), Err(LaneError::Stale { .. })));

    let opened = lane.open(&big).await.unwrap();
    assert_eq!(position(&opened.checkpoint), 0);
    publish(&lane, &opened.session, vec![ground.block(&["rejected instead"])], at(2)).await.unwrap();
    assert_eq!(ground.values().await, ["neighbour", "rejected instead"]);
    lane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_its_topic_aborts_and_names_the_system() {
    let ground = Ground::prepare(kafka(), "topic-limit", &[("max.message.bytes", "5000")]).await;
    let lane = ground.lane();
    let big = system("big");
    let session = lane.open(&big).await.unwrap().session;
    let huge = noise(9_000);
    let refused = publish(&lane, &session, vec![ground.block(&["1", "2", &huge])], at(1)).await;
    match refused {
        Err(LaneError::TooLarge { system, topic, limit: None, .. }) => {
            assert_eq!((system, &*topic), (big.clone(), &*ground.topic));
        }
        other => panic!("{other:?}"),
    }
    let opened = lane.open(&big).await.unwrap();
    assert_eq!(position(&opened.checkpoint), 0);
    publish(&lane, &opened.session, vec![ground.block(&["1", "2"])], at(1)).await.unwrap();
    assert_eq!(ground.values().await, ["1", "2"]);
    lane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named() {
    let ground = Ground::prepare(kafka(), "no-topic", &[]).await;
    let lane = ground.lane();
    let lost = system("lost");
    let session = lane.open(&lost).await.unwrap().session;
    let mut block = ground.block(&["1"]);
    block.topic = "test-there-is-no-such-topic".into();
    let refused = publish(&lane, &session, vec![block], at(1)).await;
    match refused {
        Err(LaneError::NoTopic { topic, .. }) => assert_eq!(&*topic, "test-there-is-no-such-topic"),
        other => panic!("{other:?}"),
    }
    let opened = lane.open(&lost).await.unwrap();
    publish(&lane, &opened.session, vec![ground.block(&["1"])], at(1)).await.unwrap();
    lane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_session_ends_the_old_one() {
    let ground = Ground::prepare(kafka(), "session", &[]).await;
    let lane = ground.lane();
    let name = system("twice");
    let old = lane.open(&name).await.unwrap().session;
    let new = lane.open(&name).await.unwrap().session;
    let refused = publish(&lane, &old, vec![ground.block(&["old"])], at(1)).await;
    assert!(matches!(refused, Err(LaneError::Stale { .. })), "{refused:?}");
    publish(&lane, &new, vec![ground.block(&["new"])], at(1)).await.unwrap();
    assert_eq!(ground.values().await, ["new"]);
    lane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_lane_answers_everything() {
    let ground = Ground::prepare(kafka(), "stopped", &[]).await;
    let lane = ground.lane();
    let session = lane.open(&system("last")).await.unwrap().session;
    let outcomes: Vec<_> = {
        let mut outcomes = Vec::new();
        for number in 0..20 {
            outcomes.push(submit(&lane, &session, vec![ground.block(&["x"])], at(number)).await);
        }
        outcomes
    };
    lane.stop().await;
    let mut committed = 0;
    for outcome in outcomes {
        match outcome.await.unwrap() {
            Ok(_) => committed += 1,
            Err(LaneError::Stopped { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(ground.values().await.len(), committed);
}

/// Text that compression makes little smaller.
fn noise(length: usize) -> String {
    let mut state = 88_172_645_463_325_252_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + u8::try_from(state % 94).unwrap())
    };
    (0..length).map(|_| letter()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_panics_says_so_answers_everything_and_goes_on() {
    let ground = Ground::prepare(kafka(), "panics", &[]).await;
    let lane = ground.lane();
    let (name, other) = (system("panics"), system("waits"));
    let session = lane.open(&name).await.unwrap().session;
    let waits = lane.open(&other).await.unwrap().session;
    let mut health = lane.health();
    let bad = Publication {
        session: session.clone(),
        blocks: vec![ground.block(&["1"])],
        checkpoint: at(1),
        done: Box::new(|_| panic!("what a defect of the hub does")),
        held: Box::new(()),
    };
    lane.publish(bad).await;
    // It is behind the bad one, in the same transaction or in the next: it is answered either way.
    let behind = submit(&lane, &waits, vec![ground.block(&["2"])], at(1)).await;
    health.wait_for(|health| matches!(health, Health::Waiting(LaneError::Lost { .. }))).await.unwrap();
    assert!(!lane.has_ended());
    let answer = behind.await.expect("it is told");
    assert!(matches!(answer, Ok(_) | Err(LaneError::Lost { .. } | LaneError::Stale { .. })), "{answer:?}");
    health.wait_for(|health| matches!(health, Health::Ready)).await.unwrap();
    let stale = publish(&lane, &session, vec![ground.block(&["3"])], at(9)).await;
    assert!(matches!(stale, Err(LaneError::Stale { .. })), "{stale:?}");
    let opened = lane.open(&name).await.unwrap();
    assert_eq!(position(&opened.checkpoint), 1, "what was committed is known");
    publish(&lane, &opened.session, vec![ground.block(&["4"])], at(2)).await.unwrap();
    let values = ground.values().await;
    assert_eq!((values.first().map(String::as_str), values.last().map(String::as_str)), (Some("1"), Some("4")), "{values:?}");
    lane.stop().await;
}
