//! What the tests share: topics of their own, a served registry, and plain HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub_registry::{Password, Registry};
use rdkafka::ClientConfig;
use reqwest::Method;
use serde_json::{Value, json};

/// The Kafka of the tests; fails where it cannot be reached.
pub fn kafka() -> ClientConfig {
    let brokers = std::env::var("HUB_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:19092".to_owned());
    let reached = brokers
        .split(',')
        .filter_map(|broker| std::net::ToSocketAddrs::to_socket_addrs(broker).ok())
        .flatten()
        .any(|address| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok());
    assert!(reached, "no Kafka at {brokers}: run `make up`, or set HUB_TEST_KAFKA to one that is running");
    at(&brokers)
}

pub fn at(brokers: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    client
}

/// A name that no other test and no earlier run has.
pub fn fresh(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!("test-registry-{what}-{now}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub async fn start(topic: &str) -> Registry {
    Registry::start(kafka(), topic, 1).await.unwrap()
}

/// A registry behind HTTP.
pub struct Served {
    pub registry: Registry,
    pub url: String,
    client: reqwest::Client,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    pub async fn fresh(what: &str) -> Self {
        Self::on(&fresh(what)).await
    }

    pub async fn on(topic: &str) -> Self {
        let registry = start(topic).await;
        let router = registry.router();
        Self::serve(registry, router).await
    }

    pub async fn behind_login(what: &str, user: &str, password: &str) -> Self {
        let registry = start(&fresh(what)).await;
        let router = registry.router_for(user, &Password::new(password));
        Self::serve(registry, router).await
    }

    pub async fn serve(registry: Registry, router: axum::Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { registry, url, client: plain_client(), task }
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.header("Content-Type", "application/vnd.schemaregistry.v1+json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/vnd.schemaregistry.v1+json", "{path}");
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{path}: {body:?}")))
    }

    /// A request that must succeed.
    pub async fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ok(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.ok(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Value {
        self.ok(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Value {
        self.ok(Method::DELETE, path, None).await
    }

    pub async fn register(&self, subject: &str, schema: &str) -> Value {
        self.post(&format!("/subjects/{subject}/versions"), json!({"schema": schema})).await
    }

    /// A request that must fail; its HTTP status and error code.
    pub async fn refused(&self, method: Method, path: &str, body: Option<Value>) -> (u16, i64, String) {
        let (status, answer) = self.call(method, path, body).await;
        let code = answer["error_code"].as_i64().unwrap_or_else(|| panic!("{path} was not refused: {answer}"));
        (status, code, answer["message"].as_str().unwrap().to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// reqwest asks for a crypto provider even where it never speaks TLS.
fn plain_client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}

/// A record with these fields, each `name:type` or `name:type=default`.
pub fn record(name: &str, fields: &[&str]) -> String {
    let field = |text: &&str| {
        let (head, default) = text.split_once('=').map_or((*text, None), |(head, default)| (head, Some(default)));
        let (name, kind) = head.split_once(':').unwrap();
        let mut field = json!({"name": name, "type": kind});
        if let Some(default) = default {
            field["default"] = serde_json::from_str(default).unwrap();
        }
        field
    };
    json!({"type": "record", "name": name, "fields": fields.iter().map(field).collect::<Vec<_>>()}).to_string()
}
