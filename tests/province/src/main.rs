//! `province`: creates, fills and changes the demo's source system, and tells what a hub must find in it.

mod show;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use hub_tests_province::{
    Access, Amount, ChangePlan, FillPlan, ProvinceError, TopicAccess, change, create, expect, fill, reconcile, settle,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_postgres::Config;

/// The source system of the demo: a one-stop shop as messy as life.
#[derive(Parser)]
#[command(name = "province", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Target {
    /// Connection string of a superuser, naming the database.
    #[arg(long, env = "PROVINCE_DSN", default_value = "host=127.0.0.1 port=15432 user=postgres dbname=mot_cua")]
    dsn: Config,
}

#[derive(Subcommand)]
enum Command {
    /// Make the database anew, whatever was in it, with its replication slots.
    Create {
        #[command(flatten)]
        target: Target,
        /// Role to make for the hub; needs --password-file.
        #[arg(long, requires = "password_file")]
        role: Option<String>,
        /// File with that role's password.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Load citizens, agencies, dossiers and steps.
    Fill {
        #[command(flatten)]
        target: Target,
        /// How many dossiers.
        #[arg(long, default_value_t = 200_000)]
        dossiers: u64,
        /// The same seed gives the same rows.
        #[arg(long, default_value_t = 7)]
        seed: u64,
    },
    /// Insert, update and delete in small transactions.
    Change {
        #[command(flatten)]
        target: Target,
        /// Row changes a second; as fast as possible without it.
        #[arg(long)]
        rate: Option<f64>,
        /// Stop after so many row changes.
        #[arg(long, conflicts_with = "seconds")]
        count: Option<u64>,
        /// Stop after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Wait until a hub has confirmed everything that is committed now.
    Settle {
        #[command(flatten)]
        target: Target,
        /// Give up after so many seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Read the hub's topics back and hold them against the source; exit code 1 where they differ.
    Reconcile {
        #[command(flatten)]
        target: Target,
        /// Kafka's brokers.
        #[arg(long, default_value = "127.0.0.1:19092")]
        brokers: String,
        /// The schema registry.
        #[arg(long, default_value = "127.0.0.1:18081")]
        registry: String,
        /// What the topics' names begin with.
        #[arg(long, default_value = "h09.mot-cua")]
        topics: String,
    },
    /// Print as JSON what a hub must find and what it must reject.
    Expect {
        #[command(flatten)]
        target: Target,
        /// Print only how many rows a hub must take up, rejected ones included.
        #[arg(long)]
        captured: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("province: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", told(cause)),
        None => error.to_string(),
    }
}

async fn run(command: Command) -> Result<ExitCode, ProvinceError> {
    match command {
        Command::Create { target, role, password_file } => {
            create(&target.dsn, access(role, password_file)?.as_ref()).await?;
        }
        Command::Fill { target, dossiers, seed } => load(&target.dsn, FillPlan { seed, dossiers }).await?,
        Command::Change { target, rate, count, seconds } => {
            let amount = count.map_or_else(|| Amount::Time(Duration::from_secs(seconds.unwrap_or(10))), Amount::Rows);
            work(&target.dsn, ChangePlan { rate, amount }).await?;
        }
        Command::Settle { target, seconds } => {
            let waited = settle(&target.dsn, Duration::from_secs(seconds)).await?;
            println!("the hub has confirmed every change ({} ms after the last)", waited.as_millis());
        }
        Command::Expect { target, captured } => {
            let found = expect(&target.dsn).await?;
            if captured {
                println!("{}", found.streams.values().map(|stream| stream.captured).sum::<u64>());
            } else {
                println!("{}", serde_json::json!(found));
            }
        }
        Command::Reconcile { target, brokers, registry, topics } => {
            let access = TopicAccess { brokers, registry, prefix: topics };
            let bar = bar(0, "records read back");
            let balance = reconcile(&target.dsn, &access, &bar).await?;
            bar.finish_and_clear();
            show::balance(&balance);
            return Ok(if balance.is_even() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn access(role: Option<String>, password_file: Option<PathBuf>) -> Result<Option<Access>, ProvinceError> {
    let Some((role, path)) = role.zip(password_file) else { return Ok(None) };
    let password = std::fs::read_to_string(&path).map_err(|source| ProvinceError::File { path: path.display().to_string(), source })?;
    Ok(Some(Access { role, password: password.trim_end().to_owned() }))
}

async fn load(config: &Config, plan: FillPlan) -> Result<(), ProvinceError> {
    let started = Instant::now();
    let bar = bar(plan.rows(), "rows");
    let filled = fill(config, plan, &bar).await?;
    bar.finish_and_clear();
    println!("loaded {} rows in {:.1} s; {} of them must be rejected", filled.rows, started.elapsed().as_secs_f64(), filled.flawed);
    Ok(())
}

async fn work(config: &Config, plan: ChangePlan) -> Result<(), ProvinceError> {
    let started = Instant::now();
    let bar = match plan.amount {
        Amount::Rows(rows) => bar(rows, "row changes"),
        Amount::Time(time) => bar(time.as_secs(), "s"),
    };
    let changed = change(config, plan, &bar).await?;
    bar.finish_and_clear();
    println!(
        "changed {} rows in {} transactions in {:.1} s; {} of them must be rejected",
        changed.rows,
        changed.transactions,
        started.elapsed().as_secs_f64(),
        changed.flawed
    );
    Ok(())
}

/// A bar on a terminal, nothing in a log.
fn bar(length: u64, unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    }
    let template = format!("  {{bar:40}} {{human_pos}} of {{human_len}} {unit} {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}
