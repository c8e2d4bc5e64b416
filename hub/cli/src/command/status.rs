//! `hub status`: what the running hub is doing.

use clap::Args;
use hub_engine::status::SystemStatus;

use super::hub_file;
use crate::Global;
use crate::failure::Failure;
use crate::http::fetch;
use crate::table::{print_json, print_line, table};

/// Options of `hub status`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// `host:port` of the running hub, where it is not the one of hub.yaml.
    #[arg(long)]
    at: Option<String>,
}

/// Asks the running hub and prints a row per system.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let at = match options.at {
        Some(at) => at,
        None => hub_file(&global.config)?.http.listen.to_string(),
    };
    let body = fetch(&at, "/status").await?;
    let systems: Vec<SystemStatus> = serde_json::from_str(&body)
        .map_err(|error| Failure::unavailable(format!("{at} answers, but not as a hub"), error))?;
    if global.json {
        systems.iter().for_each(print_json);
        return Ok(());
    }
    let mut rows = table(&["system", "state", "lag", "rows/s", "published", "rejected", "last error"]);
    for system in &systems {
        let sum = |count: fn(&hub_engine::status::StreamStatus) -> u64| system.streams.values().map(count).sum::<u64>();
        let parked = system.streams.iter().filter_map(|(stream, status)| Some(format!("{stream} parked: {}", status.parked.as_ref()?)));
        let troubles: Vec<String> = system.error.iter().cloned().chain(parked).collect();
        rows.add_row([
            system.system.clone(),
            format!("{} {} s", system.state.name(), system.since_seconds),
            system.lag_seconds.map_or_else(|| "-".to_owned(), |lag| format!("{lag:.3} s")),
            format!("{:.0}", system.rate),
            sum(|stream| stream.published).to_string(),
            sum(|stream| stream.rejected).to_string(),
            troubles.join("\n"),
        ]);
    }
    print_line(&rows.to_string());
    Ok(())
}
