//! What end-to-end tests need: a database of their own, the `hub` binary as a process, and a reader that decodes topics.
//!
//! Everything runs on the private stack that `make up` starts. Each test has its own database, topic prefix and ports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support may panic; it says why")]

mod hub;
mod kafka;
mod scrape;
mod source;
mod topic;

pub use hub::{Hub, Setup};
pub use hub_conformance::Link as Proxy;
pub use kafka::Kafka;
pub use scrape::{Labels, Scrape};
pub use source::Source;
pub use topic::{Event, Raw, events, raw_records, raw_records_of};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The private Kafka.
pub const BROKERS: &str = "127.0.0.1:19092";

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A port that nobody listens on now.
#[must_use]
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A name that no other test uses, now or in an earlier run.
#[must_use]
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    format!("{what}{}{}", now % 10_000_000_000, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Polls until `ready` gives something; fails with `what` after [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ready().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "gave up waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
