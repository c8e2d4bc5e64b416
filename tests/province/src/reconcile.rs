//! Holds the source against the topics, key by key: what is lost, doubled, out of order or rejected for another reason than foreseen.

use std::collections::{BTreeMap, HashMap, HashSet};

use apache_avro::types::Value;
use indicatif::ProgressBar;
use tokio_postgres::{Client, Config};

use crate::create::connect;
use crate::error::{Doing as _, ProvinceError};
use crate::expect::{Expectation, expect};
use crate::topics::{Keys, Record, TopicAccess, field, key_text, read, text};

/// A table, its topic, and the source's text of the canonical key.
const STREAMS: [(&str, &str, &str); 4] = [
    ("public.co_quan", "agency", "SELECT ma_co_quan, ma_co_quan FROM public.co_quan"),
    ("public.cong_dan", "citizen", "SELECT id::text, so_cccd FROM public.cong_dan"),
    ("public.ho_so", "dossier", "SELECT ma_ho_so, ma_ho_so FROM public.ho_so WHERE NOT da_xoa"),
    ("public.buoc_xu_ly", "dossier-step", "SELECT id::text, id::text FROM public.buoc_xu_ly"),
];

/// The result for one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamBalance {
    /// Rows in the source that the mapping wants.
    pub source_rows: u64,
    /// Of these, rows that must be rejected.
    pub rejected: u64,
    /// Events in the topic, tombstones not counted.
    pub events: u64,
    /// Keys that have a record now.
    pub records: u64,
    /// Sound rows without a record.
    pub lost: u64,
    /// Records without a sound row.
    pub extra: u64,
    /// Events that are there twice.
    pub duplicates: u64,
    /// Events older than one before them with the same key.
    pub disordered: u64,
    /// Some of the keys that are lost or extra. All persons here are invented.
    pub examples: Vec<String>,
}

/// How many examples are kept.
const EXAMPLES: usize = 6;

/// The whole balance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// By source table.
    pub streams: BTreeMap<String, StreamBalance>,
    /// By reason code: rejects foreseen, found, and found with exactly the foreseen row.
    pub rejects: BTreeMap<String, RejectBalance>,
}

/// Rejects of one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RejectBalance {
    /// Known in advance.
    pub foreseen: u64,
    /// In the rejects topic.
    pub found: u64,
    /// In the rejects topic and foreseen, row by row.
    pub matched: u64,
}

impl Balance {
    /// Whether nothing is lost, extra, doubled or out of order, and the rejects are exactly those foreseen.
    #[must_use]
    pub fn is_even(&self) -> bool {
        let rejects = self.rejects.values().all(|one| one.foreseen == one.found && one.found == one.matched);
        rejects && self.streams.values().all(|one| one.lost + one.extra + one.duplicates + one.disordered == 0)
    }
}

/// Reads everything back and balances it. The system must be at rest: run [`crate::settle`] first.
///
/// # Errors
/// When the source, Kafka or the registry cannot be read.
pub async fn reconcile(config: &Config, access: &TopicAccess, bar: &ProgressBar) -> Result<Balance, ProvinceError> {
    let expected = expect(config).await?;
    let client = connect(config).await?;
    let mut balance = Balance::default();
    bar.set_length(expected.streams.values().map(|stream| stream.captured).sum());
    for (table, entity, query) in STREAMS {
        bar.set_message(entity);
        let topic = format!("{}.{entity}", access.prefix);
        let sound = sound_keys(&client, &expected, table, query).await?;
        balance.streams.insert(table.to_owned(), stream(access, &topic, &sound, &expected, table, bar).await?);
    }
    bar.set_message("rejects");
    balance.rejects = rejects(&client, access).await?;
    Ok(balance)
}

/// Canonical keys of the rows that must be published.
async fn sound_keys(client: &Client, expected: &Expectation, table: &str, query: &str) -> Result<HashSet<String>, ProvinceError> {
    let stream = expected.streams.get(table);
    let refused: HashSet<&str> = stream.iter().flat_map(|stream| stream.rejected.values().flatten()).map(String::as_str).collect();
    let rows = client.query(query, &[]).await.doing(format!("reading the keys of {table}"))?;
    let sound = rows.iter().filter(|row| !refused.contains(row.get::<_, &str>(0)));
    Ok(sound.map(|row| canonical(table, row.get::<_, Option<&str>>(1).unwrap_or_default())).collect())
}

/// A key as the canonical schema has it; agencies are written left to right there.
fn canonical(table: &str, key: &str) -> String {
    if table != "public.co_quan" || !key.starts_with("000.") {
        return key.to_owned();
    }
    key.split('.').rev().filter(|part| !part.bytes().all(|byte| byte == b'0')).collect::<Vec<_>>().join(".")
}

async fn stream(
    access: &TopicAccess,
    topic: &str,
    sound: &HashSet<String>,
    expected: &Expectation,
    table: &str,
    bar: &ProgressBar,
) -> Result<StreamBalance, ProvinceError> {
    let mut keys: HashMap<String, Latest> = HashMap::with_capacity(sound.len());
    let mut balance = StreamBalance::default();
    if let Some(stream) = expected.streams.get(table) {
        balance.source_rows = stream.captured;
        balance.rejected = stream.captured - stream.published;
    }
    read(access, topic, Keys::Avro, |record| {
        bar.inc(1);
        see(record, &mut keys, &mut balance);
    })
    .await?;
    let live: HashSet<&str> = keys.iter().filter(|(_, latest)| latest.alive).map(|(key, _)| key.as_str()).collect();
    balance.records = live.len() as u64;
    let lost: Vec<&str> = sound.iter().map(String::as_str).filter(|key| !live.contains(key)).collect();
    let extra: Vec<&str> = live.iter().copied().filter(|key| !sound.contains(*key)).collect();
    (balance.lost, balance.extra) = (lost.len() as u64, extra.len() as u64);
    let examples = lost.iter().map(|key| format!("lost {key}")).take(EXAMPLES);
    balance.examples = examples.chain(extra.iter().map(|key| format!("extra {key}")).take(EXAMPLES)).collect();
    Ok(balance)
}

