//! Databases behind an ODBC driver as a source: SQL Server, Oracle, Db2, and whatever else has one.

mod capture;
mod catalog;
mod classify;
mod columns;
mod config;
mod connector;
mod dialect;
mod digest;
mod follower;
mod link;
mod memory;
mod page;
mod probe;
mod reading;
mod session;
mod tracked;
mod window;

pub use config::{Cdc, ChangeTracking, Encoding, MarkKind, Mode, OdbcConfig, OdbcStream, Watermark};
pub use connector::Odbc;
pub use dialect::Dialect;
