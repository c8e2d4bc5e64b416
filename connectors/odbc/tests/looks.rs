//! What single modes promise, on real databases: watermarks, comparisons, the change tables of CDC, values that do not fit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/database.rs"]
#[allow(dead_code, reason = "shared with the kit's fixture")]
mod database;

use std::sync::Arc;

use hub_conformance::{Run, cell};
use hub_connector_odbc::Odbc;
use hub_sdk::model::{Checkpoint, StreamName, SystemName};
use hub_sdk::{Connector, ErrorKind, OpenContext, StreamRequest};
use serde_json::{Value, json};

use database::{Database, Kind};

/// A database with a table `t`, and the connector on its one stream `s`.
struct Rig {
    database: Database,
    stream: Value,
    checkpoint: Checkpoint,
}

impl Rig {
    async fn start(kind: Kind, setup: &[&str], stream: Value) -> Self {
        let database = tokio::task::spawn_blocking(move || Database::start(kind)).await.unwrap();
        setup.iter().for_each(|sql| database.run(sql));
        Self { database, stream, checkpoint: Checkpoint::empty() }
    }

    async fn connector(&self) -> Arc<Odbc> {
        let mut config = self.database.config(self.database.port);
        config["every_s"] = json!(0.02);
        config["max_value_kib"] = json!(1);
        config["streams"] = json!({"s": self.stream});
        let streams = vec![StreamRequest { stream: StreamName::new("s").unwrap(), columns: Vec::new() }];
        let context = OpenContext::new(SystemName::new("thu").unwrap(), streams);
        Arc::new(Odbc::open(serde_json::from_value(config).unwrap(), context).await.unwrap())
    }

    async fn run(&self) -> Run<Odbc> {
        Run::start(&self.connector().await, &self.checkpoint)
    }

    /// Takes deliveries until so many rows are told: op, first two cells, and the fault of each.
    async fn take(&mut self, run: &mut Run<Odbc>, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told.len() < count {
            let delivery = run.next().await.unwrap_or_else(|why| panic!("{why}; told {told:?}"));
            self.checkpoint.merge(&delivery.checkpoint);
            for batch in &delivery.batches {
                for (row, op) in batch.ops.iter().enumerate() {
                    let fault = batch.faults.iter().find(|fault| fault.row as usize == row).map_or("", |fault| fault.code);
                    told.push(
                        format!("{} {} {} {fault}", op.letter(), cell(&batch.rows, 0, row), cell(&batch.rows, 1, row)).trim().to_owned(),
                    );
                }
            }
        }
        told
    }

    async fn probe(&self) -> Vec<&'static str> {
        self.connector().await.probe().await.unwrap().findings.into_iter().map(|finding| finding.code).collect()
    }
}

const TABLE: &str = "CREATE TABLE t (id integer PRIMARY KEY, name varchar(20), at timestamp NOT NULL)";

