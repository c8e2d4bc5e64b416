//! How far a replay is: which rejects are settled, kept in the system's checkpoint, in the transaction of the rows.

use std::collections::{BTreeMap, BTreeSet};

use hub_model::Checkpoint;
use serde::{Deserialize, Serialize};

/// Beginning of the names of the checkpoint's partitions; the partition of the rejects topic follows.
const PREFIX: &str = "replay/";
/// Ranges that are kept of a partition, so that the position stays a small record.
const MOST_RANGES: usize = 5_000;

/// Progress in every partition of a rejects topic.
#[derive(Debug, Default)]
pub(super) struct Progress {
    partitions: BTreeMap<i32, Position>,
}

/// Progress in one partition.
#[derive(Debug, Default)]
struct Position {
    /// What an earlier replay left.
    before: Stored,
    /// Offset after the last record that was read.
    next: i64,
    /// Offsets that were read and are to be looked at again, or were not decided yet.
    open: BTreeSet<i64>,
    /// All offsets that were read.
    seen: BTreeSet<i64>,
}

/// What is kept in Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    /// Everything before it is settled, but for `again`.
    next: i64,
    /// Offsets from and to, both included, that are to be looked at again.
    #[serde(default)]
    again: Vec<[i64; 2]>,
}

impl Progress {
    /// What the checkpoint of a system holds.
    pub(super) fn read(checkpoint: &Checkpoint) -> Self {
        let mut partitions = BTreeMap::new();
        for (name, position) in checkpoint.iter() {
            let Some(partition) = name.strip_prefix(PREFIX).and_then(|partition| partition.parse().ok()) else { continue };
            // A position that is not understood is no position: the topic itself tells what is published already.
            let before: Stored = position.cloned().and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
            partitions.insert(partition, Position { next: before.next, before, ..Position::default() });
        }
        Self { partitions }
    }

    /// Whether a reject is still to be looked at.
    pub(super) fn is_pending(&self, partition: i32, offset: i64) -> bool {
        self.partitions
            .get(&partition)
            .is_none_or(|held| offset >= held.before.next || held.before.again.iter().any(|[from, to]| (*from..=*to).contains(&offset)))
    }

    /// A record was read; where it is pending, it stays so until it is settled.
    pub(super) fn read_up_to(&mut self, partition: i32, offset: i64) {
        let pending = self.is_pending(partition, offset);
        let held = self.partitions.entry(partition).or_default();
        held.seen.insert(offset);
        held.next = held.next.max(offset + 1);
        if pending {
            held.open.insert(offset);
        }
    }

    /// The reject needs no further look.
    pub(super) fn settle(&mut self, partition: i32, offset: i64) {
        self.partitions.entry(partition).or_default().open.remove(&offset);
    }

    /// As partitions of the system's checkpoint; only those that were read.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::empty();
        for (partition, held) in self.partitions.iter().filter(|(_, held)| !held.seen.is_empty()) {
            let stored = Stored { next: held.next, again: ranges(&held.seen, &held.open) };
            checkpoint.set(format!("{PREFIX}{partition}"), serde_json::to_value(stored).unwrap_or_default());
        }
        checkpoint
    }
}

/// The open offsets as ranges over those that exist. Where they are too many, neighbours are joined: what is settled and
/// looked at again is found in its topic and not published twice.
fn ranges(seen: &BTreeSet<i64>, open: &BTreeSet<i64>) -> Vec<[i64; 2]> {
    let mut ranges: Vec<[i64; 2]> = Vec::new();
    let mut joined = false;
    for offset in seen {
        if !open.contains(offset) {
            joined = false;
            continue;
        }
        match ranges.last_mut().filter(|_| joined) {
            Some(range) => range[1] = *offset,
            None => ranges.push([*offset, *offset]),
        }
        joined = true;
    }
    while ranges.len() > MOST_RANGES {
        ranges = ranges.chunks(2).filter_map(|pair| Some([pair.first()?[0], pair.last()?[1]])).collect();
    }
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_is_left_open_is_pending_again_and_what_is_settled_is_not() {
        let mut progress = Progress::read(&Checkpoint::empty());
        // Offsets 3 and 6 are transaction markers.
        for offset in [0, 1, 2, 4, 5, 7] {
            assert!(progress.is_pending(0, offset));
            progress.read_up_to(0, offset);
        }
        for offset in [0, 4] {
            progress.settle(0, offset);
        }
        let kept = progress.checkpoint();
        assert_eq!(kept.get("replay/0").unwrap(), &serde_json::json!({"next": 8, "again": [[1, 2], [5, 7]]}));
        let later = Progress::read(&kept);
        let pending: Vec<i64> = [0, 1, 2, 4, 5, 7, 8, 9].into_iter().filter(|offset| later.is_pending(0, *offset)).collect();
        assert_eq!(pending, [1, 2, 5, 7, 8, 9]);
        assert!(later.is_pending(1, 0), "another partition");
    }

    #[test]
    fn a_replay_that_is_cut_off_leaves_the_rest_pending() {
        let mut progress = Progress::default();
        (0..4).for_each(|offset| progress.read_up_to(0, offset));
        progress.settle(0, 1);
        let kept = progress.checkpoint();
        let mut later = Progress::read(&kept);
        (0..4).for_each(|offset| later.read_up_to(0, offset));
        for offset in [0, 2, 3] {
            later.settle(0, offset);
        }
        assert_eq!(later.checkpoint().get("replay/0").unwrap(), &serde_json::json!({"next": 4, "again": []}));
    }

    #[test]
    fn many_ranges_are_joined_and_still_cover_everything_open() {
        let seen: BTreeSet<i64> = (0..40_000).collect();
        let open: BTreeSet<i64> = seen.iter().copied().filter(|offset| offset % 2 == 0).collect();
        let ranges = ranges(&seen, &open);
        assert!(ranges.len() <= MOST_RANGES);
        assert!(open.iter().all(|offset| ranges.iter().any(|[from, to]| (*from..=*to).contains(offset))));
    }
}
