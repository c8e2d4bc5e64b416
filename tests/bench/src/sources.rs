//! The other kinds of sources, each against what its own client can do in the same run; and many systems that are idle.

mod csv;
mod idle;
mod mariadb;
mod odbc;
mod stage;
mod webhook;

use std::path::Path;

use crate::report::{Report, median};
use crate::throughput::Measure;
use crate::{Outcome, RunOptions};

/// Which of them are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Source {
    /// MariaDB: snapshot and binlog.
    Mysql,
    /// PostgreSQL through its ODBC driver.
    Odbc,
    /// A CSV file.
    Files,
    /// Requests that come in.
    Webhook,
    /// 101 systems of mixed kinds that have nothing to do.
    Idle,
}

/// All of them in the order in which they are measured.
const ALL: [Source; 5] = [Source::Mysql, Source::Odbc, Source::Files, Source::Webhook, Source::Idle];

/// The figures of the sources that are named; of all where none is.
pub(crate) async fn run(binary: &Path, options: RunOptions, only: &[Source], report: &mut Report) -> Outcome<()> {
    for source in ALL.into_iter().filter(|source| only.is_empty() || only.contains(source)) {
        match source {
            Source::Mysql => mariadb::run(binary, options, report).await?,
            Source::Odbc => odbc::run(binary, options, report).await?,
            Source::Files => csv::run(binary, options, report).await?,
            Source::Webhook => webhook::run(binary, options, report).await?,
            Source::Idle => idle::run(binary, report).await?,
        }
    }
    Ok(())
}

/// Rows a second as the median of the ratios to what bounds them, and that bound.
fn against_limits(rows: f64, ours: &[Measure], limits: Vec<f64>) -> (f64, f64) {
    let ratios: Vec<f64> = ours.iter().zip(&limits).map(|(measure, limit)| limit / measure.seconds).collect();
    let reference = rows / median(limits);
    (median(ratios) * reference, reference)
}

fn cpu_per_million(rows: f64, ours: &[Measure]) -> f64 {
    median(ours.iter().map(|measure| measure.cpu).collect()) * 1e6 / rows
}

fn peak(ours: &[Measure]) -> f64 {
    ours.iter().map(|measure| measure.peak_mb).fold(0.0, f64::max)
}

fn tell(measure: &Measure, limit: f64) {
    println!("    hub {:.2} s, limit {limit:.2} s, cpu {:.2} s, peak {:.0} MB", measure.seconds, measure.cpu, measure.peak_mb);
}
