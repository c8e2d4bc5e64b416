//! `/compatibility`: would this schema fit?

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::json;

use super::{Answer, Flags, is_set, read_offer};
use crate::server::error::ApiError;
use crate::server::registry::{Registry, Which};

type Answered = Result<axum::response::Response, ApiError>;

pub(super) fn routes() -> Router<Registry> {
    Router::new()
        .route("/compatibility/subjects/{subject}/versions", post(with_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(with_one))
}

/// Against as many versions as the subject's level asks for.
async fn with_all(State(registry): State<Registry>, Path(subject): Path<String>, Query(flags): Query<Flags>, body: Bytes) -> Answered {
    check(&registry, &subject, None, &flags, &body)
}

async fn with_one(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Answered {
    check(&registry, &subject, Some(version.parse()?), &flags, &body)
}

fn check(registry: &Registry, subject: &str, against: Option<Which>, flags: &Flags, body: &Bytes) -> Answered {
    let messages = registry.check(subject, &read_offer(body)?, against)?;
    let mut answer = json!({"is_compatible": messages.is_empty()});
    if is_set(&flags.verbose) {
        answer["messages"] = json!(messages);
    }
    Ok(Answer(answer).into_response())
}
