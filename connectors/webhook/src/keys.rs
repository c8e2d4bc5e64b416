//! Which requests were published already: digests of their keys, in the checkpoint of the rows that they came with.
//!
//! # Form
//! One partition a *segment*, `keys/<stream>/<slot>`: digests of 16 bytes by the minute they came in. Each delivery
//! writes one; where eight of one tier stand, the delivery writes one for all of them instead, so that a key is written a
//! few times in its life and a day's keys are a few hundred records. What is older than the window is removed with the
//! next delivery. Slots are used again, so that deliveries of one transaction write over each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hub_sdk::model::{Checkpoint, StreamName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::config::Idempotency;

/// Segments of one tier that become one of the next.
const FAN: usize = 8;
/// A segment of so many keys is merged no more; eight smaller ones stay within a Kafka record.
const FULL: usize = 4_096;
/// Most keys of one segment that a delivery writes.
const PART: usize = 16_384;
/// The tier of segments that are merged no more.
const LAST: u8 = u8::MAX;

/// The first half of a SHA-256: nobody can make two keys of one digest.
pub(crate) type Digest = [u8; 16];

/// The digest of the parts of a key; which part ends where counts.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = Digest::default();
    half.copy_from_slice(&whole[..16]);
    half
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing: it is noted now.
    New,
    /// It was handed over with that delivery, which is not durable yet.
    UnderWay(u64),
    /// It is in Kafka.
    Durable,
}

/// The keys of one stream. About 60 bytes each.
#[derive(Debug)]
pub(crate) struct Keys {
    prefix: String,
    window_minutes: u32,
    limit: usize,
    /// Those of the window, those under way among them.
    seen: HashSet<Digest>,
    /// Those that are not durable yet, with their delivery.
    under_way: HashMap<Digest, u64>,
    deliveries: VecDeque<(u64, Vec<Digest>)>,
    /// By their slots.
    segments: BTreeMap<u32, Segment>,
    /// Those of the delivery that is being made.
    fresh: Vec<Digest>,
    /// Slots that the next delivery removes.
    stale: BTreeSet<u32>,
    /// The minute of the last look for what is too old.
    swept: u32,
    /// Keys that were forgotten within their window, for there were too many.
    pub(crate) forgotten_early: u64,
}

#[derive(Debug)]
struct Segment {
    tier: u8,
    minutes: Vec<(u32, Vec<Digest>)>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    tier: u8,
    /// Minute since 1970, and the digests in base64.
    minutes: Vec<(u32, String)>,
}

impl Segment {
    fn len(&self) -> usize {
        self.minutes.iter().map(|(_, digests)| digests.len()).sum()
    }

    fn write(&self) -> Value {
        let minutes = self.minutes.iter().map(|(minute, digests)| (*minute, STANDARD.encode(digests.concat()))).collect();
        serde_json::to_value(Written { tier: self.tier, minutes }).unwrap_or(Value::Null)
    }

    fn read(position: &Value) -> Result<Self, String> {
        let written = Written::deserialize(position).map_err(|error| error.to_string())?;
        let mut minutes = Vec::with_capacity(written.minutes.len());
        for (minute, text) in written.minutes {
            let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
            let (digests, rest) = bytes.as_chunks::<16>();
            if !rest.is_empty() {
                return Err(format!("{} bytes are no digests of 16", bytes.len()));
            }
            minutes.push((minute, digests.to_vec()));
        }
        Ok(Self { tier: written.tier, minutes })
    }
}

