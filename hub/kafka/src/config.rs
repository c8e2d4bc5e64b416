//! How Kafka is reached, as an engineer writes it, and the librdkafka settings that follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use schemars::JsonSchema;
use serde::Deserialize;

/// Connection to Kafka and what the hub asks of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to begin with, as `host:port`, several parted by commas.
    pub brokers: String,
    /// TLS to the brokers. Absent: no TLS.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Login at the brokers. Absent: none, or the client certificate of `tls`.
    #[serde(default)]
    pub sasl: Option<SaslConfig>,
    /// What every topic name of the hub begins with.
    #[serde(default = "default_prefix")]
    pub topic_prefix: String,
    /// Replicas of each topic that the hub creates. 3 in a cluster.
    #[serde(default = "default_replication")]
    pub replication: u16,
    /// Compression of record batches.
    #[serde(default)]
    pub compression: Compression,
    /// How long a transaction may take before Kafka aborts it, milliseconds. It is also how long rows wait for a broker
    /// that is away before they are sent anew. The brokers allow at most `transaction.max.timeout.ms` (15 minutes).
    #[serde(default = "default_transaction_timeout")]
    pub transaction_timeout_ms: u32,
    /// Largest record that is sent, bytes of key, value and headers together. A larger one is rejected. Topics must allow
    /// as much (`max.message.bytes`, 1,048,588 unless set otherwise).
    #[serde(default = "default_max_record")]
    pub max_record_bytes: u32,
    /// Further librdkafka settings, for what has no key of its own here.
    #[serde(default)]
    pub properties: Properties,
}

/// Further librdkafka settings. `Debug` shows `***` for those that are secrets.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Sets one.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (key, if is_secret_property(key) { "***" } else { value }))).finish()
    }
}

/// Whether a librdkafka setting holds a password, a key or a token.
#[must_use]
pub fn is_secret_property(key: &str) -> bool {
    let parts = ["password", "secret", "passphrase", "jaas", "key.pem", "keystore.pem", "oauthbearer.config", "credentials", "token.value"];
    parts.iter().any(|part| key.contains(part))
}

/// TLS to the brokers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the authorities that are trusted; relative to the configuration folder, as the two below. Absent: those of
    /// the operating system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate, where the brokers ask for one.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// What of the broker's certificate is checked.
    #[serde(default)]
    pub verify: Verify,
}

/// What of the broker's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// The authority and the host name.
    #[default]
    Full,
    /// The authority only: certificates that do not name the host are accepted.
    Authority,
    /// Nothing. For a laboratory.
    None,
}

/// Login by user and password.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    /// How the password is proven.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Password,
}

/// How a password is proven to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// Sent as it is: only sensible over TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Compression of record batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Quick; the default.
    #[default]
    Lz4,
    /// Smaller, at more CPU.
    Zstd,
    /// None.
    None,
}

/// A password. `Debug` shows `***`, and it cannot be serialised.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Keeps a password.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Something that cannot work, found without the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, a JSON pointer below the Kafka section: `/tls/key`.
    pub pointer: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

fn default_prefix() -> String {
    "hub".to_owned()
}

const fn default_replication() -> u16 {
    1
}

const fn default_transaction_timeout() -> u32 {
    60_000
}

const fn default_max_record() -> u32 {
    1_000_000
}

