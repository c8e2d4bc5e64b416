//! What goes to Kafka: encoded rows of one topic, zero-copy.

use std::sync::Arc;

use bytes::Bytes;

/// Encoded rows in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    data: Bytes,
    /// `offsets[i]..offsets[i + 1]` is row `i`; one more entry than there are rows.
    offsets: Vec<usize>,
}

impl Rows {
    /// Rows of `data`, cut at `offsets` (row count + 1 entries, ascending, the last at most `data.len()`).
    #[must_use]
    pub fn new(data: Bytes, offsets: Vec<usize>) -> Self {
        debug_assert!(offsets.windows(2).all(|pair| pair[0] <= pair[1]));
        debug_assert!(offsets.last().is_none_or(|last| *last <= data.len()));
        Self { data, offsets }
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One row's bytes; empty for a row that is not there.
    #[must_use]
    pub fn row(&self, index: usize) -> &[u8] {
        match (self.offsets.get(index), self.offsets.get(index + 1)) {
            (Some(start), Some(end)) => self.data.get(*start..*end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
}

/// Headers of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Record of the block.
    pub record: u32,
    /// Header name, `__debezium.newkey`.
    pub name: &'static str,
    /// Header value.
    pub value: Bytes,
}

/// Records of one topic, in order.
#[derive(Clone, Debug)]
pub struct Block {
    /// The topic.
    pub topic: Arc<str>,
    /// A key per record, where an empty one stands for null (a truncate has no key; a framed key is never empty); `None` for a topic
    /// without keys.
    pub keys: Option<Rows>,
    /// A value per record.
    pub values: Rows,
    /// Kafka timestamp per record, milliseconds since 1970-01-01 UTC.
    pub timestamps: Vec<i64>,
    /// Records after which a tombstone (same key, null value) follows, ascending.
    pub tombstones: Vec<u32>,
    /// Headers of the few records that have some, ascending by record.
    pub headers: Vec<RecordHeader>,
}

impl Block {
    /// How many records, tombstones not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Encoded bytes in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.bytes() + self.keys.as_ref().map_or(0, Rows::bytes)
    }
}
