//! From snapshot to stream, and from every checkpoint on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hub_sdk::BatchLimits;
use hub_sdk::model::Checkpoint;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::replica::Replica;
use crate::rig::{Rig, Run};

const TABLE: &str = "
    CREATE TABLE ho_so (id bigint PRIMARY KEY, ten text, le_phi numeric(14,2), lan int DEFAULT 0);
    CREATE TABLE moc (id text PRIMARY KEY);
    INSERT INTO ho_so SELECT i, 'Hồ sơ số ' || i || repeat(' x', (i % 50)::int), i / 100.0 FROM generate_series(1, 30000) i;";

/// Most transactions of a writer: replaying them after every restart must not outgrow the test.
const MOST: i64 = 3_000;

/// Writes until told to stop: inserts, updates, deletes, some with savepoints and some rolled back.
pub(crate) fn write(client: Client, table: &'static str, seed: i64, stop: Arc<AtomicBool>) -> JoinHandle<Client> {
    tokio::spawn(async move {
        let mut step = 0_i64;
        while !stop.load(Ordering::Relaxed) && step < MOST {
            step += 1;
            let new = seed * 1_000_000_000 + step;
            let old = (step * 7919 * seed) % 30_000 + 1;
            let end = if step % 11 == 0 { "ROLLBACK" } else { "COMMIT" };
            let sql = format!(
                "BEGIN; INSERT INTO {table} VALUES ({new}, 'mới', 1.5);
                 UPDATE {table} SET lan = lan + 1, ten = ten || '.' WHERE id IN ({old}, {old} + 13);
                 SAVEPOINT s; UPDATE {table} SET lan = lan + 1 WHERE id = {old} + 1; RELEASE s;
                 DELETE FROM {table} WHERE id = ({step} * 31 + {seed}) % 30000 OR id = {new} - 5; {end}"
            );
            client.batch_execute(&sql).await.unwrap();
        }
        client
    })
}

/// Two writers at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Client>>,
}

impl Load {
    pub(crate) async fn start(rig: &Rig, table: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for seed in [3, 5] {
            writers.push(write(rig.client().await, table, seed, Arc::clone(&stop)));
        }
        Self { stop, writers }
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_and_the_stream_meet_without_gap_or_duplicate() {
    let rig = Rig::start(TABLE).await;
    let load = Load::start(&rig, "ho_so").await;
    let connector = rig.connector(&["public.ho_so", "public.moc"]).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let mut replica = Replica::default();
    while replica.changes < 2_000 {
        replica.one(&mut run).await;
    }
    load.stop().await;
    rig.run("INSERT INTO moc VALUES ('end')").await;
    replica.until_key(&mut run, "public.moc", "end").await;
    assert!(replica.reads > 20_000, "{}", replica.reads);
    replica.assert_same(&rig.admin, "public.ho_so").await;
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_delivery_it_goes_on_without_gap_or_duplicate() {
    let mut rig = Rig::start(TABLE).await;
    rig.limits = BatchLimits { rows: 200, bytes: 1 << 20, age: Duration::from_millis(2) };
    let load = Load::start(&rig, "ho_so").await;
    let mut replica = Replica::default();
    for round in 0.. {
        let connector = rig.connector_with(&["public.ho_so", "public.moc"], json!({"snapshot": {"chunk_mib": 1}})).await;
        let mut run = Run::start(&connector, &replica.checkpoint);
        let mut quiet = false;
        for _ in 0..=(round % 23) {
            // Quiet once the writers are through and everything is delivered.
            let Some(delivery) = run.next_within(Duration::from_secs(5)).await else {
                quiet = true;
                break;
            };
            replica.apply(&delivery);
            hub_sdk::Connector::acknowledge(connector.as_ref(), &delivery.checkpoint);
        }
        run.kill().await;
        if replica.is_complete("public.ho_so") && (quiet || replica.changes > 10_000) {
            break;
        }
        assert!(round < 500, "the snapshot never ends");
    }
    load.stop().await;
    rig.run("INSERT INTO moc VALUES ('end')").await;
    let connector = rig.connector(&["public.ho_so", "public.moc"]).await;
    let mut run = Run::start(&connector, &replica.checkpoint);
    replica.until_key(&mut run, "public.moc", "end").await;
    replica.assert_same(&rig.admin, "public.ho_so").await;
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_transaction_comes_in_bounded_pieces_and_resumes_in_its_middle() {
    let rig = Rig::start("CREATE TABLE lon (id bigint PRIMARY KEY, ten text)").await;
    let connector = rig.connector(&["public.lon"]).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let mut replica = Replica::default();
    replica.one(&mut run).await;
    rig.run("INSERT INTO lon SELECT i, 'dòng ' || i FROM generate_series(1, 200000) i").await;
    let mut largest = 0;
    while replica.changes < 100_000 {
        let delivery = run.next().await;
        largest = largest.max(delivery.batches.iter().map(|batch| batch.bytes()).sum());
        replica.apply(&delivery);
    }
    run.kill().await;
    let mut run = Run::start_within(&connector, &replica.checkpoint, 2 << 20);
    while replica.changes < 200_000 {
        replica.one(&mut run).await;
    }
    assert!(largest < 8 << 20, "{largest}");
    assert_eq!(run.next_within(Duration::from_millis(200)).await.map(|delivery| delivery.batches.len()), None);
    replica.assert_same(&rig.admin, "public.lon").await;
    run.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_change_is_not_held_back() {
    let rig = Rig::start("CREATE TABLE nho (id bigint PRIMARY KEY)").await;
    let connector = rig.connector(&["public.nho"]).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let mut replica = Replica::default();
    replica.one(&mut run).await;
    rig.run("INSERT INTO nho VALUES (0)").await;
    replica.until_key(&mut run, "public.nho", "0").await;
    let mut times = Vec::new();
    for id in 1..=200 {
        rig.run(&format!("INSERT INTO nho VALUES ({id})")).await;
        let committed = std::time::Instant::now();
        replica.until_key(&mut run, "public.nho", &id.to_string()).await;
        times.push(committed.elapsed());
    }
    times.sort();
    // Generous: the machine may be busy. By itself it is well below a millisecond.
    assert!(times[100] < Duration::from_millis(20), "{:?}", times[100]);
    run.shut().await;
}
