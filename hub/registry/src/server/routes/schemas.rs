//! `/schemas`: all of them, and by id.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};

use super::{Answer, Flags, SchemaText, is_set, shown};
use crate::server::error::ApiError;
use crate::server::registry::{Registered, Registry};
use crate::server::state::Show;

type Answered = Result<axum::response::Response, ApiError>;

pub(super) fn routes() -> Router<Registry> {
    Router::new()
        .route("/schemas", get(list))
        .route("/schemas/types", get(async || Answer(["AVRO"])))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/ids/{id}/schema", get(text_by_id))
        .route("/schemas/ids/{id}/subjects", get(subjects))
        .route("/schemas/ids/{id}/versions", get(versions))
}

async fn list(State(registry): State<Registry>, Query(flags): Query<Flags>) -> impl IntoResponse {
    let (state, show) = (registry.state(), flags.show());
    let prefix = flags.subject_prefix.as_deref().filter(|prefix| *prefix != ":*:").unwrap_or_default();
    let mut schemas: Vec<Value> = Vec::new();
    for subject in state.subjects(prefix, Show::All) {
        let skipped = if is_set(&flags.latest_only) { state.listed(&subject, show).count().saturating_sub(1) } else { 0 };
        for (version, entry) in state.listed(&subject, show).skip(skipped) {
            schemas.push(shown(&Registered { subject: subject.clone(), version, entry: entry.clone() }));
        }
    }
    Answer(flags.page(schemas))
}

/// Reads an id; what is no number has no schema.
fn read_id(text: &str) -> Result<u32, ApiError> {
    text.parse().map_err(|_| ApiError::new(404, "HTTP 404 Not Found"))
}

async fn by_id(State(registry): State<Registry>, Path(id): Path<String>, Query(flags): Query<Flags>) -> Answered {
    let (schema, references) = registry.by_id(read_id(&id)?)?;
    let mut answer = json!({"schema": schema});
    if !references.is_empty() {
        answer["references"] = json!(references);
    }
    if is_set(&flags.fetch_max_id) {
        answer["maxId"] = json!(registry.state().highest_id());
    }
    Ok(Answer(answer).into_response())
}

async fn text_by_id(State(registry): State<Registry>, Path(id): Path<String>) -> Answered {
    Ok(SchemaText(registry.by_id(read_id(&id)?)?.0).into_response())
}

/// Where an id is used; 40403 where nobody has it.
fn uses(registry: &Registry, id: &str, flags: &Flags) -> Result<Vec<(String, u32)>, ApiError> {
    let (id, state) = (read_id(id)?, registry.state());
    state.by_id(id).ok_or_else(|| ApiError::id_not_found(id))?;
    let mut uses = state.uses(id, flags.show());
    if let Some(subject) = &flags.subject {
        uses.retain(|(user, _)| user == subject);
    }
    Ok(uses)
}

async fn subjects(State(registry): State<Registry>, Path(id): Path<String>, Query(flags): Query<Flags>) -> Answered {
    let mut subjects: Vec<String> = uses(&registry, &id, &flags)?.into_iter().map(|(subject, _)| subject).collect();
    subjects.dedup();
    Ok(Answer(flags.page(subjects)).into_response())
}

async fn versions(State(registry): State<Registry>, Path(id): Path<String>, Query(flags): Query<Flags>) -> Answered {
    let uses = uses(&registry, &id, &flags)?.into_iter();
    let versions: Vec<Value> = uses.map(|(subject, version)| json!({"subject": subject, "version": version})).collect();
    Ok(Answer(flags.page(versions)).into_response())
}
