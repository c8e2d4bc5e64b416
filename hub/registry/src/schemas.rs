//! The registry as the rest of the hub uses it: in this process or elsewhere, in the same way.

use std::sync::Arc;

use crate::client::{Client, ClientError, Compatibility, Latest};
use crate::server::{ApiError, Normalize, Offer, Registry};

/// A schema registry, embedded or external.
#[derive(Clone)]
pub enum Schemas {
    /// In this process.
    Embedded(Registry),
    /// Elsewhere, by URL.
    External(Client),
}

/// What errors of the embedded registry name as its place.
const EMBEDDED: &str = "in this process";

impl Schemas {
    /// Registers a schema under a subject, or finds it there; answers its id.
    ///
    /// # Errors
    /// As [`Client::register`].
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, ClientError> {
        match self {
            Self::External(client) => client.register(subject, schema).await,
            Self::Embedded(registry) => {
                let registered = registry.register(subject, &Offer::avro(schema), Normalize::No).await;
                registered.map_err(|error| classified("register a schema", error))
            }
        }
    }

    /// Asks whether a schema would fit a subject; one without versions takes any.
    ///
    /// # Errors
    /// As [`Client::check`].
    pub async fn check(&self, subject: &str, schema: &str) -> Result<Compatibility, ClientError> {
        match self {
            Self::External(client) => client.check(subject, schema).await,
            Self::Embedded(registry) => match registry.check(subject, &Offer::avro(schema), None) {
                Ok(messages) => Ok(Compatibility { compatible: messages.is_empty(), messages }),
                Err(error) => Err(classified("check a schema", error)),
            },
        }
    }

    /// The latest version of a subject; `None` where the subject has none.
    ///
    /// # Errors
    /// As [`Client::latest`].
    pub async fn latest(&self, subject: &str) -> Result<Option<Latest>, ClientError> {
        match self {
            Self::External(client) => client.latest(subject).await,
            Self::Embedded(registry) => match registry.latest(subject) {
                Ok(found) => Ok(Some(Latest { id: found.entry.id, version: found.version, schema: found.entry.schema })),
                Err(error) => match classified("find the latest schema", error) {
                    ClientError::Missing { .. } => Ok(None),
                    other => Err(other),
                },
            },
        }
    }

    /// The text of the schema with an id.
    ///
    /// # Errors
    /// As [`Client::by_id`].
    pub async fn by_id(&self, id: u32) -> Result<Arc<str>, ClientError> {
        match self {
            Self::External(client) => client.by_id(id).await,
            Self::Embedded(registry) => match registry.by_id(id) {
                Ok((schema, _)) => Ok(schema.into()),
                Err(error) => Err(classified("find a schema by its id", error)),
            },
        }
    }
}

fn classified(doing: &'static str, error: ApiError) -> ClientError {
    if !error.differences.is_empty() {
        return ClientError::Incompatible { messages: error.differences };
    }
    ClientError::from_answer(doing, EMBEDDED, error.status(), error.code, error.message)
}
