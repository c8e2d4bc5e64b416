//! What several commands need before they can work: Kafka, the schema registry.

use std::path::Path;
use std::time::Duration;

use hub_engine::spec::Naming;
use hub_kafka::KafkaConfig;
use hub_registry::{Client, Password, Registry, RegistrySettings, Schemas};

use crate::config::{HubFile, RegistryChoice};
use crate::failure::Failure;
use crate::http;

/// Waits until Kafka answers, saying so; a hub may be started before its Kafka. `tell` is given what is waited for.
pub(crate) async fn wait_for_kafka(config: &KafkaConfig, tell: &impl Fn(String)) -> Result<(), Failure> {
    tell(format!("waiting for Kafka at {}: it has not answered yet", config.brokers));
    // Its silence is told after a quarter of a minute: until then one should know what is waited for.
    tracing::info!(brokers = config.brokers, "connecting to Kafka");
    let mut back_off = hub_engine::policy::BackOff::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        match hub_engine::reach_kafka(config).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                tell(format!("waiting for Kafka at {}: {error}", config.brokers));
                let wait = back_off.next(1.0);
                tracing::warn!(%error, wait_ms = wait.as_millis(), "kafka does not answer; trying again");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// The registry that the configuration names, for commands beside a running hub: the embedded one is asked over HTTP.
pub(crate) fn registry_client(hub: &HubFile, directory: &Path) -> Result<Client, Failure> {
    let section = &hub.registry;
    let url = match section.choice() {
        RegistryChoice::Embedded(listen) => format!("http://{listen}"),
        RegistryChoice::External(url) => url,
    };
    let settings = RegistrySettings {
        url,
        user: section.user.clone(),
        password: section.password.as_ref().map(|password| Password::new(password.reveal())),
        ca: section.ca.as_ref().map(|file| directory.join(file)),
    };
    Client::new(settings).map_err(|error| Failure::unavailable("setting up the schema registry's client", error))
}

/// The registry of a running hub. The embedded one is started, and serves its port until the process ends. `tell` is given
/// what is waited for.
pub(crate) async fn registry(hub: &HubFile, naming: &Naming, directory: &Path, tell: &impl Fn(String)) -> Result<Schemas, Failure> {
    let RegistryChoice::Embedded(listen) = hub.registry.choice() else {
        return Ok(Schemas::External(registry_client(hub, directory)?));
    };
    tell("starting the schema registry".to_owned());
    let listener = http::listen("the schema registry", listen).await?;
    let mut back_off = hub_engine::policy::BackOff::new(Duration::from_millis(500), Duration::from_secs(10));
    let registry = loop {
        match Registry::start(hub.kafka.client(), &naming.schemas(), hub.kafka.replication).await {
            Ok(registry) => break registry,
            Err(error) if error.is_retriable() => {
                tell(format!("waiting for the schema registry: {error}"));
                tracing::warn!(%error, "the schema registry cannot start yet; trying again");
                tokio::time::sleep(back_off.next(1.0)).await;
            }
            Err(error) => return Err(Failure::unavailable("starting the schema registry", error)),
        }
    };
    let router = match (&hub.registry.user, &hub.registry.password) {
        (Some(user), Some(password)) => registry.router_for(user, &Password::new(password.reveal())),
        _ => registry.router(),
    };
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the schema registry's port is closed");
        }
    });
    Ok(Schemas::Embedded(registry))
}
