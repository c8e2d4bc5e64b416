//! PostgreSQL as a source: discover, probe, snapshot, and follow by logical replication.

pub mod client;
pub mod config;
pub mod decode;
pub mod types;
