//! `hub run`: applies the configuration and runs its systems until interrupted.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hub_engine::desired::Follow;
use hub_engine::spec::{Desired, Naming};
use hub_engine::{Node, NodeInput, bulletin};
use hub_telemetry::Metrics;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Global;
use crate::config::{Folder, HubFile, secrets};
use crate::desired::{DesiredState, Step};
use crate::failure::Failure;
use crate::http::Stage;
use crate::{http, setup};

/// Before a task that ended by itself is begun again.
const BEGIN_AGAIN: Duration = Duration::from_secs(5);

/// Options of `hub run`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Configuration folder; the same as --config.
    folder: Option<PathBuf>,
    /// Only these systems; all without.
    #[arg(long, value_name = "SYSTEM")]
    only: Vec<String>,
    /// Forget the checkpoint of a system, drop its slot and read it anew from a snapshot.
    #[arg(long, value_name = "SYSTEM")]
    resnapshot: Vec<String>,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let directory = options.folder.as_deref().unwrap_or(&global.config);
    let kinds = hub_connectors::kinds();
    let folder = Folder::read_any(directory, &kinds);
    let (Some(hub), true) = (folder.hub, folder.faults.is_empty()) else {
        return Err(Failure::Config(folder.faults));
    };
    let systems: Vec<Desired> = folder.systems.into_iter().map(|system| system.desired).collect();
    refuse_unknown(&systems, options.only.iter().chain(&options.resnapshot))?;
    let wanted = |desired: &Desired| options.only.is_empty() || options.only.contains(&desired.spec.system);
    let systems: Vec<Desired> = systems.into_iter().filter(wanted).collect();
    let stop = interrupted()?;
    let metrics = Metrics::new().map_err(|error| Failure::unavailable("setting up metrics", error))?;
    // The operators' port is opened first: a second hub on the same machine fails before it fences the first one.
    let listener = http::listen("metrics", hub.http.listen).await?;
    let stage = Arc::new(watch::Sender::new(Stage::Starting("starting".to_owned())));
    let stalled_after = Duration::from_secs(hub.http.stalled_after_s.into());
    let face = http::Face { stage: stage.subscribe(), metrics: metrics.clone(), stalled_after };
    let server = tokio::spawn(async move { axum::serve(listener, http::router(face)).await });
    let tell = |what: String| drop(stage.send_replace(Stage::Starting(what)));
    let started = async {
        let node = Arc::new(start(&hub, directory, metrics, kinds, &tell).await?);
        tracing::info!(address = %hub.http.listen, systems = systems.len(), "running");
        tell("applying the configuration".to_owned());
        for desired in systems.iter().filter(|desired| options.resnapshot.contains(&desired.spec.system)) {
            node.delete(desired).await.map_err(|error| Failure::unavailable(format!("resetting {}", desired.spec.system), error))?;
        }
        Ok::<_, Failure>((node, apply(&hub, systems, &options).await?))
    };
    let (node, (topic, known)) = tokio::select! {
        started = started => started?,
        () = stop.cancelled() => return Ok(()),
    };
    let follow = Follow { kafka: hub.kafka.clone(), topic, only: options.only, known: Vec::new() };
    // Only the first reading is waited for.
    let known = Cell::new(known);
    let follow = || Follow { known: known.take(), ..follow.clone() };
    stage.send_replace(Stage::Running(Arc::clone(&node), None));
    let following = keep("following the desired systems", &stage, &node, &stop, || follow().run(Arc::clone(&node), stop.clone()));
    let telling = keep("writing the status topic", &stage, &node, &stop, || bulletin::publish(Arc::clone(&node), stop.clone()));
    tokio::join!(following, telling);
    tracing::info!("stopping: what is under way is finished first");
    node.shut_down().await;
    server.abort();
    Ok(())
}

/// Keeps a task of the process running until `stop`. One that ends by itself has panicked: that is told and it is begun again.
async fn keep<F>(doing: &str, stage: &watch::Sender<Stage>, node: &Arc<Node>, stop: &CancellationToken, task: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let ended = tokio::spawn(task()).await;
        if stop.is_cancelled() {
            return;
        }
        tracing::error!(doing, panicked = ended.is_err(), "a task has ended, a defect of the hub; it is begun again, please report it");
        let why = format!("{doing}: its task has ended, a defect of the hub; it is begun again in {} s", BEGIN_AGAIN.as_secs());
        stage.send_replace(Stage::Running(Arc::clone(node), Some(why)));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BEGIN_AGAIN) => {}
        }
        stage.send_replace(Stage::Running(Arc::clone(node), None));
    }
}

/// Writes the folder's systems to the connectors topic, which this and all other nodes follow. Answers its name and the
/// systems that it holds.
async fn apply(hub: &HubFile, systems: Vec<Desired>, options: &Options) -> Result<(String, Vec<String>), Failure> {
    let state = DesiredState::read(hub).await?;
    let steps = state.steps(systems)?;
    state.write(&steps, false).await?;
    for (system, step) in &steps {
        match step {
            Step::Create(_) | Step::Change { .. } => tracing::info!(system, change = step.word(false), "applied"),
            Step::Orphan(_) if options.only.is_empty() => {
                tracing::warn!(system, "runs too, though the folder does not have it; `hub apply --prune` removes it");
            }
            Step::Keep | Step::Moved(_) | Step::Leaving | Step::Orphan(_) => {}
        }
    }
    Ok((state.topic, steps.into_keys().collect()))
}

fn refuse_unknown<'a>(systems: &[Desired], names: impl Iterator<Item = &'a String>) -> Result<(), Failure> {
    let known: Vec<&str> = systems.iter().map(|desired| desired.spec.system.as_str()).collect();
    for name in names {
        if !known.contains(&name.as_str()) {
            return Err(super::no_such_system(name, &known, "the folder"));
        }
    }
    Ok(())
}

async fn start(
    hub: &HubFile,
    directory: &Path,
    metrics: Metrics,
    kinds: Vec<hub_sdk::Kind>,
    tell: &impl Fn(String),
) -> Result<Node, Failure> {
    setup::wait_for_kafka(&hub.kafka, tell).await?;
    let naming = Naming::new(hub.kafka.topic_prefix.clone());
    let schemas = setup::registry(hub, &naming, directory, tell).await?;
    tell("starting the lanes".to_owned());
    let input = NodeInput {
        kafka: hub.kafka.clone(),
        naming,
        topic_defaults: hub.topics.defaults.clone(),
        schemas,
        kinds,
        metrics,
        queue_bytes: usize::try_from(hub.queue_mib).unwrap_or(12) << 20,
        lanes: hub.lanes,
        secrets: Arc::new(secrets::resolve_all),
        name: node_name(hub.http.listen.port()),
    };
    Node::start(input).await.map_err(|error| Failure::unavailable("starting the node", error))
}

/// The node as the status topic names it: host and port of its operators' port.
fn node_name(port: u16) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
    format!("{host}:{port}")
}

/// A token that is cancelled by SIGINT or SIGTERM; a second signal ends the process at once.
fn interrupted() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let refuse = |error: std::io::Error| Failure::unavailable("listening for signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(refuse)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refuse)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        token.cancel();
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(130);
    });
    Ok(stop)
}
