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
async fn a_table_that_leaves_the_publication_stops_the_system_with_a_way_out_that_works() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    hub.reaches("following").await;
    source.run("ALTER PUBLICATION hub_demo DROP TABLE nguoi").await;
    source.run("INSERT INTO nguoi VALUES (2, 'B', 2)").await;
    let status = hub.reaches("stopped").await;
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("taken out") && error.contains("--resnapshot demo"), "{error}");
    assert!(hub.stop());
    let hub = setup.run_with(&["--resnapshot", "demo"]);
    hub.counts("public.nguoi", "published", 2).await;
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
    assert!(status["streams"]["public.nguoi"]["parked"].as_str().unwrap().contains("ten"), "says which column: {status}");
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

#[tokio::test]
async fn all_faults_of_a_configuration_are_listed_with_their_places() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    setup.write_system(
        "system: demo\nconnector: postgre\nconfig: {host: 1}\nstreams:\n  - source: public.nguoi\n    entity: test.Persn\n    key: [id]\n    map: {id: id}\n    wher: x\n",
    );
    let output = setup.command(&["check", "--offline"]);
    let errors = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("demo.yaml:9:5: unknown key `wher`") && errors.contains("did you mean `where`"), "{errors}");
    source.remove().await;
}
