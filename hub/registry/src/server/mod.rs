//! The embedded schema registry: Confluent's HTTP interface over one compacted Kafka topic.
//!
//! `follower` reads the topic into a `state`; `decide` says which records a change comes to; `writer` commits them so that
//! several registries on one topic agree; `registry` ties these together, and `routes` is the HTTP face of it.

mod decide;
mod error;
mod follower;
mod record;
mod registry;
mod routes;
mod state;
mod topic;
mod writer;

pub use error::ApiError;
pub use record::Reference;
pub use registry::{Normalize, Offer, Registered, Registry, Which};
pub use state::{Mode, Version};
pub use topic::StartError;
