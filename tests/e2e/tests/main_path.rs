//! The main path on real parts: PostgreSQL → hub → Kafka, read back by an independent consumer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use hub_tests_e2e::{Event, Setup, Source, events, eventually, raw_records};
use serde_json::{Value, json};

const TABLE: &str = "CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, sinh text, phi numeric(14,2), trang_thai text, xoa boolean NOT NULL DEFAULT false);";

const STREAM: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    where: NOT xoa
    map:
      id: id
      name: ten
      born: vn_date(sinh)
      fee: phi
      status: code('person-status', 'demo', trang_thai)
";

fn of(events: &[Event], id: i64) -> Vec<&Event> {
    events.iter().filter(|event| event.key["id"] == id).collect()
}

fn ops(events: &[Event], id: i64) -> String {
    of(events, id).iter().map(|event| if event.op == "tombstone" { "0" } else { event.op.as_str() }).collect()
}

#[tokio::test]
async fn rows_that_were_there_and_later_changes_are_published_once_and_in_order() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi SELECT i, 'Nguyễn Văn ' || i, '02/09/1945', i + 0.5, 'HD' FROM generate_series(1, 5000) i").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 5000).await;
    source.run("UPDATE nguoi SET phi = 7 WHERE id = 1").await;
    source.run("UPDATE nguoi SET phi = 8 WHERE id = 1").await;
    source.run("DELETE FROM nguoi WHERE id = 2").await;
    source.run("INSERT INTO nguoi VALUES (6000, 'Trần Thị Ánh', NULL, NULL, '1')").await;
    hub.counts("public.nguoi", "published", 5004).await;
    let events = events(&setup, &setup.topic("person")).await;
    assert_eq!(ops(&events, 1), "ruu");
    assert_eq!(ops(&events, 2), "rd0");
    assert_eq!(ops(&events, 6000), "c");
    assert_eq!(events.len(), 5000 + 4 + 1, "nothing is published twice");
    let last = of(&events, 1)[2];
    assert_eq!(
        last.after,
        json!({"id": 1, "name": "Nguyễn Văn 1", "born": -8887, "fee": "800", "status": "active"}),
        "the canonical record, with the local code translated"
    );
    assert_eq!(of(&events, 1)[0].source["snapshot"], "true");
    assert_eq!(last.source["table"], "nguoi");
    assert_eq!(last.source["name"], "demo");
    assert!(hub.stop(), "SIGTERM ends the hub well");
    source.remove().await;
}

#[tokio::test]
async fn a_killed_hub_goes_on_without_loss_or_duplicate() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi SELECT i, 'A', NULL, 0, NULL FROM generate_series(1, 20000) i").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    hub.kill();
    let hub = setup.run();
    hub.reaches("following").await;
    for round in 0..10 {
        source
            .run(&format!(
                "INSERT INTO nguoi SELECT i, 'B', NULL, 0, NULL FROM generate_series({}, {}) i",
                100_000 + round * 500,
                100_499 + round * 500
            ))
            .await;
    }
    hub.kill();
    source.run("UPDATE nguoi SET ten = 'C' WHERE id <= 100").await;
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 100).await;
    let topic = setup.topic("person");
    let total = 20_000 + 5_000 + 100;
    eventually("all records", async || (raw_records(&topic).len() >= total).then_some(())).await;
    assert_eq!(raw_records(&topic).len(), total, "lost 0, duplicates 0");
    let events = events(&setup, &topic).await;
    assert_eq!(ops(&events, 1), "ru");
    assert_eq!(ops(&events, 104_999), "c");
    drop(hub);
}

