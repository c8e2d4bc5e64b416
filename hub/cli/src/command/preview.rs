//! `hub preview`: real rows through the mapping, side by side; nothing is published.

use std::collections::BTreeMap;

use arrow::array::{Array, BooleanArray};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;
use hub_engine::prepare::code_lists;
use hub_engine::spec::StreamSpec;
use hub_model::{ChangeBatch, StreamName};
use hub_sdk::StreamShape;
use hub_transform::normalise::{Mapping, NormaliseError, PlanInput, Reject, Sorted, Target, plan};
use hub_transform::{CanonicalSchema, CodeLists};
use serde_json::{Map, Value, json};

use super::check::{open, placed};
use super::{stream_of, unfinished_system};
use crate::Global;
use crate::config::LoadedSystem;
use crate::config::streams::in_file;
use crate::failure::Failure;
use crate::table::{Tone, print_json, print_line, table, toned};

/// Rows that are read where only refused ones are to be shown.
const SEARCHED: usize = 50_000;
/// Characters of a value that are shown.
const WIDTH: usize = 60;

/// Options of `hub preview`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The system, or `system/stream`.
    what: String,
    /// How many rows of each stream.
    #[arg(short = 'n', long, default_value_t = 5)]
    rows: usize,
    /// Look through many rows, and show only those that are refused.
    #[arg(long)]
    rejects: bool,
}

/// Reads, maps and shows.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let (name, only) = options.what.split_once('/').map_or((options.what.as_str(), None), |(name, stream)| (name, Some(stream)));
    let (_, system) = unfinished_system(&global.config, name)?;
    let chosen = match only {
        Some(stream) => vec![stream_of(&system, stream)?],
        None => (0..system.desired.spec.streams.len()).collect(),
    };
    let connector = open(&system, &hub_connectors::kinds()).await.map_err(Failure::Unavailable)?;
    let shapes = connector.discover().await.map_err(|error| Failure::Unavailable(error.report()))?;
    let codes = code_lists(&system.desired.codes).map_err(Failure::Usage)?;
    for at in chosen {
        let stream = &system.desired.spec.streams[at];
        let source = StreamName::new(&stream.source).map_err(|error| Failure::Usage(error.to_string()))?;
        let rows = if options.rejects { SEARCHED.max(options.rows) } else { options.rows };
        let sample = connector.sample(&source, rows).await.map_err(|error| Failure::Unavailable(error.report()))?;
        let mapping = planned(&system, at, &sample.rows, &shapes, &codes)?;
        let (sorted, refused) =
            tokio::task::block_in_place(|| mapped(&mapping, &sample)).map_err(|error| Failure::unavailable("mapping the rows", error))?;
        let page = Page { stream, before: Texts::of(&sample.rows)?, after: Texts::of(&sorted.records)? };
        if global.json {
            page.json(&sorted, &refused, options.rejects);
        } else {
            page.print(&sorted, &refused, &options);
        }
    }
    Ok(())
}

/// The mapping of a stream for rows as they are; its faults stand at their places in the system's file.
fn planned(system: &LoadedSystem, at: usize, rows: &RecordBatch, shapes: &[StreamShape], codes: &CodeLists) -> Result<Mapping, Failure> {
    let spec = &system.desired.spec;
    let stream = &spec.streams[at];
    let Some(text) = system.desired.schemas.get(&stream.entity) else { return Err(Failure::Config(system.faults.clone())) };
    let canonical = CanonicalSchema::parse(text).map_err(|error| Failure::Usage(error.to_string()))?;
    let identity = shapes.iter().find(|shape| shape.stream.as_str() == stream.source).map(|shape| shape.identity.clone());
    let mapping = placed(system, at).ok_or_else(|| Failure::Usage(format!("system {} has no stream {at}", spec.system)))?;
    let planned = plan(&PlanInput {
        spec: &mapping,
        target: &Target::of(&canonical),
        source: &rows.schema(),
        identity: &identity.unwrap_or_default(),
        code_lists: codes,
        system: &spec.system,
    });
    let whole = system.document.locate(&format!("/streams/{at}"));
    planned.map_err(|faults| Failure::Config(faults.into_iter().map(|fault| in_file(fault, &whole)).collect()))
}

/// Records of the rows that are wanted and whole, and everything that is refused, ascending.
fn mapped(mapping: &Mapping, sample: &ChangeBatch) -> Result<(Sorted, Vec<Reject>), NormaliseError> {
    let selection = mapping.selects(&sample.rows)?;
    let faulty: BTreeMap<u32, Reject> = sample
        .faults
        .iter()
        .map(|fault| {
            let field = fault.column.clone().unwrap_or_default();
            (fault.row, Reject { row: fault.row, field, code: fault.code, message: fault.message.clone().into() })
        })
        .collect();
    let wanted = (0..sample.len()).map(|row| selection.wanted.value(row) && !faulty.contains_key(&u32::try_from(row).unwrap_or(u32::MAX)));
    let wanted = BooleanArray::from(wanted.collect::<Vec<_>>());
    let mut sorted = mapping.normalise(&sample.rows, Some(&wanted))?;
    let mut refused: Vec<Reject> = faulty.into_values().chain(selection.rejects).chain(std::mem::take(&mut sorted.rejects)).collect();
    refused.sort_by_key(|reject| reject.row);
    sorted.filtered = sample.len() - sorted.kept.len() - refused.len();
    Ok((sorted, refused))
}

