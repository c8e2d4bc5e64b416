//! How a folder's systems and the connectors topic differ, and making the topic so. `hub apply` asks first; `hub run`
//! applies its own folder.

use std::collections::BTreeMap;

use hub_engine::spec::{Desired, Naming};
use hub_kafka::{Entry, Table, Topics};
use serde_json::{Value, json};

use crate::config::HubFile;
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
        for (name, step) in steps.iter().filter(|(_, step)| step.is_change(prune) || matches!(step, Step::Moved(_))) {
            let document = match step {
                Step::Create(document) | Step::Moved(document) | Step::Change { new: document, .. } => document.clone(),
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
    /// It is as it should be, but stands in other lines of its file than its record says. No node restarts it.
    Moved(Value),
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
            Self::Keep | Self::Moved(_) | Self::Leaving => false,
            Self::Orphan(_) => prune,
        }
    }

    /// Its name in reports.
    pub(crate) fn word(&self, prune: bool) -> &'static str {
        match self {
            Self::Create(_) => "new",
            Self::Change { .. } => "changed",
            Self::Keep | Self::Moved(_) => "unchanged",
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
            Some(old) if placeless(old) == placeless(&new) => Step::Moved(new),
            Some(old) => Step::Change { old: old.clone(), new },
        };
        steps.insert(name, step);
    }
    Ok(steps)
}

/// A record without the places of its expressions.
fn placeless(document: &Value) -> Value {
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.remove("places");
    }
    document
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use hub_engine::spec::{Places, StreamPlaces, SystemSpec};

    use super::*;

    fn desired(name: &str, filter: &str) -> Desired {
        let spec: SystemSpec = serde_json::from_value(json!({
            "system": name, "connector": "postgres", "config": {"host": "a"},
            "streams": [{"source": "s", "entity": "e.E", "key": ["k"], "where": filter, "map": {"k": "k"}}]
        }))
        .unwrap();
        Desired {
            spec,
            schemas: BTreeMap::new(),
            codes: BTreeMap::new(),
            directory: "/d".into(),
            places: None,
            paused: false,
            removed: false,
        }
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
    fn a_system_that_only_moved_in_its_file_is_noted_and_not_changed() {
        let moved = |line: u32| {
            let stream = StreamPlaces { filter: Some((line, 12)), ..StreamPlaces::default() };
            Desired { places: Some(Places { file: "systems/a.yaml".into(), streams: vec![stream] }), ..desired("a", "x") }
        };
        let steps = steps(vec![moved(7)], &held(&[moved(6)])).unwrap();
        assert!(matches!(&steps["a"], Step::Moved(new) if new["places"]["streams"][0]["where"][0] == 7), "{steps:?}");
        assert!(!steps["a"].is_change(true) && moved(6).runs_as(&moved(7)) && !moved(6).runs_as(&desired("a", "y")));
    }

    #[test]
    fn a_pause_outlives_an_apply() {
        let mut paused = desired("a", "x");
        paused.paused = true;
        assert_eq!(steps(vec![desired("a", "x")], &held(&[paused])).unwrap()["a"], Step::Keep);
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
