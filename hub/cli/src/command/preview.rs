//! `hub preview`: real rows through the mapping, side by side; nothing is published.

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;
use hub_engine::prepare::{code_lists, identity, mapping};
use hub_model::StreamName;
use hub_transform::CanonicalSchema;
use hub_transform::normalise::{PlanInput, Sorted, Target, plan};
use serde_json::{Map, Value, json};

use super::check::{open, placed};
use super::system_of;
use crate::Global;
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub preview`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The system, or `system/stream`.
    what: String,
    /// How many rows of each stream.
    #[arg(short = 'n', long, default_value_t = 5)]
    rows: usize,
}

/// Reads, maps and shows.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let (name, only) = match options.what.split_once('/') {
        Some((system, stream)) => (system, Some(stream)),
        None => (options.what.as_str(), None),
    };
    let (_, system) = system_of(&global.config, name)?;
    let connector = open(&system, &hub_connectors::kinds()).await.map_err(Failure::Unavailable)?;
    let shapes = connector.discover().await.map_err(|error| Failure::Unavailable(error.report()))?;
    let codes = code_lists(&system.desired.codes).map_err(Failure::Usage)?;
    for (at, stream) in system.desired.spec.streams.iter().enumerate() {
        if only.is_some_and(|only| only != stream.source) {
            continue;
        }
        let source = StreamName::new(&stream.source).map_err(|error| Failure::Usage(error.to_string()))?;
        let sample = connector.sample(&source, options.rows).await.map_err(|error| Failure::Unavailable(error.report()))?;
        let canonical = system.desired.schemas.get(&stream.entity).map(|text| CanonicalSchema::parse(text));
        let Some(Ok(canonical)) = canonical else { continue };
        let carried = shapes.iter().find(|shape| shape.stream == source).map(identity).unwrap_or_default();
        let planned = plan(&PlanInput {
            spec: &placed(&system.document, at, mapping(stream)),
            target: &Target::of(&canonical),
            source: &sample.rows.schema(),
            identity: &carried,
            code_lists: &codes,
            system: name,
        });
        let mapping = planned.map_err(|faults| {
            Failure::Usage(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: "))
        })?;
        let evaluated = mapping.selects(&sample.rows).and_then(|chosen| {
            Ok((mapping.normalise(&sample.rows, Some(&chosen.wanted))?, chosen.rejects))
        });
        let (sorted, refused) = evaluated.map_err(|error| Failure::unavailable("mapping the rows", error))?;
        show(global, &stream.source, &sample.rows, &sorted)?;
        for reject in refused.iter().chain(&sorted.rejects) {
            print_reject(global, &stream.source, reject);
        }
    }
    Ok(())
}

fn print_reject(global: &Global, stream: &str, reject: &hub_transform::normalise::Reject) {
    if global.json {
        print_json(&json!({"stream": stream, "row": reject.row, "field": *reject.field, "reason": reject.code, "message": reject.message}));
    } else {
        print_line(&format!("row {}: REJECTED, field {}: {} ({})", reject.row + 1, reject.field, reject.message, reject.code));
    }
}

fn show(global: &Global, stream: &str, source: &RecordBatch, sorted: &Sorted) -> Result<(), Failure> {
    let before = Texts::of(source)?;
    let after = Texts::of(&sorted.records)?;
    for (place, row) in sorted.kept.iter().enumerate() {
        let row = usize::try_from(*row).unwrap_or(usize::MAX);
        if global.json {
            print_json(&json!({"stream": stream, "row": row, "source": before.object(row), "canonical": after.object(place)}));
            continue;
        }
        let mut rows = table(&[&format!("{stream} row {}", row + 1), "source", "canonical field", "value"]);
        for at in 0..before.columns.len().max(after.columns.len()) {
            let (left, right) = (before.cell(at, row), after.cell(at, place));
            rows.add_row([left.0, left.1, right.0, right.1]);
        }
        print_line(&rows.to_string());
    }
    if sorted.filtered > 0 && !global.json {
        print_line(&format!("{} rows of {stream} do not meet its `where`", sorted.filtered));
    }
    Ok(())
}

/// The values of a batch as text.
struct Texts<'a> {
    columns: Vec<(String, ArrayFormatter<'a>, &'a dyn Array)>,
}

impl<'a> Texts<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, Failure> {
        let options = FormatOptions::new();
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options)
                .map_err(|error| Failure::unavailable(format!("showing column {}", field.name()), error))?;
            columns.push((field.name().clone(), formatter, column.as_ref()));
        }
        Ok(Self { columns })
    }

    fn cell(&self, at: usize, row: usize) -> (String, String) {
        match self.columns.get(at) {
            Some((name, formatter, column)) if column.is_valid(row) => {
                (name.clone(), formatter.value(row).to_string().chars().take(60).collect())
            }
            Some((name, ..)) => (name.clone(), "∅".to_owned()),
            None => (String::new(), String::new()),
        }
    }

    fn object(&self, row: usize) -> Value {
        let values = self.columns.iter().map(|(name, formatter, column)| {
            let value = if column.is_valid(row) { formatter.value(row).to_string().into() } else { Value::Null };
            (name.clone(), value)
        });
        Value::Object(values.collect::<Map<_, _>>())
    }
}
