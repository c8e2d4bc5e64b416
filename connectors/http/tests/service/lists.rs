//! Lists: how they are paged, what differs, what is absent, and where a watermark goes on.

use std::sync::{Arc, Mutex};

use hub_sdk::model::Checkpoint;
use hub_sdk::{ErrorKind, SourceError};
use serde_json::{Value, json};

use crate::reader::{Reader, config, failure, open};
use crate::support::{Asked, FakeLgsp, Reply};

/// A list that a test changes.
pub(crate) type Shared<T> = Arc<Mutex<T>>;

fn row(id: usize) -> Value {
    json!({"id": id, "ten": format!("số {id}")})
}

fn rows(from: usize, count: usize) -> Vec<Value> {
    (from..from + count).map(row).collect()
}

fn reads(count: usize) -> Vec<String> {
    (0..count).map(|id| format!("r id={id} ten=số {id}")).collect()
}

/// Seven rows in pages of three, in each of the ways.
fn paged(asked: &Asked) -> Reply {
    let all = rows(0, 7);
    let page = |from: usize| all.iter().skip(from).take(3).cloned().collect::<Vec<_>>();
    match asked.path.as_str() {
        "/trang" => Reply::json(&json!(page(asked.number("trang") * 3))),
        "/trang_post" => {
            let at = asked.json()["phan_trang"]["tu"].as_u64().unwrap();
            Reply::json(&json!({"dong": page(usize::try_from(at).unwrap()), "tong": 7}))
        }
        "/con_tro" => {
            let from: usize = asked.query("sau").trim_start_matches("c/").parse().unwrap_or(0);
            let next = if from + 3 < 7 { json!(format!("c/{}", from + 3)) } else { Value::Null };
            Reply::json(&json!({"dong": page(from), "tiep": next}))
        }
        "/lien_ket" => {
            let from = asked.number("tu");
            let reply = Reply::json(&json!(page(from)));
            if from + 3 < 7 { reply.with("Link", format!("</lien_ket?tu={}>; rel=\"next\"", from + 3)) } else { reply }
        }
        "/tiep" => {
            let from = asked.number("tu");
            let next = if from + 3 < 7 { json!(format!("?tu={}", from + 3)) } else { json!("") };
            Reply::json(&json!({"dong": page(from), "tiep": next}))
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_list_is_read_to_its_end_in_every_way_of_paging() {
    let server = FakeLgsp::start(paged).await;
    let ways = [
        json!({"path": "/trang", "paging": {"page": {"param": "trang", "first": 0}}}),
        json!({"path": "/trang_post", "rows": "/dong", "json": {"phan_trang": {"tu": "{offset}", "so": "{size}"}},
               "paging": {"offset": {"size": 3, "total": "/tong"}}}),
        json!({"path": "/con_tro", "rows": "/dong", "paging": {"cursor": {"path": "/tiep", "param": "sau"}}}),
        json!({"path": "/lien_ket", "paging": {"link": {}}}),
        json!({"path": "/tiep", "rows": "/dong", "query": {"tu": "0"}, "paging": {"next": {"path": "/tiep"}}}),
    ];
    for mut way in ways {
        way["key"] = json!(["id"]);
        let connector = open(&config(&server, json!({"streams": {"a": way.clone()}}))).await;
        let mut reader = Reader::start(&connector, &Checkpoint::empty());
        assert_eq!(reader.first_look().await, reads(7), "{way}");
        assert_eq!(reader.completed, 1);
        reader.kill().await;
    }
}

/// A list of one page, or what is answered instead.
async fn list(rows: Vec<Value>, stream: Value) -> (FakeLgsp, Value, Shared<Reply>) {
    let shared = Arc::new(Mutex::new(Reply::json(&json!(rows))));
    let answering = Arc::clone(&shared);
    let server = FakeLgsp::start(move |_| answering.lock().unwrap().clone()).await;
    let mut stream = stream;
    stream["path"] = json!("/ds");
    stream["key"] = json!(["id"]);
    let config = config(&server, json!({"streams": {"a": stream}}));
    (server, config, shared)
}

fn set(shared: &Shared<Reply>, rows: &[Value]) {
    *shared.lock().unwrap() = Reply::json(&json!(rows));
}

#[tokio::test]
async fn what_differs_is_told_once_and_goes_on_after_a_restart() {
    let (server, config, shared) = list(rows(0, 3), json!({})).await;
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, reads(3));
    set(&shared, &[row(0), json!({"ten": "đổi", "id": 1}), row(7)]);
    assert_eq!(reader.lines(3).await, ["u id=1 ten=đổi", "c id=7 ten=số 7", "d id=2"]);
    let checkpoint = reader.kill().await;
    let seen = server.asked("/ds").len();
    let mut reader = Reader::start(&open(&config).await, &checkpoint);
    assert_eq!(reader.first_look().await, Vec::<String>::new(), "nothing is told again");
    assert!(server.asked("/ds").len() > seen);
    set(&shared, &[row(0)]);
    assert_eq!(reader.lines(2).await, ["d id=1", "d id=7"]);
}

#[tokio::test]
async fn a_row_at_fault_is_rejected_once_and_deletes_nothing() {
    let (server, config, shared) = list(rows(0, 2), json!({})).await;
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    reader.first_look().await;
    set(&shared, &[row(0), row(1), json!({"ten": "không mã"}), json!({"id": 1, "ten": "hai lần"})]);
    assert_eq!(reader.lines(2).await, ["c ten=không mã !key-missing", "c id=1 ten=hai lần !key-twice"]);
    let looks = server.asked("/ds").len();
    server.was_asked("/ds", looks + 5).await;
    set(&shared, &[row(0), row(1), row(2)]);
    assert_eq!(reader.lines(1).await, ["c id=2 ten=số 2"]);
}

async fn broken(config: &Value) -> SourceError {
    let error = failure(&open(config).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::StreamBroken, "{}", error.report());
    assert_eq!(error.stream().unwrap().as_str(), "a");
    assert!(error.advice().is_some());
    error
}

#[tokio::test]
async fn a_service_that_does_not_page_is_an_error_and_no_endless_loop() {
    let (_server, mut config, _shared) = list(rows(0, 3), json!({})).await;
    for paging in
        [json!({"page": {"param": "p"}}), json!({"page": {"param": "p", "size": 3}}), json!({"offset": {"param": "o", "size": 2}})]
    {
        config["streams"]["a"]["paging"] = paging;
        let told = broken(&config).await.report();
        assert!(told.contains("the same rows"), "{told}");
    }
}

#[tokio::test]
async fn only_a_list_that_was_read_whole_deletes() {
    let fails = Arc::new(Mutex::new(false));
    let failing = Arc::clone(&fails);
    let server = FakeLgsp::start(move |asked| match asked.number("p") {
        1 => Reply::json(&json!(rows(if *failing.lock().unwrap() { 1 } else { 0 }, 2))),
        _ if *failing.lock().unwrap() => Reply::status(500),
        _ => Reply::json(&json!(rows(5, 1))),
    })
    .await;
    let stream = json!({"path": "/ds", "key": ["id"], "paging": {"page": {"param": "p", "size": 2}}});
    let config = config(&server, json!({"streams": {"a": stream}}));
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await.len(), 3);
    let checkpoint = reader.kill().await;
    *fails.lock().unwrap() = true;
    let error = failure(&open(&config).await, &checkpoint).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.report());
    *fails.lock().unwrap() = false;
    let mut reader = Reader::start(&open(&config).await, &checkpoint);
    assert_eq!(reader.first_look().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_list_that_is_suddenly_short_stops_its_stream_before_it_deletes() {
    let (_server, mut config, shared) = list(rows(0, 40), json!({})).await;
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    reader.first_look().await;
    let checkpoint = reader.kill().await;
    set(&shared, &[]);
    let error = failure(&open(&config).await, &checkpoint).await;
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert!(error.report().contains("40 of 40 known rows are absent"), "{}", error.report());
    set(&shared, &rows(0, 20));
    let mut reader = Reader::start(&open(&config).await, &checkpoint);
    assert_eq!(reader.first_look().await.len(), 20, "half of them may go");
    let checkpoint = reader.kill().await;
    set(&shared, &[]);
    config["streams"]["a"]["shrink_guard"] = json!(100);
    let mut reader = Reader::start(&open(&config).await, &checkpoint);
    assert_eq!(reader.first_look().await.len(), 20, "the guard is off");
}

#[tokio::test]
async fn an_answer_that_is_not_what_it_should_be_names_the_stream_and_shows_no_value() {
    let (_server, mut config, shared) = list(Vec::new(), json!({})).await;
    let cases = [
        (Reply::text("{\"data\": ["), "not well-formed JSON"),
        (Reply::json(&json!({"Data": []})), "no data among Data"),
        (Reply::status(404), "404"),
        (Reply::status(302).with("Location", "https://dang-nhap.example/login?phien=bi-mat"), "points to https://dang-nhap.example/login;"),
    ];
    config["streams"]["a"]["rows"] = json!("/data");
    for (reply, says) in cases {
        *shared.lock().unwrap() = reply;
        let told = broken(&config).await.report();
        assert!(told.contains(says) && !told.contains("bi-mat"), "{told}");
    }
    config["streams"]["a"]["success"] = json!({"path": "/error_code", "equals": ["00", 0]});
    *shared.lock().unwrap() = Reply::json(&json!({"error_code": "07", "message": "người 079090000001 không có"}));
    let told = broken(&config).await.report();
    assert!(told.contains("/error_code is \"07\", not 00 or 0") && !told.contains("079090000001"), "{told}");
    *shared.lock().unwrap() = Reply::json(&json!({"error_code": 0, "data": rows(0, 1)}));
    assert_eq!(Reader::start(&open(&config).await, &Checkpoint::empty()).first_look().await, reads(1));
    config["document_mib"] = json!(1);
    *shared.lock().unwrap() = Reply::text("x".repeat(2 << 20));
    assert!(broken(&config).await.report().contains("more than 1 MiB"));
}

fn dated(id: usize, name: &str, at: &str) -> Value {
    json!({"id": id, "ten": name, "sua": at})
}

#[tokio::test]
async fn a_watermark_goes_on_where_it_was_and_tells_nothing_twice() {
    let mark = json!({"field": "sua", "format": "%d/%m/%Y %H:%M:%S", "param": "tu", "overlap_s": 60});
    let stream = json!({"query": {"den": "{until}"}, "mode": {"watermark": mark}});
    let (server, config, shared) = list(vec![dated(1, "a", "26/11/2026 10:00:00"), dated(2, "b", "26/11/2026 10:05:00")], stream).await;
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await.len(), 2);
    assert_eq!(server.asked("/ds")[0].query.get("tu"), None, "the first look reads everything");
    server.was_asked("/ds", 2).await;
    assert_eq!(server.asked("/ds")[1].query("tu"), "26/11/2026 10:04:00");
    assert_eq!(server.asked("/ds")[1].query("den").len(), 19, "until now, in the same form");
    // What lies within the overlap comes again and is not told again; a row that is absent is not deleted.
    set(&shared, &[dated(2, "b", "26/11/2026 10:05:00"), dated(1, "a2", "26/11/2026 10:07:00"), dated(3, "c", "26/11/2026 10:06:00")]);
    assert_eq!(reader.lines(2).await, ["u id=1 sua=26/11/2026 10:07:00 ten=a2", "c id=3 sua=26/11/2026 10:06:00 ten=c"]);
    let checkpoint = reader.kill().await;
    let looks = server.asked("/ds").len();
    let mut reader = Reader::start(&open(&config).await, &checkpoint);
    assert_eq!(reader.first_look().await, Vec::<String>::new());
    assert_eq!(server.asked("/ds")[looks].query("tu"), "26/11/2026 10:06:00", "a run goes on from the checkpoint");
}

#[tokio::test]
async fn a_watermark_sees_deletes_by_looks_at_everything() {
    let mark = json!({"field": "v", "format": "number", "full_every_s": 1.0});
    let stream = json!({"json": {"tu": "{since}"}, "mode": {"watermark": mark}});
    let (server, config, shared) = list(vec![json!({"id": 1, "v": 10}), json!({"id": 2, "v": 11})], stream).await;
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await.len(), 2);
    set(&shared, &[json!({"id": 2, "v": 11})]);
    assert_eq!(reader.lines(1).await, ["d id=1"]);
    let bodies: Vec<_> = server.asked("/ds").iter().map(|asked| asked.body.clone()).collect();
    assert_eq!((bodies[0].as_str(), bodies[1].as_str()), ("{}", "{\"tu\":\"11\"}"));
}

