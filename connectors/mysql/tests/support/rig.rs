//! A server with tables, and runs whose deliveries are told as lines.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::util::display::array_value_to_string;
use hub_conformance::Link;
use hub_connector_mysql::Mysql;
use hub_sdk::model::{ChangeBatch, Checkpoint, Op, SnapshotMark, StreamName, SystemName};
use hub_sdk::{BatchLimits, Budget, Connector, Delivery, OpenContext, Permit, SourceError, StreamRequest, outlet};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::database::Database;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server with tables, and the streams that are read.
pub(crate) struct Rig {
    pub(crate) database: Database,
    pub(crate) link: Link,
    /// When batches close: early, so that there are many checkpoints.
    pub(crate) limits: BatchLimits,
    streams: Vec<String>,
}

/// One change of a table whose first column is a number and whose second is text.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) stream: String,
    pub(crate) op: Op,
    pub(crate) key: i64,
    pub(crate) value: String,
}

/// Starts a server beside the runtime.
pub(crate) async fn on_server(start: impl FnOnce() -> Database + Send + 'static) -> Database {
    tokio::task::spawn_blocking(start).await.unwrap()
}

impl Rig {
    pub(crate) async fn new(tables: &str, streams: &[&str]) -> Self {
        Self::with(tables, streams, &[]).await
    }

    /// The same with settings of the server.
    pub(crate) async fn with(tables: &str, streams: &[&str], settings: &[&str]) -> Self {
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let database = on_server(move || Database::start_with(1, &settings.iter().map(String::as_str).collect::<Vec<_>>())).await;
        database.run(tables);
        let link = Link::to(database.port, true).await;
        let limits = BatchLimits { rows: 150, ..BatchLimits::default() };
        Self { database, link, limits, streams: streams.iter().map(|stream| (*stream).to_owned()).collect() }
    }

    pub(crate) fn config(&self) -> Value {
        self.database.config(self.link.port)
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.database.run(sql);
    }

    /// A table's rows by their numbers.
    pub(crate) fn rows(&self, table: &str) -> BTreeMap<i64, String> {
        let lines = self.database.lines(&format!("SELECT id, IFNULL(ten, '∅') FROM {table}"));
        lines.iter().map(|line| line.split_once('\t').unwrap()).map(|(id, ten)| (id.parse().unwrap(), ten.to_owned())).collect()
    }

    /// Waits until something holds at a server.
    pub(crate) async fn until(&self, holds: impl Fn() -> bool) {
        let holding = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, holding).await.expect("it should hold in time");
    }

    pub(crate) async fn connector(&self, config: &Value, streams: &[&str]) -> Arc<Mysql> {
        let request = |stream: &&str| StreamRequest { stream: StreamName::new(stream).unwrap(), columns: Vec::new() };
        let mut context = OpenContext::new(SystemName::new("rig").unwrap(), streams.iter().map(request).collect());
        context.limits = self.limits;
        Arc::new(Mysql::open(serde_json::from_value(config.clone()).unwrap(), context).await.unwrap())
    }

    pub(crate) async fn run(&self, from: &Checkpoint) -> Run {
        let streams: Vec<&str> = self.streams.iter().map(String::as_str).collect();
        self.run_of(&streams, from).await
    }

    pub(crate) async fn run_of(&self, streams: &[&str], from: &Checkpoint) -> Run {
        self.run_with(&self.config(), streams, from).await
    }

    pub(crate) async fn run_with(&self, config: &Value, streams: &[&str], from: &Checkpoint) -> Run {
        Run::start(&self.connector(config, streams).await, from)
    }
}

/// A run, and what it told.
pub(crate) struct Run {
    task: JoinHandle<Result<(), SourceError>>,
    deliveries: mpsc::Receiver<(Delivery, Permit)>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) completed: Vec<String>,
    pub(crate) key_changes: usize,
    pub(crate) faults: Vec<&'static str>,
    pub(crate) columns: Vec<String>,
    pub(crate) last_commit: u64,
    waiting: Vec<String>,
}

impl Run {
    pub(crate) fn start(connector: &Arc<Mysql>, from: &Checkpoint) -> Self {
        let (out, deliveries) = outlet(Budget::new(64 << 20), 4);
        let (capturing, begin) = (Arc::clone(connector), from.clone());
        let task = tokio::spawn(async move { capturing.capture(begin, out).await });
        Self {
            task,
            deliveries,
            checkpoint: from.clone(),
            completed: Vec::new(),
            key_changes: 0,
            faults: Vec::new(),
            columns: Vec::new(),
            last_commit: 0,
            waiting: Vec::new(),
        }
    }

