//! The one thing the engine asks of a schema registry.

use std::future::Future;
use std::pin::Pin;

/// Why a schema was not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// The registry refuses it: incompatible or invalid.
    Refused(String),
    /// The registry could not be used now.
    Unavailable(String),
}

/// A schema registry, embedded or external.
pub trait SchemaRegistrar: Send + Sync {
    /// Registers a schema under a subject, or finds it there; answers its id.
    fn register<'a>(
        &'a self,
        subject: &'a str,
        schema: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<u32, RegisterError>> + Send + 'a>>;
}
