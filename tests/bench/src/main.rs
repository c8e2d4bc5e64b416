//! Measures the hub against what the servers themselves can do, and against Debezium beside it.

mod hub;
mod latency;
mod loss;
mod peers;
mod report;
mod source;
mod sources;
mod throughput;
mod topic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The result of a measurement; a benchmark may fail with words alone.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(about = "Measures the hub. Quote ratios and medians: machines are noisy.")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Throughput, latency, memory and loss of the hub.
    Run(RunOptions),
    /// The same tables through Debezium on Kafka Connect, in the same run.
    Peers(RunOptions),
    /// Only throughput and its memory.
    Throughput(RunOptions),
    /// Only latency.
    Latency(RunOptions),
    /// Only the loss test: kill -9 at random moments.
    Loss(RunOptions),
    /// Only the other kinds of sources, and many systems that are idle.
    Sources {
        /// How much is measured.
        #[command(flatten)]
        options: RunOptions,
        /// Which of them; all unless named.
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<sources::Source>,
    },
}

/// How much is measured.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct RunOptions {
    /// Rows of the table.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) rows: i64,
    /// Times each figure is taken; medians are told.
    #[arg(long, default_value_t = 3)]
    pub(crate) repeats: usize,
    /// Seconds of each latency measurement.
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
    /// Random moments at which the hub is killed.
    #[arg(long, default_value_t = 20)]
    pub(crate) kills: u32,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(options.command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("not every goal is met");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command) -> Outcome<bool> {
    let binary = hub::binary()?;
    let mut report = report::Report::default();
    match command {
        Command::Run(options) => {
            throughput::run(&binary, options, &mut report).await?;
            latency::run(&binary, options, &mut report).await?;
            loss::run(&binary, options, &mut report).await?;
            sources::run(&binary, options, &[], &mut report).await?;
        }
        Command::Peers(options) => peers::run(&binary, options, &mut report).await?,
        Command::Throughput(options) => throughput::run(&binary, options, &mut report).await?,
        Command::Latency(options) => latency::run(&binary, options, &mut report).await?,
        Command::Sources { options, only } => sources::run(&binary, options, &only, &mut report).await?,
        Command::Loss(options) => loss::run(&binary, options, &mut report).await?,
    }
    report.finish(&hub::folder().join("results/latest.json"))
}

/// A topic prefix that no earlier run has used.
pub(crate) fn fresh_prefix(what: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    format!("bench-{what}-{now}")
}
