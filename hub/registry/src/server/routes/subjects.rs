//! `/subjects`: register, find, list and delete.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::json;

use super::{Answer, Flags, SchemaText, is_set, read_offer, shown};
use crate::server::decide;
use crate::server::error::ApiError;
use crate::server::registry::{Registered, Registry, Which};
use crate::server::state::Show;

type Answered = Result<axum::response::Response, ApiError>;

pub(super) fn routes() -> Router<Registry> {
    Router::new()
        .route("/subjects", get(list))
        .route("/subjects/{subject}", post(lookup).delete(delete_subject))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version).delete(delete_version))
        .route("/subjects/{subject}/versions/{version}/schema", get(schema))
        .route("/subjects/{subject}/versions/{version}/referencedby", get(referenced_by))
}

async fn list(State(registry): State<Registry>, Query(flags): Query<Flags>) -> impl IntoResponse {
    // Clients send `:*:` for every subject of every context; there is one context here.
    let prefix = flags.subject_prefix.as_deref().filter(|prefix| *prefix != ":*:").unwrap_or_default();
    Answer(flags.page(registry.state().subjects(prefix, flags.show())))
}

async fn register(State(registry): State<Registry>, Path(subject): Path<String>, Query(flags): Query<Flags>, body: Bytes) -> Answered {
    let offer = read_offer(&body)?;
    let id = registry.register(&subject, &offer, flags.normalize()).await?;
    Ok(Answer(json!({"id": id})).into_response())
}

async fn lookup(State(registry): State<Registry>, Path(subject): Path<String>, Query(flags): Query<Flags>, body: Bytes) -> Answered {
    let offer = read_offer(&body)?;
    let found = registry.lookup(&subject, &offer, flags.normalize(), is_set(&flags.deleted))?;
    Ok(Answer(shown(&found)).into_response())
}

async fn versions(State(registry): State<Registry>, Path(subject): Path<String>, Query(flags): Query<Flags>) -> Answered {
    let (state, show) = (registry.state(), flags.show());
    let exists = if show == Show::Live { Show::Live } else { Show::All };
    if !state.has_subject(&subject, exists) {
        return Err(ApiError::subject_not_found(&subject));
    }
    Ok(Answer(flags.page(state.versions(&subject, show))).into_response())
}

fn found(registry: &Registry, subject: &str, version: &str, flags: &Flags) -> Result<Registered, ApiError> {
    registry.version(subject, version.parse()?, is_set(&flags.deleted))
}

async fn version(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(flags): Query<Flags>,
) -> Answered {
    Ok(Answer(shown(&found(&registry, &subject, &version, &flags)?)).into_response())
}

async fn schema(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(flags): Query<Flags>,
) -> Answered {
    Ok(SchemaText(found(&registry, &subject, &version, &flags)?.entry.schema).into_response())
}

async fn referenced_by(State(registry): State<Registry>, Path((subject, version)): Path<(String, String)>) -> Answered {
    let found = registry.version(&subject, version.parse()?, true)?;
    let mut ids: Vec<u32> = registry.state().referrers(&subject, found.version, Show::Live).into_iter().map(|(_, _, id)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(Answer(ids).into_response())
}

async fn delete_version(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(flags): Query<Flags>,
) -> Answered {
    let which: Which = version.parse()?;
    let permanent = is_set(&flags.permanent);
    let deleted = registry.write("deleting a version", |state| {
        let number = match which {
            Which::Number(number) => number,
            Which::Latest => match state.latest(&subject) {
                Some((number, _)) => number,
                None if state.has_subject(&subject, Show::All) => return Err(ApiError::version_not_found(-1)),
                None => return Err(ApiError::subject_not_found(&subject)),
            },
        };
        decide::delete_version(state, &subject, number, permanent)
    });
    Ok(Answer(deleted.await?).into_response())
}

async fn delete_subject(State(registry): State<Registry>, Path(subject): Path<String>, Query(flags): Query<Flags>) -> Answered {
    let permanent = is_set(&flags.permanent);
    let deleted = registry.write("deleting a subject", |state| decide::delete_subject(state, &subject, permanent)).await?;
    Ok(Answer(deleted).into_response())
}