/// What is shown of a stream.
struct Page<'a> {
    stream: &'a StreamSpec,
    before: Texts<'a>,
    after: Texts<'a>,
}

impl Page<'_> {
    fn json(&self, sorted: &Sorted, refused: &[Reject], only_refused: bool) {
        let stream = &self.stream.source;
        if !only_refused {
            for (place, row) in sorted.kept.iter().enumerate() {
                let row = *row as usize;
                print_json(
                    &json!({"stream": stream, "row": row, "source": self.before.object(row), "canonical": self.after.object(place)}),
                );
            }
        }
        for reject in refused {
            print_json(&json!({
                "stream": stream, "row": reject.row, "field": *reject.field, "reason": reject.code, "message": reject.message,
                "source": self.before.object(reject.row as usize)
            }));
        }
    }

    fn print(&self, sorted: &Sorted, refused: &[Reject], options: &Options) {
        print_line(&format!("{} as {}", self.stream.source, self.stream.entity));
        if !options.rejects {
            for (place, row) in sorted.kept.iter().enumerate() {
                self.print_row(*row as usize, place);
            }
        }
        for reject in refused.iter().take(options.rows.max(1)) {
            self.print_reject(reject);
        }
        self.print_sum(sorted, refused);
    }

    /// Each canonical field beside the source's columns that its expression names.
    fn print_row(&self, row: usize, place: usize) {
        let mut rows = table(&[&format!("row {}", row + 1), "canonical", "source"]);
        for at in 0..self.after.columns.len() {
            let (field, value) = self.after.cell(at, place);
            let source = self.stream.map.get(&field).map(|sql| self.named(sql, row)).unwrap_or_default();
            rows.add_row([field, value, source]);
        }
        print_line(&rows.to_string());
    }

    fn print_reject(&self, reject: &Reject) {
        let head = format!("row {}: refused, field {}: {} ({})", reject.row + 1, reject.field, reject.message, reject.code);
        print_line(&toned(&head, Tone::Bad));
        let filter = if *reject.field == *"where" { self.stream.filter.as_ref() } else { None };
        let source = match filter.or_else(|| self.stream.map.get(&*reject.field)) {
            Some(sql) => format!("{sql}, with {}", self.named(sql, reject.row as usize).replace('\n', ", ")),
            None => String::new(),
        };
        print_line(&format!("    {source}"));
    }

    fn print_sum(&self, sorted: &Sorted, refused: &[Reject]) {
        let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for reject in refused {
            *reasons.entry((&reject.field, reject.code)).or_default() += 1;
        }
        print_line(&format!(
            "{}: {} rows mapped, {} left out by `where`, {} refused",
            self.stream.source,
            sorted.kept.len(),
            sorted.filtered,
            refused.len()
        ));
        for ((field, code), rows) in reasons {
            print_line(&format!("    {rows} × {field}: {code}"));
        }
        let unused: Vec<&str> = self
            .before
            .columns
            .iter()
            .map(|(name, ..)| name.as_str())
            .filter(|name| !self.stream.map.values().chain(&self.stream.filter).any(|sql| names(sql, name)))
            .collect();
        if !unused.is_empty() {
            print_line(&toned(&format!("    not mapped: {}", unused.join(", ")), Tone::Quiet));
        }
    }

    /// The source's values that an expression names.
    fn named(&self, sql: &str, row: usize) -> String {
        let named = self.before.columns.iter().enumerate().filter(|(_, (name, ..))| names(sql, name));
        let shown: Vec<String> = named.map(|(at, (name, ..))| format!("{name} = {}", self.before.cell(at, row).1)).collect();
        shown.join("\n")
    }
}

/// Whether an expression names a column: as a word of its own, case left aside as SQL does, or quoted.
fn names(sql: &str, column: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$';
    let (sql, column) = (sql.to_lowercase(), column.to_lowercase());
    sql.match_indices(&column).any(|(at, _)| {
        let before = sql[..at].chars().next_back().is_some_and(part);
        let after = sql[at + column.len()..].chars().next().is_some_and(|letter| part(letter) || letter == '(');
        !before && !after && sql[..at].matches('\'').count() % 2 == 0
    })
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

    /// Name and value of a column; what is null shows as ∅.
    fn cell(&self, at: usize, row: usize) -> (String, String) {
        match self.columns.get(at) {
            Some((name, formatter, column)) if column.is_valid(row) => (name.clone(), clipped(&formatter.value(row).to_string())),
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

/// As much of a text as a column of a terminal takes, in one line.
fn clipped(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    if line.chars().count() <= WIDTH {
        return line;
    }
    let mut short: String = line.chars().take(WIDTH - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_names_columns_and_not_functions_texts_or_parts_of_words() {
        let sql = "code('trang_thai', \"Trạng_Thái\", UPPER(ma_ho_so)) || ten";
        assert!(names(sql, "ma_ho_so") && names(sql, "trạng_thái") && names(sql, "ten"));
        assert!(!names(sql, "trang_thai"), "a text");
        assert!(!names(sql, "ho_so"), "a part of a word");
        assert!(!names(sql, "code") && !names(sql, "upper"), "functions");
    }

    #[test]
    fn long_values_are_clipped_to_one_line() {
        assert_eq!(clipped("a\nb"), "a b");
        assert_eq!(clipped(&"đ".repeat(100)).chars().count(), WIDTH);
    }
}