impl Keys {
    /// What a checkpoint knows of a stream's keys at `minute`.
    ///
    /// # Errors
    /// Which partition cannot be read.
    pub(crate) fn restore(from: &Checkpoint, stream: &StreamName, settings: &Idempotency, minute: u32) -> Result<Self, String> {
        let mut keys = Self {
            prefix: format!("keys/{stream}/"),
            // Begun minutes count whole: a key is never forgotten before its time.
            window_minutes: u32::try_from(settings.window_s.div_ceil(60) + 1).unwrap_or(u32::MAX),
            limit: settings.keys,
            seen: HashSet::new(),
            under_way: HashMap::new(),
            deliveries: VecDeque::new(),
            segments: BTreeMap::new(),
            fresh: Vec::new(),
            stale: BTreeSet::new(),
            swept: 0,
            forgotten_early: 0,
        };
        for (partition, position) in from.iter() {
            let slot = partition.strip_prefix(&keys.prefix).and_then(|slot| slot.parse().ok());
            if let (Some(slot), Some(position)) = (slot, position) {
                let segment = Segment::read(position).map_err(|why| format!("checkpoint partition {partition}: {why}"))?;
                keys.segments.insert(slot, segment);
            }
        }
        // First what is too old: a key that came again since stands in a later segment too.
        keys.sweep(minute);
        keys.shrink(keys.segments.values().map(Segment::len).sum());
        keys.forgotten_early = 0;
        keys.seen = keys.segments.values().flat_map(|segment| &segment.minutes).flat_map(|(_, digests)| digests).copied().collect();
        Ok(keys)
    }

    /// Keys that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Takes note of a key that comes with the delivery of that sequence.
    pub(crate) fn note(&mut self, digest: Digest, sequence: u64) -> Seen {
        if self.seen.insert(digest) {
            self.under_way.insert(digest, sequence);
            self.fresh.push(digest);
            return Seen::New;
        }
        self.under_way.get(&digest).map_or(Seen::Durable, |sequence| Seen::UnderWay(*sequence))
    }

    /// Everything up to that delivery is in Kafka.
    pub(crate) fn settle(&mut self, durable: u64) {
        while let Some((_, digests)) = self.deliveries.pop_front_if(|(sequence, _)| *sequence <= durable) {
            for digest in digests {
                self.under_way.remove(&digest);
            }
        }
    }

    /// Writes the keys of a delivery into its checkpoint, and cleans up.
    pub(crate) fn save(&mut self, checkpoint: &mut Checkpoint, sequence: u64, minute: u32) {
        if minute != self.swept {
            self.sweep(minute);
        }
        self.shrink(self.seen.len() - self.fresh.len());
        let fresh = std::mem::take(&mut self.fresh);
        let mut written = Vec::new();
        for digests in fresh.chunks(PART) {
            let tier = if digests.len() >= FULL { LAST } else { 0 };
            let slot = self.free_slot();
            self.segments.insert(slot, Segment { tier, minutes: vec![(minute, digests.to_vec())] });
            written.push(slot);
        }
        if let [slot] = written[..] {
            self.merge(slot);
        }
        for slot in written {
            if let Some(segment) = self.segments.get(&slot) {
                checkpoint.set(format!("{}{slot}", self.prefix), segment.write());
            }
        }
        for slot in std::mem::take(&mut self.stale) {
            checkpoint.remove(format!("{}{slot}", self.prefix));
        }
        if !fresh.is_empty() {
            self.deliveries.push_back((sequence, fresh));
        }
    }

    /// The lowest slot that no segment has.
    fn free_slot(&mut self) -> u32 {
        let taken = self.segments.keys().zip(0..).take_while(|(slot, place)| **slot == *place).count();
        let slot = u32::try_from(taken).unwrap_or(u32::MAX);
        self.stale.remove(&slot);
        slot
    }

    /// Takes the segments of a full tier over into the newest one.
    fn merge(&mut self, newest: u32) {
        while let Some(tier) = self.segments.get(&newest).map(|segment| segment.tier).filter(|tier| *tier != LAST) {
            let same: Vec<u32> = self.segments.iter().filter(|(_, segment)| segment.tier == tier).map(|(slot, _)| *slot).collect();
            if same.len() < FAN {
                return;
            }
            let mut minutes: BTreeMap<u32, Vec<Digest>> = BTreeMap::new();
            for slot in same {
                let Some(segment) = self.segments.remove(&slot) else { continue };
                for (minute, mut digests) in segment.minutes {
                    minutes.entry(minute).or_default().append(&mut digests);
                }
                self.stale.insert(slot);
            }
            let mut merged = Segment { tier: tier + 1, minutes: minutes.into_iter().collect() };
            if merged.len() >= FULL {
                merged.tier = LAST;
            }
            self.stale.remove(&newest);
            self.segments.insert(newest, merged);
        }
    }

