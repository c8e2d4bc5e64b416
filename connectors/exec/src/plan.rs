//! How one asked stream is read, from what the source offers and what the configuration says; and what stands in the way.

use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, Finding, SourceError, StreamRequest};

use crate::catalog::{Offered, Wanted};
use crate::config::{ExecConfig, Mode, Protocol};
use crate::schema::ColumnShape;

/// Columns by which sources say that a row is deleted.
const DELETED_AT: [&str; 2] = ["_ab_cdc_deleted_at", "_sdc_deleted_at"];

/// How one stream is read.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The stream.
    pub(crate) name: StreamName,
    /// The other name that its records may bear.
    pub(crate) alias: String,
    /// What the child is asked for.
    pub(crate) wanted: Wanted,
    /// The columns that are there from the start.
    pub(crate) columns: Vec<ColumnShape>,
    /// Columns that the source has and does not read.
    pub(crate) left_out: Vec<String>,
    /// Columns that are filled where a row is deleted.
    pub(crate) deleted_at: Vec<String>,
    /// Records below which a run that reads it whole has failed.
    pub(crate) at_least: u64,
    /// What is worth knowing.
    pub(crate) findings: Vec<Finding>,
}

/// Plans one stream, or says what stands in the way.
pub(crate) fn plan(config: &ExecConfig, offered: &[Offered], request: &StreamRequest) -> Result<Plan, Finding> {
    let name = request.stream.as_str();
    let said = config.stream(name);
    let Some(stream) = offered.iter().find(|stream| stream.name == name) else {
        let names: Vec<_> = offered.iter().take(20).map(|stream| stream.name.as_str()).collect();
        let message = format!("the source offers no stream {name}; it offers {}", names.join(", "));
        return Err(fatal("stream-missing", message, "mend `source` of the mapping, or the rights of the account that the source uses"));
    };
    let key = if said.key.is_empty() { stream.key.clone() } else { said.key.clone() };
    let pointer = format!("streams.{name}");
    let stray = key.iter().find(|key| !stream.columns.is_empty() && !stream.columns.iter().any(|column| column.name == **key));
    if let Some(stray) = stray {
        let names: Vec<_> = stream.columns.iter().map(|column| column.name.as_str()).collect();
        let message = format!("stream {name} has no column {stray}, which is of its key; it has {}", names.join(", "));
        return Err(fatal("key-missing", message, &format!("mend {pointer}.key")));
    }
    let following = said.mode.keeps_state();
    if key.is_empty() && !following {
        let message = format!("the source does not say what identifies a row of {name}, and a stream that is read whole is compared by it");
        return Err(fatal("key-missing", message, &format!("set {pointer}.key to the columns that identify a row")));
    }
    let (can, instead) = if following { (stream.can_follow(), "whole") } else { (stream.can_be_whole(), "changes") };
    if !can {
        let message = format!("the source cannot read stream {name} as its mode says");
        return Err(fatal("mode-unsupported", message, &format!("set {pointer}.mode to {instead}")));
    }
    let cursor = said.cursor.clone().or_else(|| stream.cursor.clone()).filter(|_| said.mode == Mode::Changes);
    let is_asked = config.protocol == Protocol::Singer || (!stream.has_own_cursor && !is_logged(stream));
    if said.mode == Mode::Changes && cursor.is_none() && is_asked {
        let message = format!("the source leaves open by which column the changes of {name} are found");
        return Err(fatal("cursor-missing", message, &format!("set {pointer}.cursor to a column that grows with every change")));
    }
    let deleted_at: Vec<String> = said.deleted_at.into_iter().chain(DELETED_AT.map(str::to_owned)).collect();
    let mut findings = Vec::new();
    let mut columns = request.columns.clone();
    if !columns.is_empty() {
        for column in columns.iter().filter(|name| !stream.columns.iter().any(|column| column.name == **name)) {
            let message = format!("the schema of stream {name} has no column {column}");
            findings.push(finding(false, "column-missing", message, "mend the mapping, unless the source sends more than it says"));
        }
        columns.extend(key.iter().chain(&cursor).chain(&deleted_at).cloned());
    }
    let is_taken = |column: &&ColumnShape| columns.is_empty() || columns.contains(&column.name);
    let shapes = stream.columns.iter().filter(is_taken).cloned().collect();
    Ok(Plan {
        name: request.stream.clone(),
        alias: stream.alias.clone(),
        wanted: Wanted { mode: said.mode, key, cursor, columns },
        columns: shapes,
        left_out: stream.left_out.clone(),
        deleted_at,
        at_least: said.at_least,
        findings,
    })
}

