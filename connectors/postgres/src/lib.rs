//! PostgreSQL as a source: discover, probe, snapshot, and follow by logical replication.

mod capture;
pub mod client;
pub mod config;
mod connector;
pub mod decode;
pub mod discover;
mod follow;
pub mod probe;
mod scan;
mod slot;
mod snapshot;
mod table;
pub mod types;
mod watch;
mod wire;

pub use connector::Postgres;
