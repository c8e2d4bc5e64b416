//! `hub rejects replay`: refused rows through today's mapping once more; those that pass are published, exactly once.
//!
//! Rows and the replay's progress are committed in one Kafka transaction, through a lane of the replay's own. A row is
//! published only where it is the latest that is known of its key: the topic has nothing later, and where the topic does
//! not know the key at all, the source still has it (its delete may be compacted away).

mod decide;
mod progress;
mod publish;

use std::collections::{BTreeMap, HashMap, HashSet};

use clap::Args;
use hub_engine::spec::Naming;
use hub_kafka::{ReadPlan, checkpoints};
use hub_model::{Checkpoint, StreamName, SystemName};
use hub_sdk::{DynConnector, StreamShape};
use hub_transform::reject::{Reject, parse};
use indicatif::ProgressBar;
use serde_json::json;

use super::check::open;
use super::fold::Fold;
use super::present;
use super::workshop::Workshop;
use super::{each_record, schemas, system_of};
use crate::Global;
use crate::avro::Decoder;
use crate::config::{HubFile, LoadedSystem};
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};
use decide::{Fate, Row, judge};
use hub_transform::envelope::Layout;
use progress::Progress;
use publish::Publisher;

/// Options of `hub rejects replay`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The system.
    system: String,
    /// Only rejects of this stream.
    #[arg(long)]
    stream: Option<String>,
    /// Only rejects with this reason code.
    #[arg(long)]
    reason: Option<String>,
    /// Say what would become of them; publish nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Rejects that are settled in one transaction.
const STEP: usize = 1_000;

/// A reject with its place in the rejects topic.
#[derive(Debug)]
struct Held {
    partition: i32,
    offset: i64,
    reject: Reject,
}

/// Replays what is pending.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let (hub, system) = system_of(&global.config, &options.system)?;
    let name = SystemName::new(&options.system).map_err(|error| Failure::Usage(error.to_string()))?;
    let own = Naming::new(hub.kafka.topic_prefix.clone()).own();
    // The lane first: it fences an earlier replay, so that the progress read after it is the last.
    let mut publisher = if options.dry_run { None } else { Some(Publisher::start(&hub, &name).await?) };
    let checkpoint = match &publisher {
        Some(publisher) => publisher.checkpoint.clone(),
        None => match checkpoints::read(&hub.kafka, &own.checkpoints, &name).await {
            Ok(checkpoint) => checkpoint,
            Err(hub_kafka::Error::NoTopic { .. }) => Checkpoint::empty(),
            Err(error) => return Err(Failure::unavailable("reading the progress of earlier replays", error)),
        },
    };
    let mut progress = Progress::read(&checkpoint);
    let held = tokio::task::block_in_place(|| pending(&hub, &system, &mut progress))?;
    let fits = |held: &Held| {
        options.stream.as_ref().is_none_or(|stream| *stream == held.reject.stream)
            && options.reason.as_ref().is_none_or(|reason| *reason == held.reject.reason)
    };
    let chosen: Vec<Held> = held.into_iter().filter(fits).collect();
    let mut decoder = Decoder::new(schemas(&hub, &global.config).await?);
    let connector = open(&system, &hub_connectors::kinds()).await.map_err(Failure::Unavailable)?;
    let shapes = connector.discover().await.map_err(|error| Failure::Unavailable(error.report()))?;
    let replay = Replay { hub: &hub, system: &system, connector: connector.as_ref(), shapes: &shapes };
    let mut fates: Vec<(Held, Fate)> = Vec::with_capacity(chosen.len());
    for (stream, rejects) in by_stream(chosen) {
        fates.extend(replay.stream(&stream, rejects, &mut decoder, &mut publisher, &mut progress).await?);
    }
    if let Some(publisher) = &mut publisher {
        publisher.publish(Vec::new(), &progress).await?;
    }
    if let Some(publisher) = publisher {
        publisher.stop().await;
    }
    report(global, &options, &fates)
}

fn by_stream(held: Vec<Held>) -> BTreeMap<String, Vec<Held>> {
    let mut streams: BTreeMap<String, Vec<Held>> = BTreeMap::new();
    for held in held {
        streams.entry(held.reject.stream.clone()).or_default().push(held);
    }
    streams
}

/// Rejects that no replay has settled yet.
fn pending(hub: &HubFile, system: &LoadedSystem, progress: &mut Progress) -> Result<Vec<Held>, Failure> {
    let topic = Naming::new(hub.kafka.topic_prefix.clone()).rejects(&system.desired.spec.system);
    let mut held = Vec::new();
    each_record(&hub.kafka, ReadPlan::whole(topic), |record| {
        let (partition, offset) = (record.partition(), record.offset());
        if let Some(value) = record.value().filter(|_| progress.is_pending(partition, offset)) {
            let reject = parse(value).map_err(|error| Failure::unavailable("reading the rejects topic", error))?;
            held.push(Held { partition, offset, reject });
        }
        progress.read_up_to(partition, offset);
        Ok(())
    })?;
    Ok(held)
}

