//! Snapshot, hand-off and stream against a real PostgreSQL of the tests' own: no gap, no duplicate, whatever happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

mod added;
mod changes;
mod encrypted;
mod handoff;
#[path = "../main/own_server.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod own_server;
mod replica;
mod rig;
mod scanning;
mod slot;
#[path = "../main/source.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod source;
mod trouble;
