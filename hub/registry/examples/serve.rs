//! A registry alone, to try clients against: `cargo run -p hub-registry --example serve -- BROKERS TOPIC ADDRESS`.

use std::error::Error;

use hub_registry::Registry;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, address] = arguments.as_slice() else {
        return Err("usage: serve BROKERS TOPIC ADDRESS, such as 127.0.0.1:19092 hub.schemas 127.0.0.1:8081".into());
    };
    let mut client = rdkafka::ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    let registry = Registry::start(client, topic, 1).await?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, registry.router()).await?;
    Ok(())
}
