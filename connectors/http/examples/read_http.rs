//! Reads the streams of a configuration once, and says how many rows came and how fast: `read_http config.json [rows to show]`.
//!
//! `config.json` is the `config:` section of a system. For a look at a service that nobody has read yet; nothing is published or remembered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "an example may stop at the first surprise")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::util::pretty::pretty_format_batches;
use hub_connector_http::{Http, HttpConfig};
use hub_sdk::model::{Checkpoint, StreamName, SystemName};
use hub_sdk::{Budget, Connector, OpenContext, StreamRequest, outlet};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("the configuration, as a JSON file");
    let show: usize = arguments.next().map_or(5, |rows| rows.parse().expect("a number of rows"));
    let config: HttpConfig = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let names: Vec<StreamName> = config.streams.keys().map(|name| StreamName::new(name).unwrap()).collect();
    let streams = names.iter().map(|stream| StreamRequest { stream: stream.clone(), columns: Vec::new() }).collect();
    let opened = Http::open(config, OpenContext::new(SystemName::new("example").unwrap(), streams)).await;
    let connector = Arc::new(opened.unwrap_or_else(|error| panic!("{}", error.report())));
    let probe = connector.probe().await.unwrap_or_else(|error| panic!("{}", error.report()));
    println!("{}: {:?}", probe.server, probe.findings);
    let (out, mut deliveries) = outlet(Budget::new(64 << 20), 4);
    let (capturing, began) = (Arc::clone(&connector), Instant::now());
    let run = tokio::spawn(async move { capturing.capture(Checkpoint::empty(), out).await });
    let (mut rows, mut complete) = (BTreeMap::<String, usize>::new(), 0);
    while let Some((delivery, _permit)) = deliveries.recv().await {
        for batch in &delivery.batches {
            let count = rows.entry(batch.stream.to_string()).or_default();
            if *count == 0 {
                let shown = batch.rows.slice(0, show.min(batch.len()));
                println!("{}\n{}", batch.stream, pretty_format_batches(&[shown]).unwrap());
            }
            *count += batch.len();
        }
        complete += delivery.completed.len();
        if complete == names.len() {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    drop(deliveries);
    if let Err(error) = run.await.unwrap() {
        println!("{}", error.report());
    }
    for (stream, count) in rows {
        println!("{stream}: {count} rows in {seconds:.2} s");
    }
}
