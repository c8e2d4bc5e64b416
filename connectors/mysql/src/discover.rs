//! What there is to capture, and what stands in the way of each table.

use hub_sdk::{Column, Finding, StreamShape};

use crate::catalog::Table;
use crate::charset::Charsets;
use crate::kind::Kind;

/// A table as a stream that could be captured.
pub(crate) fn shape(table: &Table, zoned: bool) -> StreamShape {
    let key = |place: usize| table.layout.key.iter().position(|key| *key == place).and_then(|at| u16::try_from(at + 1).ok());
    let column = |(place, column): (usize, &crate::kind::Column)| Column {
        name: column.name.clone(),
        source_type: column.source_type.clone(),
        nullable: table.remarks.get(place).is_none_or(|(nullable, _)| *nullable),
        key: key(place),
        comment: table.remarks.get(place).and_then(|(_, comment)| comment.clone()),
    };
    StreamShape {
        stream: table.stream.clone(),
        schema: table.layout.schema(zoned),
        columns: table.layout.columns.iter().enumerate().map(column).collect(),
        identity: table.layout.identity(),
        full_images: true,
        rows: table.rows,
        bytes: table.bytes,
        findings: findings(table, &Charsets::default()),
    }
}

/// What stands in the way of a table, as far as its definition says. Character sets are asked of the server elsewhere.
pub(crate) fn findings(table: &Table, charsets: &Charsets) -> Vec<Finding> {
    let stream = &table.stream;
    let mut findings = Vec::new();
    let mut find = |fatal: bool, code: &'static str, message: String, remedy: Option<String>| {
        findings.push(Finding { fatal, code, message, remedy });
    };
    if table.sort != "BASE TABLE" {
        let remedy = "capture the tables that it is made of, or read it by the odbc connector".to_owned();
        find(true, "not-a-table", format!("{stream} is a {}, whose changes are not in the log", table.sort), Some(remedy));
        return findings;
    }
    for column in &table.layout.columns {
        let name = &column.name;
        if column.kind == Kind::Unknown {
            let remedy = Some("take the table out of the system, or change the column's type".to_owned());
            find(true, "type-unknown", format!("{stream}.{name} is of type {}, which the hub does not know", column.source_type), remedy);
        }
        if let Some(charset) = column.kind.charset().filter(|charset| !charsets.is_empty() && !charsets.has(charset)) {
            let remedy = Some(format!("ALTER TABLE {stream} MODIFY {name} … CHARACTER SET utf8mb4"));
            find(true, "charset-unknown", format!("{stream}.{name} is kept in {charset}, which the hub cannot read"), remedy);
        }
    }
    if table.layout.key.is_empty() {
        let message = format!("{stream} has no primary key: it is read in one piece, and again from its start after a crash in its midst");
        find(false, "no-key", message, Some(format!("ALTER TABLE {stream} ADD PRIMARY KEY (…)")));
    } else if !table.layout.is_sortable() {
        let message = format!(
            "the key of {stream} is neither numbers nor BINARY: the table is read in one piece, and again from its start after a crash in its midst"
        );
        find(false, "key-not-comparable", message, None);
    }
    if !table.engine.eq_ignore_ascii_case("InnoDB") {
        let message = format!(
            "{stream} is of engine {}, which has no views: rows that change while they are first read may be told twice",
            table.engine
        );
        find(false, "engine-without-views", message, Some(format!("ALTER TABLE {stream} ENGINE = InnoDB")));
    }
    findings
}