/// Settings that exactly-once rests on, or that have a key of their own.
const OWN_SETTINGS: &[(&str, &str)] = &[
    ("acks", "the hub always waits for all replicas"),
    ("request.required.acks", "the hub always waits for all replicas"),
    ("enable.idempotence", "the hub always publishes in transactions"),
    ("transactional.id", "lanes name their own transactions"),
    ("isolation.level", "the hub always reads what is committed"),
    ("partitioner", "topics must be partitioned as Java clients do"),
    ("enable.partition.eof", "readers rely on it"),
    ("group.id", "readers join no group"),
    ("delivery.report.only.error", "lanes rely on it"),
    ("bootstrap.servers", "write brokers instead"),
    ("metadata.broker.list", "write brokers instead"),
    ("security.protocol", "it follows from tls and sasl"),
    ("sasl.password", "write sasl.password of the kafka section, as a ${env:…} or ${file:…} reference"),
    ("sasl.username", "write sasl.user of the kafka section"),
    ("sasl.mechanism", "write sasl.mechanism of the kafka section"),
    ("sasl.mechanisms", "write sasl.mechanism of the kafka section"),
    ("ssl.ca.location", "write tls.ca"),
    ("ssl.certificate.location", "write tls.cert"),
    ("ssl.key.location", "write tls.key"),
    ("compression.type", "write compression"),
    ("compression.codec", "write compression"),
    ("transaction.timeout.ms", "write transaction_timeout_ms"),
    ("message.max.bytes", "write max_record_bytes"),
];

impl KafkaConfig {
    /// Settings for a Kafka at these brokers, all else by default.
    #[must_use]
    pub fn at(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            tls: None,
            sasl: None,
            topic_prefix: default_prefix(),
            replication: default_replication(),
            compression: Compression::default(),
            transaction_timeout_ms: default_transaction_timeout(),
            max_record_bytes: default_max_record(),
            properties: Properties::default(),
        }
    }

    /// Everything that cannot work, all at once.
    #[must_use]
    pub fn check(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |pointer: &str, message: String| faults.push(Fault { pointer: pointer.to_owned(), message });
        if self.brokers.split(',').any(|broker| !is_address(broker.trim())) {
            fault(
                "/brokers",
                format!("{:?} is not a list of host:port, parted by commas: write `broker-1:9092,broker-2:9092`", self.brokers),
            );
        }
        if !is_topic_part(&self.topic_prefix) {
            fault("/topic_prefix", format!("{:?} may only have letters, digits, '.', '_' and '-'", self.topic_prefix));
        }
        if self.replication == 0 {
            fault("/replication", "no topic can have 0 replicas: write at least 1, and 3 in a cluster".to_owned());
        }
        if !(1_000..=900_000).contains(&self.transaction_timeout_ms) {
            fault("/transaction_timeout_ms", "it is out of range: write 1,000 to 900,000 (15 minutes)".to_owned());
        }
        if !(1_000..=1_000_000_000).contains(&self.max_record_bytes) {
            fault("/max_record_bytes", "it is out of range: write 1,000 to 1,000,000,000".to_owned());
        }
        if let Some(tls) = &self.tls
            && tls.cert.is_some() != tls.key.is_some()
        {
            let (given, missing) = if tls.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            fault(&format!("/tls/{given}"), format!("a client certificate needs both tls.cert and tls.key: write tls.{missing} too"));
        }
        for (key, _) in self.properties.iter() {
            if let Some((_, why)) = OWN_SETTINGS.iter().find(|(own, _)| *own == key) {
                fault(&format!("/properties/{key}"), format!("this setting cannot be changed here: {why}"));
            }
        }
        faults
    }

    /// The same with the files of `tls` looked for from this folder on, where they are relative.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        if let Some(tls) = &mut self.tls {
            for file in [&mut tls.ca, &mut tls.cert, &mut tls.key].into_iter().flatten() {
                *file = folder.join(&*file);
            }
        }
        self
    }

    /// librdkafka's settings that every client of the hub shares.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        self.client_with(&[])
    }

    /// The shared settings over defaults of one kind of client; the `properties` of the configuration win over those.
    pub(crate) fn client_with(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Info);
        // A retry storm after a broker's restart is kept short, and so is the wait for its return.
        client.set("client.id", "provincial-hub").set("reconnect.backoff.max.ms", "2000");
        for (key, value) in defaults {
            client.set(*key, *value);
        }
        for (key, value) in self.properties.iter() {
            client.set(key, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            tls.apply(&mut client);
        }
        if let Some(sasl) = &self.sasl {
            client.set("sasl.mechanism", sasl.mechanism.as_str());
            client.set("sasl.username", &sasl.user).set("sasl.password", &sasl.password.0);
        }
        client
    }
}

