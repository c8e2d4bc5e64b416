//! How fast rows leave the connector, with nobody behind it. Run by hand: `cargo test --release … speed -- --ignored --nocapture`.

use std::time::Instant;

use hub_sdk::model::Checkpoint;

use crate::replica::Replica;
use crate::rig::{Rig, Run};

const TABLE: &str = "CREATE TABLE rong (id bigint PRIMARY KEY, ma text, ten text, ngay date, le_phi numeric(14,2), tao timestamptz, \
    sua timestamp, trang_thai text, dia_chi text, so int, ghi_chu text, dung boolean)";
const ROWS: &str = "INSERT INTO rong SELECT i, 'HS-' || lpad(i::text, 10, '0'), 'Nguyễn Văn ' || i, '2000-01-01'::date + (i % 9000)::int, \
    i / 100.0, now(), now()::timestamp, 'DA_TIEP_NHAN', 'Số ' || i || ' đường Trần Hưng Đạo', i % 1000, 'ghi chú tiếng Việt', i % 2 = 0 \
    FROM generate_series(1, 1000000) i";

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a claim"]
async fn speed_of_snapshot_and_stream() {
    let rig = Rig::start(TABLE).await;
    rig.run(ROWS).await;
    rig.run("VACUUM ANALYZE rong").await;
    rig.run("CHECKPOINT").await;
    let connector = rig.connector(&["public.rong"]).await;
    let mut replica = Replica::default();
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let (mut rows, mut deliveries) = (0, 0);
    while rows < 1_000_000 {
        let delivery = run.next().await;
        rows += delivery.batches.iter().map(|batch| batch.len()).sum::<usize>();
        deliveries += 1;
        replica.checkpoint.merge(&delivery.checkpoint);
    }
    println!("snapshot: {rows} rows in {:?}, cpu {:.2} s, {deliveries} deliveries", begun.elapsed(), cpu_seconds() - cpu);
    rig.run("CREATE TABLE moi (LIKE rong INCLUDING ALL)").await;
    let insert = ROWS.replace("SELECT i,", "SELECT 1000000 + i,");
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    rig.run(&insert).await;
    println!("inserted in {:?}", begun.elapsed());
    let begun = Instant::now();
    (rows, deliveries) = (0, 0);
    while rows < 1_000_000 {
        let delivery = run.next().await;
        rows += delivery.batches.iter().map(|batch| batch.len()).sum::<usize>();
        deliveries += 1;
    }
    println!("stream: {rows} rows in {:?}, cpu {:.2} s, {deliveries} deliveries", begun.elapsed(), cpu_seconds() - cpu);
    run.shut().await;
}
