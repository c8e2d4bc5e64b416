//! The hub's side of Kafka: connection settings, topics, transactional lanes, checkpoints, readers and small tables.
//!
//! A [`Lane`] publishes encoded blocks of many systems exactly once: rows and checkpoints of one publication are in one
//! Kafka transaction. [`checkpoints`] reads back what a lane committed, [`Topics`] creates what is missing, [`Reader`]
//! reads what is committed, and [`Table`] keeps small JSON documents in a compacted topic.
//!
//! Everything here that waits for Kafka is bounded in time, says what it was doing when it fails ([`Error`],
//! [`LaneError`]), and never shows a password, a key or a value.

mod client;
mod error;
mod lane;
mod offsets;
mod reader;
mod table;

pub mod checkpoints;
pub mod config;
pub mod topics;

pub use config::KafkaConfig;
pub use error::{Cause, Error};
pub use lane::{Committed, Done, Health, Lane, LaneError, LaneInput, LaneLimits, Opened, Publication, Session};
pub use offsets::{EndOffsets, end_offsets};
pub use reader::{BorrowedRecord, Next, ReadPlan, Reader, Record, Start, Until};
pub use table::{Change, Entry, Follower, Table};
pub use topics::{Cleanup, TopicFacts, TopicSpec, Topics};
