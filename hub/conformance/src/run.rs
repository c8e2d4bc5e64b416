//! A fixture with its connector, and the runs of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_sdk::model::{Checkpoint, StreamName, SystemName};
use hub_sdk::{Abilities, BatchLimits, Budget, Connector, Delivery, OpenContext, Permit, SourceError, StreamRequest, outlet};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Fixture, Replica};

/// How long anything may take before a case gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Deliveries that may wait: more than those without a row with which a run begins, so that the budget is what holds the others.
const MANY: usize = 16;

/// A fixture, and what its connector is opened with.
pub struct Stage<F: Fixture> {
    /// The source.
    pub fixture: F,
    /// What the connector declares.
    pub abilities: Abilities,
    /// When batches close: small, so that there are many checkpoints.
    pub limits: BatchLimits,
}

impl<F: Fixture> Stage<F> {
    /// Starts the source.
    pub async fn start() -> Self {
        let fixture = F::start().await;
        let config = parse::<F>(&fixture.config());
        let abilities = F::Connector::abilities(&config);
        Self { fixture, abilities, limits: BatchLimits { rows: 100, ..BatchLimits::default() } }
    }

    /// The same for cases that need an ability; says so and gives `None` where it is not declared.
    pub async fn able(ability: &str, has: impl FnOnce(&Abilities) -> bool) -> Option<Self> {
        let stage = Self::start().await;
        if has(&stage.abilities) {
            return Some(stage);
        }
        println!("does not apply: {} does not declare {ability}", F::Connector::NAME);
        None
    }

    /// An open connector on the stream.
    pub async fn connector(&self) -> Arc<F::Connector> {
        self.connector_of(&self.fixture.config(), &[self.fixture.stream()]).await
    }

    /// An open connector with another configuration or other streams.
    pub async fn connector_of(&self, config: &Value, streams: &[StreamName]) -> Arc<F::Connector> {
        let request = |stream: &StreamName| StreamRequest { stream: stream.clone(), columns: Vec::new() };
        let streams = streams.iter().map(request).collect();
        let context = OpenContext { limits: self.limits, ..OpenContext::new(SystemName::new("conformance").unwrap(), streams) };
        Arc::new(F::Connector::open(parse::<F>(config), context).await.unwrap_or_else(|error| panic!("{}", error.report())))
    }

    /// A subscriber of the stream.
    pub fn replica(&self) -> Replica {
        Replica::new(F::KEY, F::VALUE, self.abilities.exactly_once)
    }

    /// Puts `count` rows with values of their own.
    pub async fn fill(&mut self, first: i64, count: i64) {
        let rows: Vec<_> = (first..first + count).map(|id| (id, Some(format!("số {id}")))).collect();
        self.fixture.put(&rows).await;
    }

    /// Takes deliveries until the subscriber knows what the source knows.
    pub async fn catch_up(&mut self, run: &mut Run<F::Connector>, replica: &mut Replica) {
        let rows = self.fixture.rows().await;
        while replica.rows != rows {
            if let Err(why) = run.take(replica).await {
                panic!("{why}; {}", difference(&rows, &replica.rows));
            }
        }
    }
}

fn difference(source: &BTreeMap<String, String>, mine: &BTreeMap<String, String>) -> String {
    let missing: Vec<_> = source.keys().filter(|key| !mine.contains_key(*key)).take(5).collect();
    let extra: Vec<_> = mine.keys().filter(|key| !source.contains_key(*key)).take(5).collect();
    let other: Vec<_> = source.iter().filter(|(key, row)| mine.get(*key).is_some_and(|mine| mine != *row)).take(5).collect();
    format!("missing {missing:?}, extra {extra:?}, different {other:?}")
}

pub(crate) fn parse<F: Fixture>(config: &Value) -> <F::Connector as Connector>::Config {
    serde_json::from_value(config.clone()).unwrap_or_else(|error| panic!("the fixture's configuration is refused: {error}"))
}

/// One run of a connector.
pub struct Run<C: Connector> {
    /// The connector.
    pub connector: Arc<C>,
    /// What its queue may hold.
    pub budget: Budget,
    task: JoinHandle<Result<(), SourceError>>,
    deliveries: mpsc::Receiver<(Delivery, Permit)>,
}

impl<C: Connector> Run<C> {
    /// Starts after a checkpoint; four deliveries may wait.
    #[must_use]
    pub fn start(connector: &Arc<C>, from: &Checkpoint) -> Self {
        Self::begin(connector, from, 64 << 20, 4)
    }

    /// Starts with a budget in bytes, which is what holds its deliveries.
    #[must_use]
    pub fn start_within(connector: &Arc<C>, from: &Checkpoint, bytes: usize) -> Self {
        Self::begin(connector, from, bytes, MANY)
    }

    fn begin(connector: &Arc<C>, from: &Checkpoint, bytes: usize, deliveries: usize) -> Self {
        let budget = Budget::new(bytes);
        let (out, deliveries) = outlet(budget.clone(), deliveries);
        let (capturing, from) = (Arc::clone(connector), from.clone());
        let task = tokio::spawn(async move { capturing.capture(from, out).await });
        Self { connector: Arc::clone(connector), budget, task, deliveries }
    }

    /// The next delivery, or why there is none.
    ///
    /// # Errors
    /// The run ended, or nothing came in time.
    pub async fn next(&mut self) -> Result<Delivery, String> {
        match tokio::time::timeout(PATIENCE, self.deliveries.recv()).await {
            Ok(Some((delivery, _permit))) => Ok(delivery),
            Ok(None) => Err(format!("the run ended: {:?}", (&mut self.task).await.unwrap().map_err(|error| error.report()))),
            Err(_elapsed) => Err(format!("no delivery within {PATIENCE:?}")),
        }
    }

    /// Takes one delivery into a subscriber and acknowledges it.
    ///
    /// # Errors
    /// As [`Run::next`].
    pub async fn take(&mut self, replica: &mut Replica) -> Result<(), String> {
        let delivery = self.next().await?;
        replica.apply(&delivery);
        self.connector.acknowledge(&delivery.checkpoint);
        Ok(())
    }

    /// The error that ends the run; what still comes before it is taken by nobody.
    pub async fn failure(mut self) -> SourceError {
        let ended = async {
            while let Some(_delivery) = self.deliveries.recv().await {}
            self.task.await.unwrap().expect_err("the run should have failed")
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the run should have failed in time")
    }

    /// Ends as a killed process does: nothing more is handed over or confirmed.
    pub async fn kill(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }

    /// Ends by shutting the outlet, within a time.
    pub async fn shut_within(self, limit: Duration) {
        drop(self.deliveries);
        let ended = tokio::time::timeout(limit, self.task).await.unwrap_or_else(|_| panic!("the run did not end within {limit:?}"));
        ended.unwrap().unwrap_or_else(|error| panic!("a shut outlet is no error: {}", error.report()));
    }

    /// Ends by shutting the outlet.
    pub async fn shut(self) {
        self.shut_within(PATIENCE).await;
    }
}
