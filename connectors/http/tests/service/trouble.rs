//! Services that are slow, busy, broken or gone; and how often they are asked.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hub_sdk::model::{Checkpoint, StreamName};
use hub_sdk::{Connector, ErrorKind};
use serde_json::{Value, json};

use crate::reader::{Reader, config, failure, open};
use crate::support::{FakeLgsp, Reply};

fn stream() -> Value {
    json!({"a": {"path": "/ds", "key": ["id"]}})
}

fn list() -> Reply {
    Reply::json(&json!([{"id": 1}]))
}

/// Answers in their order, the last one again and again.
async fn answering(replies: Vec<Reply>) -> FakeLgsp {
    let replies = Arc::new(Mutex::new(replies));
    FakeLgsp::start(move |_| {
        let mut replies = replies.lock().unwrap();
        if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() }
    })
    .await
}

#[tokio::test]
async fn a_busy_service_is_asked_when_it_says_so() {
    let server = answering(vec![Reply::status(429).with("Retry-After", "1"), Reply::status(503).with("Retry-After", "1"), list()]).await;
    let began = Instant::now();
    let mut reader = Reader::start(&open(&config(&server, json!({"streams": stream()}))).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r id=1"]);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_service_that_stays_busy_is_throttled_and_one_that_stays_broken_is_unreachable() {
    for (status, kind, attempts) in [
        (429, ErrorKind::Throttled, 3),
        (500, ErrorKind::Unreachable, 3),
        (502, ErrorKind::Unreachable, 3),
        (408, ErrorKind::Unreachable, 3),
        (403, ErrorKind::Denied, 1),
        (401, ErrorKind::Denied, 1),
        (400, ErrorKind::StreamBroken, 1),
        (501, ErrorKind::StreamBroken, 1),
    ] {
        let server = answering(vec![Reply::status(status)]).await;
        let error = failure(&open(&config(&server, json!({"streams": stream()}))).await, &Checkpoint::empty()).await;
        assert_eq!((error.kind(), server.asked("/ds").len()), (kind, attempts), "{status}: {}", error.report());
        assert!(error.report().contains(&status.to_string()), "{}", error.report());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_takes_too_long_is_asked_for_again() {
    let server = answering(vec![Reply { breaks: true, ..list() }, Reply { after: Duration::from_secs(5), ..list() }, list()]).await;
    let mut reader = Reader::start(&open(&config(&server, json!({"timeout_s": 0.3, "streams": stream()}))).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r id=1"]);
    assert!(server.asked("/ds").len() >= 3);
    let slow = answering(vec![Reply { after: Duration::from_secs(5), ..list() }]).await;
    let error = failure(&open(&config(&slow, json!({"timeout_s": 0.1, "streams": stream()}))).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.report().contains("no answer within 0.1 seconds"), "{}", error.report());
}

#[tokio::test]
async fn a_slow_answer_is_no_trouble_and_a_shut_outlet_does_not_wait_for_it() {
    let server = answering(vec![Reply { after: Duration::from_secs(3), ..list() }]).await;
    let connector = open(&config(&server, json!({"streams": stream()}))).await;
    let mut reader = Reader::start(&connector, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r id=1"]);
    let run = hub_conformance::Run::start(&connector, &Checkpoint::empty());
    server.was_asked("/ds", 2).await;
    run.shut_within(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_service_that_fails_again_and_again_is_left_alone_until_one_request_finds_it_back() {
    let server = answering(vec![Reply::status(502), Reply::status(502), Reply::status(502), list()]).await;
    let more = json!({"streams": stream(), "breaker": {"failures": 3, "rest_s": 1.0}});
    let config = config(&server, more);
    let connector = open(&config).await;
    failure(&connector, &Checkpoint::empty()).await;
    assert_eq!(server.asked("/ds").len(), 3);
    let breaker = |gauges: Vec<hub_sdk::SourceGauge>| gauges.iter().find(|gauge| gauge.name == "breaker_open").unwrap().value;
    assert_eq!(breaker(connector.gauges().await.unwrap()), 1.0);
    // A new run is of the same service.
    let error = failure(&open(&config).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.report().contains("left alone") && error.report().contains("answered 502"), "{}", error.report());
    assert_eq!(server.asked("/ds").len(), 3, "nothing is asked while it rests");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let mut reader = Reader::start(&connector, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r id=1"]);
    assert_eq!(breaker(connector.gauges().await.unwrap()), 0.0);
}

#[tokio::test]
async fn the_requests_of_a_day_are_remembered_over_a_restart() {
    let server = answering(vec![list()]).await;
    let config = config(&server, json!({"rate": {"per_day": 5}, "streams": stream()}));
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    reader.first_look().await;
    server.was_asked("/ds", 5).await;
    let counted = |checkpoint: &Checkpoint| checkpoint.get("asked-today/a").map(|counted| counted["used"].clone());
    while counted(&reader.checkpoint) != Some(json!(5)) {
        reader.next().await;
    }
    let checkpoint = reader.kill().await;
    // Another process knows nothing but the checkpoint: here, a service of another name.
    let mut other = config.clone();
    other["base_url"] = json!(format!("http://localhost:{}", server.port));
    let run = hub_conformance::Run::start(&open(&other).await, &checkpoint);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.asked("/ds").len(), 5, "the day's budget is used up");
    run.shut_within(Duration::from_secs(1)).await;
    let mut yesterday = checkpoint;
    yesterday.set("asked-today/a", json!({"day": 1, "used": 5}));
    other["base_url"] = json!(format!("http://127.0.0.2:{}", server.port));
    let reader = open(&other).await;
    assert_eq!(reader.gauges().await.unwrap().iter().find(|gauge| gauge.name == "requests_today").unwrap().value, 0.0);
}

#[tokio::test]
async fn no_more_is_asked_at_once_than_it_may() {
    let now = Arc::new(Mutex::new((0u32, 0u32)));
    let counting = Arc::clone(&now);
    let server = FakeLgsp::start(move |_| {
        let mut now = counting.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        drop(now);
        std::thread::sleep(Duration::from_millis(20));
        counting.lock().unwrap().0 -= 1;
        list()
    })
    .await;
    let mut streams = json!({});
    for name in ["a", "b", "c", "d", "e"] {
        streams[name] = stream()["a"].clone();
    }
    let connector = open(&config(&server, json!({"rate": {"concurrent": 1}, "streams": streams}))).await;
    let _reader = Reader::start(&connector, &Checkpoint::empty());
    server.was_asked("/ds", 20).await;
    assert_eq!(now.lock().unwrap().1, 1);
}

#[tokio::test]
async fn a_stream_that_is_not_configured_is_told_with_those_that_are() {
    let server = answering(vec![list()]).await;
    let connector = open(&config(&server, json!({"streams": stream()}))).await;
    let error = connector.sample(&StreamName::new("b").unwrap(), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadConfig);
    assert!(error.report().contains("has no b; it has a"), "{}", error.report());
}

#[tokio::test]
async fn a_service_is_reached_through_a_proxy() {
    let proxy = answering(vec![list()]).await;
    let mut settings = config(&proxy, json!({"streams": stream(), "proxy": {"url": proxy.url(), "user": "tinh", "password": "mk-079"}}));
    settings["base_url"] = json!("http://dich-vu.example");
    let mut reader = Reader::start(&open(&settings).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r id=1"]);
    assert_eq!(proxy.asked("http://dich-vu.example/ds")[0].header("proxy-authorization"), "Basic dGluaDptay0wNzk=");
}

#[tokio::test]
async fn a_stream_in_trouble_while_others_are_answered_is_broken_alone() {
    for (status, kind) in [(502, ErrorKind::StreamBroken), (500, ErrorKind::StreamBroken), (403, ErrorKind::StreamBroken)] {
        let server = FakeLgsp::start(move |asked| if asked.path == "/hong" { Reply::status(status) } else { list() }).await;
        let streams = json!({"a": {"path": "/ds", "key": ["id"]}, "hong": {"path": "/hong", "key": ["id"]}});
        let mut settings = config(&server, json!({"streams": streams}));
        // A first look that succeeds everywhere is not needed: the other stream is answered while this one is tried again.
        settings["retry"] = json!({"attempts": 3, "first_s": 0.2, "longest_s": 0.5});
        let mut error = failure(&open(&settings).await, &Checkpoint::empty()).await;
        if status == 403 && error.kind() == ErrorKind::Denied {
            // Asked before the other one was answered.
            error = failure(&open(&settings).await, &Checkpoint::empty()).await;
        }
        assert_eq!((error.kind(), error.stream().unwrap().as_str()), (kind, "hong"), "{}", error.report());
    }
}
