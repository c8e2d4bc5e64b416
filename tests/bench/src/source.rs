//! The source: a PostgreSQL database with one table of 12 columns, and what the server itself can do with it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::Outcome;

const SERVER: &str = "host=127.0.0.1 port=15432 user=postgres";

/// An open connection to a database of the private server.
pub(crate) async fn connect(database: &str) -> Outcome<Client> {
    let (client, connection) = tokio_postgres::connect(&format!("{SERVER} dbname={database}"), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A new database with an empty table.
pub(crate) async fn create() -> Outcome<Client> {
    let admin = connect("postgres").await?;
    let slots = admin.query("SELECT slot_name FROM pg_replication_slots WHERE database = 'bench' AND NOT active", &[]).await?;
    for slot in slots {
        admin.execute("SELECT pg_drop_replication_slot($1)", &[&slot.get::<_, String>(0)]).await?;
    }
    admin.batch_execute("DROP DATABASE IF EXISTS bench WITH (FORCE)").await?;
    admin.batch_execute("CREATE DATABASE bench").await?;
    let client = connect("bench").await?;
    client
        .batch_execute(
            "CREATE TABLE item (id bigint PRIMARY KEY, ma text NOT NULL, ho_ten text NOT NULL, dia_chi text, ngay_sinh date NOT NULL,
               ngay_nop timestamp NOT NULL, cap_nhat timestamptz NOT NULL, le_phi numeric(14,2) NOT NULL, so_tien numeric(18,4) NOT NULL,
               trang_thai text NOT NULL, so_lan int NOT NULL, ghi_chu text)",
        )
        .await?;
    Ok(client)
}

/// Inserts rows `from..from + count` in transactions of `per` rows.
pub(crate) async fn insert(client: &Client, from: i64, count: i64, per: i64) -> Outcome<()> {
    let mut at = from;
    while at < from + count {
        let last = (at + per).min(from + count) - 1;
        client.batch_execute(&insert_sql(at, last)).await?;
        at = last + 1;
    }
    Ok(())
}

/// One insert of the rows `first..=last`.
pub(crate) fn insert_sql(first: i64, last: i64) -> String {
    format!(
        "INSERT INTO item SELECT i, '000.00.01.H09-' || lpad((i % 1000000)::text, 6, '0'),
           (ARRAY['Nguyễn Văn Trường','Trần Thị Ngọc Ánh','Lê Hoàng Phúc','Phạm Quỳnh Như'])[i % 4 + 1],
           'Số ' || i % 500 || ', đường Đại lộ Bình Dương, phường Phú Hòa, Thủ Dầu Một', date '1950-01-01' + (i % 20000)::int,
           timestamp '2024-01-01' + i * interval '7 seconds', timestamptz '2024-06-01 00:00:00+07' + i * interval '3 seconds',
           (i % 500000)::numeric(14,2) + 0.5, (i % 1000000)::numeric(18,4) * 1.0001,
           (ARRAY['MOI','DXL','HT','DTR'])[i % 4 + 1], (i % 100)::int, 'Hồ sơ đăng ký kinh doanh, bổ sung giấy tờ lần ' || i % 9
         FROM generate_series({first}::bigint, {last}::bigint) AS i"
    )
}

/// Seconds that `COPY … (FORMAT binary)` of the table to nothing takes: the limit of a snapshot.
pub(crate) async fn copy_to_nothing() -> Outcome<f64> {
    let started = Instant::now();
    let status = Command::new("/usr/lib/postgresql/15/bin/psql")
        .args(["-h", "127.0.0.1", "-p", "15432", "-U", "postgres", "-d", "bench", "-qc", "COPY item TO STDOUT (FORMAT binary)"])
        .stdout(Stdio::null())
        .status()
        .await?;
    if !status.success() {
        return Err("psql could not copy the table".into());
    }
    Ok(started.elapsed().as_secs_f64())
}

/// A slot with a publication of its own, to drain the same changes with `pg_recvlogical`.
pub(crate) async fn create_limit_slot(client: &Client) -> Outcome<()> {
    client.batch_execute("DROP PUBLICATION IF EXISTS bench_limit; CREATE PUBLICATION bench_limit FOR TABLE item").await?;
    client.execute("SELECT pg_create_logical_replication_slot('bench_limit', 'pgoutput')", &[]).await?;
    Ok(())
}

/// Seconds that `pg_recvlogical` takes to drain its slot up to now to nothing: the limit of streaming.
pub(crate) async fn drain_to_nothing(client: &Client) -> Outcome<f64> {
    let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.get(0);
    // A record after `end` makes pg_recvlogical reach it.
    client.execute("SELECT pg_logical_emit_message(false, 'bench', 'end')", &[]).await?;
    let started = Instant::now();
    let status = Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical")
        .args(["-h", "127.0.0.1", "-p", "15432", "-U", "postgres", "-d", "bench", "-S", "bench_limit", "--start", "-f", "/dev/null"])
        .args(["--endpos", &end, "-o", "proto_version=1", "-o", "publication_names=bench_limit", "-o", "binary=true", "-n"])
        .status()
        .await?;
    if !status.success() {
        return Err("pg_recvlogical could not drain the slot".into());
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Waits until a condition of the server holds.
pub(crate) async fn wait_for(client: &Client, condition: &str, limit: Duration) -> Outcome<Instant> {
    let started = Instant::now();
    loop {
        if client.query_one(&format!("SELECT coalesce(({condition}), false)"), &[]).await?.get(0) {
            return Ok(Instant::now());
        }
        if started.elapsed() > limit {
            return Err(format!("the server does not come to: {condition}").into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
