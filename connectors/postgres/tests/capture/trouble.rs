//! Bad days: links that break, tables that are rewritten, roles with no more rights than they need.

use hub_sdk::ErrorKind;
use hub_sdk::model::Checkpoint;
use serde_json::json;

use crate::replica::Replica;
use crate::rig::{Rig, Run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_owns_its_tables_logs_in_by_password_and_needs_no_more() {
    let rig = Rig::start(
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE hub LOGIN REPLICATION PASSWORD 'mật khẩu';
         GRANT CREATE ON DATABASE postgres TO hub; CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a OWNER TO hub;
         CREATE TABLE b (LIKE a INCLUDING ALL); ALTER TABLE b OWNER TO hub; INSERT INTO b VALUES (7)",
    )
    .await;
    let login = json!({"user": "hub", "password": "mật khẩu"});
    let mut replica = Replica::default();
    let connector = rig.connector_with(&["public.a"], login.clone()).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    rig.run("INSERT INTO a VALUES (1)").await;
    replica.until_key(&mut run, "public.a", "1").await;
    run.shut().await;
    let connector = rig.connector_with(&["public.a", "public.b"], login).await;
    let mut run = Run::start(&connector, &replica.checkpoint);
    replica.until_key(&mut run, "public.b", "7").await;
    run.shut().await;
    hub_sdk::Connector::release(connector.as_ref()).await.unwrap();
    let wrong = rig.connector_with(&["public.a"], json!({"user": "hub", "password": "sai"})).await;
    let error = Run::start(&wrong, &Checkpoint::empty()).failure().await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", error.report());
    assert!(!error.report().contains("sai"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_link_is_unreachable_and_the_same_connector_goes_on() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY)").await;
    let connector = rig.connector(&["public.a"]).await;
    let mut replica = Replica::default();
    let mut run = Run::start(&connector, &Checkpoint::empty());
    for id in 1..=3 {
        rig.run(&format!("INSERT INTO a VALUES ({id})")).await;
        replica.until_key(&mut run, "public.a", &id.to_string()).await;
        let following = "SELECT count(*) FROM pg_replication_slots WHERE active";
        while rig.admin.query_one(following, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        rig.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name <> ''").await;
        assert_eq!(run.failure().await.kind(), ErrorKind::Unreachable);
        run = Run::start(&connector, &replica.checkpoint);
    }
    rig.run("INSERT INTO a VALUES (9)").await;
    replica.until_key(&mut run, "public.a", "9").await;
    replica.assert_same(&rig.admin, "public.a").await;
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_rewritten_in_the_middle_of_its_snapshot_is_read_anew() {
    let rig = Rig::start(
        "CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a SELECT i, repeat('x', 900) FROM generate_series(1, 20000) i;
         DELETE FROM a WHERE id % 3 = 0",
    )
    .await;
    let connector = rig.connector_with(&["public.a"], json!({"snapshot": {"parallel": 1, "chunk_mib": 4}})).await;
    let mut replica = Replica::default();
    let mut run = Run::start(&connector, &Checkpoint::empty());
    while replica.reads == 0 {
        replica.one(&mut run).await;
    }
    assert!(!replica.is_complete("public.a"));
    run.kill().await;
    // Once the killed reader's lock is gone, rows move to other blocks without an event.
    rig.run("VACUUM FULL a").await;
    rig.run("UPDATE a SET t = 'y' WHERE id < 50").await;
    replica.known.clear();
    let mut run = Run::start(&connector, &replica.checkpoint);
    while !replica.is_complete("public.a") {
        replica.one(&mut run).await;
    }
    replica.assert_same(&rig.admin, "public.a").await;
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_table_breaks_its_stream_and_says_which() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY)").await;
    let connector = rig.connector(&["public.a", "public.vang"]).await;
    let error = Run::start(&connector, &Checkpoint::empty()).failure().await;
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert_eq!(error.stream().map(ToString::to_string).as_deref(), Some("public.vang"));
}

/// A role that owns nothing, and a publication that its owner made.
const GUEST: &str = "
    CREATE ROLE khach LOGIN REPLICATION PASSWORD 'x'; CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
    INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); GRANT SELECT ON a TO khach;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_may_not_be_read_or_published_breaks_its_stream_alone() {
    let rig = Rig::start(GUEST).await;
    let broken = async || {
        let connector = rig.connector_with(&["public.a", "public.b"], json!({"user": "khach", "password": "x"})).await;
        let error = Run::start(&connector, &Checkpoint::empty()).failure().await;
        assert_eq!(error.kind(), ErrorKind::StreamBroken, "{}", error.report());
        assert_eq!(error.stream().map(ToString::to_string).as_deref(), Some("public.b"));
        error.report()
    };
    rig.run("CREATE PUBLICATION hub_mot_cua FOR TABLE a WITH (publish_via_partition_root = true)").await;
    let report = broken().await;
    assert!(report.contains("ALTER PUBLICATION \"hub_mot_cua\" ADD TABLE"), "{report}");
    rig.run("ALTER PUBLICATION hub_mot_cua ADD TABLE b").await;
    let report = broken().await;
    assert!(report.contains("GRANT SELECT ON"), "{report}");
    rig.run("GRANT SELECT ON b TO khach").await;
    let connector = rig.connector_with(&["public.a", "public.b"], json!({"user": "khach", "password": "x"})).await;
    let (mut replica, mut run) = (Replica::default(), Run::start(&connector, &Checkpoint::empty()));
    replica.until_key(&mut run, "public.b", "1").await;
    run.shut().await;
}