    /// Forgets what is older than the window.
    fn sweep(&mut self, minute: u32) {
        self.swept = minute;
        let oldest = minute.saturating_sub(self.window_minutes);
        let seen = &mut self.seen;
        for segment in self.segments.values_mut() {
            for (_, digests) in segment.minutes.extract_if(.., |(minute, _)| *minute < oldest) {
                digests.iter().for_each(|digest| _ = seen.remove(digest));
            }
        }
        self.drop_empty();
    }

    /// Forgets the oldest where the segments hold too many.
    fn shrink(&mut self, mut held: usize) {
        while held > self.limit {
            let first = |segment: &Segment| segment.minutes.first().map(|(minute, _)| *minute);
            let Some(oldest) = self.segments.values_mut().min_by_key(|segment| first(segment)) else { return };
            if oldest.minutes.is_empty() {
                return;
            }
            let (_, digests) = oldest.minutes.remove(0);
            held -= digests.len();
            self.forgotten_early += digests.len() as u64;
            digests.iter().for_each(|digest| _ = self.seen.remove(digest));
            self.drop_empty();
        }
    }

    fn drop_empty(&mut self) {
        let gone = self.segments.extract_if(.., |_, segment| segment.minutes.is_empty());
        self.stale.extend(gone.map(|(slot, _)| slot));
    }
}

