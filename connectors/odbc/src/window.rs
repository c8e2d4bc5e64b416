//! The rows behind a watermark that a look may meet again: what was told of each, in the checkpoint.
//!
//! The checkpoint has one partition per *segment*, `window/<stream>/<number>`: lines `key TAB digest TAB watermark` of rows that
//! one delivery told. A segment goes when all of its watermarks are below what any later look reads; when there are many, the
//! oldest are taken over by the newest.

use std::collections::{BTreeMap, HashMap};

use hub_sdk::Noted;
use hub_sdk::model::{Checkpoint, StreamName};
use serde_json::Value;

/// Segments that stand at most, but for those too long to be taken over.
const SEGMENTS: usize = 64;
/// Lines of a segment at most: a checkpoint is one Kafka record.
const LINES: usize = 8_192;

#[derive(Clone, Copy, Debug)]
struct Entry {
    digest: u64,
    mark: i128,
    segment: u64,
}

/// Rows of one stream that may be read again.
#[derive(Debug)]
pub(crate) struct Window {
    prefix: String,
    rows: HashMap<Box<str>, Entry>,
    /// The highest watermark and the keys of each segment that stands.
    segments: BTreeMap<u64, (i128, Vec<Box<str>>)>,
    fresh: Vec<Box<str>>,
}

impl Window {
    /// What a checkpoint says of a stream.
    pub(crate) fn restore(from: &Checkpoint, stream: &StreamName) -> Result<Self, String> {
        let prefix = format!("window/{stream}/");
        let mut window = Self { prefix, rows: HashMap::new(), segments: BTreeMap::new(), fresh: Vec::new() };
        let mut segments = BTreeMap::new();
        for (partition, position) in from.iter() {
            if let (Some(number), Some(position)) = (partition.strip_prefix(&window.prefix), position) {
                let wrong = || format!("checkpoint partition {partition} is no window");
                segments.insert(number.parse::<u64>().map_err(|_| wrong())?, position.as_str().ok_or_else(wrong)?);
            }
        }
        for (segment, lines) in segments {
            let mut keys = Vec::new();
            let mut highest = i128::MIN;
            for line in lines.lines() {
                let (key, digest, mark) =
                    parse(line).ok_or_else(|| format!("checkpoint partition window/{stream}/{segment} is no window"))?;
                highest = highest.max(mark);
                window.rows.insert(key.clone(), Entry { digest, mark, segment });
                keys.push(key);
            }
            window.segments.insert(segment, (highest, keys));
        }
        Ok(window)
    }

    /// Rows that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes note of a row that was read.
    pub(crate) fn note(&mut self, key: &str, digest: u64, mark: i128) -> Noted {
        let entry = Entry { digest, mark, segment: 0 };
        match self.rows.get_mut(key) {
            Some(known) if known.digest == digest => return Noted::Same,
            Some(known) => *known = entry,
            None => {
                self.rows.insert(key.into(), entry);
                self.fresh.push(key.into());
                return Noted::New;
            }
        }
        self.fresh.push(key.into());
        Noted::Changed
    }

    /// Forgets what no later look reads, and writes what was noted into the checkpoint of the delivery that tells it.
    pub(crate) fn save(&mut self, low: i128, checkpoint: &mut Checkpoint) {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_unstable();
        fresh.dedup();
        let over: Vec<u64> = self.segments.iter().filter(|(_, (highest, _))| *highest < low).map(|(number, _)| *number).collect();
        for number in over {
            self.remove(number, checkpoint);
        }
        let mut room = LINES;
        while self.segments.len() > SEGMENTS {
            let Some((number, length)) = self.segments.first_key_value().map(|(number, (_, keys))| (*number, keys.len())) else { break };
            let Some(rest) = room.checked_sub(length) else { break };
            room = rest;
            fresh.extend(self.remove(number, checkpoint));
        }
        fresh.retain(|key| self.rows.get(key).is_some_and(|entry| entry.mark >= low || entry.segment != 0));
        self.rows.retain(|_, entry| entry.mark >= low || entry.segment != 0);
        for keys in fresh.chunks(LINES) {
            self.write(keys, checkpoint);
        }
    }

