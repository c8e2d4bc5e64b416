//! The topic is the only storage: what is read back, what it looks like, and what becomes of several registries on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hub_registry::{Normalize, Offer, Registry, StartError};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::fixture::{Served, fresh, kafka, record, start};

/// The latest record of each key, as a tool that knows nothing of transactions reads them.
fn compacted(topic: &str) -> BTreeMap<String, Value> {
    let mut client = kafka();
    client.set("group.id", "test").set("enable.partition.eof", "true").set("isolation.level", "read_uncommitted");
    let consumer: BaseConsumer = client.create().unwrap();
    let mut partition = TopicPartitionList::new();
    partition.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&partition).unwrap();
    let mut records = BTreeMap::new();
    loop {
        match consumer.poll(Duration::from_secs(20)).expect("the end of the topic within 20 s") {
            Err(KafkaError::PartitionEOF(_)) => return records,
            Err(error) => panic!("{error}"),
            Ok(message) => {
                let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
                let value = message.payload().map(|value| serde_json::from_slice(value).unwrap());
                records.insert(key, value.unwrap_or(Value::Null));
            }
        }
    }
}

/// Everything a registry answers about what it holds.
async fn everything(registry: &Served) -> Vec<Value> {
    let mut answers = Vec::new();
    for path in ["/subjects?deleted=true", "/schemas?deleted=true", "/config", "/config/s", "/mode/s", "/schemas/ids/1/versions"] {
        answers.push(registry.call(reqwest::Method::GET, path, None).await.1);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_started_again_answers_as_before() {
    let topic = fresh("restart");
    let before = {
        let registry = Served::on(&topic).await;
        registry.register("s", &record("R", &["a:int"])).await;
        registry.register("s", &record("R", &["a:int", "b:int=0"])).await;
        registry.register("t", &record("R", &["a:int"])).await;
        registry.delete("/subjects/s/versions/1").await;
        registry.register("gone", "\"int\"").await;
        registry.delete("/subjects/gone").await;
        registry.put("/config", json!({"compatibility": "FULL_TRANSITIVE"})).await;
        registry.put("/config/s", json!({"compatibility": "NONE"})).await;
        registry.put("/mode/s", json!({"mode": "READONLY"})).await;
        everything(&registry).await
    };
    assert_eq!(everything(&Served::on(&topic).await).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_holds_confluents_records() {
    let topic = fresh("records");
    let registry = Served::on(&topic).await;
    registry.register("s", "\"int\"").await;
    registry.register("gone", "\"long\"").await;
    registry.delete("/subjects/gone").await;
    registry.put("/config/s", json!({"compatibility": "FULL"})).await;
    registry.put("/mode", json!({"mode": "READWRITE"})).await;
    let expected = BTreeMap::from([
        (r#"{"keytype":"NOOP","magic":0}"#, Value::Null),
        (
            r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#,
            json!({"subject": "s", "version": 1, "id": 1, "schema": "\"int\"", "deleted": false}),
        ),
        (
            r#"{"keytype":"SCHEMA","subject":"gone","version":1,"magic":1}"#,
            json!({"subject": "gone", "version": 1, "id": 2, "schema": "\"long\"", "deleted": false}),
        ),
        (r#"{"keytype":"DELETE_SUBJECT","subject":"gone","magic":0}"#, json!({"subject": "gone", "version": 1})),
        (r#"{"keytype":"CONFIG","subject":"s","magic":0}"#, json!({"subject": "s", "compatibilityLevel": "FULL"})),
        (r#"{"keytype":"MODE","subject":null,"magic":0}"#, json!({"mode": "READWRITE"})),
    ]);
    let expected: BTreeMap<String, Value> = expected.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    assert_eq!(compacted(&topic), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_deleted_for_good_is_never_given_again() {
    let topic = fresh("ids");
    {
        let registry = Served::on(&topic).await;
        registry.register("s", "\"int\"").await;
        registry.register("t", "\"long\"").await;
        registry.delete("/subjects/t").await;
        registry.delete("/subjects/t?permanent=true").await;
    }
    // As after compaction: the tombstone is gone, and so is every trace of id 2 but the mark of the highest id.
    assert_eq!(compacted(&topic)[r#"{"keytype":"NOOP","magic":1}"#], json!({"highestId": 2}));
    assert_eq!(Served::on(&topic).await.register("u", "\"string\"").await, json!({"id": 3}));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_registries_on_one_topic_write_at_once_and_agree() {
    let topic = fresh("two");
    let (left, right) = (start(&topic).await, start(&topic).await);
    let mut writes = Vec::new();
    for number in 0..12 {
        for (side, registry) in [("left", left.clone()), ("right", right.clone())] {
            writes.push(tokio::spawn(async move {
                let registry = registry.write_within(Duration::from_secs(60));
                // A schema of its own, and one that both sides register in one subject.
                let own = Offer::avro(record("R", &[&format!("{side}{number}:int")]));
                let id = registry.register(&format!("{side}-{number}"), &own, Normalize::No).await.unwrap();
                let shared = Offer::avro(record(&format!("Shared{number}"), &["a:int"]));
                (id, registry.register(&format!("shared-{number}"), &shared, Normalize::No).await.unwrap())
            }));
        }
    }
    let mut owned = BTreeSet::new();
    let mut shared = BTreeSet::new();
    for write in writes {
        let (own, both) = write.await.unwrap();
        assert!(owned.insert(own), "id {own} was given twice");
        shared.insert(both);
    }
    assert_eq!(shared.len(), 12, "both sides found one id for one schema");
    assert!(owned.is_disjoint(&shared));

    // The one that starts now has read all of it, and so have the two as soon as they write.
    let third = Served::on(&topic).await;
    let all = third.get("/schemas").await;
    assert_eq!(all.as_array().unwrap().len(), 36);
    let ids: BTreeSet<u64> = all.as_array().unwrap().iter().map(|found| found["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=36).collect());
    for registry in [left, right] {
        registry.register("last", &Offer::avro("\"int\""), Normalize::No).await.unwrap();
        let served = Served::serve(registry.clone(), registry.router()).await;
        assert_eq!(served.get("/schemas?subjectPrefix=l").await.as_array().unwrap().len(), 13);
        assert_eq!(served.get("/schemas?subjectPrefix=s").await, third.get("/schemas?subjectPrefix=s").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_one_registry_is_judged_by_what_the_other_wrote() {
    let topic = fresh("judged");
    let (left, right) = (start(&topic).await, start(&topic).await);
    let first = Offer::avro(record("R", &["a:int"]));
    left.register("s", &first, Normalize::No).await.unwrap();
    // The right one has written nothing yet and may not have read the left one's record.
    let refused = right.register("s", &Offer::avro(record("S", &["z:int"])), Normalize::No).await.unwrap_err();
    assert_eq!(refused.code, 409, "{refused}");
    assert_eq!(right.register("s", &first, Normalize::No).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_would_lose_or_reorder_schemas_is_refused() {
    let (split, deleting) = (fresh("split"), fresh("deleting"));
    let admin: AdminClient<_> = kafka().create().unwrap();
    let topics = [
        NewTopic::new(&split, 2, TopicReplication::Fixed(1)).set("cleanup.policy", "compact"),
        NewTopic::new(&deleting, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "delete"),
    ];
    for created in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
        created.unwrap();
    }
    for (topic, words) in [(&split, "has 2 partitions"), (&deleting, "cleanup.policy is delete")] {
        let error = Registry::start(kafka(), topic, 1).await.err().unwrap();
        assert!(matches!(error, StartError::Unsuitable { .. }) && !error.is_retriable(), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_not_understood_are_passed_over() {
    let topic = fresh("strange");
    drop(start(&topic).await);
    let producer: rdkafka::producer::FutureProducer = kafka().create().unwrap();
    for (key, value) in [("not json", "x"), (r#"{"keytype":"EXPORTER","magic":0}"#, "{}"), (r#"{"keytype":"SCHEMA"}"#, "{}")] {
        let record = rdkafka::producer::FutureRecord::to(&topic).key(key).payload(value);
        producer.send(record, Duration::from_secs(10)).await.unwrap();
    }
    assert_eq!(Served::on(&topic).await.register("s", "\"int\"").await, json!({"id": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_midway_leaves_a_registry_that_works() {
    let registry = Served::fresh("given-up").await;
    for (number, patience) in [0, 1, 2, 3, 5, 8, 13].into_iter().enumerate() {
        let offer = Offer::avro(record(&format!("R{number}"), &["a:int"]));
        let subject = format!("s{number}");
        let write = registry.registry.register(&subject, &offer, Normalize::No);
        // Whether it was in time does not matter here: it is cut off at ever another point.
        let _ = tokio::time::timeout(Duration::from_millis(patience), write).await;
    }
    registry.register("last", "\"int\"").await;
    let all = registry.get("/schemas").await;
    let ids: Vec<u64> = all.as_array().unwrap().iter().map(|found| found["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "no id stands for two schemas: {all}");
    assert_eq!(registry.get("/subjects/last/versions/1").await["schema"], "\"int\"");
}
