//! `hub.yaml`: what the process itself needs to know.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hub_engine::spec::TopicSettings;
use hub_kafka::KafkaConfig;
use hub_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::folder::{missing_secret, plain_secret, read_as, read_document};
use super::schema::{self, Reading};
use super::yaml::{Document, Kind};
use super::{Fault, secrets};

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
    #[schemars(range(min = 1))]
    pub(crate) queue_mib: u32,
    /// Lanes: transactional publishers that systems share.
    #[serde(default = "lanes")]
    #[schemars(range(min = 1))]
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
    /// Seconds that captured rows may wait for Kafka before /readyz says that their system makes no progress.
    #[serde(default = "stalled_after")]
    pub(crate) stalled_after_s: u32,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: http_listen(), stalled_after_s: stalled_after() }
    }
}

fn stalled_after() -> u32 {
    30
}

/// What could be read of `hub.yaml`.
pub(super) struct ReadHub {
    /// The whole, where it is right.
    pub(super) file: Option<HubFile>,
    /// The folder of the canonical schemas, where it is known and there.
    pub(super) schemas: Option<PathBuf>,
}

/// Reads `hub.yaml` of a folder and notes every fault of it.
pub(super) fn read(directory: &Path, faults: &mut Vec<Fault>) -> ReadHub {
    let before = faults.len();
    let Some(document) = read_document(&directory.join("hub.yaml"), faults) else { return ReadHub { file: None, schemas: None } };
    let (mut reading, schema) = read_as::<HubFile>(&document);
    let mut found = std::mem::take(&mut reading.faults);
    let mut read = ReadHub { file: None, schemas: None };
    if let Some(root) = reading.sound.clone() {
        let look = Look { document: document.with_root(root), directory, reading };
        read = look.further(&schema, &mut found);
    }
    faults.extend(found);
    faults[before..].sort_by(|left, right| left.place.cmp(&right.place));
    read
}

/// Looks at the sound part of `hub.yaml`.
struct Look<'a> {
    document: Document,
    directory: &'a Path,
    reading: Reading,
}

impl Look<'_> {
    fn further(&self, schema: &Value, faults: &mut Vec<Fault>) -> ReadHub {
        let written = self.document.root.value();
        for pointer in secrets::in_plain_sight(&written, schema).into_iter().chain(self.plain_properties()) {
            faults.push(plain_secret(self.document.locate(&pointer)));
        }
        let (value, missing) = secrets::resolve(&written, self.directory);
        faults.extend(missing.iter().map(|one| missing_secret(&self.document, "", one)));
        let schemas = self.schemas(&value, faults);
        self.sections(&value, faults);
        let filled = schema::filled(value, schema);
        let mut kafka = Vec::new();
        if let Some(Ok(config)) = filled.get("kafka").map(|section| serde_json::from_value::<KafkaConfig>(section.clone())) {
            kafka.extend(config.check().into_iter().map(|fault| (format!("/kafka{}", fault.pointer), fault.message)));
            kafka.extend(self.missing_files(config.relative_to(self.directory).tls.as_ref()));
        }
        for (pointer, message) in kafka {
            if !self.reading.may_explain(&pointer, "/kafka") && missing.iter().all(|one| one.pointer != pointer) {
                faults.push(Fault::new(self.document.locate(&pointer), format!("`{}`: {message}", words(&pointer))));
            }
        }
        if !faults.is_empty() {
            return ReadHub { file: None, schemas };
        }
        match serde_json::from_value::<HubFile>(filled) {
            Ok(mut file) => {
                file.kafka = file.kafka.relative_to(self.directory);
                ReadHub { file: Some(file), schemas }
            }
            Err(error) => {
                faults.push(Fault::new(self.document.locate(""), error.to_string()));
                ReadHub { file: None, schemas }
            }
        }
    }

    /// The schemas folder; not known where its key could not be read.
    fn schemas(&self, value: &Value, faults: &mut Vec<Fault>) -> Option<PathBuf> {
        if self.reading.lacks("/schemas") {
            return None;
        }
        let name = value.get("schemas").and_then(Value::as_str).map_or_else(schemas_folder, str::to_owned);
        let folder = self.directory.join(name);
        if folder.is_dir() {
            return Some(folder);
        }
        faults.push(Fault {
            place: self.document.locate("/schemas"),
            message: format!("the schemas folder {} does not exist", folder.display()),
            suggestion: Some("write `schemas:` with the folder of <domain>/<Entity>.avsc, relative to hub.yaml".to_owned()),
        });
        None
    }

    /// Properties of Kafka's client that hold a secret themselves.
    fn plain_properties(&self) -> Vec<String> {
        let node = self.document.root.child("kafka").and_then(|kafka| kafka.child("properties"));
        let Some(Kind::Mapping(entries)) = node.map(|node| &node.kind) else { return Vec::new() };
        let is_bare = |key: &str, text: Option<&str>| hub_kafka::config::is_secret_property(key) && text.is_some_and(secrets::is_plain);
        let bare = entries.iter().filter(|(key, node)| is_bare(&key.text, node.text()));
        bare.map(|(key, _)| format!("/kafka/properties/{}", key.text)).collect()
    }

    /// What the schema cannot say of the other sections.
    fn sections(&self, value: &Value, faults: &mut Vec<Fault>) {
        let mut fault = |pointer: &str, message: String| {
            faults.push(Fault::new(self.document.locate(pointer), format!("`{}`: {message}", words(pointer))));
        };
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        for pointer in ["/http/listen", "/registry/embedded/listen"] {
            if let Some(text) = text(pointer).filter(|text| text.parse::<SocketAddr>().is_err()) {
                fault(pointer, format!("{text:?} is no address with a port: write `127.0.0.1:8081`, or `0.0.0.0:8081` for all"));
            }
        }
        if let Some(url) = text("/registry/url").filter(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            fault("/registry/url", format!("{url:?} is no URL: write `https://registry.example:8081`"));
        }
        let has = |pointer: &str| value.pointer(pointer).is_some_and(|value| !value.is_null()) || self.reading.lacks(pointer);
        if has("/registry/user") != has("/registry/password") {
            let (given, other) = if has("/registry/user") { ("user", "password") } else { ("password", "user") };
            fault(&format!("/registry/{given}"), format!("a login needs both user and password: write registry.{other} too"));
        }
        if let Some(file) = text("/registry/ca").map(|file| self.directory.join(file)).filter(|file| !file.is_file()) {
            fault("/registry/ca", no_file(&file));
        }
    }

    /// The files of Kafka's TLS that are not there.
    fn missing_files(&self, tls: Option<&hub_kafka::config::TlsConfig>) -> Vec<(String, String)> {
        let files = tls.map(|tls| [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)]);
        let missing = files.into_iter().flatten().filter_map(|(name, file)| Some((name, file.as_ref().filter(|file| !file.is_file())?)));
        missing.map(|(name, file)| (format!("/kafka/tls/{name}"), no_file(file))).collect()
    }
}

fn no_file(file: &Path) -> String {
    format!("there is no file {}; a relative path begins at the configuration folder", file.display())
}

fn words(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
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
