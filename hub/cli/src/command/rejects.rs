//! `hub rejects`: rows that mappings refused, with their reasons.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use hub_engine::spec::Naming;
use hub_kafka::{ReadPlan, Reader};
use hub_transform::reject::{Reject, parse};

use super::hub_file;
use crate::Global;
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub rejects`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Count them by stream, field and reason.
    List {
        /// The system.
        system: String,
    },
    /// Show them with their raw rows. They hold personal data.
    Show {
        /// The system.
        system: String,
        /// Only this reason code.
        #[arg(long)]
        reason: Option<String>,
        /// Only this stream.
        #[arg(long)]
        stream: Option<String>,
        /// At most so many, the latest.
        #[arg(short = 'n', long)]
        count: Option<usize>,
    },
}

/// Reads the rejects topic of a system.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    match options.what {
        What::List { system } => list(global, &read(global, &system)?),
        What::Show { system, reason, stream, count } => {
            let mut rejects = read(global, &system)?;
            rejects.retain(|reject| {
                reason.as_ref().is_none_or(|wanted| *wanted == reject.reason)
                    && stream.as_ref().is_none_or(|wanted| *wanted == reject.stream)
            });
            let skipped = count.map_or(0, |count| rejects.len().saturating_sub(count));
            show(global, &rejects[skipped..]);
        }
    }
    Ok(())
}

/// All rejects of a system, oldest first.
pub(crate) fn read(global: &Global, system: &str) -> Result<Vec<Reject>, Failure> {
    let hub = hub_file(&global.config)?;
    let topic = Naming::new(hub.kafka.topic_prefix.clone()).rejects(system);
    let mut rejects = Vec::new();
    let result = tokio::task::block_in_place(|| {
        Reader::open(&hub.kafka, ReadPlan::whole(topic)).and_then(|mut reader| {
            reader.each(|record| -> Result<(), hub_kafka::Error> {
                rejects.push(record.value().map(parse));
                Ok(())
            })
        })
    });
    result.map_err(|error| Failure::unavailable("reading the rejects topic", error))?;
    let parsed: Result<Vec<Reject>, _> = rejects.into_iter().flatten().collect();
    parsed.map_err(|error| Failure::unavailable("reading the rejects topic", error))
}

fn list(global: &Global, rejects: &[Reject]) {
    let mut groups: BTreeMap<(&str, &str, &str), (usize, &Reject)> = BTreeMap::new();
    for reject in rejects {
        let field = reject.field.as_deref().unwrap_or("-");
        let group = groups.entry((&reject.stream, field, &reject.reason)).or_insert((0, reject));
        *group = (group.0 + 1, reject);
    }
    if global.json {
        for ((stream, field, reason), (count, latest)) in groups {
            print_json(&serde_json::json!({
                "stream": stream, "field": field, "reason": reason, "count": count, "latest_us": latest.rejected_ts_us
            }));
        }
        return;
    }
    let mut rows = table(&["stream", "field", "reason", "rows", "message of the latest"]);
    for ((stream, field, reason), (count, latest)) in groups {
        rows.add_row([stream, field, reason, &count.to_string(), &latest.message]);
    }
    print_line(&rows.to_string());
}

fn show(global: &Global, rejects: &[Reject]) {
    for reject in rejects {
        if global.json {
            print_json(reject);
            continue;
        }
        let field = reject.field.as_deref().unwrap_or("-");
        print_line(&format!("{} {} {field}: {} ({})\n    {}", reject.stream, reject.op, reject.message, reject.reason, reject.raw));
    }
}
