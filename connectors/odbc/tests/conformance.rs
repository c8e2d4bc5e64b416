//! The kit on PostgreSQL, MariaDB and SQLite, each through its ODBC driver: a database of each case's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/database.rs"]
mod database;

use std::collections::BTreeMap;
use std::time::Duration;

use hub_conformance::{Fixture, Link, NULL};
use hub_connector_odbc::Odbc;
use hub_sdk::model::StreamName;
use serde_json::{Value, json};

use database::{Database, Kind, quoted};

/// A type, and its hardest values as SQL.
type Hard = (&'static str, [&'static str; 2]);

const POSTGRES: &[Hard] = &[
    ("boolean", ["true", "false"]),
    ("smallint", ["-32768", "32767"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    ("real", ["1.5", "-3.4e38"]),
    ("double precision", ["1.7976931348623157e308", "5e-324"]),
    ("numeric(14,2)", ["-999999999999.99", "0.01"]),
    ("numeric", ["123456789012345678901234567890.5", "0"]),
    ("text", ["''", "'Nguyễn Thị Ánh — Đường số 7'"]),
    ("varchar(20)", ["'a'", "repeat('Đ', 20)"]),
    ("char(5)", ["'a'", "'abcde'"]),
    ("bytea", ["''", r"'\x00ff10'"]),
    ("date", ["'0001-01-01'", "'9999-12-31'"]),
    ("timestamp", ["'2024-02-29 23:59:59.999999'", "'1900-01-01 00:00:00'"]),
    ("time", ["'23:59:59'", "'00:00:00'"]),
    ("uuid", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("jsonb", ["'null'", r#"'{"tên": [1, 2.50]}'"#]),
];

const MARIADB: &[Hard] = &[
    ("tinyint", ["-128", "127"]),
    ("tinyint unsigned", ["0", "255"]),
    ("smallint unsigned", ["0", "65535"]),
    ("int unsigned", ["0", "4294967295"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", ["0", "18446744073709551615"]),
    ("float", ["1.5", "-3.4e38"]),
    ("double", ["1.7976931348623157e308", "5e-324"]),
    ("decimal(14,2)", ["-999999999999.99", "0.01"]),
    ("decimal(38,10)", ["1234567890123456789012345678.0123456789", "0"]),
    ("varchar(20)", ["''", "repeat('Đ', 20)"]),
    ("text", ["''", "'Nguyễn Thị Ánh — Đường số 7 🏠'"]),
    ("blob", ["''", "x'00ff10'"]),
    ("date", ["'1000-01-01'", "'9999-12-31'"]),
    ("datetime(6)", ["'2024-02-29 23:59:59.999999'", "'1000-01-01 00:00:00'"]),
    ("time", ["'23:59:59'", "'00:00:00'"]),
    ("enum('a','Đ')", ["'a'", "'Đ'"]),
    ("json", ["'null'", r#"'{"tên": [1, 2.50]}'"#]),
];

const SQLITE: &[Hard] = &[
    ("INTEGER", ["-9223372036854775808", "9223372036854775807"]),
    ("REAL", ["1.7976931348623157e308", "5e-324"]),
    // The driver itself would write the letters beyond 16 bits as two.
    ("TEXT", ["''", "'Nguyễn Thị Ánh — Đường số 7 ' || char(127968)"]),
    ("VARCHAR(3)", ["'abc'", "'longer than it says'"]),
    ("BLOB", ["x'00ff10'", "x'ff'"]),
    ("NUMERIC", ["0.1", "12345678901234"]),
];

/// A database of one kind, behind a link where it has a port.
struct Source<const KIND: u8> {
    database: Database,
    link: Option<Link>,
}

impl<const KIND: u8> Source<KIND> {
    const OF: Kind = match KIND {
        0 => Kind::Postgres,
        1 => Kind::Mariadb,
        _ => Kind::Sqlite,
    };

    fn types() -> &'static [Hard] {
        match Self::OF {
            Kind::Postgres => POSTGRES,
            Kind::Mariadb => MARIADB,
            Kind::Sqlite => SQLITE,
        }
    }

    fn table(name: &str) -> String {
        if Self::OF == Kind::Postgres { format!("public.{name}") } else { name.to_owned() }
    }
}

impl<const KIND: u8> Fixture for Source<KIND> {
    type Connector = Odbc;

    async fn start() -> Self {
        let database = tokio::task::spawn_blocking(|| Database::start(Self::OF)).await.unwrap();
        let link = if Self::OF == Kind::Sqlite { None } else { Some(Link::to(database.port, true).await) };
        let columns: Vec<_> = Self::types().iter().enumerate().map(|(place, (kind, _))| format!("c{place} {kind}")).collect();
        let text = if Self::OF == Kind::Mariadb { "longtext" } else { "text" };
        database.run(&format!("CREATE TABLE nguoi (id bigint NOT NULL PRIMARY KEY, name {text})"));
        database.run(&format!("CREATE TABLE moi_kieu (id bigint NOT NULL PRIMARY KEY, {})", columns.join(", ")));
        Self { database, link }
    }

    fn stream(&self) -> StreamName {
        StreamName::new(&Self::table("nguoi")).unwrap()
    }

    fn config(&self) -> Value {
        let mut config = self.database.config(self.link.as_ref().map_or(0, |link| link.port));
        config["every_s"] = json!(0.02);
        config["login_timeout_s"] = json!(5);
        config
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        let change = match Self::OF {
            Kind::Mariadb => "ON DUPLICATE KEY UPDATE name = VALUES(name)",
            _ => "ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        };
        for rows in rows.chunks(500) {
            let values: Vec<_> = rows.iter().map(|(id, name)| format!("({id}, {})", quoted(name))).collect();
            self.database.run(&format!("INSERT INTO nguoi (id, name) VALUES {} {change}", values.join(", ")));
        }
    }

    async fn delete(&mut self, ids: &[i64]) {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        self.database.run(&format!("DELETE FROM nguoi WHERE id IN ({})", ids.join(", ")));
    }

    async fn truncate(&mut self) {
        self.database.run("DELETE FROM nguoi");
    }

    async fn rows(&mut self) -> BTreeMap<String, String> {
        let rows = self.database.pairs("SELECT id, name FROM nguoi");
        rows.into_iter().map(|(id, name)| (id, name.unwrap_or_else(|| NULL.to_owned()))).collect()
    }

    fn extremes(&self) -> StreamName {
        StreamName::new(&Self::table("moi_kieu")).unwrap()
    }

    async fn put_extremes(&mut self, first: i64) -> i64 {
        for (row, id) in (first..first + 2).enumerate() {
            let values: Vec<_> = Self::types().iter().map(|(_, values)| values[row]).collect();
            self.database.run(&format!("INSERT INTO moi_kieu VALUES ({id}, {})", values.join(", ")));
        }
        self.database.run(&format!("INSERT INTO moi_kieu (id) VALUES ({})", first + 2));
        3
    }

    fn cut(&mut self) {
        match &self.link {
            Some(link) => link.cut(),
            None => std::fs::rename(self.database.file(), self.database.lost()).unwrap(),
        }
    }

    fn mend(&mut self) {
        match &self.link {
            Some(link) => link.mend(),
            None => std::fs::rename(self.database.lost(), self.database.file()).unwrap(),
        }
    }

    async fn restart(&mut self) {
        if self.link.is_some() {
            self.database.restart();
            return;
        }
        self.cut();
        // Longer than many looks: a file that is back before anybody looked has cost nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.mend();
    }

    async fn add_column(&mut self) {
        self.database.run("ALTER TABLE nguoi ADD COLUMN them integer DEFAULT 7");
    }

    /// A file has no login: the system denies a folder in a file, whoever asks.
    fn refused(&self) -> (Value, &'static str) {
        let mut config = self.config();
        config["password"] = json!("sai-mat-khau");
        if self.link.is_none() {
            config["database"] = json!(self.database.file().join("khong.db"));
        }
        (config, "sai-mat-khau")
    }

    async fn left_behind(&mut self) -> Vec<String> {
        Vec::new()
    }
}

mod postgres {
    hub_conformance::conformance!(super::Source<0>);
}

mod mariadb {
    hub_conformance::conformance!(super::Source<1>);
}

mod sqlite {
    hub_conformance::conformance!(super::Source<2>);
}