    fn write(&mut self, keys: &[Box<str>], checkpoint: &mut Checkpoint) {
        let number = self.segments.last_key_value().map_or(1, |(last, _)| last + 1);
        let (mut lines, mut highest) = (String::new(), i128::MIN);
        for key in keys {
            let Some(entry) = self.rows.get_mut(key) else { continue };
            entry.segment = number;
            highest = highest.max(entry.mark);
            lines.push_str(&format!("{}\t{:x}\t{}\n", Value::from(&**key), entry.digest, entry.mark));
        }
        checkpoint.set(format!("{}{number}", self.prefix), Value::String(lines));
        self.segments.insert(number, (highest, keys.to_vec()));
    }

    /// Takes a segment out; its keys that no later segment has.
    fn remove(&mut self, number: u64, checkpoint: &mut Checkpoint) -> Vec<Box<str>> {
        checkpoint.remove(format!("{}{number}", self.prefix));
        let (_, keys) = self.segments.remove(&number).unwrap_or_default();
        let mut own = Vec::new();
        for key in keys {
            if let Some(entry) = self.rows.get_mut(&key)
                && entry.segment == number
            {
                entry.segment = 0;
                own.push(key);
            }
        }
        own
    }
}

/// A line; its key is a JSON string, so that it holds no tab.
fn parse(line: &str) -> Option<(Box<str>, u64, i128)> {
    let mut parts = line.rsplitn(3, '\t');
    let mark = parts.next()?.parse().ok()?;
    let digest = u64::from_str_radix(parts.next()?, 16).ok()?;
    let key: String = serde_json::from_str(parts.next()?).ok()?;
    Some((key.into(), digest, mark))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn stream() -> StreamName {
        StreamName::new("a").unwrap()
    }

    #[test]
    fn what_is_behind_the_watermark_is_forgotten_and_the_rest_survives_a_restart() {
        let mut checkpoint = Checkpoint::empty();
        let mut window = Window::restore(&checkpoint, &stream()).unwrap();
        assert_eq!((window.note("a\tb", 1, 10), window.note("c", 2, 20)), (Noted::New, Noted::New));
        window.save(20, &mut checkpoint);
        let mut window = Window::restore(&checkpoint, &stream()).unwrap();
        assert_eq!(window.len(), 1, "10 is below 20");
        assert_eq!(
            (window.note("c", 2, 20), window.note("c", 3, 21), window.note("a\tb", 1, 22)),
            (Noted::Same, Noted::Changed, Noted::New)
        );
        let mut moved = Checkpoint::empty();
        window.save(21, &mut moved);
        checkpoint.merge(&moved);
        let mut window = Window::restore(&checkpoint, &stream()).unwrap();
        assert_eq!(window.len(), 2, "what was told of c at 20 is behind");
        assert_eq!((window.note("c", 3, 21), window.note("a\tb", 1, 22)), (Noted::Same, Noted::Same));
    }

    #[test]
    fn segments_stay_few_however_many_deliveries_there_are() {
        let mut checkpoint = Checkpoint::empty();
        let mut window = Window::restore(&checkpoint, &stream()).unwrap();
        for round in 0..1_000 {
            window.note(&format!("k{}", round % 300), round, i128::from(round));
            let mut moved = Checkpoint::empty();
            window.save(0, &mut moved);
            checkpoint.merge(&moved);
        }
        let standing = checkpoint.iter().filter(|(_, position)| position.is_some()).count();
        assert!(standing <= SEGMENTS + 1, "{standing}");
        let mut restored = Window::restore(&checkpoint, &stream()).unwrap();
        assert_eq!(restored.len(), 300);
        for round in 700..1_000 {
            assert_eq!(restored.note(&format!("k{}", round % 300), round, i128::from(round)), Noted::Same, "{round}");
        }
    }
}
