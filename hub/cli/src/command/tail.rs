//! `hub tail`: decoded records of a topic.

use std::time::{Duration, Instant};

use clap::Args;
use hub_kafka::{Next, ReadPlan, Reader, Record, Start, Until};
use serde_json::{Value, json};

use super::{hub_file, schemas};
use crate::Global;
use crate::avro::Decoder;
use crate::failure::Failure;
use crate::table::{Tone, instant, print_json, print_line, toned};

/// How often an idle topic is asked whether Kafka is still there.
const LOOK: Duration = Duration::from_secs(2);

/// Options of `hub tail`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The topic: data, rejects, or one of the hub's own.
    topic: String,
    /// Go on for ever.
    #[arg(short, long)]
    follow: bool,
    /// Where to begin: `beginning`, `end`, an offset, or `-20` for the last 20 offsets of each partition. Without --follow it is
    /// the beginning, with it the end.
    #[arg(long, allow_hyphen_values = true)]
    from: Option<String>,
    /// Only records whose decoded key contains this text.
    #[arg(long)]
    key: Option<String>,
    /// Only records of this partition.
    #[arg(long)]
    partition: Option<i32>,
    /// End after so many records.
    #[arg(short = 'n', long, value_name = "RECORDS")]
    count: Option<u64>,
    /// The whole record over several lines instead of its state in one.
    #[arg(short, long)]
    pretty: bool,
}

/// Reads committed records and prints one line each.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let hub = hub_file(&global.config)?;
    let mut decoder = Decoder::new(schemas(&hub, &global.config).await?);
    let plan = ReadPlan {
        partition: options.partition,
        start: start(options.from.as_deref(), options.follow)?,
        until: if options.follow { Until::Forever } else { Until::Committed },
        ..ReadPlan::whole(&options.topic)
    };
    let topics = || format!("opening {}", options.topic);
    let mut reader = Reader::open(&hub.kafka, plan).map_err(|error| Failure::unavailable(topics(), error))?;
    let (mut shown, mut silence) = (0, Silence::default());
    while options.count.is_none_or(|count| shown < count) {
        let record = match tokio::task::block_in_place(|| owned(&mut reader))? {
            Some(Some(record)) => record,
            Some(None) => {
                silence.tell(&reader);
                continue;
            }
            None => return Ok(()),
        };
        let key = match &record.key {
            Some(bytes) => decoder.decode(bytes).await?,
            None => Value::Null,
        };
        if options.key.as_ref().is_some_and(|wanted| !key.to_string().contains(wanted.as_str())) {
            continue;
        }
        let value = match &record.value {
            Some(bytes) => decoder.decode(bytes).await?,
            None => Value::Null,
        };
        print(global, &options, &record, &key, &value);
        shown += 1;
    }
    Ok(())
}

/// Tells an idle topic from a Kafka that is away.
#[derive(Default)]
struct Silence {
    looked: Option<Instant>,
    is_told: bool,
}

impl Silence {
    /// Looks now and then, and says on stderr when Kafka goes and when it is back.
    fn tell(&mut self, reader: &Reader) {
        if self.looked.get_or_insert_with(Instant::now).elapsed() < LOOK {
            return;
        }
        let answer = tokio::task::block_in_place(|| reader.look());
        self.looked = Some(Instant::now());
        match answer {
            Err(ref error) if !self.is_told => eprintln!("kafka does not answer: {error}; waiting until it does"),
            Ok(()) if self.is_told => eprintln!("kafka answers again"),
            _ => {}
        }
        self.is_told = answer.is_err();
    }
}

fn start(from: Option<&str>, follow: bool) -> Result<Start, Failure> {
    let refuse = |given: &str| Failure::Usage(format!("--from takes beginning, end, an offset or -N, not {given}"));
    match from {
        None if follow => Ok(Start::End),
        None | Some("beginning") => Ok(Start::Beginning),
        Some("end") => Ok(Start::End),
        Some(text) => match text.strip_prefix('-') {
            Some(last) => Ok(Start::Last(last.parse().map_err(|_| refuse(text))?)),
            None => Ok(Start::Offset(text.parse().map_err(|_| refuse(text))?)),
        },
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

fn print(global: &Global, options: &Options, record: &Record, key: &Value, value: &Value) {
    if global.json {
        let headers: serde_json::Map<String, Value> = record
            .headers
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()))
            .collect();
        return print_json(&json!({
            "topic": record.topic, "partition": record.partition, "offset": record.offset, "timestamp": record.timestamp,
            "op": op(value), "key": key, "value": value, "headers": headers
        }));
    }
    let place = format!("{}/{}", record.partition, record.offset);
    let at = record.timestamp.map(|millis| instant(millis.saturating_mul(1_000))).unwrap_or_default();
    let head = toned(&format!("{place} {at}"), Tone::Quiet);
    let tone = if matches!(op(value), "d" | "t" | "tombstone") { Tone::Bad } else { Tone::Good };
    let what = toned(op(value), tone);
    if options.pretty {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        return print_line(&format!("{head} {what} {}\n{text}", plain(key)));
    }
    print_line(&format!("{head} {what} {} {}", plain(key), state(value)));
}

/// The letter of what happened; nothing for records that are no envelopes.
fn op(value: &Value) -> &str {
    if value.is_null() { "tombstone" } else { value.get("op").and_then(Value::as_str).unwrap_or_default() }
}

/// The state that a record tells: after, for a delete before; the whole of what is no envelope.
fn state(value: &Value) -> &Value {
    if value.get("source").is_none() {
        return value;
    }
    ["after", "before"].into_iter().find_map(|name| value.get(name).filter(|state| !state.is_null())).unwrap_or(&Value::Null)
}

/// A key of one field is shown as its value.
fn plain(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        Value::Object(fields) if fields.len() == 1 => fields.values().next().map(plain).unwrap_or_default(),
        Value::Object(fields) => fields.values().map(plain).collect::<Vec<_>>().join("/"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_tail_begins_where_it_is_told() {
        assert_eq!(start(None, false).unwrap(), Start::Beginning);
        assert_eq!(start(None, true).unwrap(), Start::End);
        assert_eq!(start(Some("-20"), false).unwrap(), Start::Last(20));
        assert_eq!(start(Some("7"), true).unwrap(), Start::Offset(7));
        assert!(start(Some("yesterday"), true).is_err());
    }

    #[test]
    fn the_state_of_an_envelope_is_what_it_tells() {
        let update = json!({"before": {"a": 1}, "after": {"a": 2}, "source": {}, "op": "u"});
        assert_eq!((op(&update), state(&update)), ("u", &json!({"a": 2})));
        let delete = json!({"before": {"a": 1}, "after": null, "source": {}, "op": "d"});
        assert_eq!(state(&delete), &json!({"a": 1}));
        assert_eq!(op(&Value::Null), "tombstone");
        let reject = json!({"op": "c", "reason": "bad-date"});
        assert_eq!(state(&reject), &reject);
        assert_eq!(plain(&json!({"code": "A", "number": 2})), "A/2");
    }
}
