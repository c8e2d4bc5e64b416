//! PostgreSQL 15 and 18 on the kit: a server of each case's own, behind a link that can be cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "main/own_server.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod own_server;
#[path = "main/source.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod source;

use std::collections::BTreeMap;

use hub_conformance::{Fixture, Link, NULL};
use hub_connector_postgres::Postgres;
use hub_sdk::model::StreamName;
use serde_json::{Value, json};
use tokio_postgres::Client;

use own_server::{HBA, OwnServer, eighteen};

const PASSWORD: &str = "mật khẩu 'khó'";

/// A type, and its hardest values as SQL; the last row of the table is null in all of them.
const TYPES: &[(&str, [&str; 2])] = &[
    ("boolean", ["true", "false"]),
    ("smallint", ["-32768", "32767"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    ("real", ["'NaN'", "'-Infinity'"]),
    ("double precision", ["'Infinity'", "5e-324"]),
    ("numeric", ["'NaN'", "1e100"]),
    ("numeric(14,2)", ["-999999999999.99", "0.01"]),
    ("money", ["'-92233720368547758.08'", "'0.01'"]),
    ("text", ["''", "'Nguyễn Thị Ánh — Đường số 7'"]),
    ("varchar(20)", ["'a'", "repeat('Đ', 20)"]),
    ("char(5)", ["'a'", "'abcde'"]),
    ("bytea", ["''", r"'\x00ff10'"]),
    ("date", ["'infinity'", "'0044-03-15 BC'"]),
    ("timestamp", ["'-infinity'", "'2024-02-29 23:59:59.999999'"]),
    ("timestamptz", ["'infinity'", "'1900-01-01 00:00:00+07'"]),
    ("time", ["'24:00:00'", "'00:00:00.000001'"]),
    ("timetz", ["'24:00:00-12'", "'08:30:00+07'"]),
    ("interval", ["'-178000000 years'", "'1 month -1 day 00:00:00.000001'"]),
    ("uuid", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("jsonb", ["'null'", r#"'{"tên": [1, 2.50, "\u00e9"]}'"#]),
    ("json", [r#"'{"b": 1,  "a": 2, "a": 3}'"#, "'[]'"]),
    ("xml", ["'<a>ă</a>'", "'b'"]),
    ("inet", ["'::1/64'", "'10.0.0.1'"]),
    ("bit(3)", ["B'101'", "B'000'"]),
    ("int4range", ["'empty'", "'[1,5)'"]),
    ("tsrange", ["'(,)'", "'[2024-01-01,2024-02-01]'"]),
    ("integer[]", ["'{}'", "'{{1,NULL},{3,4}}'"]),
    ("text[]", [r#"'{"a,b","",NULL}'"#, "'[0:1]={a,b}'"]),
    ("point", ["'(0,0)'", "'(1.5,-2)'"]),
    ("tsvector", ["''", "'hồ:1 sơ:2'"]),
];

/// A server of a major version.
struct Source<const MAJOR: u32> {
    server: OwnServer,
    admin: Client,
    link: Link,
}

impl<const MAJOR: u32> Source<MAJOR> {
    async fn run(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

impl<const MAJOR: u32> Fixture for Source<MAJOR> {
    type Connector = Postgres;

    async fn start() -> Self {
        let settings = "wal_level = logical\nautovacuum = off";
        let server = match MAJOR {
            18 => OwnServer::start_with(eighteen(), settings, HBA),
            _ => OwnServer::start(settings, HBA),
        };
        let admin = source::connect(server.port, "postgres").await;
        let link = Link::to(server.port, true).await;
        let fixture = Self { server, admin, link };
        let columns: Vec<_> = TYPES.iter().enumerate().map(|(place, (kind, _))| format!("c{place} {kind}")).collect();
        fixture
            .run(&format!(
                "CREATE ROLE hub LOGIN REPLICATION PASSWORD '{}'; GRANT CREATE ON DATABASE postgres TO hub;
                 CREATE TABLE public.nguoi (id bigint PRIMARY KEY, name text); ALTER TABLE public.nguoi OWNER TO hub;
                 CREATE TABLE public.moi_kieu (id bigint PRIMARY KEY, {}); ALTER TABLE public.moi_kieu OWNER TO hub;",
                PASSWORD.replace('\'', "''"),
                columns.join(", ")
            ))
            .await;
        fixture
    }

    fn stream(&self) -> StreamName {
        StreamName::new("public.nguoi").unwrap()
    }

    fn config(&self) -> Value {
        json!({"host": "127.0.0.1", "port": self.link.port, "database": "postgres", "user": "hub", "password": PASSWORD, "tls": {"mode": "disable"}})
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        let (ids, names): (Vec<i64>, Vec<Option<String>>) = rows.iter().cloned().unzip();
        let sql = "INSERT INTO public.nguoi (id, name) SELECT * FROM unnest($1::bigint[], $2::text[])
                   ON CONFLICT (id) DO UPDATE SET name = excluded.name";
        self.admin.execute(sql, &[&ids, &names]).await.unwrap();
    }

    async fn delete(&mut self, ids: &[i64]) {
        self.admin.execute("DELETE FROM public.nguoi WHERE id = ANY ($1)", &[&ids]).await.unwrap();
    }

    async fn truncate(&mut self) {
        self.run("TRUNCATE public.nguoi").await;
    }

    async fn rows(&mut self) -> BTreeMap<String, String> {
        let rows = self.admin.query("SELECT id::text, name FROM public.nguoi", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_else(|| NULL.to_owned()))).collect()
    }

    fn extremes(&self) -> StreamName {
        StreamName::new("public.moi_kieu").unwrap()
    }

    async fn put_extremes(&mut self, first: i64) -> i64 {
        for (row, id) in (first..first + 2).enumerate() {
            let values: Vec<_> = TYPES.iter().map(|(_, values)| values[row]).collect();
            self.run(&format!("INSERT INTO public.moi_kieu VALUES ({id}, {})", values.join(", "))).await;
        }
        self.run(&format!("INSERT INTO public.moi_kieu (id) VALUES ({})", first + 2)).await;
        3
    }

    fn cut(&mut self) {
        self.link.cut();
    }

    fn mend(&mut self) {
        self.link.mend();
    }

    async fn restart(&mut self) {
        self.server.restart();
        self.admin = source::connect(self.server.port, "postgres").await;
    }

    async fn add_column(&mut self) {
        self.run("ALTER TABLE public.nguoi ADD COLUMN them integer DEFAULT 7").await;
    }

    fn refused(&self) -> (Value, &'static str) {
        let mut config = self.config();
        config["password"] = json!("sai-mật-khẩu");
        (config, "sai-mật-khẩu")
    }

    async fn left_behind(&mut self) -> Vec<String> {
        let sql = "SELECT 'slot ' || slot_name FROM pg_replication_slots UNION ALL SELECT 'publication ' || pubname FROM pg_publication";
        self.admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

mod on_15 {
    hub_conformance::conformance!(super::Source<15>);
}

mod on_18 {
    hub_conformance::conformance!(super::Source<18>);
}
