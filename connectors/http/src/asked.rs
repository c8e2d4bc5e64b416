//! Which keys were asked for, when, and what came of each: it lives in the checkpoint, and moves with the rows.
//!
//! # Form
//! One partition per *segment*, `asked/<stream>/<number>`, of lines that one delivery changed:
//! `key TAB seconds TAB ticket [TAB row TAB digest]…`. Seconds are since 1970, `0` for a key that waits; the ticket is empty where there is none; a row's
//! key is empty where it is the key itself. A later segment wins over an earlier one. Each delivery takes over the lines of a few old ones that still
//! hold, so that there are at most about twice as many lines as keys.
//!
//! Keys are in the checkpoints topic in clear: protect it as the topics of rows are protected.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use hub_sdk::model::{Checkpoint, StreamName};
use hub_sdk::{escape, unescape};
use serde_json::Value;

/// Lines of one segment at most: a checkpoint is one Kafka record.
const SEGMENT_LINES: usize = 8_192;

/// What is remembered of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it was asked for last, seconds since 1970; 0 where it never was.
    pub(crate) at: u64,
    /// What a submission was answered, while it is not done.
    pub(crate) ticket: Option<Box<str>>,
    /// The rows that were told of it, each with its digest.
    pub(crate) rows: Vec<(Box<str>, u64)>,
}

/// The keys of one stream.
#[derive(Debug)]
pub(crate) struct Asked {
    prefix: String,
    keys: HashMap<Box<str>, Held>,
    /// Lines of each segment that still stands.
    segments: BTreeMap<u64, Vec<Box<str>>>,
    dirty: Vec<Box<str>>,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    /// The segment whose line holds.
    segment: u64,
}

impl Asked {
    /// What a checkpoint says of a stream.
    ///
    /// # Errors
    /// The first line that is not in the form, in words and without its key.
    pub(crate) fn restore(from: &Checkpoint, stream: &StreamName) -> Result<Self, String> {
        let prefix = format!("asked/{stream}/");
        let mut asked = Self { prefix, keys: HashMap::new(), segments: BTreeMap::new(), dirty: Vec::new() };
        let mut segments = BTreeMap::new();
        for (partition, position) in from.iter() {
            let Some(number) = partition.strip_prefix(&asked.prefix) else { continue };
            let number: u64 = number.parse().map_err(|_| format!("checkpoint partition {partition} has no number"))?;
            if let Some(position) = position {
                segments.insert(number, position.as_str().ok_or_else(|| format!("checkpoint partition {partition} is no text"))?);
            }
        }
        for (segment, lines) in segments {
            let mut keys = Vec::new();
            for (place, line) in lines.lines().enumerate() {
                let (key, entry) = parse(line)
                    .ok_or_else(|| format!("checkpoint partition {}{segment}, line {}, is not in its form", asked.prefix, place + 1))?;
                asked.keys.insert(key.clone(), Held { entry, segment });
                keys.push(key);
            }
            asked.segments.insert(segment, keys);
        }
        Ok(asked)
    }

    /// How many keys are known.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// What is remembered of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.keys.get(key).map(|held| &held.entry)
    }

    /// Adds a key that waits; false where it is known.
    pub(crate) fn add(&mut self, key: &str) -> bool {
        let is_new = !self.keys.contains_key(key);
        if is_new {
            self.set(key, Entry::default());
        }
        is_new
    }

    /// Remembers what came of a key.
    pub(crate) fn set(&mut self, key: &str, entry: Entry) {
        self.dirty.push(key.into());
        match self.keys.get_mut(key) {
            Some(held) => held.entry = entry,
            None => _ = self.keys.insert(key.into(), Held { entry, segment: 0 }),
        }
    }

    /// Every key with what is remembered of it, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.keys.iter().map(|(key, held)| (&**key, &held.entry))
    }

    /// Writes what changed since the last call into the checkpoint of the delivery that tells it.
    pub(crate) fn save(&mut self, checkpoint: &mut Checkpoint) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.clean(&mut dirty, checkpoint);
        dirty.sort_unstable();
        dirty.dedup();
        for keys in dirty.chunks(SEGMENT_LINES) {
            let segment = self.segments.last_key_value().map_or(1, |(last, _)| last + 1);
            let mut lines = String::new();
            for key in keys {
                if let Some(held) = self.keys.get_mut(key) {
                    held.segment = segment;
                    line(key, &held.entry, &mut lines);
                }
            }
            checkpoint.set(format!("{}{segment}", self.prefix), Value::String(lines));
            self.segments.insert(segment, keys.to_vec());
        }
    }

    /// Takes the oldest segments out while most lines no longer hold, and their lines that do into `dirty`.
    fn clean(&mut self, dirty: &mut Vec<Box<str>>, checkpoint: &mut Checkpoint) {
        let mut lines: usize = self.segments.values().map(Vec::len).sum();
        let mut room = SEGMENT_LINES * 2;
        while lines > 2 * self.keys.len() + SEGMENT_LINES || self.segments.len() > 64 + 2 * (self.keys.len() / SEGMENT_LINES) {
            let Some(oldest) = self.segments.first_entry().filter(|oldest| oldest.get().len() <= room) else { return };
            let (segment, keys) = oldest.remove_entry();
            room -= keys.len();
            lines -= keys.len();
            checkpoint.remove(format!("{}{segment}", self.prefix));
            dirty.extend(keys.into_iter().filter(|key| self.keys.get(key).is_some_and(|held| held.segment == segment)));
        }
    }
}

