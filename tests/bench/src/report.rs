//! Figures: collected, printed as a table, and kept in `tests/bench/results/latest.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// One measured figure against its goal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Stable name.
    pub(crate) name: String,
    /// What was measured.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: String,
    /// What it is compared with, measured in the same run.
    pub(crate) reference: Option<f64>,
    /// Value over reference.
    pub(crate) ratio: Option<f64>,
    /// The goal in words, `ratio >= 0.9`.
    pub(crate) goal: String,
    /// Whether it is met.
    pub(crate) met: bool,
}

/// How a goal is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The ratio to the reference is at least this.
    Ratio(f64),
    /// The ratio to the reference is at most this.
    RatioAtMost(f64),
    /// The value is at most this.
    AtMost(f64),
    /// The value is at least this.
    AtLeast(f64),
    /// Only told.
    Told,
}

/// The figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure and prints it.
    pub(crate) fn add(&mut self, name: &str, value: f64, unit: &str, reference: Option<f64>, goal: Goal) {
        let ratio = reference.map(|reference| value / reference);
        let (words, met) = match goal {
            Goal::Ratio(least) => (format!("ratio >= {least}"), ratio.is_some_and(|ratio| ratio >= least)),
            Goal::RatioAtMost(most) => (format!("ratio <= {most:.4}"), ratio.is_some_and(|ratio| ratio <= most)),
            Goal::AtMost(most) => (format!("<= {most} {unit}"), value <= most),
            Goal::AtLeast(least) => (format!(">= {least} {unit}"), value >= least),
            Goal::Told => (String::new(), true),
        };
        let figure = Figure { name: name.to_owned(), value, unit: unit.to_owned(), reference, ratio, goal: words, met };
        println!("  {}", line(&figure));
        self.figures.push(figure);
    }

    /// Prints all figures and merges them into the file. Says whether every goal is met.
    pub(crate) fn finish(self, file: &Path) -> Result<bool, Box<dyn std::error::Error>> {
        let mut kept: Vec<Figure> =
            std::fs::read_to_string(file).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        kept.retain(|old| !self.figures.iter().any(|new| new.name == old.name));
        println!("\nresults");
        for figure in &self.figures {
            println!("  {}", line(figure));
        }
        let met = self.figures.iter().all(|figure| figure.met);
        kept.extend(self.figures);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, serde_json::to_string_pretty(&kept)? + "\n")?;
        Ok(met)
    }
}

fn line(figure: &Figure) -> String {
    let against = match (figure.reference, figure.ratio) {
        (Some(reference), Some(ratio)) => format!("against {reference:.2}, ratio {ratio:.3}"),
        _ => String::new(),
    };
    let verdict = match (figure.goal.is_empty(), figure.met) {
        (true, _) => "",
        (false, true) => "met",
        (false, false) => "NOT MET",
    };
    format!("{:<44} {:>12.2} {:<8} {:<34} {:<16} {verdict}", figure.name, figure.value, figure.unit, against, figure.goal)
}

/// The value at a share of the sorted values.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let at = ((sorted.len() as f64) * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}
