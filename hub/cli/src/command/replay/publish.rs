//! Publishes replayed rows with the replay's progress, through a lane of its own.

use hub_engine::spec::Naming;
use hub_kafka::{Lane, LaneInput, LaneLimits, ReadPlan, Session};
use hub_model::{Block, Checkpoint, Rows, SystemName};
use hub_sdk::now_micros;
use hub_telemetry::Metrics;

use super::progress::Progress;
use crate::command::each_record;
use crate::config::HubFile;
use crate::failure::Failure;
use hub_transform::envelope::{FRAME, Layout, Place};

/// The lane of one replay.
pub(super) struct Publisher {
    /// What is committed of the system, as far as this lane knows.
    pub(super) checkpoint: Checkpoint,
    kafka: hub_kafka::KafkaConfig,
    lane: Lane,
    session: Session,
    system: SystemName,
}

impl Publisher {
    /// Starts the lane; an earlier replay of the system can commit nothing any more.
    pub(super) async fn start(hub: &HubFile, system: &SystemName) -> Result<Self, Failure> {
        let doing = || format!("opening a lane to replay rejects of {system}");
        let prefix = &hub.kafka.topic_prefix;
        let metrics = Metrics::new().map_err(|error| Failure::unavailable(doing(), error))?;
        let lane = Lane::start(LaneInput {
            config: hub.kafka.clone(),
            name: format!("{prefix}.replay-{system}"),
            checkpoints_topic: Naming::new(prefix.clone()).own().checkpoints,
            limits: LaneLimits::default(),
            metrics: metrics.lane("replay"),
        });
        let lane = lane.map_err(|error| Failure::unavailable(doing(), error))?;
        let opened = lane.open(system).await.map_err(|error| Failure::unavailable(doing(), error))?;
        let (checkpoint, session) = (opened.checkpoint, opened.session);
        Ok(Self { checkpoint, kafka: hub.kafka.clone(), lane, session, system: system.clone() })
    }

    /// Publishes rows and progress in one transaction, and waits until it is committed.
    pub(super) async fn publish(&mut self, blocks: Vec<Block>, progress: &Progress) -> Result<(), Failure> {
        let mut after = self.checkpoint.clone();
        let checkpoint = progress.checkpoint();
        after.merge(&checkpoint);
        if blocks.is_empty() && after == self.checkpoint {
            return Ok(());
        }
        self.lane.commit(&self.session, blocks, checkpoint).await.map_err(|error| {
            let doing = format!("publishing replayed rows of {} (nothing of this step was published; replay again)", self.system);
            Failure::unavailable(doing, error)
        })?;
        self.checkpoint = after;
        Ok(())
    }

    /// Sends the newest record of keys again behind which an older replayed row was published: the running hub published a
    /// newer change in the very moment of the replay.
    pub(super) async fn mend(&mut self, topic: &str, keys: &[Vec<u8>], layout: &Layout, progress: &Progress) -> Result<(), Failure> {
        let mut blocks = Vec::new();
        for key in keys {
            let plan = ReadPlan { key: Some(key.clone()), ..ReadPlan::whole(topic) };
            let mut newest: Option<Seen> = None;
            let mut hidden = false;
            tokio::task::block_in_place(|| {
                each_record(&self.kafka, plan, |record| {
                    let facts = record.value().and_then(|value| value.get(FRAME..)).and_then(|body| layout.facts(body));
                    let Some((facts, value)) = facts.zip(record.value()) else { return Ok(()) };
                    hidden = newest.as_ref().is_some_and(|newest| newest.place > facts.place);
                    if !hidden {
                        newest = Some(Seen { place: facts.place, value: value.to_vec(), deleted: facts.op == b'd' });
                    }
                    Ok(())
                })
            })?;
            if let Some(newest) = newest.filter(|_| hidden) {
                blocks.push(one(topic, key, &newest.value, newest.deleted));
            }
        }
        if blocks.is_empty() { Ok(()) } else { self.publish(blocks, progress).await }
    }

    /// Ends the lane.
    pub(super) async fn stop(self) {
        self.lane.stop().await;
    }
}

/// A record as it was read.
struct Seen {
    place: Place,
    value: Vec<u8>,
    deleted: bool,
}

fn one(topic: &str, key: &[u8], value: &[u8], deleted: bool) -> Block {
    Block {
        topic: topic.into(),
        keys: Some(Rows::new(key.to_vec().into(), vec![0, key.len()])),
        values: Rows::new(value.to_vec().into(), vec![0, value.len()]),
        timestamps: vec![now_micros().div_euclid(1000)],
        tombstones: if deleted { vec![0] } else { Vec::new() },
        headers: Vec::new(),
    }
}
