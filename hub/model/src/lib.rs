//! The hub's vocabulary: what a change is, where it came from, and how far a system has been read.
//!
//! Arrow only: no I/O, no clock, no Kafka (invariant 2 of ARCHITECTURE.md).

mod batch;
mod checkpoint;
mod evidence;
mod fingerprint;
mod names;
mod op;
mod published;

pub use batch::{BatchError, ChangeBatch, KeyChange, Origin, RowFault, SnapshotMark};
pub use checkpoint::Checkpoint;
pub use evidence::Evidence;
pub use fingerprint::fingerprint;
pub use names::{InvalidName, StreamName, SystemName};
pub use op::Op;
pub use published::{Block, RecordHeader, Rows};

/// Field metadata key under which a connector states the source's own type of a column (`numeric(14,2)`).
pub const SOURCE_TYPE: &str = "hub.source.type";
