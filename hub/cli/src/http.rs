//! The operators' port: /metrics, /healthz, /readyz and /status.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
use tokio::sync::watch;

use crate::failure::Failure;

/// A start or a snapshot that makes no progress for so long is in trouble.
const STALLED_AFTER_SECONDS: u64 = 60;
/// How long a running hub may take to answer another command.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the port shows.
pub(crate) struct Face {
    /// How far the process is.
    pub(crate) stage: watch::Receiver<Stage>,
    /// Its metrics.
    pub(crate) metrics: Metrics,
    /// How long captured rows may wait for Kafka.
    pub(crate) stalled_after: Duration,
}

/// How far the process is.
#[derive(Clone)]
pub(crate) enum Stage {
    /// Nothing runs yet, and why.
    Starting(String),
    /// The node runs, and what of the process does not.
    Running(Arc<Node>, Option<String>),
}

impl Stage {
    fn node(&self) -> Option<&Node> {
        match self {
            Self::Starting(_) => None,
            Self::Running(node, _) => Some(node),
        }
    }
}

/// Opens the port; the caller serves it.
pub(crate) async fn listen(what: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::unavailable(format!("opening {address} for {what} (another hub may be running)"), error))
}

/// The body of a page of a running hub. Loopback or a plain port: the operators' port has no TLS.
pub(crate) async fn fetch(at: &str, path: &str) -> Result<String, Failure> {
    fetch_within(at, path, ANSWER_WITHIN).await
}

async fn fetch_within(at: &str, path: &str, within: Duration) -> Result<String, Failure> {
    let doing = || format!("asking the hub at {at} (is `hub run` up?)");
    let answer = match tokio::time::timeout(within, exchange(at, path)).await {
        Ok(answer) => answer.map_err(|error| Failure::unavailable(doing(), error))?,
        Err(_) => {
            let why = format!(
                "it takes the connection but does not answer within {} s; look at its log, restart it if it hangs, or name another with --url",
                within.as_secs_f64()
            );
            return Err(Failure::unavailable(doing(), why));
        }
    };
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(Failure::unavailable(doing(), "the answer is no HTTP"));
    };
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("503") => Err(Failure::unavailable(format!("the hub at {at} runs, but is not ready"), body.trim())),
        other => Err(Failure::unavailable(doing(), format!("it answers {} for {path}", other.unwrap_or("nothing")))),
    }
}

async fn exchange(at: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
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
    if let Some(node) = face.stage.borrow().node() {
        node.observe();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], face.metrics.render()).into_response()
}

async fn status(Shared(face): Shared<Arc<Face>>) -> Response {
    match &*face.stage.borrow() {
        Stage::Starting(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        Stage::Running(node, _) => axum::Json(node.status()).into_response(),
    }
}

async fn ready(Shared(face): Shared<Arc<Face>>) -> Response {
    let not_ready: Vec<String> = match &*face.stage.borrow() {
        Stage::Starting(why) => vec![why.clone()],
        Stage::Running(node, trouble) => {
            let unread = node.awaited().into_iter().map(|system| format!("{system}: its record in the connectors topic is not read yet"));
            let systems = node.status().into_iter().flat_map(|status| {
                let parked: Vec<String> = parked(&status).collect();
                why_not_ready(&status, face.stalled_after).into_iter().chain(parked)
            });
            trouble.iter().cloned().chain(unread).chain(systems).collect()
        }
    };
    if not_ready.is_empty() {
        (StatusCode::OK, "ready\n".to_owned()).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, not_ready.join("\n") + "\n").into_response()
    }
}

