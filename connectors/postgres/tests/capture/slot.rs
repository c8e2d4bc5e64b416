//! The slot: it moves on, its loss is noticed, and nothing of it stays behind.

use std::sync::Arc;

use hub_connector_postgres::Postgres;
use hub_sdk::model::{Checkpoint, StreamName, SystemName};
use hub_sdk::{Connector, ErrorKind, OpenContext, StreamRequest};
use serde_json::json;

use crate::replica::Replica;
use crate::rig::{Rig, Run};
use crate::source::{Source, port18};

async fn followed(rig: &Rig) -> Checkpoint {
    let mut run = Run::start(&rig.connector(&["public.a"]).await, &Checkpoint::empty());
    let mut replica = Replica::default();
    rig.run("INSERT INTO a VALUES (1)").await;
    replica.until_key(&mut run, "public.a", "1").await;
    run.kill().await;
    replica.checkpoint
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_table_does_not_pin_the_wal_of_others() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE khac (t text)").await;
    let mut run = Run::start(&rig.connector(&["public.a"]).await, &Checkpoint::empty());
    let mut replica = Replica::default();
    replica.one(&mut run).await;
    rig.run("INSERT INTO khac SELECT repeat('x', 1000) FROM generate_series(1, 20000)").await;
    let written: String = rig.admin.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0);
    let confirmed = format!("SELECT confirmed_flush_lsn >= '{written}'::pg_lsn - 1000000 FROM pg_replication_slots");
    loop {
        if rig.admin.query_one(&confirmed, &[]).await.unwrap().get::<_, bool>(0) {
            break;
        }
        if let Some(delivery) = run.next_within(std::time::Duration::from_millis(20)).await {
            assert!(delivery.batches.is_empty());
            replica.apply(&delivery);
            run.connector.acknowledge(&delivery.checkpoint);
        }
    }
    let gauges = run.connector.gauges().await.unwrap();
    assert!(gauges.iter().any(|gauge| gauge.name == "lag_bytes" && gauge.value < 2e6), "{gauges:?}");
    assert!(gauges.iter().any(|gauge| gauge.label == Some(("wal_status", "reserved".to_owned()))), "{gauges:?}");
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_confirmed_that_was_not_acknowledged() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY)").await;
    let mut run = Run::start(&rig.connector(&["public.a"]).await, &Checkpoint::empty());
    let mut replica = Replica::default();
    rig.run("INSERT INTO a VALUES (1)").await;
    while !replica.rows.get("public.a").is_some_and(|rows| rows.contains_key("1")) {
        let delivery = run.next().await;
        replica.apply(&delivery);
    }
    rig.run("INSERT INTO a VALUES (2)").await;
    let unacknowledged = run.rows().await;
    run.kill().await;
    let mut run = Run::start(&rig.connector(&["public.a"]).await, &replica.checkpoint);
    let again = run.rows().await;
    assert_eq!(again.rows, unacknowledged.rows);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_position_stops_with_a_way_out() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY)").await;
    let held = followed(&rig).await;
    let connector = rig.connector(&["public.a"]).await;
    let stops = async |checkpoint: &Checkpoint, kind: ErrorKind| {
        let error = Run::start(&connector, checkpoint).failure().await;
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.advice().is_some_and(|advice| advice.contains("--resnapshot mot-cua")), "{}", error.report());
    };
    let mut other = held.clone();
    let mut identity = held.get("slot").unwrap().clone();
    identity["system_identifier"] = "1".into();
    other.set("slot", identity);
    stops(&other, ErrorKind::Mismatch).await;
    rig.run("DROP PUBLICATION hub_mot_cua").await;
    stops(&held, ErrorKind::PositionLost).await;
    rig.run("SELECT pg_drop_replication_slot('hub_mot_cua')").await;
    stops(&held, ErrorKind::PositionLost).await;
    rig.run("CREATE PUBLICATION hub_mot_cua FOR TABLE a; INSERT INTO a VALUES (5)").await;
    rig.run("SELECT pg_create_logical_replication_slot('hub_mot_cua', 'pgoutput')").await;
    stops(&held, ErrorKind::PositionLost).await;
    // The way out: without a checkpoint everything begins anew.
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let mut replica = Replica::default();
    replica.until_key(&mut run, "public.a", "5").await;
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_a_dead_connection_holds_is_taken_over() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY)").await;
    let mut replica = Replica::default();
    let first = rig.connector(&["public.a"]).await;
    let mut zombie = Run::start(&first, &Checkpoint::empty());
    rig.run("INSERT INTO a VALUES (1)").await;
    replica.until_key(&mut zombie, "public.a", "1").await;
    let mut run = Run::start(&rig.connector(&["public.a"]).await, &replica.checkpoint);
    rig.run("INSERT INTO a VALUES (2)").await;
    replica.until_key(&mut run, "public.a", "2").await;
    assert_eq!(zombie.failure().await.kind(), ErrorKind::Unreachable);
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releasing_leaves_nothing_at_the_source() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY)").await;
    let connector = rig.connector(&["public.a"]).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    Replica::default().one(&mut run).await;
    connector.release().await.unwrap();
    let left = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)";
    assert_eq!(rig.admin.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    connector.release().await.unwrap();
    run.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_has_the_shape_of_the_stream() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a SELECT i, 'x' FROM generate_series(1, 9) i").await;
    let connector = rig.connector(&["public.a"]).await;
    let stream = hub_sdk::model::StreamName::new("public.a").unwrap();
    let sample = connector.sample(&stream, 5).await.unwrap().check().unwrap();
    assert_eq!(sample.len(), 5);
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let read = loop {
        if let Some(batch) = run.next().await.batches.into_iter().next() {
            break batch;
        }
    };
    assert_eq!(sample.rows.schema(), read.rows.schema());
    run.shut().await;
}

#[tokio::test]
async fn a_slot_survives_a_failover_where_the_server_can_and_the_engineer_wants_it() {
    let Some(port) = port18() else { panic!("PostgreSQL 18 is not up: run `make test`, or `deploy/local/stack.sh up pg18`") };
    let source = Source::create(port, "CREATE TABLE public.t (id int PRIMARY KEY)").await;
    source.run("ALTER TABLE public.t OWNER TO $role").await;
    source.run(&format!("GRANT CREATE ON DATABASE {} TO $role", source.database)).await;
    let streams = vec![StreamRequest { stream: StreamName::new("public.t").unwrap(), columns: Vec::new() }];
    let system = SystemName::new("failover-slot").unwrap();
    let context = OpenContext::new(system, streams);
    let config = source.config(json!({"failover": true, "slot": source.database}));
    let connector = Arc::new(Postgres::open(config, context).await.unwrap());
    let mut run = Run::start(&connector, &Checkpoint::empty());
    run.next().await;
    let failover = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{}'", source.database);
    assert!(source.admin.query_one(&failover, &[]).await.unwrap().get::<_, bool>(0));
    run.shut().await;
    connector.release().await.unwrap();
    source.remove().await;
}
