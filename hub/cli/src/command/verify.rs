//! `hub verify`: a system's source against its topics: missing, extra, different, published twice.
//!
//! The source is read through today's mapping and encoded as it would be published; the topic is folded to the latest state
//! of each key. Only hashes are kept. A live source moves on meanwhile, so what differs is looked at again before it is told.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use clap::Args;
use hub_engine::pipeline::{Pipeline, rows_of};
use hub_engine::prepare;
use hub_engine::spec::Naming;
use hub_kafka::{ReadPlan, Reader, Until};
use hub_model::{StreamName, SystemName};
use hub_sdk::{DynConnector, StreamShape};
use serde::Serialize;
use serde_json::Value;

use super::check::open;
use super::system_of;
use crate::Global;
use crate::avro::Decoder;
use crate::config::{HubFile, LoadedSystem};
use crate::failure::Failure;
use crate::setup::registry_client;
use crate::table::{print_json, print_line, table};

/// Rows of a stream that are compared at most.
const MOST_ROWS: usize = 50_000_000;
/// How often a difference is looked at before it is told.
const LOOKS: u32 = 4;

/// Options of `hub verify`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The system.
    system: String,
}

/// What was found of one stream.
#[derive(Debug, Default, Serialize)]
struct Verdict {
    stream: String,
    topic: String,
    source_rows: usize,
    filtered: u64,
    rejected: u64,
    published_keys: usize,
    missing: usize,
    extra: usize,
    different: usize,
    duplicates: usize,
}

impl Verdict {
    fn agrees(&self) -> bool {
        self.missing + self.extra + self.different + self.duplicates == 0
    }
}

/// Compares every stream of a system.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let (hub, system) = system_of(&global.config, &options.system)?;
    let connector = open(&system, &hub_connectors::kinds()).await.map_err(Failure::Unavailable)?;
    let shapes = connector.discover().await.map_err(|error| Failure::Unavailable(error.report()))?;
    let mut decoder = Decoder::new(registry_client(&hub, &global.config)?);
    let mut verdicts = Vec::new();
    for at in 0..system.desired.spec.streams.len() {
        let mut verdict = Verdict::default();
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            verdict = compare(&hub, &system, at, connector.as_ref(), &shapes, &mut decoder).await?;
            if verdict.agrees() {
                break;
            }
        }
        verdicts.push(verdict);
    }
    show(global, &verdicts);
    let broken = verdicts.iter().filter(|verdict| !verdict.agrees()).count();
    if broken == 0 { Ok(()) } else { Err(Failure::Differs(format!("{broken} streams of {} differ from their source", options.system))) }
}

fn show(global: &Global, verdicts: &[Verdict]) {
    if global.json {
        return verdicts.iter().for_each(print_json);
    }
    let mut rows = table(&["stream", "rows", "filtered", "rejected", "keys in topic", "missing", "extra", "different", "twice"]);
    for verdict in verdicts {
        rows.add_row([
            verdict.stream.clone(),
            verdict.source_rows.to_string(),
            verdict.filtered.to_string(),
            verdict.rejected.to_string(),
            verdict.published_keys.to_string(),
            verdict.missing.to_string(),
            verdict.extra.to_string(),
            verdict.different.to_string(),
            verdict.duplicates.to_string(),
        ]);
    }
    print_line(&rows.to_string());
}

type Hashes = HashMap<u128, u128>;

async fn compare(
    hub: &HubFile,
    system: &LoadedSystem,
    at: usize,
    connector: &dyn DynConnector,
    shapes: &[StreamShape],
    decoder: &mut Decoder,
) -> Result<Verdict, Failure> {
    let spec = &system.desired.spec;
    let stream = &spec.streams[at];
    let topic = Naming::new(hub.kafka.topic_prefix.clone()).data(&spec.system, &stream.entity);
    let mut verdict = Verdict { stream: stream.source.clone(), topic: topic.clone(), ..Verdict::default() };
    let wanted = source_hashes(system, at, connector, shapes, decoder, &mut verdict).await?;
    let found = topic_hashes(hub, &topic, decoder, &mut verdict).await?;
    verdict.published_keys = found.len();
    verdict.missing = wanted.keys().filter(|key| !found.contains_key(*key)).count();
    verdict.extra = found.keys().filter(|key| !wanted.contains_key(*key)).count();
    verdict.different = wanted.iter().filter(|(key, state)| found.get(*key).is_some_and(|other| other != *state)).count();
    Ok(verdict)
}