/// What all streams of a replay share.
struct Replay<'a> {
    hub: &'a HubFile,
    system: &'a LoadedSystem,
    connector: &'a dyn DynConnector,
    shapes: &'a [StreamShape],
}

impl Replay<'_> {
    /// Settles the rejects of one stream, oldest first.
    async fn stream(
        &self,
        stream: &str,
        rejects: Vec<Held>,
        decoder: &mut Decoder,
        publisher: &mut Option<Publisher>,
        progress: &mut Progress,
    ) -> Result<Vec<(Held, Fate)>, Failure> {
        let at = self.system.desired.spec.streams.iter().position(|spec| spec.source == stream);
        let shape = self.shapes.iter().find(|shape| shape.stream.as_str() == stream);
        let (Some(at), Some(shape)) = (at, shape) else {
            let why = "the system no longer captures the stream";
            return Ok(rejects.into_iter().map(|held| (held, Fate::Stuck(why))).collect());
        };
        let mut workshop = Workshop::open(self.hub, self.system, at, self.shapes, decoder).await?;
        let (local, layout) = workshop.envelope()?;
        let mut rows = Vec::with_capacity(rejects.len());
        for held in &rejects {
            rows.push(tokio::task::block_in_place(|| Row::make(&held.reject, shape, &mut workshop))?);
        }
        let keys: HashSet<u128> = rows.iter().filter_map(|row| row.key).collect();
        let topic = workshop.topic.clone();
        let mut fold = Fold::new(&self.hub.kafka, &topic, decoder, &local, &layout, 0).only(keys);
        let hidden = ProgressBar::hidden();
        tokio::task::block_in_place(|| fold.catch_up(&hidden))?;
        let unknown = rows.iter().any(|row| row.needs_source() && row.key.is_some_and(|key| !fold.keys.contains_key(&key)));
        let alive = if unknown { Some(self.alive(&shape.stream, &mut workshop, &layout).await?) } else { None };
        drop(fold.overtaken());
        let mut newest = HashMap::new();
        let mut fates = Vec::with_capacity(rows.len());
        let mut rows = rejects.into_iter().zip(rows).peekable();
        while rows.peek().is_some() {
            // The running hub goes on meanwhile: the last look is right before rows are published.
            tokio::task::block_in_place(|| fold.catch_up(&hidden))?;
            for (key, latest) in &fold.keys {
                let known = newest.entry(*key).or_insert(latest.place);
                *known = latest.place.max(*known);
            }
            let mut blocks = Vec::new();
            for (held, row) in rows.by_ref().take(STEP) {
                let (fate, block) = judge(row, &mut newest, alive.as_ref());
                if fate.is_settled() {
                    progress.settle(held.partition, held.offset);
                }
                blocks.extend(block);
                fates.push((held, fate));
            }
            if let Some(publisher) = publisher.as_mut() {
                publisher.publish(blocks, progress).await?;
            }
        }
        if let Some(publisher) = publisher.as_mut() {
            tokio::task::block_in_place(|| fold.catch_up(&hidden))?;
            publisher.mend(&topic, &fold.overtaken(), &layout, progress).await?;
        }
        Ok(fates)
    }

    /// Hashes of the keys that the source has now.
    async fn alive(&self, stream: &StreamName, workshop: &mut Workshop, layout: &Layout) -> Result<HashSet<u128>, Failure> {
        let hidden = ProgressBar::hidden();
        let present = present::read(self.connector, stream, workshop, layout, &HashSet::new(), &hidden).await?;
        let refused = present.refused.values().filter_map(|key| *key);
        Ok(present.states.keys().copied().chain(refused).collect())
    }
}

fn report(global: &Global, options: &Options, fates: &[(Held, Fate)]) -> Result<(), Failure> {
    let mut groups: BTreeMap<(&str, &str, String), u64> = BTreeMap::new();
    for (held, fate) in fates {
        *groups.entry((&held.reject.stream, fate.word(), fate.detail())).or_default() += 1;
    }
    if global.json {
        for ((stream, fate, detail), rows) in &groups {
            print_json(&json!({"stream": stream, "fate": fate, "detail": detail, "rows": rows, "dry_run": options.dry_run}));
        }
    } else if groups.is_empty() {
        print_line("nothing to replay: every reject that fits the choice was settled by an earlier replay");
    } else {
        let mut rows = table(&["stream", if options.dry_run { "would be" } else { "is" }, "rows", "why"]);
        for ((stream, fate, detail), count) in &groups {
            rows.add_row([*stream, *fate, &count.to_string(), detail]);
        }
        print_line(&rows.to_string());
    }
    let refused = fates.iter().filter(|(_, fate)| !fate.is_settled()).count();
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Differs(format!(
            "{refused} rejects are still not published; mend the mapping or the rows at the source, then replay again (`hub rejects show {}` shows them)",
            options.system
        ))),
    }
}