/// The latest event of a key.
struct Latest {
    commit: u64,
    position: u64,
    op: u8,
    alive: bool,
}

fn see(record: Record, keys: &mut HashMap<String, Latest>, balance: &mut StreamBalance) {
    let key = record.key.as_ref().map(key_text).unwrap_or_default();
    let Some(value) = record.value else {
        if let Some(latest) = keys.get_mut(&key) {
            latest.alive = false;
        }
        return;
    };
    balance.events += 1;
    let op = text(&value, "op").bytes().next().unwrap_or_default();
    let (commit, position) = field(&value, "source").map(place).unwrap_or_default();
    let latest = Latest { commit, position, op, alive: op != b'd' };
    if let Some(before) = keys.insert(key, latest) {
        let order = (commit, position).cmp(&(before.commit, before.position));
        balance.disordered += u64::from(order.is_lt());
        balance.duplicates += u64::from(order.is_eq() && op == before.op);
    }
}

/// Position of the commit and of the row, from `source.sequence`, `["24023128","24023000"]`.
fn place(source: &Value) -> (u64, u64) {
    let mut numbers = text(source, "sequence").split('"').filter_map(|part| part.parse().ok());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

async fn rejects(client: &Client, access: &TopicAccess) -> Result<BTreeMap<String, RejectBalance>, ProvinceError> {
    let notes = client
        .query("SELECT stream, key, reason, count(*) FROM province.known_rejects GROUP BY 1, 2, 3", &[])
        .await
        .doing("reading which rows must be rejected")?;
    let mut balance: BTreeMap<String, RejectBalance> = BTreeMap::new();
    let mut foreseen: HashMap<(String, String, String), i64> = HashMap::new();
    for note in notes {
        let (stream, key, reason, times): (String, String, String, i64) = (note.get(0), note.get(1), note.get(2), note.get(3));
        balance.entry(reason.clone()).or_default().foreseen += times.cast_unsigned();
        foreseen.insert((stream, key, reason), times);
    }
    let topic = format!("{}.rejects", access.prefix);
    read(access, &topic, Keys::Ignored, |record| {
        let Some(value) = record.value else { return };
        let (stream, reason) = (text(&value, "stream").to_owned(), text(&value, "reason").to_owned());
        let one = balance.entry(reason.clone()).or_default();
        one.found += 1;
        let key = raw_key(&stream, text(&value, "raw"));
        if let Some(left) = foreseen.get_mut(&(stream, key, reason)).filter(|left| **left > 0) {
            *left -= 1;
            one.matched += 1;
        }
    })
    .await?;
    Ok(balance)
}

/// The source's key of a rejected row, which the rejects topic keeps whole as JSON.
fn raw_key(stream: &str, raw: &str) -> String {
    let column = match stream {
        "public.co_quan" => "ma_co_quan",
        "public.ho_so" => "ma_ho_so",
        _ => "id",
    };
    let row: serde_json::Value = serde_json::from_str(raw).unwrap_or_default();
    match row.get(column) {
        Some(serde_json::Value::String(key)) => key.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    fn event(key: &str, op: &str, commit: u64, position: u64) -> Record {
        let source = Value::Record(vec![("sequence".to_owned(), Value::String(format!("[\"{commit}\",\"{position}\"]")))]);
        let envelope = vec![("source".to_owned(), source), ("op".to_owned(), Value::String(op.to_owned()))];
        Record { key: Some(key_of(key)), value: Some(Value::Record(envelope)) }
    }

    fn key_of(key: &str) -> Value {
        Value::Record(vec![("code".to_owned(), Value::String(key.to_owned()))])
    }

    fn seen(records: Vec<Record>) -> (StreamBalance, Vec<String>) {
        let (mut keys, mut balance) = (HashMap::new(), StreamBalance::default());
        records.into_iter().for_each(|record| see(record, &mut keys, &mut balance));
        let mut live: Vec<String> = keys.into_iter().filter(|(_, latest)| latest.alive).map(|(key, _)| key).collect();
        live.sort();
        (balance, live)
    }

    #[test]
    fn a_deleted_key_has_no_record() {
        let tombstone = Record { key: Some(key_of("a")), value: None };
        let (balance, live) = seen(vec![event("a", "r", 1, 1), event("b", "r", 1, 1), event("a", "d", 5, 4), tombstone]);
        assert_eq!((balance.events, balance.duplicates, balance.disordered), (3, 0, 0));
        assert_eq!(live, ["b"]);
    }

    #[test]
    fn an_event_sent_again_is_a_duplicate() {
        let (balance, _) = seen(vec![event("a", "c", 5, 4), event("a", "c", 5, 4), event("a", "u", 5, 4)]);
        assert_eq!((balance.duplicates, balance.disordered), (1, 0));
    }

    #[test]
    fn an_older_event_after_a_newer_one_is_out_of_order() {
        let (balance, _) = seen(vec![event("a", "u", 9, 8), event("a", "c", 5, 4)]);
        assert_eq!((balance.duplicates, balance.disordered), (0, 1));
    }

    #[test]
    fn agencies_are_compared_left_to_right() {
        assert_eq!(canonical("public.co_quan", "000.03.15.H09"), "H09.15.03");
        assert_eq!(canonical("public.co_quan", "000.00.00.H09"), "H09");
        assert_eq!(canonical("public.co_quan", "H09.15"), "H09.15");
    }
}
