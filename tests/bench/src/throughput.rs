//! Rows per second of snapshot and stream, CPU per million rows and peak memory.

use std::path::Path;
use std::time::Duration;

use tokio_postgres::Client;

use crate::report::{Goal, Report, median};
use crate::{Outcome, RunOptions, fresh_prefix, hub, source};

const PATIENCE: Duration = Duration::from_secs(300);
/// The condition that the hub's slot is being streamed.
const STREAMING: &str = "SELECT active AND EXISTS (SELECT FROM pg_stat_replication WHERE pid = active_pid) FROM pg_replication_slots WHERE slot_name = 'hub_bench'";
/// The condition that the hub's slot is there and nobody reads it.
const RELEASED: &str = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'hub_bench'";

/// One measured drain or snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// Wall seconds.
    pub(crate) seconds: f64,
    /// CPU seconds of the process.
    pub(crate) cpu: f64,
    /// Peak resident megabytes of the process.
    pub(crate) peak_mb: f64,
}

/// All throughput figures.
pub(crate) async fn run(binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    let mut peak: f64 = 0.0;
    for (name, per) in [("one transaction", options.rows), ("100 transactions", options.rows / 100)] {
        println!("streaming, {} rows in {name}", options.rows);
        let (mut ours, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..options.repeats {
            let client = source::create().await?;
            let (measure, limit) = stream(binary, &client, options.rows, per).await?;
            println!("    hub {:.2} s, limit {limit:.2} s, cpu {:.2} s, peak {:.0} MB", measure.seconds, measure.cpu, measure.peak_mb);
            ours.push(measure);
            limits.push(limit);
        }
        let rows = options.rows as f64;
        let ratios: Vec<f64> = ours.iter().zip(&limits).map(|(measure, limit)| limit / measure.seconds).collect();
        let reference = rows / median(limits);
        report.add(
            &format!("stream.{}.rate", name.replace(' ', "-")),
            median(ratios) * reference,
            "rows/s",
            Some(reference),
            Goal::Ratio(0.9),
        );
        let cpu = median(ours.iter().map(|measure| measure.cpu).collect()) * 1e6 / rows;
        report.add(&format!("stream.{}.cpu", name.replace(' ', "-")), cpu, "s/M rows", None, Goal::Told);
        peak = ours.iter().fold(peak, |peak, measure| peak.max(measure.peak_mb));
    }
    println!("snapshot of {} rows", options.rows);
    let client = source::create().await?;
    source::insert(&client, 1, options.rows, 50_000).await?;
    client.batch_execute("VACUUM ANALYZE item").await?;
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        limits.push(source::copy_to_nothing().await?);
        let measure = snapshot(binary, &client, options.rows).await?;
        println!(
            "    hub {:.2} s, limit {:.2} s, cpu {:.2} s, peak {:.0} MB",
            measure.seconds,
            limits[limits.len() - 1],
            measure.cpu,
            measure.peak_mb
        );
        ours.push(measure);
    }
    let rows = options.rows as f64;
    let ratios: Vec<f64> = ours.iter().zip(&limits).map(|(measure, limit)| limit / measure.seconds).collect();
    let reference = rows / median(limits);
    report.add("snapshot.rate", median(ratios) * reference, "rows/s", Some(reference), Goal::Ratio(0.4));
    report.add("snapshot.cpu", median(ours.iter().map(|m| m.cpu).collect()) * 1e6 / rows, "s/M rows", None, Goal::Told);
    peak = ours.iter().fold(peak, |peak, measure| peak.max(measure.peak_mb));
    report.add("throughput.peak-memory", peak, "MB", None, Goal::AtMost(128.0));
    Ok(())
}

/// The hub drains `rows` that were written while it was away; `pg_recvlogical` drains the same WAL to nothing.
pub(crate) async fn stream(binary: &Path, client: &Client, rows: i64, per: i64) -> Outcome<(Measure, f64)> {
    let prefix = fresh_prefix("stream");
    let process = hub::start(binary, &prefix)?;
    // Only now is the snapshot of the empty table over, and what is written later comes by the stream alone.
    hub::wait_following(PATIENCE).await?;
    process.stop().await?;
    source::wait_for(client, RELEASED, PATIENCE).await?;
    source::create_limit_slot(client).await?;
    source::insert(client, 1, rows, per).await?;
    let limit = source::drain_to_nothing(client).await?;
    let process = hub::start(binary, &prefix)?;
    let started = source::wait_for(client, STREAMING, PATIENCE).await?;
    let cpu_before = process.cpu_seconds()?;
    let ended = hub::wait_published(u64::try_from(rows)?, PATIENCE).await?;
    let measure =
        Measure { seconds: (ended - started).as_secs_f64(), cpu: process.cpu_seconds()? - cpu_before, peak_mb: process.peak_mb()? };
    process.stop().await?;
    release(client).await?;
    Ok((measure, limit))
}

/// The hub takes a first snapshot of the whole table.
pub(crate) async fn snapshot(binary: &Path, client: &Client, rows: i64) -> Outcome<Measure> {
    let process = hub::start(binary, &fresh_prefix("snapshot"))?;
    let started = source::wait_for(client, "SELECT true FROM pg_replication_slots WHERE slot_name = 'hub_bench'", PATIENCE).await?;
    let cpu_before = process.cpu_seconds()?;
    let ended = hub::wait_published(u64::try_from(rows)?, PATIENCE).await?;
    let measure =
        Measure { seconds: (ended - started).as_secs_f64(), cpu: process.cpu_seconds()? - cpu_before, peak_mb: process.peak_mb()? };
    process.stop().await?;
    release(client).await?;
    Ok(measure)
}

/// Drops what a run left at the source.
pub(crate) async fn release(client: &Client) -> Outcome<()> {
    source::wait_for(client, "SELECT coalesce(bool_and(NOT active), true) FROM pg_replication_slots WHERE database = 'bench'", PATIENCE)
        .await?;
    client.batch_execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'bench'").await?;
    client.batch_execute("DROP PUBLICATION IF EXISTS hub_bench; DROP PUBLICATION IF EXISTS bench_limit").await?;
    Ok(())
}
