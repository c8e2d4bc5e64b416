//! One run of a system: capture, pipeline and lane, from a checkpoint until something ends it.
//!
//! When it ends, every publication it made has a definite outcome; the next run opens a new session of the lane and goes on
//! from the checkpoint that Kafka holds.

use std::sync::Arc;
use std::time::Duration;

use hub_kafka::{Committed, KafkaConfig, Lane, LaneError, Publication};
use hub_model::{Block, Checkpoint};
use hub_registry::Schemas;
use hub_sdk::{Budget, Delivery, DynConnector, Outlet, Permit, SourceError, now_micros};
use hub_telemetry::SystemMetrics;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::RunError;
use crate::anew::{Due, Readings, Search};
use crate::audit::Audit;
use crate::error::panicked;
use crate::pipeline::Pipeline;
use crate::status::{Board, State, Tally};

/// Deliveries that wait for the pipeline; the byte budget is the real bound.
const QUEUE_DEPTH: usize = 8;
/// So many rows are normalised and encoded in well under a millisecond.
const SMALL: usize = 200;
/// How long a connector may take to end after its outlet is shut.
const GRACE: Duration = Duration::from_secs(5);

/// What a run needs.
pub(crate) struct Run<'a> {
    /// The right to publish.
    pub(crate) session: hub_kafka::Session,
    pub(crate) connector: Arc<dyn DynConnector>,
    pub(crate) pipeline: Pipeline,
    pub(crate) lane: &'a Lane,
    pub(crate) budget: Budget,
    pub(crate) board: &'a Board,
    pub(crate) metrics: SystemMetrics,
    /// Where it goes on from.
    pub(crate) checkpoint: Checkpoint,
    /// What the hub itself keeps in the checkpoint.
    pub(crate) readings: Readings,
    pub(crate) kafka: KafkaConfig,
    pub(crate) schemas: Schemas,
    pub(crate) audit: Audit,
}

struct Outcome {
    result: Result<Committed, LaneError>,
    checkpoint: Checkpoint,
    tally: Tally,
}

struct Flight {
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    report: mpsc::UnboundedSender<Outcome>,
    open: usize,
}

