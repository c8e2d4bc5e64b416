//! What a source offers, and the catalog that tells the child what to read of it, in both protocols.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::{Mode, Protocol};
use crate::message::full_name;
use crate::schema::{ColumnShape, columns};

/// A stream that a source offers.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    /// Its name in the hub: `namespace.name`, or Singer's `tap_stream_id`.
    pub(crate) name: String,
    /// The name that its records may bear as well (Singer's `stream`).
    pub(crate) alias: String,
    /// Its columns.
    pub(crate) columns: Vec<ColumnShape>,
    /// The columns that identify a row, where the source says it.
    pub(crate) key: Vec<String>,
    /// The columns that the child must be asked for anyway.
    automatic: Vec<String>,
    /// Columns that the source has and does not read.
    pub(crate) left_out: Vec<String>,
    /// How it can be read; empty where it does not say.
    modes: Vec<String>,
    /// The cursor that it has or proposes.
    pub(crate) cursor: Option<String>,
    /// Whether the cursor is the source's choice alone.
    pub(crate) has_own_cursor: bool,
    /// Rows, as far as it says.
    pub(crate) rows: Option<u64>,
    entry: Value,
}

/// What is to be read of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// How.
    pub(crate) mode: Mode,
    /// The columns that identify a row.
    pub(crate) key: Vec<String>,
    /// By which column it is followed.
    pub(crate) cursor: Option<String>,
    /// The columns that are taken; empty for all.
    pub(crate) columns: Vec<String>,
}

impl Offered {
    /// Whether it can be read for changes; `true` where it does not say.
    pub(crate) fn can_follow(&self) -> bool {
        self.modes.is_empty() || self.modes.iter().any(|mode| mode == "incremental")
    }

    /// Whether it can be read whole.
    pub(crate) fn can_be_whole(&self) -> bool {
        self.modes.is_empty() || self.modes.iter().any(|mode| mode == "full_refresh")
    }
}

