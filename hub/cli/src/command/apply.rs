//! `hub apply`: shows how the folder differs from what is desired in Kafka, then makes it so.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::diff::{Line, difference, lines};
use crate::Global;
use crate::config::Folder;
use crate::desired::{DesiredState, Step};
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

/// Shows, asks and writes.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let directory = options.folder.as_deref().unwrap_or(&global.config);
    let kinds = hub_connectors::kinds();
    let folder = Folder::read_any(directory, &kinds);
    let (Some(hub), true) = (folder.hub, folder.faults.is_empty()) else {
        return Err(Failure::Config(folder.faults));
    };
    if !options.prune && folder.systems.is_empty() {
        return Err(Failure::Usage(format!("{} has no systems; --prune removes those that are applied", directory.display())));
    }
    let state = DesiredState::read(&hub).await?;
    let steps = state.steps(folder.systems.into_iter().map(|system| system.desired))?;
    show(global, &steps, options.prune);
    let changes = steps.values().filter(|step| step.is_change(options.prune)).count();
    if changes == 0 {
        // Nothing that anyone would be asked about: where the lines of a file stand now.
        return if options.dry_run { Ok(()) } else { state.write(&steps, false).await };
    }
    if options.dry_run {
        return Err(Failure::Differs(format!("{changes} systems differ from {}; `hub apply` makes them so", directory.display())));
    }
    if !options.yes && !confirmed(changes, directory)? {
        return Err(Failure::Differs("nothing was changed".to_owned()));
    }
    state.write(&steps, options.prune).await?;
    if !global.json {
        print_line(&format!("{changes} systems written to {}; running hubs follow", state.topic));
    }
    Ok(())
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
            Step::Keep | Step::Moved(_) | Step::Leaving | Step::Orphan(_) => Tone::Quiet,
        };
        let hint = match step {
            Step::Orphan(_) if prune => "; a running hub drops its slot and publication",
            Step::Orphan(_) => "; it is kept, --prune removes it",
            _ => "",
        };
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
        Step::Keep | Step::Moved(_) | Step::Leaving | Step::Orphan(_) => return Vec::new(),
    };
    let mut parts = Vec::new();
    let mut compare = |name: String, old: Option<&Value>, new: Option<&Value>| {
        let text = |value: Option<&Value>| value.map(|value| lines(&unfolded(value))).unwrap_or_default();
        let shown = difference(&text(old), &text(new));
        if !shown.is_empty() {
            parts.push((name, shown));
        }
    };
    for part in ["spec", "directory", "paused", "removed"] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_system_shows_the_lines_that_differ() {
        let record = |filter: &str| json!({"spec": {"system": "b", "streams": [{"where": filter}]}, "directory": "/d"});
        let parts = changed_parts(&Step::Change { old: record("x"), new: record("y") });
        assert_eq!(parts.len(), 1);
        let shown = format!("{parts:?}");
        assert!(shown.contains("Old") && shown.contains("where: x") && shown.contains("New") && shown.contains("where: y"), "{shown}");
    }
}
