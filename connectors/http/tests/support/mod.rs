//! A fake LGSP: a small HTTP/1.1 server of the tests' own, for no real one can be had where the hub is built.
//!
//! It answers by a function of the test's, and remembers what it was asked.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One request, as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> usize {
        self.query(name).parse().unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// How long the answer takes.
    pub(crate) after: Duration,
    /// The connection ends in the middle of the body.
    pub(crate) breaks: bool,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), after: Duration::ZERO, breaks: false }
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self { body: body.to_string().into_bytes(), ..Self::status(200) }
    }

    pub(crate) fn text(body: impl Into<String>) -> Self {
        Self { body: body.into().into_bytes(), ..Self::status(200) }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Answer = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// A fake LGSP, ended when dropped.
pub(crate) struct FakeLgsp {
    pub(crate) port: u16,
    answer: Answer,
    tls: Option<TlsAcceptor>,
    asked: Arc<watch::Sender<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl FakeLgsp {
    /// Starts on a free port.
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::begin(Arc::new(answer), None).await
    }

    /// The same behind TLS.
    pub(crate) async fn start_tls(tls: TlsAcceptor, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::begin(Arc::new(answer), Some(tls)).await
    }

    async fn begin(answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(watch::Sender::new(Vec::new()));
        let task = tokio::spawn(serve(listener, Arc::clone(&answer), Arc::clone(&asked), tls.clone()));
        Self { port, answer, tls, asked, task }
    }

    /// Ends at once, connections and all.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        let _aborted = (&mut self.task).await;
    }

    /// Starts again on the same port.
    pub(crate) async fn start_again(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.task = tokio::spawn(serve(listener, Arc::clone(&self.answer), Arc::clone(&self.asked), self.tls.clone()));
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https://localhost" } else { "http://127.0.0.1" };
        format!("{scheme}:{}", self.port)
    }

    /// What it was asked so far, on this path.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        self.asked.borrow().iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// Waits until it was asked so often on this path.
    pub(crate) async fn was_asked(&self, path: &str, times: usize) -> Vec<Asked> {
        let mut asked = self.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.iter().filter(|asked| asked.path == path).count() >= times);
        let waited = tokio::time::timeout(PATIENCE, enough).await;
        assert!(waited.is_ok(), "{path} was asked {} times, not {times}", self.asked(path).len());
        drop(waited);
        self.asked(path)
    }
}

impl Drop for FakeLgsp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, answer: Answer, asked: Arc<watch::Sender<Vec<Asked>>>, tls: Option<TlsAcceptor>) {
    // Aborted with the listener, when the set is dropped.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (answer, asked, tls) = (Arc::clone(&answer), Arc::clone(&asked), tls.clone());
        connections.spawn(async move {
            match tls {
                None => talk(stream, &answer, &asked).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        talk(stream, &answer, &asked).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, answer: &Answer, log: &watch::Sender<Vec<Asked>>) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = next(&mut stream).await {
        let reply = answer(&asked);
        log.send_modify(|log| log.push(asked));
        tokio::time::sleep(reply.after).await;
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let cut = if reply.breaks { reply.body.len() / 2 } else { reply.body.len() };
        let sent = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&reply.body[..cut]).await?;
            stream.flush().await
        };
        if sent.await.is_err() || reply.breaks {
            return;
        }
    }
}

async fn next(stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut asked = Asked { method, path: decode(path), query: pairs(query), ..Asked::default() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    asked.body = String::from_utf8(body).unwrap();
    Some(asked)
}

/// Names and values of a query or a form.
pub(crate) fn pairs(query: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (decode(name), decode(value)));
    query.split('&').filter_map(pair).collect()
}

fn decode(text: &str) -> String {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = || u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok();
        match bytes[at] {
            b'%' => {
                decoded.push(hex().unwrap());
                at += 2;
            }
            b'+' => decoded.push(b' '),
            other => decoded.push(other),
        }
        at += 1;
    }
    String::from_utf8(decoded).unwrap()
}

/// A token endpoint in the manner of WSO2: one client, tokens that are numbered, each as long as `ttl_s`.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    given: Mutex<u64>,
    ttl_s: u64,
}

impl Tokens {
    /// Tokens that live so long.
    pub(crate) fn lasting(ttl_s: u64) -> Self {
        Self { given: Mutex::new(0), ttl_s }
    }

    /// Answers `/token`; `None` for a request that carries the last token, and 401 for any other.
    pub(crate) fn guard(&self, asked: &Asked) -> Option<Reply> {
        let mut given = self.given.lock().unwrap();
        if asked.path == "/token" {
            // tinh:bi-mat-079
            let is_right =
                asked.header("authorization") == "Basic dGluaDpiaS1tYXQtMDc5" && asked.body.contains("grant_type=client_credentials");
            if !is_right {
                return Some(Reply { status: 401, ..Reply::json(&json!({"error": "invalid_client"})) });
            }
            *given += 1;
            let token = format!("token-{given}");
            return Some(Reply::json(&json!({
                "access_token": token, "expires_in": self.ttl_s, "token_type": "Bearer", "scope": "am_application_scope default",
            })));
        }
        let carried = asked.header("authorization");
        (carried != format!("Bearer token-{given}")).then(|| Reply { status: 401, ..Reply::json(&json!({"fault": {"code": 900901}})) })
    }

    /// The service forgets the tokens it gave.
    pub(crate) fn revoke(&self) {
        *self.given.lock().unwrap() += 100;
    }
}

/// The login that [`Tokens`] takes.
pub(crate) fn client() -> Value {
    json!({"oauth2": {"client_id": "tinh", "client_secret": "bi-mat-079"}})
}
