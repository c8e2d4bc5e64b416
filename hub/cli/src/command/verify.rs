//! `hub verify`: a system's source against its topics: missing, extra, different, published twice, out of order.
//!
//! The source is read in one consistent view, through today's mapping, and encoded as it would be published; the topic is
//! folded to the latest state of each key as of that view. Only hashes are kept. Every row of the source is then published,
//! refused with a record in the rejects topic, left out by the filter, or it is missing.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use apache_avro::Schema;
use clap::Args;
use hub_engine::spec::Naming;
use hub_kafka::ReadPlan;
use hub_model::StreamName;
use hub_sdk::{DynConnector, StreamShape};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use super::check::open;
use super::fold::{Fold, Latest, hash_raw};
use super::present::{self, Present};
use super::workshop::Workshop;
use super::{each_record, schemas, stream_of, system_of};
use crate::Global;
use crate::avro::Decoder;
use crate::config::{HubFile, LoadedSystem};
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};
use hub_transform::envelope::Layout;

/// A topic that has had nothing new for so long is taken to be all there is.
const QUIET: Duration = Duration::from_secs(5);
/// How often the topic is looked at while it catches up.
const LOOK: Duration = Duration::from_millis(500);

/// Options of `hub verify`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The system, or `system/stream`.
    what: String,
    /// Seconds to wait for a running hub to publish what the source has and the topic lacks.
    #[arg(long, default_value_t = 60)]
    wait: u64,
    /// Name so many keys of each kind of difference. Keys may be personal data.
    #[arg(long, default_value_t = 0, value_name = "KEYS")]
    show: usize,
}

/// What was found of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Verdict {
    stream: String,
    topic: String,
    /// Rows of the source.
    rows: u64,
    /// Rows that the filter leaves out.
    filtered: u64,
    /// Rows that today's mapping refuses.
    refused: u64,
    /// Refused rows by `field: reason`.
    reasons: serde_json::Map<String, Value>,
    /// Source rows whose canonical key another row has too.
    shared_keys: u64,
    /// Records of the topic.
    events: u64,
    /// Keys with a state in the topic.
    keys: u64,
    /// Keys of the source without a state in the topic.
    missing: u64,
    /// Keys of the topic without a row in the source.
    extra: u64,
    /// Keys with another state than the source's row.
    different: u64,
    /// Records that are there twice.
    duplicates: u64,
    /// Records older than the one before them with the same key.
    disordered: u64,
    /// Refused rows that are neither in the rejects topic nor under their key in the data topic.
    unlisted: u64,
    /// Keys that keep an older state, because the mapping refuses the row as it is now.
    outdated: u64,
    /// Keys that changed after the source was read, and were not judged.
    moved: u64,
    /// Keys to show, by kind of difference.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    examples: serde_json::Map<String, Value>,
}

impl Verdict {
    fn agrees(&self) -> bool {
        self.missing + self.extra + self.different + self.duplicates + self.disordered + self.unlisted == 0
    }

    /// Only time can mend these.
    fn lacks(&self) -> bool {
        self.missing + self.extra + self.different + self.unlisted > 0
    }
}

/// Compares every stream of a system, or one.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let (name, only) = options.what.split_once('/').map_or((options.what.as_str(), None), |(name, stream)| (name, Some(stream)));
    let (hub, system) = system_of(&global.config, name)?;
    let chosen = match only {
        Some(stream) => vec![stream_of(&system, stream)?],
        None => (0..system.desired.spec.streams.len()).collect(),
    };
    let connector = open(&system, &hub_connectors::kinds()).await.map_err(Failure::Unavailable)?;
    let shapes = connector.discover().await.map_err(|error| Failure::Unavailable(error.report()))?;
    let mut decoder = Decoder::new(schemas(&hub, &global.config).await?);
    let mut verdicts = Vec::new();
    for at in chosen {
        let comparison = Comparison { hub: &hub, system: &system, at, connector: connector.as_ref(), shapes: &shapes, options: &options };
        verdicts.push(comparison.verdict(&mut decoder).await?);
    }
    show(global, &verdicts);
    let broken = verdicts.iter().filter(|verdict| !verdict.agrees()).count();
    match broken {
        0 => Ok(()),
        _ => Err(Failure::Differs(format!(
            "{broken} of {} streams of {name} differ from their source; --show 10 names keys. `hub rejects replay {name}` publishes rows that a \
             mended mapping takes now, `hub run --resnapshot {name}` the whole source anew",
            verdicts.len()
        ))),
    }
}

