//! Systems that push: an HTTP endpoint a stream, answered 200 only after what was sent is in Kafka.
//!
//! A request goes through the *door* (who sends, how much, what it says), waits in a queue, and becomes part of a *group*:
//! one delivery of all that waited. When the hub says that the delivery is durable, its requests are answered. What does
//! not fit is answered 429 before it is taken, and what is not durable in time 503: the sender keeps it and sends it again.
//! Keys of requests travel in the checkpoint of their rows, so that what is sent again is known after a crash too.

mod answer;
mod attachments;
mod auth;
mod body;
mod config;
mod connector;
mod door;
mod faults;
mod figures;
mod group;
mod keys;
mod probe;
mod rate;
mod rows;
mod server;
mod tls;
mod waiting;

pub use config::{
    Algorithm, Auth, Bearer, Certified, Encoding, Endpoint, Format, Idempotency, Ops, SecretForm, Signed, Timestamp, Tls, WebhookConfig,
};
pub use connector::Webhook;