#[tokio::test]
async fn a_bad_row_is_dead_lettered_with_its_reason_and_the_others_go_on() {
    let source = Source::create(TABLE).await;
    source
        .run("INSERT INTO nguoi VALUES (1, 'A', '31/02/2000', 1, 'HD'), (2, 'B', '01/02/2000', 1, 'ZZ'), (3, NULL, NULL, 1, 'HD'), (4, 'D', '1/2/2000', 1, 'DD')")
        .await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "rejected", 3).await;
    hub.counts("public.nguoi", "published", 1).await;
    let output = setup.command(&["rejects", "show", "demo", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut reasons: Vec<(String, String)> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|reject| (reject["field"].as_str().unwrap_or_default().to_owned(), reject["reason"].as_str().unwrap_or_default().to_owned()))
        .collect();
    reasons.sort();
    let expected = [("born", "bad-date"), ("name", "required-missing"), ("status", "unknown-code")];
    assert_eq!(reasons, expected.map(|(field, reason)| (field.to_owned(), reason.to_owned())));
    let metrics = hub.get("/metrics").await.unwrap();
    assert!(metrics.contains("unknown-code"), "rejects are counted by reason");
    assert!(!hub.log().contains("31/02/2000"), "no value is logged");
    drop(hub);
}

#[tokio::test]
async fn a_value_that_cannot_be_held_costs_its_row_only_where_somebody_maps_it() {
    let source = Source::create(&format!("{TABLE} ALTER TABLE nguoi ADD COLUMN diem numeric(5,2)")).await;
    // NaN is no value of a decimal.
    source.run("INSERT INTO nguoi (id, ten, diem) VALUES (1, 'A', 'NaN'); INSERT INTO nguoi (id, ten, phi) VALUES (2, 'B', 'NaN')").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "rejected", 1).await;
    hub.counts("public.nguoi", "published", 1).await;
    source.run("UPDATE nguoi SET ten = 'C' WHERE id = 1").await;
    hub.counts("public.nguoi", "published", 2).await;
    let events = events(&setup, &setup.topic("person")).await;
    assert_eq!((ops(&events, 1).as_str(), ops(&events, 2).as_str()), ("ru", ""));
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_row_that_leaves_the_filter_is_deleted_for_subscribers() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A'), (2, 'B'); UPDATE nguoi SET xoa = true WHERE id = 2").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    source.run("UPDATE nguoi SET xoa = true WHERE id = 1").await;
    hub.counts("public.nguoi", "published", 2).await;
    let events = events(&setup, &setup.topic("person")).await;
    assert_eq!(ops(&events, 1), "rd0");
    assert_eq!(ops(&events, 2), "", "a row that never met the filter is never published");
    drop(hub);
}

#[tokio::test]
async fn a_changed_key_is_a_delete_and_a_create_that_name_each_other() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A')").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    source.run("UPDATE nguoi SET id = 10 WHERE id = 1").await;
    hub.counts("public.nguoi", "published", 3).await;
    let events = events(&setup, &setup.topic("person")).await;
    assert_eq!(ops(&events, 1), "rd0");
    assert_eq!(ops(&events, 10), "c");
    assert_eq!(of(&events, 1)[1].headers, ["__debezium.newkey"]);
    assert_eq!(of(&events, 10)[0].headers, ["__debezium.oldkey"]);
    drop(hub);
}

#[tokio::test]
async fn a_long_value_left_unchanged_by_an_update_is_published_whole() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi SELECT 1, string_agg(md5(i::text), ''), NULL, 1, NULL FROM generate_series(1, 3000) i").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    source.run("UPDATE nguoi SET phi = 2").await;
    hub.counts("public.nguoi", "published", 2).await;
    let events = events(&setup, &setup.topic("person")).await;
    assert_eq!(events[1].op, "u");
    assert_eq!(events[1].after["name"], events[0].after["name"]);
    assert_eq!(events[1].after["name"].as_str().unwrap().len(), 96_000);
    drop(hub);
}

#[tokio::test]
async fn a_record_larger_than_the_broker_takes_is_rejected_and_not_fatal() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi SELECT 1, string_agg(md5(i::text), ''), NULL, 1, NULL FROM generate_series(1, 60000) i").await;
    source.run("INSERT INTO nguoi VALUES (2, 'B')").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "rejected", 1).await;
    hub.counts("public.nguoi", "published", 1).await;
    let events = events(&setup, &setup.topic("person")).await;
    assert_eq!(ops(&events, 2), "r");
    drop(hub);
}
