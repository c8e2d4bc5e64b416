//! Schema registry: Avro schemas, whether one may follow another, the server that keeps them in a Kafka topic, and the
//! client of any Confluent-compatible one.
//!
//! - [`schema`] parses and prints Avro schemas; [`compat`] judges them.
//! - [`Registry`] is the embedded server: `Registry::start(…)`, then in-process methods, and [`Registry::router`] for HTTP.
//! - [`Client`] talks to a registry by URL, and [`Schemas`] is either of the two.

pub mod client;
pub mod compat;
mod password;
pub mod schema;
mod schemas;
mod server;

pub use client::{Client, ClientError, Compatibility, Latest, Patience, RegistrySettings};
pub use password::Password;
pub use schemas::Schemas;
pub use server::{ApiError, Mode, Normalize, Offer, Reference, Registered, Registry, StartError, Version, Which};
