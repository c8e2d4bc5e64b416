//! `hub discover`: what a system has; with --draft, a mapping to start from.

use clap::Args;
use hub_sdk::StreamShape;
use serde_json::json;

use super::check::open;
use super::system_of;
use crate::Global;
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub discover`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The system.
    system: String,
    /// Only this stream, with its columns.
    #[arg(long)]
    stream: Option<String>,
    /// Write a mapping for what is not mapped yet.
    #[arg(long)]
    draft: bool,
}

/// Lists streams, or drafts mappings.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let (_, system) = system_of(&global.config, &options.system)?;
    let connector = open(&system, &hub_connectors::kinds()).await.map_err(Failure::Unavailable)?;
    let mut shapes = connector.discover().await.map_err(|error| Failure::Unavailable(error.report()))?;
    if let Some(stream) = &options.stream {
        shapes.retain(|shape| shape.stream.as_str() == stream);
        if shapes.is_empty() {
            return Err(Failure::Usage(format!("the source has no stream {stream}; `hub discover {}` lists them", options.system)));
        }
    }
    if options.draft {
        let mapped: Vec<&str> = system.desired.spec.streams.iter().map(|stream| stream.source.as_str()).collect();
        let wanted = shapes.iter().filter(|shape| options.stream.is_some() || !mapped.contains(&shape.stream.as_str()));
        wanted.for_each(|shape| print_line(&draft(shape)));
    } else if global.json {
        shapes.iter().for_each(|shape| {
            print_json(&json!({
                "stream": shape.stream.as_str(), "columns": shape.columns, "identity": shape.identity, "rows": shape.rows,
                "bytes": shape.bytes, "findings": shape.findings
            }));
        });
    } else if options.stream.is_some() {
        shapes.iter().for_each(columns);
    } else {
        let mut rows = table(&["stream", "rows", "MiB", "identity", "remarks"]);
        for shape in &shapes {
            let remarks: Vec<&str> = shape.findings.iter().map(|finding| finding.message.as_str()).collect();
            let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
            rows.add_row([
                shape.stream.as_str(),
                &number(shape.rows),
                &number(shape.bytes.map(|bytes| bytes >> 20)),
                &shape.identity.join(", "),
                &remarks.join("\n"),
            ]);
        }
        print_line(&rows.to_string());
    }
    Ok(())
}

fn columns(shape: &StreamShape) {
    let mut rows = table(&["column", "type", "as", "null", "key", "remark"]);
    for (column, field) in shape.columns.iter().zip(shape.schema.fields()) {
        rows.add_row([
            column.name.clone(),
            column.source_type.clone(),
            field.data_type().to_string(),
            if column.nullable { "yes" } else { "" }.to_owned(),
            column.key.map(|place| place.to_string()).unwrap_or_default(),
            column.comment.clone().unwrap_or_default(),
        ]);
    }
    print_line(&rows.to_string());
}

/// A stream of a system's file with every column, to be completed by an engineer.
fn draft(shape: &StreamShape) -> String {
    let mut text = format!("  - source: {}\n    entity: # domain.Entity, a file of the schemas folder\n", shape.stream);
    text.push_str(&format!("    key: [{}] # canonical fields, from the source's {}\n    map:\n", "", shape.identity.join(", ")));
    for column in &shape.columns {
        let needs_quotes = !column.name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
        let name = if needs_quotes { format!("'\"{}\"'", column.name) } else { column.name.clone() };
        let comment = column.comment.as_ref().map(|comment| format!("; {}", comment.replace('\n', " "))).unwrap_or_default();
        text.push_str(&format!("      # canonical_field: {name}   # {}{comment}\n", column.source_type));
    }
    text
}
