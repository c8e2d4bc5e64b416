//! How a table is cut into chunks, and how far each has been read.

use hub_sdk::SourceError;
use serde::{Deserialize, Serialize};

use crate::table::Table;
use crate::wire::{Lsn, Session};

/// Beginning of the names of the checkpoint's partitions that hold a [`StreamSnapshot`]; the stream's name follows.
pub(crate) const SNAPSHOT_PREFIX: &str = "snapshot/";

/// Chunks of one table, at most: the checkpoint lists them in every delivery of the snapshot.
const MOST_CHUNKS: u64 = 256;
/// A smaller chunk is not worth its query, blocks.
const LEAST_BLOCKS: u64 = 256;

/// The checkpoint's partition `snapshot/<stream>`: how far the present rows of the stream are published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamSnapshot {
    /// Changes that committed before it are in the snapshot and are not told; those after it are followed.
    pub(crate) start_lsn: Lsn,
    /// Whether every row is published.
    pub(crate) complete: bool,
    /// The table, or each partition of a partitioned one; absent until the stream's turn comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<Vec<Part>>,
    /// Number of the table's entry in the publication since it is followed. A table that was taken out and put back has
    /// another one, and changes between are in no stream. Absent where all tables are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<u32>,
}

/// One heap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) table: u32,
    /// File of the heap. Another one means that rows may have moved between chunks without an event.
    pub(crate) relfilenode: u32,
    /// The heap as SQL names it. Only of use while it is read.
    #[serde(skip)]
    pub(crate) sql_name: String,
    /// Bytes of the heap and its TOAST, per block of the heap.
    #[serde(skip)]
    pub(crate) bytes_per_block: u64,
    pub(crate) chunks: Vec<Chunk>,
}

/// Blocks `from..to` of a heap; those before `next` are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) next: u64,
}

impl Serialize for Chunk {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.from, self.to, self.next].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Chunk {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [from, to, next] = <[u64; 3]>::deserialize(deserializer)?;
        Ok(Self { from, to, next })
    }
}

impl Chunk {
    pub(crate) fn is_done(&self) -> bool {
        self.next >= self.to
    }
}

impl StreamSnapshot {
    /// A stream whose present rows are still to be read.
    pub(crate) fn announced(start_lsn: Lsn) -> Self {
        Self { start_lsn, complete: false, parts: None, entry: None }
    }

    /// A stream whose present rows are all published, or not wanted.
    pub(crate) fn finished(start_lsn: Lsn) -> Self {
        Self { start_lsn, complete: true, parts: None, entry: None }
    }

    /// Whether rows or changes of the stream may have been delivered already.
    pub(crate) fn was_followed(&self) -> bool {
        self.complete || self.parts.is_some()
    }

    /// Whether the publication may have left out changes since the stream is followed. `now` is its table's entry.
    pub(crate) fn has_gap(&self, now: Option<u32>) -> bool {
        match self.entry {
            Some(_) => now != self.entry,
            // A checkpoint of an older hub, which did not keep the number.
            None if self.was_followed() => now.is_none(),
            // Announced, and stopped before it was followed: the table may have come and gone since.
            None => true,
        }
    }

    /// Marks the blocks before `next` of a chunk as published; the whole becomes complete with its last chunk.
    pub(crate) fn advance(&mut self, part: usize, chunk: usize, next: u64) {
        let Some(parts) = &mut self.parts else { return };
        if let Some(chunk) = parts.get_mut(part).and_then(|part| part.chunks.get_mut(chunk)) {
            chunk.next = next;
        }
        self.settle();
    }

    /// Becomes complete where nothing is left to read.
    pub(crate) fn settle(&mut self) {
        let done = |parts: &Vec<Part>| parts.iter().all(|part| part.chunks.iter().all(Chunk::is_done));
        if self.parts.as_ref().is_some_and(done) {
            self.complete = true;
            self.parts = None;
        }
    }

    /// Chunks that are published, and chunks in all.
    pub(crate) fn chunks(&self) -> (u64, u64) {
        let all = || self.parts.iter().flatten().flat_map(|part| &part.chunks);
        (all().filter(|chunk| chunk.is_done()).count() as u64, all().count() as u64)
    }

