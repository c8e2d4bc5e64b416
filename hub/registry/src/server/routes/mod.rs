//! The registry's HTTP interface: Confluent's paths, bodies, error codes and content type.

mod compatibility;
mod login;
mod schemas;
mod settings;
mod subjects;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::ApiError;
use super::registry::{Offer, Registered, Registry};
use crate::Password;

/// The content type of every answer.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Larger requests are refused; the largest schema in the wild is far below.
const MAX_BODY: usize = 4 << 20;

impl Registry {
    /// The HTTP interface, for anyone who reaches it.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(async || Answer(json!({}))))
            .route("/v1/metadata/id", get(metadata))
            .route("/v1/metadata/version", get(async || Answer(json!({"version": env!("CARGO_PKG_VERSION"), "commitId": ""}))))
            .route("/contexts", get(async || Answer(["."])))
            .merge(subjects::routes())
            .merge(schemas::routes())
            .merge(settings::routes())
            .merge(compatibility::routes())
            .fallback(async || ApiError::new(404, "HTTP 404 Not Found"))
            .method_not_allowed_fallback(async || ApiError::new(405, "HTTP 405 Method Not Allowed"))
            .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
            .with_state(self.clone())
    }

    /// The HTTP interface, for those who give this user and password (HTTP basic authentication).
    pub fn router_for(&self, user: &str, password: &Password) -> Router {
        login::required(self.router(), user, password)
    }
}

async fn metadata(State(registry): State<Registry>) -> impl IntoResponse {
    let clusters = json!({"kafka-cluster": registry.cluster(), "schema-registry-cluster": "schema-registry"});
    Answer(json!({"scope": {"path": [], "clusters": clusters}}))
}

/// A result as JSON in the registry's content type.
struct Answer<T>(T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], Json(self.0)).into_response().typed()
    }
}

/// A schema's own text, which is JSON already.
struct SchemaText(String);

impl IntoResponse for SchemaText {
    fn into_response(self) -> Response {
        self.0.into_response().typed()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.body())).into_response().typed()
    }
}

/// Sets the registry's content type over the one that the body's kind brings.
trait Typed {
    fn typed(self) -> Self;
}

impl Typed for Response {
    fn typed(mut self) -> Self {
        self.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
        self
    }
}

/// Reads a request's body, whatever content type it claims; clients send several.
fn read_body<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    if body.is_empty() {
        return Err(ApiError::new(422, "The request has no body; send JSON"));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::new(400, format!("The request's body is not understood: {error}")))
}

/// Reads an offered schema.
fn read_offer(body: &Bytes) -> Result<Offer, ApiError> {
    let body: Value = read_body(body)?;
    for (key, what) in [("ruleSet", "rule sets"), ("metadata", "metadata")] {
        if body.get(key).is_some_and(|value| !value.is_null()) {
            let code = if key == "ruleSet" { 42210 } else { 42201 };
            return Err(ApiError::new(code, format!("This registry keeps no {what}; leave \"{key}\" away")));
        }
    }
    let references = body.get("references").cloned().filter(|value| !value.is_null()).unwrap_or_else(|| json!([]));
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    let references = serde_json::from_value(references);
    Ok(Offer {
        schema: text("schema").unwrap_or_default(),
        schema_type: text("schemaType"),
        references: references.map_err(|error| ApiError::new(400, format!("\"references\" is not understood: {error}")))?,
        id: body.get("id").and_then(Value::as_i64),
        version: body.get("version").and_then(Value::as_i64),
    })
}

/// The parts of a query that are flags: absent is false, and so is anything but `true`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Flags {
    deleted: String,
    deleted_only: String,
    default_to_global: String,
    force: String,
    latest_only: String,
    normalize: String,
    permanent: String,
    verbose: String,
    fetch_max_id: String,
    subject_prefix: Option<String>,
    subject: Option<String>,
    offset: Option<String>,
    limit: Option<String>,
}

fn is_set(flag: &str) -> bool {
    flag.eq_ignore_ascii_case("true")
}

impl Flags {
    fn show(&self) -> super::state::Show {
        use super::state::Show;
        if is_set(&self.deleted_only) {
            Show::DeletedOnly
        } else if is_set(&self.deleted) {
            Show::All
        } else {
            Show::Live
        }
    }

    fn normalize(&self) -> super::registry::Normalize {
        use super::registry::Normalize;
        if is_set(&self.normalize) { Normalize::Yes } else { Normalize::No }
    }

    /// The part of a list that `offset` and `limit` ask for; as with Confluent's, a limit below 1 is none.
    fn page<T>(&self, list: impl IntoIterator<Item = T>) -> Vec<T> {
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<usize>().ok());
        let limit = number(&self.limit).filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        list.into_iter().skip(number(&self.offset).unwrap_or(0)).take(limit).collect()
    }
}

/// A version as answers show it. AVRO, being the default, is not named; nor are references where there are none.
fn shown(found: &Registered) -> Value {
    let Registered { subject, version, entry } = found;
    let mut shown = json!({"subject": subject, "version": version, "id": entry.id});
    if !entry.references.is_empty() {
        shown["references"] = json!(entry.references);
    }
    shown["schema"] = json!(entry.schema);
    if entry.deleted {
        shown["deleted"] = json!(true);
    }
    shown
}
