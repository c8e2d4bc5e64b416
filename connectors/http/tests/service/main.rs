//! What the connector promises of one service, on a fake LGSP (named so: no real one can be had) and a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod evidence;
mod lists;
mod logins;
mod lookups;
mod probing;
mod pushes;
mod reader;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod trouble;
