//! What the log brings besides rows: DDL, failover, lost places, settings that spoil it, and going on in the midst of it all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/database.rs"]
mod database;
#[path = "support/rig.rs"]
mod rig;

use hub_sdk::model::{Checkpoint, Op};
use hub_sdk::{Connector, ErrorKind};
use serde_json::json;

use database::Database;
use rig::{Rig, Run, on_server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_key_is_a_delete_and_a_create_that_belong_together() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"]).await;
    let mut run = rig.run(&Checkpoint::empty()).await;
    run.until_following().await;
    rig.sql("INSERT INTO t VALUES (1, 'a'); UPDATE t SET id = 2, ten = 'b'; UPDATE t SET ten = 'c'; DELETE FROM t");
    let changes = run.changes(5).await;
    assert_eq!(changes, ["c 1 a", "d 1 a", "c 2 b", "u 2 c (b)", "d 2 c"]);
    assert_eq!(run.key_changes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_goes_on_in_its_midst_after_a_crash() {
    let rig =
        Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text); CREATE TABLE s (id int PRIMARY KEY, ten text)", &["hub.t", "hub.s"]).await;
    let mut run = rig.run(&Checkpoint::empty()).await;
    run.until_following().await;
    rig.sql(
        "BEGIN; INSERT INTO t SELECT seq, 'x' FROM seq_1_to_1000; INSERT INTO s SELECT seq, 'y' FROM seq_1_to_1000; DELETE FROM t; COMMIT",
    );
    let mut changes = Vec::new();
    // Every delivery is the last one before a crash.
    while changes.len() < 3_000 {
        // The first one of each run says that it follows, and has no rows.
        let before = changes.len();
        while changes.len() == before {
            changes.extend(run.take().await);
        }
        let checkpoint = run.checkpoint.clone();
        run.kill().await;
        run = rig.run(&checkpoint).await;
    }
    let of = |end: &str| changes.iter().filter(|change| change.ends_with(end)).cloned().collect::<Vec<_>>();
    let told = |letter: &str, end: &str| (1..=1_000).map(|id| format!("{letter} {id} {end}")).collect::<Vec<_>>();
    assert!(of("x") == [told("c", "x"), told("d", "x")].concat(), "each row of the first table once, in its order");
    assert!(of("y") == told("c", "y"), "each row of the second table once, in its order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_come_go_and_change_their_names_in_the_midst_of_the_log() {
    for metadata in ["FULL", "NO_LOG"] {
        let rig =
            Rig::with("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"], &[&format!("--binlog-row-metadata={metadata}")]).await;
        let mut run = rig.run(&Checkpoint::empty()).await;
        run.until_following().await;
        rig.sql("INSERT INTO t VALUES (1, 'a')");
        assert_eq!(run.changes(1).await, ["c 1 a"]);
        let checkpoint = run.checkpoint.clone();
        run.kill().await;
        // The log is behind all of it when it is read again.
        rig.sql("INSERT INTO t VALUES (2, 'b'); ALTER TABLE t ADD COLUMN them int; INSERT INTO t VALUES (3, 'c', 7); ALTER TABLE t ADD COLUMN nua text");
        rig.sql("INSERT INTO t VALUES (4, 'd', 8, 'n'); UPDATE t SET ten = 'e' WHERE id = 2");
        let mut run = rig.run(&checkpoint).await;
        assert_eq!(run.changes(4).await, ["c 2 b", "c 3 c 7", "c 4 d 8 n", "u 2 e ∅ ∅ (b)"], "{metadata}");
        rig.sql("ALTER TABLE t RENAME COLUMN ten TO ho_ten, DROP COLUMN nua; INSERT INTO t VALUES (5, 'f', 9)");
        assert_eq!(run.changes(1).await, ["c 5 f 9"]);
        assert_eq!(run.columns, ["id", "ho_ten", "them"], "{metadata}");
        let checkpoint = run.checkpoint.clone();
        run.kill().await;
        let mut run = rig.run(&checkpoint).await;
        rig.sql("INSERT INTO t VALUES (6, 'g', 9)");
        assert_eq!(run.changes(1).await, ["c 6 g 9"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_dropped_or_renamed_breaks_its_stream_alone() {
    for ddl in
        ["DROP TABLE t", "RENAME TABLE t TO u", "ALTER TABLE t RENAME TO u", "CREATE OR REPLACE TABLE t (id int PRIMARY KEY, ten text)"]
    {
        let rig =
            Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text); CREATE TABLE s (id int PRIMARY KEY, ten text)", &["hub.t", "hub.s"])
                .await;
        let mut run = rig.run(&Checkpoint::empty()).await;
        run.until_following().await;
        rig.sql(&format!("INSERT INTO t VALUES (1, 'a'); {ddl}; INSERT INTO s VALUES (2, 'b')"));
        assert_eq!(run.changes(1).await, ["c 1 a"]);
        let checkpoint = run.checkpoint.clone();
        let error = run.failure().await;
        assert_eq!((error.kind(), error.stream().unwrap().as_str()), (ErrorKind::StreamBroken, "hub.t"), "{ddl}: {}", error.report());
        // The engine goes on without it.
        let mut run = rig.run_of(&["hub.s"], &checkpoint).await;
        assert_eq!(run.changes(1).await, ["c 2 b"], "{ddl}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_table_of_a_system_comes_back_with_other_columns_and_is_read_anew() {
    for metadata in ["FULL", "NO_LOG"] {
        let rig =
            Rig::with("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"], &[&format!("--binlog-row-metadata={metadata}")]).await;
        let mut run = rig.run(&Checkpoint::empty()).await;
        run.until_following().await;
        rig.sql("INSERT INTO t VALUES (1, 'a')");
        assert_eq!(run.changes(1).await, ["c 1 a"]);
        let checkpoint = run.checkpoint.clone();
        rig.sql("INSERT INTO t VALUES (2, 'b'); DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, tuoi int); INSERT INTO t VALUES (7, 70)");
        assert_eq!(run.failure().await.kind(), ErrorKind::StreamBroken);
        let mut run = rig.run_of(&[], &checkpoint).await;
        run.take().await;
        let checkpoint = run.checkpoint.clone();
        run.kill().await;
        let mut run = rig.run(&checkpoint).await;
        assert_eq!(run.reads(1).await, ["r 7 70"], "{metadata}");
        rig.sql("INSERT INTO t VALUES (8, 80)");
        assert_eq!(run.changes(1).await, ["c 8 80"], "{metadata}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_system_moves_on_with_the_log_of_other_tables() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text); CREATE TABLE s (id int)", &["hub.t"]).await;
    let mut run = rig.run(&Checkpoint::empty()).await;
    run.until_following().await;
    let before = run.checkpoint.get("log").unwrap()["offset"].as_u64().unwrap();
    rig.sql("INSERT INTO s SELECT seq FROM seq_1_to_1000");
    while run.checkpoint.get("log").unwrap()["offset"].as_u64().unwrap() <= before {
        assert_eq!(run.take().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_added_while_others_are_followed() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text); CREATE TABLE s (id int PRIMARY KEY, ten text)", &["hub.t"]).await;
    let mut run = rig.run(&Checkpoint::empty()).await;
    run.until_following().await;
    rig.sql("INSERT INTO s SELECT seq, 'y' FROM seq_1_to_20000; INSERT INTO t VALUES (1, 'a')");
    assert_eq!(run.changes(1).await, ["c 1 a"]);
    let checkpoint = run.checkpoint.clone();
    run.kill().await;
    // Changes that nobody has followed yet, and that the snapshot of the added table has.
    rig.sql("UPDATE s SET ten = 'z' WHERE id <= 10; DELETE FROM s WHERE id = 11; INSERT INTO t VALUES (2, 'b')");
    let mut run = rig.run_of(&["hub.t", "hub.s"], &checkpoint).await;
    let mut rows = std::collections::BTreeMap::new();
    let mut round = 0;
    while !run.completed.contains(&"hub.s".to_owned()) || rows.len() < 20_000 {
        if round < 50 {
            round += 1;
            rig.sql(&format!(
                "UPDATE s SET ten = 'r{round}' WHERE id IN ({round}, {}); INSERT INTO s VALUES ({}, 'n')",
                20_000 - round,
                30_000 + round
            ));
        }
        for change in run.take_rows().await.into_iter().filter(|change| change.stream == "hub.s") {
            match change.op {
                Op::Read => assert!(rows.insert(change.key, change.value).is_none(), "{} is read twice", change.key),
                Op::Delete => drop(rows.remove(&change.key)),
                _ => drop(rows.insert(change.key, change.value)),
            }
        }
    }
    let mut told = rows.len();
    let wanted = rig.rows("s");
    while rows != wanted {
        for change in run.take_rows().await.into_iter().filter(|change| change.stream == "hub.s") {
            told += 1;
            drop(rows.insert(change.key, change.value));
        }
        assert!(told < 100_000, "{} rows of {}", rows.len(), wanted.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_purged_is_told_with_a_way_out() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"]).await;
    let mut run = rig.run(&Checkpoint::empty()).await;
    run.until_following().await;
    rig.sql("INSERT INTO t VALUES (1, 'a')");
    run.changes(1).await;
    let checkpoint = run.checkpoint.clone();
    run.kill().await;
    rig.sql("INSERT INTO t VALUES (2, 'b'); FLUSH BINARY LOGS; INSERT INTO t VALUES (3, 'c'); FLUSH BINARY LOGS");
    let last = rig.database.lines("SHOW BINARY LOGS").last().unwrap().split('\t').next().unwrap().to_owned();
    rig.sql(&format!("PURGE BINARY LOGS TO '{last}'"));
    let error = rig.run(&checkpoint).await.failure().await;
    assert_eq!(error.kind(), ErrorKind::PositionLost, "{}", error.report());
    assert!(error.report().contains("--resnapshot"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_takes_over_by_gtid_and_no_change_is_lost_or_told_twice() {
    let rig = Rig::with("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"], &["--log-slave-updates"]).await;
    let second = on_server(|| Database::start_with(2, &["--log-slave-updates", "--log-bin=other"])).await;
    second.run("RESET MASTER");
    let port = rig.database.port;
    rig.sql("CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'r'; GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'");
    second.run("DROP DATABASE hub; SET GLOBAL gtid_slave_pos = ''; DROP USER hub@'127.0.0.1'; RESET MASTER");
    second.run(&format!(
        "DROP DATABASE hub; RESET MASTER; CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='repl', MASTER_PASSWORD='r', \
         MASTER_USE_GTID=slave_pos; START SLAVE"
    ));
    let config = |rig: &Rig| {
        let mut config = rig.config();
        config["failover"] = json!([format!("127.0.0.1:{}", second.port)]);
        config
    };
    let mut run = rig.run_with(&config(&rig), &["hub.t"], &Checkpoint::empty()).await;
    run.until_following().await;
    rig.sql("INSERT INTO t VALUES (1, 'a'); INSERT INTO t VALUES (2, 'b')");
    run.changes(2).await;
    let checkpoint = run.checkpoint.clone();
    let before = run.last_commit;
    run.kill().await;
    rig.sql("INSERT INTO t VALUES (3, 'c'); UPDATE t SET ten = 'd'");
    rig.until(|| second.lines("SELECT COUNT(*) FROM hub.t WHERE ten = 'd'") == ["3"]).await;
    rig.link.cut();
    let mut run = rig.run_with(&config(&rig), &["hub.t"], &checkpoint).await;
    assert_eq!(run.changes(4).await, ["c 3 c", "u 1 d (a)", "u 2 d (b)", "u 3 d (c)"]);
    assert!(run.last_commit > before, "places go on growing");
    second.run("STOP SLAVE; INSERT INTO t VALUES (4, 'e')");
    assert_eq!(run.changes(1).await, ["c 4 e"]);
    let checkpoint = run.checkpoint.clone();
    run.kill().await;
    second.run("INSERT INTO t VALUES (5, 'f')");
    let mut run = rig.run_with(&config(&rig), &["hub.t"], &checkpoint).await;
    assert_eq!(run.changes(1).await, ["c 5 f"]);
    run.kill().await;
    // The first is back, but never heard of the last transactions.
    rig.link.mend();
    let error = rig.run_with(&config(&rig), &["hub.t"], &checkpoint).await.failure().await;
    assert_eq!(error.kind(), ErrorKind::PositionLost, "{}", error.report());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_not_whole_or_only_a_statement_end_the_run_in_words() {
    for (setting, words) in [("binlog_row_image = MINIMAL", "binlog_row_image"), ("binlog_format = STATEMENT", "binlog_format")] {
        let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"]).await;
        let mut run = rig.run(&Checkpoint::empty()).await;
        run.until_following().await;
        rig.sql(&format!("INSERT INTO t VALUES (1, 'a'); SET SESSION {setting}; UPDATE t SET ten = 'b'"));
        assert_eq!(run.changes(1).await, ["c 1 a"]);
        let error = run.failure().await;
        assert_eq!(error.kind(), ErrorKind::NotPrepared, "{}", error.report());
        assert!(error.report().contains(words), "{}", error.report());
        rig.sql(&format!("SET GLOBAL {setting}"));
        let probe = rig.connector(&rig.config(), &["hub.t"]).await.probe().await.unwrap();
        assert!(!probe.is_ready(), "{probe:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_events_are_rows_like_others() {
    let rig =
        Rig::with("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"], &["--log-bin-compress=ON", "--log-bin-compress-min-len=10"])
            .await;
    let mut run = rig.run(&Checkpoint::empty()).await;
    run.until_following().await;
    rig.sql("INSERT INTO t VALUES (1, REPEAT('a', 300)); UPDATE t SET ten = REPEAT('b', 300); DELETE FROM t");
    let told: Vec<_> = run.changes(3).await.iter().map(|change| change.len()).collect();
    assert_eq!(told, [304, 607, 304]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zero_dates_and_a_time_zone_are_as_configured() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, luc datetime(3))", &["hub.t"]).await;
    rig.sql("SET sql_mode = ''; INSERT INTO t VALUES (1, '2024-01-01 07:00:00.5'), (2, '0000-00-00'), (3, '2024-00-00')");
    let mut config = rig.config();
    config["time_zone"] = json!("Asia/Ho_Chi_Minh");
    let mut run = rig.run_with(&config, &["hub.t"], &Checkpoint::empty()).await;
    let mut read = run.reads(3).await;
    read.sort();
    assert_eq!(read, ["r 1 2024-01-01T00:00:00.500Z", "r 2 ∅", "r 3 ∅"]);
    assert_eq!(run.faults, ["zero-in-date"]);
    rig.sql("SET sql_mode = ''; INSERT INTO t VALUES (4, '2024-01-01 07:00:00.5'), (5, '0000-00-00'), (6, '2024-00-00')");
    assert_eq!(run.changes(3).await, ["c 4 2024-01-01T00:00:00.500Z", "c 5 ∅", "c 6 ∅"]);
    assert_eq!(run.faults, ["zero-in-date", "zero-in-date"]);
    config["zero_dates"] = json!("reject");
    let mut run: Run = rig.run_with(&config, &["hub.t"], &Checkpoint::empty()).await;
    run.reads(6).await;
    run.faults.sort();
    assert_eq!(run.faults, ["zero-date", "zero-date", "zero-in-date", "zero-in-date"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_is_what_the_server_has_and_nobody_has_acknowledged() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"]).await;
    let connector = rig.connector(&rig.config(), &["hub.t"]).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    run.until_following().await;
    rig.sql("INSERT INTO t VALUES (1, REPEAT('a', 10000))");
    run.changes(1).await;
    let lag = async || connector.gauges().await.unwrap().iter().find(|gauge| gauge.name == "lag_bytes").unwrap().value;
    assert!(lag().await >= 10_000.0);
    connector.acknowledge(&run.checkpoint);
    assert!(lag().await < 1.0, "{}", lag().await);
}
