//! `hub tail`: decoded records of a topic.

use std::time::Duration;

use clap::Args;
use hub_kafka::{Next, ReadPlan, Reader, Record, Start, Until};
use serde_json::{Value, json};

use super::hub_file;
use crate::Global;
use crate::avro::Decoder;
use crate::failure::Failure;
use crate::setup::registry_client;
use crate::table::{print_json, print_line};

/// Options of `hub tail`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The topic.
    topic: String,
    /// Go on for ever.
    #[arg(short, long)]
    follow: bool,
    /// Where to begin: `beginning`, `end`, or an offset. Without --follow it is the beginning, with it the end.
    #[arg(long)]
    from: Option<String>,
    /// Only records whose decoded key contains this text.
    #[arg(long)]
    key: Option<String>,
    /// End after so many records.
    #[arg(short = 'n', long)]
    count: Option<u64>,
}

/// Reads committed records and prints one line each.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let hub = hub_file(&global.config)?;
    let mut decoder = Decoder::new(registry_client(&hub, &global.config)?);
    let start = match options.from.as_deref() {
        None if options.follow => Start::End,
        None | Some("beginning") => Start::Beginning,
        Some("end") => Start::End,
        Some(offset) => Start::Offset(offset.parse().map_err(|_| {
            Failure::Usage(format!("--from takes beginning, end or an offset, not {offset}"))
        })?),
    };
    let plan = ReadPlan {
        start,
        until: if options.follow { Until::Forever } else { Until::Committed },
        ..ReadPlan::whole(&options.topic)
    };
    let mut reader = Reader::open(&hub.kafka, plan).map_err(|error| Failure::unavailable("opening the topic", error))?;
    let mut shown = 0;
    loop {
        let record = match tokio::task::block_in_place(|| owned(&mut reader))? {
            Some(Some(record)) => record,
            Some(None) => continue,
            None => return Ok(()),
        };
        let key = match &record.key {
            Some(bytes) => decoder.decode(bytes).await?,
            None => Value::Null,
        };
        if options.key.as_ref().is_some_and(|wanted| !key.to_string().contains(wanted)) {
            continue;
        }
        let value = match &record.value {
            Some(bytes) => decoder.decode(bytes).await?,
            None => Value::Null,
        };
        print(global, &record, &key, &value);
        shown += 1;
        if options.count.is_some_and(|count| shown >= count) {
            return Ok(());
        }
    }
}

/// The next record; `Some(None)` where there is none yet.
fn owned(reader: &mut Reader) -> Result<Option<Option<Record>>, Failure> {
    match reader.next(Duration::from_millis(200)) {
        Ok(Next::Record(record)) => Ok(Some(Some(record.to_owned()))),
        Ok(Next::Quiet) => Ok(Some(None)),
        Ok(Next::End) => Ok(None),
        Err(error) => Err(Failure::unavailable("reading the topic", error)),
    }
}

fn print(global: &Global, record: &Record, key: &Value, value: &Value) {
    if global.json {
        return print_json(&json!({
            "partition": record.partition, "offset": record.offset, "timestamp": record.timestamp, "key": key, "value": value
        }));
    }
    let op = value.get("op").and_then(Value::as_str).unwrap_or(if value.is_null() { "tombstone" } else { "" });
    let state = ["after", "before"].into_iter().find_map(|name| value.get(name).filter(|state| !state.is_null()));
    print_line(&format!("{}/{} {op:<2} {key} {}", record.partition, record.offset, state.unwrap_or(value)));
}
