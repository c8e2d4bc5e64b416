//! The client's side of the protocol that MySQL and MariaDB share: as much of it as a reader needs, and rows without a copy.

mod bytes;
mod channel;
mod error;
mod login;
mod session;

use std::time::Duration;

use hub_sdk::Secret;

pub(crate) use bytes::{Bytes, big, little};
pub(crate) use channel::Packet;
pub(crate) use error::{ServerError, WireError, code};
pub(crate) use hub_sdk::tls::{Encryption, encryption};
pub(crate) use session::{AnswerColumn, Row, Session, Step};

/// Where and as whom to log in.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Secret,
    pub(crate) encryption: Encryption,
    /// How long a login may take.
    pub(crate) connect: Duration,
    /// How long the server may say nothing in the midst of an answer.
    pub(crate) patience: Duration,
}
