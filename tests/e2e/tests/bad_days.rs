//! What happens when the source, its rights, its tables or the configuration fail: retry, park or stop, and never a lost row.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use hub_tests_e2e::{Proxy, Setup, Source, events, eventually, raw_records, unique};

const TABLE: &str = "CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, phi numeric(14,2));";
const STREAM: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    map: {id: id, name: ten, fee: phi}
";

fn config(port: u16, database: &str, user: &str) -> String {
    format!(
        "config: {{host: 127.0.0.1, port: {port}, database: {database}, user: {user}, password: \"${{file:pw}}\", slot: SLOT, tls: {{mode: disable}}}}"
    )
}

#[tokio::test]
async fn a_source_that_is_down_at_start_and_later_is_tried_again() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    let link = Proxy::to(source.port, false).await;
    let setup = Setup::with_config(&config(link.port, &source.database, "postgres"), STREAM);
    std::fs::write(setup.folder.join("pw"), "x").unwrap();
    let hub = setup.run();
    let status = hub.reaches("retrying").await;
    assert!(status["error"].as_str().unwrap().contains("127.0.0.1"), "the error names the server: {status}");
    link.mend();
    hub.counts("public.nguoi", "published", 1).await;
    link.cut();
    source.run("INSERT INTO nguoi VALUES (2, 'B', 2)").await;
    hub.reaches("retrying").await;
    assert_ne!(hub.get("/readyz").await.unwrap(), "ready\n");
    link.mend();
    hub.counts("public.nguoi", "published", 2).await;
    eventually("readiness", async || hub.get("/readyz").await.filter(|body| body == "ready\n")).await;
    assert_eq!(raw_records(&setup.topic("person")).len(), 2);
    drop(hub);
}

#[tokio::test]
async fn a_changed_password_is_told_and_comes_right_without_a_restart() {
    let source = Source::create(TABLE).await;
    let role = unique("r");
    source.run(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'first'; GRANT ALL ON DATABASE {} TO {role}; ALTER TABLE nguoi OWNER TO {role}; GRANT ALL ON SCHEMA public TO {role}", source.database)).await;
    let setup = Setup::with_config(&config(source.port, &source.database, &role), STREAM);
    std::fs::write(setup.folder.join("pw"), "wrong\n").unwrap();
    let hub = setup.run();
    let status = hub.reaches("waiting").await;
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("password") && !error.contains("wrong"), "told without the password: {error}");
    std::fs::write(setup.folder.join("pw"), "first\n").unwrap();
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    hub.counts("public.nguoi", "published", 1).await;
    assert!(!hub.log().contains("first"), "the password is not logged");
    drop(hub);
    source.run(&format!("REASSIGN OWNED BY {role} TO postgres")).await;
}

#[tokio::test]
async fn a_dropped_slot_stops_the_system_with_a_way_out_that_works() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    hub.reaches("following").await;
    assert!(hub.stop());
    source
        .run(&format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{}'", source.database))
        .await;
    source.run("INSERT INTO nguoi VALUES (2, 'B', 2)").await;
    let hub = setup.run();
    let status = hub.reaches("stopped").await;
    assert!(status["error"].as_str().unwrap().contains("--resnapshot"), "the way out is told: {status}");
    assert!(hub.stop());
    let hub = setup.run_with(&["--resnapshot", "demo"]);
    hub.counts("public.nguoi", "published", 2).await;
    drop(hub);
}

