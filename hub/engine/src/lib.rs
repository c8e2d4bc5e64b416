//! Runs systems: desired state, supervision, the pipeline from a connector to a lane, and what follows from errors.

mod anew;
mod audit;
pub mod bulletin;
pub mod desired;
mod error;
mod gauges;
mod keys;
mod node;
mod parking;
pub mod pipeline;
pub mod policy;
pub mod prepare;
mod removal;
mod session;
pub mod spec;
pub mod status;
mod supervisor;

pub use error::RunError;
pub use keys::CanonicalKeys;
pub use node::{Node, NodeInput, SecretResolver, reach_kafka};
pub use supervisor::open;
