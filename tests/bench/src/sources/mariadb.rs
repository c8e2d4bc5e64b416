//! MariaDB: a snapshot against the plain client, the binlog against `mariadb-binlog`, both to nothing.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::stage::{PATIENCE, Stage, TYPED, until_published};
use super::{against_limits, cpu_per_million, peak, tell};
use crate::report::{Goal, Report};
use crate::throughput::Measure;
use crate::{Outcome, RunOptions, hub};

const CONFIG: &str = "  {host: 127.0.0.1, port: 13306, user: root, tls: {mode: disable}}";
const SERVER: [&str; 5] = ["--host=127.0.0.1", "--port=13306", "--user=root", "--protocol=tcp", "--skip-ssl"];

/// Snapshot and binlog.
pub(super) async fn run(binary: &Path, options: RunOptions, report: &mut Report) -> Outcome<()> {
    let rows = options.rows as f64;
    create().await?;
    insert(1, options.rows, 50_000).await?;
    println!("mysql: snapshot of {} rows", options.rows);
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        limits.push(select_to_nothing().await?);
        ours.push(stage()?.first_reading(binary, options.rows).await?);
        tell(&ours[ours.len() - 1], limits[limits.len() - 1]);
    }
    let (rate, reference) = against_limits(rows, &ours, limits);
    report.add("mysql.snapshot.rate", rate, "rows/s", Some(reference), Goal::Told);
    report.add("mysql.snapshot.cpu", cpu_per_million(rows, &ours), "s/M rows", None, Goal::Told);
    let mut most = peak(&ours);
    for (name, per) in [("one-transaction", options.rows), ("100-transactions", options.rows / 100)] {
        println!("mysql: binlog, {} rows in {name}", options.rows);
        let (mut ours, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..options.repeats {
            let (measure, limit) = follow(binary, options.rows, per).await?;
            tell(&measure, limit);
            ours.push(measure);
            limits.push(limit);
        }
        let (rate, reference) = against_limits(rows, &ours, limits);
        report.add(&format!("mysql.binlog.{name}.rate"), rate, "rows/s", Some(reference), Goal::Told);
        report.add(&format!("mysql.binlog.{name}.cpu"), cpu_per_million(rows, &ours), "s/M rows", None, Goal::Told);
        most = most.max(peak(&ours));
    }
    report.add("mysql.peak-memory", most, "MB", None, Goal::AtMost(128.0));
    Ok(())
}

fn stage() -> Outcome<Stage> {
    let stage = Stage::new("mysql")?;
    stage.system("bench", "mysql", CONFIG, "bench.item", "bench.Item", TYPED)?;
    Ok(stage)
}

/// The hub reads what was written to the binlog while it was away; `mariadb-binlog` reads the same to nothing.
async fn follow(binary: &Path, rows: i64, per: i64) -> Outcome<(Measure, f64)> {
    create().await?;
    let stage = stage()?;
    let process = stage.start(binary)?;
    hub::wait_following(PATIENCE).await?;
    process.stop().await?;
    sql("FLUSH BINARY LOGS").await?;
    let first = binlogs().await?.pop().ok_or("the server has no binlog")?;
    insert(1, rows, per).await?;
    let limit = dump_to_nothing(&first).await?;
    let process = stage.start(binary)?;
    let started = wait_dumping().await?;
    let measure = until_published(&process, started, rows).await?;
    process.stop().await?;
    Ok((measure, limit))
}

/// A new database with a table of one row.
pub(super) async fn create_thing() -> Outcome<()> {
    create().await?;
    sql("CREATE TABLE bench.thing (id bigint PRIMARY KEY, name varchar(100)); INSERT INTO bench.thing VALUES (1, 'một')").await?;
    Ok(())
}

