//! The kit on a real folder, with deliveries as CSV and as JSON.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/scratch.rs"]
mod scratch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hub_conformance::{Fixture, NULL};
use hub_connector_files::Files;
use hub_sdk::model::StreamName;
use serde_json::{Value, json};

use scratch::{Scratch, deliver};

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

/// A folder into which one file a stream is delivered whole, again and again.
struct Folder<const JSON: bool> {
    scratch: Scratch,
    rows: BTreeMap<i64, Option<String>>,
    extremes: BTreeMap<i64, Option<usize>>,
    has_column: bool,
}

impl<const JSON: bool> Folder<JSON> {
    /// Where the folder is when it can be reached.
    fn mounted(&self) -> PathBuf {
        self.scratch.path().join("nhan")
    }

    /// Where it is while the link is cut.
    fn lost(&self) -> PathBuf {
        self.scratch.path().join("mat_ket_noi")
    }

    fn deliver(&self, name: &str, header: &[&str], rows: &[Vec<Option<String>>]) {
        let folder = if self.mounted().exists() { self.mounted() } else { self.lost() };
        let text = if JSON {
            let object =
                |row: &Vec<Option<String>>| header.iter().zip(row).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            json!({"total": rows.len(), "data": rows.iter().map(object).collect::<Vec<Value>>()}).to_string()
        } else {
            let cell = |value: &Option<String>| value.as_ref().map_or(String::new(), |text| format!("\"{}\"", text.replace('"', "\"\"")));
            let line = |row: &Vec<Option<String>>| row.iter().map(cell).collect::<Vec<_>>().join(";") + "\r\n";
            format!("\u{feff}{}\r\n{}", header.join(";"), rows.iter().map(line).collect::<String>())
        };
        deliver(&folder, name, text.as_bytes());
    }

    fn deliver_rows(&self) {
        let row = |(id, name): (&i64, &Option<String>)| {
            let mut row = vec![Some(id.to_string()), name.clone()];
            row.extend(self.has_column.then(|| Some("7".to_owned())));
            row
        };
        let header = if self.has_column { &["id", "name", "them"][..] } else { &["id", "name"] };
        self.deliver("nguoi", header, &self.rows.iter().map(row).collect::<Vec<_>>());
    }
}

impl<const JSON: bool> Fixture for Folder<JSON> {
    type Connector = Files;

    async fn start() -> Self {
        let fixture = Self { scratch: Scratch::new(), rows: BTreeMap::new(), extremes: BTreeMap::new(), has_column: false };
        std::fs::create_dir(fixture.mounted()).unwrap();
        std::fs::write(fixture.scratch.path().join("tap_tin"), "079090000001;mật").unwrap();
        fixture.deliver_rows();
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
        json!({"folder": self.mounted(), "every_s": 0.02, "streams": {"nguoi": stream("nguoi"), "moi_kieu": stream("moi_kieu")}})
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        self.rows.extend(rows.iter().cloned());
        self.deliver_rows();
    }

    async fn delete(&mut self, ids: &[i64]) {
        ids.iter().for_each(|id| _ = self.rows.remove(id));
        self.deliver_rows();
    }

    async fn truncate(&mut self) {
        self.rows.clear();
        self.deliver_rows();
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
        self.deliver("moi_kieu", &header, &self.extremes.iter().map(row).collect::<Vec<_>>());
        3
    }

    fn cut(&mut self) {
        std::fs::rename(self.mounted(), self.lost()).unwrap();
    }

    fn mend(&mut self) {
        std::fs::rename(self.lost(), self.mounted()).unwrap();
    }

    async fn restart(&mut self) {
        self.cut();
        // Longer than many looks: a server that is back before anybody looked has cost nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.mend();
    }

    async fn add_column(&mut self) {
        self.has_column = true;
        self.deliver_rows();
    }

    /// A folder has no password: what must never be shown is what its files hold. The tests may run as root, to whom the
    /// system denies nothing but what cannot be: a folder in a file.
    fn refused(&self) -> (Value, &'static str) {
        let mut config = self.config();
        config["folder"] = json!(self.scratch.path().join("tap_tin").join("nhan"));
        (config, "079090000001")
    }

    async fn left_behind(&mut self) -> Vec<String> {
        let names = std::fs::read_dir(self.mounted()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "nguoi" && name != "moi_kieu").collect()
    }
}

mod csv {
    hub_conformance::conformance!(super::Folder<false>);
}

mod json {
    hub_conformance::conformance!(super::Folder<true>);
}
