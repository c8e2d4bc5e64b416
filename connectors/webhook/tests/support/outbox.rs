//! A sender as real ones are: an outbox that sends each event again until it is answered 200.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A connection that is made when it is needed.
pub(crate) struct Client {
    port: u16,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, connection: None }
    }

    /// Posts once; `None` where there is no answer.
    pub(crate) async fn post(&mut self, path: &str, headers: &[(String, String)], body: &[u8]) -> Option<Answer> {
        self.send("POST", path, headers, body).await
    }

    /// Sends once; `None` where there is no answer.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Option<Answer> {
        if self.connection.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
            tokio::spawn(connection);
            self.connection = Some(sender);
        }
        let sender = self.connection.as_mut()?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        sender.ready().await.ok()?;
        match sender.send_request(request).await {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let body = body.collect().await.ok()?.to_bytes();
                let retry_after = parts.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                Some(Answer { status: parts.status.as_u16(), retry_after, body: String::from_utf8_lossy(&body).into_owned() })
            }
            Err(_) => {
                self.connection = None;
                None
            }
        }
    }
}

/// One event that waits to be sent.
pub(crate) struct Event {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Events of some keys, sent one after the other.
pub(crate) struct Outbox {
    events: Arc<(Mutex<VecDeque<Event>>, Notify)>,
    task: JoinHandle<()>,
}

impl Outbox {
    /// Sends to a path of a port.
    pub(crate) fn to(port: u16, path: &'static str) -> Self {
        let events = Arc::new((Mutex::new(VecDeque::<Event>::new()), Notify::new()));
        let waiting = Arc::clone(&events);
        let task = tokio::spawn(async move {
            let mut client = Client::new(port);
            loop {
                let event = waiting.0.lock().unwrap().pop_front();
                let Some(event) = event else {
                    waiting.1.notified().await;
                    continue;
                };
                loop {
                    match client.post(path, &event.headers, &event.body).await {
                        Some(answer) if answer.status == StatusCode::OK.as_u16() => break,
                        Some(answer) => assert!(matches!(answer.status, 429 | 503), "a good event is never refused: {answer:?}"),
                        None => {}
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        Self { events, task }
    }

    /// Puts an event in.
    pub(crate) fn put(&self, event: Event) {
        self.events.0.lock().unwrap().push_back(event);
        self.events.1.notify_one();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}
