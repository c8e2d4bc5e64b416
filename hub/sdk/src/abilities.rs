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
    /// Sees each change, and not only the state at each look.
    pub every_change: bool,
    /// It is called by its source instead of calling it: whether the source can be reached is the source's own affair.
    pub listens: bool,
    /// Takes up a stream that is added while others are followed.
    pub add_streams: bool,
    /// Yields truncates.
    pub truncates: bool,
}
