//! What subscribers know of a stream that can only be read whole: which rows, and in which state.
//!
//! A source without a change log (a list behind HTTP, a delivered file, a table without a watermark) is compared with what
//! was told before: a row that is not known is new, one with another digest has changed, one that is absent is deleted. What
//! is known must survive a restart and must never be ahead of or behind the topic, so it lives in the checkpoint, and moves
//! in the Kafka transaction of its rows.
//!
//! # Form
//! The checkpoint has one partition per *segment*, `known/<stream>/<number>`: lines `key TAB digest` of rows that one delivery
//! told (digest `-` for a deleted one). A later segment wins over an earlier one. Each delivery writes one segment and cleans
//! a few old ones by taking their lines over, so that the segments hold at most about twice as many lines as there are rows.
//!
//! Keys are in the checkpoints topic in clear: protect it as the topics of rows are protected.
//!
//! # Memory
//! A table of a province has millions of rows, so a key is in memory once, in one long text, and nothing is allocated for a
//! row alone; a segment remembers its lines by the hashes of their keys. Two keys of one hash are told apart wherever it
//! matters; where it does not, a line more is written.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use hub_model::{Checkpoint, StreamName};
use serde_json::Value;

use crate::keys::{escape, unescape};

/// The state of one row, as far as subscribers know it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    digest: u64,
    /// Where its key is among the [`Keys`].
    at: usize,
    length: u32,
    /// The segment whose line holds; 0 while none does.
    segment: u32,
    /// The last look that saw it.
    seen: u32,
}

/// Keys of rows, one behind the other; those of rows that are gone are among them until they are many.
#[derive(Debug, Default)]
struct Keys {
    text: String,
    unused: usize,
}

impl Keys {
    fn of(&self, entry: &Entry) -> &str {
        self.text.get(entry.at..entry.at + entry.length as usize).unwrap_or_default()
    }

    /// Adds a key: where it is, and its length.
    fn add(&mut self, key: &str) -> (usize, u32) {
        let at = self.text.len();
        self.text.push_str(key);
        (at, u32::try_from(key.len()).unwrap_or(u32::MAX))
    }

    /// Takes note that a key is no longer needed; moves the others together once every second byte is of such keys.
    fn remove(&mut self, entry: Entry, rows: &mut HashTable<Entry>) {
        self.unused += entry.length as usize;
        if self.unused <= UNUSED_BYTES || self.unused <= self.text.len() / 2 {
            return;
        }
        let mut text = String::with_capacity(self.text.len() - self.unused);
        for entry in rows.iter_mut() {
            let at = text.len();
            text.push_str(self.of(entry));
            entry.at = at;
        }
        *self = Self { text, unused: 0 };
    }
}

/// How a row relates to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Nobody knows it: tell a create, or a read in a first look.
    New,
    /// It is known in another state: tell an update.
    Changed,
    /// Nothing to tell.
    Same,
    /// This look has seen its key already: two rows of one key. The second one is the caller's to refuse.
    Twice,
}

/// Rows of one stream that subscribers know: 50 to 90 bytes a row and the bytes of its key, and its line in the checkpoint.
#[derive(Debug)]
pub struct Known {
    prefix: String,
    rows: HashTable<Entry>,
    keys: Keys,
    hasher: DefaultHashBuilder,
    /// Each segment that still stands: the hashes of its lines' keys, those that no longer hold among them.
    segments: BTreeMap<u32, Vec<u64>>,
    /// What is to be written with the next delivery.
    dirty: Vec<Line>,
    look: u32,
}

/// A line to write.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    /// Of the rows whose keys have this hash, as they are when it is written.
    Rows(u64),
    /// Of a deleted row. One that came again meanwhile is written as what it is.
    Gone(Box<str>),
}

/// Segments hold no more lines than this: a checkpoint is one Kafka record.
const SEGMENT_LINES: usize = 8_192;
/// Bytes of keys of rows that are gone for which it is not worth moving the others.
const UNUSED_BYTES: usize = 64 << 10;

