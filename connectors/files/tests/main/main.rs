//! What the connector promises beyond the kit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "../support/desk.rs"]
mod desk;
#[path = "../support/places.rs"]
mod places;
#[path = "../support/scratch.rs"]
mod scratch;

mod deliveries;
mod documents;
mod remote;
mod tables;
mod workbooks;
