//! Reading a system anew: what went away while nobody followed goes away for subscribers too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use hub_tests_e2e::{Event, Hub, Setup, Source, events, eventually};

const TABLE: &str =
    "CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, phi numeric(14,2)); CREATE TABLE khac (LIKE nguoi INCLUDING ALL);";
const STREAM: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    where: ten IS DISTINCT FROM 'bỏ qua'
    map: {id: id, name: ten, fee: phi}
";

/// The operations of each key in the topic, in order.
async fn told(setup: &Setup) -> BTreeMap<i64, String> {
    let mut told = BTreeMap::new();
    for Event { key, op, .. } in events(setup, &setup.topic("person")).await {
        let letters: &mut String = told.entry(key["id"].as_i64().unwrap()).or_default();
        letters.push_str(if op == "tombstone" { "0" } else { &op });
    }
    told
}

async fn eventually_told(setup: &Setup, what: &str, expected: &[(i64, &str)]) {
    let expected: BTreeMap<i64, String> = expected.iter().map(|(key, ops)| (*key, (*ops).to_owned())).collect();
    eventually(what, async || (told(setup).await == expected).then_some(())).await;
}

fn agrees(setup: &Setup) -> bool {
    setup.command(&["verify", "demo", "--wait", "2"]).status.success()
}

/// A hub that has published rows 1 to `rows` and follows.
async fn following(setup: &Setup, source: &Source, rows: u64) -> Hub {
    source.run(&format!("INSERT INTO nguoi SELECT n, 'người ' || n, n FROM generate_series(1, {rows}) n")).await;
    let hub = setup.run();
    hub.counts("public.nguoi", "published", rows).await;
    hub.reaches("following").await;
    hub
}

/// A source whose first rows are published, and which no slot follows any more.
async fn after_a_lost_slot(rows: u64) -> (Source, Setup) {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    assert!(following(&setup, &source, rows).await.stop());
    let slots = format!("FROM pg_replication_slots WHERE database = '{}'", source.database);
    eventually("the slot's release", async || source.text(&format!("SELECT 'free' {slots} AND NOT active")).await).await;
    source.run(&format!("SELECT pg_drop_replication_slot(slot_name) {slots}")).await;
    (source, setup)
}

#[tokio::test]
async fn rows_that_were_deleted_while_the_slot_was_lost_are_deleted_for_subscribers() {
    let (source, setup) = after_a_lost_slot(5).await;
    source
        .run("DELETE FROM nguoi WHERE id IN (2, 3); UPDATE nguoi SET ten = 'bỏ qua' WHERE id = 4; INSERT INTO nguoi VALUES (6, 'mới', 6)")
        .await;
    let hub = setup.run_with(&["--resnapshot", "demo"]);
    // A change that comes later stays later: the deleted key is there again.
    hub.reaches("following").await;
    source.run("INSERT INTO nguoi VALUES (2, 'lại', 2)").await;
    eventually_told(&setup, "the deletes", &[(1, "rr"), (2, "rd0c"), (3, "rd0"), (4, "rd0"), (5, "rr"), (6, "r")]).await;
    assert!(agrees(&setup), "{}", hub.log());
    // Once is enough: a restart deletes nothing again.
    assert!(hub.stop());
    let hub = setup.run();
    hub.reaches("following").await;
    source.run("INSERT INTO nguoi VALUES (7, 'sau', 7)").await;
    eventually_told(&setup, "row 7", &[(1, "rr"), (2, "rd0c"), (3, "rd0"), (4, "rd0"), (5, "rr"), (6, "r"), (7, "c")]).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_row_that_is_refused_when_read_anew_keeps_what_subscribers_have_of_it() {
    let (source, setup) = after_a_lost_slot(4).await;
    // NaN is no decimal: the row is there and cannot be published.
    source.run("UPDATE nguoi SET phi = 'NaN' WHERE id = 2; DELETE FROM nguoi WHERE id = 3").await;
    let hub = setup.run_with(&["--resnapshot", "demo"]);
    eventually_told(&setup, "the delete", &[(1, "rr"), (2, "r"), (3, "rd0"), (4, "rr")]).await;
    hub.counts("public.nguoi", "rejected", 1).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_parked_stream_that_is_read_anew_deletes_nothing() {
    let (source, setup) = after_a_lost_slot(4).await;
    source.run("ALTER TABLE nguoi RENAME COLUMN phi TO le_phi; DELETE FROM nguoi WHERE id = 3").await;
    let hub = setup.run_with(&["--resnapshot", "demo"]);
    hub.counts("public.nguoi", "rejected", 3).await;
    eventually("the reason", async || hub.log().contains("whose keys are not known").then_some(())).await;
    assert!(told(&setup).await.values().all(|ops| ops == "r"), "all of them are in the rejects topic, and none is gone");
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_truncate_that_a_compacted_topic_cannot_say_is_made_good_by_reading_anew() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    let hub = following(&setup, &source, 3).await;
    source.run("TRUNCATE nguoi").await;
    hub.counts("public.nguoi", "rejected", 1).await;
    assert!(!agrees(&setup), "three rows are gone at the source alone");
    assert!(hub.stop());
    let hub = setup.run_with(&["--resnapshot", "demo"]);
    eventually_told(&setup, "the deletes", &[(1, "rd0"), (2, "rd0"), (3, "rd0")]).await;
    assert!(agrees(&setup));
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn killed_at_any_moment_of_reading_anew_it_still_deletes_what_is_gone_and_nothing_else() {
    let (source, setup) = after_a_lost_slot(20_000).await;
    source.run("DELETE FROM nguoi WHERE id % 2 = 0").await;
    let mut hub = setup.run_with(&["--resnapshot", "demo"]);
    eventually("the old checkpoint's end", async || (hub.log().matches("slot made").count() > 1).then_some(())).await;
    // From before the first row to after the last delete.
    for step in 1..=6 {
        tokio::time::sleep(Duration::from_millis(step * 250)).await;
        hub.kill();
        hub = setup.run();
    }
    hub.reaches("following").await;
    eventually("agreement", async || agrees(&setup).then_some(())).await;
    let told = told(&setup).await;
    let wrong: Vec<_> = told.iter().filter(|(key, ops)| ops.ends_with("d0") != (*key % 2 == 0)).take(5).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(told.values().all(|ops| ops.matches('d').count() <= 1), "no delete comes twice");
    assert!(hub.stop());
    source.remove().await;
}
