//! Makes the connectors topic so: systems that are written, changed, paused or removed there follow on this node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_kafka::{Change, Error, KafkaConfig, Table};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Node;
use crate::spec::Desired;

/// Between two attempts to read the topic again.
const REOPEN_AFTER: Duration = Duration::from_secs(5);
/// How long a stop may go unnoticed.
const LOOK: Duration = Duration::from_millis(500);
/// Changes that come within this are made together: the last one of a system counts.
const TOGETHER: Duration = Duration::from_millis(100);

/// Latest documents by system; `None` where the record is gone.
type Changes = BTreeMap<String, Option<Value>>;

/// Which systems of the topic a node runs.
#[derive(Clone, Debug)]
pub struct Follow {
    /// How Kafka is reached.
    pub kafka: KafkaConfig,
    /// The connectors topic.
    pub topic: String,
    /// Only these systems; all where it is empty.
    pub only: Vec<String>,
    /// Systems that the topic is known to hold: the node is not ready before it has looked at each.
    pub known: Vec<String>,
}

impl Follow {
    /// Follows until `stop`. A topic that cannot be read is tried again for ever; what runs goes on meanwhile.
    pub async fn run(self, node: Arc<Node>, stop: CancellationToken) {
        let (tell, mut told) = mpsc::channel(4);
        node.expect(self.known.iter().filter(|system| self.wants(system)).cloned());
        let (follow, reader_stop) = (self.clone(), stop.clone());
        let reading = tokio::task::spawn_blocking(move || follow.read(&tell, &reader_stop));
        loop {
            let changes = tokio::select! {
                () = stop.cancelled() => break,
                changes = told.recv() => changes,
            };
            let Some(changes) = changes else { break };
            for (system, document) in changes {
                if self.wants(&system) {
                    self.make_so(&node, &system, document).await;
                    node.arrived(&system);
                }
            }
        }
        drop(told);
        // It looks at `stop` twice a second; a panic of it was reported by the runtime.
        let _ = reading.await;
    }

    fn wants(&self, system: &String) -> bool {
        self.only.is_empty() || self.only.contains(system)
    }

    async fn make_so(&self, node: &Node, system: &str, document: Option<Value>) {
        let Some(document) = document else { return node.leave(system).await };
        let done = match serde_json::from_value::<Desired>(document) {
            Ok(desired) if desired.spec.system != system => Err(format!("it is the record of {}", desired.spec.system)),
            Ok(desired) if desired.removed => node.remove(desired, &self.topic).await.map_err(|error| error.to_string()),
            Ok(desired) => node.put(desired).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = done {
            tracing::error!(system, topic = self.topic, why, "the record of a system cannot be used; write it again with `hub apply`");
        }
    }

    /// Reads the table as it is, then its changes as they come. Blocks.
    fn read(&self, tell: &mpsc::Sender<Changes>, stop: &CancellationToken) {
        let mut after = None;
        while !stop.is_cancelled() && !tell.is_closed() {
            let read = Table::open(&self.kafka, &self.topic).and_then(|table| self.watch(&table, &mut after, tell, stop));
            let Err(error) = read else { return };
            tracing::warn!(topic = self.topic, error = &error as &dyn std::error::Error, "desired systems cannot be read; trying again");
            let until = std::time::Instant::now() + REOPEN_AFTER;
            while std::time::Instant::now() < until && !stop.is_cancelled() {
                std::thread::sleep(LOOK);
            }
        }
    }

    fn watch(&self, table: &Table, after: &mut Option<i64>, tell: &mpsc::Sender<Changes>, stop: &CancellationToken) -> Result<(), Error> {
        let mut follower = table.follow(*after)?;
        let mut changes = Changes::new();
        while !stop.is_cancelled() && !tell.is_closed() {
            match follower.next(if changes.is_empty() { LOOK } else { TOGETHER }) {
                Ok(Some(Change { key, offset, document })) => {
                    *after = Some(offset);
                    changes.insert(key, document);
                }
                Ok(None) if changes.is_empty() => {}
                Ok(None) => {
                    if tell.blocking_send(std::mem::take(&mut changes)).is_err() {
                        return Ok(());
                    }
                }
                Err(error @ Error::BadRecord { .. }) => {
                    tracing::error!(topic = self.topic, error = &error as &dyn std::error::Error, "a record is no system; it is left out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
