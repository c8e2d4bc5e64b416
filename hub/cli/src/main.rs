//! The `hub` command: reads the configuration, runs systems, and shows what they do.

mod arenas;
mod avro;
mod command;
mod config;
mod desired;
mod failure;
mod http;
mod setup;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use failure::Failure;
use hub_telemetry::Format;

/// Event-streaming data hub: captures every change once, normalises it and publishes it to Kafka, exactly once.
#[derive(Parser, Debug)]
#[command(name = "hub", version, about, propagate_version = true, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
struct Global {
    /// Folder with hub.yaml and systems/*.yaml.
    #[arg(short, long, global = true, env = "HUB_CONFIG", default_value = ".", value_name = "DIR")]
    config: PathBuf,
    /// Print JSON for machines instead of tables for people.
    #[arg(long, global = true)]
    json: bool,
    /// Form of the log on standard error.
    #[arg(long, global = true, env = "HUB_LOG_FORMAT", default_value = "pretty", value_parser = ["pretty", "json"])]
    log_format: String,
    /// What is logged, `info` or `warn,hub_engine=debug`.
    #[arg(long, global = true, env = "HUB_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Apply the configuration and run its systems until interrupted.
    Run(command::run::Options),
    /// Show how the configuration differs from what is desired in Kafka, then make it so.
    Apply(command::apply::Options),
    /// Say everything that is wrong with the configuration and, unless --offline, with the sources.
    Check(command::check::Options),
    /// Show real rows of a system through its mapping, side by side; nothing is published.
    Preview(command::preview::Options),
    /// List what a system has; with --draft, write a mapping to start from.
    Discover(command::discover::Options),
    /// Show decoded records of a topic.
    Tail(command::tail::Options),
    /// List, show or replay rejected rows.
    Rejects(command::rejects::Options),
    /// Show what the running hub is doing.
    Status(command::status::Options),
    /// Compare a system's source with its topics: missing, extra, different.
    Verify(command::verify::Options),
    /// List or show canonical schemas, or check them against what is registered.
    Schemas(command::schemas::Options),
    /// List the functions that mappings may use.
    Functions(command::functions::Options),
    /// Show the connectors that are compiled in, with their settings.
    Connectors(command::connectors::Options),
    /// Print the JSON Schema of configuration files, for editors.
    Config(command::config_schema::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_)) {
        arenas::bound();
    }
    let format = if cli.global.log_format == "json" { Format::Json } else { Format::Pretty };
    let quiet = !matches!(cli.command, Command::Run(_));
    let filter = cli.global.log.as_deref().unwrap_or(if quiet { "error,rdkafka=off" } else { "info,rdkafka=off" });
    if let Err(error) = hub_telemetry::init(format, filter) {
        eprintln!("error: the log cannot be set up: {error}");
        return ExitCode::from(Failure::USAGE);
    }
    std::panic::set_hook(Box::new(report_panic));
    // Every TLS client of the process uses ring; a provider that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("hub").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::from(Failure::INTERNAL);
        }
    };
    let outcome = runtime.block_on(dispatch(cli.global, cli.command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}

/// Says where a panic was. Its message, unless it is a fixed text, may hold a value of a row, and stays unsaid.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let words = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("its message may hold a value and is left out");
    tracing::error!(place, words, "a panic, a defect of the hub; please report it");
}

async fn dispatch(global: Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(options) => command::run::run(&global, options).await,
        Command::Apply(options) => command::apply::run(&global, options).await,
        Command::Check(options) => command::check::run(&global, options).await,
        Command::Preview(options) => command::preview::run(&global, options).await,
        Command::Discover(options) => command::discover::run(&global, options).await,
        Command::Tail(options) => command::tail::run(&global, options).await,
        Command::Rejects(options) => command::rejects::run(&global, options).await,
        Command::Status(options) => command::status::run(&global, options).await,
        Command::Verify(options) => command::verify::run(&global, options).await,
        Command::Schemas(options) => command::schemas::run(&global, options).await,
        Command::Functions(options) => command::functions::run(&global, &options),
        Command::Connectors(options) => command::connectors::run(&global, &options),
        Command::Config(options) => command::config_schema::run(&options),
    }
}
