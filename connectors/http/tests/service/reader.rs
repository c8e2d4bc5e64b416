//! Opens the connector on a fake service, and reads what it tells as lines such as `c id=1 ten=An`.

use std::sync::Arc;

use hub_conformance::{NULL, Run, cell};
use hub_connector_http::{Http, HttpConfig};
use hub_sdk::model::{ChangeBatch, Checkpoint, StreamName, SystemName};
use hub_sdk::{Connector, Delivery, Evidence, KeyTopics, Kind, OpenContext, SourceError, StreamRequest};
use serde_json::{Value, json};

use crate::support::FakeLgsp;

/// A configuration on a fake service: looks every 20 ms, short pauses.
pub(crate) fn config(server: &FakeLgsp, more: Value) -> Value {
    let mut config = json!({
        "base_url": server.url(),
        "every_s": 0.02,
        "retry": {"attempts": 3, "first_s": 0.02, "longest_s": 0.1},
        "breaker": {"failures": 1000, "rest_s": 0.1},
    });
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    assert_eq!(Kind::of::<Http>().check(&config), []);
    config
}

/// An open connector on all configured streams.
pub(crate) async fn open(config: &Value) -> Arc<Http> {
    open_with(config, None).await
}

/// The same with topics of keys.
pub(crate) async fn open_with(config: &Value, topics: Option<Arc<dyn KeyTopics>>) -> Arc<Http> {
    let config: HttpConfig = serde_json::from_value(config.clone()).unwrap();
    let request = |name: &String| StreamRequest { stream: StreamName::new(name).unwrap(), columns: Vec::new() };
    let streams = config.streams.keys().map(request).collect();
    let context = OpenContext { topics, ..OpenContext::new(SystemName::new("lgsp").unwrap(), streams) };
    Arc::new(Http::open(config, context).await.unwrap_or_else(|error| panic!("{}", error.report())))
}

/// A run whose deliveries are durable as soon as they are taken.
pub(crate) struct Reader {
    run: Run<Http>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) completed: usize,
}

impl Reader {
    pub(crate) fn start(connector: &Arc<Http>, from: &Checkpoint) -> Self {
        Self { run: Run::start(connector, from), checkpoint: from.clone(), evidence: Vec::new(), completed: 0 }
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        let delivery = self.run.next().await.unwrap();
        self.checkpoint.merge(&delivery.checkpoint);
        self.evidence.extend(delivery.evidence.iter().cloned());
        self.completed += delivery.completed.len();
        self.run.connector.acknowledge(&delivery.checkpoint);
        delivery
    }

    /// What is told until there are so many lines.
    pub(crate) async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told.len() < count {
            told.extend(self.next().await.batches.iter().flat_map(lines));
        }
        assert_eq!(told.len(), count, "{told:?}");
        told
    }

    /// What is told until changes are followed.
    pub(crate) async fn first_look(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let delivery = self.next().await;
            if delivery.batches.is_empty() && delivery.checkpoint.is_empty() && delivery.evidence.is_empty() {
                return told;
            }
            told.extend(delivery.batches.iter().flat_map(lines));
        }
    }

    pub(crate) async fn kill(self) -> Checkpoint {
        self.run.kill().await;
        self.checkpoint
    }
}

/// The error that ends a run.
pub(crate) async fn failure(connector: &Arc<Http>, from: &Checkpoint) -> SourceError {
    Run::start(connector, from).failure().await
}

/// Rows as lines: operation, and the columns that have a value, in the order of their names.
pub(crate) fn lines(batch: &ChangeBatch) -> Vec<String> {
    let schema = batch.rows.schema();
    let line = |row: usize| {
        let mut cells: Vec<_> = schema.fields().iter().enumerate().map(|(at, field)| (field.name(), cell(&batch.rows, at, row))).collect();
        cells.sort();
        let mut line = batch.ops[row].letter().to_owned();
        for (name, value) in cells.iter().filter(|(_, value)| value != NULL) {
            line.push_str(&format!(" {name}={value}"));
        }
        if let Some(fault) = batch.faults.iter().find(|fault| fault.row as usize == row) {
            line.push_str(&format!(" !{}", fault.code));
        }
        line
    };
    (0..batch.len()).map(line).collect()
}
