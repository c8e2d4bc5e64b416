//! Tests against a real Kafka: `HUB_TEST_KAFKA` (default 127.0.0.1:19092, the stack of `make up`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, reason = "a failing test may panic")]

mod broker;
mod fixture;
mod lane;
mod restart;
mod security;
mod stores;
