//! Streams that are added to a running system.

use hub_sdk::model::Checkpoint;
use serde_json::json;

use crate::handoff::Load;
use crate::replica::Replica;
use crate::rig::{Rig, Run};

const TABLES: &str = "
    CREATE TABLE cu (id bigint PRIMARY KEY);
    CREATE TABLE moi (id bigint PRIMARY KEY, ten text, le_phi numeric(14,2), lan int DEFAULT 0);
    INSERT INTO moi SELECT i, 'Hồ sơ số ' || i || repeat(' x', (i % 50)::int), i / 100.0 FROM generate_series(1, 30000) i;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_added_stream_is_read_under_load_while_the_others_go_on() {
    let rig = Rig::start(TABLES).await;
    let mut replica = Replica::default();
    let mut run = Run::start(&rig.connector(&["public.cu"]).await, &Checkpoint::empty());
    rig.run("INSERT INTO cu VALUES (1)").await;
    replica.until_key(&mut run, "public.cu", "1").await;
    run.kill().await;
    let load = Load::start(&rig, "moi").await;
    // Killed twice in the middle, too.
    for deliveries in [3, 10] {
        let connector = rig.connector_with(&["public.cu", "public.moi"], json!({"snapshot": {"chunk_mib": 1}})).await;
        let mut run = Run::start(&connector, &replica.checkpoint);
        for _ in 0..deliveries {
            replica.one(&mut run).await;
        }
        run.kill().await;
    }
    let mut run = Run::start(&rig.connector(&["public.cu", "public.moi"]).await, &replica.checkpoint);
    let before = replica.changes;
    while !replica.is_complete("public.moi") || replica.changes < before + 200 {
        replica.one(&mut run).await;
    }
    load.stop().await;
    rig.run("INSERT INTO cu VALUES (2)").await;
    replica.until_key(&mut run, "public.cu", "2").await;
    replica.assert_same(&rig.admin, "public.moi").await;
    assert!(replica.reads > 1_000, "{}", replica.reads);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_began_before_the_stream_was_added_is_not_lost() {
    let rig = Rig::start("CREATE TABLE cu (id bigint PRIMARY KEY); CREATE TABLE moi (id bigint PRIMARY KEY, ten text)").await;
    let mut replica = Replica::default();
    let mut run = Run::start(&rig.connector(&["public.cu"]).await, &Checkpoint::empty());
    rig.run("INSERT INTO cu VALUES (1)").await;
    replica.until_key(&mut run, "public.cu", "1").await;
    run.kill().await;
    let open = rig.client().await;
    open.batch_execute("BEGIN; INSERT INTO moi VALUES (1, 'trước')").await.unwrap();
    let mut run = Run::start(&rig.connector(&["public.cu", "public.moi"]).await, &replica.checkpoint);
    // The announcement comes; then the table is published, and its reader waits for the open transaction.
    replica.one(&mut run).await;
    loop {
        let published =
            rig.admin.query_one("SELECT count(*) FROM pg_publication_tables WHERE tablename = 'moi'", &[]).await.unwrap().get::<_, i64>(0);
        if published == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    open.batch_execute("INSERT INTO moi VALUES (2, 'sau'); COMMIT").await.unwrap();
    while !replica.is_complete("public.moi") {
        replica.one(&mut run).await;
    }
    replica.assert_same(&rig.admin, "public.moi").await;
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_no_longer_wanted_is_forgotten_and_can_come_back() {
    let rig = Rig::start("CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE b (id bigint PRIMARY KEY); INSERT INTO b VALUES (7)").await;
    let mut replica = Replica::default();
    let mut run = Run::start(&rig.connector(&["public.a", "public.b"]).await, &Checkpoint::empty());
    while !replica.is_complete("public.b") {
        replica.one(&mut run).await;
    }
    run.kill().await;
    let mut run = Run::start(&rig.connector(&["public.a"]).await, &replica.checkpoint);
    rig.run("INSERT INTO b VALUES (8); INSERT INTO a VALUES (1)").await;
    replica.until_key(&mut run, "public.a", "1").await;
    assert!(!replica.is_complete("public.b"));
    run.kill().await;
    let mut fresh = Replica { checkpoint: replica.checkpoint.clone(), ..Replica::default() };
    let mut run = Run::start(&rig.connector(&["public.a", "public.b"]).await, &fresh.checkpoint);
    while !fresh.is_complete("public.b") {
        fresh.one(&mut run).await;
    }
    fresh.assert_same(&rig.admin, "public.b").await;
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_left_the_publication_while_nobody_looked_is_read_anew_alone() {
    let rig = Rig::start(
        "CREATE TABLE a (id bigint PRIMARY KEY, ten text); CREATE TABLE b (id bigint PRIMARY KEY, ten text);
         INSERT INTO a VALUES (1, 'a'); INSERT INTO b SELECT i, 'b' FROM generate_series(1, 5) i",
    )
    .await;
    let mut replica = Replica::default();
    let mut run = Run::start(&rig.connector(&["public.a", "public.b"]).await, &Checkpoint::empty());
    while !(replica.is_complete("public.a") && replica.is_complete("public.b")) {
        replica.one(&mut run).await;
    }
    run.kill().await;
    // The same row changes while it is published, while it is not, and is back before anyone looks.
    rig.run("UPDATE b SET ten = 'published' WHERE id = 1").await;
    rig.run("ALTER PUBLICATION hub_mot_cua DROP TABLE b").await;
    rig.run("UPDATE b SET ten = 'unseen' WHERE id IN (1, 2); INSERT INTO b VALUES (6, 'unseen'); INSERT INTO a VALUES (2, 'a')").await;
    rig.run("ALTER PUBLICATION hub_mot_cua ADD TABLE b").await;
    let mut fresh = Replica { checkpoint: replica.checkpoint.clone(), ..Replica::default() };
    let mut run = Run::start(&rig.connector(&["public.a", "public.b"]).await, &fresh.checkpoint);
    // What the checkpoint says of b is overwritten before anything else is told.
    fresh.one(&mut run).await;
    assert!(!fresh.is_complete("public.b") && fresh.is_complete("public.a"));
    while !fresh.is_complete("public.b") {
        fresh.one(&mut run).await;
    }
    rig.run("INSERT INTO b VALUES (7, 'live')").await;
    fresh.until_key(&mut run, "public.b", "7").await;
    fresh.until_key(&mut run, "public.a", "2").await;
    fresh.assert_same(&rig.admin, "public.b").await;
    assert_eq!(fresh.reads, 6, "b alone, each row once");
    assert!(!fresh.rows["public.a"].contains_key("1"), "a goes on where it was");
    run.shut().await;
}
