//! The kit on a folder, with deliveries as CSV and as JSON; on OpenSSH's sshd; and on the S3 of moto.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/places.rs"]
mod places;
#[path = "support/scratch.rs"]
mod scratch;

use std::collections::BTreeMap;

use hub_conformance::{Fixture, NULL};
use hub_connector_files::Files;
use hub_sdk::model::StreamName;
use serde_json::{Value, json};

use places::Place;

/// Two hard values of every kind of text.
const EXTREMES: &[(&str, [&str; 2])] = &[
    ("zeros", ["007", "000000000000"]),
    ("quotes", ["a \"b\" c", "\""]),
    ("separators", ["a,b;c\td|e", ";"]),
    ("lines", ["a\nb\r\nc", "\n"]),
    ("blanks", ["  a  ", " "]),
    ("empty", ["", ""]),
    ("vietnamese", ["Nguyễn Thị Ánh — Đường số 7", "Ỷ Ỵ ữ ằ"]),
    ("numbers", ["12345678901234567890123", "1e-400"]),
    ("words", ["null", "\\N"]),
    ("emoji", ["🏠", "\u{feff}"]),
];

/// A place into which one file a stream is delivered whole, again and again.
struct Delivered<P, const JSON: bool> {
    place: P,
    rows: BTreeMap<i64, Option<String>>,
    extremes: BTreeMap<i64, Option<usize>>,
    has_column: bool,
}

impl<P: Place, const JSON: bool> Delivered<P, JSON> {
    async fn deliver(&self, name: &str, header: &[&str], rows: &[Vec<Option<String>>]) {
        let text = if JSON {
            let object =
                |row: &Vec<Option<String>>| header.iter().zip(row).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            json!({"total": rows.len(), "data": rows.iter().map(object).collect::<Vec<Value>>()}).to_string()
        } else {
            let cell = |value: &Option<String>| value.as_ref().map_or(String::new(), |text| format!("\"{}\"", text.replace('"', "\"\"")));
            let line = |row: &Vec<Option<String>>| row.iter().map(cell).collect::<Vec<_>>().join(";") + "\r\n";
            format!("\u{feff}{}\r\n{}", header.join(";"), rows.iter().map(line).collect::<String>())
        };
        self.place.deliver(name, text.as_bytes()).await;
    }

    async fn deliver_rows(&self) {
        let row = |(id, name): (&i64, &Option<String>)| {
            let mut row = vec![Some(id.to_string()), name.clone()];
            row.extend(self.has_column.then(|| Some("7".to_owned())));
            row
        };
        let header = if self.has_column { &["id", "name", "them"][..] } else { &["id", "name"] };
        self.deliver("nguoi", header, &self.rows.iter().map(row).collect::<Vec<_>>()).await;
    }
}

impl<P: Place + Sync, const JSON: bool> Fixture for Delivered<P, JSON> {
    type Connector = Files;

    async fn start() -> Self {
        let fixture = Self { place: P::start().await, rows: BTreeMap::new(), extremes: BTreeMap::new(), has_column: false };
        fixture.deliver_rows().await;
        fixture
    }

    fn stream(&self) -> StreamName {
        StreamName::new("nguoi").unwrap()
    }

    fn config(&self) -> Value {
        let stream = |pattern: &str| match JSON {
            true => json!({"pattern": pattern, "format": "json", "rows": "/data", "mode": "whole", "key": ["id"]}),
            false => json!({"pattern": pattern, "mode": "whole", "key": ["id"]}),
        };
        let mut config = self.place.config();
        config["every_s"] = json!(0.02);
        config["streams"] = json!({"nguoi": stream("nguoi"), "moi_kieu": stream("moi_kieu")});
        config
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        self.rows.extend(rows.iter().cloned());
        self.deliver_rows().await;
    }

    async fn delete(&mut self, ids: &[i64]) {
        ids.iter().for_each(|id| _ = self.rows.remove(id));
        self.deliver_rows().await;
    }

    async fn truncate(&mut self) {
        self.rows.clear();
        self.deliver_rows().await;
    }

    async fn rows(&mut self) -> BTreeMap<String, String> {
        self.rows.iter().map(|(id, name)| (id.to_string(), name.clone().unwrap_or_else(|| NULL.to_owned()))).collect()
    }

    fn extremes(&self) -> StreamName {
        StreamName::new("moi_kieu").unwrap()
    }

    async fn put_extremes(&mut self, first: i64) -> i64 {
        self.extremes.extend([(first, Some(0)), (first + 1, Some(1)), (first + 2, None)]);
        let header: Vec<_> = std::iter::once("id").chain(EXTREMES.iter().map(|(name, _)| *name)).collect();
        let row = |(id, values): (&i64, &Option<usize>)| {
            let values = EXTREMES.iter().map(|(_, hard)| values.map(|place| hard[place].to_owned()));
            std::iter::once(Some(id.to_string())).chain(values).collect::<Vec<_>>()
        };
        self.deliver("moi_kieu", &header, &self.extremes.iter().map(row).collect::<Vec<_>>()).await;
        3
    }

    fn cut(&mut self) {
        self.place.cut();
    }

    fn mend(&mut self) {
        self.place.mend();
    }

    async fn restart(&mut self) {
        self.place.restart().await;
    }

    async fn add_column(&mut self) {
        self.has_column = true;
        self.deliver_rows().await;
    }

    fn refused(&self) -> (Value, &'static str) {
        let (place, secret) = self.place.refused();
        let mut config = self.config();
        place.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
        (config, secret)
    }

    async fn left_behind(&mut self) -> Vec<String> {
        self.place.names().await.into_iter().filter(|name| name != "nguoi" && name != "moi_kieu").collect()
    }
}

mod csv {
    hub_conformance::conformance!(super::Delivered<crate::places::Local, false>);
}

mod json {
    hub_conformance::conformance!(super::Delivered<crate::places::Local, true>);
}

mod sftp {
    hub_conformance::conformance!(super::Delivered<crate::places::Remote, false>);
}

mod s3 {
    hub_conformance::conformance!(super::Delivered<crate::places::Objects, false>);
}
