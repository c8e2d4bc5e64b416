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

use std::collections::{BTreeMap, HashMap};

use hub_model::{Checkpoint, StreamName};
use serde_json::Value;

/// The state of one row, as far as subscribers know it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    digest: u64,
    /// The segment whose line holds.
    segment: u64,
    /// The last look that saw it.
    seen: u32,
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

/// Rows of one stream that subscribers know. About 80 bytes a row and its key.
#[derive(Debug)]
pub struct Known {
    prefix: String,
    rows: HashMap<Box<str>, Entry>,
    /// Lines of each segment that still stands, those that no longer hold among them.
    segments: BTreeMap<u64, Vec<Box<str>>>,
    /// Keys to write with the next delivery; deleted ones are no longer in `rows`.
    dirty: Vec<Box<str>>,
    look: u32,
}

/// Segments hold no more lines than this: a checkpoint is one Kafka record.
const SEGMENT_LINES: usize = 8_192;

impl Known {
    /// What a checkpoint says of a stream; empty where it says nothing.
    ///
    /// # Errors
    /// The first line that is not in the form, in words: the checkpoint was written by something else.
    pub fn restore(from: &Checkpoint, stream: &StreamName) -> Result<Self, String> {
        let prefix = format!("known/{stream}/");
        let mut known = Self { prefix, rows: HashMap::new(), segments: BTreeMap::new(), dirty: Vec::new(), look: 0 };
        let mut segments = BTreeMap::new();
        for (partition, position) in from.iter() {
            let Some(number) = partition.strip_prefix(&known.prefix) else { continue };
            let number: u64 = number.parse().map_err(|_| format!("checkpoint partition {partition} has no number"))?;
            if let Some(position) = position {
                segments.insert(number, position.as_str().ok_or_else(|| format!("checkpoint partition {partition} is no text"))?);
            }
        }
        for (segment, lines) in segments {
            known.read_segment(segment, lines)?;
        }
        Ok(known)
    }

    fn read_segment(&mut self, segment: u64, lines: &str) -> Result<(), String> {
        let mut keys = Vec::new();
        for (place, line) in lines.lines().enumerate() {
            let wrong = || format!("checkpoint partition {}{segment}, line {}: not `key TAB digest`", self.prefix, place + 1);
            let (key, digest) = line.split_once('\t').ok_or_else(wrong)?;
            let key = unescape(key);
            if digest == "-" {
                self.rows.remove(&*key);
            } else {
                let digest = u64::from_str_radix(digest, 16).map_err(|_| wrong())?;
                self.rows.insert(key.clone(), Entry { digest, segment, seen: 0 });
            }
            keys.push(key);
        }
        self.segments.insert(segment, keys);
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
        self.rows.contains_key(key)
    }

    /// Begins a look at the whole source: every row that is [`Known::note`]d from now on is present.
    pub fn begin_look(&mut self) {
        self.look += 1;
    }

    /// Takes note of a row that is present in a state; `digest` is of everything that the stream tells of it.
    pub fn note(&mut self, key: &str, digest: u64) -> Noted {
        let look = self.look;
        if let Some(entry) = self.rows.get_mut(key) {
            if look != 0 && entry.seen == look {
                return Noted::Twice;
            }
            entry.seen = look;
            if entry.digest == digest {
                return Noted::Same;
            }
            entry.digest = digest;
            self.dirty.push(key.into());
            return Noted::Changed;
        }
        self.rows.insert(key.into(), Entry { digest, segment: 0, seen: look });
        self.dirty.push(key.into());
        Noted::New
    }

    /// Takes note that a row is present in a state that cannot be told (a row at fault): it is not absent, and what subscribers
    /// know of it stands. Nothing where it is not known.
    pub fn keep(&mut self, key: &str) {
        if let Some(entry) = self.rows.get_mut(key) {
            entry.seen = self.look;
        }
    }

