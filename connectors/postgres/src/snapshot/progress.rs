//! How far the snapshots are, for status pages.

use std::sync::{Mutex, PoisonError};

use hub_sdk::Progress;
use hub_sdk::model::StreamName;

/// One entry per stream whose present rows are being read.
#[derive(Debug, Default)]
pub(crate) struct Board {
    streams: Mutex<Vec<Progress>>,
}

impl Board {
    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// States what is known of a stream before it is read.
    pub(crate) fn begin(&self, stream: &StreamName, rows_expected: Option<u64>, (done, chunks): (u64, u64)) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|progress| progress.stream != stream.as_str());
        streams.push(Progress { stream: stream.to_string(), rows: 0, rows_expected, chunks_done: done, chunks });
    }

    /// Adds rows that were handed over. `chunks` is `None` once the stream is complete.
    pub(crate) fn add(&self, stream: &StreamName, rows: u64, chunks: Option<(u64, u64)>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(progress) = streams.iter_mut().find(|progress| progress.stream == stream.as_str()) else { return };
        progress.rows += rows;
        (progress.chunks_done, progress.chunks) = chunks.unwrap_or((progress.chunks, progress.chunks));
    }

    /// The present state.
    pub(crate) fn read(&self) -> Vec<Progress> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