fn line(key: &str, entry: &Entry, into: &mut String) {
    escape(key, into);
    let _ = write!(into, "\t{}\t", entry.at);
    escape(entry.ticket.as_deref().unwrap_or_default(), into);
    for (row, digest) in &entry.rows {
        into.push('\t');
        if **row != *key {
            escape(row, into);
        }
        let _ = write!(into, "\t{digest:x}");
    }
    into.push('\n');
}

fn parse(line: &str) -> Option<(Box<str>, Entry)> {
    let mut parts = line.split('\t');
    let key = unescape(parts.next()?);
    let at = parts.next()?.parse().ok()?;
    let ticket = parts.next().filter(|ticket| !ticket.is_empty()).map(unescape);
    let mut rows = Vec::new();
    while let Some(row) = parts.next() {
        let row = if row.is_empty() { key.clone() } else { unescape(row) };
        rows.push((row, u64::from_str_radix(parts.next()?, 16).ok()?));
    }
    Some((key, Entry { at, ticket, rows }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn stream() -> StreamName {
        StreamName::new("cu_tru/a").unwrap()
    }

    fn restored(from: &Checkpoint) -> BTreeMap<String, Entry> {
        let asked = Asked::restore(from, &stream()).unwrap();
        asked.iter().map(|(key, entry)| (key.to_owned(), entry.clone())).collect()
    }

    #[test]
    fn what_is_saved_is_restored_whatever_the_keys_are() {
        let mut asked = Asked::restore(&Checkpoint::empty(), &stream()).unwrap();
        let mut checkpoint = Checkpoint::empty();
        let entry = |at, ticket: Option<&str>, rows: &[(&str, u64)]| Entry {
            at,
            ticket: ticket.map(Into::into),
            rows: rows.iter().map(|(row, digest)| ((*row).into(), *digest)).collect(),
        };
        let expected = [
            ("079\t1\n\\", entry(7, Some("vé\t1"), &[])),
            ("a", entry(9, None, &[("a", 1), ("[\"a\",\"b\"]", u64::MAX)])),
            ("chờ", entry(0, None, &[])),
        ];
        for (key, entry) in &expected {
            assert!(asked.add(key));
            asked.set(key, entry.clone());
        }
        asked.save(&mut checkpoint);
        assert!(!asked.add("a"));
        assert_eq!(restored(&checkpoint), expected.into_iter().map(|(key, entry)| (key.to_owned(), entry)).collect());
        let mut wrong = Checkpoint::empty();
        wrong.set("asked/cu_tru/a/1", Value::from("a\tx"));
        assert!(Asked::restore(&wrong, &stream()).unwrap_err().contains("line 1"));
    }

    #[test]
    fn segments_stay_few_however_often_keys_are_asked_for() {
        let mut asked = Asked::restore(&Checkpoint::empty(), &stream()).unwrap();
        let mut held = Checkpoint::empty();
        for round in 0..3_000u64 {
            for key in 0..10 {
                asked.set(&(key * 7 + round % 50).to_string(), Entry { at: round, ..Entry::default() });
            }
            let mut checkpoint = Checkpoint::empty();
            asked.save(&mut checkpoint);
            held.merge(&checkpoint);
        }
        let lines: usize = held.iter().filter_map(|(_, position)| position).map(|lines| lines.as_str().unwrap().lines().count()).sum();
        assert!(lines <= 2 * asked.len() + SEGMENT_LINES, "{lines} lines for {} keys", asked.len());
        assert_eq!(restored(&held), asked.iter().map(|(key, entry)| (key.to_owned(), entry.clone())).collect());
    }
}
