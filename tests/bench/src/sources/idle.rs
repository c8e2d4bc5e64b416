//! 101 systems of mixed kinds in one process that have nothing to do: its memory, threads and CPU.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::stage::{PATIENCE, Stage};
use crate::report::{Goal, Report};
use crate::{Outcome, hub, source};

/// How many systems of each kind: 101 in all, about as a province has them.
const KINDS: [(&str, usize); 7] = [("postgres", 30), ("mysql", 20), ("odbc", 20), ("files", 12), ("http", 10), ("webhook", 8), ("exec", 1)];
const MAP: &str = "
      id: CAST(id AS BIGINT)
      name: name";
/// Seconds until memory and CPU have settled.
const SETTLING: Duration = Duration::from_secs(20);
/// Seconds over which CPU is taken: a whole round of those that look every minute.
const WATCHED: Duration = Duration::from_secs(60);

/// The figures.
pub(super) async fn run(binary: &Path, report: &mut Report) -> Outcome<()> {
    let count: usize = KINDS.iter().map(|(_, count)| count).sum();
    println!("idle: {count} systems of {} kinds", KINDS.len());
    let client = source::create().await?;
    client.batch_execute("CREATE TABLE thing (id bigint PRIMARY KEY, name text); INSERT INTO thing VALUES (1, 'một')").await?;
    super::mariadb::create_thing().await?;
    let port = serve_list().await?;
    let stage = Stage::new("idle")?;
    for (kind, count) in KINDS {
        for number in 0..count {
            let (config, source) = config(kind, number, port, &stage.folder)?;
            stage.system(&format!("{kind}-{number}"), kind, &config, source, "bench.Thing", MAP)?;
        }
    }
    let process = stage.start(binary)?;
    hub::wait_following(PATIENCE).await?;
    tokio::time::sleep(SETTLING).await;
    let cpu = process.cpu_seconds()?;
    tokio::time::sleep(WATCHED).await;
    let cpu = (process.cpu_seconds()? - cpu) * 100.0 / WATCHED.as_secs_f64();
    hub::wait_following(Duration::from_secs(5)).await?;
    let (memory, threads) = process.size()?;
    report.add("idle.memory", memory, "MB", None, Goal::AtMost(200.0));
    report.add("idle.threads", threads, "threads", None, Goal::AtMost(100.0));
    report.add("idle.cpu", cpu, "% of a core", None, Goal::AtMost(5.0));
    process.stop().await?;
    client.batch_execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'bench'").await?;
    Ok(())
}

/// The `config:` section of a system, and its stream.
fn config(kind: &str, number: usize, port: u16, folder: &Path) -> Outcome<(String, &'static str)> {
    Ok(match kind {
        "postgres" => {
            ("  {host: 127.0.0.1, port: 15432, database: bench, user: postgres, tls: {mode: disable}}".to_owned(), "public.thing")
        }
        "mysql" => ("  {host: 127.0.0.1, port: 13306, user: root, tls: {mode: disable}}".to_owned(), "bench.thing"),
        "odbc" => {
            let server = "  {driver: PostgreSQL Unicode, server: 127.0.0.1, port: 15432, database: bench, user: postgres,";
            (format!("{server} streams: {{thing: {{table: public.thing}}}}}}"), "thing")
        }
        "files" => {
            let delivered = folder.join(format!("delivered-{number}"));
            std::fs::create_dir_all(&delivered)?;
            std::fs::write(delivered.join("thing.csv"), "id,name\n1,một\n")?;
            (format!("  {{folder: {}, streams: {{thing: {{pattern: \"*.csv\", key: [id]}}}}}}", delivered.display()), "thing")
        }
        "http" => {
            let streams = "{thing: {path: /things, rows: /items, key: [id]}}";
            (format!("  {{base_url: \"http://127.0.0.1:{port}\", every_s: 60, streams: {streams}}}"), "thing")
        }
        "webhook" => {
            let listen = 29_500 + number;
            (
                format!(
                    "  {{listen: \"127.0.0.1:{listen}\", streams: {{thing: {{path: /thing, auth: none, columns: [id, name], key: [id]}}}}}}"
                ),
                "thing",
            )
        }
        _ => {
            let tap = folder.join("tap.py");
            std::fs::write(&tap, TAP)?;
            (format!("  {{protocol: singer, command: [python3, {}], every_s: 3600, streams: {{thing: {{}}}}}}", tap.display()), "thing")
        }
    })
}

/// A Singer tap of one row, which stands for any program that exits when it has told what there is.
const TAP: &str = r#"import json, sys
schema = {"properties": {"id": {"type": "integer"}, "name": {"type": ["null", "string"]}}}
if "--discover" in sys.argv:
    print(json.dumps({"streams": [{"stream": "thing", "tap_stream_id": "thing", "schema": schema, "key_properties": ["id"], "metadata": []}]}))
else:
    print(json.dumps({"type": "SCHEMA", "stream": "thing", "schema": schema, "key_properties": ["id"]}))
    print(json.dumps({"type": "RECORD", "stream": "thing", "record": {"id": 1, "name": "một"}}))
    print(json.dumps({"type": "STATE", "value": {"told": 1}}))
"#;

/// A service with a list of one row, for as long as this program runs.
async fn serve_list() -> Outcome<u16> {
    const BODY: &str = r#"{"items": [{"id": 1, "name": "một"}]}"#;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                    if !request.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    request.clear();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", BODY.len());
                    if stream.write_all((head + BODY).as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(port)
}
