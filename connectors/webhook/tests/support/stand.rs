//! A webhook of a test's own: its port, its runs, and a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hub_conformance::Run;
use hub_connector_webhook::Webhook;
use hub_sdk::model::{Checkpoint, Op, StreamName, SystemName};
use hub_sdk::{BatchLimits, Connector, Delivery, OpenContext, StreamRequest};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::outbox::{Answer, Client};

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder that is removed when dropped.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("hub-webhook-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.0);
    }
}

/// A configured connector.
pub(crate) struct Stand {
    pub(crate) port: u16,
    pub(crate) config: Value,
    pub(crate) limits: BatchLimits,
}

impl Stand {
    /// One stream `s` at `/s`, with these settings besides.
    pub(crate) fn of(stream: Value) -> Self {
        let mut endpoint = json!({"path": "/s", "auth": "none"});
        endpoint.as_object_mut().unwrap().extend(stream.as_object().unwrap().clone());
        let port = free_port();
        Self { port, config: json!({"listen": format!("127.0.0.1:{port}"), "streams": {"s": endpoint}}), limits: BatchLimits::default() }
    }

    /// The same with settings of the listener.
    pub(crate) fn with(mut self, settings: Value) -> Self {
        self.config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        self
    }

    /// The same whose groups wait long for more, so that a slow machine makes no difference.
    pub(crate) fn patient(mut self) -> Self {
        self.limits.age = Duration::from_millis(300);
        self
    }

    /// An open connector on every configured stream.
    pub(crate) async fn connector(&self) -> Arc<Webhook> {
        let names = self.config["streams"].as_object().unwrap().keys();
        let streams = names.map(|name| StreamRequest { stream: StreamName::new(name).unwrap(), columns: Vec::new() }).collect();
        let config = serde_json::from_value(self.config.clone()).unwrap();
        let context = OpenContext { limits: self.limits, ..OpenContext::new(SystemName::new("thu").unwrap(), streams) };
        Arc::new(Webhook::open(config, context).await.unwrap_or_else(|error| panic!("{}", error.report())))
    }

    /// A run that listens already.
    pub(crate) async fn run(&self, from: &Checkpoint) -> Run<Webhook> {
        let connector = self.connector().await;
        Self::run_of(&connector, from).await
    }

    /// A further run of a connector.
    pub(crate) async fn run_of(connector: &Arc<Webhook>, from: &Checkpoint) -> Run<Webhook> {
        let mut run = Run::start(connector, from);
        let first = run.next().await.unwrap();
        assert!(first.batches.is_empty() && first.checkpoint.is_empty(), "an empty delivery says that it listens");
        run
    }

    /// Posts beside the test.
    pub(crate) fn post(&self, headers: &[(&str, &str)], body: &str) -> JoinHandle<Answer> {
        self.post_to("/s", headers, body.as_bytes().to_vec())
    }

    /// Posts to a path beside the test.
    pub(crate) fn post_to(&self, path: &'static str, headers: &[(&str, &str)], body: Vec<u8>) -> JoinHandle<Answer> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut client = Client::new(self.port);
        // A connection that broke is told as status 0.
        tokio::spawn(async move { client.post(path, &headers, &body).await.unwrap_or_default() })
    }
}

/// Waits for an answer, but not for ever.
pub(crate) async fn answer(posted: JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(Duration::from_secs(30), posted).await.expect("there is an answer in time").unwrap()
}

/// Rows of a delivery: operation, and the cells as text, `∅` for null; faulty ones with their code.
pub(crate) fn rows(delivery: &Delivery) -> Vec<String> {
    let mut told = Vec::new();
    for batch in &delivery.batches {
        for row in 0..batch.len() {
            let cells = (0..batch.rows.num_columns()).map(|column| hub_conformance::cell(&batch.rows, column, row));
            let fault = batch.faults.iter().find(|fault| fault.row as usize == row);
            // One of a column would be passed over where nobody maps that column.
            assert!(fault.is_none_or(|fault| fault.column.is_none()), "{fault:?}");
            let fault = fault.map_or("", |fault| fault.code);
            let op: Op = batch.ops[row];
            told.push(format!("{}{fault}:{}", op.letter(), cells.collect::<Vec<_>>().join("|")));
        }
    }
    told
}
