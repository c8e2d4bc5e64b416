//! `hub rejects`: rows that mappings refused, with their reasons; `replay` is in a file of its own.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use hub_engine::spec::Naming;
use hub_kafka::ReadPlan;
use hub_transform::reject::{Reject, parse};
use serde_json::{Map, Value, json};

use super::{each_record, hub_file, replay};
use crate::Global;
use crate::failure::Failure;
use crate::table::{instant, print_json, print_line, table};

/// Options of `hub rejects`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Count them by stream, field and reason, with the latest of each.
    List {
        /// The system.
        system: String,
    },
    /// Show them with their raw rows. They hold personal data.
    Show(ShowOptions),
    /// Put them through today's mapping again, and publish those that pass, exactly once.
    Replay(replay::Options),
}

/// Options of `hub rejects show`.
#[derive(Args, Debug)]
struct ShowOptions {
    /// The system.
    system: String,
    /// Only this stream.
    #[arg(long)]
    stream: Option<String>,
    /// Only this canonical field.
    #[arg(long)]
    field: Option<String>,
    /// Only this reason code.
    #[arg(long)]
    reason: Option<String>,
    /// Only raw rows that contain this text.
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// At most so many, the latest; 0 for all.
    #[arg(short = 'n', long, default_value_t = 20)]
    count: usize,
}

/// Reads the rejects topic of a system.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    match options.what {
        What::List { system } => list(global, &read(global, &system)?),
        What::Show(options) => show(global, &options, read(global, &options.system)?),
        What::Replay(options) => replay::run(global, options).await?,
    }
    Ok(())
}

/// All rejects of a system, oldest first, with their offsets.
fn read(global: &Global, system: &str) -> Result<Vec<(i64, Reject)>, Failure> {
    let hub = hub_file(&global.config)?;
    let topic = Naming::new(hub.kafka.topic_prefix.clone()).rejects(system);
    let mut rejects = Vec::new();
    tokio::task::block_in_place(|| {
        each_record(&hub.kafka, ReadPlan::whole(topic), |record| {
            if let Some(value) = record.value() {
                let reject = parse(value).map_err(|error| Failure::unavailable("reading the rejects topic", error))?;
                rejects.push((record.offset(), reject));
            }
            Ok(())
        })
    })?;
    Ok(rejects)
}

fn list(global: &Global, rejects: &[(i64, Reject)]) {
    let groups = grouped(rejects);
    if global.json {
        for ((stream, field, reason), (count, latest)) in groups {
            print_json(&json!({
                "stream": stream, "field": field, "reason": reason, "count": count, "latest_us": latest.rejected_ts_us, "message": latest.message
            }));
        }
        return;
    }
    if groups.is_empty() {
        return print_line("no rejects: every row was taken");
    }
    let mut rows = table(&["stream", "field", "reason", "rows", "latest", "message of the latest"]);
    for ((stream, field, reason), (count, latest)) in groups {
        rows.add_row([stream, field, reason, &count.to_string(), &instant(latest.rejected_ts_us), &latest.message]);
    }
    print_line(&rows.to_string());
}

type Group<'a> = (&'a str, &'a str, &'a str);

/// Count and latest of each stream, field and reason.
fn grouped(rejects: &[(i64, Reject)]) -> BTreeMap<Group<'_>, (usize, &Reject)> {
    let mut groups: BTreeMap<Group<'_>, (usize, &Reject)> = BTreeMap::new();
    for (_, reject) in rejects {
        let field = reject.field.as_deref().unwrap_or("-");
        let group = groups.entry((&reject.stream, field, &reject.reason)).or_insert((0, reject));
        let latest = if reject.rejected_ts_us >= group.1.rejected_ts_us { reject } else { group.1 };
        *group = (group.0 + 1, latest);
    }
    groups
}

fn show(global: &Global, options: &ShowOptions, mut rejects: Vec<(i64, Reject)>) {
    rejects.retain(|(_, reject)| fits(options, reject));
    let most = if options.count == 0 { rejects.len() } else { options.count };
    let skipped = rejects.len().saturating_sub(most);
    for (offset, reject) in rejects.iter().skip(skipped) {
        if global.json {
            let mut line = serde_json::to_value(reject).unwrap_or_default();
            line["offset"] = (*offset).into();
            print_json(&line);
        } else {
            print_reject(*offset, reject);
        }
    }
    if skipped > 0 && !global.json {
        print_line(&format!("{skipped} older ones are not shown; -n 0 shows all"));
    }
}

fn fits(options: &ShowOptions, reject: &Reject) -> bool {
    let same = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    same(&options.stream, &reject.stream)
        && same(&options.reason, &reject.reason)
        && same(&options.field, reject.field.as_deref().unwrap_or_default())
        && options.contains.as_ref().is_none_or(|text| reject.raw.contains(text.as_str()))
}

fn print_reject(offset: i64, reject: &Reject) {
    let field = reject.field.as_deref().map(|field| format!("field {field}: ")).unwrap_or_default();
    print_line(&format!("{} {} of {}, offset {offset}", instant(reject.rejected_ts_us), word(&reject.op), reject.stream));
    print_line(&format!("  {field}{} ({})", reject.message, reject.reason));
    print_line(&format!("  place {}/{}, mapping {}", reject.commit_position, reject.position, reject.mapping_version));
    let raw: Map<String, Value> = serde_json::from_str(&reject.raw).unwrap_or_default();
    for (column, value) in raw.iter().filter(|(_, value)| !value.is_null()) {
        print_line(&format!("    {column}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
}

fn word(op: &str) -> &str {
    match op {
        "r" => "snapshot row",
        "c" => "insert",
        "u" => "update",
        "d" => "delete",
        "t" => "truncate",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(field: Option<&str>, reason: &str, at: i64) -> (i64, Reject) {
        let reject = Reject {
            system: "mot-cua".into(),
            stream: "public.ho_so".into(),
            entity: "public-admin.Dossier".into(),
            op: "c".into(),
            commit_position: 1,
            position: 1,
            ordinal: 0,
            transaction: 1,
            field: field.map(str::to_owned),
            reason: reason.into(),
            message: format!("at {at}"),
            raw: r#"{"a":"Nguyễn"}"#.into(),
            mapping_version: "v".into(),
            source_ts_us: 0,
            rejected_ts_us: at,
        };
        (at, reject)
    }

    #[test]
    fn rejects_are_counted_by_reason_with_the_latest_of_each() {
        let rejects = [reject(Some("born"), "bad-date", 5), reject(Some("born"), "bad-date", 9), reject(None, "too-large", 1)];
        let groups: Vec<_> =
            grouped(&rejects).into_iter().map(|(group, (count, latest))| (group.1, count, latest.rejected_ts_us)).collect();
        assert_eq!(groups, [("-", 1, 1), ("born", 2, 9)]);
    }

    #[test]
    fn filters_hold_together() {
        let options = ShowOptions {
            system: "mot-cua".into(),
            stream: None,
            field: Some("born".into()),
            reason: None,
            contains: Some("Nguyễn".into()),
            count: 0,
        };
        assert!(fits(&options, &reject(Some("born"), "x", 1).1));
        assert!(!fits(&options, &reject(None, "x", 1).1));
        assert!(!fits(&ShowOptions { contains: Some("Trần".into()), ..options }, &reject(Some("born"), "x", 1).1));
    }
}
