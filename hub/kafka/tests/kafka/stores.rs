//! Topics, readers and tables.

use std::time::Duration;

use hub_kafka::{Change, Cleanup, Error, Next, ReadPlan, Reader, Start, Table, TopicSpec, Topics, Until, end_offsets};
use serde_json::json;

use crate::fixture::{Ground, at, fresh, kafka, publish, submit, system};

const SOON: Duration = Duration::from_secs(10);

fn spec(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions: 3,
        replication: 1,
        cleanup: Cleanup::Compact,
        settings: [("max.message.bytes".to_owned(), "20000".to_owned())].into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_once_and_never_changed() {
    let topics = Topics::connect(&kafka()).unwrap();
    let name = fresh("topics");
    let created = topics.ensure(&[spec(&name)]).await.unwrap().remove(0);
    assert!(created.created && created.compacted);
    assert_eq!((created.partitions, created.max_message_bytes, created.differences), (3, 20_000, vec![]));

    let mut other = spec(&name);
    other.partitions = 5;
    other.cleanup = Cleanup::Delete;
    other.settings = [("retention.ms".to_owned(), "1000".to_owned())].into();
    let found = topics.ensure(&[other]).await.unwrap().remove(0);
    assert!(!found.created && found.compacted);
    let differences: Vec<_> = found
        .differences
        .iter()
        .map(|difference| (difference.setting.as_str(), difference.wanted.as_str(), difference.found.as_str()))
        .collect();
    let expected = [("partitions", "5", "3"), ("cleanup.policy", "delete", "compact"), ("retention.ms", "1000", "604800000")];
    assert_eq!(differences, expected);
    assert_eq!(topics.ensure(&[spec(&name)]).await.unwrap()[0].differences, []);
    assert!(topics.list().unwrap().contains(&name));
    topics.delete(&name).await.unwrap();
    topics.delete(&name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_reads_back_what_was_put_and_follows_changes() {
    let config = kafka();
    let name = fresh("table");
    Topics::connect(&config).unwrap().ensure(&[Table::topic(&name, 1)]).await.unwrap();
    let table = Table::open(&config, &name).unwrap();
    let first = table.put("mot-cua", &json!({"state": "running"})).await.unwrap();
    table.put("dat-dai", &json!(1)).await.unwrap();
    table.delete("dat-dai").await.unwrap();
    let last = table.put("mot-cua", &json!({"state": "paused"})).await.unwrap();

    let entries = table.read().await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries["mot-cua"].offset, &entries["mot-cua"].document), (last, &json!({"state": "paused"})));

    let follower = table.follow(Some(first)).unwrap();
    let seen = tokio::task::spawn_blocking(move || {
        let mut follower = follower;
        [(); 3].map(|()| follower.next(SOON).unwrap().expect("a change comes"))
    });
    let seen = seen.await.unwrap();
    let change = |key: &str, offset, document| Change { key: key.to_owned(), offset, document };
    let expected = [
        change("dat-dai", first + 1, Some(json!(1))),
        change("dat-dai", first + 2, None),
        change("mot-cua", last, Some(json!({"state": "paused"}))),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_filters_by_key_begins_where_told_and_follows() {
    let ground = Ground::prepare(kafka(), "reader", &[]).await;
    let lane = ground.lane();
    let session = lane.open(&system("reader")).await.unwrap().session;
    publish(&lane, &session, vec![ground.block(&["a0", "a1"]), ground.block(&["b0", "b1"])], at(1)).await.unwrap();

    let plan = ReadPlan { until: Until::Settled(SOON), ..ReadPlan::whole(&ground.topic) };
    let of_key = ReadPlan { key: Some(b"k1".to_vec()), ..plan.clone() };
    let values = |plan: ReadPlan| -> Vec<String> {
        let records = Reader::open(&ground.config, plan).unwrap().collect().unwrap();
        records.into_iter().map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
    };
    assert_eq!(values(of_key), ["a1", "b1"]);
    assert_eq!(values(ReadPlan { start: Start::Offset(1), ..plan.clone() }), ["a1", "b0", "b1"]);
    // The transaction's marker stands at the end.
    assert_eq!(values(ReadPlan { start: Start::Last(2), ..plan.clone() }), ["b1"]);
    let ends = end_offsets(&ground.config, &ground.topic).unwrap();
    assert_eq!((ends.len(), ends[0].low, ends[0].committed, ends[0].end), (1, 0, 5, 5));

    let follow = ReadPlan { start: Start::End, until: Until::Forever, ..plan };
    let mut reader = Reader::open(&ground.config, follow).unwrap();
    // Where the end is, is only asked when it is first read.
    assert!(matches!(reader.next(Duration::from_millis(500)).unwrap(), Next::Quiet));
    publish(&lane, &session, vec![ground.block(&["new"])], at(2)).await.unwrap();
    match reader.next(SOON).unwrap() {
        Next::Record(record) => assert_eq!((record.value(), record.offset()), (Some(&b"new"[..]), 5)),
        other => panic!("{other:?}"),
    }
    let missing = Reader::open(&ground.config, ReadPlan::whole("test-there-is-no-such-topic"));
    assert!(matches!(missing, Err(Error::NoTopic { .. })), "{missing:?}");
    lane.stop().await;
}

/// Another lane's open transaction in the same partition of the checkpoints topic must not hide a checkpoint that is
/// committed behind its begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_behind_an_open_transaction_is_waited_for() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let ground = Ground::prepare(kafka(), "held-back", &[]).await;
    let name = system("held");
    let lane = ground.lane();
    let session = lane.open(&name).await.unwrap().session;
    publish(&lane, &session, vec![], at(1)).await.unwrap();

    let neighbour: BaseProducer = ground.config.client().set("transactional.id", fresh("neighbour")).create().unwrap();
    neighbour.init_transactions(SOON).unwrap();
    neighbour.begin_transaction().unwrap();
    for partition in 0..8 {
        let record = BaseRecord::to(&ground.checkpoints).key("neighbour|wal").payload("7").partition(partition);
        neighbour.send(record).unwrap();
    }
    neighbour.flush(SOON).unwrap();
    submit(&lane, &session, vec![], at(2)).await.await.unwrap().unwrap();

    let (config, topic) = (ground.config.clone(), ground.checkpoints.clone());
    let reading = tokio::spawn(async move { hub_kafka::checkpoints::read(&config, &topic, &name).await });
    let committing = tokio::task::spawn_blocking(move || neighbour.commit_transaction(SOON));
    committing.await.unwrap().unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), at(2));
    lane.stop().await;
}
