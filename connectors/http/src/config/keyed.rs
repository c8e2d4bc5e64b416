//! Streams by key: look-ups, submissions, and where their keys come from.

use std::path::PathBuf;

use hub_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use super::stream::{Request, Rule};

/// Each key is asked for by a request of its own. `{key}` stands for it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Where keys come from.
    pub keys: Keys,
    /// The column that receives the key, whether the answer has it or not; one of `key`. Left out: the first of `key`.
    #[serde(default)]
    pub key_column: Option<String>,
    /// Seconds after which a key that was found is asked for again; before that never.
    #[serde(default = "month_s")]
    pub ttl_s: f64,
    /// Seconds after which a key that was not found is asked for again; before that never.
    #[serde(default = "day_s")]
    pub negative_ttl_s: f64,
    /// What an answer says that knows nothing of the key. 404 and an answer without rows say so too.
    #[serde(default)]
    pub missing: Option<Rule>,
    /// Requests of this stream within any 60 seconds.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Requests of this stream of one day.
    #[serde(default)]
    pub per_day: Option<u32>,
    /// Keys that are remembered at most; more stop the stream. About 150 bytes each.
    #[serde(default = "max_keys")]
    pub max_keys: usize,
}

/// Each key is submitted once, and asked after until it is done. The stream's own request asks after it: `{ticket}` stands for what the submission was answered.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// Where keys come from.
    pub keys: Keys,
    /// The column that receives the key; one of `key`. Left out: the first of `key`.
    #[serde(default)]
    pub key_column: Option<String>,
    /// What is submitted.
    pub submit: Submit,
    /// What an answer says that is the last one: `{path: /status, equals: [done, refused]}`.
    pub done: Rule,
    /// Seconds between two questions after one ticket.
    #[serde(default = "minute_s")]
    pub poll_s: f64,
    /// Seconds after which a ticket that is not done is given up; its key becomes a row at fault.
    #[serde(default = "month_s")]
    pub give_up_s: f64,
    /// Requests of this stream within any 60 seconds.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Requests of this stream of one day.
    #[serde(default)]
    pub per_day: Option<u32>,
    /// Keys that are remembered at most; more stop the stream.
    #[serde(default = "max_keys")]
    pub max_keys: usize,
}

/// What is submitted. `{key}` and `{key.column}` stand for the key, `{submission}` for a word that is the same whenever the same key is submitted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// The request. A header such as `Idempotency-Key: "{submission}"` lets the service see a submission that is made twice.
    pub request: Request,
    /// Where the ticket is in the answer: `/ticket`.
    pub ticket: String,
    /// What the answer of a submission that is accepted says.
    #[serde(default)]
    pub success: Option<Rule>,
}

/// Where keys come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Keys {
    /// A field of the records of a canonical topic of this hub.
    Topic(TopicOfKeys),
    /// A SELECT on a PostgreSQL; its first column is the key, and `{key.column}` stands for the others.
    Sql(SqlKeys),
}

/// A field of the records of a canonical topic.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicOfKeys {
    /// The topic.
    pub name: String,
    /// The field.
    pub field: String,
}

/// A SELECT on a PostgreSQL.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlKeys {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    #[serde(default = "port")]
    pub port: u16,
    /// The database.
    pub database: String,
    /// The account, which needs SELECT alone.
    pub user: String,
    /// Its password.
    #[serde(default)]
    pub password: Secret,
    /// The SELECT. Columns are handed over as text.
    pub query: String,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub tls: SqlTls,
    /// PEM file with the authorities that may sign its certificate. Left out: the public ones.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Seconds between two readings of the list.
    #[serde(default = "minute_s")]
    pub every_s: f64,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SqlTls {
    /// In clear.
    Disable,
    /// Encrypted, with a certificate that is checked.
    #[default]
    VerifyFull,
}

fn minute_s() -> f64 {
    60.0
}
fn day_s() -> f64 {
    86_400.0
}
fn month_s() -> f64 {
    30.0 * 86_400.0
}
fn max_keys() -> usize {
    1_000_000
}
fn port() -> u16 {
    5432
}
