//! MySQL and MariaDB as a source: a snapshot in parallel chunks, then the row-based binary log.

mod binlog;
mod charset;
mod config;
mod decode;
mod kind;
mod wire;

pub use config::{MysqlConfig, SnapshotConfig, SnapshotMode, TlsConfig, TlsMode, ZeroDates};