/// Whether the source follows the stream by its log, and needs no cursor.
fn is_logged(stream: &Offered) -> bool {
    stream.columns.iter().any(|column| column.name.starts_with("_ab_cdc_"))
}

fn fatal(code: &'static str, message: String, remedy: &str) -> Finding {
    finding(true, code, message, remedy)
}

fn finding(fatal: bool, code: &'static str, message: String, remedy: &str) -> Finding {
    Finding { fatal, code, message, remedy: Some(remedy.to_owned()) }
}

/// What stands in the way of a stream, as an error of it.
pub(crate) fn broken(finding: Finding, stream: &StreamName) -> SourceError {
    let error = SourceError::new(ErrorKind::StreamBroken, "planning to read a stream").because(finding.message).of(stream.clone());
    match finding.remedy {
        Some(remedy) => error.advise(remedy),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::{Value, json};

    use super::*;

    fn planned(protocol: &str, streams: Value, columns: &[&str]) -> Result<Plan, Finding> {
        let config = serde_json::from_value(json!({"protocol": protocol, "command": ["x"], "streams": streams})).unwrap();
        let catalog = json!({"streams": [
            {"name": "a", "json_schema": {"properties": {"id": {}, "t": {}, "x": {}}}, "supported_sync_modes": ["full_refresh", "incremental"]},
            {"name": "b", "json_schema": {}, "supported_sync_modes": ["full_refresh"], "source_defined_primary_key": [["id"]]},
        ]});
        let offered = crate::catalog::offered(Protocol::Airbyte, &catalog).unwrap();
        let stream = StreamName::new(if streams.get("b").is_some() { "b" } else { "a" }).unwrap();
        plan(&config, &offered, &StreamRequest { stream, columns: columns.iter().map(ToString::to_string).collect() })
    }

    #[test]
    fn what_stands_in_the_way_is_told_with_what_mends_it() {
        for (streams, code, remedy) in [
            (json!({}), "key-missing", "set streams.a.key"),
            (json!({"a": {"key": ["no"]}}), "key-missing", "mend streams.a.key"),
            (json!({"a": {"mode": "changes"}}), "cursor-missing", "set streams.a.cursor"),
            (json!({"b": {"mode": "changes"}}), "mode-unsupported", "set streams.b.mode to whole"),
        ] {
            let finding = planned("airbyte", streams, &[]).unwrap_err();
            assert_eq!((finding.code, finding.fatal), (code, true));
            assert!(finding.remedy.as_ref().unwrap().starts_with(remedy), "{finding:?}");
        }
        let config = serde_json::from_value(json!({"protocol": "airbyte", "command": ["x"]})).unwrap();
        let request = StreamRequest { stream: StreamName::new("z").unwrap(), columns: Vec::new() };
        assert_eq!(plan(&config, &[], &request).unwrap_err().code, "stream-missing");
    }

    #[test]
    fn the_key_and_the_cursor_come_whatever_the_mapping_reads() {
        let plan = planned("airbyte", json!({"a": {"mode": "changes", "key": ["id"], "cursor": "t"}}), &["y"]).unwrap();
        assert_eq!(plan.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["id", "t"]);
        assert_eq!(plan.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["column-missing"]);
    }
}
