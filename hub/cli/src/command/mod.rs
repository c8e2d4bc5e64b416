//! The commands, one file each.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod config_schema;
pub(crate) mod connectors;
mod diff;
pub(crate) mod discover;
mod fold;
pub(crate) mod functions;
mod present;
pub(crate) mod preview;
pub(crate) mod rejects;
mod replay;
pub(crate) mod run;
pub(crate) mod schemas;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod verify;
mod workshop;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hub_engine::spec::Naming;
use hub_kafka::{BorrowedRecord, KafkaConfig, Next, ReadPlan, Reader, Topics};
use hub_registry::{Registry, Schemas};
use hub_transform::CanonicalSchema;
use tokio::net::TcpStream;

use crate::config::{Folder, HubFile, LoadedSystem, RegistryChoice};
use crate::failure::Failure;
use crate::setup::registry_client;

/// `hub.yaml` of a folder; the systems' faults do not matter to commands that only read Kafka.
fn hub_file(directory: &Path) -> Result<HubFile, Failure> {
    let folder = Folder::read(directory, &hub_connectors::kinds());
    folder.hub.ok_or(Failure::Config(folder.faults))
}

/// A system was named that is not in `place`.
fn no_such_system(name: &str, known: &[&str], place: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("there is no system {name} in {place}; {}", crate::config::schema::suggest(name, known)))
}

/// A folder's `hub.yaml` and one of its systems, whose mappings may be used.
fn system_of(directory: &Path, name: &str) -> Result<(HubFile, LoadedSystem), Failure> {
    let (hub, system) = unfinished_system(directory, name)?;
    if system.faults.is_empty() { Ok((hub, system)) } else { Err(Failure::Config(system.faults)) }
}

/// The same for looking at its source: mappings that are still being written may have faults.
fn unfinished_system(directory: &Path, name: &str) -> Result<(HubFile, LoadedSystem), Failure> {
    let folder = Folder::read(directory, &hub_connectors::kinds());
    let names: Vec<String> = folder.systems.iter().map(|system| system.desired.spec.system.clone()).collect();
    let found = folder.systems.into_iter().find(|system| system.desired.spec.system == name);
    match (folder.hub, found) {
        (Some(hub), Some(system)) => Ok((hub, system)),
        (_, None) if folder.faults.is_empty() => {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            Err(no_such_system(name, &known, directory.display()))
        }
        _ => Err(Failure::Config(folder.faults)),
    }
}

/// The canonical entities of a folder by name, `public-admin.Dossier`; the folder was checked.
fn entities(directory: &Path, hub: &HubFile) -> Result<BTreeMap<String, CanonicalSchema>, Failure> {
    let folder = directory.join(&hub.schemas);
    let mut entities = BTreeMap::new();
    let listed = |path: &Path| -> Result<Vec<std::path::PathBuf>, Failure> {
        let read = std::fs::read_dir(path).map_err(|error| Failure::unavailable(format!("reading {}", path.display()), error))?;
        Ok(read.flatten().map(|entry| entry.path()).collect())
    };
    let stem = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for domain in listed(&folder)?.into_iter().filter(|path| path.is_dir()) {
        for file in listed(&domain)?.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "avsc")) {
            let doing = || format!("reading {}", file.display());
            let text = std::fs::read_to_string(&file).map_err(|error| Failure::unavailable(doing(), error))?;
            let canonical = CanonicalSchema::parse(&text).map_err(|error| Failure::unavailable(doing(), error))?;
            entities.insert(format!("{}.{}", stem(&domain), stem(&file)), canonical);
        }
    }
    Ok(entities)
}

/// The registry for commands beside a hub. The embedded one is asked over HTTP while a hub runs, and read from its topic
/// while none does: nothing but the topic is needed.
async fn schemas(hub: &HubFile, directory: &Path) -> Result<Schemas, Failure> {
    let RegistryChoice::Embedded(listen) = hub.registry.choice() else {
        return Ok(Schemas::External(registry_client(hub, directory)?));
    };
    if TcpStream::connect(listen).await.is_ok() {
        return Ok(Schemas::External(registry_client(hub, directory)?));
    }
    let topic = Naming::new(hub.kafka.topic_prefix.clone()).schemas();
    let doing = || format!("reading the schema registry's topic {topic} (no hub answers on {listen})");
    let there = tokio::task::block_in_place(|| Topics::connect(&hub.kafka).and_then(|topics| topics.partitions(&topic)));
    if there.map_err(|error| Failure::unavailable(doing(), error))?.is_none() {
        return Err(Failure::unavailable(doing(), "there is none: no hub has run yet; start it by `hub run`"));
    }
    let registry = Registry::start(hub.kafka.client(), &topic, hub.kafka.replication).await;
    Ok(Schemas::Embedded(registry.map_err(|error| Failure::unavailable(doing(), error))?))
}

/// The place of a stream in its system's file.
fn stream_of(system: &LoadedSystem, name: &str) -> Result<usize, Failure> {
    let spec = &system.desired.spec;
    spec.streams.iter().position(|stream| stream.source == name).ok_or_else(|| {
        let known: Vec<&str> = spec.streams.iter().map(|stream| stream.source.as_str()).collect();
        let hint = crate::config::schema::suggest(name, &known);
        Failure::Usage(format!("system {} captures no stream {name}; {hint}", spec.system))
    })
}

/// How long Kafka may be silent before a command gives up.
const SILENCE: Duration = Duration::from_secs(15);

/// Visits the committed records of a topic up to the planned end. It blocks: in async code, within `block_in_place`.
fn each_record(
    kafka: &KafkaConfig,
    plan: ReadPlan,
    mut visit: impl FnMut(&BorrowedRecord<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let doing = format!("reading topic {}", plan.topic);
    let failed = |error: hub_kafka::Error| Failure::unavailable(&doing, error);
    let mut reader = Reader::open(kafka, plan).map_err(failed)?;
    loop {
        match reader.next(SILENCE).map_err(failed)? {
            Next::Record(record) => visit(&record)?,
            Next::End => return Ok(()),
            Next::Quiet => return Err(Failure::Unavailable(format!("{doing}: Kafka was silent for 15 s; see that it runs"))),
        }
    }
}
