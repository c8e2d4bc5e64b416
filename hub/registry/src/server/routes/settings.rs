//! `/config` and `/mode`: the compatibility level and the mode, of all subjects and of each.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Flags, is_set, read_body};
use crate::compat::Level;
use crate::server::decide;
use crate::server::error::ApiError;
use crate::server::registry::{Registry, check_subject};
use crate::server::state::Mode;

type Answered = Result<axum::response::Response, ApiError>;

pub(super) fn routes() -> Router<Registry> {
    Router::new()
        .route("/config", get(level).put(set_level).delete(delete_level))
        .route("/config/{subject}", get(subject_level).put(set_subject_level).delete(delete_subject_level))
        .route("/mode", get(mode).put(set_mode).delete(delete_mode))
        .route("/mode/{subject}", get(subject_mode).put(set_subject_mode).delete(delete_subject_mode))
}

async fn level(State(registry): State<Registry>) -> impl IntoResponse {
    show_level(registry.state().level(None).unwrap_or(Level::Backward))
}

async fn subject_level(State(registry): State<Registry>, Path(subject): Path<String>, Query(flags): Query<Flags>) -> Answered {
    let state = registry.state();
    let own = state.level(Some(&subject));
    let level = own.or_else(|| is_set(&flags.default_to_global).then(|| state.level_in_force(&subject)));
    Ok(show_level(level.ok_or_else(|| ApiError::level_not_configured(&subject))?).into_response())
}

async fn set_level(State(registry): State<Registry>, body: Bytes) -> Answered {
    put_level(&registry, None, &body).await
}

async fn set_subject_level(State(registry): State<Registry>, Path(subject): Path<String>, body: Bytes) -> Answered {
    check_subject(&subject)?;
    put_level(&registry, Some(&subject), &body).await
}

async fn put_level(registry: &Registry, subject: Option<&str>, body: &Bytes) -> Answered {
    #[derive(Deserialize)]
    struct Wanted {
        #[serde(default)]
        compatibility: Option<String>,
    }
    let wanted: Wanted = read_body(body)?;
    let level: Level = wanted.compatibility.unwrap_or_default().parse()?;
    registry.write("setting a compatibility level", |state| decide::set_level(state, subject, level)).await?;
    Ok(Answer(json!({"compatibility": level.as_str()})).into_response())
}

async fn delete_level(State(registry): State<Registry>) -> Answered {
    drop_level(&registry, None).await
}

async fn delete_subject_level(State(registry): State<Registry>, Path(subject): Path<String>) -> Answered {
    drop_level(&registry, Some(&subject)).await
}

async fn drop_level(registry: &Registry, subject: Option<&str>) -> Answered {
    let level = registry.write("deleting a compatibility level", |state| decide::delete_level(state, subject)).await?;
    Ok(show_level(level).into_response())
}

fn show_level(level: Level) -> impl IntoResponse {
    Answer(json!({"compatibilityLevel": level.as_str()}))
}

async fn mode(State(registry): State<Registry>) -> impl IntoResponse {
    show_mode(registry.state().mode_in_force(None))
}

async fn subject_mode(State(registry): State<Registry>, Path(subject): Path<String>, Query(flags): Query<Flags>) -> Answered {
    let state = registry.state();
    let own = state.mode(Some(&subject));
    let mode = own.or_else(|| is_set(&flags.default_to_global).then(|| state.mode_in_force(Some(&subject))));
    Ok(show_mode(mode.ok_or_else(|| ApiError::mode_not_configured(&subject))?).into_response())
}

async fn set_mode(State(registry): State<Registry>, Query(flags): Query<Flags>, body: Bytes) -> Answered {
    put_mode(&registry, None, &flags, &body).await
}

async fn set_subject_mode(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Answered {
    check_subject(&subject)?;
    put_mode(&registry, Some(&subject), &flags, &body).await
}

async fn put_mode(registry: &Registry, subject: Option<&str>, flags: &Flags, body: &Bytes) -> Answered {
    #[derive(Deserialize)]
    struct Wanted {
        #[serde(default)]
        mode: Option<String>,
    }
    let wanted: Wanted = read_body(body)?;
    let mode: Mode = wanted.mode.unwrap_or_default().parse()?;
    registry.write("setting a mode", |state| decide::set_mode(state, subject, mode, is_set(&flags.force))).await?;
    Ok(show_mode(mode).into_response())
}

async fn delete_mode(State(registry): State<Registry>) -> Answered {
    drop_mode(&registry, None).await
}

async fn delete_subject_mode(State(registry): State<Registry>, Path(subject): Path<String>) -> Answered {
    drop_mode(&registry, Some(&subject)).await
}

async fn drop_mode(registry: &Registry, subject: Option<&str>) -> Answered {
    let mode = registry.write("deleting a mode", |state| decide::delete_mode(state, subject)).await?;
    Ok(show_mode(mode).into_response())
}

fn show_mode(mode: Mode) -> impl IntoResponse {
    Answer(json!({"mode": mode.as_str()}))
}
