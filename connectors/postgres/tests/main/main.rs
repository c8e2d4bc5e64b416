//! The connector against real servers: the private PostgreSQL that `make up` starts, and throw-away ones of the tests' own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod discovering;
mod own_server;
mod probing;
mod reconnecting;
mod source;
mod tls;
mod types;
