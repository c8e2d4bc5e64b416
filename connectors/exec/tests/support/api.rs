//! A made-up REST API: pages of rows behind a token, filtered by `since`.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Token that it wants.
pub(crate) const TOKEN: &str = "bi-mat-cua-api";

/// Its rows, and what it was asked.
#[derive(Clone)]
pub(crate) struct FakeApi {
    pub(crate) port: u16,
    pub(crate) rows: Arc<Mutex<Vec<Value>>>,
    /// The `since` of each first page.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self { port: listener.local_addr().unwrap().port(), rows: Arc::default(), asked: Arc::default() };
        let serving = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        api
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let request = String::from_utf8(request).unwrap();
        let query = request.split_whitespace().nth(1).and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
        let given =
            |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).map(|value| value.replace("%3A", ":"));
        let (since, page) = (given("since").unwrap_or_default(), given("page").and_then(|page| page.parse().ok()).unwrap_or(1_usize));
        let is_allowed = request.to_lowercase().contains(&format!("authorization: bearer {TOKEN}"));
        let rows = self.rows.lock().unwrap().clone();
        let wanted: Vec<_> =
            rows.into_iter().filter(|row| row["sua"].as_str().unwrap() >= since.as_str()).skip((page - 1) * 2).take(2).collect();
        if page == 1 {
            self.asked.lock().unwrap().push(since);
        }
        // It shows rows even to those whom it refuses: an error must not.
        let (status, body) = (if is_allowed { "200 OK" } else { "401 Unauthorized" }, json!({"data": wanted}).to_string());
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let _sent = stream.write_all(format!("{head}{body}").as_bytes()).await;
    }
}
