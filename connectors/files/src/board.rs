//! What the streams say of themselves between looks, for gauges and findings.

use std::collections::BTreeMap;
use std::sync::Mutex;

use hub_sdk::model::StreamName;

/// Files of one stream that are there and not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// How many.
    pub(crate) files: usize,
    /// When the oldest was changed, microseconds since 1970.
    pub(crate) oldest: Option<u64>,
    /// Files that were refused and are remembered.
    pub(crate) rejected: usize,
}

/// What each stream said last.
#[derive(Debug, Default)]
pub(crate) struct Board {
    streams: Mutex<BTreeMap<StreamName, Waiting>>,
}

impl Board {
    /// Says it.
    pub(crate) fn tell(&self, stream: &StreamName, waiting: Waiting) {
        let mut streams = self.streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        streams.insert(stream.clone(), waiting);
    }

    /// All streams together.
    pub(crate) fn sum(&self) -> Waiting {
        let streams = self.streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        streams.values().fold(Waiting::default(), |sum, one| Waiting {
            files: sum.files + one.files,
            oldest: [sum.oldest, one.oldest].into_iter().flatten().min(),
            rejected: sum.rejected + one.rejected,
        })
    }
}
