//! MySQL and MariaDB as a source: a snapshot in parallel chunks, then the row-based binary log.

mod binlog;
mod capture;
mod catalog;
mod charset;
mod config;
mod connector;
mod decode;
mod discover;
mod follow;
mod kind;
mod probe;
mod server;
mod snapshot;
mod wire;

pub use config::{MysqlConfig, SnapshotConfig, SnapshotMode, ZeroDates};
pub use connector::Mysql;
