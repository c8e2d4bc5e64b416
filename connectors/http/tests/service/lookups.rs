//! Look-ups by key: from a topic and from a list in a real PostgreSQL; each key once per time to live.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hub_sdk::model::Checkpoint;
use hub_sdk::{Connector, ErrorKind, KeyTopics, SourceError, TopicKeys};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::reader::{Reader, config, failure, open, open_with};
use crate::support::{FakeLgsp, Reply};

/// A canonical topic of the tests' own: a list of keys, read from a place on.
#[derive(Clone, Debug)]
pub(crate) struct FakeTopic(Arc<watch::Sender<Vec<String>>>);

impl FakeTopic {
    pub(crate) fn of(keys: &[&str]) -> Self {
        Self(Arc::new(watch::Sender::new(keys.iter().map(|key| (*key).to_owned()).collect())))
    }

    pub(crate) fn add(&self, key: &str) {
        self.0.send_modify(|keys| keys.push(key.to_owned()));
    }

    pub(crate) fn topics(&self) -> Option<Arc<dyn KeyTopics>> {
        Some(Arc::new(self.clone()))
    }
}

impl KeyTopics for FakeTopic {
    fn keys(&self, topic: &str, field: &str, from: Option<Value>) -> BoxStream<'static, Result<TopicKeys, SourceError>> {
        assert_eq!((topic, field), ("hub.dan_cu.nguoi", "so_dinh_danh"));
        let from = from.and_then(|from| from.as_u64()).map_or(0, |from| usize::try_from(from).unwrap());
        let state = (self.0.subscribe(), from, true);
        stream::unfold(state, |(mut keys, from, is_first)| async move {
            if !is_first {
                keys.wait_for(|keys| keys.len() > from).await.ok()?;
            }
            let new = keys.borrow()[from..].to_vec();
            let next = from + new.len();
            Some((Ok(TopicKeys { keys: new, position: json!(next), caught_up: true }), (keys, next, false)))
        })
        .boxed()
    }
}

type Citizens = Arc<Mutex<BTreeMap<String, Reply>>>;

fn citizen(name: &str) -> Reply {
    Reply::json(&json!({"ma": "00", "cong_dan": {"so": "x", "ten": name}}))
}

/// A population database that knows some people.
async fn people(known: &[(&str, Reply)]) -> (FakeLgsp, Citizens) {
    let people: Citizens = Arc::new(Mutex::new(known.iter().map(|(key, reply)| ((*key).to_owned(), reply.clone())).collect()));
    let answering = Arc::clone(&people);
    let server = FakeLgsp::start(move |asked| {
        let reply = answering.lock().unwrap().get(asked.query("so")).cloned();
        reply.unwrap_or_else(|| Reply::status(404))
    })
    .await;
    (server, people)
}

fn stream(lookup: Value) -> Value {
    let mut lookup = lookup;
    if lookup.get("keys").is_none() {
        lookup["keys"] = json!({"topic": {"name": "hub.dan_cu.nguoi", "field": "so_dinh_danh"}});
    }
    json!({"a": {"path": "/tra_cuu", "query": {"so": "{key}"}, "rows": "/cong_dan", "key": ["so_dinh_danh"], "mode": {"lookup": lookup}}})
}

fn keys_asked(server: &FakeLgsp) -> Vec<String> {
    let mut keys: Vec<_> = server.asked("/tra_cuu").iter().map(|asked| asked.query("so").to_owned()).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn each_key_is_asked_once_per_time_to_live_over_restarts_and_negative_answers_are_remembered() {
    let topic = FakeTopic::of(&["079", "080", "079", "404"]);
    let (server, _people) = people(&[("079", citizen("An")), ("080", citizen("Bình")), ("081", citizen("Chi"))]).await;
    let config = config(&server, json!({"streams": stream(json!({}))}));
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &Checkpoint::empty());
    let mut told = reader.first_look().await;
    told.sort();
    assert_eq!(told, ["r so=x so_dinh_danh=079 ten=An", "r so=x so_dinh_danh=080 ten=Bình"]);
    assert_eq!(reader.completed, 1);
    topic.add("081");
    topic.add("080");
    assert_eq!(reader.lines(1).await, ["c so=x so_dinh_danh=081 ten=Chi"]);
    let checkpoint = reader.kill().await;
    topic.add("082");
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &checkpoint);
    reader.first_look().await;
    assert_eq!(keys_asked(&server), ["079", "080", "081", "082", "404"], "each once");
    assert_eq!(checkpoint.get("keys/a"), Some(&json!(6)), "the topic is read on from its place");
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_asked_again_and_its_changes_are_told() {
    let topic = FakeTopic::of(&["1", "2", "3"]);
    let (server, people) = people(&[("1", citizen("An")), ("2", citizen("Bình")), ("3", citizen("Chi"))]).await;
    let config = config(&server, json!({"streams": stream(json!({"ttl_s": 1, "negative_ttl_s": 1}))}));
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await.len(), 3);
    people.lock().unwrap().insert("1".to_owned(), citizen("An mới"));
    people.lock().unwrap().remove("2");
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(reader.next().await.batches.iter().flat_map(crate::reader::lines));
    }
    told.sort();
    assert_eq!(told, ["d so_dinh_danh=2", "u so=x so_dinh_danh=1 ten=An mới"]);
    people.lock().unwrap().insert("2".to_owned(), citizen("Bình về"));
    assert_eq!(reader.lines(1).await, ["c so=x so_dinh_danh=2 ten=Bình về"]);
}

