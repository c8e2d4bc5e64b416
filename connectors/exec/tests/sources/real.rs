//! Real sources from PyPI: Airbyte's faker and its runner of manifests, and two taps of PostgreSQL.

use hub_sdk::model::StreamName;
use hub_sdk::{Connector, ErrorKind};
use serde_json::{Value, json};

use crate::support::api::{FakeApi, TOKEN};
use crate::support::desk::Desk;
use crate::support::mariadb::Mariadb;
use crate::support::postgres::{PASSWORD, Postgres};
use crate::support::{Scratch, source};

fn faker(scratch: &Scratch) -> Value {
    json!({
        "protocol": "airbyte",
        "command": [source("faker", "source-faker")],
        "config": {"count": 250, "seed": 7, "records_per_slice": 100, "parallelism": 1, "always_updated": false},
        "folder": scratch.path(),
        "every_s": 0.1,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn three_streams_of_faker_are_read_and_a_resumed_run_goes_on_from_their_state() {
    let scratch = Scratch::new();
    let mut config = faker(&scratch);
    config["streams"] = json!({"users": {"mode": "changes"}, "purchases": {"mode": "changes"}});
    let mut desk = Desk::new(config, &["users", "products", "purchases"]);
    let connector = desk.connector().await;
    let probe = connector.probe().await.unwrap();
    assert_eq!((probe.server.as_str(), probe.findings), ("Airbyte source source-faker", Vec::new()));
    let shapes = connector.discover().await.unwrap();
    assert_eq!(shapes.iter().map(|shape| shape.stream.as_str()).collect::<Vec<_>>(), ["products", "users", "purchases"]);
    let mut run = desk.run().await;
    let first = desk.snapshot(&mut run).await;
    let count = |changes: &[String], stream: &str| changes.iter().filter(|change| change.starts_with(stream)).count();
    let (users, products, purchases) = (count(&first, "users r"), count(&first, "products r"), count(&first, "purchases r"));
    assert_eq!((users, products), (250, 100));
    assert!(purchases > 0 && users + products + purchases == first.len(), "{purchases} purchases among {}", first.len());
    run.kill().await;
    let states: Vec<_> = desk.partitions().into_iter().filter(|partition| partition.starts_with("state")).collect();
    assert_eq!(states, ["state/purchases", "state/users"], "a whole stream keeps none");
    let mut run = desk.run().await;
    // Products come again and again with other times; when the second of these runs tells them, the first has read all streams.
    let mut more = Vec::new();
    while count(&more, "products u") <= products {
        more.extend(desk.take(&mut run).await);
    }
    assert_eq!(count(&more, "products u"), more.len(), "from its state on faker has nothing to say of the others");
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_faker_ends_its_child_and_a_mistake_is_told_by_check() {
    let scratch = Scratch::new();
    let mut desk = Desk::new(faker(&scratch), &["users"]);
    desk.config["config"]["count"] = json!(1_000_000);
    let connector = desk.connector().await;
    let sample = connector.sample(&StreamName::new("users").unwrap(), 5).await.unwrap();
    assert_eq!(sample.len(), 5);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    desk.config["config"]["count"] = json!(0);
    let probe = desk.connector().await.probe().await.unwrap();
    assert_eq!(probe.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["check-failed"], "{probe:?}");
    assert_eq!(desk.failure().await.kind(), ErrorKind::BadConfig);
}

fn manifest(api: &FakeApi, scratch: &Scratch) -> Value {
    json!({
        "protocol": "airbyte",
        "command": [source("manifest", "source-declarative-manifest")],
        "arguments": ["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake_api.yaml")],
        "config": {"url": format!("http://127.0.0.1:{}", api.port)},
        "secrets": {"/token": TOKEN},
        "folder": scratch.path(),
        "every_s": 0.1,
        "streams": {"goi_thau": {"mode": "changes"}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_an_airbyte_source_reads_whole_is_told_as_what_differs() {
    let scratch = Scratch::new();
    let file = scratch.path().join("danh_muc.csv");
    std::fs::write(&file, "id,ten,gia\n1,\"Đặng, Ánh\",2.50\n2,,3\n").unwrap();
    std::fs::create_dir(scratch.path().join("work")).unwrap();
    let config = json!({
        "protocol": "airbyte",
        "command": [source("file", "source-file")],
        "config": {"dataset_name": "danh_muc", "format": "csv", "url": file, "provider": {"storage": "local"}},
        "folder": scratch.path().join("work"),
        "every_s": 0.1,
        "streams": {"danh_muc": {"key": ["id"]}},
    });
    let mut desk = Desk::new(config, &["danh_muc"]);
    let probe = desk.connector().await.probe().await.unwrap();
    assert!(probe.findings.is_empty(), "{probe:?}");
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["danh_muc r 1|Đặng, Ánh|2.5", "danh_muc r 2|∅|3.0"]);
    std::fs::write(&file, "id,ten,gia\n1,Ánh,2.50\n3,Chi,4\n").unwrap();
    assert_eq!(desk.changes(&mut run, 3).await, ["danh_muc u 1|Ánh|2.5", "danh_muc c 3|Chi|4.0", "danh_muc d 2|∅|∅"]);
    run.shut().await;
}

fn tender(id: i64, day: u32) -> Value {
    json!({"id": id, "ten": format!("Gói {id}"), "gia": 2.5, "sua": format!("2026-01-{day:02}T00:00:00Z")})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_reads_an_api_from_its_cursor_on() {
    let (api, scratch) = (FakeApi::start().await, Scratch::new());
    api.rows.lock().unwrap().extend((1..=5).map(|id| tender(id, id as u32)));
    let mut desk = Desk::new(manifest(&api, &scratch), &["goi_thau"]);
    let probe = desk.connector().await.probe().await.unwrap();
    assert!(probe.findings.is_empty(), "{probe:?}");
    let mut run = desk.run().await;
    let first = desk.snapshot(&mut run).await;
    assert_eq!(first.len(), 5);
    assert_eq!(first[0], "goi_thau r 1|Gói 1|2.5|2026-01-01T00:00:00Z");
    run.kill().await;
    api.asked.lock().unwrap().clear();
    {
        let mut rows = api.rows.lock().unwrap();
        rows[0] = json!({"id": 1, "ten": "Gói 1 sửa", "gia": null, "sua": "2026-01-07T00:00:00Z"});
        rows.push(tender(6, 8));
    }
    let mut run = desk.run().await;
    let mut later = desk.changes(&mut run, 2).await;
    later.sort();
    assert_eq!(later, ["goi_thau c 6|Gói 6|2.5|2026-01-08T00:00:00Z", "goi_thau u 1|Gói 1 sửa|∅|2026-01-07T00:00:00Z"]);
    assert_eq!(api.asked.lock().unwrap()[0], "2026-01-05T00:00:00Z", "it was asked from the state on");
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_an_api_refuses_is_told_without_it_and_without_the_answer() {
    let (api, scratch) = (FakeApi::start().await, Scratch::new());
    api.rows.lock().unwrap().push(tender(1, 1));
    let mut desk = Desk::new(manifest(&api, &scratch), &["goi_thau"]);
    desk.config["secrets"]["/token"] = json!("sai-mat-khau");
    let probe = desk.connector().await.probe().await.unwrap();
    assert_eq!(probe.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["login-refused"], "{probe:?}");
    let error = desk.failure().await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.report());
    for shown in [error.report(), format!("{error:?}"), format!("{probe:?}")] {
        assert!(!shown.contains("sai-mat-khau") && !shown.contains("Gói"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_follows_the_log_of_a_database_with_its_deletes() {
    let (server, scratch) = (Mariadb::start(PASSWORD), Scratch::new());
    server.run("CREATE DATABASE hub; CREATE TABLE hub.nguoi (id bigint PRIMARY KEY, ten varchar(50))");
    server.run("INSERT INTO hub.nguoi VALUES (1, 'Đặng Ánh'), (2, 'Bình')");
    let config = json!({
        "protocol": "singer",
        "command": [source("tap-mysql", "tap-mysql")],
        "config": {"host": "127.0.0.1", "port": server.port, "user": "hub", "filter_dbs": "hub", "engine": "mariadb"},
        "secrets": {"/password": PASSWORD},
        "folder": scratch.path(),
        "every_s": 0.1,
        "streams": {"hub-nguoi": {"mode": "log"}},
    });
    let mut desk = Desk::new(config, &["hub-nguoi"]);
    let probe = desk.connector().await.probe().await.unwrap();
    assert!(probe.findings.is_empty(), "{probe:?}");
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["hub-nguoi r 1|Đặng Ánh", "hub-nguoi r 2|Bình"]);
    run.kill().await;
    server.run("UPDATE hub.nguoi SET ten = 'Bảo' WHERE id = 2; INSERT INTO hub.nguoi VALUES (3, 'Chi'); UPDATE hub.nguoi SET ten = 'Bé' WHERE id = 2; DELETE FROM hub.nguoi WHERE id = 1");
    let mut run = desk.run().await;
    let changes = desk.changes(&mut run, 4).await;
    let short: Vec<_> = changes.iter().map(|change| change.split('|').take(2).collect::<Vec<_>>().join("|")).collect();
    assert_eq!(
        short,
        ["hub-nguoi u 2|Bảo", "hub-nguoi c 3|Chi", "hub-nguoi u 2|Bé", "hub-nguoi d 1|Đặng Ánh"],
        "each change, in its order"
    );
    run.kill().await;
    let mut run = desk.run().await;
    server.run("INSERT INTO hub.nguoi VALUES (4, 'Du')");
    assert_eq!(desk.changes(&mut run, 1).await, ["hub-nguoi c 4|Du"], "nothing comes twice");
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taps_of_two_makers_follow_a_table_by_its_cursor() {
    for (name, stream) in [("tap-postgres", "public-nguoi"), ("meltano", "public-nguoi")] {
        let (server, scratch) = (Postgres::start(), Scratch::new());
        server.run("CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, sua timestamptz NOT NULL)");
        server.run("INSERT INTO nguoi VALUES (1, 'Đặng Ánh', '2026-01-01Z'), (2, NULL, '2026-01-02Z')");
        let connection = match name {
            "meltano" => {
                json!({"host": "127.0.0.1", "port": server.port, "user": "hub", "database": "postgres", "filter_schemas": ["public"]})
            }
            _ => json!({"host": "127.0.0.1", "port": server.port, "user": "hub", "dbname": "postgres", "filter_schemas": "public"}),
        };
        let config = json!({
            "protocol": "singer",
            "command": [source(name, "tap-postgres")],
            "config": connection,
            "secrets": {"/password": PASSWORD},
            "folder": scratch.path(),
            "every_s": 0.1,
            "streams": {stream: {"mode": "changes", "cursor": "sua"}},
        });
        let mut desk = Desk::new(config, &[stream]);
        let probe = desk.connector().await.probe().await.unwrap();
        assert!(probe.findings.is_empty(), "{name}: {probe:?}");
        let mut run = desk.run().await;
        let first = desk.snapshot(&mut run).await;
        assert_eq!(first.len(), 2, "{name}: {first:?}");
        assert!(first[0].starts_with("public-nguoi r 1|Đặng Ánh|2026-01-01T00:00:00"), "{name}: {first:?}");
        run.kill().await;
        server.run("UPDATE nguoi SET ten = 'Bình', sua = '2026-01-03Z' WHERE id = 2");
        server.run("INSERT INTO nguoi VALUES (3, 'Chi', '2026-01-04Z')");
        let mut run = desk.run().await;
        let later = desk.changes(&mut run, 2).await;
        assert!(later[0].starts_with("public-nguoi u 2|Bình|2026-01-03"), "{name}: {later:?}");
        assert!(later[1].starts_with("public-nguoi c 3|Chi|2026-01-04"), "{name}: {later:?}");
        run.shut().await;
        desk.config["secrets"]["/password"] = json!("sai-mat-khau");
        let error = desk.failure().await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {}", error.report());
        assert!(!format!("{} {error:?}", error.report()).contains("sai-mat-khau"), "{name}");
    }
}
