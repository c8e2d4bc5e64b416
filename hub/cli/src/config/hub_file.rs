//! `hub.yaml`: what the process itself needs to know.

use std::net::SocketAddr;

use hub_engine::spec::TopicSettings;
use hub_kafka::KafkaConfig;
use hub_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// The whole of `hub.yaml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubFile {
    /// How Kafka is reached.
    pub(crate) kafka: KafkaConfig,
    /// Topics that the hub creates.
    #[serde(default)]
    pub(crate) topics: Topics,
    /// The schema registry: embedded, or an external one by URL. Without it an embedded one listens on 127.0.0.1:8081.
    #[serde(default)]
    pub(crate) registry: RegistrySection,
    /// The port for /metrics, /healthz and /readyz.
    #[serde(default)]
    pub(crate) http: Http,
    /// Folder of the canonical schemas (`<domain>/<Entity>.avsc`, `codes/*.csv`), relative to this file.
    #[serde(default = "schemas_folder")]
    pub(crate) schemas: String,
    /// Mebibytes of rows that all queues of the process may hold together. Rows on their way exist as columns, encoded and
    /// in the Kafka client: the process grows by about four times this.
    #[serde(default = "queue_mib")]
    pub(crate) queue_mib: u32,
    /// Lanes: transactional publishers that systems share.
    #[serde(default = "lanes")]
    pub(crate) lanes: u16,
}

/// Defaults of topics.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topics {
    /// Settings of topics whose stream says nothing else.
    #[serde(default)]
    pub(crate) defaults: TopicSettings,
}

/// Which schema registry is used.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistrySection {
    /// Run the Confluent-compatible registry inside this process.
    #[serde(default)]
    pub(crate) embedded: Option<Embedded>,
    /// URL of an external registry, `https://registry.example:8081`.
    #[serde(default)]
    pub(crate) url: Option<String>,
    /// User of the external registry, or the one that clients of the embedded one must give.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// Its password.
    #[serde(default)]
    pub(crate) password: Option<Secret>,
    /// File of the CA that signed the external registry's certificate.
    #[serde(default)]
    pub(crate) ca: Option<String>,
}

/// The embedded registry.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Embedded {
    /// Address and port on which it listens.
    #[serde(default = "registry_listen")]
    #[schemars(with = "String")]
    pub(crate) listen: SocketAddr,
}

/// The chosen registry.
#[derive(Clone, Debug)]
pub(crate) enum RegistryChoice {
    /// Inside this process.
    Embedded(SocketAddr),
    /// Elsewhere.
    External(String),
}

impl RegistrySection {
    /// The choice; external wins only where no embedded one is asked for.
    pub(crate) fn choice(&self) -> RegistryChoice {
        match (&self.embedded, &self.url) {
            (Some(embedded), _) => RegistryChoice::Embedded(embedded.listen),
            (None, Some(url)) => RegistryChoice::External(url.clone()),
            (None, None) => RegistryChoice::Embedded(registry_listen()),
        }
    }
}

/// The port for operators.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    /// Address and port on which it listens.
    #[serde(default = "http_listen")]
    #[schemars(with = "String")]
    pub(crate) listen: SocketAddr,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: http_listen() }
    }
}

fn schemas_folder() -> String {
    "schemas".to_owned()
}

fn queue_mib() -> u32 {
    12
}

fn lanes() -> u16 {
    2
}

fn registry_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8081))
}

fn http_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9464))
}
