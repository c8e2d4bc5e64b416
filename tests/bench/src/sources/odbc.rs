//! PostgreSQL through its ODBC driver, against the driver read column-wise to nothing.

use std::path::Path;
use std::time::Instant;

use arrow_odbc::odbc_api::{ConnectionOptions, environment};
use arrow_odbc::{OdbcReaderBuilder, arrow::error::ArrowError, arrow::record_batch::RecordBatch};

use super::stage::{Stage, TYPED};
use super::{against_limits, cpu_per_million, peak, tell};
use crate::report::{Goal, Report};
use crate::{Outcome, RunOptions, source};

const CONNECTION: &str = "Driver=PostgreSQL Unicode;Server=127.0.0.1;Port=15432;Database=bench;Uid=postgres";
const CONFIG: &str = "  driver: PostgreSQL Unicode
  server: 127.0.0.1
  port: 15432
  database: bench
  user: postgres
  streams: {item: {table: public.item}}";

/// The first reading of a table.
pub(super) async fn run(binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    let client = source::create().await?;
    source::insert(&client, 1, options.rows, 50_000).await?;
    client.batch_execute("VACUUM ANALYZE item").await?;
    println!("odbc: {} rows", options.rows);
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        limits.push(tokio::task::spawn_blocking(|| read_to_nothing().map_err(|error| error.to_string())).await??);
        let stage = Stage::new("odbc")?;
        stage.system("bench", "odbc", CONFIG, "item", "bench.Item", TYPED)?;
        ours.push(stage.first_reading(binary, options.rows).await?);
        tell(&ours[ours.len() - 1], limits[limits.len() - 1]);
    }
    let rows = options.rows as f64;
    let (rate, reference) = against_limits(rows, &ours, limits);
    report.add("odbc.rate", rate, "rows/s", Some(reference), Goal::Told);
    report.add("odbc.cpu", cpu_per_million(rows, &ours), "s/M rows", None, Goal::Told);
    report.add("odbc.peak-memory", peak(&ours), "MB", None, Goal::Told);
    Ok(())
}

/// Seconds that the driver takes for the table, by the library that the hub uses.
fn read_to_nothing() -> Outcome<f64> {
    let started = Instant::now();
    let connection = environment()?.connect_with_connection_string(CONNECTION, ConnectionOptions::default())?;
    let cursor = connection.into_cursor("SELECT * FROM item", (), None).map_err(|error| error.error)?;
    let cursor = cursor.ok_or("the driver gives no rows")?;
    let reader = OdbcReaderBuilder::new().with_max_bytes_per_batch(16 << 20).with_max_text_size(1 << 12).build(cursor)?;
    let mut rows = 0;
    for batch in reader {
        let batch: Result<RecordBatch, ArrowError> = batch;
        rows += batch?.num_rows();
    }
    if rows == 0 { Err("the driver gives no rows".into()) } else { Ok(started.elapsed().as_secs_f64()) }
}
