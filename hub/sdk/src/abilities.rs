//! What a connector can do; tests and the engine are gated by it.

use serde::Serialize;

/// Abilities that a connector declares for a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// Reads the rows that are already there.
    pub snapshot: bool,
    /// Follows later changes.
    pub follow: bool,
    /// Sees deletes.
    pub deletes: bool,
    /// Can give the state before a change.
    pub before_images: bool,
    /// Resumes at the exact change, so that nothing is published twice. Otherwise at-least-once.
    pub exactly_once: bool,
    /// Takes up a stream that is added while others are followed.
    pub add_streams: bool,
    /// Yields truncates.
    pub truncates: bool,
}
