//! Desired state: what `hub apply` writes reaches running hubs, and what it prunes leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use hub_tests_e2e::{Setup, Source, events, eventually};
use serde_json::json;

const TABLE: &str = "CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, phi numeric(14,2));";
const STREAM: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    map: {id: id, name: ten, fee: phi}
";

async fn slots(source: &Source) -> Option<String> {
    source.text(&format!("SELECT count(*)::text FROM pg_replication_slots WHERE database = '{}'", source.database)).await
}

async fn left_at(source: &Source) -> String {
    let publications = source.text("SELECT count(*)::text FROM pg_publication").await;
    format!("{} slots, {} publications", slots(source).await.unwrap(), publications.unwrap())
}

async fn released(source: &Source) {
    eventually("the source to be released", async || (left_at(source).await == "0 slots, 0 publications").then_some(())).await;
}

fn write(setup: &Setup, source: &Source, streams: &str) {
    setup.write_system(&format!(
        "system: demo\nconnector: postgres\nconfig: {{host: 127.0.0.1, port: {}, database: {}, user: postgres, slot: {}, tls: {{mode: disable}}}}\nstreams:\n{streams}",
        source.port, source.database, setup.prefix
    ));
}

fn succeeds(setup: &Setup, arguments: &[&str]) -> String {
    let output = setup.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_mapping_that_is_applied_takes_over_in_the_running_hub() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    hub.reaches("following").await;
    write(&setup, &source, &STREAM.replace("fee: phi", "fee: \"CAST(phi * 2 AS DECIMAL(14,2))\""));
    succeeds(&setup, &["apply", "--yes"]);
    let is_new = |status: &serde_json::Value| status["streams"]["public.nguoi"]["published"] == 0;
    eventually("the system to run anew", async || hub.status().await.filter(is_new)).await;
    hub.reaches("following").await;
    source.run("INSERT INTO nguoi VALUES (2, 'B', 2)").await;
    hub.counts("public.nguoi", "published", 1).await;
    let events = events(&setup, &setup.topic("person")).await;
    let mut fees: Vec<_> = events.iter().map(|event| (&event.key["id"], &event.after["fee"])).collect();
    fees.sort_by_key(|(id, _)| id.as_i64());
    assert_eq!(fees, [(&json!(1), &json!("100")), (&json!(2), &json!("400"))], "nothing is read twice, what is new is mapped anew");
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_pruned_system_leaves_no_slot_no_publication_and_no_record() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    assert_eq!(left_at(&source).await, "1 slots, 1 publications");
    std::fs::remove_file(setup.folder.join("systems/demo.yaml")).unwrap();
    assert_eq!(setup.command(&["apply", "--yes"]).status.code(), Some(2), "nothing is removed unless told");
    let told = succeeds(&setup, &["apply", "--yes", "--prune"]);
    assert!(told.contains("removed") && told.contains("slot"), "{told}");
    released(&source).await;
    eventually("the status to forget it", async || hub.get("/status").await.filter(|body| body == "[]")).await;
    assert!(!hub.get("/metrics").await.unwrap().contains("system=\"demo\""), "no series stays of it");
    write(&setup, &source, STREAM);
    succeeds(&setup, &["apply", "--yes"]);
    hub.counts("public.nguoi", "published", 1).await;
    assert!(hub.stop(), "a system of the same name begins anew, with a snapshot");
    source.remove().await;
}

#[tokio::test]
async fn a_system_that_is_pruned_while_no_hub_runs_is_removed_by_the_next_one() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.reaches("following").await;
    assert!(hub.stop());
    std::fs::remove_file(setup.folder.join("systems/demo.yaml")).unwrap();
    succeeds(&setup, &["apply", "--yes", "--prune"]);
    assert_eq!(left_at(&source).await, "1 slots, 1 publications");
    let hub = setup.run();
    released(&source).await;
    eventually("the record to go", async || hub.get("/status").await.filter(|body| body == "[]")).await;
    assert!(hub.stop());
    assert_eq!(succeeds(&setup, &["apply", "--yes", "--prune"]), "", "there is nothing left to remove");
    source.remove().await;
}

#[tokio::test]
async fn a_secret_in_plain_sight_is_refused_before_it_can_reach_kafka() {
    let source = Source::create(TABLE).await;
    let config = format!(
        "config: {{host: 127.0.0.1, port: {}, database: {}, user: postgres, password: hunter2, slot: SLOT}}",
        source.port, source.database
    );
    let setup = Setup::with_config(&config, STREAM);
    for arguments in [&["check", "--offline"][..], &["apply", "--yes"], &["run"]] {
        let output = setup.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("demo.yaml:3:") && said.contains("${file:path}") && !said.contains("hunter2"), "{arguments:?}: {said}");
    }
    source.remove().await;
}
