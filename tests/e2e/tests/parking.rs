//! A stream in trouble is parked: the others of its system go on, exactly once, and it comes back when it is mended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use hub_tests_e2e::{Event, Hub, Setup, Source, events, eventually, unique};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TABLES: &str = "
    CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, phi numeric(14,2));
    CREATE TABLE khac (id bigint PRIMARY KEY, ten text);
    INSERT INTO nguoi VALUES (1, 'A', 1), (2, 'B', 2);
    INSERT INTO khac SELECT i, 'K' FROM generate_series(1, 100) i;";
const STREAMS: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    map: {id: id, name: ten, fee: phi}
  - source: public.khac
    entity: test.Other
    key: [id]
    map: {id: id, name: ten}
";

/// Writes to `khac` without a rest, one row a transaction, from 101 on.
struct Writer {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<i64>,
}

impl Writer {
    async fn start(source: &Source) -> Self {
        let address = format!("host=127.0.0.1 port={} user=postgres dbname={}", source.port, source.database);
        let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut id = 100;
            while stopped.try_recv().is_err() {
                id += 1;
                client.execute("INSERT INTO khac VALUES ($1, 'L')", &[&id]).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            id
        });
        Self { stop, task }
    }

    /// The last key.
    async fn stop(self) -> i64 {
        self.stop.send(()).unwrap();
        self.task.await.unwrap()
    }
}

fn ops(events: &[Event], id: i64) -> String {
    events.iter().filter(|event| event.key["id"] == id).map(|event| event.op.as_str()).collect()
}

fn name(events: &[Event], id: i64) -> String {
    let last = events.iter().rfind(|event| event.key["id"] == id);
    last.and_then(|event| event.after["name"].as_str()).unwrap_or_default().to_owned()
}

/// Waits until a stream is parked, and sees that everyone is told; gives why.
async fn parked(hub: &Hub, stream: &str) -> String {
    let why = eventually(&format!("{stream} to be parked"), async || {
        hub.status().await.and_then(|status| Some(status["streams"][stream]["parked"].as_str()?.to_owned()))
    })
    .await;
    let gauge = format!("hub_stream_parked{{stream=\"{stream}\",system=\"demo\"}} 1");
    assert!(hub.get("/metrics").await.unwrap().contains(&gauge), "the metric tells");
    let ready = hub.get("/readyz").await.unwrap();
    assert!(ready.contains(&format!("demo: stream {stream} is parked")), "{ready}");
    assert!(hub.log().contains("the stream is parked"), "the log tells");
    hub.reaches("following").await;
    why
}

/// Runs a hub until all that `TABLES` holds is published.
async fn run_whole(setup: &Setup) -> Hub {
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 2).await;
    hub.counts("public.khac", "published", 100).await;
    hub
}

/// Waits until nothing is parked.
async fn unparked(hub: &Hub) {
    eventually("all streams to run", async || hub.get("/readyz").await.filter(|body| body == "ready\n")).await;
    assert!(hub.get("/metrics").await.unwrap().contains("hub_stream_parked{stream=\"public.nguoi\",system=\"demo\"} 0"));
}

/// Waits until the topic of `khac` has the keys up to `last`, and sees that each came once.
async fn khac_is_whole(setup: &Setup, last: i64) {
    let topic = setup.topic("other");
    let total = usize::try_from(last).unwrap();
    let found =
        eventually(&format!("{last} rows of khac"), async || Some(events(setup, &topic).await).filter(|events| events.len() >= total))
            .await;
    assert_eq!(found.len(), total, "no row of the healthy stream is told twice");
    assert_eq!((ops(&found, 1), ops(&found, 101)), ("r".to_owned(), "c".to_owned()));
}

