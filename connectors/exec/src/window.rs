//! The rows of a followed stream that were told last, by digest: sources read their cursor's last value again, and a crash
//! repeats what came after the last state.
//!
//! The checkpoint has one partition per *segment*, `window/<stream>/<number>`: key and digest of each row that one delivery told,
//! both as 16 hexadecimal digits. The oldest segments go when more rows are held than are to be remembered.

use std::collections::{BTreeMap, HashMap};

use hub_sdk::Noted;
use hub_sdk::model::{Checkpoint, StreamName};
use serde_json::Value;

/// Segments that stand at most, but for those too long to be taken over.
const SEGMENTS: usize = 64;
/// Rows of a segment at most: a checkpoint is one Kafka record.
const ROWS: usize = 8_192;

#[derive(Clone, Copy, Debug)]
struct Entry {
    digest: u64,
    segment: u64,
}

/// The rows that are remembered: about 50 bytes each.
#[derive(Debug)]
pub(crate) struct Window {
    prefix: String,
    limit: usize,
    rows: HashMap<u64, Entry>,
    segments: BTreeMap<u64, Vec<u64>>,
    held: usize,
    fresh: Vec<u64>,
}

impl Window {
    /// What a checkpoint holds of a stream, of which `limit` rows are to be remembered.
    pub(crate) fn restore(from: &Checkpoint, stream: &StreamName, limit: usize) -> Result<Self, String> {
        let prefix = format!("window/{stream}/");
        let mut window = Self { prefix, limit, rows: HashMap::new(), segments: BTreeMap::new(), held: 0, fresh: Vec::new() };
        let mut segments = BTreeMap::new();
        for (partition, position) in from.iter() {
            if let (Some(number), Some(position)) = (partition.strip_prefix(&window.prefix), position) {
                let wrong = || format!("checkpoint partition {partition} is no window");
                let number: u64 = number.parse().map_err(|_| wrong())?;
                segments.insert(number, position.as_str().and_then(parse).ok_or_else(wrong)?);
            }
        }
        for (segment, rows) in segments {
            let keys: Vec<u64> = rows.iter().map(|(key, _)| *key).collect();
            window.rows.extend(rows.into_iter().map(|(key, digest)| (key, Entry { digest, segment })));
            window.held += keys.len();
            window.segments.insert(segment, keys);
        }
        Ok(window)
    }

    /// Takes note of a row. [`Noted::Same`]: it was told so, and no later state of it.
    pub(crate) fn note(&mut self, key: u64, digest: u64) -> Noted {
        let before = self.rows.insert(key, Entry { digest, segment: 0 });
        match before {
            Some(before) if before.digest == digest => {
                self.rows.insert(key, before);
                return Noted::Same;
            }
            // It stands in `fresh` already.
            Some(before) if before.segment == 0 => return Noted::Changed,
            _ => self.fresh.push(key),
        }
        if before.is_some() { Noted::Changed } else { Noted::New }
    }

    /// Writes what was noted into the checkpoint of the delivery that tells it, and forgets the oldest.
    pub(crate) fn save(&mut self, checkpoint: &mut Checkpoint) {
        let fresh = std::mem::take(&mut self.fresh);
        while let Some((number, length)) = self.segments.first_key_value().map(|(number, keys)| (*number, keys.len())) {
            if (self.held + fresh.len()).saturating_sub(length) < self.limit {
                break;
            }
            self.remove(number, checkpoint).iter().for_each(|key| _ = self.rows.remove(key));
        }
        if self.limit == 0 {
            return self.rows.clear();
        }
        while self.segments.len() >= SEGMENTS && self.merge(checkpoint) {}
        for keys in fresh.chunks(ROWS) {
            let number = self.segments.last_key_value().map_or(1, |(last, _)| last + 1);
            self.write(number, keys.to_vec(), checkpoint);
        }
    }

