//! Evidence of the exchanges of one stream, until the delivery that they led to.

use std::sync::{Mutex, PoisonError};

use hub_sdk::Evidence;

/// Exchanges whose evidence is handed over though they led to no row yet.
const LONG: usize = 256;

/// Evidence that waits. Exchanges of one stream run side by side.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    evidence: Mutex<Vec<Evidence>>,
}

impl Trail {
    /// Takes note of an exchange.
    pub(crate) fn note(&self, evidence: Evidence) {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner).push(evidence);
    }

    /// Whether it should not wait for rows any longer.
    pub(crate) fn is_long(&self) -> bool {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner).len() >= LONG
    }

    /// What was noted since the last call.
    pub(crate) fn take(&self) -> Vec<Evidence> {
        std::mem::take(&mut *self.evidence.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
