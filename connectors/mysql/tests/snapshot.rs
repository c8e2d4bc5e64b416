//! Rows that are already there: in chunks, after crashes, of tables with odd keys, and under DDL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/database.rs"]
mod database;
#[path = "support/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_sdk::model::{Checkpoint, Op};
use hub_sdk::{Connector, ErrorKind};
use serde_json::json;

use rig::{Rig, Row, Run};

/// What a subscriber knows, told row by row. A row that is read twice is refused.
fn learn(known: &mut BTreeMap<String, String>, rows: Vec<Row>) {
    for row in rows {
        let key = format!("{}/{}", row.stream, row.key);
        match row.op {
            Op::Truncate => known.retain(|known, _| !known.starts_with(&format!("{}/", row.stream))),
            Op::Delete => drop(known.remove(&key)),
            Op::Read => assert!(known.insert(key.clone(), row.value).is_none(), "{key} is read though it is known"),
            _ => drop(known.insert(key, row.value)),
        }
    }
}

fn source(rig: &Rig, tables: &[&str]) -> BTreeMap<String, String> {
    let of = |table: &&str| rig.rows(table).into_iter().map(move |(id, value)| (format!("hub.{table}/{id}"), value)).collect::<Vec<_>>();
    tables.iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_slice_of_any_chunk_costs_no_row_and_tells_none_twice() {
    let rig = Rig::new(
        "CREATE TABLE t (id int PRIMARY KEY, ten text); INSERT INTO t SELECT seq, 'x' FROM seq_1_to_20000;
         CREATE TABLE s (nhom int, id int, ten text, PRIMARY KEY (nhom, id)); INSERT INTO s SELECT seq % 3, seq, 'y' FROM seq_1_to_12000;
         CREATE TABLE b (ma binary(3) PRIMARY KEY, ten text); INSERT INTO b SELECT CHAR(seq % 7, seq DIV 7, 0), 'z' FROM seq_1_to_1000; ANALYZE TABLE t, s, b",
        &["hub.t", "hub.s", "hub.b"],
    )
    .await;
    rig.sql("CREATE OR REPLACE VIEW v AS SELECT 1");
    let mut checkpoint = Checkpoint::empty();
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    let mut rounds = 0;
    let mut run = rig.run(&checkpoint).await;
    while run.completed.len() < 3 || told.len() < 33_000 {
        for line in run.take_lines().await {
            *told.entry(line).or_default() += 1;
        }
        rounds += 1;
        if rounds % 3 == 0 && rounds < 90 {
            let completed = run.completed.clone();
            checkpoint = run.checkpoint.clone();
            run.kill().await;
            run = rig.run(&checkpoint).await;
            run.completed = completed;
        }
        assert!(rounds < 3_000, "{} rows", told.len());
    }
    assert_eq!((told.len(), told.values().sum::<usize>()), (33_000, 33_000), "every row, once");
    run.completed.sort();
    assert_eq!(run.completed, ["hub.b", "hub.s", "hub.t"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_move_between_chunks_while_they_are_read_are_neither_lost_nor_told_twice() {
    let rig = Rig::new(
        "CREATE TABLE t (id int PRIMARY KEY, ten text); INSERT INTO t SELECT seq, 'x' FROM seq_1_to_20000; ANALYZE TABLE t",
        &["hub.t"],
    )
    .await;
    let mut known = BTreeMap::new();
    let mut run = rig.run(&Checkpoint::empty()).await;
    for round in 1..=40 {
        rig.sql(&format!(
            "UPDATE t SET id = id + 100000, ten = 'm' WHERE id = {}; UPDATE t SET id = {round} - 1000 WHERE id = {}",
            round * 7,
            20_000 - round
        ));
        learn(&mut known, run.take_rows().await);
    }
    let wanted = source(&rig, &["t"]);
    while known != wanted {
        learn(&mut known, run.take_rows().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_a_key_or_with_one_of_text_is_read_and_followed() {
    let rig = Rig::new(
        "CREATE TABLE t (id int, ten text); INSERT INTO t SELECT seq, 'x' FROM seq_1_to_2000;
         CREATE TABLE s (id varchar(20) PRIMARY KEY, ten text); INSERT INTO s SELECT seq, 'y' FROM seq_1_to_2000;
         CREATE TABLE u (id int NOT NULL, ten text, UNIQUE (id)); INSERT INTO u SELECT seq, 'z' FROM seq_1_to_2000",
        &["hub.t", "hub.s", "hub.u"],
    )
    .await;
    let mut known = BTreeMap::new();
    let mut run = rig.run(&Checkpoint::empty()).await;
    for round in 1..=20 {
        rig.sql(&format!(
            "UPDATE t SET ten = 'm' WHERE id = {round}; DELETE FROM s WHERE id = {round}; INSERT INTO u VALUES (5000 + {round}, 'n')"
        ));
        learn(&mut known, run.take_rows().await);
    }
    let wanted = source(&rig, &["t", "s", "u"]);
    while known != wanted {
        learn(&mut known, run.take_rows().await);
    }
    let shapes = rig.connector(&rig.config(), &[]).await.discover().await.unwrap();
    let identity = |name: &str| shapes.iter().find(|shape| shape.stream.as_str() == name).unwrap().identity.clone();
    assert_eq!((identity("hub.t").len(), identity("hub.s").len(), identity("hub.u").len()), (0, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_emptied_while_it_is_read_ends_as_it_is_at_the_source() {
    let rig = Rig::new(
        "CREATE TABLE t (id int PRIMARY KEY, ten text); INSERT INTO t SELECT seq, 'x' FROM seq_1_to_30000; ANALYZE TABLE t",
        &["hub.t"],
    )
    .await;
    let mut config = rig.config();
    config["snapshot"] = json!({"workers": 1, "chunk_rows": 3000});
    let connector = rig.connector(&config, &["hub.t"]).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let mut known = BTreeMap::new();
    while known.len() < 2_000 {
        learn(&mut known, run.take_rows().await);
    }
    let mut again = 0;
    // It waits for the chunk that is being read.
    let rig = Arc::new(rig);
    let (emptying, at) = (Arc::clone(&rig), tokio::runtime::Handle::current());
    let emptied = at.spawn_blocking(move || emptying.sql("TRUNCATE TABLE t; INSERT INTO t SELECT seq, 'n' FROM seq_10001_to_10500"));
    loop {
        match run.try_take_rows().await {
            Ok(rows) => learn(&mut known, rows),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.report());
                again += 1;
                // What was read after it is read again.
                known.clear();
                run = Run::start(&connector, &run.checkpoint);
            }
        }
        if emptied.is_finished() && known == source(&rig, &["t"]) {
            break;
        }
    }
    assert!(again <= 1, "it is read anew once at most: {again}");
    println!("read anew {again} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_snapshot_only_later_changes_are_told() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text); INSERT INTO t VALUES (1, 'a')", &["hub.t"]).await;
    let mut config = rig.config();
    config["snapshot"] = json!({"mode": "never"});
    let mut run = rig.run_with(&config, &["hub.t"], &Checkpoint::empty()).await;
    run.take().await;
    rig.sql("INSERT INTO t VALUES (2, 'b')");
    assert_eq!(run.changes(1).await, ["c 2 b"]);
    assert_eq!(run.completed, Vec::<String>::new());
}
