//! How a folder's systems and the connectors topic differ, and making the topic so. `hub apply` asks first; `hub run`
//! applies its own folder.

use std::collections::BTreeMap;

use hub_engine::spec::{Desired, Naming};
use hub_kafka::{Entry, Table, Topics};
use hub_sdk::Kind;
use serde_json::{Value, json};

use crate::command::connectors::is_secret;
use crate::config::{Fault, HubFile, LoadedSystem};
use crate::failure::Failure;

/// The connectors topic and what it holds.
pub(crate) struct DesiredState {
    table: Table,
    /// Its name.
    pub(crate) topic: String,
    hub: HubFile,
    held: BTreeMap<String, Entry>,
}

impl DesiredState {
    /// Reads it; a topic that is not there yet holds nothing.
    pub(crate) async fn read(hub: &HubFile) -> Result<Self, Failure> {
        let topic = Naming::new(hub.kafka.topic_prefix.clone()).own().connectors;
        let table = Table::open(&hub.kafka, &topic).map_err(|error| Failure::unavailable("opening the desired state", error))?;
        let held = match table.read().await {
            Ok(held) => held,
            Err(hub_kafka::Error::NoTopic { .. }) => BTreeMap::new(),
            Err(error) => return Err(Failure::unavailable("reading the desired state", error)),
        };
        Ok(Self { table, topic, hub: hub.clone(), held })
    }

    /// What is to be done so that it holds these systems.
    pub(crate) fn steps(&self, systems: impl IntoIterator<Item = Desired>) -> Result<BTreeMap<String, Step>, Failure> {
        steps(systems, &self.held)
    }

    /// Does it.
    pub(crate) async fn write(&self, steps: &BTreeMap<String, Step>, prune: bool) -> Result<(), Failure> {
        let topics = Topics::connect(&self.hub.kafka).map_err(|error| Failure::unavailable("connecting to Kafka", error))?;
        let spec = [Table::topic(&self.topic, self.hub.kafka.replication)];
        topics.ensure(&spec).await.map_err(|error| Failure::unavailable(format!("creating {}", self.topic), error))?;
        for (name, step) in steps.iter().filter(|(_, step)| step.is_change(prune)) {
            let document = match step {
                Step::Create(document) | Step::Change { new: document, .. } => document.clone(),
                Step::Keep | Step::Leaving => continue,
                Step::Orphan(document) => removed(document),
            };
            self.table
                .put(name, &document)
                .await
                .map_err(|error| Failure::unavailable(format!("writing system {name} (earlier ones are written; apply again)"), error))?;
        }
        Ok(())
    }
}

/// The record of a system that is to be taken away. A node drops slot and publication, and then the record itself: a plain
/// deletion would be lost on a node that is down.
fn removed(document: &Value) -> Value {
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.insert("removed".to_owned(), json!(true));
    }
    document
}

/// Refuses secrets that stand in a file in plain sight: records go to Kafka, where others can read them.
pub(crate) fn refuse_bare_secrets(systems: &[LoadedSystem], kinds: &[Kind]) -> Result<(), Failure> {
    let bare: Vec<Fault> = systems.iter().flat_map(|system| bare_secrets(system, kinds)).collect();
    if bare.is_empty() { Ok(()) } else { Err(Failure::Config(bare)) }
}

/// What is to be done about one system.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// It is new.
    Create(Value),
    /// It is another one than before.
    Change {
        /// As it is.
        old: Value,
        /// As it is to be.
        new: Value,
    },
    /// It is as it should be.
    Keep,
    /// The folder does not have it.
    Orphan(Value),
    /// The folder does not have it, and it is being taken away.
    Leaving,
}

impl Step {
    /// Whether something is written.
    pub(crate) fn is_change(&self, prune: bool) -> bool {
        match self {
            Self::Create(_) | Self::Change { .. } => true,
            Self::Keep | Self::Leaving => false,
            Self::Orphan(_) => prune,
        }
    }

    /// Its name in reports.
    pub(crate) fn word(&self, prune: bool) -> &'static str {
        match self {
            Self::Create(_) => "new",
            Self::Change { .. } => "changed",
            Self::Keep => "unchanged",
            Self::Leaving => "being removed",
            Self::Orphan(_) if prune => "removed",
            Self::Orphan(_) => "not in the folder",
        }
    }
}

fn steps(systems: impl IntoIterator<Item = Desired>, held: &BTreeMap<String, Entry>) -> Result<BTreeMap<String, Step>, Failure> {
    let leaves = |document: &Value| document.get("removed").and_then(Value::as_bool) == Some(true);
    let unlisted = |document: &Value| if leaves(document) { Step::Leaving } else { Step::Orphan(document.clone()) };
    let mut steps: BTreeMap<String, Step> = held.iter().map(|(name, entry)| (name.clone(), unlisted(&entry.document))).collect();
    for mut system in systems {
        let name = system.spec.system.clone();
        let old = held.get(&name).map(|entry| &entry.document);
        // A pause was asked for at the running hub; a folder does not end it.
        system.paused = old.and_then(|old| old.get("paused")).and_then(Value::as_bool).unwrap_or(false);
        let new = serde_json::to_value(&system).map_err(|error| Failure::unavailable(format!("writing system {name}"), error))?;
        let step = match old {
            None => Step::Create(new),
            Some(old) if *old == new => Step::Keep,
            Some(old) => Step::Change { old: old.clone(), new },
        };
        steps.insert(name, step);
    }
    Ok(steps)
}

