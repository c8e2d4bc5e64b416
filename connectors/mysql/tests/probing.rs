//! What `hub check` says, and how the server is reached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/database.rs"]
mod database;
#[path = "support/rig.rs"]
mod rig;

use hub_sdk::model::Checkpoint;
use hub_sdk::{Connector, ErrorKind};
use serde_json::json;

use rig::Rig;

async fn codes(rig: &Rig, config: &serde_json::Value, streams: &[&str]) -> Vec<(&'static str, bool)> {
    let probe = rig.connector(config, streams).await.probe().await.unwrap();
    assert!(probe.findings.iter().filter(|finding| finding.fatal).all(|finding| finding.remedy.is_some()), "{probe:?}");
    probe.findings.iter().map(|finding| (finding.code, finding.fatal)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_missing_are_told_with_their_grants() {
    let rig = Rig::with("CREATE TABLE t (id int PRIMARY KEY)", &["hub.t"], &["--binlog-row-metadata=FULL"]).await;
    rig.sql("CREATE USER bare@'127.0.0.1' IDENTIFIED BY 'p'; GRANT INSERT ON hub.t TO bare@'127.0.0.1'");
    let mut config = rig.config();
    (config["user"], config["password"]) = (json!("bare"), json!("p"));
    assert_eq!(codes(&rig, &config, &["hub.t"]).await, [("no-log-right", true), ("no-select-right", true)]);
    rig.sql("GRANT BINLOG MONITOR ON *.* TO bare@'127.0.0.1'; GRANT SELECT ON hub.t TO bare@'127.0.0.1'");
    assert_eq!(codes(&rig, &config, &["hub.t"]).await, [("no-replication-right", true)]);
    rig.sql("GRANT REPLICATION SLAVE ON *.* TO bare@'127.0.0.1'");
    assert_eq!(codes(&rig, &config, &["hub.t"]).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_cannot_be_followed_or_only_in_part_are_told() {
    let rig = Rig::with(
        "CREATE TABLE cha (id int PRIMARY KEY); CREATE TABLE con (id varchar(9) PRIMARY KEY, cha int, FOREIGN KEY (cha) REFERENCES cha (id) ON DELETE CASCADE);
         CREATE TABLE nen (id int PRIMARY KEY, x varchar(50) COMPRESSED); CREATE TABLE cu (x int) ENGINE = Aria; CREATE VIEW v AS SELECT * FROM cha",
        &[],
        &["--binlog-row-metadata=FULL", "--binlog-ignore-db=khac"],
    )
    .await;
    rig.sql("CREATE DATABASE khac; CREATE TABLE khac.t (id int PRIMARY KEY); GRANT SELECT ON khac.* TO hub@'127.0.0.1'");
    let of = async |stream: &str| codes(&rig, &rig.config(), &[stream]).await;
    assert_eq!(of("hub.con").await, [("key-not-comparable", false), ("foreign-key-cascade", false)]);
    assert_eq!(of("hub.nen").await, [("type-unknown", true)]);
    assert_eq!(of("hub.cu").await, [("no-key", false), ("engine-without-views", false)]);
    assert_eq!(of("hub.v").await, [("not-a-table", true)]);
    assert_eq!(of("hub.khong").await, [("table-missing", true)]);
    assert_eq!(of("khac.t").await, [("log-filter", true)]);
    let error = rig.run_of(&["hub.nen"], &Checkpoint::empty()).await.failure().await;
    assert_eq!((error.kind(), error.stream().unwrap().as_str()), (ErrorKind::StreamBroken, "hub.nen"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_xa_transaction_breaks_the_stream_that_it_changes() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"]).await;
    let mut run = rig.run(&Checkpoint::empty()).await;
    run.until_following().await;
    rig.sql("XA START 'x'; INSERT INTO t VALUES (1, 'a'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'");
    let error = run.failure().await;
    assert_eq!(error.kind(), ErrorKind::StreamBroken, "{}", error.report());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_is_encrypted_and_an_impostor_is_refused() {
    let folder = std::env::temp_dir().join(format!("hubmy_tls_{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    hub_conformance::authority(&folder, "ca");
    let other = folder.join("other");
    std::fs::create_dir_all(&other).unwrap();
    hub_conformance::authority(&other, "other");
    for file in ["server.key", "server.crt", "ca.pem", "."] {
        database::lend(&folder.join(file));
    }
    let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
    let settings = [format!("--ssl-cert={}", path("server.crt")), format!("--ssl-key={}", path("server.key"))];
    let mut rig = Rig::with(
        "CREATE TABLE t (id int PRIMARY KEY, ten text); INSERT INTO t VALUES (1, 'a')",
        &["hub.t"],
        &[&settings[0], &settings[1]],
    )
    .await;
    rig.limits = hub_sdk::BatchLimits::default();
    rig.sql("ALTER USER hub@'127.0.0.1' REQUIRE SSL");
    let plain = rig.run(&Checkpoint::empty()).await.failure().await;
    assert_eq!(plain.kind(), ErrorKind::Denied, "{}", plain.report());
    let mut config = rig.config();
    config["host"] = json!("localhost");
    config["tls"] = json!({"mode": "verify-full", "ca": path("ca.pem")});
    let mut run = rig.run_with(&config, &["hub.t"], &Checkpoint::empty()).await;
    assert_eq!(run.reads(1).await, ["r 1 a"]);
    rig.sql("INSERT INTO t VALUES (2, 'b')");
    assert_eq!(run.changes(1).await, ["c 2 b"]);
    // More than what waits in the midst of a transaction before it rests.
    rig.sql("INSERT INTO t SELECT seq, REPEAT('n', 500) FROM seq_3_to_5000");
    assert_eq!(run.changes(4_998).await.len(), 4_998);
    config["tls"]["ca"] = json!(path("other/other.pem"));
    let error = rig.run_with(&config, &["hub.t"], &Checkpoint::empty()).await.failure().await;
    assert_eq!(error.kind(), ErrorKind::BadConfig, "{}", error.report());
    drop(std::fs::remove_dir_all(&folder));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_times_of_an_old_server_are_read_like_new_ones() {
    let rig = Rig::with(
        "CREATE TABLE t (id int PRIMARY KEY, ten datetime, b time, c timestamp NULL)",
        &["hub.t"],
        &["--mysql56-temporal-format=OFF"],
    )
    .await;
    let row = |id: u32| {
        format!("SET time_zone = '+00:00'; INSERT INTO t VALUES ({id}, '2024-02-29 23:59:58', '-101:02:03', '2024-02-29 23:59:58')")
    };
    rig.sql(&row(1));
    let mut run = rig.run(&Checkpoint::empty()).await;
    let read = run.reads(1).await;
    rig.sql(&row(2));
    let told = run.changes(1).await;
    assert_eq!(read, ["r 1 2024-02-29T23:59:58 -101:02:03 2024-02-29T23:59:58Z"]);
    assert_eq!(told, ["c 2 2024-02-29T23:59:58 -101:02:03 2024-02-29T23:59:58Z"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_thrown_out_by_another_of_its_number_says_so() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, ten text)", &["hub.t"]).await;
    let mut run = rig.run(&Checkpoint::empty()).await;
    run.until_following().await;
    rig.sql("INSERT INTO t VALUES (1, 'a')");
    run.changes(1).await;
    let mut other = rig.run(&run.checkpoint).await;
    other.take().await;
    let error = run.failure().await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.report());
    rig.sql("INSERT INTO t VALUES (2, 'b')");
    assert_eq!(other.changes(1).await, ["c 2 b"]);
}
