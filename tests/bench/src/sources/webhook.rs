//! Requests that come in: how many a second get their 200, which is after the commit in Kafka; and how soon at a fixed rate.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::{PATIENCE, Stage};
use crate::report::{Goal, Report, median, percentile};
use crate::{Outcome, RunOptions, hub};

const ADDRESS: &str = "127.0.0.1:29480";
const CONFIG: &str = "  listen: 127.0.0.1:29480
  streams:
    item:
      path: /item
      auth: none
      key: [id]
      columns: [id, code, full_name, address, birth_date, received_at, updated_at, fee, amount, status, visits, note]";
const MAP: &str = "
      id: CAST(id AS BIGINT)
      code: code
      full_name: full_name
      address: address
      birth_date: CAST(birth_date AS DATE)
      received_at: at_time_zone(CAST(received_at AS TIMESTAMP), 'Asia/Ho_Chi_Minh')
      updated_at: at_time_zone(CAST(updated_at AS TIMESTAMP), 'UTC')
      fee: CAST(fee AS DECIMAL(14,2))
      amount: CAST(amount AS DECIMAL(18,4))
      status: code('item-status', 'bench', status)
      visits: CAST(visits AS INT)
      note: note";
/// Connections that are kept alive.
const CONNECTIONS: u64 = 64;
/// Requests a second of the steady load.
const RATE: u64 = 1_000;
/// Seconds before anything is measured.
const WARM_UP: u64 = 5;

/// As many as it takes, then a steady load.
pub(super) async fn run(binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    println!("webhook: {CONNECTIONS} connections, one row a request");
    let stage = Stage::new("webhook")?;
    stage.system("bench", "webhook", CONFIG, "item", "bench.Item", MAP)?;
    let process = stage.start(binary)?;
    hub::wait_following(PATIENCE).await?;
    let next = Arc::new(AtomicU64::new(1));
    flood(&next, WARM_UP).await?;
    let mut rates = Vec::new();
    for _ in 0..options.repeats {
        let rate = flood(&next, options.seconds.min(10)).await?;
        println!("    {rate:.0} requests/s");
        rates.push(rate);
    }
    report.add("webhook.rate", median(rates), "req/s", None, Goal::Told);
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        let sorted = steady(&next, options.seconds).await?;
        println!("    at {RATE} a second: p50 {:.2} ms, p99 {:.2} ms", percentile(&sorted, 0.5), percentile(&sorted, 0.99));
        p50.push(percentile(&sorted, 0.5));
        p99.push(percentile(&sorted, 0.99));
    }
    report.add(&format!("webhook.{RATE}.p50"), median(p50), "ms", None, Goal::Told);
    report.add(&format!("webhook.{RATE}.p99"), median(p99), "ms", None, Goal::Told);
    report.add("webhook.peak-memory", process.peak_mb()?, "MB", None, Goal::AtMost(128.0));
    let accepted = next.load(Ordering::Relaxed) - 1;
    hub::wait_published(accepted, Duration::from_secs(5)).await?;
    report.add("webhook.lost", (accepted - hub::published().await.min(accepted)) as f64, "rows", None, Goal::AtMost(0.0));
    process.stop().await
}

/// Every connection asks again at once; requests a second.
async fn flood(next: &Arc<AtomicU64>, seconds: u64) -> Outcome<f64> {
    let (started, length) = (Instant::now(), Duration::from_secs(seconds));
    let first = next.load(Ordering::Relaxed);
    let tasks = (0..CONNECTIONS).map(|_| {
        let next = Arc::clone(next);
        tokio::spawn(async move {
            let mut sender = Sender::connect().await?;
            while started.elapsed() < length {
                sender.send(next.fetch_add(1, Ordering::Relaxed)).await?;
            }
            Ok::<_, String>(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok((next.load(Ordering::Relaxed) - first) as f64 / started.elapsed().as_secs_f64())
}

/// A request whenever one is due, whether others are answered or not; milliseconds from when it was due, sorted.
async fn steady(next: &Arc<AtomicU64>, seconds: u64) -> Outcome<Vec<f64>> {
    let (started, slots) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let tasks = (0..CONNECTIONS).map(|_| {
        let (next, slots) = (Arc::clone(next), Arc::clone(&slots));
        tokio::spawn(async move {
            let (mut sender, mut taken) = (Sender::connect().await?, Vec::new());
            loop {
                let slot = slots.fetch_add(1, Ordering::Relaxed);
                if slot >= RATE * seconds {
                    return Ok::<_, String>(taken);
                }
                let due = started + Duration::from_secs(1).mul_f64(slot as f64 / RATE as f64);
                tokio::time::sleep_until(due.into()).await;
                sender.send(next.fetch_add(1, Ordering::Relaxed)).await?;
                taken.push(due.elapsed().as_secs_f64() * 1e3);
            }
        })
    });
    let mut all = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        all.extend(task.await??);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// One connection that is kept alive.
struct Sender {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Sender {
    async fn connect() -> Result<Self, String> {
        let stream = TcpStream::connect(ADDRESS).await.map_err(|error| format!("connecting to the webhook: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends one row and waits for its 200.
    async fn send(&mut self, id: u64) -> Result<(), String> {
        let body = format!(
            r#"{{"id":{id},"code":"000.00.01.H09-{:06}","full_name":"Nguyễn Văn Trường","address":"Số {}, đường Đại lộ Bình Dương, phường Phú Hòa","birth_date":"1990-02-01","received_at":"2024-01-01 08:00:00","updated_at":"2024-06-01 00:00:00","fee":"{}.50","amount":"{}.0001","status":"MOI","visits":{},"note":"Hồ sơ đăng ký kinh doanh"}}"#,
            id % 1_000_000,
            id % 500,
            id % 500_000,
            id % 1_000_000,
            id % 100
        );
        let request = format!(
            "POST /item HTTP/1.1\r\nhost: {ADDRESS}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let failed = |error: std::io::Error| format!("asking the webhook: {error}");
        self.stream.write_all(request.as_bytes()).await.map_err(failed)?;
        self.answer.clear();
        while !is_whole(&self.answer) {
            if self.stream.read_buf(&mut self.answer).await.map_err(failed)? == 0 {
                return Err("the webhook ended the connection".to_owned());
            }
        }
        let answer = String::from_utf8_lossy(&self.answer);
        if answer.starts_with("HTTP/1.1 200") {
            Ok(())
        } else {
            Err(format!("the webhook says {}", answer.lines().next().unwrap_or_default()))
        }
    }
}

/// Whether an answer has its head and as much of a body as that says.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}
