//! A scan reads every present row once, from one view, and leaves nothing behind.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use hub_sdk::model::{ChangeBatch, Op, StreamName};
use hub_sdk::{Budget, Connector, outlet};

use crate::rig::{PATIENCE, Rig};

const SETUP: &str = "
    CREATE TABLE wide (id int8 PRIMARY KEY, filling text);
    INSERT INTO wide SELECT id, repeat('đ', 500) FROM generate_series(1, 40000) AS id;
    CREATE TABLE parted (id int8 PRIMARY KEY) PARTITION BY HASH (id);
    CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO parted SELECT generate_series(1, 1000)";

fn ids(batches: &[ChangeBatch]) -> Vec<i64> {
    let mut ids: Vec<i64> = batches.iter().flat_map(|batch| batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_sees_one_view_however_long_it_takes_and_makes_no_slot() {
    let rig = Rig::start(SETUP).await;
    let connector = rig.connector(&["public.wide"]).await;
    let stream = StreamName::new("public.wide").unwrap();
    // The budget holds one delivery: the scan waits until it is taken, and rows change meanwhile.
    let (out, mut deliveries) = outlet(Budget::new(1024), 1);
    let (scanning, name) = (Arc::clone(&connector), stream.clone());
    let scan = tokio::spawn(async move { scanning.scan(&name, out).await });
    let (first, permit) = tokio::time::timeout(PATIENCE, deliveries.recv()).await.unwrap().unwrap();
    rig.run("INSERT INTO wide VALUES (50000, 'new'); DELETE FROM wide WHERE id = 40000; UPDATE wide SET filling = 'x' WHERE id > 39000")
        .await;
    drop(permit);
    let mut batches = first.batches;
    while let Some((delivery, _permit)) = deliveries.recv().await {
        assert!(delivery.checkpoint.is_empty());
        batches.extend(delivery.batches);
    }
    scan.await.unwrap().unwrap();
    assert!(batches.len() > 1, "the scan came in several batches");
    assert_eq!(ids(&batches), (1..=40_000).collect::<Vec<_>>());
    assert!(batches.iter().all(|batch| batch.ops.iter().all(|op| *op == Op::Read)));
    let before = batches[0].origin.commit_position[0];
    let row =
        rig.admin.query_one("SELECT (pg_current_wal_lsn() - '0/0')::int8, (SELECT count(*) FROM pg_replication_slots)", &[]).await.unwrap();
    assert!(before > 0 && before < u64::try_from(row.get::<_, i64>(0)).unwrap());
    assert_eq!(row.get::<_, i64>(1), 0, "slots");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_of_a_partitioned_table_reads_every_partition_once() {
    let rig = Rig::start(SETUP).await;
    let connector = rig.connector(&["public.parted"]).await;
    let (out, mut deliveries) = outlet(Budget::new(64 << 20), 64);
    connector.scan(&StreamName::new("public.parted").unwrap(), out).await.unwrap();
    let mut batches = Vec::new();
    while let Some((delivery, _permit)) = deliveries.recv().await {
        batches.extend(delivery.batches);
    }
    assert_eq!(ids(&batches), (1..=1_000).collect::<Vec<_>>());
}