impl Known {
    /// What a checkpoint says of a stream; empty where it says nothing.
    ///
    /// # Errors
    /// The first line that is not in the form, in words: the checkpoint was written by something else.
    pub fn restore(from: &Checkpoint, stream: &StreamName) -> Result<Self, String> {
        let mut known = Self {
            prefix: format!("known/{stream}/"),
            rows: HashTable::new(),
            keys: Keys::default(),
            hasher: DefaultHashBuilder::default(),
            segments: BTreeMap::new(),
            dirty: Vec::new(),
            look: 0,
        };
        let mut segments = BTreeMap::new();
        for (partition, position) in from.iter() {
            let Some(number) = partition.strip_prefix(&known.prefix) else { continue };
            let number: u32 = number.parse().map_err(|_| format!("checkpoint partition {partition} has no number"))?;
            if let Some(position) = position {
                segments.insert(number, position.as_str().ok_or_else(|| format!("checkpoint partition {partition} is no text"))?);
            }
        }
        for (segment, lines) in segments {
            known.read_segment(segment, lines)?;
        }
        Ok(known)
    }

    fn read_segment(&mut self, segment: u32, lines: &str) -> Result<(), String> {
        let mut hashes = Vec::new();
        for (place, line) in lines.lines().enumerate() {
            let wrong = || format!("checkpoint partition {}{segment}, line {}: not `key TAB digest`", self.prefix, place + 1);
            let (key, digest) = line.split_once('\t').ok_or_else(wrong)?;
            let key = unescape(key);
            let hash = self.hasher.hash_one(&*key);
            hashes.push(hash);
            if digest == "-" {
                self.take(hash, &key);
                continue;
            }
            let digest = u64::from_str_radix(digest, 16).map_err(|_| wrong())?;
            match self.find(hash, &key) {
                Some(entry) => (entry.digest, entry.segment) = (digest, segment),
                None => self.insert(hash, &key, digest, segment),
            }
        }
        self.segments.insert(segment, hashes);
        Ok(())
    }