#[tokio::test]
async fn one_key_may_have_several_rows() {
    let topic = FakeTopic::of(&["1"]);
    let rows = |ids: &[u32]| Reply::json(&json!({"cong_dan": ids.iter().map(|id| json!({"the": id})).collect::<Vec<_>>()}));
    let (server, people) = people(&[("1", rows(&[7, 8, 8]))]).await;
    let mut streams = stream(json!({"ttl_s": 1}));
    streams["a"]["key"] = json!(["so_dinh_danh", "the"]);
    let config = config(&server, json!({"streams": streams}));
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r so_dinh_danh=1 the=7", "r so_dinh_danh=1 the=8", "r so_dinh_danh=1 the=8 !key-twice"]);
    people.lock().unwrap().insert("1".to_owned(), rows(&[8, 9]));
    assert_eq!(reader.lines(2).await, ["c so_dinh_danh=1 the=9", "d so_dinh_danh=1 the=7"]);
}

#[tokio::test]
async fn a_key_that_cannot_be_told_is_a_row_at_fault_and_the_others_go_on() {
    let topic = FakeTopic::of(&["1", "2", "3", "4", "5"]);
    let (server, _people) = people(&[
        ("1", Reply::status(400)),
        ("2", Reply::status(500)),
        ("3", Reply::json(&json!({"khac": 1}))),
        ("4", Reply::json(&json!({"ma": "01", "loi": "không có"}))),
        ("5", citizen("Năm")),
    ])
    .await;
    let config = config(&server, json!({"streams": stream(json!({"missing": {"path": "/ma", "equals": "01"}}))}));
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &Checkpoint::empty());
    let mut told = reader.first_look().await;
    told.sort();
    assert_eq!(
        told,
        [
            "r so=x so_dinh_danh=5 ten=Năm",
            "r so_dinh_danh=1 !lookup-refused",
            "r so_dinh_danh=2 !lookup-refused",
            "r so_dinh_danh=3 !answer-unreadable",
        ]
    );
}

