//! Streams over runs: whole and followed ones, states of every form, faults, streams that come and go.

use hub_sdk::model::StreamName;
use hub_sdk::{Connector, ErrorKind};
use serde_json::{Value, json};

use crate::support::Scratch;
use crate::support::desk::Desk;
use crate::support::fake::FakeAirbyte;

fn person(id: i64, name: &str) -> Value {
    json!({"id": id, "name": name})
}

fn followed(fake: &FakeAirbyte, form: &str) -> Desk {
    let mut config = fake.config();
    config["config"]["state"] = json!(form);
    config["streams"] = json!({"nguoi": {"mode": "changes"}});
    Desk::new(config, &["nguoi"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_stream_tells_what_differs_and_deletes_what_is_absent() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", [person(1, "An"), person(2, "Bình"), person(3, "Chi")]);
    let mut desk = Desk::new(fake.config(), &["nguoi"]);
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["nguoi r 1|An", "nguoi r 2|Bình", "nguoi r 3|Chi"]);
    fake.put("nguoi", [person(2, "Bảo"), person(4, "Du")]);
    assert_eq!(desk.changes(&mut run, 2).await, ["nguoi u 2|Bảo", "nguoi c 4|Du"]);
    run.kill().await;
    fake.delete("nguoi", &[1]);
    let mut run = desk.run().await;
    assert_eq!(desk.changes(&mut run, 1).await, ["nguoi d 1|∅"], "nothing is told again after a restart");
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_suddenly_short_deletes_nothing() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", [person(1, "An"), person(2, "Bình")]);
    let mut desk = Desk::new(fake.config(), &["nguoi"]);
    desk.config["streams"] = json!({"nguoi": {"at_least": 2}});
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    fake.delete("nguoi", &[1, 2]);
    let error = run.failure().await;
    assert_eq!(error.kind(), ErrorKind::NotPrepared, "{}", error.report());
    assert!(error.report().contains("it has shown 0 rows, fewer than `at_least`, 2"), "{}", error.report());
    fake.put("nguoi", [person(1, "An"), person(3, "Chi")]);
    let mut run = desk.run().await;
    assert_eq!(desk.changes(&mut run, 2).await, ["nguoi c 3|Chi", "nguoi d 2|∅"]);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_stream_goes_on_from_its_state_in_every_form() {
    for form in ["stream", "global", "legacy"] {
        let mut fake = FakeAirbyte::persons();
        fake.put("nguoi", [person(1, "An"), person(2, "Bình")]);
        let mut desk = followed(&fake, form);
        let mut run = desk.run().await;
        assert_eq!(desk.snapshot(&mut run).await, ["nguoi r 1|An", "nguoi r 2|Bình"], "{form}");
        run.kill().await;
        let mut run = desk.run().await;
        fake.put("nguoi", [person(3, "Chi"), person(1, "Anh")]);
        fake.delete("nguoi", &[2]);
        // The source reads its last row again; it is not told again.
        let expected = ["nguoi c 3|Chi|∅", "nguoi u 1|Anh|∅", "nguoi d 2|∅|2026-01-01T00:00:00Z"];
        assert_eq!(told(desk.changes(&mut run, 3).await), told(expected.map(str::to_owned).to_vec()), "{form}");
        run.shut().await;
    }
}

/// Without columns that are null: whether one came before or after is not of interest.
fn told(changes: Vec<String>) -> Vec<String> {
    changes.into_iter().map(|change| change.replace("|∅", "")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_costs_nothing_and_repeats_nothing_that_is_remembered() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", (1..=95).map(|id| person(id, "x")));
    let mut desk = followed(&fake, "stream");
    desk.limits.rows = 7;
    (desk.config["config"]["state_every"], desk.config["config"]["die_after"]) = (json!(40), json!(60));
    let mut run = desk.run().await;
    let mut all = Vec::new();
    let error = loop {
        match run.next().await {
            Ok(delivery) => {
                desk.checkpoint.merge(&delivery.checkpoint);
                all.extend(
                    delivery
                        .batches
                        .iter()
                        .flat_map(|batch| (0..batch.len()).map(|row| hub_conformance::cell(&batch.rows, 0, row)).collect::<Vec<_>>()),
                );
            }
            Err(why) => break why,
        }
    };
    assert!(error.contains("it was killed"), "{error}");
    assert_eq!(all.len(), 60, "what came before its death is told");
    desk.config["config"]["die_after"] = json!(0);
    let mut run = desk.run().await;
    let rest = desk.snapshot(&mut run).await;
    assert_eq!(rest.len(), 35, "{rest:?}");
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_at_fault_is_told_once_and_what_was_known_of_it_stands() {
    let mut fake = FakeAirbyte::new(&[("nguoi", json!({"id": {"type": "integer"}, "name": {"type": "boolean"}}))]);
    fake.put("nguoi", [json!({"id": 1, "name": true})]);
    let mut desk = Desk::new(fake.config(), &["nguoi"]);
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    fake.put("nguoi", [json!({"id": 1, "name": "079090000001"}), json!({"id": 5, "name": true})]);
    let changes = desk.changes(&mut run, 2).await;
    let fault = "nguoi u 1|∅ !wrong-type record 1 of this run of nguoi: it is a text, where the schema says a truth value";
    assert_eq!(changes, [fault, "nguoi c 5|true"]);
    fake.put("nguoi", [json!({"id": 6, "name": false})]);
    assert_eq!(desk.changes(&mut run, 1).await, ["nguoi c 6|false"], "the fault is not told at each look");
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_comes_beside_the_others_and_goes_with_what_was_held_of_it() {
    let schema = || json!({"id": {"type": "integer"}, "name": {"type": "string"}});
    for mode in ["whole", "changes"] {
        let mut fake = FakeAirbyte::new(&[("a", schema()), ("b", schema())]);
        fake.put("a", [person(1, "An")]);
        fake.put("b", [person(1, "Bình")]);
        let mut config = fake.config();
        config["config"]["state"] = json!("global");
        config["streams"] = json!({"a": {"mode": mode}, "b": {"mode": mode}});
        let mut desk = Desk::new(config, &["a"]);
        let mut run = desk.run().await;
        assert_eq!(desk.snapshot(&mut run).await, ["a r 1|An"]);
        run.kill().await;
        desk.streams.push(("b".to_owned(), Vec::new()));
        let mut run = desk.run().await;
        assert_eq!(desk.snapshot(&mut run).await, ["b r 1|Bình"], "{mode}");
        assert_eq!(desk.completed, ["a", "b"]);
        run.kill().await;
        desk.streams.remove(0);
        let mut run = desk.run().await;
        fake.put("b", [person(2, "Bảo")]);
        desk.changes(&mut run, 1).await;
        run.kill().await;
        assert!(desk.partitions().iter().all(|partition| !partition.contains("/a")), "{:?}", desk.partitions());
        desk.streams.insert(0, ("a".to_owned(), Vec::new()));
        desk.completed = vec!["b".to_owned()];
        let mut run = desk.run().await;
        assert_eq!(desk.snapshot(&mut run).await, ["a r 1|An"], "{mode}: it is read anew");
        run.shut().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_mode_or_key_changes_is_read_anew() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", [person(1, "An")]);
    let mut desk = Desk::new(fake.config(), &["nguoi"]);
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    run.kill().await;
    desk.config["streams"] = json!({"nguoi": {"mode": "changes"}});
    desk.completed.clear();
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["nguoi r 1|An"]);
    assert!(desk.partitions().iter().all(|partition| !partition.starts_with("known/")), "{:?}", desk.partitions());
    run.kill().await;
    desk.config["streams"] = json!({"nguoi": {"mode": "changes", "key": ["name"]}});
    desk.completed.clear();
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["nguoi r 1|An"]);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_that_fails_is_named_after_the_others_were_read() {
    let schema = || json!({"id": {"type": "integer"}, "name": {"type": "string"}});
    let mut fake = FakeAirbyte::new(&[("a", schema()), ("b", schema())]);
    fake.put("a", [person(1, "An")]);
    fake.put("b", [person(1, "Bình")]);
    let mut desk = Desk::new(fake.config(), &["a", "b"]);
    desk.config["config"]["broken"] = json!(["a"]);
    let error = desk.failure().await;
    assert_eq!((error.kind(), error.stream().map(StreamName::as_str)), (ErrorKind::StreamBroken, Some("a")), "{}", error.report());
    let mut run = desk.run().await;
    while desk.completed.is_empty() {
        desk.take(&mut run).await;
    }
    assert_eq!(desk.completed, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_does_not_go_on_from_a_checkpoint() {
    let mut fake = FakeAirbyte::persons();
    fake.put("nguoi", [person(1, "An")]);
    let mut desk = Desk::new(fake.config(), &["nguoi"]);
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    run.shut().await;
    desk.config["command"][0] = json!("/bin/cat");
    assert_eq!(desk.failure().await.kind(), ErrorKind::Mismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_mapped_columns_are_taken_and_others_are_no_change() {
    let mut fake = FakeAirbyte::new(&[("s", json!({"id": {"type": "integer"}, "name": {}, "noise": {}}))]);
    fake.put("s", [json!({"id": 1, "name": "An", "noise": 1, "more": 1})]);
    let mut desk = Desk::new(fake.config(), &["s"]);
    desk.streams[0].1 = vec!["name".to_owned()];
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["s r 1|An"]);
    fake.put("s", [json!({"id": 1, "name": "An", "noise": 2, "more": 2}), json!({"id": 2, "name": "Bo"})]);
    assert_eq!(desk.changes(&mut run, 1).await, ["s c 2|Bo"]);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_check_tells_what_stands_in_the_way() {
    let fake = FakeAirbyte::persons();
    let codes = async |change: fn(&mut Desk)| {
        let mut desk = Desk::new(fake.config(), &["nguoi"]);
        change(&mut desk);
        let probe = desk.connector().await.probe().await.unwrap();
        let shown = format!("{probe:?}");
        assert!(!shown.contains("sai-mat"), "{shown}");
        probe.findings.into_iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(|_| {}).await, Vec::<&str>::new());
    assert_eq!(codes(|desk| desk.config["secrets"] = json!({})).await, ["config-member-missing"]);
    assert_eq!(codes(|desk| desk.config["config"]["folder"] = json!(7)).await, ["config-member-type"]);
    assert_eq!(codes(|desk| desk.config["secrets"]["/password"] = json!("sai-mat-khau")).await, ["login-refused"]);
    assert_eq!(codes(|desk| desk.streams[0].0 = "khac".to_owned()).await, ["stream-missing"]);
    assert_eq!(codes(|desk| desk.streams[0].1 = vec!["tuoi".to_owned()]).await, ["column-missing"]);
    assert_eq!(codes(|desk| desk.config["protocol"] = json!("singer")).await, ["source-unreachable"]);
    fake.cut();
    assert_eq!(codes(|_| {}).await, ["source-unreachable"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_in_a_file_is_read_instead_of_asking() {
    let scratch = Scratch::new();
    let catalog = scratch.path().join("catalog.json");
    let stream = json!({"stream": "s", "key_properties": ["id"], "schema": {"properties": {"id": {"type": "integer"}}}});
    std::fs::write(&catalog, json!({"streams": [stream]}).to_string()).unwrap();
    // A tap of one line, which knows neither catalog nor discovery.
    let tap = r#"case "$*" in *catalog*|*discover*) exit 9;; esac
        echo '{"type":"SCHEMA","stream":"s","schema":{},"key_properties":["id"]}'; echo '{"type":"RECORD","stream":"s","record":{"id":7}}'"#;
    let config =
        json!({"protocol": "singer", "command": ["sh", "-c", tap, "tap"], "catalog": catalog, "catalog_argument": "", "every_s": 600});
    let mut desk = Desk::new(config, &["s"]);
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["s r 7"]);
    run.shut().await;
}