/// The streams of a catalog, in its order. Why it is none, where it is none.
pub(crate) fn offered(protocol: Protocol, catalog: &Value) -> Result<Vec<Offered>, String> {
    let streams = catalog["streams"].as_array().ok_or("the catalog has no list `streams`")?;
    let read = match protocol {
        Protocol::Airbyte => airbyte,
        Protocol::Singer => singer,
    };
    let read = |(place, entry)| read(entry).ok_or_else(|| format!("stream {} of the catalog has no name", place + 1));
    streams.iter().enumerate().map(read).collect()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn airbyte(entry: &Value) -> Option<Offered> {
    let name = entry["name"].as_str()?;
    // A path of several steps leads into a nested object, which is no column.
    let flat = |path: &Value| texts(path).try_into().ok().map(|[only]: [String; 1]| only);
    let paths = entry["source_defined_primary_key"].as_array().map_or(&[][..], Vec::as_slice);
    let key = paths.iter().map(flat).collect::<Option<Vec<String>>>().unwrap_or_default();
    let full = full_name(name, entry["namespace"].as_str());
    Some(Offered {
        alias: full.clone(),
        name: full,
        columns: columns(&entry["json_schema"]),
        key,
        automatic: Vec::new(),
        left_out: Vec::new(),
        modes: texts(&entry["supported_sync_modes"]),
        cursor: flat(&entry["default_cursor_field"]),
        has_own_cursor: entry["source_defined_cursor"].as_bool().unwrap_or(false),
        rows: None,
        entry: entry.clone(),
    })
}

fn singer(entry: &Value) -> Option<Offered> {
    let alias = entry["stream"].as_str().or(entry["tap_stream_id"].as_str())?.to_owned();
    let name = entry["tap_stream_id"].as_str().unwrap_or(&alias).to_owned();
    let about = |of: &[&str]| {
        let all = entry["metadata"].as_array().into_iter().flatten();
        all.filter(|one| texts(&one["breadcrumb"]) == of).map(|one| &one["metadata"]).next_back().unwrap_or(&Value::Null)
    };
    let own = about(&[]);
    let inclusion = |column: &str| {
        let said = about(&["properties", column])["inclusion"].as_str();
        said.or(entry["schema"]["properties"][column]["inclusion"].as_str()).unwrap_or("available").to_owned()
    };
    let all = columns(&entry["schema"]);
    let (left_out, mut shapes): (Vec<_>, Vec<_>) = all.into_iter().partition(|column| inclusion(&column.name) == "unsupported");
    let left_out = left_out.into_iter().map(|column| column.name).collect();
    for shape in &mut shapes {
        if let Some(said) = about(&["properties", &shape.name])["sql-datatype"].as_str() {
            shape.source_type = said.to_owned();
        }
    }
    let automatic = shapes.iter().map(|shape| shape.name.clone()).filter(|name| inclusion(name) == "automatic").collect();
    let candidates = [&own["table-key-properties"], &own["view-key-properties"], &entry["key_properties"]];
    let key = candidates.into_iter().map(texts).find(|key| !key.is_empty()).unwrap_or_default();
    let forced = own["forced-replication-method"].as_str().map(str::to_owned);
    let forced = forced.or_else(|| own["forced-replication-method"]["replication-method"].as_str().map(str::to_owned));
    let modes = match forced.as_deref() {
        Some("FULL_TABLE") => vec!["full_refresh".to_owned()],
        // Where a tap forces it, the state alone decides what comes: without state it reads all.
        _ => Vec::new(),
    };
    let valid = texts(&own["valid-replication-keys"]);
    let proposed = own["replication-key"].as_str().or(entry["replication_key"].as_str()).map(str::to_owned);
    let cursor = proposed.or_else(|| <[String; 1]>::try_from(valid).ok().map(|[only]| only));
    let rows = own["row-count"].as_i64().and_then(|rows| u64::try_from(rows).ok());
    let has_own_cursor = forced.as_deref() == Some("INCREMENTAL");
    Some(Offered { name, alias, columns: shapes, key, automatic, left_out, modes, cursor, has_own_cursor, rows, entry: entry.clone() })
}

/// The catalog for a run that reads these streams.
pub(crate) fn configured(protocol: Protocol, offered: &[Offered], wanted: &BTreeMap<String, Wanted>) -> Value {
    let chosen = offered.iter().filter_map(|stream| Some((stream, wanted.get(&stream.name)?)));
    match protocol {
        Protocol::Airbyte => json!({"streams": chosen.map(|(stream, wanted)| for_airbyte(stream, wanted)).collect::<Vec<_>>()}),
        Protocol::Singer => json!({"streams": chosen.map(|(stream, wanted)| for_singer(stream, wanted)).collect::<Vec<_>>()}),
    }
}

fn for_airbyte(stream: &Offered, wanted: &Wanted) -> Value {
    let (sync, destination) = match wanted.mode {
        Mode::Whole => ("full_refresh", "overwrite"),
        Mode::Changes | Mode::Log => ("incremental", "append"),
    };
    let mut configured = json!({
        "stream": stream.entry,
        "sync_mode": sync,
        "destination_sync_mode": destination,
        "primary_key": wanted.key.iter().map(|column| vec![column]).collect::<Vec<_>>(),
        "generation_id": 0,
        "minimum_generation_id": 0,
        "sync_id": 0,
    });
    if let Some(cursor) = wanted.cursor.as_ref().or(stream.cursor.as_ref()) {
        configured["cursor_field"] = json!([cursor]);
    }
    configured
}

fn for_singer(stream: &Offered, wanted: &Wanted) -> Value {
    let cursor = wanted.cursor.as_ref().or(stream.cursor.as_ref());
    let (method, cursor) = match wanted.mode {
        Mode::Whole => ("FULL_TABLE", None),
        Mode::Changes => ("INCREMENTAL", cursor),
        Mode::Log => ("LOG_BASED", None),
    };
    let needs = |column: &String| wanted.columns.is_empty() || wanted.columns.contains(column) || stream.automatic.contains(column);
    let is_known = |column: &str| stream.columns.iter().any(|shape| shape.name == column);
    let mut entry = stream.entry.clone();
    let mut said: BTreeMap<Vec<String>, Map<String, Value>> = BTreeMap::new();
    for one in entry["metadata"].as_array().into_iter().flatten() {
        let about = one["metadata"].as_object().cloned().unwrap_or_default();
        said.entry(texts(&one["breadcrumb"])).or_default().extend(about);
    }
    let own = said.entry(Vec::new()).or_default();
    own.insert("selected".to_owned(), json!(true));
    own.insert("replication-method".to_owned(), json!(method));
    if let Some(cursor) = cursor {
        own.insert("replication-key".to_owned(), json!(cursor));
    }
    let names: Vec<String> = entry["schema"]["properties"].as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
    for column in names {
        let is_chosen = is_known(&column) && (needs(&column) || cursor == Some(&column));
        said.entry(vec!["properties".to_owned(), column]).or_default().insert("selected".to_owned(), json!(is_chosen));
    }
    entry["metadata"] = said.into_iter().map(|(breadcrumb, metadata)| json!({"breadcrumb": breadcrumb, "metadata": metadata})).collect();
    // Old taps look here.
    entry["selected"] = json!(true);
    if let Some(schema) = entry.get_mut("schema").and_then(Value::as_object_mut) {
        schema.insert("selected".to_owned(), json!(true));
    }
    entry["replication_method"] = json!(method);
    if let Some(cursor) = cursor {
        entry["replication_key"] = json!(cursor);
    }
    if !wanted.key.is_empty() && entry.get("key_properties").is_some() {
        entry["key_properties"] = json!(wanted.key);
    }
    entry
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn tap() -> Value {
        json!({"streams": [{
            "tap_stream_id": "public-nguoi", "stream": "nguoi",
            "schema": {"properties": {"id": {"type": "integer"}, "ten": {"type": "string"}, "sua": {"type": "string"}, "anh": {}}},
            "metadata": [
                {"breadcrumb": [], "metadata": {"table-key-properties": ["id"], "row-count": 7}},
                {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic", "sql-datatype": "bigint"}},
                {"breadcrumb": ["properties", "anh"], "metadata": {"inclusion": "unsupported"}},
            ],
        }]})
    }

    #[test]
    fn a_tap_is_asked_for_the_mapped_columns_alone() {
        let streams = offered(Protocol::Singer, &tap()).unwrap();
        let [stream] = &streams[..] else { panic!("{streams:?}") };
        assert_eq!((stream.name.as_str(), stream.alias.as_str(), stream.rows), ("public-nguoi", "nguoi", Some(7)));
        assert_eq!(stream.key, ["id"]);
        assert_eq!(stream.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["id", "ten", "sua"]);
        let wanted =
            Wanted { mode: Mode::Changes, key: vec!["id".to_owned()], cursor: Some("sua".to_owned()), columns: vec!["ten".to_owned()] };
        let catalog = configured(Protocol::Singer, &streams, &BTreeMap::from([("public-nguoi".to_owned(), wanted)]));
        let metadata = catalog["streams"][0]["metadata"].as_array().unwrap();
        let chosen: BTreeMap<String, bool> = metadata
            .iter()
            .map(|one| (texts(&one["breadcrumb"]).pop().unwrap_or_default(), one["metadata"]["selected"].as_bool().unwrap()))
            .collect();
        let expected = [("", true), ("id", true), ("ten", true), ("sua", true), ("anh", false)];
        assert_eq!(chosen, expected.into_iter().map(|(name, is)| (name.to_owned(), is)).collect());
        let own = &metadata[0]["metadata"];
        assert_eq!((own["replication-method"].as_str(), own["replication-key"].as_str()), (Some("INCREMENTAL"), Some("sua")));
    }

    #[test]
    fn an_airbyte_stream_is_named_with_its_namespace() {
        let catalog = json!({"streams": [
            {"name": "a", "namespace": "n", "json_schema": {"properties": {"x": {"type": "integer"}}}, "supported_sync_modes": ["full_refresh"],
             "source_defined_primary_key": [["x"]], "default_cursor_field": ["y"]},
            {"name": "b", "json_schema": {}, "source_defined_primary_key": [["x", "y"]]},
            {"name": "c", "json_schema": {}},
        ]});
        let streams = offered(Protocol::Airbyte, &catalog).unwrap();
        assert_eq!(streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(), ["n.a", "b", "c"]);
        assert_eq!((streams[0].key.as_slice(), streams[1].key.len()), (&["x".to_owned()][..], 0));
        assert!(!streams[0].can_follow() && streams[2].can_follow());
        let wanted = Wanted { mode: Mode::Whole, key: vec!["x".to_owned()], cursor: None, columns: Vec::new() };
        let configured = configured(Protocol::Airbyte, &streams, &BTreeMap::from([("n.a".to_owned(), wanted)]));
        let one = &configured["streams"][0];
        assert_eq!(one["stream"]["name"], "a");
        assert_eq!((one["sync_mode"].as_str(), &one["primary_key"]), (Some("full_refresh"), &json!([["x"]])));
    }
}
