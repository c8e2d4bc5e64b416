//! A server of the test's own, a connector on it, and its runs.

use std::sync::Arc;
use std::time::Duration;

use hub_connector_postgres::Postgres;
use hub_sdk::model::{ChangeBatch, Checkpoint, StreamName, SystemName};
use hub_sdk::{BatchLimits, Budget, Connector, Delivery, OpenContext, Permit, SourceError, StreamRequest, outlet};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::own_server::{HBA, OwnServer};
use crate::source::connect;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Rig {
    pub(crate) server: OwnServer,
    pub(crate) admin: Client,
    pub(crate) limits: BatchLimits,
}

impl Rig {
    /// A new server on which `setup` was run.
    pub(crate) async fn start(setup: &str) -> Self {
        let server = OwnServer::start("wal_level = logical\nautovacuum = off", HBA);
        let admin = connect(server.port, "postgres").await;
        admin.batch_execute(setup).await.unwrap();
        Self { server, admin, limits: BatchLimits::default() }
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) async fn client(&self) -> Client {
        connect(self.server.port, "postgres").await
    }

    pub(crate) async fn connector(&self, streams: &[&str]) -> Arc<Postgres> {
        self.connector_with(streams, json!({})).await
    }

    pub(crate) async fn connector_with(&self, streams: &[&str], over: Value) -> Arc<Postgres> {
        let mut config = json!({"host": "127.0.0.1", "port": self.server.port, "database": "postgres", "user": "postgres"});
        for (key, value) in over.as_object().unwrap() {
            config[key] = value.clone();
        }
        let streams =
            streams.iter().map(|stream| StreamRequest { stream: StreamName::new(stream).unwrap(), columns: Vec::new() }).collect();
        let context = OpenContext { limits: self.limits, ..OpenContext::new(SystemName::new("mot-cua").unwrap(), streams) };
        Arc::new(Postgres::open(serde_json::from_value(config).unwrap(), context).await.unwrap())
    }
}

/// One run of a connector.
pub(crate) struct Run {
    pub(crate) connector: Arc<Postgres>,
    task: JoinHandle<Result<(), SourceError>>,
    deliveries: mpsc::Receiver<(Delivery, Permit)>,
}

impl Run {
    /// Starts after a checkpoint.
    pub(crate) fn start(connector: &Arc<Postgres>, from: &Checkpoint) -> Self {
        Self::start_within(connector, from, 64 << 20)
    }

    /// Starts with a budget in bytes.
    pub(crate) fn start_within(connector: &Arc<Postgres>, from: &Checkpoint, budget: usize) -> Self {
        let (out, deliveries) = outlet(Budget::new(budget), 4);
        let (capturing, from) = (Arc::clone(connector), from.clone());
        let task = tokio::spawn(async move { capturing.capture(from, out).await });
        Self { connector: Arc::clone(connector), task, deliveries }
    }

    /// The next delivery. Panics where the run ends or nothing comes.
    pub(crate) async fn next(&mut self) -> Delivery {
        match tokio::time::timeout(PATIENCE, self.deliveries.recv()).await {
            Ok(Some((delivery, _permit))) => delivery,
            Ok(None) => panic!("the run ended: {:?}", (&mut self.task).await.unwrap().map_err(|error| error.report())),
            Err(_elapsed) => panic!("no delivery within {PATIENCE:?}"),
        }
    }

    /// The first batch of the next delivery that has one.
    pub(crate) async fn rows(&mut self) -> ChangeBatch {
        loop {
            if let Some(batch) = self.next().await.batches.into_iter().next() {
                return batch;
            }
        }
    }

    /// The next delivery, if one is there within a moment.
    pub(crate) async fn next_within(&mut self, wait: Duration) -> Option<Delivery> {
        tokio::time::timeout(wait, self.deliveries.recv()).await.ok().flatten().map(|(delivery, _permit)| delivery)
    }

    /// The error that ends the run.
    pub(crate) async fn failure(mut self) -> SourceError {
        while let Some(_delivery) = self.deliveries.recv().await {}
        self.task.await.unwrap().expect_err("the run should have failed")
    }

    /// Ends as a killed process does: nothing more is handed over or confirmed.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }

    /// Ends by shutting the outlet.
    pub(crate) async fn shut(self) {
        drop(self.deliveries);
        tokio::time::timeout(PATIENCE, self.task).await.expect("shuts down in time").unwrap().unwrap();
    }
}