    /// Whether nothing was ever told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.segments.is_empty()
    }

    /// Rows that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether a key is known.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.rows.find(self.hasher.hash_one(key), |entry| self.keys.of(entry) == key).is_some()
    }

    fn find(&mut self, hash: u64, key: &str) -> Option<&mut Entry> {
        self.rows.find_mut(hash, |entry| self.keys.of(entry) == key)
    }

    /// Adds a row that is not there.
    fn insert(&mut self, hash: u64, key: &str, digest: u64, segment: u32) {
        let (at, length) = self.keys.add(key);
        let entry = Entry { digest, at, length, segment, seen: self.look };
        let (hasher, keys) = (&self.hasher, &self.keys);
        self.rows.insert_unique(hash, entry, |entry| hasher.hash_one(keys.of(entry)));
    }

    /// Takes a row out. False where it was not there.
    fn take(&mut self, hash: u64, key: &str) -> bool {
        let found = self.rows.find_entry(hash, |entry| self.keys.of(entry) == key);
        let Ok(found) = found else { return false };
        let (entry, _) = found.remove();
        self.keys.remove(entry, &mut self.rows);
        true
    }

    /// Begins a look at the whole source: every row that is [`Known::note`]d from now on is present.
    pub fn begin_look(&mut self) {
        self.look += 1;
    }

    /// Takes note of a row that is present in a state; `digest` is of everything that the stream tells of it.
    pub fn note(&mut self, key: &str, digest: u64) -> Noted {
        let (look, hash) = (self.look, self.hasher.hash_one(key));
        if let Some(entry) = self.find(hash, key) {
            if look != 0 && entry.seen == look {
                return Noted::Twice;
            }
            entry.seen = look;
            if entry.digest == digest {
                return Noted::Same;
            }
            entry.digest = digest;
            self.dirty.push(Line::Rows(hash));
            return Noted::Changed;
        }
        self.insert(hash, key, digest, 0);
        self.dirty.push(Line::Rows(hash));
        Noted::New
    }

    /// Takes note that a row is present in a state that cannot be told (a row at fault): it is not absent, and what subscribers
    /// know of it stands. Nothing where it is not known.
    pub fn keep(&mut self, key: &str) {
        let (look, hash) = (self.look, self.hasher.hash_one(key));
        if let Some(entry) = self.find(hash, key) {
            entry.seen = look;
        }
    }

    /// Keys that the look, which is over, has not seen; in order. Tell their deletes, then [`Known::forget`] each.
    #[must_use]
    pub fn absent(&self) -> Vec<Box<str>> {
        let unseen = self.rows.iter().filter(|entry| entry.seen != self.look);
        let mut keys: Vec<Box<str>> = unseen.map(|entry| self.keys.of(entry).into()).collect();
        keys.sort_unstable();
        keys
    }

    /// Takes note that a row is deleted. False where it was not known.
    pub fn forget(&mut self, key: &str) -> bool {
        let was_known = self.take(self.hasher.hash_one(key), key);
        if was_known {
            self.dirty.push(Line::Gone(key.into()));
        }
        was_known
    }

    /// Writes what was noted since the last call into the checkpoint of the delivery that tells it.
    pub fn save(&mut self, checkpoint: &mut Checkpoint) {
        self.clean(checkpoint);
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for lines in dirty.chunks(SEGMENT_LINES) {
            let number = self.segments.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
            let (mut text, mut hashes) = (String::new(), Vec::with_capacity(lines.len()));
            for line in lines {
                self.write(line, number, &mut text, &mut hashes);
            }
            if !hashes.is_empty() {
                checkpoint.set(format!("{}{number}", self.prefix), Value::String(text));
                self.segments.insert(number, hashes);
            }
        }
    }

    /// Writes what a line stands for into a segment, and the hashes of its keys.
    fn write(&mut self, line: &Line, segment: u32, text: &mut String, hashes: &mut Vec<u64>) {
        match line {
            Line::Rows(hash) => {
                for entry in self.rows.iter_hash_mut(*hash) {
                    let key = self.keys.of(entry);
                    if self.hasher.hash_one(key) == *hash {
                        entry.segment = segment;
                        escape(key, text);
                        text.push_str(&format!("\t{:x}\n", entry.digest));
                        hashes.push(*hash);
                    }
                }
            }
            Line::Gone(key) => {
                let hash = self.hasher.hash_one(&**key);
                if self.find(hash, key).is_none() {
                    escape(key, text);
                    text.push_str("\t-\n");
                    hashes.push(hash);
                }
            }
        }
    }

    /// Takes the oldest segments out, and their lines that still hold into what is to be written, while most lines no longer hold.
    fn clean(&mut self, checkpoint: &mut Checkpoint) {
        let mut lines: usize = self.segments.values().map(Vec::len).sum();
        // A handful of segments is not worth the trouble; a delivery takes over no more than two segments' worth.
        let mut room = SEGMENT_LINES * 2;
        while lines > 2 * self.rows.len() + SEGMENT_LINES || self.segments.len() > 64 + 2 * (self.rows.len() / SEGMENT_LINES) {
            let Some(oldest) = self.segments.first_entry().filter(|oldest| oldest.get().len() <= room) else { return };
            let (number, hashes) = oldest.remove_entry();
            room -= hashes.len();
            lines -= hashes.len();
            checkpoint.remove(format!("{}{number}", self.prefix));
            // A line of a deleted row was needed only while an older line of the row stood; this one is the oldest.
            let holds = |hash: &u64| self.rows.iter_hash(*hash).any(|entry| entry.segment == number);
            self.dirty.extend(hashes.into_iter().filter(holds).map(Line::Rows));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn stream() -> StreamName {
        StreamName::new("danh_muc").unwrap()
    }

    fn saved(known: &mut Known, into: &mut Checkpoint) {
        let mut moved = Checkpoint::empty();
        known.save(&mut moved);
        into.merge(&moved);
    }

    #[test]
    fn what_was_told_survives_in_the_checkpoint_and_only_differences_are_told_again() {
        let mut checkpoint = Checkpoint::empty();
        let mut known = Known::restore(&checkpoint, &stream()).unwrap();
        known.begin_look();
        assert_eq!((known.note("a", 1), known.note("b", 2), known.note("a\tb\\n", 3)), (Noted::New, Noted::New, Noted::New));
        saved(&mut known, &mut checkpoint);
        let mut known = Known::restore(&checkpoint, &stream()).unwrap();
        known.begin_look();
        assert_eq!((known.note("a", 1), known.note("b", 7), known.note("c", 1)), (Noted::Same, Noted::Changed, Noted::New));
        assert_eq!(known.absent(), ["a\tb\\n".into()]);
        assert!(known.forget("a\tb\\n") && !known.forget("a\tb\\n"));
        saved(&mut known, &mut checkpoint);
        let mut known = Known::restore(&checkpoint, &stream()).unwrap();
        known.begin_look();
        assert_eq!(known.len(), 3);
        assert_eq!((known.note("a", 1), known.note("b", 7), known.note("c", 1)), (Noted::Same, Noted::Same, Noted::Same));
        assert_eq!(known.note("a", 9), Noted::Twice);
    }

    #[test]
    fn a_row_at_fault_is_neither_absent_nor_changed() {
        let mut known = Known::restore(&Checkpoint::empty(), &stream()).unwrap();
        known.begin_look();
        known.note("a", 1);
        known.begin_look();
        known.keep("a");
        known.keep("never told");
        assert!(known.absent().is_empty() && known.len() == 1);
        known.begin_look();
        assert_eq!(known.note("a", 1), Noted::Same);
    }

    #[test]
    fn what_no_delivery_told_is_not_known_after_a_crash() {
        let mut known = Known::restore(&Checkpoint::empty(), &stream()).unwrap();
        known.begin_look();
        known.note("a", 1);
        assert!(Known::restore(&Checkpoint::empty(), &stream()).unwrap().is_empty());
    }

    #[test]
    fn segments_are_cleaned_so_that_they_grow_with_the_rows_and_not_with_the_changes() {
        let mut checkpoint = Checkpoint::empty();
        let mut known = Known::restore(&checkpoint, &stream()).unwrap();
        for round in 0..500u64 {
            known.begin_look();
            for row in 0..1_000 {
                known.note(&format!("k{row}"), if row % 10 == round % 10 { round } else { 0 });
            }
            saved(&mut known, &mut checkpoint);
        }
        let live = checkpoint.iter().filter(|(_, position)| position.is_some()).count();
        assert!(live <= 66, "{live} segments stand");
        let mut restored = Known::restore(&checkpoint, &stream()).unwrap();
        restored.begin_look();
        for row in 0..1_000 {
            assert_eq!(restored.note(&format!("k{row}"), if row % 10 == 499 % 10 { 499 } else { 0 }), Noted::Same, "row {row}");
        }
    }

    #[test]
    fn a_deleted_row_stays_deleted_after_its_segments_are_cleaned() {
        let mut checkpoint = Checkpoint::empty();
        let mut known = Known::restore(&checkpoint, &stream()).unwrap();
        known.note("gone", 1);
        saved(&mut known, &mut checkpoint);
        known.forget("gone");
        saved(&mut known, &mut checkpoint);
        for round in 0..200 {
            known.note("stays", round);
            saved(&mut known, &mut checkpoint);
            let restored = Known::restore(&checkpoint, &stream()).unwrap();
            assert!(!restored.contains("gone") && restored.contains("stays"), "round {round}");
        }
    }

    #[test]
    fn keys_of_rows_that_are_gone_leave_their_memory_and_the_others_stand() {
        let mut known = Known::restore(&Checkpoint::empty(), &stream()).unwrap();
        known.begin_look();
        for row in 0..20_000u64 {
            known.note(&format!("key of row {row}"), row);
        }
        let before = known.keys.text.len();
        for row in 0..20_000u64 {
            assert!(row % 10 == 0 || known.forget(&format!("key of row {row}")));
        }
        assert!(known.keys.text.len() < before / 3, "{} of {before} bytes", known.keys.text.len());
        known.begin_look();
        for row in (0..20_000u64).step_by(10) {
            assert_eq!(known.note(&format!("key of row {row}"), row), Noted::Same, "row {row}");
        }
        assert_eq!(known.len(), 2_000);
    }

    #[test]
    fn a_row_that_is_gone_and_comes_again_in_one_delivery_is_known_as_it_came() {
        let mut checkpoint = Checkpoint::empty();
        let mut known = Known::restore(&checkpoint, &stream()).unwrap();
        known.note("a", 1);
        saved(&mut known, &mut checkpoint);
        known.forget("a");
        assert_eq!(known.note("a", 2), Noted::New);
        saved(&mut known, &mut checkpoint);
        let mut known = Known::restore(&checkpoint, &stream()).unwrap();
        assert_eq!(known.note("a", 2), Noted::Same);
        known.note("b", 1);
        known.forget("b");
        saved(&mut known, &mut checkpoint);
        assert!(!Known::restore(&checkpoint, &stream()).unwrap().contains("b"));
    }

    #[test]
    fn a_row_costs_less_than_a_hundred_bytes() {
        let mut known = Known::restore(&Checkpoint::empty(), &stream()).unwrap();
        for row in 0..500_000u64 {
            known.note(&format!("{row:012}"), row);
        }
        known.save(&mut Checkpoint::empty());
        let segments: usize = known.segments.values().map(|hashes| hashes.capacity() * 8).sum();
        let bytes = known.rows.allocation_size() + known.keys.text.capacity() + segments;
        assert!(bytes < 100 * 500_000, "{} bytes a row", bytes / 500_000);
    }
}
