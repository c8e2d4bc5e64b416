//! From just before a commit is sent to its row at a `read_committed` consumer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use tokio_postgres::Client;

use crate::report::{Goal, Report, median, percentile};
use crate::{Outcome, RunOptions, fresh_prefix, hub, source, throughput, topic};

const ROWS_PER_TRANSACTION: i64 = 10;
/// Seconds at the higher rate before anything is measured: Java compiles what it runs often.
const WARM_UP: u64 = 15;
/// Seconds at the head of each measurement that do not count.
const SETTLING: u64 = 2;

/// Latency at both rates.
pub(crate) async fn run(binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    let client = source::create().await?;
    let prefix = fresh_prefix("latency");
    let process = hub::start(binary, &prefix)?;
    hub::wait_following(Duration::from_secs(60)).await?;
    let mut next = 1;
    let target = format!("{prefix}.bench.item");
    println!("a broker that has just started is a third slower: {WARM_UP} s of warm-up");
    measure(&client, topic::consumer(&target, Offset::End)?, 5_000, WARM_UP, &mut next, topic::key_number).await?;
    for rate in [1_000, 5_000] {
        println!("latency at {rate} rows/s in transactions of {ROWS_PER_TRANSACTION}");
        let cpu = process.cpu_seconds()?;
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..options.repeats {
            let consumer = topic::consumer(&target, Offset::End)?;
            let sorted = measure(&client, consumer, rate, options.seconds, &mut next, topic::key_number).await?;
            p50.push(percentile(&sorted, 0.5));
            p99.push(percentile(&sorted, 0.99));
            println!("    p50 {:.2} ms, p99 {:.2} ms", percentile(&sorted, 0.5), percentile(&sorted, 0.99));
        }
        let rows = (rate * i64::try_from((options.seconds + SETTLING) * options.repeats as u64)?) as f64;
        report.add(&format!("latency.{rate}.p50"), median(p50), "ms", None, Goal::AtMost(6.0));
        report.add(&format!("latency.{rate}.p99"), median(p99), "ms", None, Goal::AtMost(20.0));
        report.add(&format!("latency.{rate}.cpu"), (process.cpu_seconds()? - cpu) * 1e6 / rows, "s/M rows", None, Goal::Told);
    }
    report.add("latency.peak-memory", process.peak_mb()?, "MB", None, Goal::AtMost(128.0));
    process.stop().await?;
    throughput::release(&client).await
}

/// Writes at a steady rate and reads what arrives; milliseconds, sorted. The first [`SETTLING`] seconds do not count.
pub(crate) async fn measure(
    client: &Client,
    consumer: BaseConsumer,
    rate: i64,
    seconds: u64,
    next: &mut i64,
    key: fn(&[u8]) -> Option<i64>,
) -> Outcome<Vec<f64>> {
    let first = *next;
    let transactions = rate / ROWS_PER_TRANSACTION * i64::try_from(seconds + SETTLING)?;
    let warm = usize::try_from(rate / ROWS_PER_TRANSACTION * i64::try_from(SETTLING)?)?;
    let sent = Arc::new(Mutex::new(Vec::<Instant>::with_capacity(usize::try_from(transactions)?)));
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (sent, done) = (Arc::clone(&sent), Arc::clone(&done));
        std::thread::spawn(move || collect(&consumer, first, &sent, &done, warm, key))
    };
    let statement = client
        .prepare(&source::insert_sql(0, 0).replace("generate_series(0::bigint, 0::bigint)", "generate_series($1::bigint, $2::bigint)"))
        .await?;
    let period = Duration::from_secs_f64(ROWS_PER_TRANSACTION as f64 / rate as f64);
    let mut commits = Vec::with_capacity(usize::try_from(transactions)?);
    let started = Instant::now();
    for number in 0..transactions {
        let due = started + period.mul_f64(number as f64);
        tokio::time::sleep_until(due.into()).await;
        // Sent together: what the harness costs is taken from the same two cores.
        let last = *next + ROWS_PER_TRANSACTION - 1;
        let range: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&*next, &last];
        tokio::try_join!(client.batch_execute("BEGIN"), client.execute(&statement, &range))?;
        let committing = Instant::now();
        if let Ok(mut sent) = sent.lock() {
            sent.push(committing);
        }
        client.batch_execute("COMMIT").await?;
        commits.push(committing.elapsed().as_secs_f64() * 1e3);
        *next += ROWS_PER_TRANSACTION;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    done.store(true, Ordering::Relaxed);
    let mut latencies = reader.join().map_err(|_| "the reader died")?;
    let expected = usize::try_from(transactions * ROWS_PER_TRANSACTION)? - warm * 10;
    if latencies.len() < expected {
        return Err(format!("only {} of {expected} rows arrived within two seconds of the last", latencies.len()).into());
    }
    latencies.sort_by(f64::total_cmp);
    commits.sort_by(f64::total_cmp);
    println!("    of which the source's own commit: p50 {:.2} ms, p99 {:.2} ms", percentile(&commits, 0.5), percentile(&commits, 0.99));
    Ok(latencies)
}

fn collect(
    consumer: &BaseConsumer,
    first: i64,
    sent: &Mutex<Vec<Instant>>,
    done: &AtomicBool,
    warm: usize,
    key: fn(&[u8]) -> Option<i64>,
) -> Vec<f64> {
    let mut latencies = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        let arrived = Instant::now();
        let Some(number) = message.key().and_then(key) else { continue };
        let Ok(transaction) = usize::try_from((number - first) / ROWS_PER_TRANSACTION) else { continue };
        let at = sent.lock().ok().and_then(|sent| sent.get(transaction).copied());
        if let Some(at) = at.filter(|_| transaction >= warm && number >= first) {
            latencies.push((arrived - at).as_secs_f64() * 1e3);
        }
    }
    let _ = consumer.unassign();
    latencies
}
