//! Kills the hub at random moments during snapshot and stream under load; a consumer then reads back everything.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::message::Message;

use crate::report::{Goal, Report};
use crate::{Outcome, RunOptions, fresh_prefix, hub, source, throughput, topic};

const ROWS_BEFORE: i64 = 300_000;

/// The loss figures: lost, duplicates, out of order.
pub(crate) async fn run(binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    println!("loss: kill -9 at {} random moments", options.kills);
    let client = source::create().await?;
    source::insert(&client, 1, ROWS_BEFORE, 50_000).await?;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let writer = tokio::spawn(write(Arc::clone(&stop), Arc::clone(&written)));
    let prefix = fresh_prefix("loss");
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    let mut peak: f64 = 0.0;
    for kill in 0..options.kills {
        let process = hub::start(binary, &prefix)?;
        let wait = Duration::from_millis(80 + chance.below(if kill < options.kills / 2 { 900 } else { 2500 }));
        tokio::time::sleep(wait).await;
        peak = peak.max(process.peak_mb()?);
        process.kill().await?;
    }
    let process = hub::start(binary, &prefix)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    writer.await?.map_err(|error| error.to_string())?;
    println!("    {} rows were written while it was killed", written.load(Ordering::Relaxed));
    settle(&client).await?;
    peak = peak.max(process.peak_mb()?);
    process.stop().await?;
    let verdict = compare(&client, &format!("{prefix}.bench.item")).await?;
    report.add("loss.lost", verdict.lost as f64, "rows", None, Goal::AtMost(0.0));
    report.add("loss.duplicates", verdict.duplicates as f64, "records", None, Goal::AtMost(0.0));
    report.add("loss.out-of-order", verdict.disordered as f64, "records", None, Goal::AtMost(0.0));
    report.add("loss.peak-memory", peak, "MB", None, Goal::AtMost(128.0));
    throughput::release(&client).await
}

/// Inserts new rows and changes old ones; `so_lan` counts a row's changes, so that order can be judged.
async fn write(stop: Arc<AtomicBool>, written: Arc<AtomicI64>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let fail = |error: Box<dyn std::error::Error>| error.to_string();
    let client = source::connect("bench").await.map_err(fail)?;
    let mut next = ROWS_BEFORE + 1;
    while !stop.load(Ordering::Relaxed) {
        client.batch_execute(&source::insert_sql(next, next + 19)).await?;
        let changed = client
            .execute(
                "UPDATE item SET so_lan = so_lan + 1 WHERE id IN (SELECT (random() * $1)::bigint FROM generate_series(1, 20))",
                &[&(next as f64)],
            )
            .await?;
        next += 20;
        written.fetch_add(20 + i64::try_from(changed).unwrap_or(0), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    Ok(())
}

/// Waits until everything that was written is published: the slot is confirmed past the last change.
async fn settle(client: &tokio_postgres::Client) -> Outcome<()> {
    let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.get(0);
    let condition = format!("SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots WHERE slot_name = 'hub_bench'");
    source::wait_for(client, &condition, Duration::from_secs(120)).await?;
    Ok(())
}

struct Verdict {
    lost: usize,
    duplicates: usize,
    disordered: usize,
}

/// Each row was inserted with `so_lan = id % 100` and counted up by one per update. A reader must see for each key a run of
/// states that counts up by one: no step back (disorder), no state twice (duplicate), none left out and the source's own last (else lost).
async fn compare(client: &tokio_postgres::Client, topic: &str) -> Outcome<Verdict> {
    let started = Instant::now();
    let mut last: HashMap<i64, i32> = HashMap::new();
    let (mut duplicates, mut disordered, mut skipped) = (0, 0, 0);
    topic::read_all(topic, |message| {
        let (Some(key), Some(value)) = (message.key().and_then(topic::key_number), message.payload()) else { return };
        let Some(visits) = visits(value) else { return };
        match last.insert(key, visits) {
            Some(before) if before == visits => duplicates += 1,
            Some(before) if before > visits => disordered += 1,
            Some(before) if visits > before + 1 => skipped += 1,
            // The first state of a key may be any: a snapshot reads a row after several changes.
            _ => {}
        }
    })?;
    let rows = client.query("SELECT id, so_lan FROM item", &[]).await?;
    let missing = rows.iter().filter(|row| last.get(&row.get::<_, i64>(0)) != Some(&row.get::<_, i32>(1))).count();
    println!("    {} rows compared with {} keys in {:.1} s", rows.len(), last.len(), started.elapsed().as_secs_f64());
    Ok(Verdict { lost: missing + skipped, duplicates, disordered })
}

/// The field `visits` of `after`, read from the Avro bytes of the envelope.
fn visits(value: &[u8]) -> Option<i32> {
    let mut at = Cursor { bytes: value.get(5..)? };
    if at.long()? == 1 {
        skip_item(&mut at)?;
    }
    if at.long()? != 1 {
        return None;
    }
    skip_item(&mut at)
}

fn skip_item(at: &mut Cursor<'_>) -> Option<i32> {
    at.long()?; // id
    at.text()?; // code
    at.text()?; // full_name
    at.optional_text()?; // address
    at.long()?; // birth_date
    at.long()?; // received_at
    at.long()?; // updated_at
    at.text()?; // fee
    at.text()?; // amount
    at.text()?; // status
    let visits = at.long()?;
    at.optional_text()?; // note
    i32::try_from(visits).ok()
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl Cursor<'_> {
    fn long(&mut self) -> Option<i64> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(((value >> 1) as i64) ^ -((value & 1) as i64));
            }
        }
    }

    fn text(&mut self) -> Option<()> {
        let length = usize::try_from(self.long()?).ok()?;
        self.bytes = self.bytes.get(length..)?;
        Some(())
    }

    fn optional_text(&mut self) -> Option<()> {
        if self.long()? == 1 { self.text() } else { Some(()) }
    }
}

/// A small generator of chance (xorshift); reproducibility is not wanted here.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
