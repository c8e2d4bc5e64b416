//! What senders are promised: 200 only after the commit, once per key, refused or shed before anything is taken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/outbox.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod outbox;
#[path = "support/stand.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod stand;

use std::time::Duration;

use hub_sdk::Connector;
use hub_sdk::model::Checkpoint;
use serde_json::json;

use outbox::{Client, Event, Outbox};
use stand::{Stand, answer, rows};

fn keyed() -> serde_json::Value {
    json!({"idempotency": {"header": "Idempotency-Key"}})
}

#[tokio::test]
async fn no_request_is_answered_200_before_its_delivery_is_acknowledged() {
    let stand = Stand::of(json!({}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted = stand.post(&[], r#"{"a":1}"#);
    let delivery = run.next().await.unwrap();
    // The delivery is there, so a wrong 200 would be on its way: another request through the whole stack gives it time.
    let refused = answer(stand.post_to("/nowhere", &[], Vec::new())).await;
    assert_eq!(refused.status, 404);
    assert!(!posted.is_finished(), "it waits for the commit");
    run.connector.acknowledge(&delivery.checkpoint);
    let told = answer(posted).await;
    assert_eq!((told.status, told.body.as_str()), (200, r#"{"accepted":1}"#));
    run.shut().await;
}

#[tokio::test]
async fn what_is_sent_again_after_a_crash_between_hand_over_and_commit_comes_once() {
    let stand = Stand::of(keyed()).with(json!({"answer_within_s": 0.5}));
    let key = [("Idempotency-Key", "k1")];
    // Killed before the commit: the topic has nothing, so what is sent again is published.
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted = stand.post(&key, r#"{"a":1}"#);
    let _never_committed = run.next().await.unwrap();
    run.kill().await;
    assert!(answer(posted).await.status != 200);
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted = stand.post(&key, r#"{"a":1}"#);
    let committed = run.next().await.unwrap();
    assert_eq!(rows(&committed), ["c:1"]);
    // Killed after the commit and before the answer: what is sent again is known.
    run.kill().await;
    assert!(answer(posted).await.status != 200);
    let run = stand.run(&committed.checkpoint).await;
    let told = answer(stand.post(&key, r#"{"a":1}"#)).await;
    assert_eq!((told.status, told.body.as_str()), (200, r#"{"accepted":0,"duplicates":1,"duplicate":true}"#));
    run.shut().await;
}

#[tokio::test]
async fn a_commit_that_is_told_after_the_capture_ended_is_answered_200() {
    let stand = Stand::of(json!({}));
    let connector = stand.connector().await;
    let mut run = Stand::run_of(&connector, &Checkpoint::empty()).await;
    let posted = stand.post(&[], r#"{"a":1}"#);
    let delivery = run.next().await.unwrap();
    let unanswered = stand.post(&[], r#"{"a":2}"#);
    let _never_committed = run.next().await.unwrap();
    run.shut().await;
    connector.acknowledge(&delivery.checkpoint);
    // Nobody can commit any more: who waits is told so, and who was answered just now gets the answer.
    drop(connector);
    assert_eq!(answer(posted).await.status, 200);
    assert_eq!(answer(unanswered).await.status, 503);
}

#[tokio::test]
async fn the_next_run_of_a_connector_answers_what_the_checkpoint_holds_and_gives_up_the_rest() {
    let stand = Stand::of(json!({}));
    let connector = stand.connector().await;
    let mut run = Stand::run_of(&connector, &Checkpoint::empty()).await;
    let first = stand.post(&[], r#"{"a":1}"#);
    let committed = run.next().await.unwrap();
    let second = stand.post(&[], r#"{"a":2}"#);
    let _lost = run.next().await.unwrap();
    run.shut().await;
    let run = Stand::run_of(&connector, &committed.checkpoint).await;
    assert_eq!((answer(first).await.status, answer(second).await.status), (200, 503));
    run.shut().await;
}

#[tokio::test]
async fn a_key_that_is_under_way_waits_for_the_same_commit() {
    let stand = Stand::of(keyed());
    let mut run = stand.run(&Checkpoint::empty()).await;
    let key = [("Idempotency-Key", "k")];
    let first = stand.post(&key, r#"{"a":1}"#);
    let delivery = run.next().await.unwrap();
    let second = stand.post(&key, r#"{"a":1}"#);
    // A third, with a key of its own, shows that the second one went through the group already.
    let other = stand.post(&[("Idempotency-Key", "l")], r#"{"a":2}"#);
    let next = run.next().await.unwrap();
    assert_eq!(rows(&next), ["c:2"]);
    assert!(!first.is_finished() && !second.is_finished());
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(first).await.body, r#"{"accepted":1}"#);
    assert_eq!(answer(second).await.body, r#"{"accepted":0,"duplicates":1,"duplicate":true}"#);
    run.connector.acknowledge(&next.checkpoint);
    assert_eq!(answer(other).await.status, 200);
    run.shut().await;
}

#[tokio::test]
async fn rows_are_known_by_their_fields_and_bodies_by_their_bytes() {
    let stand = Stand::of(json!({"idempotency": {"fields": ["a"]}}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted = stand.post(&[], r#"[{"a":1},{"a":2},{"a":1},{"b":1}]"#);
    let delivery = run.next().await.unwrap();
    assert_eq!(rows(&delivery), ["c:1|∅", "c:2|∅", "cidempotency-missing:∅|1"]);
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(posted).await.body, r#"{"accepted":2,"rejected":1,"duplicates":1}"#);
    run.shut().await;

    let stand = Stand::of(json!({"idempotency": {"body": true}}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted = stand.post(&[], r#"{"a":1}"#);
    let delivery = run.next().await.unwrap();
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(posted).await.status, 200);
    assert!(answer(stand.post(&[], r#"{"a":1}"#)).await.body.contains("duplicate\":true"));
    run.shut().await;
}

#[tokio::test]
async fn requests_that_wait_share_one_delivery() {
    let stand = Stand::of(json!({})).patient();
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posts: Vec<_> = (0..20).map(|number| stand.post(&[], &json!({"a": number}).to_string())).collect();
    let (mut deliveries, mut told) = (0, 0);
    let mut last = Checkpoint::empty();
    while told < 20 {
        let delivery = run.next().await.unwrap();
        told += rows(&delivery).len();
        deliveries += 1;
        last = delivery.checkpoint;
    }
    assert!(deliveries < 20, "{deliveries} deliveries for 20 requests");
    // The last one includes those before it.
    run.connector.acknowledge(&last);
    for post in posts {
        assert_eq!(answer(post).await.status, 200);
    }
    run.shut().await;
}

#[tokio::test]
async fn who_finds_no_place_is_shed_and_nothing_is_lost() {
    let mut settings = keyed();
    settings["max_waiting"] = json!(3);
    let stand = Stand::of(settings);
    let mut run = stand.run(&Checkpoint::empty()).await;
    let waiting: Vec<_> =
        (0..3).map(|number| stand.post(&[("Idempotency-Key", &number.to_string())], &json!({"a": number}).to_string())).collect();
    let mut taken = 0;
    let mut last = Checkpoint::empty();
    while taken < 3 {
        let delivery = run.next().await.unwrap();
        taken += rows(&delivery).len();
        last.merge(&delivery.checkpoint);
    }
    let shed = answer(stand.post(&[("Idempotency-Key", "x")], r#"{"a":9}"#)).await;
    assert_eq!((shed.status, shed.retry_after), (429, Some(1)));
    run.connector.acknowledge(&last);
    for post in waiting {
        assert_eq!(answer(post).await.status, 200);
    }
    // Many senders that keep what was shed: everything comes, once.
    let outboxes: Vec<_> = (0..8).map(|_| Outbox::to(stand.port, "/s")).collect();
    for number in 0..400 {
        let headers = vec![("Idempotency-Key".to_owned(), format!("n{number}"))];
        outboxes[number % 8].put(Event { headers, body: json!({"a": format!("n{number}")}).to_string().into_bytes() });
    }
    let mut told = Vec::new();
    while told.len() < 400 {
        let delivery = run.next().await.unwrap();
        told.extend(rows(&delivery));
        run.connector.acknowledge(&delivery.checkpoint);
    }
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 400);
    let gauges = run.connector.gauges().await.unwrap();
    let shed = gauges.iter().find(|gauge| gauge.label == Some(("status", "429".to_owned()))).unwrap();
    assert!(shed.value > 1.0, "under load it sheds: {}", shed.value);
    run.shut().await;
}

#[tokio::test]
async fn bodies_beyond_the_room_and_rates_beyond_the_limit_are_shed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let stand = Stand::of(json!({})).with(json!({"waiting_mib": 1}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    // One that takes all the room, and is still being read.
    let large = json!({"a": "x".repeat(1_100_000)}).to_string();
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", stand.port)).await.unwrap();
    let head = format!("POST /s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", large.len());
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut told = vec![0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    slow.read_exact(&mut told).await.unwrap();
    let shed = answer(stand.post(&[], r#"{"a":1}"#)).await;
    assert_eq!((shed.status, shed.retry_after), (429, Some(1)));
    slow.write_all(large.as_bytes()).await.unwrap();
    let delivery = run.next().await.unwrap();
    let posted = stand.post(&[], r#"{"a":1}"#);
    let next = run.next().await.unwrap();
    run.connector.acknowledge(&delivery.checkpoint);
    run.connector.acknowledge(&next.checkpoint);
    assert_eq!(answer(posted).await.status, 200, "a group's bodies make room");
    run.shut().await;
    let stand = Stand::of(json!({"rate_per_s": 0.01}));
    let run = stand.run(&Checkpoint::empty()).await;
    assert_eq!(answer(stand.post(&[], "[]")).await.status, 200, "an empty list has nothing to wait for");
    let shed = answer(stand.post(&[], "[]")).await;
    assert_eq!((shed.status, shed.retry_after), (429, Some(100)));
    run.shut().await;
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_status() {
    let stand = Stand::of(json!({"max_bytes": 100, "max_rows": 2}));
    let run = stand.run(&Checkpoint::empty()).await;
    let mut client = Client::new(stand.port);
    for (method, path, headers, body, status) in [
        ("GET", "/s", None, "", 405),
        ("POST", "/t", None, "{}", 404),
        ("POST", "/s?x=1", None, "[]", 200),
        ("POST", "/s", None, "{", 400),
        ("POST", "/s", Some(("content-encoding", "gzip")), "{}", 415),
        ("POST", "/s", Some(("content-type", "application/json; charset=utf-16")), "{}", 415),
        ("POST", "/s", None, &*json!({"a": "x".repeat(200)}).to_string(), 413),
        ("POST", "/s", None, r#"[{"a":1},{"a":2},{"a":3}]"#, 413),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned())).collect();
        let told = client.send(method, path, &headers, body.as_bytes()).await;
        // A body that is refused unread may end the connection.
        let told = match told {
            Some(told) => told,
            None => client.send(method, path, &headers, body.as_bytes()).await.unwrap(),
        };
        assert_eq!(told.status, status, "{method} {path} {body}: {}", told.body);
    }
    run.shut().await;
}

#[tokio::test]
async fn a_sender_that_is_slow_or_an_answer_that_is_late_is_not_waited_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let stand = Stand::of(json!({})).with(json!({"head_within_s": 0.3, "body_within_s": 0.3, "answer_within_s": 0.6}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", stand.port)).await.unwrap();
    slow.write_all(b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{").await.unwrap();
    let mut told = vec![0; 12];
    slow.read_exact(&mut told).await.unwrap();
    assert_eq!(told, b"HTTP/1.1 408");
    let mut silent = tokio::net::TcpStream::connect(("127.0.0.1", stand.port)).await.unwrap();
    silent.write_all(b"POST /s HTTP/1.1\r\nHo").await.unwrap();
    let mut nothing = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), silent.read_to_end(&mut nothing)).await;
    assert!(ended.is_ok(), "a head that does not end is not waited for");
    let posted = stand.post(&[], r#"{"a":1}"#);
    let _handed_over = run.next().await.unwrap();
    let late = answer(posted).await;
    assert_eq!((late.status, late.retry_after), (503, Some(1)));
    run.shut().await;
}

#[tokio::test]
async fn what_was_given_up_in_the_queue_is_not_published_behind_the_sender_s_back() {
    let stand = Stand::of(json!({})).with(json!({"answer_within_s": 0.5}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    // Nobody takes deliveries: four fill the outlet, the fifth waits for room, the sixth waits in the queue.
    for number in 0..6 {
        assert_eq!(answer(stand.post(&[], &json!({"a": number}).to_string())).await.status, 503);
    }
    for number in 0..5 {
        assert_eq!(rows(&run.next().await.unwrap()), [format!("c:{number}")]);
    }
    let posted = stand.post(&[], r#"{"a":9}"#);
    let delivery = run.next().await.unwrap();
    assert_eq!(rows(&delivery), ["c:9"]);
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(posted).await.status, 200);
    run.shut().await;
}

#[tokio::test]
async fn one_connection_more_than_the_most_is_turned_away() {
    let stand = Stand::of(json!({})).with(json!({"max_connections": 1}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted = stand.post(&[], r#"{"a":1}"#);
    let delivery = run.next().await.unwrap();
    assert_eq!(answer(stand.post(&[], r#"{"a":2}"#)).await.status, 429);
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(posted).await.status, 200);
    run.shut().await;
}

#[tokio::test]
async fn events_are_creates_updates_and_deletes_and_columns_only_grow() {
    let stand = Stand::of(json!({"key": ["id"], "op": {"field": "viec", "create": ["them"], "update": ["sua"], "delete": ["xoa"]}}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted =
        stand.post(&[], r#"[{"id":1,"viec":"them","ten":"a"},{"id":1,"viec":"sua","ten":null,"moi":""},{"id":1,"viec":"xoa"},{"id":1}]"#);
    let delivery = run.next().await.unwrap();
    assert_eq!(rows(&delivery), ["c:1|them|a|∅", "u:1|sua|∅|", "d:1|xoa|∅|∅", "cop-unknown:1|∅|∅|∅"]);
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(posted).await.status, 200);
    run.kill().await;
    let mut run = stand.run(&delivery.checkpoint).await;
    let posted = stand.post(&[], r#"{"khac":1,"id":2,"viec":"them"}"#);
    let next = run.next().await.unwrap();
    assert_eq!(rows(&next), ["c:2|them|∅|∅|1"], "columns keep their places over runs");
    run.connector.acknowledge(&next.checkpoint);
    assert_eq!(answer(posted).await.status, 200);
    run.shut().await;
}

#[tokio::test]
async fn a_row_with_too_many_columns_is_a_reject_and_the_others_go_on() {
    let stand = Stand::of(json!({}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    let wild: serde_json::Map<_, _> = (0..1_001).map(|number| (format!("c{number}"), json!(1))).collect();
    let posted = stand.post(&[], &json!([{"a": 1}, wild, {"a": 2}]).to_string());
    let delivery = run.next().await.unwrap();
    assert_eq!(rows(&delivery), ["c:1", "ctoo-many-columns:∅", "c:2"]);
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(posted).await.body, r#"{"accepted":2,"rejected":1,"duplicates":0}"#);
    run.shut().await;
}

#[tokio::test]
async fn an_accepted_exchange_is_evidence_with_its_digests() {
    let stand = Stand::of(json!({})).with(json!({"evidence": true, "trust_forwarded": true}));
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted = stand.post(&[("X-Forwarded-For", "8.8.8.8, 10.1.2.7")], r#"{"a":"079090000001"}"#);
    let delivery = run.next().await.unwrap();
    let [evidence] = &delivery.evidence[..] else { panic!("{:?}", delivery.evidence) };
    assert_eq!((evidence.what.as_str(), evidence.account.as_str(), evidence.outcome.as_str()), ("POST /s", "10.1.2.7", "200"));
    assert_eq!((evidence.request_sha256.len(), evidence.answer_sha256.len(), evidence.answer_bytes), (64, 64, 14));
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(posted).await.body.len(), 14);
    run.shut().await;
}

#[tokio::test]
async fn a_stream_that_nobody_maps_is_not_taken_and_its_keys_are_forgotten() {
    let mut stand = Stand::of(keyed());
    stand.config["streams"]["t"] = json!({"path": "/t", "auth": "none"});
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posted = stand.post(&[("Idempotency-Key", "k")], r#"{"a":1}"#);
    let delivery = run.next().await.unwrap();
    run.connector.acknowledge(&delivery.checkpoint);
    assert_eq!(answer(posted).await.status, 200);
    run.kill().await;
    assert!(delivery.checkpoint.iter().any(|(partition, _)| partition.starts_with("keys/s/")));
    let config = serde_json::from_value(stand.config.clone()).unwrap();
    let only = hub_sdk::StreamRequest { stream: hub_sdk::model::StreamName::new("t").unwrap(), columns: Vec::new() };
    let context = hub_sdk::OpenContext::new(hub_sdk::model::SystemName::new("thu").unwrap(), vec![only]);
    let connector = std::sync::Arc::new(hub_connector_webhook::Webhook::open(config, context).await.unwrap());
    let mut run = Stand::run_of(&connector, &delivery.checkpoint).await;
    assert_eq!(answer(stand.post(&[("Idempotency-Key", "l")], r#"{"a":1}"#)).await.status, 503);
    let posted = stand.post_to("/t", &[], br#"{"b":1}"#.to_vec());
    let next = run.next().await.unwrap();
    let removed: Vec<_> = next.checkpoint.iter().filter(|(_, position)| position.is_none()).map(|(partition, _)| partition).collect();
    assert!(removed.contains(&"columns/s") && removed.iter().any(|partition| partition.starts_with("keys/s/")), "{removed:?}");
    run.connector.acknowledge(&next.checkpoint);
    assert_eq!(answer(posted).await.status, 200);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_sendings_of_one_key_at_once_one_is_published() {
    let stand = Stand::of(keyed());
    let mut run = stand.run(&Checkpoint::empty()).await;
    let posts: Vec<_> = (0..50).map(|_| stand.post(&[("Idempotency-Key", "k")], r#"{"a":1}"#)).collect();
    let delivery = run.next().await.unwrap();
    run.connector.acknowledge(&delivery.checkpoint);
    let mut accepted = 0;
    for post in posts {
        let told = answer(post).await;
        assert_eq!(told.status, 200);
        accepted += usize::from(told.body == r#"{"accepted":1}"#);
    }
    assert_eq!((accepted, rows(&delivery).len()), (1, 1));
    run.shut().await;
}

#[tokio::test]
async fn streams_share_a_delivery_and_their_rows_have_places_of_their_own() {
    let mut stand = Stand::of(json!({})).patient();
    stand.config["streams"]["t"] = json!({"path": "/t", "auth": "none"});
    let mut run = stand.run(&Checkpoint::empty()).await;
    // While the first one is under way, the others wait for each other.
    let first = stand.post(&[], r#"{"a":0}"#);
    let mut last = run.next().await.unwrap();
    let others: Vec<_> = (0..20)
        .map(|number| stand.post_to(if number % 2 == 0 { "/s" } else { "/t" }, &[], json!({"a": number}).to_string().into_bytes()))
        .collect();
    let (mut places, mut is_shared) = (std::collections::BTreeSet::new(), false);
    while places.len() < 20 {
        last = run.next().await.unwrap();
        is_shared |= last.batches.len() == 2;
        for batch in &last.batches {
            let origin = &batch.origin;
            places.extend(origin.commit_position.iter().copied().zip(origin.ordinal.iter().copied()));
        }
    }
    assert!(is_shared, "both streams are in one delivery");
    run.connector.acknowledge(&last.checkpoint);
    for post in others.into_iter().chain([first]) {
        assert_eq!(answer(post).await.status, 200);
    }
    run.shut().await;
}