impl TlsConfig {
    fn apply(&self, client: &mut ClientConfig) {
        let files = [("ssl.ca.location", &self.ca), ("ssl.certificate.location", &self.cert), ("ssl.key.location", &self.key)];
        for (key, file) in files {
            if let Some(file) = file {
                client.set(key, file.to_string_lossy());
            }
        }
        match self.verify {
            Verify::Full => client.set("ssl.endpoint.identification.algorithm", "https"),
            Verify::Authority => client.set("ssl.endpoint.identification.algorithm", "none"),
            Verify::None => client.set("enable.ssl.certificate.verification", "false").set("ssl.endpoint.identification.algorithm", "none"),
        };
    }
}

impl Mechanism {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Compression {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }
}

/// `host:port`, `[v6]:port`.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_topic_part(text: &str) -> bool {
    !text.is_empty() && text.len() <= 100 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    fn read(json: &str) -> serde_json::Result<KafkaConfig> {
        serde_json::from_str(json)
    }

    #[test]
    fn brokers_alone_suffice() {
        let config = read(r#"{"brokers": "a:9092,b:9092"}"#).unwrap();
        assert_eq!(config.check(), []);
        assert_eq!(config.client().get("bootstrap.servers"), Some("a:9092,b:9092"));
        assert_eq!(config.client().get("security.protocol"), Some("plaintext"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(read(r#"{"brokers": "a:1", "broker": "x"}"#).is_err());
        assert!(read(r#"{"brokers": "a:1", "tls": {"cacert": "x"}}"#).is_err());
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let config =
            read(r#"{"brokers": "a:1", "tls": {}, "sasl": {"mechanism": "SCRAM-SHA-512", "user": "hub", "password": "hunter2"}}"#).unwrap();
        let shown = format!("{config:?} {:?}", config.client());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(config.client().get("sasl.password"), Some("hunter2"));
        assert_eq!(config.client().get("security.protocol"), Some("sasl_ssl"));
    }

    #[test]
    fn a_secret_among_the_properties_is_not_shown_by_debug() {
        let config = read(
            r#"{"brokers": "a:1", "properties": {"ssl.key.password": "hunter2", "ssl.key.pem": "hunter2", "sasl.password": "hunter2",
                "sasl.oauthbearer.client.secret": "hunter2", "sasl.oauthbearer.config": "hunter2", "linger.ms": "5"}}"#,
        )
        .unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && shown.contains(r#""linger.ms": "5""#), "{shown}");
    }

    #[test]
    fn tls_files_are_looked_for_in_the_configuration_folder() {
        let config = read(r#"{"brokers": "a:1", "tls": {"ca": "tls/ca.pem", "cert": "/etc/hub.pem", "key": "hub.key"}}"#).unwrap();
        let client = config.relative_to(Path::new("/srv/hub")).client();
        assert_eq!(client.get("ssl.ca.location"), Some("/srv/hub/tls/ca.pem"));
        assert_eq!(client.get("ssl.certificate.location"), Some("/etc/hub.pem"));
        assert_eq!(client.get("ssl.key.location"), Some("/srv/hub/hub.key"));
    }

    #[test]
    fn all_faults_are_found_at_once_with_their_places() {
        let config = read(
            r#"{"brokers": "a", "topic_prefix": "h b", "replication": 0, "transaction_timeout_ms": 1,
                "max_record_bytes": 1, "tls": {"cert": "c"}, "properties": {"acks": "1"}}"#,
        )
        .unwrap();
        let places: Vec<_> = config.check().into_iter().map(|fault| fault.pointer).collect();
        let expected =
            ["/brokers", "/topic_prefix", "/replication", "/transaction_timeout_ms", "/max_record_bytes", "/tls/cert", "/properties/acks"];
        assert_eq!(places, expected);
    }

    #[test]
    fn further_properties_win_over_the_hubs_defaults() {
        let mut config = KafkaConfig::at("a:1");
        config.properties.insert("linger.ms", "5");
        assert_eq!(config.client_with(&[("linger.ms", "0")]).get("linger.ms"), Some("5"));
    }
}