/// A new database with the benchmark's table.
async fn create() -> Outcome<()> {
    sql("DROP DATABASE IF EXISTS bench; CREATE DATABASE bench CHARACTER SET utf8mb4;
         CREATE TABLE bench.item (id bigint PRIMARY KEY, ma varchar(40) NOT NULL, ho_ten varchar(100) NOT NULL, dia_chi varchar(200),
           ngay_sinh date NOT NULL, ngay_nop datetime NOT NULL, cap_nhat datetime(6) NOT NULL, le_phi decimal(14,2) NOT NULL,
           so_tien decimal(18,4) NOT NULL, trang_thai varchar(10) NOT NULL, so_lan int NOT NULL, ghi_chu text)")
    .await?;
    Ok(())
}

/// Inserts rows `from..from + count` in transactions of `per` rows.
async fn insert(from: i64, count: i64, per: i64) -> Outcome<()> {
    let mut at = from;
    while at < from + count {
        let last = (at + per).min(from + count) - 1;
        let sequence = format!("bench.seq_{at}_to_{last}");
        sql(&format!(
            "INSERT INTO bench.item SELECT seq, concat('000.00.01.H09-', lpad(seq % 1000000, 6, '0')),
               elt(seq % 4 + 1, 'Nguyễn Văn Trường', 'Trần Thị Ngọc Ánh', 'Lê Hoàng Phúc', 'Phạm Quỳnh Như'),
               concat('Số ', seq % 500, ', đường Đại lộ Bình Dương, phường Phú Hòa, Thủ Dầu Một'),
               date '1950-01-01' + INTERVAL seq % 20000 DAY, timestamp '2024-01-01 00:00:00' + INTERVAL seq * 7 SECOND,
               timestamp '2024-06-01 00:00:00' + INTERVAL seq * 3 SECOND, seq % 500000 + 0.5, (seq % 1000000) * 1.0001,
               elt(seq % 4 + 1, 'MOI', 'DXL', 'HT', 'DTR'), seq % 100, concat('Hồ sơ đăng ký kinh doanh, bổ sung giấy tờ lần ', seq % 9)
             FROM {sequence}"
        ))
        .await?;
        at = last + 1;
    }
    Ok(())
}

/// Seconds that the plain client takes to read the table to nothing: the limit of a snapshot.
async fn select_to_nothing() -> Outcome<f64> {
    let started = Instant::now();
    let status = Command::new("mariadb")
        .args(SERVER)
        .args(["--default-character-set=utf8mb4", "--quick", "--skip-column-names", "--batch", "-e", "SELECT * FROM bench.item"])
        .stdout(Stdio::null())
        .status()
        .await?;
    if !status.success() {
        return Err("mariadb could not read the table".into());
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Seconds that `mariadb-binlog` takes to read all binlogs from `first` on to nothing: the limit of following.
async fn dump_to_nothing(first: &str) -> Outcome<f64> {
    let folder = hub::root().join(".local/bench/binlog");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    // It writes files of the binlogs' names, which are nothing here.
    for name in binlogs().await? {
        symlink("/dev/null", folder.join(name))?;
    }
    let started = Instant::now();
    let status = Command::new("mariadb-binlog")
        .args(["--host=127.0.0.1", "--port=13306", "--user=root", "--protocol=tcp", "--read-from-remote-server", "--raw", "--to-last-log"])
        .arg(format!("--result-file={}/", folder.display()))
        .arg(first)
        .stdout(Stdio::null())
        .status()
        .await?;
    if !status.success() {
        return Err("mariadb-binlog could not read the binlogs".into());
    }
    Ok(started.elapsed().as_secs_f64())
}

async fn binlogs() -> Outcome<Vec<String>> {
    let text = sql("SHOW BINARY LOGS").await?;
    Ok(text.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect())
}

/// Waits until the server sends its binlog to somebody; says when.
async fn wait_dumping() -> Outcome<Instant> {
    let started = Instant::now();
    while sql("SELECT count(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'").await?.trim() == "0" {
        if started.elapsed() > PATIENCE {
            return Err("nobody reads the binlog; see .local/logs/bench-hub.log".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Instant::now())
}

/// Runs SQL by the plain client; what it prints.
async fn sql(text: &str) -> Outcome<String> {
    let output = Command::new("mariadb")
        .args(SERVER)
        .args(["--default-character-set=utf8mb4", "--skip-column-names", "--batch", "-e", text])
        .output()
        .await?;
    if !output.status.success() {
        return Err(format!("mariadb: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
