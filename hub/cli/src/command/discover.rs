//! `hub discover`: what a system has; with --draft, mappings to start from.

mod draft;
mod words;

use clap::Args;
use hub_sdk::StreamShape;
use serde_json::json;

use super::check::open;
use super::{entities, unfinished_system};
use crate::Global;
use crate::failure::Failure;
use crate::table::{grouped, print_json, print_line, table};

/// Options of `hub discover`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The system.
    system: String,
    /// Only this stream, with its columns.
    #[arg(long)]
    stream: Option<String>,
    /// Write a mapping for what is not mapped yet (with --stream, for that one).
    #[arg(long)]
    draft: bool,
}

/// Lists streams, or drafts mappings.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let (hub, system) = unfinished_system(&global.config, &options.system)?;
    let connector = open(&system, &hub_connectors::kinds()).await.map_err(Failure::Unavailable)?;
    let mut shapes = connector.discover().await.map_err(|error| Failure::Unavailable(error.report()))?;
    if let Some(stream) = &options.stream {
        let known: Vec<String> = shapes.iter().map(|shape| shape.stream.to_string()).collect();
        shapes.retain(|shape| shape.stream.as_str() == stream);
        if shapes.is_empty() {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let hint = crate::config::schema::suggest(stream, &known);
            return Err(Failure::Usage(format!("the source has no stream {stream}; {hint}")));
        }
    }
    if options.draft {
        let mapped: Vec<&str> = system.desired.spec.streams.iter().map(|stream| stream.source.as_str()).collect();
        let wanted: Vec<&StreamShape> =
            shapes.iter().filter(|shape| options.stream.is_some() || !mapped.contains(&shape.stream.as_str())).collect();
        if wanted.is_empty() {
            return Err(Failure::Usage("every stream is mapped already; --stream NAME drafts one anew".to_owned()));
        }
        print_line(draft::drafts(&wanted, &entities(&global.config, &hub)?).trim_end());
    } else if global.json {
        shapes.iter().for_each(|shape| {
            print_json(&json!({
                "stream": shape.stream.as_str(), "columns": shape.columns, "identity": shape.identity, "full_images": shape.full_images,
                "rows": shape.rows, "bytes": shape.bytes, "findings": shape.findings
            }));
        });
    } else if options.stream.is_some() {
        shapes.iter().for_each(columns);
    } else {
        let mapped: Vec<&str> = system.desired.spec.streams.iter().map(|stream| stream.source.as_str()).collect();
        streams(&shapes, &mapped);
    }
    Ok(())
}

fn streams(shapes: &[StreamShape], mapped: &[&str]) {
    let mut rows = table(&["stream", "mapped", "rows", "size", "key", "deletes carry", "remarks"]);
    for shape in shapes {
        let remarks: Vec<&str> = shape.findings.iter().map(|finding| finding.message.as_str()).collect();
        let key: Vec<&str> = shape.columns.iter().filter(|column| column.key.is_some()).map(|column| column.name.as_str()).collect();
        rows.add_row([
            shape.stream.as_str(),
            if mapped.contains(&shape.stream.as_str()) { "yes" } else { "" },
            &shape.rows.map(grouped).unwrap_or_default(),
            &shape.bytes.map(size).unwrap_or_default(),
            &key.join(", "),
            &if shape.full_images { "the whole row".to_owned() } else { shape.identity.join(", ") },
            &remarks.join("\n"),
        ]);
    }
    print_line(&rows.to_string());
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
    for finding in &shape.findings {
        let remedy = finding.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        print_line(&format!("{}: {}{remedy}", if finding.fatal { "error" } else { "note" }, finding.message));
    }
}

/// Bytes in the largest unit that keeps a figure before the point.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, (bytes >> 20) % 1_024 * 10 / 1_024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!([12, 4_096, 5 << 20, (3 << 30) + (512 << 20)].map(size), ["12 B", "4 KiB", "5 MiB", "3.5 GiB"]);
    }
}
