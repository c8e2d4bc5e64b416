//! How far a system has been read: partition → position, opaque to all but its connector.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Positions by partition. Within a partition a later position includes every earlier one.
///
/// A delivery carries only the partitions it moved; the engine stores each as one record of the compacted
/// checkpoints topic, in the same Kafka transaction as the rows, and hands the merged whole back on start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checkpoint {
    positions: BTreeMap<String, Option<serde_json::Value>>,
}

impl Checkpoint {
    /// The checkpoint of a system that was never read.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Moves one partition. Positions hold no personal data and no secrets: they are readable in Kafka.
    pub fn set(&mut self, partition: impl Into<String>, position: serde_json::Value) {
        self.positions.insert(partition.into(), Some(position));
    }

    /// Forgets one partition: a tombstone in the checkpoints topic.
    pub fn remove(&mut self, partition: impl Into<String>) {
        self.positions.insert(partition.into(), None);
    }

    /// The position of a partition, where it has one.
    #[must_use]
    pub fn get(&self, partition: &str) -> Option<&serde_json::Value> {
        self.positions.get(partition)?.as_ref()
    }

    /// Lays a later checkpoint over this one.
    pub fn merge(&mut self, later: &Self) {
        for (partition, position) in &later.positions {
            self.positions.insert(partition.clone(), position.clone());
        }
    }

    /// Every partition with its position; `None` for one to forget.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&serde_json::Value>)> {
        self.positions.iter().map(|(partition, position)| (partition.as_str(), position.as_ref()))
    }

    /// Whether no partition is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_later_checkpoint_wins_and_a_removed_partition_stays_removed() {
        let mut held = Checkpoint::empty();
        held.set("wal", json!(1));
        held.set("snapshot/a", json!("half"));
        let mut later = Checkpoint::empty();
        later.set("wal", json!(2));
        later.remove("snapshot/a");
        held.merge(&later);
        assert_eq!(held.get("wal"), Some(&json!(2)));
        assert_eq!(held.get("snapshot/a"), None);
        assert_eq!(held.iter().count(), 2);
    }
}