/// The source's rows as they would be published today.
async fn source_hashes(
    system: &LoadedSystem,
    at: usize,
    connector: &dyn DynConnector,
    shapes: &[StreamShape],
    decoder: &mut Decoder,
    verdict: &mut Verdict,
) -> Result<Hashes, Failure> {
    let stream = &system.desired.spec.streams[at];
    let name = StreamName::new(&stream.source).map_err(|error| Failure::Usage(error.to_string()))?;
    let batch = connector.sample(&name, MOST_ROWS).await.map_err(|error| Failure::Unavailable(error.report()))?;
    verdict.source_rows = batch.len();
    let subject_ids = decoder.ids(&verdict.topic).await?;
    let system_name = SystemName::new(&system.desired.spec.system).map_err(|error| Failure::Usage(error.to_string()))?;
    let prepared = prepare::offline(&system.desired, at, &system_name, shapes, &verdict.topic, subject_ids)
        .map_err(|error| Failure::unavailable("preparing the comparison", error))?;
    let metrics = hub_telemetry::Metrics::new().map_err(|error| Failure::unavailable("preparing the comparison", error))?;
    let board = hub_engine::status::Board::new(system_name.as_str());
    let mut pipeline = Pipeline::new(prepared, board, metrics.system(system_name.as_str()))
        .map_err(|error| Failure::unavailable("preparing the comparison", error))?;
    let mut hashes = Hashes::with_capacity(batch.len());
    for part in rows_of(&batch, 8_192) {
        let processed = tokio::task::block_in_place(|| pipeline.process(vec![part], 0))
            .map_err(|error| Failure::unavailable("mapping the source's rows", error))?;
        for (_, [_, _, rejected, filtered]) in &processed.tally.streams {
            verdict.rejected += rejected;
            verdict.filtered += filtered;
        }
        for block in processed.blocks.iter().filter(|block| *block.topic == *verdict.topic) {
            for record in 0..block.len() {
                let key = block.keys.as_ref().map(|keys| keys.row(record)).unwrap_or_default();
                let value = decoder.decode(block.values.row(record)).await?;
                hashes.insert(hash(key), hash(&value["after"].to_string()));
            }
        }
    }
    Ok(hashes)
}

/// The latest state of each key of a topic.
async fn topic_hashes(hub: &HubFile, topic: &str, decoder: &mut Decoder, verdict: &mut Verdict) -> Result<Hashes, Failure> {
    let plan = ReadPlan { until: Until::Settled(Duration::from_secs(10)), ..ReadPlan::whole(topic) };
    let mut reader = Reader::open(&hub.kafka, plan).map_err(|error| Failure::unavailable("opening the topic", error))?;
    let mut states = Hashes::new();
    let mut seen: HashSet<u128> = HashSet::new();
    let handle = tokio::runtime::Handle::current();
    let mut failure = None;
    let read = tokio::task::block_in_place(|| {
        reader.each(|record| -> Result<(), hub_kafka::Error> {
            let (Some(key), None) = (record.key(), &failure) else { return Ok(()) };
            let Some(bytes) = record.value() else {
                states.remove(&hash(key));
                return Ok(());
            };
            match handle.block_on(decoder.decode(bytes)) {
                Ok(value) => {
                    if !seen.insert(identity(key, &value)) {
                        verdict.duplicates += 1;
                    }
                    if value["after"].is_null() { states.remove(&hash(key)) } else { states.insert(hash(key), hash(&value["after"].to_string())) };
                }
                Err(error) => failure = Some(error),
            }
            Ok(())
        })
    });
    read.map_err(|error| Failure::unavailable("reading the topic", error))?;
    failure.map_or(Ok(states), Err)
}

/// What a record must not share with another: its key and, for a live change, its place in the source's log.
fn identity(key: &[u8], value: &Value) -> u128 {
    let source = &value["source"];
    let place = if value["op"] == "r" { String::new() } else { format!("{} {}", source["lsn"], source["txId"]) };
    hash(&(key, value["op"].as_str(), place))
}

/// 128 bits: two rows of fifty million practically never share one.
fn hash(value: &(impl Hash + ?Sized)) -> u128 {
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}