/// Secrets that stand in a file in plain sight: the record goes to Kafka, where others can read it.
pub(crate) fn bare_secrets(system: &LoadedSystem, kinds: &[Kind]) -> Vec<Fault> {
    let spec = &system.desired.spec;
    let Some(kind) = kinds.iter().find(|kind| kind.name == spec.connector) else { return Vec::new() };
    let schema = kind.config_schema();
    let mut found = Vec::new();
    plain_secrets(&spec.config, &schema, &schema, "/config", &mut found);
    let fault = |pointer: String| Fault {
        place: system.document.locate(&pointer),
        message: "a secret stands here in plain sight, and would be written to Kafka".to_owned(),
        suggestion: Some("put it into a file or the environment and write ${file:path} or ${env:NAME}".to_owned()),
    };
    found.into_iter().map(fault).collect()
}

fn plain_secrets(value: &Value, schema: &Value, root: &Value, pointer: &str, found: &mut Vec<String>) {
    if is_secret(schema) {
        if value.as_str().is_some_and(|text| !text.is_empty() && !text.contains("${")) {
            found.push(pointer.to_owned());
        }
        return;
    }
    let resolved = schema.get("$ref").and_then(Value::as_str).and_then(|target| root.pointer(target.trim_start_matches('#')));
    let branches = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    for schema in resolved.into_iter().chain(branches) {
        plain_secrets(value, schema, root, pointer, found);
    }
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = value.get(name) {
            plain_secrets(value, inner, root, &format!("{pointer}/{name}"), found);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use hub_engine::spec::SystemSpec;

    use super::*;

    fn desired(name: &str, filter: &str) -> Desired {
        let spec: SystemSpec = serde_json::from_value(json!({
            "system": name, "connector": "postgres", "config": {"host": "a"},
            "streams": [{"source": "s", "entity": "e.E", "key": ["k"], "where": filter, "map": {"k": "k"}}]
        }))
        .unwrap();
        Desired { spec, schemas: BTreeMap::new(), codes: BTreeMap::new(), directory: "/d".into(), paused: false, removed: false }
    }

    fn held(systems: &[Desired]) -> BTreeMap<String, Entry> {
        let entry = |system: &Desired| Entry { offset: 0, document: serde_json::to_value(system).unwrap() };
        systems.iter().map(|system| (system.spec.system.clone(), entry(system))).collect()
    }

    #[test]
    fn systems_are_created_changed_kept_and_pruned_only_when_told() {
        let before = held(&[desired("a", "x"), desired("b", "x"), desired("gone", "x")]);
        let steps = steps(vec![desired("a", "x"), desired("b", "y"), desired("c", "x")], &before).unwrap();
        let words: Vec<_> = steps.iter().map(|(name, step)| (name.as_str(), step.word(false), step.is_change(false))).collect();
        assert_eq!(words, [("a", "unchanged", false), ("b", "changed", true), ("c", "new", true), ("gone", "not in the folder", false)]);
        assert!(steps["gone"].is_change(true));
        let Step::Orphan(gone) = &steps["gone"] else { panic!("{steps:?}") };
        let leaving: Desired = serde_json::from_value(removed(gone)).unwrap();
        assert!(leaving.removed && leaving.spec.system == "gone", "a node still knows what to take away");
    }

    #[test]
    fn a_pause_outlives_an_apply() {
        let mut paused = desired("a", "x");
        paused.paused = true;
        assert_eq!(steps(vec![desired("a", "x")], &held(&[paused])).unwrap()["a"], Step::Keep);
    }

    #[test]
    fn a_secret_in_plain_sight_is_found_and_a_reference_is_none() {
        let kinds = hub_connectors::kinds();
        let schema = kinds.iter().find(|kind| kind.name == "postgres").unwrap().config_schema();
        let mut found = Vec::new();
        plain_secrets(&json!({"host": "a", "password": "hunter2"}), &schema, &schema, "/config", &mut found);
        assert_eq!(found, ["/config/password"]);
        found.clear();
        plain_secrets(&json!({"password": "${file:pw}"}), &schema, &schema, "/config", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_system_that_is_being_removed_is_left_alone_until_the_folder_has_it_again() {
        let mut leaving = desired("a", "x");
        leaving.removed = true;
        let before = held(&[leaving]);
        assert_eq!(steps(Vec::new(), &before).unwrap()["a"], Step::Leaving);
        assert!(steps(vec![desired("a", "x")], &before).unwrap()["a"].is_change(false));
    }
}