#[tokio::test]
async fn a_single_table_that_leaves_the_publication_is_told_and_read_anew_by_itself() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    hub.reaches("following").await;
    source.run("ALTER PUBLICATION hub_demo DROP TABLE nguoi").await;
    source.run("INSERT INTO nguoi VALUES (2, 'B', 2)").await;
    let status = hub.reaches("waiting").await;
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("public.nguoi") && error.contains("taken out") && error.contains("ADD TABLE"), "{error}");
    assert!(hub.get("/readyz").await.unwrap().contains("taken out"));
    let topic = setup.topic("person");
    eventually("the row of the time between", async || events(&setup, &topic).await.iter().any(|event| event.key["id"] == 2).then_some(()))
        .await;
    eventually("readiness", async || hub.get("/readyz").await.filter(|body| body == "ready\n")).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_dropped_table_is_named_and_waited_for() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.reaches("following").await;
    source.run("DROP TABLE nguoi").await;
    let status = hub.reaches("waiting").await;
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("public.nguoi") && error.contains("no such table"), "{error}");
    source.run(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (5, 'E', 1)").await;
    hub.counts("public.nguoi", "published", 1).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_schema_that_the_registry_refuses_is_told_and_nothing_is_published_by_it() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    assert!(hub.stop());
    let (link, file) = (setup.folder.join("schemas"), "test/Person.avsc");
    let text = std::fs::read_to_string(link.join(file)).unwrap();
    let codes = std::fs::canonicalize(link.join("codes")).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir_all(link.join("test")).unwrap();
    std::os::unix::fs::symlink(codes, link.join("codes")).unwrap();
    std::fs::write(link.join(file), text.replace(r#""name":"id","type":"long""#, r#""name":"id","type":"string""#)).unwrap();
    setup.write_system(
        &std::fs::read_to_string(setup.folder.join("systems/demo.yaml")).unwrap().replace("id: id,", "id: \"CAST(id AS VARCHAR)\","),
    );
    source.run("INSERT INTO nguoi VALUES (2, 'B', 2)").await;
    let hub = setup.run();
    let error = eventually("the refusal", async || hub.status().await.and_then(|status| Some(status["error"].as_str()?.to_owned()))).await;
    assert!(error.contains(&setup.topic("person")) && error.contains("compatib"), "the error names subject and reason: {error}");
    assert_eq!(raw_records(&setup.topic("person")).len(), 1);
    assert!(hub.stop());
    std::fs::write(link.join(file), text).unwrap();
    setup.write_system(
        &std::fs::read_to_string(setup.folder.join("systems/demo.yaml")).unwrap().replace("id: \"CAST(id AS VARCHAR)\",", "id: id,"),
    );
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    assert_eq!(raw_records(&setup.topic("person")).len(), 2, "the row waited at its source");
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_mapped_column_that_vanishes_parks_its_stream_and_its_rows_are_kept() {
    let source = Source::create(TABLE).await;
    source.run("CREATE TABLE khac (id bigint PRIMARY KEY, ten text)").await;
    let streams = format!("{STREAM}\n  - {{source: public.khac, entity: test.Other, key: [id], map: {{id: id, name: ten}}}}\n");
    let setup = Setup::new(&source, &streams);
    let hub = setup.run();
    hub.reaches("following").await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    hub.counts("public.nguoi", "published", 1).await;
    source.run("ALTER TABLE nguoi ADD COLUMN moi int; INSERT INTO nguoi VALUES (2, 'B', 2, 3)").await;
    hub.counts("public.nguoi", "published", 2).await;
    source
        .run("ALTER TABLE nguoi RENAME COLUMN ten TO ho_ten; INSERT INTO nguoi VALUES (3, 'C', 3); INSERT INTO khac VALUES (9, 'K')")
        .await;
    let status = hub.counts("public.nguoi", "rejected", 1).await;
    let why = status["streams"]["public.nguoi"]["parked"].as_str().unwrap();
    assert!(why.starts_with("systems/demo.yaml:9:25: field name: the source has no column ten"), "says where: {why}");
    hub.counts("public.khac", "published", 1).await;
    drop(hub);
}

#[tokio::test]
async fn a_table_added_to_a_running_system_is_read_whole_while_the_others_go_on() {
    let source = Source::create(TABLE).await;
    source.run("CREATE TABLE khac (id bigint PRIMARY KEY, ten text); INSERT INTO khac SELECT i, 'K' FROM generate_series(1, 3000) i").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.reaches("following").await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    hub.counts("public.nguoi", "published", 1).await;
    assert!(hub.stop());
    let text = std::fs::read_to_string(setup.folder.join("systems/demo.yaml")).unwrap();
    setup.write_system(&format!("{text}\n  - {{source: public.khac, entity: test.Other, key: [id], map: {{id: id, name: ten}}}}\n"));
    let hub = setup.run();
    source.run("UPDATE khac SET ten = 'L' WHERE id <= 10; INSERT INTO nguoi VALUES (2, 'B', 2)").await;
    hub.counts("public.nguoi", "published", 1).await;
    let topic = setup.topic("other");
    eventually("all rows of the added table", async || {
        let events = events(&setup, &topic).await;
        let keys: std::collections::BTreeSet<i64> = events.iter().filter_map(|event| event.key["id"].as_i64()).collect();
        let current = events.iter().rev().find(|event| event.key["id"] == 1).is_some_and(|event| event.after["name"] == "L");
        (keys.len() == 3000 && current).then_some(())
    })
    .await;
    let events = events(&setup, &topic).await;
    assert!(events.len() <= 3010, "no row is read twice: {}", events.len());
    drop(hub);
}

#[test]
fn all_faults_of_a_configuration_are_listed_with_their_places() {
    let setup = Setup::with_config("config: {}", STREAM);
    std::fs::write(setup.folder.join("hub.yaml"), HUB).unwrap();
    setup.write_system(SYSTEM);
    std::fs::write(setup.folder.join("systems/second.yaml"), SECOND).unwrap();
    let schemas = setup.folder.join("schemas");
    let original = std::fs::canonicalize(&schemas).unwrap();
    std::fs::remove_file(&schemas).unwrap();
    std::fs::create_dir_all(schemas.join("codes")).unwrap();
    std::os::unix::fs::symlink(original.join("test"), schemas.join("test")).unwrap();
    std::fs::copy(original.join("codes/person-status.csv"), schemas.join("codes/person-status.csv")).unwrap();
    std::fs::write(schemas.join("codes/broken.csv"), "code,title_vi,title_en,demo\na,,,1\na,,,2\n").unwrap();
    for arguments in [&["check", "--offline"][..], &["apply", "--yes"], &["run"]] {
        let output = setup.command(arguments);
        let said = String::from_utf8(output.stderr).unwrap().replace(&format!("{}/", setup.folder.display()), "");
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        let told: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        assert_eq!(told.join("\n"), FAULTS.trim(), "{arguments:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_hangs_on_a_file_that_cannot_be_read_is_not_told() {
    let setup = Setup::with_config("config: {host: a, database: b, user: c}", STREAM);
    std::fs::write(setup.folder.join("hub.yaml"), "kafka: {brokers: [\n").unwrap();
    std::fs::remove_file(setup.folder.join("schemas")).unwrap();
    let output = setup.command(&["check", "--offline"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("hub.yaml:"), "{said}");
}

const HUB: &str = r#"kafka:
  brokers: nowhere
  replication: 0
  retries: 1
  tls: {cert: hub.pem}
  properties: {ssl.key.password: hunter2, acks: "1"}
  sasl: {mechanism: PLAINN, user: hub, password: "${file:none}"}
http: {listen: here}
registry: {user: hub, url: "registry:8081"}
lanes: 0
"#;

const SYSTEM: &str = r#"system: demo
title: {vi: A, en: 5}
connector: postgres
config:
  host: 127.0.0.1
  port: many
  databse: x
  user: postgres
  password: "${file:missing}"
  tls: {mode: disabel}
  snapshot: {parallel: 99}
  slot: Not A Slot
streams:
  - source: public.nguoi
    entity: test.Persn
    key: [id]
    wher: NOT xoa AND
    map: {id: id, name: propper_name(ten)}
  - source: public.nguoi
    entity: test.Person
    key: [idd]
    map:
      id: id
      naem: ten
      born: "personal_id(ten)"
      fee: 5
      status: code('person-statuss', ten)
  - {source: public.khac, entity: test.Other, key: [id], map: {id: id, status: "code('broken', 'demo', x)"}}
"#;

const SECOND: &str = "system: demo\nconnector: postgre\nconfig: {password: \"${env:HUB_E2E_NO_SUCH}\"}\nstreams: []\n";

/// Every fault, and no other, in the order of the files.
const FAULTS: &str = r#"
hub.yaml:2:12: `kafka.brokers`: "nowhere" is not a list of host:port, parted by commas: write `broker-1:9092,broker-2:9092`
hub.yaml:3:16: `kafka.replication`: no topic can have 0 replicas: write at least 1, and 3 in a cluster
hub.yaml:4:3: unknown key `retries` in `kafka`; known are: brokers, tls, sasl, topic_prefix, replication, compression, transaction_timeout_ms, max_record_bytes, properties
hub.yaml:5:15: `kafka.tls.cert`: a client certificate needs both tls.cert and tls.key: write tls.key too
hub.yaml:5:15: `kafka.tls.cert`: there is no file hub.pem; a relative path begins at the configuration folder
hub.yaml:6:34: a secret stands here in plain sight; put it into a file or the environment and write ${file:path} or ${env:NAME}
hub.yaml:6:49: `kafka.properties.acks`: this setting cannot be changed here: the hub always waits for all replicas
hub.yaml:7:21: `mechanism` must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; did you mean `PLAIN`?
hub.yaml:7:50: secret ${file:none} cannot be read: none: No such file or directory (os error 2); write the secret into that file; a relative path begins at the configuration folder
hub.yaml:8:16: `http.listen`: "here" is no address with a port: write `127.0.0.1:8081`, or `0.0.0.0:8081` for all
hub.yaml:9:18: `registry.user`: a login needs both user and password: write registry.password too
hub.yaml:9:28: `registry.url`: "registry:8081" is no URL: write `https://registry.example:8081`
hub.yaml:10:8: `lanes` must be from 1 to 65535
schemas/codes/broken.csv:3:1: code list broken: code a is here a second time
systems/demo.yaml:2:20: `en` must be text, not a number; put it in quotes
systems/demo.yaml:6:9: `port` must be a whole number, not text; write a whole number
systems/demo.yaml:7:3: unknown key `databse`; did you mean `database`?
systems/demo.yaml:9:13: secret ${file:missing} cannot be read: missing: No such file or directory (os error 2); write the secret into that file; a relative path begins at the configuration folder
systems/demo.yaml:10:15: `mode` must be one of disable, prefer, require, verify-ca, verify-full; did you mean `disable`?
systems/demo.yaml:11:24: `snapshot.parallel` is out of range; use 1 to 32, such as 2
systems/demo.yaml:12:9: `slot` cannot name a replication slot; use 1 to 63 of a-z, 0-9 and _
systems/demo.yaml:15:13: there is no canonical entity `test.Persn`; did you mean `test.Person`?
systems/demo.yaml:17:5: unknown key `wher` in `streams`; did you mean `where`?
systems/demo.yaml:17:11: where: this is not an SQL expression: Expected: an expression, found: EOF
systems/demo.yaml:18:25: field name: there is no function propper_name; did you mean proper_name?
systems/demo.yaml:19:13: `public.nguoi` is captured by stream 1 already
systems/demo.yaml:21:10: key field idd is not in test.Person; did you mean id?
systems/demo.yaml:24:13: field naem: test.Person has no such field; did you mean name?
systems/demo.yaml:25:14: field born: wants date but the expression gives text; write vn_date(personal_id(ten))
systems/demo.yaml:26:12: `fee` must be text, not a number; put it in quotes
systems/demo.yaml:27:15: field status: there is no code list person-statuss; did you mean person-status?
systems/demo.yaml:28:63: field name: it is required (text) and not mapped; map it, or give it a default in its schema
systems/second.yaml:1:9: system demo is also defined in systems/demo.yaml; give one of them another name
systems/second.yaml:2:12: there is no connector `postgre`; did you mean `postgres`?
systems/second.yaml:3:20: secret ${env:HUB_E2E_NO_SUCH} cannot be read: the environment has no variable HUB_E2E_NO_SUCH; set HUB_E2E_NO_SUCH in the hub's environment, or write ${file:path}
"#;