/// Whether a partition of a checkpoint holds keys of a stream.
pub(crate) fn is_of(partition: &str, stream: &str) -> bool {
    let rest = partition.strip_prefix("keys/").and_then(|rest| rest.strip_prefix(stream)).and_then(|rest| rest.strip_prefix('/'));
    rest.is_some_and(|slot| slot.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn settings(window_s: u64, keys: usize) -> Idempotency {
        Idempotency { header: None, fields: Vec::new(), body: true, window_s, keys }
    }

    fn stream() -> StreamName {
        StreamName::new("tien/do").unwrap()
    }

    fn restored(from: &Checkpoint, settings: &Idempotency, minute: u32) -> Keys {
        Keys::restore(from, &stream(), settings, minute).unwrap()
    }

    fn key(number: u64) -> Digest {
        digest([&number.to_be_bytes()[..]])
    }

    #[test]
    fn keys_of_thousands_of_deliveries_survive_in_few_small_segments() {
        let settings = settings(86_400, 1_000_000);
        let mut durable = Checkpoint::empty();
        let mut keys = restored(&durable, &settings, 100);
        let mut written = 0;
        for sequence in 1..=5_000 {
            for number in 0..3 {
                assert_eq!(keys.note(key(sequence * 3 + number), sequence), Seen::New);
            }
            let mut moved = Checkpoint::empty();
            keys.save(&mut moved, sequence, 100);
            written += moved.iter().filter_map(|(_, position)| position).map(|position| position.to_string().len()).sum::<usize>();
            durable.merge(&moved);
        }
        let standing: Vec<usize> = durable.iter().filter_map(|(_, position)| Some(position?.to_string().len())).collect();
        assert!(standing.len() < 50, "{} segments", standing.len());
        assert!(standing.iter().all(|bytes| *bytes < 900_000), "{standing:?}");
        assert!(written < 15_000 * 22 * 7, "each key is written a few times: {written} bytes");
        let mut keys = restored(&durable, &settings, 100);
        assert_eq!(keys.len(), 15_000);
        assert!((3..15_003).all(|number| keys.note(key(number), 9_999) == Seen::Durable));
    }

    #[test]
    fn a_key_is_under_way_until_its_delivery_is_durable() {
        let mut keys = restored(&Checkpoint::empty(), &settings(60, 10), 5);
        assert_eq!((keys.note(key(1), 7), keys.note(key(1), 7)), (Seen::New, Seen::UnderWay(7)));
        keys.save(&mut Checkpoint::empty(), 7, 5);
        keys.settle(6);
        assert_eq!(keys.note(key(1), 8), Seen::UnderWay(7));
        keys.settle(7);
        assert_eq!(keys.note(key(1), 8), Seen::Durable);
    }

    #[test]
    fn a_key_is_forgotten_after_its_window_and_not_before() {
        let settings = settings(600, 100);
        let mut durable = Checkpoint::empty();
        let mut keys = restored(&durable, &settings, 100);
        keys.note(key(1), 1);
        keys.save(&mut durable, 1, 100);
        assert_eq!(restored(&durable, &settings, 110).note(key(1), 2), Seen::Durable);
        let mut later = restored(&durable, &settings, 112);
        assert_eq!(later.note(key(1), 2), Seen::New);
        let mut moved = Checkpoint::empty();
        later.save(&mut moved, 2, 112);
        durable.merge(&moved);
        assert_eq!(durable.iter().filter(|(_, position)| position.is_some()).count(), 1, "what is too old is removed");
    }

    #[test]
    fn beyond_the_limit_the_oldest_are_forgotten_and_it_is_counted() {
        let mut keys = restored(&Checkpoint::empty(), &settings(86_400, 10), 1);
        for sequence in 0..30 {
            keys.note(key(sequence), sequence);
            keys.save(&mut Checkpoint::empty(), sequence, u32::try_from(sequence).unwrap());
        }
        assert!(keys.len() <= 11 && keys.forgotten_early >= 19, "{} {}", keys.len(), keys.forgotten_early);
        assert_ne!(keys.note(key(29), 99), Seen::New);
        assert_eq!(keys.note(key(0), 99), Seen::New);
    }

    #[test]
    fn a_delivery_of_very_many_keys_is_written_in_parts() {
        let mut keys = restored(&Checkpoint::empty(), &settings(600, 1_000_000), 1);
        (0..50_000).for_each(|number| _ = keys.note(key(number), 1));
        let mut durable = Checkpoint::empty();
        keys.save(&mut durable, 1, 1);
        assert_eq!(durable.iter().count(), 4);
        assert_eq!(restored(&durable, &settings(600, 1_000_000), 1).len(), 50_000);
        assert!(durable.iter().all(|(partition, _)| is_of(partition, "tien/do") && !is_of(partition, "tien")));
    }

    #[test]
    fn whatever_comes_and_wherever_it_goes_on_a_key_of_the_window_is_known_and_no_other() {
        let settings = settings(1_200, 1_000_000);
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut durable, mut minute) = (Checkpoint::empty(), 1_000);
        let mut keys = restored(&durable, &settings, minute);
        let mut model: HashMap<u64, u32> = HashMap::new();
        for sequence in 1..4_000 {
            for _ in 0..next(40) {
                let number = next(60_000);
                let known = model.get(&number).map(|came| minute - came);
                let seen = keys.note(key(number), sequence);
                match known {
                    Some(age) if age <= 20 => assert_ne!(seen, Seen::New, "{number} came {age} minutes ago"),
                    Some(age) if age > 22 => assert_eq!(seen, Seen::New, "{number} came {age} minutes ago"),
                    None => assert_eq!(seen, Seen::New, "{number} never came"),
                    Some(_) => {}
                }
                if seen == Seen::New {
                    model.insert(number, minute);
                }
            }
            let mut moved = Checkpoint::empty();
            keys.save(&mut moved, sequence, minute);
            durable.merge(&moved);
            if next(50) == 0 {
                keys = restored(&durable, &settings, minute);
            }
            if next(20) == 0 {
                minute += 1;
            }
        }
        assert!(durable.iter().filter(|(_, position)| position.is_some()).count() < 100);
    }
}
