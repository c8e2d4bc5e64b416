//! The kit on MariaDB: a server of each case's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/database.rs"]
mod database;

use std::collections::BTreeMap;

use hub_conformance::{Fixture, Link, NULL};
use hub_connector_mysql::Mysql;
use hub_sdk::model::StreamName;
use serde_json::{Value, json};

use database::{Database, quoted};

/// A type, and its hardest values as SQL.
type Hard = (&'static str, [&'static str; 2]);

const TYPES: &[Hard] = &[
    ("tinyint", ["-128", "127"]),
    ("tinyint unsigned", ["0", "255"]),
    ("smallint", ["-32768", "32767"]),
    ("smallint unsigned", ["0", "65535"]),
    ("mediumint", ["-8388608", "8388607"]),
    ("mediumint unsigned", ["0", "16777215"]),
    ("int", ["-2147483648", "2147483647"]),
    ("int unsigned", ["0", "4294967295"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", ["0", "18446744073709551615"]),
    ("float", ["1.1", "-3.4e38"]),
    ("double", ["1.7976931348623157e308", "5e-324"]),
    ("decimal(14,2)", ["-999999999999.99", "0.01"]),
    ("decimal(38,10)", ["-1234567890123456789012345678.0123456789", "0"]),
    ("decimal(65,30)", ["-12345678901234567890123456789012345.000000000000000000000000000001", "0"]),
    ("decimal(9,9)", ["-0.123456789", "0.000000001"]),
    ("char(5)", ["''", "'Đỗ'"]),
    ("char(255)", ["'a'", "repeat('ệ', 255)"]),
    ("varchar(20)", ["''", "repeat('Đ', 20)"]),
    ("varchar(2000)", ["'a'", "repeat('Đ', 2000)"]),
    ("tinytext", ["''", "'x'"]),
    ("text", ["''", "'Nguyễn Thị Ánh — Đường số 7 🏠'"]),
    ("mediumtext", ["repeat('ộ', 70000)", "''"]),
    ("longtext", ["'a'", "repeat('dài ', 100000)"]),
    ("varchar(30) character set latin1", ["'café € Œ'", "''"]),
    ("varchar(30) character set tis620", ["'สวัสดี'", "'a'"]),
    ("varchar(30) character set cp850", ["'Çüé░'", "'a'"]),
    ("varchar(30) character set gbk", ["'中文'", "'a'"]),
    ("varchar(30) character set sjis", ["'日本'", "'a'"]),
    ("varchar(30) character set ucs2", ["'ệ'", "''"]),
    ("varchar(30) character set utf16", ["'🏠ệ'", "'a'"]),
    ("text character set utf32", ["'🏠ệ'", "'a'"]),
    ("binary(4)", ["x'00ff0000'", "x'00000000'"]),
    ("binary(255)", ["x'61'", "x''"]),
    ("varbinary(10)", ["x'00ff00'", "x''"]),
    ("blob", ["x'00ff10'", "''"]),
    ("longblob", ["repeat(x'00ff', 50000)", "''"]),
    ("bit(1)", ["b'0'", "b'1'"]),
    ("bit(10)", ["b'1000000001'", "b'0'"]),
    ("bit(64)", ["b'1111111111111111111111111111111111111111111111111111111111111111'", "b'1'"]),
    ("date", ["'1000-01-01'", "'9999-12-31'"]),
    ("datetime", ["'2024-02-29 23:59:59'", "'1000-01-01 00:00:00'"]),
    ("datetime(1)", ["'2024-02-29 23:59:59.9'", "'0001-01-01 00:00:00'"]),
    ("datetime(3)", ["'2024-02-29 23:59:59.999'", "'9999-12-31 23:59:59.001'"]),
    ("datetime(6)", ["'2024-02-29 23:59:59.999999'", "'1000-01-01 00:00:00.000001'"]),
    ("timestamp null", ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"]),
    ("timestamp(6) null", ["'2024-02-29 23:59:59.999999'", "'1970-01-01 00:00:01.000001'"]),
    ("time", ["'838:59:59'", "'-838:59:59'"]),
    ("time(2)", ["'-00:00:01.50'", "'23:59:59.99'"]),
    ("time(6)", ["'-838:59:59.999999'", "'00:00:00.000001'"]),
    ("year", ["1901", "2155"]),
    ("enum('a','it''s','Đ')", ["'it''s'", "'Đ'"]),
    ("enum('x','é') character set latin1", ["'x'", "'é'"]),
    ("set('a','b','Đ')", ["'a,Đ'", "''"]),
    ("json", ["'null'", r#"'{"tên": [1, 2.50]}'"#]),
    ("point", ["ST_GeomFromText('POINT(105.85 21.03)')", "ST_GeomFromText('POINT(0 0)', 4326)"]),
    ("geometry", ["ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')", "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2))')"]),
    ("uuid", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("uuid", ["'123e4567-e89b-12d3-a456-426655440000'", "'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'"]),
    ("uuid", ["'018f3f4e-5b1a-7c3d-9e2f-0123456789ab'", "'9b2c5f6e-1d3a-4f5b-8c7d-1234567890ab'"]),
    ("inet6", ["'::'", "'2001:db8::ff00:42:8329'"]),
    ("inet6", ["'::ffff:192.168.1.1'", "'fe80::'"]),
    ("inet4", ["'0.0.0.0'", "'10.1.2.0'"]),
    ("int as (7) virtual", ["default", "default"]),
    ("varchar(9) as (concat('v', 7)) stored", ["default", "default"]),
];

struct Mariadb {
    database: Database,
    link: Link,
}

impl Fixture for Mariadb {
    type Connector = Mysql;

    async fn start() -> Self {
        let database = tokio::task::spawn_blocking(Database::start).await.unwrap();
        let link = Link::to(database.port, true).await;
        let columns: Vec<_> = TYPES.iter().enumerate().map(|(place, (kind, _))| format!("c{place} {kind}")).collect();
        database.run("CREATE TABLE nguoi (id bigint NOT NULL PRIMARY KEY, name longtext)");
        database.run(&format!("CREATE TABLE moi_kieu (id bigint NOT NULL PRIMARY KEY, {})", columns.join(", ")));
        Self { database, link }
    }

    fn stream(&self) -> StreamName {
        StreamName::new("hub.nguoi").unwrap()
    }

    fn config(&self) -> Value {
        self.database.config(self.link.port)
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        let statement = |rows: &[(i64, Option<String>)]| {
            let values: Vec<_> = rows.iter().map(|(id, name)| format!("({id}, {})", quoted(name))).collect();
            format!("INSERT INTO nguoi (id, name) VALUES {} ON DUPLICATE KEY UPDATE name = VALUES(name);", values.join(", "))
        };
        let statements: String = rows.chunks(500).map(statement).collect();
        self.database.run(&format!("BEGIN; {statements} COMMIT"));
    }

    async fn delete(&mut self, ids: &[i64]) {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        self.database.run(&format!("DELETE FROM nguoi WHERE id IN ({})", ids.join(", ")));
    }

    async fn truncate(&mut self) {
        self.database.run("TRUNCATE TABLE nguoi");
    }

    async fn rows(&mut self) -> BTreeMap<String, String> {
        let rows = self.database.lines("SELECT id, IFNULL(name, '∅') FROM nguoi");
        rows.iter().map(|row| row.split_once('\t').unwrap()).map(|(id, name)| (id.to_owned(), name.replace('∅', NULL))).collect()
    }

    fn extremes(&self) -> StreamName {
        StreamName::new("hub.moi_kieu").unwrap()
    }

    async fn put_extremes(&mut self, first: i64) -> i64 {
        let mut sql = String::new();
        for (row, id) in (first..first + 2).enumerate() {
            let values: Vec<_> = TYPES.iter().map(|(_, values)| values[row]).collect();
            sql.push_str(&format!("SET time_zone = '+00:00'; INSERT INTO moi_kieu VALUES ({id}, {});", values.join(", ")));
        }
        self.database.run(&format!("{sql} INSERT INTO moi_kieu (id) VALUES ({})", first + 2));
        3
    }

    fn cut(&mut self) {
        self.link.cut();
    }

    fn mend(&mut self) {
        self.link.mend();
    }

    async fn restart(&mut self) {
        self.database.restart();
    }

    async fn add_column(&mut self) {
        self.database.run("ALTER TABLE nguoi ADD COLUMN them integer DEFAULT 7");
    }

    fn refused(&self) -> (Value, &'static str) {
        let mut config = self.config();
        config["password"] = json!("sai-mat-khau");
        (config, "sai-mat-khau")
    }

    async fn left_behind(&mut self) -> Vec<String> {
        Vec::new()
    }
}

hub_conformance::conformance!(Mariadb);
