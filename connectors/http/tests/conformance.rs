//! The kit, on a fake LGSP that lists rows by pages of JSON, and by offsets of SOAP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub_conformance::{Fixture, Link, NULL};
use hub_connector_http::Http;
use hub_sdk::model::StreamName;
use serde_json::{Map, Value, json};
use support::{Asked, FakeLgsp, Reply, Tokens, client};

/// Columns with two hard values each.
const EXTREMES: [(&str, [&str; 2]); 7] = [
    ("empty", ["", "x"]),
    ("zeros", ["0079", "1.50"]),
    ("quotes", ["\"a\"", "a;b,c"]),
    ("markup", ["<a href='#'>&amp;</a>", "]]>"]),
    ("lines", ["a\nb", "a\tb\\n"]),
    ("vietnamese", ["Nguyễn Thị Ánh — Đường số 7", "Ỷ Ỵ ữ ằ"]),
    ("numbers", ["12345678901234567890123", "1e-400"]),
];

type Table = Vec<BTreeMap<String, Option<String>>>;

#[derive(Default)]
struct Tables {
    rows: BTreeMap<i64, Option<String>>,
    extremes: BTreeMap<i64, usize>,
    has_column: bool,
}

impl Tables {
    fn table(&self, path: &str) -> Table {
        let id = |id: &i64| ("id".to_owned(), Some(id.to_string()));
        match path {
            "/moi_kieu" => self
                .extremes
                .iter()
                .map(|(key, place)| {
                    let hard = EXTREMES.iter().map(|(name, hard)| ((*name).to_owned(), hard.get(*place).map(|text| (*text).to_owned())));
                    std::iter::once(id(key)).chain(hard).collect()
                })
                .collect(),
            _ => self
                .rows
                .iter()
                .map(|(key, name)| {
                    let column = self.has_column.then(|| ("them".to_owned(), Some("7".to_owned())));
                    [id(key), ("name".to_owned(), name.clone())].into_iter().chain(column).collect()
                })
                .collect(),
        }
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let (path, is_soap) = match asked.path.strip_prefix("/soap") {
            Some(path) => (path, true),
            None => (asked.path.as_str(), false),
        };
        let table = self.table(path);
        if is_soap {
            let number = |name: &str| {
                let inside = asked.body.split(&format!("<{name}>")).nth(1).and_then(|rest| rest.split('<').next());
                inside.and_then(|text| text.parse::<usize>().ok()).unwrap()
            };
            return Reply::text(soap(table.iter().skip(number("tu")).take(number("so")), table.len()));
        }
        let (page, size) = (asked.number("page"), asked.number("size"));
        let object =
            |row: &BTreeMap<String, Option<String>>| row.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>();
        let rows: Vec<_> = table.iter().skip((page - 1) * size).take(size).map(object).collect();
        Reply::json(&json!({"error_code": "00", "data": {"total": table.len(), "items": rows}}))
    }
}

fn soap<'a>(rows: impl Iterator<Item = &'a BTreeMap<String, Option<String>>>, total: usize) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut text = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><DanhSach tong=\"{total}\">"
    );
    for row in rows {
        text.push_str("<dong>");
        for (name, value) in row {
            if let Some(value) = value {
                text.push_str(&format!("<{name}>{}</{name}>", escape(value)));
            }
        }
        text.push_str("</dong>");
    }
    text + "</DanhSach></s:Body></s:Envelope>"
}

/// A list behind OAuth2, as JSON by pages or as SOAP by offsets.
struct Service<const SOAP: bool> {
    server: FakeLgsp,
    link: Link,
    tables: Arc<Mutex<Tables>>,
}

impl<const SOAP: bool> Fixture for Service<SOAP> {
    type Connector = Http;

    async fn start() -> Self {
        let tables = Arc::new(Mutex::new(Tables::default()));
        let (answering, tokens) = (Arc::clone(&tables), Tokens::lasting(3_600));
        let server = FakeLgsp::start(move |asked| tokens.guard(asked).unwrap_or_else(|| answering.lock().unwrap().answer(asked))).await;
        let link = Link::to(server.port, true).await;
        Self { server, link, tables }
    }

    fn stream(&self) -> StreamName {
        StreamName::new("nguoi").unwrap()
    }

    fn config(&self) -> Value {
        let stream = |path: &str| match SOAP {
            true => json!({
                "path": format!("/soap/{path}"), "format": "xml", "rows": "/Envelope/Body/DanhSach/dong", "key": ["id"],
                "headers": {"SOAPAction": "urn:danh-sach"},
                "xml": "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><Hoi><tu>{offset}</tu><so>{size}</so></Hoi></s:Body></s:Envelope>",
                "paging": {"offset": {"size": 500, "total": "/Envelope/Body/DanhSach/@tong"}},
            }),
            false => json!({
                "path": format!("/{path}"), "rows": "/data/items", "key": ["id"],
                "success": {"path": "/error_code", "equals": "00"},
                "paging": {"page": {"param": "page", "size": 500, "size_param": "size"}},
            }),
        };
        json!({
            "base_url": format!("http://127.0.0.1:{}", self.link.port),
            "auth": client(),
            "every_s": 0.02,
            "retry": {"attempts": 2, "first_s": 0.05},
            "breaker": {"failures": 50, "rest_s": 0.2},
            "streams": {"nguoi": stream("nguoi"), "moi_kieu": stream("moi_kieu")},
        })
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        self.tables.lock().unwrap().rows.extend(rows.iter().cloned());
    }

    async fn delete(&mut self, ids: &[i64]) {
        ids.iter().for_each(|id| _ = self.tables.lock().unwrap().rows.remove(id));
    }

    async fn truncate(&mut self) {
        self.tables.lock().unwrap().rows.clear();
    }

    async fn rows(&mut self) -> BTreeMap<String, String> {
        let tables = self.tables.lock().unwrap();
        tables.rows.iter().map(|(id, name)| (id.to_string(), name.clone().unwrap_or_else(|| NULL.to_owned()))).collect()
    }

    fn extremes(&self) -> StreamName {
        StreamName::new("moi_kieu").unwrap()
    }

    async fn put_extremes(&mut self, first: i64) -> i64 {
        self.tables.lock().unwrap().extremes.extend([(first, 0), (first + 1, 1), (first + 2, 2)]);
        3
    }

    fn cut(&mut self) {
        self.link.cut();
    }

    fn mend(&mut self) {
        self.link.mend();
    }

    async fn restart(&mut self) {
        self.server.stop().await;
        // Longer than many looks: a server that is back before anybody looked has cost nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.server.start_again().await;
    }

    async fn add_column(&mut self) {
        self.tables.lock().unwrap().has_column = true;
    }

    fn refused(&self) -> (Value, &'static str) {
        let mut config = self.config();
        config["auth"]["oauth2"]["client_secret"] = json!("sai-mat-khau-074");
        (config, "sai-mat-khau-074")
    }

    async fn left_behind(&mut self) -> Vec<String> {
        Vec::new()
    }
}

mod pages_of_json {
    hub_conformance::conformance!(super::Service<false>);
}

mod offsets_of_soap {
    hub_conformance::conformance!(super::Service<true>);
}