#[tokio::test]
async fn a_row_that_changes_while_pages_are_read_is_told_in_its_last_state() {
    let server = FakeLgsp::start(|asked| match (asked.number("p"), asked.query("tu")) {
        (1, "") => Reply::json(&json!([{"id": 1, "v": 1}, {"id": 2, "v": 2}])),
        (2, "") => Reply::json(&json!([{"id": 1, "v": 3}])),
        _ => Reply::json(&json!([])),
    })
    .await;
    let mark = json!({"watermark": {"field": "v", "format": "number", "param": "tu"}});
    let stream = json!({"path": "/ds", "key": ["id"], "mode": mark, "paging": {"page": {"param": "p", "size": 2}}});
    let connector = open(&config(&server, json!({"streams": {"a": stream}}))).await;
    let mut reader = Reader::start(&connector, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r id=1 v=1", "r id=2 v=2", "u id=1 v=3"]);
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_forgotten() {
    let (_server, config, _shared) = list(rows(0, 3), json!({})).await;
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    reader.first_look().await;
    let checkpoint = reader.kill().await;
    let mut other = config.clone();
    other["streams"]["b/1"] = config["streams"]["a"].clone();
    other["streams"].as_object_mut().unwrap().remove("a");
    let mut reader = Reader::start(&open(&other).await, &checkpoint);
    assert_eq!(reader.first_look().await, reads(3));
    let held: Vec<_> = reader.checkpoint.iter().filter(|(_, position)| position.is_some()).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(held, ["known/b/1/1", "list/b/1", "look/b/1"]);
}

#[tokio::test]
async fn a_row_that_moves_between_pages_is_not_deleted_and_one_that_is_gone_is() {
    let ids: Shared<Vec<usize>> = Arc::new(Mutex::new((0..6).collect()));
    let moves = Arc::new(Mutex::new(false));
    let (held, moving) = (Arc::clone(&ids), Arc::clone(&moves));
    let server = FakeLgsp::start(move |asked| {
        let mut held = held.lock().unwrap();
        if asked.number("p") == 2 && std::mem::take(&mut *moving.lock().unwrap()) {
            // Row 0 goes while page 2 is asked for: row 2 moves to page 1, which was read already.
            held.remove(0);
        }
        Reply::json(&json!(held.iter().skip((asked.number("p") - 1) * 2).take(2).map(|id| row(*id)).collect::<Vec<_>>()))
    })
    .await;
    let stream = json!({"path": "/ds", "key": ["id"], "paging": {"page": {"param": "p", "size": 2}}});
    let connector = open(&config(&server, json!({"streams": {"a": stream}}))).await;
    let mut reader = Reader::start(&connector, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, reads(6));
    *moves.lock().unwrap() = true;
    assert_eq!(reader.lines(1).await, ["d id=0"]);
}

#[tokio::test]
async fn answers_may_be_packed_by_gzip() {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(json!(rows(0, 2)).to_string().as_bytes()).unwrap();
    let packed = Reply { body: packer.finish().unwrap(), ..Reply::status(200) };
    let (server, config, shared) = list(Vec::new(), json!({})).await;
    *shared.lock().unwrap() = packed.clone().with("Content-Encoding", "gzip");
    assert_eq!(Reader::start(&open(&config).await, &Checkpoint::empty()).first_look().await, reads(2));
    assert_eq!(server.asked("/ds")[0].header("accept-encoding"), "gzip");
    *shared.lock().unwrap() = Reply { body: packed.body[..20].to_vec(), ..packed.clone() }.with("Content-Encoding", "gzip");
    assert!(broken(&config).await.report().contains("packed and damaged"));
    *shared.lock().unwrap() = packed.with("Content-Encoding", "br");
    assert!(broken(&config).await.report().contains("packed by br"));
}

#[tokio::test]
async fn a_stream_in_another_mode_than_before_is_a_mismatch() {
    let (_server, mut config, _shared) = list(rows(0, 3), json!({})).await;
    let mut reader = Reader::start(&open(&config).await, &Checkpoint::empty());
    reader.first_look().await;
    let checkpoint = reader.kill().await;
    config["streams"]["a"]["path"] = json!("/ds/{key}");
    config["streams"]["a"]["mode"] = json!({"lookup": {"keys": {"topic": {"name": "t", "field": "f"}}}});
    assert_eq!(failure(&open(&config).await, &checkpoint).await.kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn a_service_that_allows_short_spans_alone_is_asked_for_one_after_the_other() {
    let days = Arc::new(Mutex::new(vec![dated(1, "a", "2026-11-02"), dated(2, "b", "2026-11-05")]));
    let held = Arc::clone(&days);
    let server = FakeLgsp::start(move |asked| {
        let (from, to) = (asked.query("tu").to_owned(), asked.query("den").to_owned());
        let inside = |row: &&Value| row["sua"].as_str().is_some_and(|at| at >= from.as_str() && at <= to.as_str());
        Reply::json(&json!(held.lock().unwrap().iter().filter(inside).collect::<Vec<_>>()))
    })
    .await;
    let today = chrono::Utc::now().date_naive();
    let start = (today - chrono::Days::new(70)).to_string();
    days.lock().unwrap()[0]["sua"] = json!((today - chrono::Days::new(65)).to_string());
    days.lock().unwrap()[1]["sua"] = json!((today - chrono::Days::new(3)).to_string());
    let mark = json!({"field": "sua", "format": "%Y-%m-%d", "param": "tu", "start": start, "window_s": 30 * 86_400});
    let stream = json!({"path": "/ds", "key": ["id"], "query": {"den": "{until}"}, "mode": {"watermark": mark}});
    let settings = config(&server, json!({"streams": {"a": stream}}));
    let mut reader = Reader::start(&open(&settings).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await.len(), 2);
    assert_eq!(reader.completed, 1);
    let spans: Vec<_> = server.asked("/ds").iter().map(|asked| (asked.query("tu").to_owned(), asked.query("den").to_owned())).collect();
    let day = |ago| (today - chrono::Days::new(ago)).to_string();
    assert_eq!(spans[..2], [(day(70), day(40)), (day(40), day(10))]);
    assert_eq!(spans[2].0, day(10));
    let checkpoint = reader.kill().await;
    let asked = server.asked("/ds").len();
    let mut reader = Reader::start(&open(&settings).await, &checkpoint);
    assert_eq!(reader.first_look().await, Vec::<String>::new());
    assert_eq!(server.asked("/ds")[asked].query("tu"), day(3), "windows that are over are not asked for again");
}
