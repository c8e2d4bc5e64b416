//! Posts signed events at a fixed rate and prints how long the answers took, from the time at which each was due.
//!
//! `cargo run -p hub-connector-webhook --example load_webhook -- RATE SECONDS CONNECTIONS [HOST:PORT/PATH SECRET]`
//! Without an address it starts a webhook of its own whose deliveries are durable after 5 ms; `-- serve PORT` does that alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a tool for whoever measures")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hub_connector_webhook::Webhook;
use hub_sdk::model::{Checkpoint, StreamName, SystemName};
use hub_sdk::{Budget, Connector, OpenContext, StreamRequest, outlet};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
const PATH: &str = "/nhan/tien-do";

/// Where to, and with what.
struct Target {
    address: String,
    path: String,
    secret: String,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "serve") {
        let port = arguments.get(1).and_then(|text| text.parse().ok()).expect("a port");
        own(port).await;
        return std::future::pending().await;
    }
    let number = |place: usize, usual: f64| arguments.get(place).map_or(usual, |text| text.parse().expect("a number"));
    let (rate, seconds, connections) = (number(0, 2_000.0), number(1, 10.0), number(2, 64.0));
    let target = match arguments.get(3) {
        Some(place) => {
            let (address, path) = place.split_once('/').expect("HOST:PORT/PATH");
            let secret = arguments.get(4).expect("the secret").clone();
            Target { address: address.to_owned(), path: format!("/{path}"), secret }
        }
        None => own(free_port()).await,
    };
    let target = Arc::new(target);
    let (began, count) = (Instant::now() + Duration::from_millis(200), (rate * seconds) as u64);
    let lanes = connections as u64;
    let run = std::process::id();
    let tasks: Vec<_> = (0..lanes)
        .map(|lane| {
            let target = Arc::clone(&target);
            tokio::spawn(async move { lane_of(&target, (lane, lanes, count), (began, rate), run).await })
        })
        .collect();
    let mut took = Vec::new();
    let mut answers: BTreeMap<u16, u64> = BTreeMap::new();
    for task in tasks {
        for (status, time) in task.await.expect("a lane ends well") {
            *answers.entry(status).or_default() += 1;
            took.push(time);
        }
    }
    let whole = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at =
        |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len() - 1)).expect("there were requests").as_secs_f64() * 1e3;
    println!("asked for {rate} a second on {lanes} connections; {:.0} a second were answered: {answers:?}", took.len() as f64 / whole);
    println!(
        "milliseconds from when each was due: p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, most {:.1}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Every `lanes`th request, each at its time or as soon as the one before is answered.
async fn lane_of(target: &Target, (lane, lanes, count): (u64, u64, u64), (began, rate): (Instant, f64), run: u32) -> Vec<(u16, Duration)> {
    let stream = TcpStream::connect(&target.address).await.expect("somebody listens");
    stream.set_nodelay(true).expect("a socket");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let key = Hmac::<Sha256>::new_from_slice(target.secret.as_bytes()).expect("any length fits");
    let mut told = Vec::new();
    for number in (lane..count).step_by(lanes as usize) {
        let body = json!({
            "ma_ho_so": format!("H09.15-260101-{number:07}"), "hanh_dong": "tao", "trang_thai": "Đã tiếp nhận", "co_quan": "000.00.15.H09",
            "nguoi_nop": "Nguyễn Thị Ánh", "thoi_diem": "2026-01-01T08:00:00+07:00", "buoc": 1, "ghi_chu": null,
        });
        let body = Bytes::from(body.to_string());
        let mut mac = key.clone();
        mac.update(&body);
        let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let due = began + Duration::from_secs_f64(number as f64 / rate);
        sleep_until(due).await;
        let request = Request::post(&target.path)
            .header("Host", "hub")
            .header("Idempotency-Key", format!("{run}-{number}"))
            .header("X-Hub-Signature-256", format!("sha256={signature}"))
            .body(Full::new(body))
            .expect("a request");
        sender.ready().await.expect("the connection stays");
        let answer = sender.send_request(request).await.expect("an answer");
        let status = answer.status().as_u16();
        answer.into_body().collect().await.expect("a body");
        told.push((status, due.elapsed()));
    }
    told
}

/// A webhook in this process, acknowledged as a quick Kafka would.
async fn own(port: u16) -> Target {
    let config = json!({
        "listen": format!("127.0.0.1:{port}"),
        "streams": {"tien_do": {
            "path": PATH, "auth": {"hmac": {"secret": SECRET}}, "key": ["ma_ho_so"], "op": {"field": "hanh_dong", "create": ["tao"]},
            "idempotency": {"header": "Idempotency-Key"},
        }},
    });
    let stream = StreamRequest { stream: StreamName::new("tien_do").expect("a name"), columns: Vec::new() };
    let context = OpenContext::new(SystemName::new("load").expect("a name"), vec![stream]);
    let config = serde_json::from_value(config).expect("a configuration");
    let connector = Arc::new(Webhook::open(config, context).await.unwrap_or_else(|error| panic!("{}", error.report())));
    let (out, mut deliveries) = outlet(Budget::new(64 << 20), 8);
    let capturing = Arc::clone(&connector);
    tokio::spawn(async move { capturing.capture(Checkpoint::empty(), out).await });
    deliveries.recv().await.expect("it listens");
    tokio::spawn(async move {
        let (mut count, mut rows) = (0_u64, 0);
        while let Some((delivery, permit)) = deliveries.recv().await {
            count += 1;
            rows += delivery.batches.iter().map(hub_sdk::model::ChangeBatch::len).sum::<usize>();
            if count.is_multiple_of(1_000) {
                println!("{rows} rows in {count} deliveries");
            }
            let connector = Arc::clone(&connector);
            // Commits overlap, as those of two producers do.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                connector.acknowledge(&delivery.checkpoint);
                drop(permit);
            });
        }
    });
    Target { address: format!("127.0.0.1:{port}"), path: PATH.to_owned(), secret: SECRET.to_owned() }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port()
}