impl Run<'_> {
    /// Runs until the source, the lane or `stop` ends it.
    pub(crate) async fn run(mut self, stop: &CancellationToken) -> Result<(), RunError> {
        self.begin(stop).await?;
        let (outlet, mut deliveries) = hub_sdk::outlet_into(self.budget.clone(), QUEUE_DEPTH, self.board.backlog().clone());
        let mut capture = spawn_capture(&self.connector, std::mem::take(&mut self.checkpoint), outlet);
        let (report, outcomes) = mpsc::unbounded_channel();
        let mut flight = Flight { outcomes, report, open: 0 };
        let ended = self.pump(&mut deliveries, &mut capture.0, &mut flight, stop).await;
        drop(deliveries);
        if !capture.0.is_finished() {
            // One that does not end in time is aborted with its handle.
            let _ = tokio::time::timeout(GRACE, &mut capture.0).await;
        }
        drop(capture);
        let drained = self.drain(&mut flight).await;
        ended.and(drained)
    }

    async fn pump(
        &mut self,
        deliveries: &mut mpsc::Receiver<(Delivery, Permit)>,
        capture: &mut JoinHandle<Result<(), SourceError>>,
        flight: &mut Flight,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(outcome) = flight.outcomes.recv() => {
                    flight.open -= 1;
                    self.settle(outcome)?;
                }
                delivery = deliveries.recv() => match delivery {
                    Some((delivery, permit)) => self.publish(delivery, permit, flight, stop).await?,
                    // The connector drops its outlet when it ends; what it handed over before was published above.
                    None => return ended(capture.await),
                },
            }
        }
    }

    /// Before anything is captured: what is to be read is noted, and what an earlier run left to delete is deleted.
    async fn begin(&mut self, stop: &CancellationToken) -> Result<(), RunError> {
        let moved = self.readings.begin(&self.checkpoint, &self.pipeline.topics(), &self.kafka).await?;
        if !moved.is_empty() {
            self.publish_own(Vec::new(), moved).await?;
        }
        for stream in self.readings.under_way() {
            self.pipeline.begin_reading(&stream);
        }
        self.delete_vanished(stop).await
    }

    /// Deletes what is gone from streams that are read. Nothing else of the system is on its way meanwhile.
    async fn delete_vanished(&mut self, stop: &CancellationToken) -> Result<(), RunError> {
        while let Some(Due { stream, before, unsure }) = self.readings.due() {
            let Some(topic) = self.pipeline.topics().into_iter().find_map(|(name, topic)| (name == stream).then_some(topic)) else {
                return Ok(());
            };
            let spared = self.pipeline.end_reading(&stream);
            if unsure || spared.unsure {
                tracing::warn!(
                    stream,
                    topic = &*topic,
                    "the stream is read anew, but rows of it were refused whose keys are not known: what is gone from the source is not \
                     deleted; mend the mapping and run with --resnapshot again"
                );
                let moved = self.readings.done(&stream);
                self.publish_own(Vec::new(), moved).await?;
                continue;
            }
            let (kafka, schemas) = (self.kafka.clone(), self.schemas.clone());
            let search = Search { kafka, schemas, topic: Arc::clone(&topic), before, spared: spared.keys, stop: stop.clone() };
            // The hub stops: the next run begins with it.
            let Some(vanished) = search.run().await? else { return Ok(()) };
            let rows = vanished.keys.len();
            let blocks = self.pipeline.vanished(&stream, &vanished.keys, (vanished.place.commit, vanished.place.position), now_micros());
            for block in blocks {
                self.publish_own(vec![block], Checkpoint::empty()).await?;
            }
            let moved = self.readings.done(&stream);
            self.publish_own(Vec::new(), moved).await?;
            if rows > 0 {
                tracing::info!(stream, topic = &*topic, rows, "rows that went away while nobody followed are deleted in the topic");
            }
        }
        Ok(())
    }

    /// Publishes what is not a connector's, and waits until it is durable.
    async fn publish_own(&self, blocks: Vec<Block>, checkpoint: Checkpoint) -> Result<(), RunError> {
        self.lane.commit(&self.session, blocks, checkpoint).await.map(|_committed| ()).map_err(RunError::Lane)
    }

    async fn publish(&mut self, delivery: Delivery, permit: Permit, flight: &mut Flight, stop: &CancellationToken) -> Result<(), RunError> {
        let Delivery { batches, checkpoint, completed, evidence } = delivery;
        if batches.is_empty() && checkpoint.is_empty() && evidence.is_empty() {
            // A connector's word that it follows now, though nothing has changed yet.
            self.enter(State::Following);
            return Ok(());
        }
        let snapshot = batches.iter().any(|batch| batch.snapshot == hub_model::SnapshotMark::Initial);
        let batches_empty = batches.is_empty();
        let pipeline = &mut self.pipeline;
        let rows: usize = batches.iter().map(hub_model::ChangeBatch::len).sum();
        // Handing the thread over costs more than a small batch takes.
        let processed = match rows > SMALL {
            true => tokio::task::block_in_place(|| pipeline.process(batches, now_micros())),
            false => pipeline.process(batches, now_micros()),
        }?;
        let mut blocks = processed.blocks;
        if !evidence.is_empty() {
            blocks.push(self.audit.encode(&evidence).await?);
        }
        if snapshot {
            self.enter(State::Snapshot);
        } else if !batches_empty {
            self.enter(State::Following);
        }
        let (report, settled, tally) = (flight.report.clone(), checkpoint.clone(), processed.tally);
        let mut checkpoint = checkpoint;
        self.readings.refuse(&processed.refusing, &mut checkpoint);
        self.readings.complete(&completed, &mut checkpoint);
        flight.open += 1;
        let publication = Publication {
            session: self.session.clone(),
            blocks,
            checkpoint,
            done: Box::new(move |result| {
                // The receiver outlives every publication: `drain` waits for them all.
                let _ = report.send(Outcome { result, checkpoint: settled, tally });
            }),
            held: Box::new(permit),
        };
        self.lane.publish(publication).await;
        if !completed.is_empty() && self.readings.due().is_some() {
            self.drain(flight).await?;
            self.delete_vanished(stop).await?;
        }
        Ok(())
    }

    fn enter(&self, state: State) {
        if self.board.state() != state {
            self.board.enter(state, None);
        }
    }

    fn settle(&mut self, outcome: Outcome) -> Result<(), RunError> {
        match outcome.result {
            Ok(committed) => {
                self.connector.acknowledge(&outcome.checkpoint);
                self.board.add(&outcome.tally);
                self.pipeline.settled(&outcome.tally);
                self.metrics.progressed_at(seconds(now_micros()));
                tracing::trace!(records = committed.records, "committed");
                Ok(())
            }
            Err(error) => Err(RunError::Lane(error)),
        }
    }

    /// Waits for the outcome of everything that was published.
    async fn drain(&mut self, flight: &mut Flight) -> Result<(), RunError> {
        let mut first = Ok(());
        while flight.open > 0 {
            let Some(outcome) = flight.outcomes.recv().await else { break };
            flight.open -= 1;
            if let Err(error) = self.settle(outcome)
                && first.is_ok()
            {
                first = Err(error);
            }
        }
        first
    }
}

fn spawn_capture(connector: &Arc<dyn DynConnector>, from: Checkpoint, outlet: Outlet) -> Task<Result<(), SourceError>> {
    let connector = Arc::clone(connector);
    Task(tokio::spawn(async move { connector.capture(from, outlet).await }))
}

fn ended(result: Result<Result<(), SourceError>, tokio::task::JoinError>) -> Result<(), RunError> {
    match result {
        Ok(Ok(())) => Err(RunError::Ended),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(panicked("capturing", &*panic)),
            Err(error) => Err(RunError::Defect { doing: "capturing".to_owned(), why: error.to_string() }),
        },
    }
}

/// A task that ends with its owner, also where the owner panics.
pub(crate) struct Task<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[allow(clippy::cast_precision_loss, reason = "a time for dashboards")]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
