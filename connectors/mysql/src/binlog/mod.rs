//! Events of the binary log, parsed in place.

mod event;
mod gtid;
mod packed;
mod rows;
mod statement;
mod table_map;

pub(crate) use event::{Event, Header, MariaGtid, MysqlGtid, Query, Rotate, checksum_bytes, kind};
pub(crate) use gtid::{Gtids, MariaPosition, MysqlSet, uuid_text};
pub(crate) use packed::{Payload, unpack_query, unpack_rows};
pub(crate) use rows::{Change, RowsHead, Walk};
pub(crate) use statement::{Statement, understand};
pub(crate) use table_map::{LogColumn, TableMap};
