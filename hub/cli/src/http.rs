//! The operators' port: /metrics, /healthz, /readyz and /status.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hub_engine::Node;
use hub_engine::status::{State, SystemStatus};
use hub_telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::Failure;

/// A system that has work and makes no progress for so long is not ready.
const STALLED_AFTER_SECONDS: u64 = 60;

/// What the port shows.
pub(crate) struct Face {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// Its metrics.
    pub(crate) metrics: Metrics,
}

/// Opens the port; the caller serves it.
pub(crate) async fn listen(what: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::unavailable(format!("opening {address} for {what} (another hub may be running)"), error))
}

/// The body of a page of a running hub. Loopback or a plain port: the operators' port has no TLS.
pub(crate) async fn fetch(at: &str, path: &str) -> Result<String, Failure> {
    let doing = || format!("asking the hub at {at} (is `hub run` up?)");
    let mut stream = TcpStream::connect(at).await.map_err(|error| Failure::unavailable(doing(), error))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| Failure::unavailable(doing(), error))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| Failure::unavailable(doing(), error))?;
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(Failure::unavailable(doing(), "the answer is no HTTP")),
    }
}

/// The routes.
pub(crate) fn router(face: Face) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(Arc::new(face))
}

async fn metrics(Shared(face): Shared<Arc<Face>>) -> Response {
    let (used, limit) = face.node.queued_bytes();
    face.metrics.set_queue_bytes(used, limit);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], face.metrics.render()).into_response()
}

async fn status(Shared(face): Shared<Arc<Face>>) -> Response {
    axum::Json(face.node.status()).into_response()
}

async fn ready(Shared(face): Shared<Arc<Face>>) -> Response {
    let not_ready: Vec<String> = face.node.status().iter().filter_map(why_not_ready).collect();
    if not_ready.is_empty() {
        (StatusCode::OK, "ready\n".to_owned()).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, not_ready.join("\n") + "\n").into_response()
    }
}

/// Readiness is progress: a system that runs but has captured rows it cannot get into Kafka is not ready.
fn why_not_ready(status: &SystemStatus) -> Option<String> {
    if let Some(why) = &status.blocked {
        return Some(format!("{}: nothing can be published: {why}", status.system));
    }
    match status.state {
        State::Paused | State::Removing => None,
        State::Snapshot if status.idle_seconds > STALLED_AFTER_SECONDS => {
            Some(format!("{}: the snapshot has made no progress for {} s", status.system, status.idle_seconds))
        }
        State::Following | State::Snapshot => None,
        State::Starting if status.since_seconds < STALLED_AFTER_SECONDS => Some(format!("{}: starting", status.system)),
        state => Some(format!(
            "{}: {} for {} s: {}",
            status.system,
            state.name(),
            status.since_seconds,
            status.error.as_deref().unwrap_or("no error was given")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, idle_seconds: u64) -> SystemStatus {
        SystemStatus {
            system: "mot-cua".into(),
            state,
            since_seconds: 5,
            lag_seconds: None,
            rate: 0.0,
            error: Some("no route to host".into()),
            blocked: None,
            idle_seconds,
            streams: Default::default(),
            snapshot: Vec::new(),
        }
    }

    #[test]
    fn a_running_snapshot_without_progress_is_not_ready() {
        assert_eq!(why_not_ready(&status(State::Snapshot, 1)), None);
        assert!(why_not_ready(&status(State::Snapshot, 100)).is_some());
        assert_eq!(why_not_ready(&status(State::Following, 100)), None, "an idle source is no trouble");
        let blocked = SystemStatus { blocked: Some("no Kafka".into()), ..status(State::Following, 0) };
        assert!(why_not_ready(&blocked).is_some_and(|why| why.contains("no Kafka")), "what cannot be published is no progress");
        assert!(why_not_ready(&status(State::Retrying, 0)).is_some_and(|why| why.contains("no route to host")));
    }
}
