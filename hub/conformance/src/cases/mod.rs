//! The claims. Each takes a fixture of its own, so that they may run side by side.

pub mod snapshot;
pub mod stream;
pub mod trouble;
pub mod words;
