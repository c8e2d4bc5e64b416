//! A client of any Confluent-compatible schema registry, ours or another.

mod error;
mod http;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub use error::ClientError;
use http::{Http, encoded};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::Password;

/// How an external registry is reached.
#[derive(Clone, Debug, Default)]
pub struct RegistrySettings {
    /// `https://registry.example:8081`, with a path where it has one.
    pub url: String,
    /// The user, where it asks for one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Password>,
    /// PEM file of the authority that signed its certificate. Absent: the public ones.
    pub ca: Option<PathBuf>,
}

/// How long and how often a registry that does not answer is asked.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Limit of one request.
    pub request: Duration,
    /// How often a request that failed for no fault of its own is made again.
    pub retries: u32,
    /// The wait before the first of these; each next one is twice as long.
    pub first_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { request: Duration::from_secs(15), retries: 4, first_wait: Duration::from_millis(200) }
    }
}

/// Whether a schema fits a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatibility {
    /// It does.
    pub compatible: bool,
    /// What does not fit, in Confluent's words.
    pub messages: Vec<String>,
}

/// The latest version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Latest {
    /// The id under which messages name it.
    pub id: u32,
    /// Its version in the subject.
    pub version: u32,
    /// Its text.
    pub schema: String,
}

/// A client of one registry. Cheap to clone; clones share connections and the schemas found by id.
#[derive(Clone)]
pub struct Client {
    http: Arc<Http>,
    /// What an id stands for never changes.
    by_id: Arc<RwLock<HashMap<u32, Arc<str>>>>,
}

impl Client {
    /// Prepares a client; makes no connection.
    ///
    /// # Errors
    /// [`ClientError::Settings`] where the URL or the file of the authority cannot be used.
    pub fn new(settings: RegistrySettings) -> Result<Self, ClientError> {
        Self::with_patience(settings, Patience::default())
    }

    /// As [`Client::new`], with other limits.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_patience(settings: RegistrySettings, patience: Patience) -> Result<Self, ClientError> {
        Ok(Self { http: Arc::new(Http::new(settings, patience)?), by_id: Arc::default() })
    }

    /// Registers a schema under a subject, or finds it there; answers its id.
    ///
    /// # Errors
    /// [`ClientError::Incompatible`], [`ClientError::Invalid`] where the registry refuses the schema, others where it cannot be used.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            id: u32,
        }
        let path = format!("subjects/{}/versions", encoded(subject));
        let answer: Answer = self.http.call("register a schema", Method::POST, &path, Some(&json!({"schema": schema}))).await?;
        Ok(answer.id)
    }

    /// Asks whether a schema would fit a subject; one without versions takes any.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] where the schema is none, others where the registry cannot be used.
    pub async fn check(&self, subject: &str, schema: &str) -> Result<Compatibility, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            is_compatible: bool,
            #[serde(default)]
            messages: Option<Vec<String>>,
        }
        let path = format!("compatibility/subjects/{}/versions?verbose=true", encoded(subject));
        let answer: Result<Answer, ClientError> =
            self.http.call("check a schema", Method::POST, &path, Some(&json!({"schema": schema}))).await;
        match answer {
            Ok(answer) => Ok(Compatibility { compatible: answer.is_compatible, messages: answer.messages.unwrap_or_default() }),
            // Some registries know no compatibility with nothing.
            Err(ClientError::Missing { .. }) => Ok(Compatibility { compatible: true, messages: Vec::new() }),
            Err(error) => Err(error),
        }
    }

    /// The latest version of a subject; `None` where the subject has none.
    ///
    /// # Errors
    /// Where the registry cannot be used.
    pub async fn latest(&self, subject: &str) -> Result<Option<Latest>, ClientError> {
        let path = format!("subjects/{}/versions/latest", encoded(subject));
        match self.http.call("find the latest schema", Method::GET, &path, None).await {
            Ok(latest) => Ok(Some(latest)),
            Err(ClientError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of the schema with an id. Asked of the registry once.
    ///
    /// # Errors
    /// [`ClientError::Missing`] where no schema has the id, others where the registry cannot be used.
    pub async fn by_id(&self, id: u32) -> Result<Arc<str>, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            schema: String,
        }
        let known = self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(schema) = known {
            return Ok(schema);
        }
        let answer: Answer = self.http.call("find a schema by its id", Method::GET, &format!("schemas/ids/{id}"), None).await?;
        let schema: Arc<str> = answer.schema.into();
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&schema));
        Ok(schema)
    }
}
