//! Desired state: a system as an engineer writes it, and as the connectors topic keeps it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One system of the province: what is read, how it is mapped and where it is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemSpec {
    /// Name: lower-case letters, digits and hyphens. Part of topic names.
    pub system: String,
    /// Title in Vietnamese and English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Title>,
    /// Code of the agency that owns the system, `H09.01`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Domain, the folder of its schemas, `public-admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Kind of connector, `postgres`. `hub connectors` lists them.
    pub connector: String,
    /// The connector's own settings. Secrets are references: `${env:NAME}` or `${file:path}`.
    #[serde(default)]
    pub config: Value,
    /// What is captured, and how it becomes canonical.
    pub streams: Vec<StreamSpec>,
}

/// A title that officials read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Title {
    /// Vietnamese.
    pub vi: String,
    /// English.
    pub en: String,
}

/// One stream: a source table, the canonical entity it becomes, and the expressions between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// The stream at the source, `public.ho_so`.
    pub source: String,
    /// The canonical entity, `public-admin.Dossier`: the file `schemas/public-admin/Dossier.avsc`.
    pub entity: String,
    /// SQL condition; rows for which it is not true are not published. A published row that ceases to meet it is deleted.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Canonical fields that make the key.
    pub key: Vec<String>,
    /// One SQL expression over the source's columns per canonical field.
    pub map: BTreeMap<String, String>,
    /// Settings of its topic.
    #[serde(default, skip_serializing_if = "TopicSettings::is_default")]
    pub topic: TopicSettings,
}

/// Settings of a topic; what is left out comes from `topics.defaults` of hub.yaml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Partitions of a topic that the hub creates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Replicas of a topic that the hub creates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<i32>,
    /// `compact` keeps the latest record of a key, `delete` keeps all for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<Cleanup>,
    /// Further Kafka topic settings, `retention.ms: "604800000"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// What Kafka does with old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cleanup {
    /// Keep the latest record of each key; deletes end in a tombstone.
    Compact,
    /// Keep every record for the retention time.
    Delete,
}

impl TopicSettings {
    fn is_default(&self) -> bool {
        self == &Self::default()
    }

    /// These settings, with what they leave open taken from `defaults`.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        let mut settings = defaults.settings.clone();
        settings.extend(self.settings.clone());
        Self {
            partitions: self.partitions.or(defaults.partitions),
            replication: self.replication.or(defaults.replication),
            cleanup: self.cleanup.or(defaults.cleanup),
            settings,
        }
    }
}

/// A system with all that a node needs to run it without files: one record of the connectors topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The system.
    pub spec: SystemSpec,
    /// Canonical schemas by entity, as Avro JSON text.
    pub schemas: BTreeMap<String, String>,
    /// Code lists by name, as CSV text.
    pub codes: BTreeMap<String, String>,
    /// Where relative paths and `${file:…}` references start.
    pub directory: String,
    /// Where the system's expressions stand, if it came from a file: what cannot be mapped is told with its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Places>,
    /// Stopped on purpose: kept, not run.
    #[serde(default)]
    pub paused: bool,
    /// To be taken away: a node drops what the system has at its source, then this record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

impl Desired {
    /// Whether it runs as another one does: a file that only moved its lines changes nothing.
    #[must_use]
    pub fn runs_as(&self, other: &Self) -> bool {
        let placeless = |desired: &Self| Self { places: None, ..desired.clone() };
        placeless(self) == placeless(other)
    }
}

/// Line and column in a file, from 1.
pub type At = (u32, u32);

/// Where the expressions of a system stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The file, within the configuration folder.
    pub file: String,
    /// Per stream, in the system's order.
    pub streams: Vec<StreamPlaces>,
}

/// Where the expressions of a stream stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPlaces {
    /// Its condition.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<At>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<At>,
    /// The expression of each field.
    #[serde(rename = "map")]
    pub fields: BTreeMap<String, At>,
}

/// Names of the hub's own topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnTopics {
    /// Checkpoints by system and partition.
    pub checkpoints: String,
    /// Desired systems.
    pub connectors: String,
    /// Status by system.
    pub status: String,
}

/// Topic names under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    prefix: String,
}

impl Naming {
    /// Names under `prefix`.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The topic of a system's entity: `<prefix>.<system>.<entity>`; of `public-admin.Dossier` only `dossier` is taken.
    #[must_use]
    pub fn data(&self, system: &str, entity: &str) -> String {
        let short = entity.rsplit('.').next().unwrap_or(entity);
        format!("{}.{system}.{}", self.prefix, kebab(short))
    }

    /// The rejects topic of a system.
    #[must_use]
    pub fn rejects(&self, system: &str) -> String {
        format!("{}.{system}.rejects", self.prefix)
    }

    /// The topic of a system's exchanges with its source, where its configuration asks for such evidence.
    #[must_use]
    pub fn audit(&self, system: &str) -> String {
        format!("{}.{system}.audit", self.prefix)
    }

    /// The topic that a system has of its own and that records of this entity would go to, where there is such: no entity may be called so.
    #[must_use]
    pub fn own_of_a_system(entity: &str) -> Option<&'static str> {
        let short = kebab(entity.rsplit('.').next().unwrap_or(entity));
        ["rejects", "audit"].into_iter().find(|own| *own == short)
    }

    /// Prefix of transactional ids.
    #[must_use]
    pub fn lane(&self, lane: u16) -> String {
        format!("{}.lane-{lane}", self.prefix)
    }

    /// The hub's own topics. Two hubs on one Kafka differ by prefix, so their own topics carry it too.
    #[must_use]
    pub fn own(&self) -> OwnTopics {
        OwnTopics {
            checkpoints: format!("hub.{}.checkpoints", self.prefix),
            connectors: format!("hub.{}.connectors", self.prefix),
            status: format!("hub.{}.status", self.prefix),
        }
    }

    /// The topic of the embedded schema registry.
    #[must_use]
    pub fn schemas(&self) -> String {
        format!("hub.{}.schemas", self.prefix)
    }
}

/// `DossierStep` → `dossier-step`.
fn kebab(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_by_prefix_system_and_entity() {
        let naming = Naming::new("h09");
        assert_eq!(naming.data("mot-cua", "public-admin.DossierStep"), "h09.mot-cua.dossier-step");
        assert_eq!(naming.rejects("mot-cua"), "h09.mot-cua.rejects");
    }

    #[test]
    fn an_entity_does_not_take_a_topic_that_the_system_has_of_its_own() {
        assert_eq!(Naming::own_of_a_system("public-admin.Rejects"), Some("rejects"));
        assert_eq!(Naming::own_of_a_system("finance.Audit"), Some("audit"));
        assert_eq!(Naming::own_of_a_system("finance.AuditStep"), None);
    }

    #[test]
    fn a_stream_keeps_its_own_topic_settings_over_the_defaults() {
        let defaults = TopicSettings {
            partitions: Some(3),
            cleanup: Some(Cleanup::Compact),
            settings: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "1".into())]),
            ..TopicSettings::default()
        };
        let own = TopicSettings { partitions: Some(6), settings: BTreeMap::from([("b".into(), "2".into())]), ..TopicSettings::default() };
        let merged = own.or(&defaults);
        assert_eq!(merged.partitions, Some(6));
        assert_eq!(merged.cleanup, Some(Cleanup::Compact));
        assert_eq!(merged.settings, BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]));
    }
}