fn by_time(more: &Value) -> Value {
    let mut mark = json!({"column": "at", "kind": "timestamp", "overlap_s": 60});
    mark.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"table": "public.t", "mode": {"watermark": mark}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_commits_late_within_the_overlap_is_told_and_no_row_twice() {
    let first = "INSERT INTO t VALUES (1, 'a', '2024-01-01 00:00:00'), (2, 'b', '2024-01-01 00:01:00')";
    let mut rig = Rig::start(Kind::Postgres, &[TABLE, first], by_time(&json!({}))).await;
    let mut run = rig.run().await;
    assert_eq!(rig.take(&mut run, 2).await, ["r 1 a", "r 2 b"]);
    rig.database.run("INSERT INTO t VALUES (3, 'late', '2024-01-01 00:00:30')");
    assert_eq!(rig.take(&mut run, 1).await, ["c 3 late"]);
    rig.database.run("UPDATE t SET name = 'B', at = '2024-01-01 00:02:00' WHERE id = 2");
    assert_eq!(rig.take(&mut run, 1).await, ["u 2 B"]);
    run.kill().await;
    // The next run knows what was told in the window.
    rig.database.run("INSERT INTO t VALUES (4, 'd', '2024-01-01 00:01:30')");
    let mut run = rig.run().await;
    assert_eq!(rig.take(&mut run, 1).await, ["c 4 d"]);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_comparison_beside_a_watermark_finds_deletes() {
    let first = "INSERT INTO t VALUES (1, 'a', '2024-01-01 00:00:00'), (2, 'b', '2024-01-01 00:01:00')";
    let mut rig = Rig::start(Kind::Postgres, &[TABLE, first], by_time(&json!({"full_compare_every_s": 0.1}))).await;
    let mut run = rig.run().await;
    assert_eq!(rig.take(&mut run, 2).await, ["r 1 a", "r 2 b"]);
    rig.database.run("DELETE FROM t WHERE id = 1");
    assert_eq!(rig.take(&mut run, 1).await, ["d 1 ∅"]);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_older_than_the_overlap_comes_again_as_a_create() {
    let setup = ["CREATE TABLE t (id integer PRIMARY KEY, v bigint NOT NULL)", "INSERT INTO t VALUES (1, 10), (2, 20)"];
    let stream = json!({"table": "t", "mode": {"watermark": {"column": "v", "kind": "number"}}});
    let mut rig = Rig::start(Kind::Mariadb, &setup, stream).await;
    let mut run = rig.run().await;
    assert_eq!(rig.take(&mut run, 2).await, ["r 1 10", "r 2 20"]);
    rig.database.run("UPDATE t SET v = 30 WHERE id = 1");
    assert_eq!(rig.take(&mut run, 1).await, ["c 1 30"]);
    run.shut().await;
}

/// Tables and functions in the shape of SQL Server's change data capture; the real one cannot be had here.
const CDC: &[&str] = &[
    "CREATE TABLE t (id integer PRIMARY KEY, name varchar(20))",
    "INSERT INTO t VALUES (1, 'a')",
    "CREATE SCHEMA cdc",
    "CREATE SCHEMA fake_sys",
    r#"CREATE TABLE cdc."dbo_t_CT" ("__$start_lsn" bytea, "__$seqval" bytea, "__$operation" integer, id integer, name varchar(20))"#,
    "CREATE TABLE fake_sys.lsn (lowest bytea, highest bytea)",
    r"INSERT INTO fake_sys.lsn VALUES ('\x00000000000000000001', '\x00000000000000000005')",
    "CREATE FUNCTION fake_sys.fn_cdc_get_max_lsn() RETURNS bytea LANGUAGE sql AS 'SELECT highest FROM fake_sys.lsn'",
    "CREATE FUNCTION fake_sys.fn_cdc_get_min_lsn(text) RETURNS bytea LANGUAGE sql AS 'SELECT lowest FROM fake_sys.lsn'",
    "GRANT USAGE ON SCHEMA fake_sys, cdc TO hub",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_tables_are_read_on_from_their_position_and_a_cleaned_one_is_told() {
    let stream = json!({"table": "public.t", "key": ["id"], "mode": {"cdc": {"instance": "dbo_t", "functions": "fake_sys"}}});
    let mut rig = Rig::start(Kind::Postgres, CDC, stream).await;
    let mut run = rig.run().await;
    assert_eq!(rig.take(&mut run, 1).await, ["r 1 a"]);
    let changes = r#"INSERT INTO cdc."dbo_t_CT" VALUES
        ('\x00000000000000000006', '\x00000000000000000001', 2, 2, 'b'), ('\x00000000000000000006', '\x00000000000000000002', 3, 2, 'b'),
        ('\x00000000000000000006', '\x00000000000000000002', 4, 2, 'B'), ('\x00000000000000000007', '\x00000000000000000001', 1, 1, 'a')"#;
    rig.database.run(changes);
    rig.database.run(r"UPDATE fake_sys.lsn SET highest = '\x00000000000000000007'");
    let told = rig.take(&mut run, 3).await;
    assert_eq!(told, ["c 2 b", "u 2 B", "d 1 a"]);
    run.kill().await;
    rig.database.run(r#"INSERT INTO cdc."dbo_t_CT" VALUES ('\x00000000000000000008', '\x00000000000000000001', 2, 3, 'c')"#);
    rig.database.run(r"UPDATE fake_sys.lsn SET highest = '\x00000000000000000008'");
    let mut run = rig.run().await;
    assert_eq!(rig.take(&mut run, 1).await, ["c 3 c"]);
    run.kill().await;
    rig.database.run(r"UPDATE fake_sys.lsn SET lowest = '\x00000000000000000100', highest = '\x00000000000000000200'");
    let error = rig.run().await.failure().await;
    assert_eq!(error.kind(), ErrorKind::PositionLost, "{}", error.report());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_too_long_costs_its_row_and_is_never_cut() {
    let long = format!("INSERT INTO t VALUES (1, 'a'), (2, '{}'), (3, 'c')", "x".repeat(5_000));
    let setup = ["CREATE TABLE t (id integer PRIMARY KEY, name text)", &long];
    for (kind, table) in [(Kind::Postgres, "public.t"), (Kind::Sqlite, "t"), (Kind::Mariadb, "t")] {
        let mut rig = Rig::start(kind, &setup, json!({"table": table})).await;
        let mut run = rig.run().await;
        assert_eq!(rig.take(&mut run, 3).await, ["r 1 a", "r 2 ∅ value-too-long", "r 3 c"], "{kind:?}");
        run.shut().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_without_a_key_that_is_unique_tells_which_rows_are_doubted() {
    let setup = ["CREATE TABLE t (id integer PRIMARY KEY, name varchar(20))", "INSERT INTO t VALUES (1, 'a'), (2, 'a')"];
    let mut rig = Rig::start(Kind::Sqlite, &setup, json!({"query": "SELECT name, id FROM t ORDER BY id", "key": ["name"]})).await;
    let mut run = rig.run().await;
    assert_eq!(rig.take(&mut run, 2).await, ["r a 1", "r a 2 key-twice"]);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_names_what_stands_in_the_way() {
    let setup = ["CREATE TABLE t (id integer, name varchar(20), at timestamp)"];
    let mut rig = Rig::start(Kind::Postgres, &setup, json!({"table": "public.t"})).await;
    assert_eq!(rig.probe().await, ["key-missing"]);
    rig.stream = json!({"table": "public.tt", "key": ["id"]});
    assert_eq!(rig.probe().await, ["table-missing"]);
    rig.stream = json!({"table": "public.t", "key": ["idd"]});
    assert_eq!(rig.probe().await, ["column-missing"]);
    rig.stream = json!({"table": "public.t", "key": ["id"], "mode": {"watermark": {"column": "att", "kind": "timestamp"}}});
    assert_eq!(rig.probe().await, ["watermark-missing"]);
    rig.stream = json!({"table": "public.t", "key": ["id"], "mode": {"watermark": {"column": "name", "kind": "timestamp"}}});
    assert!(rig.probe().await.contains(&"watermark-kind"));
    rig.database.run("CREATE ROLE other LOGIN PASSWORD 'x'; REVOKE pg_read_all_data FROM hub");
    rig.stream = json!({"table": "public.t", "key": ["id"]});
    assert_eq!(rig.probe().await, ["no-select-right"]);
}