    /// Makes one segment of the two neighbours that are smallest together, so that their rows keep their age. False where all
    /// are too long for it.
    fn merge(&mut self, checkpoint: &mut Checkpoint) -> bool {
        let sizes = self.segments.iter().map(|(number, keys)| (*number, keys.len()));
        let pairs = sizes.clone().zip(sizes.skip(1)).map(|((older, one), (newer, two))| (one + two, older, newer));
        let Some((size, older, newer)) = pairs.min() else { return false };
        if size > ROWS {
            return false;
        }
        let mut keys = self.remove(older, checkpoint);
        keys.extend(self.remove(newer, checkpoint));
        self.write(newer, keys, checkpoint);
        true
    }

    fn write(&mut self, number: u64, keys: Vec<u64>, checkpoint: &mut Checkpoint) {
        let mut text = String::with_capacity(keys.len() * 32);
        for key in &keys {
            if let Some(entry) = self.rows.get_mut(key) {
                entry.segment = number;
                text.push_str(&format!("{key:016x}{:016x}", entry.digest));
            }
        }
        checkpoint.set(format!("{}{number}", self.prefix), Value::String(text));
        self.held += keys.len();
        self.segments.insert(number, keys);
    }

    /// Takes a segment out; its keys that no later one holds.
    fn remove(&mut self, number: u64, checkpoint: &mut Checkpoint) -> Vec<u64> {
        checkpoint.remove(format!("{}{number}", self.prefix));
        let mut keys = self.segments.remove(&number).unwrap_or_default();
        self.held -= keys.len();
        keys.retain(|key| self.rows.get(key).is_some_and(|entry| entry.segment == number));
        keys
    }
}

fn parse(text: &str) -> Option<Vec<(u64, u64)>> {
    let number = |part: Option<&str>| u64::from_str_radix(part?, 16).ok();
    text.len().is_multiple_of(32).then_some(())?;
    (0..text.len() / 32)
        .map(|row| Some((number(text.get(row * 32..row * 32 + 16))?, number(text.get(row * 32 + 16..row * 32 + 32))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn stream() -> StreamName {
        StreamName::new("a").unwrap()
    }

    fn saved(window: &mut Window, into: &mut Checkpoint) {
        let mut moved = Checkpoint::empty();
        window.save(&mut moved);
        into.merge(&moved);
    }

    #[test]
    fn a_row_that_comes_again_after_a_restart_is_the_same_and_an_older_state_is_a_change() {
        let mut checkpoint = Checkpoint::empty();
        let mut window = Window::restore(&checkpoint, &stream(), 100).unwrap();
        assert_eq!((window.note(1, 10), window.note(2, 20), window.note(1, 11)), (Noted::New, Noted::New, Noted::Changed));
        saved(&mut window, &mut checkpoint);
        let mut window = Window::restore(&checkpoint, &stream(), 100).unwrap();
        assert_eq!((window.note(1, 11), window.note(2, 20), window.note(1, 10)), (Noted::Same, Noted::Same, Noted::Changed));
    }

    #[test]
    fn the_oldest_rows_are_forgotten_and_segments_stay_few() {
        let mut checkpoint = Checkpoint::empty();
        let mut window = Window::restore(&checkpoint, &stream(), 1_000).unwrap();
        for row in 0..5_000u64 {
            assert_eq!(window.note(row, row), Noted::New);
            saved(&mut window, &mut checkpoint);
            let standing = checkpoint.iter().filter(|(_, position)| position.is_some()).count();
            assert!(standing <= SEGMENTS + 1 && window.rows.len() < 1_100, "{standing} segments, {} rows", window.rows.len());
        }
        let mut window = Window::restore(&checkpoint, &stream(), 1_000).unwrap();
        assert_eq!((window.note(4_999, 4_999), window.note(4_500, 4_500), window.note(1, 1)), (Noted::Same, Noted::Same, Noted::New));
    }
}
