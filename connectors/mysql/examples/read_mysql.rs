//! Reads a table through the connector to nothing, its present rows first and then its changes: rows a second of both.
//!
//! `cargo run --release -p hub-connector-mysql --example read_mysql -- <host> <port> <user> <database.table> <rows> <changes>`, where a
//! password is in `MYSQL_PWD`. The snapshot ends with the last of `rows`; before the changes are read it waits for a line of input, so
//! that they can be made while nobody follows. Beside it: `mariadb --quick -e 'SELECT * FROM …' > /dev/null`, and
//! `mariadb-binlog --read-from-remote-server --raw`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a program for measuring stops at once")]

use std::sync::Arc;
use std::time::Instant;

use hub_connector_mysql::Mysql;
use hub_sdk::model::{ChangeBatch, Checkpoint, StreamName, SystemName};
use hub_sdk::{Budget, Connector, OpenContext, StreamRequest, outlet};
use serde_json::json;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, user, stream, rows, changes] = arguments.as_slice() else {
        panic!("usage: read_mysql <host> <port> <user> <database.table> <rows> <changes>")
    };
    let password = std::env::var("MYSQL_PWD").unwrap_or_default();
    let before = std::env::var("BEFORE_IMAGES").map_or(true, |value| value != "0");
    let port: u16 = port.parse().unwrap();
    let config =
        json!({"host": host, "port": port, "user": user, "password": password, "tls": {"mode": "disable"}, "before_images": before});
    let streams = vec![StreamRequest { stream: StreamName::new(stream).unwrap(), columns: Vec::new() }];
    let context = OpenContext::new(SystemName::new("read").unwrap(), streams);
    let connector = Arc::new(Mysql::open(serde_json::from_value(config).unwrap(), context).await.unwrap());
    let checkpoint = read(&connector, Checkpoint::empty(), rows.parse().unwrap(), "snapshot").await;
    println!("make the changes, then press Enter");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    read(&connector, checkpoint, changes.parse().unwrap(), "log").await;
}

/// Reads so many rows; gives the checkpoint behind them.
async fn read(connector: &Arc<Mysql>, mut checkpoint: Checkpoint, wanted: usize, what: &str) -> Checkpoint {
    let (out, mut deliveries) = outlet(Budget::new(64 << 20), 4);
    let (capturing, from) = (Arc::clone(connector), checkpoint.clone());
    let start = Instant::now();
    let running = tokio::spawn(async move { capturing.capture(from, out).await });
    let (mut rows, mut count) = (0, 0);
    let mut is_complete = what != "snapshot";
    while rows < wanted || !is_complete {
        let Some((delivery, _permit)) = deliveries.recv().await else {
            panic!("{:?}", running.await.unwrap().map_err(|error| error.report()))
        };
        rows += delivery.batches.iter().map(ChangeBatch::len).sum::<usize>();
        count += 1;
        is_complete |= !delivery.completed.is_empty();
        checkpoint.merge(&delivery.checkpoint);
    }
    let took = start.elapsed();
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = rows as f64 / took.as_secs_f64();
    println!("{what}: {rows} rows in {count} deliveries, {took:.2?}, {rate:.0} rows/s");
    drop(deliveries);
    running.await.unwrap().unwrap();
    checkpoint
}
