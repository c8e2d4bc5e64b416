//! Submissions that are polled: once each, over restarts, until they are done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hub_sdk::Connector;
use hub_sdk::model::Checkpoint;
use serde_json::{Value, json};

use crate::lookups::FakeTopic;
use crate::reader::{Reader, config, open_with};
use crate::support::{FakeLgsp, Reply};

/// What a dossier's next status is, by its key.
type Statuses = Arc<Mutex<BTreeMap<String, Value>>>;

/// A criminal records service: `/nop` gives tickets, `/trang_thai` says how far they are.
async fn records() -> (FakeLgsp, Statuses) {
    let statuses: Statuses = Arc::default();
    let answering = Arc::clone(&statuses);
    let server = FakeLgsp::start(move |asked| match asked.path.as_str() {
        "/nop" => match asked.json()["so"].as_str().unwrap() {
            "sai" => Reply::json(&json!({"error_code": "12"})),
            "cam" => Reply::status(422),
            key => Reply::json(&json!({"error_code": "00", "ve": format!("V:{key}")})),
        },
        _ => {
            let key = asked.query("ve").trim_start_matches("V:").to_owned();
            let status = answering.lock().unwrap().get(&key).cloned();
            Reply::json(&status.unwrap_or_else(|| json!({"trang_thai": "dang xu ly"})))
        }
    })
    .await;
    (server, statuses)
}

fn settings(server: &FakeLgsp, more: Value) -> Value {
    let submit = json!({
        "request": {"path": "/nop", "json": {"so": "{key}"}, "headers": {"Idempotency-Key": "{submission}"}},
        "ticket": "/ve", "success": {"path": "/error_code", "equals": "00"},
    });
    let mut push = json!({
        "keys": {"topic": {"name": "hub.dan_cu.nguoi", "field": "so_dinh_danh"}},
        "submit": submit, "done": {"path": "/trang_thai", "equals": ["xong", "tu choi"]}, "poll_s": 1,
    });
    for (name, value) in more.as_object().unwrap() {
        push[name] = value.clone();
    }
    let stream = json!({"path": "/trang_thai", "query": {"ve": "{ticket}"}, "key": ["so"], "mode": {"push": push}});
    config(server, json!({"streams": {"a": stream}}))
}

#[tokio::test]
async fn each_key_is_submitted_once_and_its_last_status_is_the_row_over_a_restart() {
    let (server, statuses) = records().await;
    let topic = FakeTopic::of(&["1", "2"]);
    let config = settings(&server, json!({}));
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, Vec::<String>::new());
    server.was_asked("/trang_thai", 2).await;
    let checkpoint = reader.kill().await;
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &checkpoint);
    statuses.lock().unwrap().insert("1".to_owned(), json!({"trang_thai": "xong", "ket_qua": "không có án tích"}));
    let told = loop {
        let told: Vec<_> = reader.next().await.batches.iter().flat_map(crate::reader::lines).collect();
        if !told.is_empty() {
            break told;
        }
    };
    assert_eq!(told, ["c ket_qua=không có án tích so=1 trang_thai=xong"]);
    statuses.lock().unwrap().insert("2".to_owned(), json!({"trang_thai": "tu choi"}));
    assert_eq!(reader.lines(1).await, ["c so=2 trang_thai=tu choi"]);
    let polled = server.asked("/trang_thai").len();
    topic.add("3");
    server.was_asked("/trang_thai", polled + 1).await;
    let submitted: Vec<_> = server.asked("/nop").iter().map(|asked| asked.json()["so"].as_str().unwrap().to_owned()).collect();
    assert_eq!(submitted.len(), 3, "{submitted:?}");
    let words: std::collections::BTreeSet<_> =
        server.asked("/nop").iter().map(|asked| asked.header("idempotency-key").to_owned()).collect();
    assert!(words.len() == 3 && words.iter().all(|word| word.len() == 32), "{words:?}");
}

#[tokio::test]
async fn a_submission_is_made_again_under_the_same_word_where_its_ticket_is_lost() {
    let (server, _statuses) = records().await;
    let topic = FakeTopic::of(&["1"]);
    let config = settings(&server, json!({}));
    for times in 1..=2 {
        let reader = Reader::start(&open_with(&config, topic.topics()).await, &Checkpoint::empty());
        server.was_asked("/nop", times).await;
        reader.kill().await;
    }
    let asked = server.asked("/nop");
    assert_eq!(asked[0].header("idempotency-key"), asked[1].header("idempotency-key"));
}

#[tokio::test]
async fn what_is_refused_or_never_done_is_a_row_at_fault() {
    let (server, _statuses) = records().await;
    let topic = FakeTopic::of(&["sai", "cam", "mãi"]);
    let config = settings(&server, json!({"give_up_s": 1}));
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &Checkpoint::empty());
    let mut told = reader.first_look().await;
    while told.len() < 3 {
        told.extend(reader.next().await.batches.iter().flat_map(crate::reader::lines));
    }
    told.sort();
    assert_eq!(told, ["c so=mãi !not-done-in-time", "r so=cam !submission-refused", "r so=sai !submission-refused"]);
    assert_eq!(server.asked("/nop").len(), 3);
}

#[tokio::test]
async fn a_look_submits_nothing() {
    let (server, _statuses) = records().await;
    let connector = open_with(&settings(&server, json!({})), FakeTopic::of(&["1"]).topics()).await;
    assert!(connector.probe().await.unwrap().is_ready());
    let shapes = connector.discover().await.unwrap();
    assert_eq!((shapes[0].identity.clone(), shapes[0].columns.len()), (vec!["so".to_owned()], 1));
    assert_eq!(server.asked("/nop").len() + server.asked("/trang_thai").len(), 0);
}