/// Readiness is progress: a system that has captured rows and does not get them into Kafka is not ready. An idle one is.
fn why_not_ready(status: &SystemStatus, stalled_after: Duration) -> Option<String> {
    let mut why: Vec<String> = status.blocked.iter().map(|why| format!("nothing can be published: {why}")).collect();
    if status.pending_seconds > stalled_after.as_secs_f64() {
        why.push(format!(
            "{} deliveries wait for Kafka, the oldest for {:.0} s, and {} s are allowed: look at the log and at hub_lane_transactions_total",
            status.pending,
            status.pending_seconds,
            stalled_after.as_secs()
        ));
    }
    match status.state {
        State::Snapshot if status.idle_seconds > STALLED_AFTER_SECONDS => {
            why.push(format!("the snapshot has made no progress for {} s", status.idle_seconds));
        }
        State::Paused | State::Removing | State::Following | State::Snapshot => {}
        State::Starting if status.since_seconds < STALLED_AFTER_SECONDS => why.push("starting".to_owned()),
        state @ (State::Starting | State::Retrying | State::Waiting | State::Stopped) => {
            let error = status.error.as_deref().unwrap_or("no error was given");
            why.push(format!("{} for {} s: {error}", state.name(), status.since_seconds));
        }
    }
    (!why.is_empty()).then(|| format!("{}: {}", status.system, why.join("; ")))
}

/// Streams that make no progress while the others of their system do.
fn parked(status: &SystemStatus) -> impl Iterator<Item = String> {
    let parked = status.streams.iter().filter_map(|(name, stream)| Some((name, stream.parked.as_ref()?)));
    parked.map(|(name, why)| format!("{}: stream {name} is parked: {why}", status.system))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn status(state: State, idle_seconds: u64) -> SystemStatus {
        SystemStatus {
            system: "mot-cua".into(),
            state,
            since_seconds: 5,
            since_ms: 0,
            lag_seconds: None,
            pending: 0,
            pending_seconds: 0.0,
            position: None,
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
        let why = |status: &SystemStatus| why_not_ready(status, LIMIT);
        assert_eq!(why(&status(State::Snapshot, 1)), None);
        assert!(why(&status(State::Snapshot, 100)).is_some());
        assert_eq!(why(&status(State::Following, 100)), None, "an idle source is no trouble");
        let blocked = SystemStatus { blocked: Some("no Kafka".into()), ..status(State::Following, 0) };
        assert!(why(&blocked).is_some_and(|why| why.contains("no Kafka")), "what cannot be published is no progress");
        assert!(why(&status(State::Retrying, 0)).is_some_and(|why| why.contains("no route to host")));
    }

    #[test]
    fn work_that_waits_for_longer_than_allowed_is_no_progress_whatever_the_state() {
        for state in [State::Following, State::Snapshot, State::Removing] {
            let waits = |seconds| SystemStatus { pending: 3, pending_seconds: seconds, ..status(state, 0) };
            assert_eq!(why_not_ready(&waits(29.0), LIMIT), None);
            let why = why_not_ready(&waits(31.0), LIMIT).unwrap();
            assert!(why.starts_with("mot-cua: 3 deliveries wait for Kafka, the oldest for 31 s, and 30 s are allowed"), "{why}");
        }
    }

    #[tokio::test]
    async fn a_hub_that_takes_the_connection_and_says_nothing_is_an_error_in_time() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap().to_string();
        let error = fetch_within(&at, "/status", Duration::from_millis(50)).await.unwrap_err();
        let Failure::Unavailable(text) = error else { unreachable!("{error:?}") };
        assert!(text.contains(&at) && text.contains("does not answer") && text.contains("--url"), "{text}");
    }

    #[tokio::test]
    async fn a_process_that_still_waits_is_healthy_not_ready_and_says_for_what() {
        let (_stage, seen) = watch::channel(Stage::Starting("waiting for Kafka at 127.0.0.1:9: no answer yet".to_owned()));
        let face = Face { stage: seen, metrics: Metrics::new().unwrap(), stalled_after: LIMIT };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router(face)).await });
        assert_eq!(fetch(&at, "/healthz").await.unwrap(), "ok\n");
        assert!(fetch(&at, "/metrics").await.unwrap().contains("hub_process_resident_bytes"));
        for page in ["/readyz", "/status"] {
            let Err(Failure::Unavailable(text)) = fetch(&at, page).await else { unreachable!("{page} is not ready") };
            assert!(text.contains("waiting for Kafka at 127.0.0.1:9"), "{text}");
        }
    }
}
