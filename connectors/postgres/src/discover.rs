//! Lists the tables that could be captured, with their columns, keys and what stands in the way.

mod findings;
mod query;

use std::collections::HashMap;

use hub_sdk::model::StreamName;
use hub_sdk::{Column, ErrorKind, SourceError, StreamShape};
use tokio_postgres::Client;

use crate::types::{Catalogue, ColumnType, schema_of};
use query::{ColumnRow, TableRow};

/// Every table and partitioned table of the database that the hub could capture. Partitions are part of their parent;
/// views, system tables and those of extensions are left out.
///
/// # Errors
/// What [`crate::client::classify`] makes of the server's answer.
pub async fn discover(client: &Client) -> Result<Vec<StreamShape>, SourceError> {
    shapes(client, None).await
}

/// The shapes of these streams; a stream that is not there is not in the answer. A partition may be asked for by name.
///
/// # Errors
/// What [`crate::client::classify`] makes of the server's answer.
pub async fn shapes_of(client: &Client, streams: &[StreamName]) -> Result<Vec<StreamShape>, SourceError> {
    let names: Vec<&str> = streams.iter().map(StreamName::as_str).collect();
    shapes(client, Some(&names)).await
}

/// How a table is called as a stream: `schema.table` without quotes, unless a dot or quote inside makes that ambiguous.
#[must_use]
pub fn stream_text(schema: &str, table: &str) -> String {
    let ambiguous = |name: &str| name.contains(['.', '"']);
    if ambiguous(schema) || ambiguous(table) {
        return format!("{}.{}", quoted_if_needed(schema), quoted_if_needed(table));
    }
    format!("{schema}.{table}")
}

/// As the server's `quote_ident` does (key words aside), which is the form that is looked up.
fn quoted_if_needed(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.to_owned();
    }
    crate::types::quote_identifier(name)
}

async fn shapes(client: &Client, only: Option<&[&str]>) -> Result<Vec<StreamShape>, SourceError> {
    let catalogue = Catalogue::load(client).await?;
    let tables = query::tables(client, only).await?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let mut columns: HashMap<u32, Vec<ColumnRow>> = HashMap::with_capacity(tables.len());
    for column in query::columns(client, &oids).await? {
        columns.entry(column.table).or_default().push(column);
    }
    let mut shapes = Vec::with_capacity(tables.len());
    for table in tables {
        let own = columns.remove(&table.oid).unwrap_or_default();
        shapes.push(shape(&catalogue, table, own)?);
    }
    Ok(shapes)
}

fn shape(catalogue: &Catalogue, table: TableRow, columns: Vec<ColumnRow>) -> Result<StreamShape, SourceError> {
    let stream = StreamName::new(&stream_text(&table.schema, &table.name))
        .map_err(|error| SourceError::new(ErrorKind::Defect, "naming a stream").because(error))?;
    let findings = findings::of_table(&table, &columns);
    let captured: Vec<&ColumnRow> = columns.iter().filter(|column| !column.generated).collect();
    let types: Vec<ColumnType> =
        captured.iter().map(|column| catalogue.resolve(&column.name, column.type_oid, column.typmod, &column.sql_type)).collect();
    let identity = if table.key.is_empty() && table.full_images() {
        captured.iter().map(|column| column.name.clone()).collect()
    } else {
        table.key.clone()
    };
    Ok(StreamShape {
        stream,
        schema: schema_of(&types),
        columns: captured.iter().map(|column| describe(column, &table.key)).collect(),
        identity,
        full_images: table.full_images(),
        rows: table.rows,
        bytes: table.bytes,
        findings,
    })
}

fn describe(column: &ColumnRow, key: &[String]) -> Column {
    let place = key.iter().position(|name| *name == column.name);
    Column {
        name: column.name.clone(),
        source_type: column.sql_type.clone(),
        nullable: column.nullable,
        key: place.and_then(|place| u16::try_from(place + 1).ok()),
        comment: remark(column),
    }
}

/// The column's comment, and what its definition tells: the values of an enum, the table it points to.
fn remark(column: &ColumnRow) -> Option<String> {
    let mut parts: Vec<String> = column.comment.iter().cloned().collect();
    if !column.labels.is_empty() {
        parts.push(format!("one of {}", column.labels.join(", ")));
    }
    if let Some(target) = &column.references {
        parts.push(format!("references {target}"));
    }
    if column.identity {
        parts.push("numbered by the source".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_without_quotes_unless_a_dot_makes_that_ambiguous() {
        assert_eq!(stream_text("public", "ho_so"), "public.ho_so");
        assert_eq!(stream_text("public", "Hồ sơ"), "public.Hồ sơ");
        assert_eq!(stream_text("public", "a.b"), "public.\"a.b\"");
        assert_eq!(stream_text("S.1", "t"), "\"S.1\".t");
    }
}