#[tokio::test]
async fn where_every_key_is_refused_it_is_the_request_that_is_wrong() {
    let keys: Vec<String> = (0..100).map(|key| key.to_string()).collect();
    let topic = FakeTopic::of(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let server = FakeLgsp::start(|_| Reply::status(400)).await;
    let config = config(&server, json!({"streams": stream(json!({}))}));
    let error = failure(&open_with(&config, topic.topics()).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::StreamBroken, "{}", error.report());
    assert!(server.asked("/tra_cuu").len() < 30, "{}", server.asked("/tra_cuu").len());
}

#[tokio::test]
async fn keys_wait_for_the_next_day_when_the_budget_is_used_up_and_none_is_lost() {
    let topic = FakeTopic::of(&["1", "2", "3"]);
    let (server, _people) = people(&[("1", citizen("a")), ("2", citizen("b")), ("3", citizen("c"))]).await;
    let settings = config(&server, json!({"streams": stream(json!({"per_day": 2}))}));
    let mut reader = Reader::start(&open_with(&settings, topic.topics()).await, &Checkpoint::empty());
    reader.lines(2).await;
    let checkpoint = reader.kill().await;
    assert_eq!(server.asked("/tra_cuu").len(), 2);
    // A new day: the key that waited is in the checkpoint, though the topic is read on behind it.
    let mut next_day = checkpoint;
    next_day.set("asked-today/a", json!({"day": 1, "used": 2}));
    let mut other = settings;
    other["base_url"] = json!(format!("http://localhost:{}", server.port));
    let mut reader = Reader::start(&open_with(&other, topic.topics()).await, &next_day);
    reader.first_look().await;
    let asked = keys_asked(&server);
    for key in ["1", "2", "3"] {
        assert!(asked.contains(&key.to_owned()), "{asked:?}");
    }
}

#[tokio::test]
async fn keys_come_from_a_list_in_a_database_with_further_columns() {
    let (client, connection) =
        tokio_postgres::connect("host=127.0.0.1 port=15432 user=postgres dbname=postgres", tokio_postgres::NoTls).await.unwrap();
    let _connection = tokio::spawn(connection);
    let table = format!("http_thua_dat_{}", std::process::id());
    let set = |values: &str| {
        format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} AS SELECT * FROM (VALUES {values}) AS v (so, to_ban_do)")
    };
    client.batch_execute(&set("('12', 'tờ 3'), (NULL, ''), ('14', 'tờ 4')")).await.unwrap();
    let server = FakeLgsp::start(|asked| Reply::json(&json!({"cong_dan": {"to": asked.json()["to"], "so": asked.json()["so"]}}))).await;
    let sql = json!({
        "host": "127.0.0.1", "port": 15432, "database": "postgres", "user": "postgres", "tls": "disable", "every_s": 0.1,
        "query": format!("SELECT so, to_ban_do FROM {table}"),
    });
    let mut streams = stream(json!({"keys": {"sql": sql}}));
    streams["a"]["query"] = json!({});
    streams["a"]["json"] = json!({"so": "{key}", "to": "{key.to_ban_do}"});
    let mut settings = config(&server, json!({"streams": streams}));
    let connector = open(&settings).await;
    assert!(connector.probe().await.unwrap().is_ready());
    let mut reader = Reader::start(&connector, &Checkpoint::empty());
    let mut told = reader.first_look().await;
    told.sort();
    assert_eq!(told, ["r so=12 so_dinh_danh=12 to=tờ 3", "r so=14 so_dinh_danh=14 to=tờ 4"]);
    client.batch_execute(&set("('15', 'tờ 5')")).await.unwrap();
    assert_eq!(reader.lines(1).await, ["c so=15 so_dinh_danh=15 to=tờ 5"]);
    let checkpoint = reader.kill().await;
    for (query, kind) in [("SELECT x", ErrorKind::BadConfig), ("DELETE FROM pg_class", ErrorKind::BadConfig)] {
        settings["streams"]["a"]["mode"]["lookup"]["keys"]["sql"]["query"] = json!(query);
        let error = failure(&open(&settings).await, &checkpoint).await;
        assert_eq!(error.kind(), kind, "{}", error.report());
    }
    client.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
}

#[tokio::test]
async fn more_keys_than_may_be_remembered_stop_the_stream() {
    let topic = FakeTopic::of(&["1", "2", "3"]);
    let (server, _people) = people(&[]).await;
    let config = config(&server, json!({"streams": stream(json!({"max_keys": 2}))}));
    let error = failure(&open_with(&config, topic.topics()).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert!(error.report().contains("more than 2 keys"), "{}", error.report());
}

#[tokio::test]
async fn a_gone_service_costs_no_key() {
    let topic = FakeTopic::of(&["1", "2"]);
    let (mut server, _people) = people(&[("1", citizen("a")), ("2", citizen("b"))]).await;
    let config = config(&server, json!({"streams": stream(json!({}))}));
    server.stop().await;
    let error = failure(&open_with(&config, topic.topics()).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.report());
    server.start_again().await;
    let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await.len(), 2);
}

#[tokio::test]
async fn a_run_goes_on_from_every_checkpoint_and_tells_no_row_twice() {
    let keys: Vec<String> = (0..40).map(|key| key.to_string()).collect();
    let topic = FakeTopic::of(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let server = FakeLgsp::start(|asked| Reply { after: Duration::from_millis(40), ..citizen(asked.query("so")) }).await;
    let config = config(&server, json!({"rate": {"concurrent": 1}, "streams": stream(json!({}))}));
    let (mut checkpoint, mut told) = (Checkpoint::empty(), Vec::new());
    while told.len() < keys.len() {
        let mut reader = Reader::start(&open_with(&config, topic.topics()).await, &checkpoint);
        // Killed after the first delivery that has rows: whatever was asked for since then is asked for again.
        loop {
            let rows: Vec<_> = reader.next().await.batches.iter().flat_map(crate::reader::lines).collect();
            if !rows.is_empty() {
                told.extend(rows);
                break;
            }
        }
        checkpoint = reader.kill().await;
    }
    let once: std::collections::BTreeSet<_> = told.iter().collect();
    assert_eq!((told.len(), once.len()), (40, 40), "{told:?}");
    let again = server.asked("/tra_cuu").len() - keys.len();
    assert!(again <= 10, "{again} keys were asked for again");
}
