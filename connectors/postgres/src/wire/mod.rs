//! A lean client of the PostgreSQL protocol for the two hot paths, `COPY … TO STDOUT` and logical replication.
//!
//! Rows are read in place from one large buffer: nothing is allocated, copied or sent through a channel per row
//! (docs/adr/0002-own-replication-client.md says why no library does). Everything else goes through tokio-postgres.

mod error;
mod inbox;
mod login;
mod lsn;
mod pipeline;
mod replication;
mod session;
mod transport;

pub(crate) use error::{ServerError, WireError};
pub(crate) use inbox::Message;
pub(crate) use login::{Address, Purpose};
pub(crate) use lsn::Lsn;
pub(crate) use pipeline::Lookup;
pub(crate) use replication::{EPOCH_MICROS, Identity, ReplicationMessage, StandbyStatus, StartOptions, literal, parse_replication, quote};
pub(crate) use session::{Eagerness, Row, Session};
