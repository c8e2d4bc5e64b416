//! The kit on a real sender: an outbox that signs its events and sends them again until they are answered 200.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/outbox.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several tests")]
mod outbox;

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use hub_conformance::{Fixture, Link, NULL};
use hub_connector_webhook::Webhook;
use hub_sdk::model::StreamName;
use serde_json::{Map, Value, json};
use sha2::Sha256;

use outbox::{Event, Outbox};

const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
const PATH: &str = "/nhan/nguoi";
/// Rows of one request.
const TOGETHER: usize = 50;

/// A system that pushes each change of its rows. Changes of one key go through one lane, in order.
///
/// A keyed one signs JSON documents and gives each a key; another sends lines with a token, and what is sent again comes again.
struct Sender<const KEYED: bool> {
    port: u16,
    link: Link,
    lanes: Vec<Outbox>,
    rows: BTreeMap<i64, Option<String>>,
    sent: u64,
    has_column: bool,
}

impl<const KEYED: bool> Sender<KEYED> {
    /// Sends events, each row in the lane of its key.
    fn send(&mut self, rows: impl IntoIterator<Item = (i64, Value)>) {
        let mut by_lane: Vec<Vec<Value>> = vec![Vec::new(); self.lanes.len()];
        let lanes = i64::try_from(self.lanes.len()).unwrap();
        for (id, row) in rows {
            by_lane[usize::try_from(id.rem_euclid(lanes)).unwrap()].push(row);
        }
        for (lane, rows) in by_lane.into_iter().enumerate() {
            for part in rows.chunks(TOGETHER) {
                self.sent += 1;
                let (body, headers) = if KEYED { signed(part, &format!("{}-{}", self.port, self.sent)) } else { shown(part) };
                self.lanes[lane].put(Event { headers, body });
            }
        }
    }

    fn row(&self, id: i64, name: Option<&str>, op: &str) -> (i64, Value) {
        let mut row = Map::from_iter([("id".to_owned(), json!(id)), ("op".to_owned(), json!(op)), ("name".to_owned(), json!(name))]);
        if self.has_column {
            row.insert("them".to_owned(), json!("7"));
        }
        (id, Value::Object(row))
    }
}

impl<const KEYED: bool> Fixture for Sender<KEYED> {
    type Connector = Webhook;

    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let link = Link::to(port, true).await;
        let lanes = (0..4).map(|_| Outbox::to(link.port, PATH)).collect();
        Self { port, link, lanes, rows: BTreeMap::new(), sent: 0, has_column: false }
    }

    fn stream(&self) -> StreamName {
        StreamName::new("nguoi").unwrap()
    }

    fn config(&self) -> Value {
        let mut stream = json!({"path": PATH, "columns": ["id", "op", "name"], "key": ["id"], "op": {"field": "op"}});
        let own = match KEYED {
            true => json!({"auth": {"hmac": {"secret": SECRET}}, "rows": "/nguoi", "idempotency": {"header": "Idempotency-Key"}}),
            false => json!({"auth": {"bearer": {"token": SECRET}}, "format": "ndjson"}),
        };
        stream.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        json!({
            "listen": format!("127.0.0.1:{}", self.port),
            // Whoever waits for a run that was killed sends again soon.
            "answer_within_s": 1,
            "streams": {"nguoi": stream},
        })
    }

    async fn put(&mut self, rows: &[(i64, Option<String>)]) {
        let events: Vec<_> = rows
            .iter()
            .map(|(id, name)| self.row(*id, name.as_deref(), if self.rows.contains_key(id) { "update" } else { "create" }))
            .collect();
        self.rows.extend(rows.iter().cloned());
        self.send(events);
    }

    async fn delete(&mut self, ids: &[i64]) {
        let events: Vec<_> = ids.iter().map(|id| self.row(*id, None, "delete")).collect();
        ids.iter().for_each(|id| _ = self.rows.remove(id));
        self.send(events);
    }

    async fn truncate(&mut self) {
        unreachable!("a webhook tells no truncates");
    }

    async fn rows(&mut self) -> BTreeMap<String, String> {
        self.rows.iter().map(|(id, name)| (id.to_string(), name.clone().unwrap_or_else(|| NULL.to_owned()))).collect()
    }

    fn extremes(&self) -> StreamName {
        self.stream()
    }

    async fn put_extremes(&mut self, _first: i64) -> i64 {
        unreachable!("what is pushed is not read");
    }

    fn cut(&mut self) {
        self.link.cut();
    }

    fn mend(&mut self) {
        self.link.mend();
    }

    async fn restart(&mut self) {
        unreachable!("the sender's own restart is nothing that a listener sees");
    }

    async fn add_column(&mut self) {
        self.has_column = true;
    }

    fn refused(&self) -> (Value, &'static str) {
        (self.config(), SECRET)
    }

    async fn left_behind(&mut self) -> Vec<String> {
        let listens = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
        listens.then(|| format!("somebody listens on {}", self.port)).into_iter().collect()
    }
}

/// A document with its signature and its key.
fn signed(rows: &[Value], key: &str) -> (Vec<u8>, Vec<(String, String)>) {
    let body = json!({"nguoi": rows}).to_string().into_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(&body);
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [("X-Hub-Signature-256", format!("sha256={signature}")), ("Idempotency-Key", key.to_owned())];
    (body, headers.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// Lines with a token.
fn shown(rows: &[Value]) -> (Vec<u8>, Vec<(String, String)>) {
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    (lines.into_bytes(), vec![("Authorization".to_owned(), format!("Bearer {SECRET}"))])
}

mod keyed {
    hub_conformance::conformance!(super::Sender<true>);
}

mod unkeyed {
    hub_conformance::conformance!(super::Sender<false>);
}
