//! `hub apply`: shows how the folder differs from what is desired in Kafka, then makes it so.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use hub_engine::spec::{Desired, Naming};
use hub_kafka::{Entry, KafkaConfig, Table, Topics};
use hub_sdk::Kind;
use serde_json::{Value, json};

use super::connectors::is_secret;
use super::diff::{Line, difference, lines};
use crate::Global;
use crate::config::{Fault, Folder};
use crate::failure::Failure;
use crate::table::{Tone, print_json, print_line, toned};

/// Options of `hub apply`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Configuration folder; the same as --config.
    folder: Option<PathBuf>,
    /// Remove systems that the folder does not have.
    #[arg(long)]
    prune: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Only show the difference; exit code 1 where there is one.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// What is to be done about one system.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Create(Value),
    Change {
        old: Value,
        new: Value,
    },
    Keep,
    /// The folder does not have it.
    Orphan(Value),
}

/// Shows, asks and writes.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let directory = options.folder.as_deref().unwrap_or(&global.config);
    let kinds = hub_connectors::kinds();
    let folder = Folder::read(directory, &kinds);
    let (Some(hub), true) = (folder.hub, folder.faults.is_empty()) else {
        return Err(Failure::Config(folder.faults));
    };
    let bare: Vec<Fault> = folder.systems.iter().flat_map(|system| bare_secrets(system, &kinds)).collect();
    if !bare.is_empty() {
        return Err(Failure::Config(bare));
    }
    let topic = Naming::new(hub.kafka.topic_prefix.clone()).own().connectors;
    let table = Table::open(&hub.kafka, &topic).map_err(|error| Failure::unavailable("opening the desired state", error))?;
    let held = match table.read().await {
        Ok(held) => held,
        Err(hub_kafka::Error::NoTopic { .. }) => BTreeMap::new(),
        Err(error) => return Err(Failure::unavailable("reading the desired state", error)),
    };
    let steps = steps(folder.systems.into_iter().map(|system| system.desired).collect(), &held)?;
    show(global, &steps, options.prune);
    let changes = steps.values().filter(|step| step.is_change(options.prune)).count();
    if changes == 0 {
        return Ok(());
    }
    if options.dry_run {
        return Err(Failure::Differs(format!("{changes} systems differ from {}; `hub apply` makes them so", directory.display())));
    }
    if !options.yes && !confirmed(changes, directory)? {
        return Err(Failure::Differs("nothing was changed".to_owned()));
    }
    write(&hub.kafka, &table, &topic, &steps, options.prune).await?;
    if !global.json {
        print_line(&format!("{changes} systems written to {topic}"));
    }
    Ok(())
}

impl Step {
    fn is_change(&self, prune: bool) -> bool {
        match self {
            Self::Create(_) | Self::Change { .. } => true,
            Self::Keep => false,
            Self::Orphan(_) => prune,
        }
    }

    fn word(&self, prune: bool) -> &'static str {
        match self {
            Self::Create(_) => "new",
            Self::Change { .. } => "changed",
            Self::Keep => "unchanged",
            Self::Orphan(_) if prune => "removed",
            Self::Orphan(_) => "not in the folder",
        }
    }
}

