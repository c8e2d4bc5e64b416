//! How fast CSV becomes Arrow columns: `cargo run -p hub-connector-files --example bench_csv -- 1000000 [append|whole]`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a tool for whoever works on the connector")]

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use hub_connector_files::{Files, FilesConfig};
use hub_sdk::model::{Checkpoint, StreamName, SystemName};
use hub_sdk::{Budget, Connector, OpenContext, StreamRequest, outlet};

const NAMES: [&str; 4] = ["Nguyễn Thị Ánh", "Lê Văn Bình", "Trần Ngọc Quỳnh", "Phạm Đức Dũng"];
const STREETS: [&str; 3] = ["Đường số 7", "Đại lộ Bình Dương", "Lê Hồng Phong"];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rows: usize = std::env::args().nth(1).map_or(1_000_000, |rows| rows.parse().expect("a number of rows"));
    let mode = std::env::args().nth(2).unwrap_or_else(|| "append".to_owned());
    let folder = std::env::temp_dir().join(format!("hub-files-read-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join("a.csv")).unwrap());
    writeln!(file, "id,so_dinh_danh,ho_ten,ngay_sinh,gioi_tinh,dan_toc,dia_chi,phuong,dien_thoai,ma_bhyt,ngay_cap,ghi_chu").unwrap();
    for id in 0..rows {
        let (name, street) = (NAMES[id % NAMES.len()], STREETS[id % STREETS.len()]);
        write!(file, "{id},0790{id:08},{name} {},{:02}/{:02}/19{:02},", id % 97, id % 28 + 1, id % 12 + 1, id % 90 + 10).unwrap();
        write!(file, "{},{:02},\"Số {id}, {street}\",Phường Bến Nghé,", id % 2, id % 54 + 1).unwrap();
        writeln!(file, "090{id:07},DN479{id:010},2026-01-{:02},", id % 28 + 1).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    let bytes = std::fs::metadata(folder.join("a.csv")).unwrap().len();
    let stream = serde_json::json!({"pattern": "*.csv", "key": ["id"], "mode": mode});
    let config: FilesConfig =
        serde_json::from_value(serde_json::json!({"folder": folder, "every_s": 0.01, "streams": {"s": stream}})).unwrap();
    let streams = vec![StreamRequest { stream: StreamName::new("s").unwrap(), columns: Vec::new() }];
    let context = OpenContext::new(SystemName::new("read").unwrap(), streams);
    let connector = Arc::new(Files::open(config, context).await.unwrap());
    let (out, mut deliveries) = outlet(Budget::new(64 << 20), 4);
    let start = Instant::now();
    let task = tokio::spawn(async move { connector.capture(Checkpoint::empty(), out).await });
    let mut read = 0;
    while let Some((delivery, _permit)) = deliveries.recv().await {
        read += delivery.batches.iter().map(hub_sdk::model::ChangeBatch::len).sum::<usize>();
        if !delivery.completed.is_empty() {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(deliveries);
    task.await.unwrap().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let (rate, megabytes) = (read as f64 / seconds, bytes as f64 / 1e6 / seconds);
    println!("{read} rows in {seconds:.2} s: {rate:.0} rows/s, {megabytes:.0} MB/s ({mode})");
}
