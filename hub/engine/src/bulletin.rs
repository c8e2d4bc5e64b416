//! Writes what each system does into the status topic, for whoever cannot ask the node itself: one record per system.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_kafka::{KafkaConfig, Table};
use hub_sdk::now_micros;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::status::{Position, SystemStatus};
use crate::{Node, RunError};

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_millis(500);
/// Figures that move all the time are written this often at most. A new state is written at once.
const FIGURES_EVERY: Duration = Duration::from_secs(5);
/// How long a node that ends may take to say so.
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);
/// The state of a system whose node has ended well; no node runs it.
const UNASSIGNED: &str = "unassigned";

/// One record of the status topic; the key is the system. No key and no value of any row is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusRecord {
    /// The system.
    pub system: String,
    /// Its state, in the words of `hub status`; `unassigned` where no node runs it.
    pub state: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
    /// The node that runs it: host and port of its operators' port.
    pub node: Option<String>,
    /// What is wrong and what to do.
    pub error: Option<String>,
    /// Streams whose mapping does not fit their source: their rows go to the rejects topic raw.
    #[serde(default)]
    pub parked: Vec<String>,
    /// The figures, as of `at_ms`.
    pub figures: Figures,
    /// When this record was written, milliseconds since 1970.
    pub at_ms: i64,
}

/// What of a status record moves all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// How far its topics are behind its source.
    pub lag_seconds: Option<f64>,
    /// Rows published by this run.
    pub published: u64,
    /// Rows rejected by this run.
    pub rejected: u64,
    /// Chunks of the running snapshot: durable, and all.
    pub snapshot_chunks: Option<(u64, u64)>,
    /// The latest live change that is durable.
    pub position: Option<Position>,
}

impl StatusRecord {
    fn of(status: &SystemStatus, node: &str) -> Self {
        let sum = |count: fn(&crate::status::StreamStatus) -> u64| status.streams.values().map(count).sum();
        let chunks = status.snapshot.iter().fold((0, 0), |(done, all), stream| (done + stream.chunks_done, all + stream.chunks));
        Self {
            system: status.system.clone(),
            state: status.state.name().to_owned(),
            since_ms: status.since_ms,
            node: Some(node.to_owned()),
            error: status.error.clone(),
            parked: status.streams.iter().filter(|(_, stream)| stream.parked.is_some()).map(|(name, _)| name.clone()).collect(),
            figures: Figures {
                lag_seconds: status.lag_seconds,
                published: sum(|stream| stream.published),
                rejected: sum(|stream| stream.rejected),
                snapshot_chunks: (chunks.1 > 0).then_some(chunks),
                position: status.position,
            },
            at_ms: now_micros() / 1000,
        }
    }

    /// Whether it says another thing than an earlier one, figures apart.
    fn differs(&self, earlier: &Self) -> bool {
        let (now, before) = (self, earlier);
        (&now.state, now.since_ms, &now.node, &now.error, &now.parked)
            != (&before.state, before.since_ms, &before.node, &before.error, &before.parked)
    }
}

/// The status topic, as this node writes it.
pub(crate) struct Bulletin {
    table: Table,
    node: String,
    /// What was written last, and when. Held while it is written: what is deleted is not written once more from behind.
    written: tokio::sync::Mutex<BTreeMap<String, (Instant, StatusRecord)>>,
    /// Systems whose record is deleted.
    gone: Mutex<BTreeSet<String>>,
}

impl Bulletin {
    /// Prepares to write.
    pub(crate) fn open(kafka: &KafkaConfig, topic: &str, node: String) -> Result<Self, RunError> {
        let failed = |error: hub_kafka::Error| RunError::Kafka { doing: format!("opening {topic}"), cause: crate::error::chain(&error) };
        let table = Table::open(kafka, topic).map_err(failed)?;
        Ok(Self { table, node, written: tokio::sync::Mutex::default(), gone: Mutex::default() })
    }

    /// Writes what is due of these.
    async fn tell(&self, statuses: &[SystemStatus]) {
        let mut written = self.written.lock().await;
        let records = statuses.iter().map(|status| StatusRecord::of(status, &self.node));
        let due: Vec<StatusRecord> = records
            .filter(|record| !self.is_gone(&record.system))
            .filter(|record| match written.get(&record.system) {
                Some((at, before)) => record.differs(before) || (at.elapsed() >= FIGURES_EVERY && record.figures != before.figures),
                None => true,
            })
            .collect();
        let puts = due.into_iter().map(async |record| {
            let written = self.put(&record).await;
            (record, written)
        });
        for (record, outcome) in futures::future::join_all(puts).await {
            match outcome {
                Ok(()) => drop(written.insert(record.system.clone(), (Instant::now(), record))),
                Err(why) => tracing::debug!(system = record.system, why, "the status cannot be written; it is tried again"),
            }
        }
    }

    async fn put(&self, record: &StatusRecord) -> Result<(), String> {
        let document = serde_json::to_value(record).map_err(|error| error.to_string())?;
        self.table.put(&record.system, &document).await.map(|_| ()).map_err(|error| crate::error::chain(&error))
    }

    /// Deletes the record of a system; nothing is written of it until it is [`Bulletin::revive`]d.
    pub(crate) async fn forget(&self, system: &str) -> Result<(), hub_kafka::Error> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(system.to_owned());
        let mut written = self.written.lock().await;
        self.table.delete(system).await?;
        written.remove(system);
        Ok(())
    }

    /// A system is put (again).
    pub(crate) fn revive(&self, system: &str) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(system);
    }

    fn is_gone(&self, system: &str) -> bool {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(system)
    }

    /// Says that no node runs what this one ran.
    pub(crate) async fn farewell(&self) {
        let say = async {
            let written = self.written.lock().await;
            let now = now_micros() / 1000;
            let last = written.values().filter(|(_, record)| !self.is_gone(&record.system)).map(|(_, record)| StatusRecord {
                state: UNASSIGNED.to_owned(),
                since_ms: now,
                at_ms: now,
                node: None,
                ..record.clone()
            });
            let puts = last.map(async |record| self.put(&record).await);
            futures::future::join_all(puts).await
        };
        if tokio::time::timeout(FAREWELL_WITHIN, say).await.is_err() {
            tracing::debug!("kafka does not answer: the status topic still names this node");
        }
    }
}

/// Writes until `stop`: a new state at once, figures every few seconds.
pub async fn publish(node: Arc<Node>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let statuses = node.told();
        tokio::select! {
            () = stop.cancelled() => return,
            () = node.bulletin().tell(&statuses) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Board, State};

    #[test]
    fn a_new_state_or_error_differs_and_figures_do_not() {
        let board = Board::new("demo");
        let of = |status: &SystemStatus| StatusRecord::of(status, "host:9464");
        let before = of(&board.report(Vec::new()));
        board.stream("public.nguoi", "h09.demo.person");
        board.add(&crate::status::Tally { streams: vec![("public.nguoi".into(), [3, 2, 1, 0])], ..Default::default() });
        let counted = of(&board.report(Vec::new()));
        assert!(!counted.differs(&before));
        assert_eq!((counted.figures.published, counted.figures.rejected), (2, 1));
        board.enter(State::Retrying, Some("no route to host".to_owned()));
        let failed = of(&board.report(Vec::new()));
        assert!(failed.differs(&counted));
        assert_eq!((failed.state.as_str(), failed.error.as_deref()), ("retrying", Some("no route to host")));
    }
}
