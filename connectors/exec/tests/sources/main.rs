//! Sources as they come: children that misbehave, streams over runs, and real ones from PyPI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

mod children;
mod real;
mod streams;
#[path = "../support/mod.rs"]
mod support;
