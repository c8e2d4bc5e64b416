//! A node on a real Kafka (`HUB_TEST_KAFKA`, default 127.0.0.1:19092) with a connector that misbehaves: what is told, and what follows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, reason = "a failing test may panic")]

mod fixture;

use std::sync::atomic::Ordering;

use fixture::{Plan, Rig, desired, evidence, row};
use futures::StreamExt;
use hub_engine::CanonicalKeys;
use hub_engine::pipeline::Pipeline;
use hub_engine::prepare;
use hub_engine::status::{Board, State};
use hub_sdk::model::{RowFault, SystemName};
use hub_sdk::{ErrorKind, KeyTopics};
use hub_telemetry::Metrics;

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_panics_is_told_counted_and_started_again() {
    let rig = Rig::start(Plan::PanicsAtFirst).await;
    let told = rig.until("the panic to be told", |status| status.state == State::Retrying).await;
    let error = told.error.unwrap();
    assert!(error.contains("panicked while capturing (a fixed text)") && error.contains("please report it"), "{error}");
    rig.until("the row", |status| status.state == State::Following && status.streams["t.other"].published == 1).await;
    let metrics = rig.metrics.render();
    assert!(metrics.contains(r#"hub_system_restarts_total{reason="panic",system="demo"} 1"#), "{metrics}");
    assert_eq!(rig.records().await, 1);
    rig.node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_between_commit_and_acknowledgement_doubles_nothing_and_tells_no_value() {
    let rig = Rig::start(Plan::PanicsWhenAcknowledged).await;
    let told = rig.until("the panic to be told", |status| status.state == State::Retrying).await;
    let error = told.error.unwrap();
    assert!(error.contains("panicked while running the system"), "{error}");
    assert!(!error.contains("Nguyễn"), "a message that was put together may hold a value: {error}");
    rig.until("the next run", |status| status.state == State::Following).await;
    assert_eq!(rig.script.runs.load(Ordering::SeqCst), 2);
    assert_eq!(rig.records().await, 1, "it goes on from the checkpoint");
    rig.node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_ends_by_itself_is_told_and_started_again() {
    let rig = Rig::start(Plan::EndsAtFirst).await;
    let told = rig.until("the end to be told", |status| status.state == State::Retrying).await;
    assert!(told.error.unwrap().contains("nothing told it to"));
    rig.until("the row", |status| status.streams.get("t.other").is_some_and(|stream| stream.published == 1)).await;
    rig.node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_a_series_from_the_start_in_the_words_of_the_status() {
    let rig = Rig::start(Plan::NeverOpens).await;
    let state = |state: &str, value: u8| format!(r#"hub_system_state{{state="{state}",system="demo"}} {value}"#);
    let metrics = rig.metrics.render();
    assert!(metrics.contains(&state("starting", 1)) && metrics.contains(&state("following", 0)), "{metrics}");
    rig.node.observe();
    rig.node.remove(desired("script"), "no-such-topic").await.unwrap();
    let metrics = rig.metrics.render();
    assert!(metrics.contains(&state("removing", 1)) && metrics.contains(&state("stopped", 0)), "{metrics}");
    rig.node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_are_in_the_audit_topic_once_their_rows_are_published() {
    let rig = Rig::start(Plan::GivesEvidence).await;
    rig.until("the row", |status| status.streams.get("t.other").is_some_and(|stream| stream.published == 1)).await;
    let exchanges = rig.exchanges().await;
    assert_eq!(exchanges.len(), 1);
    let value = exchanges[0].value.as_ref().unwrap();
    assert_eq!(exchanges[0].key.as_deref(), Some(&b"t.other"[..]));
    // Behind the frame, whose id is the registry's.
    let block = hub_transform::audit::encode(&"audit".into(), 0, "demo", &[evidence()]);
    assert_eq!(value[5..], block.values.row(0)[5..]);
    rig.node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canonical_topic_is_read_as_keys_from_a_position_on() {
    let rig = Rig::start(Plan::GivesEvidence).await;
    rig.until("the row", |status| status.streams.get("t.other").is_some_and(|stream| stream.published == 1)).await;
    let topics = CanonicalKeys::new(rig.kafka.clone(), rig.schemas.clone());
    let first = topics.keys(&rig.topic(), "name", None).next().await.unwrap().unwrap();
    assert_eq!((first.keys, first.caught_up), (vec!["A".to_owned()], true));
    let after = topics.keys(&rig.topic(), "id", Some(first.position)).next().await.unwrap().unwrap();
    assert_eq!((after.keys, after.caught_up), (Vec::new(), true), "nothing has come since");
    let error = topics.keys(&rig.topic(), "namee", None).next().await.unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::BadConfig && error.report().contains("there are id, name"), "{}", error.report());
    let error = topics.keys("no-such-topic", "name", None).next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPrepared, "{}", error.report());
    rig.node.shut_down().await;
}

#[test]
fn rejects_are_counted_when_they_are_durable_and_not_before() {
    let name = SystemName::new("demo").unwrap();
    let prepared = prepare::offline(&desired("script"), 0, &name, &[], "topic", (1, 2)).unwrap();
    let metrics = Metrics::new().unwrap();
    let mut pipeline = Pipeline::new(prepared, Board::new("demo"), metrics.system("demo")).unwrap();
    let mut bad = row();
    bad.faults = vec![RowFault { row: 0, column: Some("name".into()), code: "bad-text", message: "no text".to_owned() }];
    let abandoned = pipeline.process(vec![bad.clone()], 0).unwrap();
    assert!(!metrics.render().contains("hub_reject_rows_total{"), "a run that ends here reads the row again");
    drop(abandoned);
    let processed = pipeline.process(vec![bad], 0).unwrap();
    pipeline.settled(&processed.tally);
    assert!(metrics.render().contains(r#"hub_reject_rows_total{reason="bad-text",system="demo"} 1"#));
}
