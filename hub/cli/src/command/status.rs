//! `hub status`: what the running hub is doing.

use std::time::Duration;

use clap::Args;
use comfy_table::Table;
use hub_engine::status::{State, StreamStatus, SystemStatus};

use super::hub_file;
use crate::Global;
use crate::failure::Failure;
use crate::http::fetch;
use crate::table::{grouped, print_json, print_line, table};

/// How often a watched status is asked for.
const PERIOD: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Options of `hub status`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where the running hub is, `http://127.0.0.1:9464` or `host:port`, where it is not the one of hub.yaml.
    #[arg(long, alias = "at", value_name = "URL")]
    url: Option<String>,
    /// Ask again every second until interrupted.
    #[arg(short, long)]
    watch: bool,
    /// A row per stream too.
    #[arg(short, long)]
    streams: bool,
}

/// Asks the running hub and prints a row per system.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let at = match &options.url {
        Some(url) => address(url)?,
        None => hub_file(&global.config)?.http.listen.to_string(),
    };
    loop {
        let systems = ask(&at).await?;
        if global.json {
            systems.iter().for_each(print_json);
        } else {
            let clear = if options.watch { CLEAR } else { "" };
            print_line(&format!("{clear}{}", overview(&systems)));
            if options.streams {
                print_line(&streams(&systems).to_string());
            }
        }
        if !options.watch {
            return Ok(());
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// The operators' port has no TLS: `host:port` is all there is to a URL.
fn address(url: &str) -> Result<String, Failure> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let address = rest.split('/').next().unwrap_or(rest);
    if address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
        return Ok(address.to_owned());
    }
    Err(Failure::Usage(format!("--url takes http://host:port, not {url}")))
}

async fn ask(at: &str) -> Result<Vec<SystemStatus>, Failure> {
    let body = fetch(at, "/status").await?;
    serde_json::from_str(&body).map_err(|error| Failure::unavailable(format!("{at} answers, but not as a hub"), error))
}

fn overview(systems: &[SystemStatus]) -> Table {
    let mut rows = table(&["system", "state", "lag", "rows/s", "captured", "published", "rejected", "last error"]);
    for system in systems {
        let sum = |count: fn(&StreamStatus) -> u64| grouped(system.streams.values().map(count).sum::<u64>());
        let parked = system.streams.iter().filter_map(|(stream, status)| Some(format!("{stream} parked: {}", status.parked.as_ref()?)));
        let troubles: Vec<String> = system.error.iter().cloned().chain(parked).collect();
        rows.add_row([
            system.system.clone(),
            state(system),
            system.lag_seconds.map_or_else(|| "-".to_owned(), |lag| format!("{lag:.3} s")),
            format!("{:.0}", system.rate),
            sum(|stream| stream.captured),
            sum(|stream| stream.published),
            sum(|stream| stream.rejected),
            troubles.join("\n"),
        ]);
    }
    rows
}

/// The state, since when, and how far a snapshot is.
fn state(system: &SystemStatus) -> String {
    let since = format!("{} for {}", system.state.name(), spell(system.since_seconds));
    if system.state != State::Snapshot || system.snapshot.is_empty() {
        return since;
    }
    let rows: u64 = system.snapshot.iter().map(|stream| stream.rows).sum();
    let expected: Option<u64> = system.snapshot.iter().map(|stream| stream.expected).sum();
    match expected.filter(|expected| *expected > 0) {
        Some(expected) => format!("{since}, about {} %", (rows * 100 / expected).min(100)),
        None => format!("{since}, {} rows", grouped(rows)),
    }
}

fn spell(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn streams(systems: &[SystemStatus]) -> Table {
    let mut rows = table(&["system", "stream", "topic", "captured", "published", "rejected", "filtered"]);
    for system in systems {
        for (stream, status) in &system.streams {
            let numbers = [status.captured, status.published, status.rejected, status.filtered].map(grouped);
            let names = [system.system.clone(), stream.clone(), status.topic.clone()];
            rows.add_row(names.into_iter().chain(numbers));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use hub_engine::status::SnapshotStatus;

    use super::*;

    #[test]
    fn a_running_hub_is_named_by_url_or_address() {
        assert_eq!(address("http://127.0.0.1:9464/").unwrap(), "127.0.0.1:9464");
        assert_eq!(address("hub.example:80").unwrap(), "hub.example:80");
        assert!(address("hub.example").is_err());
        assert!(address("https://hub.example:443").is_err(), "the port has no TLS");
    }

    #[test]
    fn a_snapshot_tells_how_far_it_is() {
        let snapshot = |expected| SnapshotStatus { stream: "a".into(), rows: 50, expected, chunks_done: 0, chunks: 1 };
        let mut system = SystemStatus {
            system: "mot-cua".into(),
            state: State::Snapshot,
            since_seconds: 180,
            since_ms: 0,
            pending: 0,
            pending_seconds: 0.0,
            position: None,
            blocked: None,
            lag_seconds: None,
            rate: 0.0,
            error: None,
            idle_seconds: 0,
            streams: Default::default(),
            snapshot: vec![snapshot(Some(200))],
        };
        assert_eq!(state(&system), "snapshot for 3 min, about 25 %");
        system.snapshot = vec![snapshot(None)];
        assert_eq!(state(&system), "snapshot for 3 min, 50 rows");
    }
}
