//! A folder of a test's own with one stream, and what a subscriber of it was told.
#![allow(dead_code, unreachable_pub, reason = "not every test uses all of it")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hub_conformance::{Run, cell};
use hub_connector_files::{Files, FilesConfig};
use hub_sdk::model::{ChangeBatch, Checkpoint, StreamName, SystemName};
use hub_sdk::{BatchLimits, Connector, Delivery, OpenContext, Probe, StreamRequest};
use serde_json::{Value, json};

use crate::scratch::{Scratch, deliver};

/// A folder, one stream of it, and what a subscriber was told.
pub(crate) struct Desk {
    pub(crate) scratch: Scratch,
    /// Where the files are, unless in the folder.
    pub(crate) place: Option<Value>,
    pub(crate) stream: Value,
    pub(crate) columns: Vec<String>,
    pub(crate) limits: BatchLimits,
    pub(crate) every_s: f64,
    pub(crate) document_mib: u64,
    pub(crate) checkpoint: Checkpoint,
}

impl Desk {
    pub(crate) fn new(stream: Value) -> Self {
        let limits = BatchLimits::default();
        Self {
            scratch: Scratch::new(),
            place: None,
            stream,
            columns: Vec::new(),
            limits,
            every_s: 0.02,
            document_mib: 64,
            checkpoint: Checkpoint::empty(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        deliver(self.folder(), name, text.as_ref());
    }

    pub(crate) async fn connector(&self) -> Arc<Files> {
        let mut config = self.place.clone().unwrap_or_else(|| json!({"folder": self.folder()}));
        config["every_s"] = json!(self.every_s);
        config["document_mib"] = json!(self.document_mib);
        config["streams"] = json!({"s": self.stream});
        let config: FilesConfig = serde_json::from_value(config).unwrap();
        let streams = vec![StreamRequest { stream: StreamName::new("s").unwrap(), columns: self.columns.clone() }];
        let context = OpenContext { limits: self.limits, ..OpenContext::new(SystemName::new("thu").unwrap(), streams) };
        Arc::new(Files::open(config, context).await.unwrap_or_else(|error| panic!("{}", error.report())))
    }

    pub(crate) async fn run(&self) -> Run<Files> {
        Run::start(&self.connector().await, &self.checkpoint)
    }

    /// Takes one delivery as durable; its changes as `operation key-and-cells`.
    pub(crate) async fn take(&mut self, run: &mut Run<Files>) -> Vec<String> {
        let delivery = run.next().await.unwrap();
        self.checkpoint.merge(&delivery.checkpoint);
        told(&delivery)
    }

    /// Takes deliveries until so many changes came.
    pub(crate) async fn changes(&mut self, run: &mut Run<Files>, count: usize) -> Vec<String> {
        let mut changes = Vec::new();
        while changes.len() < count {
            changes.extend(self.take(run).await);
        }
        changes
    }

    /// Takes deliveries until the first snapshot is whole.
    pub(crate) async fn snapshot(&mut self, run: &mut Run<Files>) -> Vec<String> {
        let mut changes = Vec::new();
        loop {
            let delivery = run.next().await.unwrap();
            self.checkpoint.merge(&delivery.checkpoint);
            changes.extend(told(&delivery));
            if !delivery.completed.is_empty() {
                return changes;
            }
        }
    }

    /// What one file alone gives.
    pub(crate) async fn rows_of(stream: Value, name: &str, text: impl AsRef<[u8]>) -> Vec<String> {
        let mut desk = Self::new(stream);
        desk.put(name, text);
        let mut run = desk.run().await;
        let changes = desk.snapshot(&mut run).await;
        run.shut().await;
        changes
    }

    pub(crate) async fn probe(&self) -> Probe {
        self.connector().await.probe().await.unwrap()
    }

    pub(crate) fn aside(&self, name: &str) -> String {
        fs::read_to_string(self.folder().join("rejected").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

pub(crate) fn told(delivery: &Delivery) -> Vec<String> {
    let row = |batch: &ChangeBatch, row: usize| {
        let cells: Vec<_> = (0..batch.rows.num_columns()).map(|column| cell(&batch.rows, column, row)).collect();
        let fault = batch.faults.iter().find(|fault| fault.row as usize == row);
        let fault = fault.map(|fault| format!(" !{} {}", fault.code, fault.message)).unwrap_or_default();
        format!("{} {}{fault}", batch.ops[row].letter(), cells.join("|"))
    };
    delivery.batches.iter().flat_map(|batch| (0..batch.len()).map(|place| row(batch, place)).collect::<Vec<_>>()).collect()
}