    /// Keys that the look, which is over, has not seen; in order. Tell their deletes, then [`Known::forget`] each.
    #[must_use]
    pub fn absent(&self) -> Vec<Box<str>> {
        let unseen = self.rows.iter().filter(|(_, entry)| entry.seen != self.look);
        let mut keys: Vec<_> = unseen.map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// Takes note that a row is deleted. False where it was not known.
    pub fn forget(&mut self, key: &str) -> bool {
        let was_known = self.rows.remove(key).is_some();
        if was_known {
            self.dirty.push(key.into());
        }
        was_known
    }

    /// Writes what was noted since the last call into the checkpoint of the delivery that tells it.
    pub fn save(&mut self, checkpoint: &mut Checkpoint) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.clean(&mut dirty, checkpoint);
        dirty.sort_unstable();
        dirty.dedup();
        for keys in dirty.chunks(SEGMENT_LINES) {
            let segment = self.segments.last_key_value().map_or(1, |(last, _)| last + 1);
            let mut lines = String::new();
            for key in keys {
                escape(key, &mut lines);
                match self.rows.get_mut(key) {
                    Some(entry) => {
                        entry.segment = segment;
                        lines.push_str(&format!("\t{:x}\n", entry.digest));
                    }
                    None => lines.push_str("\t-\n"),
                }
            }
            checkpoint.set(format!("{}{segment}", self.prefix), Value::String(lines));
            self.segments.insert(segment, keys.to_vec());
        }
    }

    /// Takes the oldest segments out, and their lines that still hold into `dirty`, while most lines no longer hold.
    fn clean(&mut self, dirty: &mut Vec<Box<str>>, checkpoint: &mut Checkpoint) {
        let mut lines: usize = self.segments.values().map(Vec::len).sum();
        // A handful of segments is not worth the trouble; a delivery takes over no more than two segments' worth.
        let mut room = SEGMENT_LINES * 2;
        while lines > 2 * self.rows.len() + SEGMENT_LINES || self.segments.len() > 64 + 2 * (self.rows.len() / SEGMENT_LINES) {
            let Some(oldest) = self.segments.first_entry().filter(|oldest| oldest.get().len() <= room) else { return };
            let (segment, keys) = oldest.remove_entry();
            room -= keys.len();
            lines -= keys.len();
            checkpoint.remove(format!("{}{segment}", self.prefix));
            // A line of a deleted row was needed only while an older line of the row stood; this one is the oldest.
            dirty.extend(keys.into_iter().filter(|key| self.rows.get(key).is_some_and(|entry| entry.segment == segment)));
        }
    }
}

/// A digest of a row's values for [`Known::note`]: the same values give the same on every machine and in every version.
///
/// FNV-1a with 64 bits and a final mix. Two states of *one* key that collide would hide a change: 1 in 2^64 of them.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Adds one value; null is not the same as empty.
    pub fn value(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.bytes(&[0xff]),
            Some(value) => {
                self.bytes(&(value.len() as u64).to_le_bytes());
                self.bytes(value);
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The digest of everything that was added.
    #[must_use]
    pub fn finish(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }
}

/// A key of several parts as one text, and back: a JSON list of texts, or the text itself where there is one part.
#[must_use]
pub fn join_key(parts: &[&str]) -> String {
    match parts {
        [only] if !only.starts_with('[') => (*only).to_owned(),
        parts => Value::from(parts.to_vec()).to_string(),
    }
}

/// The parts of a key that [`join_key`] made.
#[must_use]
pub fn split_key(key: &str) -> Vec<String> {
    if key.starts_with('[')
        && let Ok(parts) = serde_json::from_str(key)
    {
        return parts;
    }
    vec![key.to_owned()]
}

/// Writes a text so that it fits between tabs in one line of a checkpoint partition.
pub fn escape(key: &str, into: &mut String) {
    for letter in key.chars() {
        match letter {
            '\t' => into.push_str("\\t"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\\' => into.push_str("\\\\"),
            other => into.push(other),
        }
    }
}

/// The text that [`escape`] wrote.
#[must_use]
pub fn unescape(key: &str) -> Box<str> {
    if !key.contains('\\') {
        return key.into();
    }
    let mut plain = String::with_capacity(key.len());
    let mut letters = key.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain.into()
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
    fn keys_of_several_parts_come_apart_again() {
        for parts in [vec!["a"], vec!["[a"], vec!["", "x\"y"], vec!["1", "2", "3"]] {
            assert_eq!(split_key(&join_key(&parts)), parts);
        }
    }

    #[test]
    fn a_digest_tells_null_from_empty_and_where_a_value_ends() {
        let digest = |values: &[Option<&str>]| {
            let mut digest = Digest::default();
            values.iter().for_each(|value| digest.value(value.map(str::as_bytes)));
            digest.finish()
        };
        assert_ne!(digest(&[None]), digest(&[Some("")]));
        assert_ne!(digest(&[Some("ab"), Some("c")]), digest(&[Some("a"), Some("bc")]));
        assert_eq!(digest(&[Some("Đ")]), digest(&[Some("Đ")]));
    }
}