fn steps(systems: Vec<Desired>, held: &BTreeMap<String, Entry>) -> Result<BTreeMap<String, Step>, Failure> {
    let mut steps: BTreeMap<String, Step> = held.iter().map(|(name, entry)| (name.clone(), Step::Orphan(entry.document.clone()))).collect();
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

fn show(global: &Global, steps: &BTreeMap<String, Step>, prune: bool) {
    for (name, step) in steps {
        let parts = changed_parts(step);
        if global.json {
            print_json(
                &json!({"system": name, "change": step.word(prune), "parts": parts.iter().map(|(part, _)| part).collect::<Vec<_>>()}),
            );
            continue;
        }
        let tone = match step {
            Step::Create(_) | Step::Change { .. } => Tone::Good,
            Step::Orphan(_) if prune => Tone::Bad,
            Step::Keep | Step::Orphan(_) => Tone::Quiet,
        };
        let hint = if matches!(step, Step::Orphan(_)) && !prune { "; it is kept, --prune removes it" } else { "" };
        print_line(&toned(&format!("system {name}: {}{hint}", step.word(prune)), tone));
        for (part, difference) in parts {
            print_line(&format!("  {part}"));
            difference.iter().for_each(print_difference);
        }
    }
}

fn print_difference(line: &Line) {
    match line {
        Line::Same(text) => print_line(&format!("      {text}")),
        Line::Old(text) => print_line(&toned(&format!("    - {text}"), Tone::Bad)),
        Line::New(text) => print_line(&toned(&format!("    + {text}"), Tone::Good)),
        Line::Gap(lines) => print_line(&toned(&format!("      … {lines} lines"), Tone::Quiet)),
    }
}

/// The parts of a record that differ: the system's file, each schema and each code list.
fn changed_parts(step: &Step) -> Vec<(String, Vec<Line>)> {
    let nothing = Value::Null;
    let (old, new) = match step {
        Step::Create(new) => (&nothing, new),
        Step::Change { old, new } => (old, new),
        Step::Keep | Step::Orphan(_) => return Vec::new(),
    };
    let mut parts = Vec::new();
    let mut compare = |name: String, old: Option<&Value>, new: Option<&Value>| {
        let text = |value: Option<&Value>| value.map(|value| lines(&unfolded(value))).unwrap_or_default();
        let shown = difference(&text(old), &text(new));
        if !shown.is_empty() {
            parts.push((name, shown));
        }
    };
    for part in ["spec", "directory", "paused"] {
        if part == "spec" || !old.is_null() {
            compare(part.to_owned(), old.get(part), new.get(part));
        }
    }
    for (section, what) in [("schemas", "schema"), ("codes", "code list")] {
        // What a new system brings with it is in the folder for all to read.
        if old.is_null() {
            continue;
        }
        let entries = |value: &Value| value.get(section).and_then(Value::as_object).cloned().unwrap_or_default();
        let (old, new) = (entries(old), entries(new));
        let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            compare(format!("{what} {name}"), old.get(name), new.get(name));
        }
    }
    parts
}

/// A text that holds JSON is compared as what it holds.
fn unfolded(value: &Value) -> Value {
    match value.as_str().map(serde_json::from_str::<Value>) {
        Some(Ok(inner)) if inner.is_object() => inner,
        _ => value.clone(),
    }
}

/// Secrets that stand in a file in plain sight: the record goes to Kafka, where others can read it.
fn bare_secrets(system: &crate::config::LoadedSystem, kinds: &[Kind]) -> Vec<Fault> {
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

fn confirmed(changes: usize, directory: &Path) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{changes} systems of {} would change and nobody can be asked; --yes applies, --dry-run only shows",
            directory.display()
        )));
    }
    let ask = |error: std::io::Error| Failure::unavailable("asking on the terminal", error);
    print!("apply {changes} changes? [y/N] ");
    std::io::stdout().flush().map_err(ask)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(ask)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

async fn write(kafka: &KafkaConfig, table: &Table, topic: &str, steps: &BTreeMap<String, Step>, prune: bool) -> Result<(), Failure> {
    let topics = Topics::connect(kafka).map_err(|error| Failure::unavailable("connecting to Kafka", error))?;
    let spec = [Table::topic(topic, kafka.replication)];
    topics.ensure(&spec).await.map_err(|error| Failure::unavailable(format!("creating {topic}"), error))?;
    for (name, step) in steps.iter().filter(|(_, step)| step.is_change(prune)) {
        let written = match step {
            Step::Create(document) | Step::Change { new: document, .. } => table.put(name, document).await,
            Step::Keep | Step::Orphan(_) => table.delete(name).await,
        };
        written.map_err(|error| Failure::unavailable(format!("writing system {name} (earlier ones are written; apply again)"), error))?;
    }
    Ok(())
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
        Desired { spec, schemas: BTreeMap::new(), codes: BTreeMap::new(), directory: "/d".into(), paused: false }
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
        let parts = changed_parts(&steps["b"]);
        assert_eq!(parts.len(), 1);
        assert!(
            parts[0].1.contains(&Line::Old("    where: x".into())) && parts[0].1.contains(&Line::New("    where: y".into())),
            "{parts:?}"
        );
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
}