    async fn next(&mut self) -> Delivery {
        match tokio::time::timeout(PATIENCE, self.deliveries.recv()).await {
            Ok(Some((delivery, _permit))) => {
                self.note(&delivery);
                delivery
            }
            Ok(None) => panic!("the run ended: {:?}", (&mut self.task).await.unwrap().map_err(|error| error.report())),
            Err(_late) => panic!("no delivery in time"),
        }
    }

    fn note(&mut self, delivery: &Delivery) {
        self.checkpoint.merge(&delivery.checkpoint);
        self.completed.extend(delivery.completed.iter().map(ToString::to_string));
        for batch in &delivery.batches {
            let batch = batch.clone().check().unwrap();
            self.key_changes += batch.key_changes.len();
            self.faults.extend(batch.faults.iter().map(|fault| fault.code));
            self.columns = batch.rows.schema().fields().iter().map(|field| field.name().clone()).collect();
            if batch.snapshot == SnapshotMark::No {
                let commits = &batch.origin.commit_position;
                assert!(commits.is_sorted(), "places grow");
                self.last_commit = self.last_commit.max(commits.last().copied().unwrap_or(0));
            }
        }
    }

    /// Takes deliveries until all present rows are told.
    pub(crate) async fn until_following(&mut self) {
        while self.completed.is_empty() {
            self.next().await;
        }
    }

    /// The lines of one delivery.
    pub(crate) async fn take(&mut self) -> Vec<String> {
        self.next().await.batches.iter().flat_map(lines).collect()
    }

    /// The lines of one delivery, each after its stream.
    pub(crate) async fn take_lines(&mut self) -> Vec<String> {
        let of = |batch: &ChangeBatch| lines(batch).into_iter().map(|line| format!("{} {line}", batch.stream)).collect::<Vec<_>>();
        self.next().await.batches.iter().flat_map(of).collect()
    }

    /// The rows of one delivery.
    pub(crate) async fn take_rows(&mut self) -> Vec<Row> {
        self.next().await.batches.iter().flat_map(rows).collect()
    }

    /// The same, or the error that ends the run.
    pub(crate) async fn try_take_rows(&mut self) -> Result<Vec<Row>, SourceError> {
        match tokio::time::timeout(PATIENCE, self.deliveries.recv()).await.expect("a delivery in time") {
            Some((delivery, _permit)) => {
                self.note(&delivery);
                Ok(delivery.batches.iter().flat_map(rows).collect())
            }
            None => Err((&mut self.task).await.unwrap().expect_err("the run should have failed")),
        }
    }

    /// The next changes, as lines.
    pub(crate) async fn changes(&mut self, count: usize) -> Vec<String> {
        self.some(count, |line| !line.starts_with('r')).await
    }

    /// The next rows that are read, as lines.
    pub(crate) async fn reads(&mut self, count: usize) -> Vec<String> {
        self.some(count, |line| line.starts_with('r')).await
    }

    async fn some(&mut self, count: usize, wanted: fn(&String) -> bool) -> Vec<String> {
        while self.waiting.iter().filter(|line| wanted(line)).count() < count {
            let lines = self.take().await;
            self.waiting.extend(lines);
        }
        let (told, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(wanted);
        assert_eq!(told.len(), count, "more than that is told: {told:?}");
        self.waiting = rest;
        told
    }

    /// Ends as a killed process does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }

    /// The error that ends the run.
    pub(crate) async fn failure(mut self) -> SourceError {
        let ended = async {
            while let Some(_delivery) = self.deliveries.recv().await {}
            self.task.await.unwrap().expect_err("the run should have failed")
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the run should have failed in time")
    }
}

fn cell(batch: &ChangeBatch, column: usize, row: usize) -> String {
    let array = batch.rows.column(column);
    if array.is_null(row) { "∅".to_owned() } else { array_value_to_string(array, row).unwrap() }
}

fn rows(batch: &ChangeBatch) -> Vec<Row> {
    let row = |row: usize| Row {
        stream: batch.stream.to_string(),
        op: batch.ops[row],
        key: cell(batch, 0, row).parse().unwrap_or(0),
        value: cell(batch, 1, row),
    };
    (0..batch.len()).map(row).collect()
}

/// `u 2 c (b)`: the operation, the cells, and the second cell before an update.
fn lines(batch: &ChangeBatch) -> Vec<String> {
    let line = |row: usize| {
        let cells: Vec<String> = (0..batch.rows.num_columns()).map(|column| cell(batch, column, row)).collect();
        let old = batch.old.as_ref().filter(|_| batch.ops[row] == Op::Update);
        let before = old.map(|old| format!(" ({})", array_value_to_string(old.column(1), row).unwrap())).unwrap_or_default();
        format!("{} {}{before}", batch.ops[row].letter(), cells.join(" "))
    };
    (0..batch.len()).map(line).collect()
}
