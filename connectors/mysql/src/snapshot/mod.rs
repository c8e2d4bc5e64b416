//! Reads the rows that are already there, chunk by chunk, each from a view whose place in the log is known.

mod key;
mod land;
mod plan;
mod read;
mod rows;
mod territory;
mod view;

pub(crate) use key::key_of;
pub(crate) use land::{Land, Stance};
pub(crate) use plan::plan;
pub(crate) use read::{Reading, read_all};
pub(crate) use rows::{RowReader, batch as row_batch, select};
pub(crate) use territory::{SNAPSHOT_PREFIX, Territory};
pub(crate) use view::open_view;
