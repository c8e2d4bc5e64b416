//! Reads a table through the connector to nothing and, beside it, by the driver alone: rows a second of both.
//!
//! `cargo run --release -p hub-connector-odbc --example read_odbc -- '<connection string>' <table>`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a program for measuring stops at once")]

use std::time::Instant;

use arrow_odbc::odbc_api::{ConnectionOptions, environment};
use arrow_odbc::{OdbcReaderBuilder, arrow::record_batch::RecordBatch};
use hub_connector_odbc::Odbc;
use hub_sdk::model::{StreamName, SystemName};
use hub_sdk::{Budget, Connector, OpenContext, StreamRequest, outlet};
use serde_json::json;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(string), Some(table)) = (arguments.next(), arguments.next()) else { panic!("usage: read_odbc <connection string> <table>") };
    for round in 1..=3 {
        let (alone, through) = (driver(&string, &table), connector(&string, &table).await);
        println!("round {round}: driver alone {alone:.0} rows/s, through the connector {through:.0} rows/s, ratio {:.3}", through / alone);
    }
}

fn driver(string: &str, table: &str) -> f64 {
    let start = Instant::now();
    let connection = environment().unwrap().connect_with_connection_string(string, ConnectionOptions::default()).unwrap();
    let cursor = connection.into_cursor(&format!("SELECT * FROM {table}"), (), None).map_err(|error| error.error).unwrap().unwrap();
    let reader = OdbcReaderBuilder::new().with_max_bytes_per_batch(16 << 20).with_max_text_size(1 << 12).build(cursor).unwrap();
    let rows: usize = reader.map(|batch: Result<RecordBatch, _>| batch.unwrap().num_rows()).sum();
    rate(rows, start)
}

async fn connector(string: &str, table: &str) -> f64 {
    let config = serde_json::from_value(json!({"connection_string": string})).unwrap();
    let stream = StreamName::new(table).unwrap();
    let context = OpenContext::new(SystemName::new("read").unwrap(), vec![StreamRequest { stream: stream.clone(), columns: Vec::new() }]);
    let connector = Odbc::open(config, context).await.unwrap();
    let (out, mut deliveries) = outlet(Budget::new(64 << 20), 4);
    let start = Instant::now();
    let reading = tokio::spawn(async move { connector.scan(&stream, out).await });
    let mut rows = 0;
    while let Some((delivery, _permit)) = deliveries.recv().await {
        rows += delivery.batches.iter().map(hub_sdk::model::ChangeBatch::len).sum::<usize>();
    }
    reading.await.unwrap().unwrap();
    rate(rows, start)
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(rows: usize, start: Instant) -> f64 {
    rows as f64 / start.elapsed().as_secs_f64()
}
