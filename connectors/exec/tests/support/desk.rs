//! A connector with its streams, and what a subscriber was told.

use std::sync::Arc;

use hub_conformance::{Run, cell};
use hub_connector_exec::{Exec, ExecConfig};
use hub_sdk::model::{ChangeBatch, Checkpoint, StreamName, SystemName};
use hub_sdk::{BatchLimits, Connector, Delivery, OpenContext, SourceError, StreamRequest};
use serde_json::Value;

/// A configuration and the checkpoint of what is durable.
pub(crate) struct Desk {
    pub(crate) config: Value,
    pub(crate) streams: Vec<(String, Vec<String>)>,
    pub(crate) limits: BatchLimits,
    pub(crate) checkpoint: Checkpoint,
    /// Streams that were told to be complete.
    pub(crate) completed: Vec<String>,
}

impl Desk {
    pub(crate) fn new(config: Value, streams: &[&str]) -> Self {
        let streams = streams.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        Self { config, streams, limits: BatchLimits::default(), checkpoint: Checkpoint::empty(), completed: Vec::new() }
    }

    pub(crate) async fn connector(&self) -> Arc<Exec> {
        let config: ExecConfig = serde_json::from_value(self.config.clone()).unwrap();
        let request =
            |(name, columns): &(String, Vec<String>)| StreamRequest { stream: StreamName::new(name).unwrap(), columns: columns.clone() };
        let streams = self.streams.iter().map(request).collect();
        let context = OpenContext { limits: self.limits, ..OpenContext::new(SystemName::new("thu").unwrap(), streams) };
        Arc::new(Exec::open(config, context).await.unwrap_or_else(|error| panic!("{}", error.report())))
    }

    pub(crate) async fn run(&self) -> Run<Exec> {
        Run::start(&self.connector().await, &self.checkpoint)
    }

    /// The error of a run that fails.
    pub(crate) async fn failure(&self) -> SourceError {
        self.run().await.failure().await
    }

    /// Takes one delivery as durable; its changes as `stream operation cells`.
    pub(crate) async fn take(&mut self, run: &mut Run<Exec>) -> Vec<String> {
        let delivery = run.next().await.unwrap();
        self.keep(&delivery)
    }

    fn keep(&mut self, delivery: &Delivery) -> Vec<String> {
        self.checkpoint.merge(&delivery.checkpoint);
        self.completed.extend(delivery.completed.iter().map(ToString::to_string));
        delivery.batches.iter().flat_map(|batch| (0..batch.len()).map(|row| told(batch, row)).collect::<Vec<_>>()).collect()
    }

    /// Takes deliveries until so many changes came.
    pub(crate) async fn changes(&mut self, run: &mut Run<Exec>, count: usize) -> Vec<String> {
        let mut changes = Vec::new();
        while changes.len() < count {
            changes.extend(self.take(run).await);
        }
        changes
    }

    /// Takes deliveries until all streams are complete.
    pub(crate) async fn snapshot(&mut self, run: &mut Run<Exec>) -> Vec<String> {
        let mut changes = Vec::new();
        while self.completed.len() < self.streams.len() {
            changes.extend(self.take(run).await);
        }
        changes
    }

    /// The partitions that stand.
    pub(crate) fn partitions(&self) -> Vec<String> {
        self.checkpoint.iter().filter(|(_, position)| position.is_some()).map(|(partition, _)| partition.to_owned()).collect()
    }
}

fn told(batch: &ChangeBatch, row: usize) -> String {
    let cells: Vec<_> = (0..batch.rows.num_columns()).map(|column| cell(&batch.rows, column, row)).collect();
    let fault = batch.faults.iter().find(|fault| fault.row as usize == row);
    let fault = fault.map(|fault| format!(" !{} {}", fault.code, fault.message)).unwrap_or_default();
    format!("{} {} {}{fault}", batch.stream, batch.ops[row].letter(), cells.join("|"))
}