    /// As the value of the checkpoint's partition.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Looks how large the heaps of a table are, and cuts them into chunks of at most `chunk_mib` for `readers` to share.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn plan_parts(sql: &mut Session, table: &Table, readers: usize, chunk_mib: u64) -> Result<Vec<Part>, SourceError> {
    let leaves = if table.partitioned {
        format!("SELECT relid::oid AS oid FROM pg_catalog.pg_partition_tree({}) WHERE isleaf", table.oid)
    } else {
        format!("SELECT {}::oid AS oid", table.oid)
    };
    let query = format!(
        "SELECT c.oid, pg_relation_filenode(c.oid), c.oid::regclass::text, \
         pg_relation_size(c.oid) / current_setting('block_size')::int8, pg_table_size(c.oid) \
         FROM ({leaves}) AS leaf JOIN pg_catalog.pg_class c ON c.oid = leaf.oid WHERE c.relkind = 'r' ORDER BY c.oid"
    );
    let rows = sql.query(&query).await.map_err(|error| error.into_source("measuring the table").of(table.stream.clone()))?;
    let readers = if readers == 0 { 1 } else { readers as u64 };
    Ok(rows
        .iter()
        .map(|row| {
            let blocks: u64 = row.parse(3).unwrap_or(0);
            let bytes: u64 = row.parse(4).unwrap_or(0);
            Part {
                table: row.parse(0).unwrap_or(0),
                relfilenode: row.parse(1).unwrap_or(0),
                sql_name: row.get(2).unwrap_or_default().to_owned(),
                bytes_per_block: bytes.checked_div(blocks).unwrap_or(8_192).max(8_192),
                chunks: cut(blocks, readers, chunk_mib * 128),
            }
        })
        .collect())
}

fn cut(blocks: u64, readers: u64, most: u64) -> Vec<Chunk> {
    let size = blocks.div_ceil(readers * 4).max(LEAST_BLOCKS).min(most.max(1)).max(blocks.div_ceil(MOST_CHUNKS)).max(1);
    (0..blocks.div_ceil(size))
        .map(|index| {
            let from = index * size;
            Chunk { from, to: (from + size).min(blocks), next: from }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop at once")]

    use super::*;

    #[test]
    fn chunks_cover_every_block_once_and_are_never_too_many() {
        for blocks in [0, 1, 255, 256, 257, 20_000, 5_000_000] {
            let chunks = cut(blocks, 2, 64 * 128);
            assert!(chunks.len() as u64 <= MOST_CHUNKS, "{blocks}");
            let mut next = 0;
            for chunk in &chunks {
                assert_eq!(chunk.from, next);
                assert!(chunk.to > chunk.from);
                next = chunk.to;
            }
            assert_eq!(next, blocks);
        }
    }

    #[test]
    fn a_snapshot_is_complete_with_its_last_chunk_and_reads_back() {
        let chunks = vec![Chunk { from: 0, to: 10, next: 0 }, Chunk { from: 10, to: 20, next: 10 }];
        let part = Part { table: 1, relfilenode: 2, sql_name: String::new(), bytes_per_block: 0, chunks };
        let mut snapshot = StreamSnapshot { start_lsn: Lsn(9), complete: false, parts: Some(vec![part]), entry: Some(7) };
        snapshot.advance(0, 0, 10);
        snapshot.advance(0, 1, 15);
        assert_eq!(snapshot.chunks(), (1, 2));
        let read: StreamSnapshot = serde_json::from_value(snapshot.to_json()).unwrap();
        assert_eq!(read, snapshot);
        snapshot.advance(0, 1, 20);
        assert_eq!(snapshot, StreamSnapshot { entry: Some(7), ..StreamSnapshot::finished(Lsn(9)) });
    }

    #[test]
    fn a_table_with_another_entry_in_the_publication_has_a_gap() {
        let followed = StreamSnapshot { entry: Some(7), ..StreamSnapshot::finished(Lsn(9)) };
        assert!(!followed.has_gap(Some(7)));
        assert!(followed.has_gap(Some(8)), "taken out and put back");
        assert!(followed.has_gap(None), "taken out");
        let older = StreamSnapshot::finished(Lsn(9));
        assert!(!older.has_gap(Some(7)) && older.has_gap(None), "a checkpoint without the number");
        assert!(StreamSnapshot::announced(Lsn(9)).has_gap(Some(7)), "never followed");
    }
}