#[tokio::test]
async fn a_dropped_table_is_parked_alone_and_read_when_it_is_made_again() {
    let source = Source::create(TABLES).await;
    let setup = Setup::new(&source, STREAMS);
    let hub = run_whole(&setup).await;
    let writer = Writer::start(&source).await;
    source.run("DROP TABLE nguoi").await;
    let why = parked(&hub, "public.nguoi").await;
    assert!(why.contains("no such table") && why.contains("hub discover"), "{why}");
    let before = hub.status().await.unwrap()["streams"]["public.khac"]["published"].as_u64().unwrap();
    hub.counts("public.khac", "published", before + 50).await;
    hub.kill();
    let hub = setup.run();
    parked(&hub, "public.nguoi").await;
    source
        .run("BEGIN; CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, phi numeric(14,2)); INSERT INTO nguoi VALUES (1, 'Mới', 1), (3, 'C', 3); COMMIT")
        .await;
    unparked(&hub).await;
    source.run("INSERT INTO nguoi VALUES (4, 'D', 4)").await;
    hub.counts("public.nguoi", "published", 3).await;
    let last = writer.stop().await;
    // Row 4 may come before the snapshot's last row; what is gone is deleted after it.
    let found = eventually("the delete of row 2", async || {
        Some(events(&setup, &setup.topic("person")).await).filter(|found| ops(found, 2) == "rdtombstone")
    })
    .await;
    assert_eq!((ops(&found, 1), ops(&found, 3), ops(&found, 4)), ("rr".into(), "r".into(), "c".into()));
    assert_eq!(name(&found, 1), "Mới");
    khac_is_whole(&setup, last).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_table_made_again_while_no_hub_runs_is_read_anew_alone() {
    let source = Source::create(TABLES).await;
    let setup = Setup::new(&source, STREAMS);
    let hub = run_whole(&setup).await;
    hub.reaches("following").await;
    hub.kill();
    source.run("DROP TABLE nguoi; CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, phi numeric(14,2))").await;
    source.run("INSERT INTO nguoi VALUES (1, 'Mới', 1), (3, 'C', 3); INSERT INTO khac VALUES (101, 'L')").await;
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 2).await;
    hub.counts("public.khac", "published", 1).await;
    let found = events(&setup, &setup.topic("person")).await;
    assert_eq!((ops(&found, 1), ops(&found, 3), name(&found, 1)), ("rr".into(), "r".into(), "Mới".into()));
    khac_is_whole(&setup, 101).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_table_that_leaves_the_publication_is_parked_alone_and_read_anew() {
    let source = Source::create(TABLES).await;
    let setup = Setup::new(&source, STREAMS);
    let hub = run_whole(&setup).await;
    let writer = Writer::start(&source).await;
    source.run("UPDATE nguoi SET ten = 'still told' WHERE id = 1").await;
    source.run("ALTER PUBLICATION hub_demo DROP TABLE nguoi").await;
    source.run("UPDATE nguoi SET ten = 'not told' WHERE id = 1; INSERT INTO nguoi VALUES (3, 'not told', 3)").await;
    let why = parked(&hub, "public.nguoi").await;
    assert!(why.contains("taken out") && why.contains("ADD TABLE"), "{why}");
    unparked(&hub).await;
    source.run("INSERT INTO nguoi VALUES (4, 'D', 4)").await;
    let topic = setup.topic("person");
    let found = eventually("the rows of the time between", async || {
        Some(events(&setup, &topic).await).filter(|events| ops(events, 4) == "c" && name(events, 3) == "not told")
    })
    .await;
    assert_eq!(name(&found, 1), "not told", "the last state, though the one before was told as a change");
    assert_eq!((ops(&found, 2), ops(&found, 3)), ("rr".into(), "r".into()), "a snapshot of this stream");
    let last = writer.stop().await;
    khac_is_whole(&setup, last).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_publication_that_only_its_owner_may_mend_is_waited_for_without_disturbing_the_others() {
    let source = Source::create(TABLES).await;
    let role = unique("r");
    source
        .run(&format!(
            "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'x'; GRANT SELECT ON nguoi, khac TO {role};
             CREATE PUBLICATION hub_demo FOR TABLE nguoi, khac WITH (publish_via_partition_root = true)"
        ))
        .await;
    let config = format!(
        "config: {{host: 127.0.0.1, port: {}, database: {}, user: {role}, password: \"${{file:pw}}\", slot: SLOT, tls: {{mode: disable}}}}",
        source.port, source.database
    );
    let setup = Setup::with_config(&config, STREAMS);
    std::fs::write(setup.folder.join("pw"), "x").unwrap();
    let hub = run_whole(&setup).await;
    source.run("ALTER PUBLICATION hub_demo DROP TABLE nguoi; UPDATE nguoi SET ten = 'not told' WHERE id = 1").await;
    parked(&hub, "public.nguoi").await;
    // The look at it says what its owner is to do, and does not restart the others.
    eventually("the way out", async || {
        hub.get("/readyz").await.filter(|body| body.contains("let the owner run: ALTER PUBLICATION") && body.contains("does not own both"))
    })
    .await;
    let restarts = "hub_system_restarts_total{reason=\"source\",system=\"demo\"} 1";
    assert!(hub.get("/metrics").await.unwrap().lines().any(|line| line == restarts));
    source.run("ALTER PUBLICATION hub_demo ADD TABLE nguoi; INSERT INTO khac VALUES (101, 'L')").await;
    unparked(&hub).await;
    hub.counts("public.nguoi", "published", 4).await;
    let found = events(&setup, &setup.topic("person")).await;
    assert_eq!((ops(&found, 1), name(&found, 1)), ("rr".into(), "not told".into()));
    khac_is_whole(&setup, 101).await;
    assert!(hub.stop());
    source.run(&format!("DROP OWNED BY {role}; DROP PUBLICATION hub_demo")).await;
    source.remove().await;
}

#[tokio::test]
async fn a_refused_schema_parks_its_stream_alone_and_its_rows_are_replayed_once_it_is_accepted() {
    let source = Source::create(TABLES).await;
    let setup = Setup::new(&source, STREAMS);
    let hub = run_whole(&setup).await;
    assert!(hub.stop());
    own_schemas(
        &setup,
        r#""type":["null",{"type":"bytes","logicalType":"decimal","precision":14,"scale":2}]"#,
        r#""type":["null","long"]"#,
    );
    edit(&setup, "fee: phi", "fee: \"CAST(phi AS BIGINT)\"");
    let hub = setup.run();
    let why = parked(&hub, "public.nguoi").await;
    assert!(why.contains(&format!("{}-value", setup.topic("person"))) && why.contains("compatib"), "{why}");
    let writer = Writer::start(&source).await;
    source.run("UPDATE nguoi SET phi = 7 WHERE id = 1; INSERT INTO nguoi VALUES (3, 'C', 3)").await;
    hub.counts("public.nguoi", "rejected", 2).await;
    hub.counts("public.khac", "published", 20).await;
    let shown = setup.command(&["rejects", "list", "demo", "--json"]);
    let reasons: Vec<Value> = String::from_utf8(shown.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&reasons[0]["reason"], &reasons[0]["count"]), (&"schema-refused".into(), &2.into()), "{reasons:?}");
    relax(&setup, &format!("{}-value", setup.topic("person"))).await;
    unparked(&hub).await;
    source.run("INSERT INTO nguoi VALUES (4, 'D', 4)").await;
    hub.counts("public.nguoi", "published", 1).await;
    replay(&setup);
    let found = events(&setup, &setup.topic("person")).await;
    assert_eq!((ops(&found, 1), ops(&found, 2), ops(&found, 3), ops(&found, 4)), ("ru".into(), "r".into(), "c".into(), "c".into()));
    let last = writer.stop().await;
    khac_is_whole(&setup, last).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_mapped_column_that_changes_its_type_parks_its_stream_until_the_mapping_is_mended() {
    let source = Source::create(TABLES).await;
    let setup = Setup::new(&source, STREAMS);
    let hub = run_whole(&setup).await;
    let writer = Writer::start(&source).await;
    source.run("ALTER TABLE nguoi ALTER COLUMN phi TYPE boolean USING phi > 1").await;
    source.run("INSERT INTO nguoi VALUES (3, 'C', true); UPDATE nguoi SET ten = 'A2' WHERE id = 1").await;
    let why = parked(&hub, "public.nguoi").await;
    assert!(why.contains("fee") && why.contains("boolean"), "the field and the type: {why}");
    hub.counts("public.nguoi", "rejected", 2).await;
    hub.counts("public.khac", "published", 120).await;
    edit(&setup, "fee: phi", "fee: \"CASE WHEN phi THEN CAST(5 AS DECIMAL(14,2)) END\"");
    let applied = setup.command(&["apply", "--yes"]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    unparked(&hub).await;
    source.run("INSERT INTO nguoi VALUES (4, 'D', true)").await;
    hub.counts("public.nguoi", "published", 1).await;
    replay(&setup);
    let found = events(&setup, &setup.topic("person")).await;
    assert_eq!((ops(&found, 1), ops(&found, 2), ops(&found, 3), ops(&found, 4)), ("ru".into(), "r".into(), "c".into(), "c".into()));
    assert_eq!(found.iter().find(|event| event.key["id"] == 3).unwrap().after["fee"], "500");
    let last = writer.stop().await;
    khac_is_whole(&setup, last).await;
    assert!(hub.stop());
    source.remove().await;
}

/// Rewrites the system's file.
fn edit(setup: &Setup, from: &str, to: &str) {
    let file = setup.folder.join("systems/demo.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    setup.write_system(&text.replace(from, to));
}

/// Gives the setup schemas of its own, with another `Person`.
fn own_schemas(setup: &Setup, from: &str, to: &str) {
    let link = setup.folder.join("schemas");
    let shared = std::fs::canonicalize(&link).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir_all(link.join("test")).unwrap();
    std::os::unix::fs::symlink(shared.join("codes"), link.join("codes")).unwrap();
    std::fs::copy(shared.join("test/Other.avsc"), link.join("test/Other.avsc")).unwrap();
    let text = std::fs::read_to_string(shared.join("test/Person.avsc")).unwrap();
    assert!(text.contains(from));
    std::fs::write(link.join("test/Person.avsc"), text.replace(from, to)).unwrap();
}

/// Lets a subject take any schema.
async fn relax(setup: &Setup, subject: &str) {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", setup.registry)).await.unwrap();
    let body = r#"{"compatibility":"NONE"}"#;
    let request = format!(
        "PUT /config/{subject} HTTP/1.1\r\nhost: r\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Replays all rejects; every one must be published.
fn replay(setup: &Setup) {
    let output = setup.command(&["rejects", "replay", "demo"]);
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