/// One stream to compare.
struct Comparison<'a> {
    hub: &'a HubFile,
    system: &'a LoadedSystem,
    at: usize,
    connector: &'a dyn DynConnector,
    shapes: &'a [StreamShape],
    options: &'a Options,
}

impl Comparison<'_> {
    async fn verdict(&self, decoder: &mut Decoder) -> Result<Verdict, Failure> {
        let spec = &self.system.desired.spec.streams[self.at];
        let stream = StreamName::new(&spec.source).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut workshop = Workshop::open(self.hub, self.system, self.at, self.shapes, decoder).await?;
        let topic = workshop.topic.clone();
        let (local, layout) = workshop.envelope()?;
        let expected = self.shapes.iter().find(|shape| shape.stream == stream).and_then(|shape| shape.rows);
        let bar = bar(expected, &format!("{stream}: source"));
        let source = present::read(self.connector, &stream, &mut workshop, &layout, &HashSet::new(), &bar).await?;
        bar.finish_and_clear();
        let bar = self::bar(None, &format!("{stream}: topic"));
        let mut fold = Fold::new(&self.hub.kafka, &topic, decoder, &local, &layout, source.bound);
        let mut verdict = self.settle(&source, &mut fold, &bar).await?;
        bar.finish_and_clear();
        (verdict.stream, verdict.topic) = (stream.to_string(), topic.clone());
        if self.options.show > 0 && verdict.lacks() {
            let named = differing(&source, &fold.keys, self.options.show);
            verdict.examples = self.examples(&named, &stream, &mut workshop, decoder, &local, &layout).await?;
        }
        Ok(verdict)
    }

    /// Reads the topic until it agrees with the source, or nothing more comes.
    async fn settle(&self, source: &Present, fold: &mut Fold<'_>, bar: &ProgressBar) -> Result<Verdict, Failure> {
        let (started, mut moved) = (Instant::now(), Instant::now());
        loop {
            if tokio::task::block_in_place(|| fold.catch_up(bar))? > 0 {
                moved = Instant::now();
            }
            let listed = if source.refused.is_empty() { HashSet::new() } else { tokio::task::block_in_place(|| self.listed())? };
            let verdict = judge(source, fold, &listed);
            let patient = started.elapsed() < Duration::from_secs(self.options.wait) && moved.elapsed() < QUIET;
            if !verdict.lacks() || !patient {
                return Ok(verdict);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Hashes of the raw rows of this stream that the rejects topic holds.
    fn listed(&self) -> Result<HashSet<u128>, Failure> {
        let spec = &self.system.desired.spec;
        let stream = &spec.streams[self.at].source;
        let topic = Naming::new(self.hub.kafka.topic_prefix.clone()).rejects(&spec.system);
        let mut listed = HashSet::new();
        each_record(&self.hub.kafka, ReadPlan::whole(topic), |record| {
            let Some(value) = record.value() else { return Ok(()) };
            let reject = hub_transform::reject::parse(value).map_err(|error| Failure::unavailable("reading the rejects topic", error))?;
            if reject.stream == *stream {
                listed.insert(hash_raw(&reject.raw));
            }
            Ok(())
        })?;
        Ok(listed)
    }

    /// Reads both sides again for the keys that differ: only hashes were kept.
    async fn examples(
        &self,
        named: &Differing,
        stream: &StreamName,
        workshop: &mut Workshop,
        decoder: &mut Decoder,
        local: &Schema,
        layout: &Layout,
    ) -> Result<serde_json::Map<String, Value>, Failure> {
        let hidden = ProgressBar::hidden();
        let wanted: HashSet<u128> = named.missing.iter().copied().collect();
        let mut shown = present::read(self.connector, stream, workshop, layout, &wanted, &hidden).await?.shown;
        let topic = workshop.topic.clone();
        let wanted = named.extra.iter().chain(&named.different).copied().collect();
        let mut fold = Fold::new(&self.hub.kafka, &topic, &mut *decoder, local, layout, 0).showing(wanted);
        tokio::task::block_in_place(|| fold.catch_up(&hidden))?;
        shown.append(&mut fold.shown);
        let mut examples = serde_json::Map::new();
        for (kind, hashes) in [("missing", &named.missing), ("extra", &named.extra), ("different", &named.different)] {
            let mut keys = Vec::new();
            for (_, bytes) in shown.iter().filter(|(hash, _)| hashes.contains(hash)) {
                keys.push(decoder.decode(bytes).await?);
            }
            if !keys.is_empty() {
                examples.insert(kind.to_owned(), Value::Array(keys));
            }
        }
        Ok(examples)
    }
}

/// What became of a key on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    None,
    Missing,
    Extra,
    Different,
    /// Changed after the source was read.
    Moved,
    /// The mapping refuses its row now; the topic keeps what was published before.
    Outdated,
}

/// Judges a key by its state in the source, in the topic, and whether its row is refused.
fn difference(wanted: Option<u128>, found: Option<&Latest>, refused: bool) -> Difference {
    let state = found.and_then(|latest| latest.state);
    if found.is_some_and(|latest| latest.moved) && wanted != state {
        return Difference::Moved;
    }
    match (wanted, state) {
        (None, None) => Difference::None,
        (None, Some(_)) if refused => Difference::Outdated,
        (None, Some(_)) => Difference::Extra,
        (Some(_), None) => Difference::Missing,
        (Some(wanted), Some(state)) if wanted == state => Difference::None,
        (Some(_), Some(_)) => Difference::Different,
    }
}

fn judge(source: &Present, fold: &Fold<'_>, listed: &HashSet<u128>) -> Verdict {
    let refused: HashSet<u128> = source.refused.values().filter_map(|key| *key).collect();
    let mut verdict = Verdict {
        rows: source.rows,
        filtered: source.filtered,
        refused: source.reasons.values().sum(),
        shared_keys: source.shared_keys,
        events: fold.events,
        keys: fold.keys.values().filter(|latest| latest.state.is_some()).count() as u64,
        duplicates: fold.duplicates,
        disordered: fold.disordered,
        ..Verdict::default()
    };
    for ((field, reason), rows) in &source.reasons {
        verdict.reasons.insert(format!("{field}: {reason}"), (*rows).into());
    }
    let mut count = |difference| match difference {
        Difference::None => {}
        Difference::Missing => verdict.missing += 1,
        Difference::Extra => verdict.extra += 1,
        Difference::Different => verdict.different += 1,
        Difference::Moved => verdict.moved += 1,
        Difference::Outdated => verdict.outdated += 1,
    };
    for (key, state) in &source.states {
        count(difference(Some(*state), fold.keys.get(key), false));
    }
    for (key, latest) in fold.keys.iter().filter(|(key, _)| !source.states.contains_key(*key)) {
        count(difference(None, Some(latest), refused.contains(key)));
    }
    verdict.unlisted = unlisted(source, &fold.keys, listed);
    verdict
}

/// Refused rows of which nothing is to be found anywhere.
fn unlisted(source: &Present, keys: &HashMap<u128, Latest>, listed: &HashSet<u128>) -> u64 {
    let nowhere = |(raw, key): &(&u128, &Option<u128>)| {
        !listed.contains(*raw) && key.is_none_or(|key| keys.get(&key).is_none_or(|latest| latest.state.is_none() && !latest.moved))
    };
    source.refused.iter().filter(nowhere).count() as u64
}

/// Keys that differ, so many of each kind at most.
#[derive(Debug, Default)]
struct Differing {
    missing: Vec<u128>,
    extra: Vec<u128>,
    different: Vec<u128>,
}

fn differing(source: &Present, keys: &HashMap<u128, Latest>, most: usize) -> Differing {
    let refused: HashSet<u128> = source.refused.values().filter_map(|key| *key).collect();
    let mut named = Differing::default();
    let wanted = source.states.iter().map(|(key, state)| (key, Some(*state)));
    let others = keys.keys().filter(|key| !source.states.contains_key(*key)).map(|key| (key, None));
    for (key, state) in wanted.chain(others) {
        let list = match difference(state, keys.get(key), refused.contains(key)) {
            Difference::Missing => &mut named.missing,
            Difference::Extra => &mut named.extra,
            Difference::Different => &mut named.different,
            Difference::None | Difference::Moved | Difference::Outdated => continue,
        };
        if list.len() < most {
            list.push(*key);
        }
    }
    named
}

fn bar(expected: Option<u64>, what: &str) -> ProgressBar {
    let bar = expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let form =
        if expected.is_some() { "{msg} [{bar:30}] {human_pos} of about {human_len} rows" } else { "{spinner} {msg} {human_pos} records" };
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

fn show(global: &Global, verdicts: &[Verdict]) {
    if global.json {
        return verdicts.iter().for_each(print_json);
    }
    let headings =
        ["stream", "rows", "filtered", "refused", "keys", "missing", "extra", "different", "twice", "disordered", "lost rejects"];
    let mut rows = table(&headings);
    for verdict in verdicts {
        let numbers = [
            verdict.rows,
            verdict.filtered,
            verdict.refused,
            verdict.keys,
            verdict.missing,
            verdict.extra,
            verdict.different,
            verdict.duplicates,
            verdict.disordered,
            verdict.unlisted,
        ];
        rows.add_row(std::iter::once(verdict.stream.clone()).chain(numbers.iter().map(u64::to_string)));
    }
    print_line(&rows.to_string());
    verdicts.iter().for_each(explain);
}

/// What a table of numbers does not tell.
fn explain(verdict: &Verdict) {
    let stream = &verdict.stream;
    for (reason, rows) in &verdict.reasons {
        print_line(&format!("{stream}: {rows} rows are refused, {reason}"));
    }
    let notes = [
        (verdict.shared_keys, "rows have a canonical key that another row has too: the later one wins; add a field to `key`"),
        (verdict.outdated, "keys keep an older state in the topic, because their row is refused as it is now"),
        (verdict.moved, "keys changed while the comparison ran; they were not judged"),
        (verdict.unlisted, "refused rows are neither in the rejects topic nor published: lost, or older than the topic's retention"),
    ];
    for (count, note) in notes.into_iter().filter(|(count, _)| *count > 0) {
        print_line(&format!("{stream}: {count} {note}"));
    }
    for (kind, keys) in &verdict.examples {
        print_line(&format!("{stream}: {kind}: {keys}"));
    }
    if verdict.agrees() {
        print_line(&format!("{stream}: every row is accounted for in {}", verdict.topic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latest(state: Option<u128>, moved: bool) -> Latest {
        Latest { state, moved, ..Latest::default() }
    }

    #[test]
    fn a_key_is_missing_extra_or_different_only_as_of_the_view_of_the_source() {
        assert_eq!(difference(Some(1), Some(&latest(Some(1), false)), false), Difference::None);
        assert_eq!(difference(Some(1), Some(&latest(Some(2), false)), false), Difference::Different);
        assert_eq!(difference(Some(1), Some(&latest(None, false)), false), Difference::Missing);
        assert_eq!(difference(Some(1), None, false), Difference::Missing);
        assert_eq!(difference(None, Some(&latest(Some(2), false)), false), Difference::Extra);
        assert_eq!(difference(None, Some(&latest(None, false)), false), Difference::None);
        assert_eq!(difference(Some(1), Some(&latest(Some(2), true)), false), Difference::Moved);
        assert_eq!(difference(None, Some(&latest(Some(2), true)), false), Difference::Moved);
        assert_eq!(difference(Some(1), Some(&latest(Some(1), true)), false), Difference::None);
    }

    #[test]
    fn a_refused_row_explains_an_older_state_and_must_be_found_somewhere() {
        assert_eq!(difference(None, Some(&latest(Some(2), false)), true), Difference::Outdated);
        let source = Present { refused: [(10, Some(1)), (11, Some(2)), (12, None), (13, None)].into(), ..Present::default() };
        let keys = HashMap::from([(1, latest(Some(5), false)), (2, latest(None, false))]);
        assert_eq!(unlisted(&source, &keys, &HashSet::from([12])), 2, "10 has a record, 12 is listed");
    }

    #[test]
    fn keys_that_differ_are_named_up_to_a_limit() {
        let source = Present { states: [(1, 1), (2, 2), (3, 3), (4, 4)].into(), ..Present::default() };
        let keys = HashMap::from([(1, latest(Some(1), false)), (4, latest(Some(9), false)), (5, latest(Some(5), false))]);
        let named = differing(&source, &keys, 1);
        assert_eq!((named.missing.len(), named.extra, named.different), (1, vec![5], vec![4]));
    }
}
