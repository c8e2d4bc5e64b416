//! Reads the rows that are already there: from one exported snapshot at first, between watermarks later.

mod copy;
mod incremental;
mod initial;
mod plan;
mod progress;
mod touched;

pub(crate) use copy::{SliceReader, read_sample};
pub(crate) use incremental::{ChunkFate, ChunkRead, Incremental, Unfinished};
pub(crate) use initial::{Ended, Initial, Stamp, read_initial, snapshot_batch};
pub(crate) use plan::{SNAPSHOT_PREFIX, StreamSnapshot, plan_parts};
pub(crate) use progress::Board;
pub(crate) use touched::Touched;
