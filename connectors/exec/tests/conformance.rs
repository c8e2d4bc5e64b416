//! The kit on a real Singer tap that reads a real PostgreSQL whole, and on a made-up Airbyte source that is followed by its state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use hub_conformance::{Fixture, Link, NULL};
use hub_connector_exec::Exec;
use hub_sdk::model::StreamName;
use serde_json::{Value, json};

use support::fake::FakeAirbyte;
use support::postgres::{PASSWORD, Postgres, quoted};
use support::{Scratch, source};

/// Types that the tap reads, and their hardest values as SQL. It leaves `bytea` out.
const TYPES: &[(&str, [&str; 2])] = &[
    ("boolean", ["true", "false"]),
    ("smallint", ["-32768", "32767"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    ("real", ["1.5", "-3.4e38"]),
    ("double precision", ["1.7976931348623157e308", "5e-324"]),
    ("numeric(14,2)", ["-999999999999.99", "0.01"]),
    ("text", ["''", "E'Nguyễn Thị Ánh — \"Đường\" số 7 🏠\\n\\t\\\\'"]),
    ("varchar(20)", ["'a'", "repeat('Đ', 20)"]),
    ("date", ["'0001-01-01'", "'9999-12-31'"]),
    ("timestamp", ["'2024-02-29 23:59:59.999999'", "'1900-01-01 00:00:00'"]),
    ("timestamptz", ["'2024-02-29 23:59:59.999999+07'", "'1900-01-01 00:00:00+00'"]),
    ("time", ["'23:59:59'", "'00:00:00'"]),
    ("uuid", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("jsonb", ["'[]'", r#"'{"tên": [1, 2.50]}'"#]),
    ("integer[]", ["'{}'", "'{1,NULL,-2}'"]),
];

/// PostgreSQL behind a link, read by `pipelinewise-tap-postgres`.
struct Tap {
    server: Postgres,
    link: Link,
    scratch: Scratch,
    program: String,
}

impl Fixture for Tap {
    type Connector = Exec;

    async fn start() -> Self {
        let start = || (Postgres::start(), source("tap-postgres", "tap-postgres"));
        let (server, program) = tokio::task::spawn_blocking(start).await.unwrap();
        let link = Link::to(server.port, true).await;
        let columns: Vec<_> = TYPES.iter().enumerate().map(|(place, (kind, _))| format!("c{place} {kind}")).collect();
        server.run("CREATE TABLE nguoi (id bigint NOT NULL PRIMARY KEY, name text)");
        server.run(&format!("CREATE TABLE moi_kieu (id bigint NOT NULL PRIMARY KEY, {})", columns.join(", ")));
        Self { server, link, scratch: Scratch::new(), program }
    }

    fn stream(&self) -> StreamName {
        StreamName::new("public-nguoi").unwrap()
    }

    fn config(&self) -> Value {
        json!({
            "protocol": "singer",
            "command": [self.program],
            "config": {"host": "127.0.0.1", "port": self.link.port, "user": "hub", "dbname": "postgres", "filter_schemas": "public"},
            "secrets": {"/password": PASSWORD},
            "folder": self.scratch.path(),
            "every_s": 0.02,
        })
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        for rows in rows.chunks(5_000) {
            let values: Vec<_> = rows.iter().map(|(id, name)| format!("({id}, {})", quoted(name.as_deref()))).collect();
            let change = "ON CONFLICT (id) DO UPDATE SET name = excluded.name";
            self.server.run(&format!("INSERT INTO nguoi (id, name) VALUES {} {change}", values.join(", ")));
        }
    }

    async fn delete(&mut self, ids: &[i64]) {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        self.server.run(&format!("DELETE FROM nguoi WHERE id IN ({})", ids.join(", ")));
    }

    async fn truncate(&mut self) {
        self.server.run("DELETE FROM nguoi");
    }

    async fn rows(&mut self) -> BTreeMap<String, String> {
        self.server.pairs("SELECT id, name FROM nguoi").into_iter().collect()
    }

    fn extremes(&self) -> StreamName {
        StreamName::new("public-moi_kieu").unwrap()
    }

    async fn put_extremes(&mut self, first: i64) -> i64 {
        for (row, id) in (first..first + 2).enumerate() {
            let values: Vec<_> = TYPES.iter().map(|(_, values)| values[row]).collect();
            self.server.run(&format!("INSERT INTO moi_kieu VALUES ({id}, {})", values.join(", ")));
        }
        self.server.run(&format!("INSERT INTO moi_kieu (id) VALUES ({})", first + 2));
        3
    }

    fn cut(&mut self) {
        self.link.cut();
    }

    fn mend(&mut self) {
        self.link.mend();
    }

    async fn restart(&mut self) {
        self.server.kill();
        // Longer than a run: a server that is back before anybody asked it has cost nothing.
        tokio::time::sleep(Duration::from_secs(4)).await;
        self.server.again();
    }

    async fn add_column(&mut self) {
        self.server.run("ALTER TABLE nguoi ADD COLUMN them integer DEFAULT 7");
    }

    fn refused(&self) -> (Value, &'static str) {
        let mut config = self.config();
        config["secrets"]["/password"] = json!("sai-mat-khau");
        (config, "sai-mat-khau")
    }

    /// The folders of runs, which hold secrets.
    async fn left_behind(&mut self) -> Vec<String> {
        let entries = std::fs::read_dir(self.scratch.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The made-up source, which has one state for all streams and reads its last change again.
struct Followed {
    fake: FakeAirbyte,
    has_column: bool,
}

fn person(id: i64, name: Option<&str>, has_column: bool) -> Value {
    let mut row = json!({"id": id, "name": name});
    if has_column {
        row["them"] = json!(7);
    }
    row
}

impl Fixture for Followed {
    type Connector = Exec;

    async fn start() -> Self {
        let any = json!({"id": {"type": "integer"}, "i": {"type": ["integer", "null"]}, "n": {"type": ["number", "null"]}, "b": {"type": ["boolean", "null"]},
            "t": {"type": ["string", "null"], "format": "date-time"}, "s": {"type": ["string", "null"]}, "o": {"type": ["object", "null"]},
            "a": {"type": ["array", "null"]}, "x": {}});
        let persons = json!({"id": {"type": "integer"}, "name": {"type": ["null", "string"]}});
        Self { fake: FakeAirbyte::new(&[("nguoi", persons), ("moi_kieu", any)]), has_column: false }
    }

    fn stream(&self) -> StreamName {
        StreamName::new("nguoi").unwrap()
    }

    fn config(&self) -> Value {
        let mut config = self.fake.config();
        config["config"]["state"] = json!("global");
        config["streams"] = json!({"nguoi": {"mode": "changes", "deleted_at": "_ab_cdc_deleted_at"}, "moi_kieu": {"mode": "changes"}});
        config
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        let has_column = self.has_column;
        self.fake.put("nguoi", rows.iter().map(|(id, name)| person(*id, name.as_deref(), has_column)));
    }

    async fn delete(&mut self, ids: &[i64]) {
        self.fake.delete("nguoi", ids);
    }

    async fn truncate(&mut self) {
        let ids: Vec<i64> = self.fake.rows.get("nguoi").into_iter().flatten().map(|(id, _)| *id).collect();
        self.fake.delete("nguoi", &ids);
    }

    async fn rows(&mut self) -> BTreeMap<String, String> {
        let name = |row: &Value| row["name"].as_str().unwrap_or(NULL).to_owned();
        self.fake.rows.get("nguoi").into_iter().flatten().map(|(id, row)| (id.to_string(), name(row))).collect()
    }

    fn extremes(&self) -> StreamName {
        StreamName::new("moi_kieu").unwrap()
    }

    async fn put_extremes(&mut self, first: i64) -> i64 {
        self.fake.put(
            "moi_kieu",
            [
                json!({"id": first, "i": i64::MIN, "n": 5e-324, "b": true, "t": "0001-01-01T00:00:00Z", "s": "", "o": {}, "a": [], "x": 1.5}),
                json!({"id": first + 1, "i": i64::MAX, "n": -0.1, "b": false, "t": "9999-12-31T23:59:59.999999+07:00",
                    "s": "Nguyễn \"Ánh\"\n\t\\ \u{0} 🏠", "o": {"tên": [1, {"a": null}]}, "a": [null, "x"], "x": "chữ"}),
                json!({"id": first + 2}),
            ],
        );
        3
    }

    fn cut(&mut self) {
        self.fake.cut();
    }

    fn mend(&mut self) {
        self.fake.mend();
    }

    async fn restart(&mut self) {
        self.fake.cut();
        // Longer than a run: a source that is back before anybody asked it has cost nothing.
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.fake.mend();
    }

    async fn add_column(&mut self) {
        self.has_column = true;
    }

    fn refused(&self) -> (Value, &'static str) {
        let mut config = self.config();
        config["secrets"]["/password"] = json!("sai-mat-khau");
        (config, "sai-mat-khau")
    }

    async fn left_behind(&mut self) -> Vec<String> {
        let entries = std::fs::read_dir(self.fake.work()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

mod tap_postgres {
    hub_conformance::conformance!(super::Tap);
}

mod fake_airbyte {
    hub_conformance::conformance!(super::Followed);
}
