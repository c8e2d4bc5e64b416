//! What is wrong with a system's streams whatever its source has: entities, keys, expressions, each in its place.

use std::collections::BTreeMap;

use hub_engine::spec::{Places, StreamPlaces};
use hub_transform::CodeLists;
use hub_transform::normalise::{MappingFault, MappingSpec, Place as SqlPlace, Sql, Target, Unseen, check_unseen};

use super::Fault;
use super::canonical::Canonical;
use super::schema::{Reading, suggest};
use super::yaml::{Document, Kind, Node, Place};

/// Every fault of the streams. `document` has what could be read of the file, `reading` says what could not.
pub(super) fn check(document: &Document, reading: &Reading, system: &str, canonical: Option<&Canonical>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let Some(Kind::List(streams)) = document.root.child("streams").map(|node| &node.kind) else { return faults };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, stream) in streams.iter().enumerate() {
        if let Some(source) = stream.child("source")
            && let Some(name) = source.text()
            && let Some(other) = seen.insert(name, at)
        {
            faults.push(Fault::new(document.place(source), format!("`{name}` is captured by stream {} already", other + 1)));
        }
        let entity = stream.child("entity").and_then(|node| Some((node, node.text()?)));
        if let (Some((node, name)), Some(canonical)) = (entity, canonical)
            && !canonical.schemas.contains_key(name)
        {
            let known: Vec<&str> = canonical.schemas.keys().map(String::as_str).collect();
            let message = format!("there is no canonical entity `{name}`");
            faults.push(Fault { place: document.place(node), message, suggestion: Some(suggest(name, &known)) });
        }
        if let Some((node, name)) = entity
            && let Some(own) = hub_engine::spec::Naming::own_of_a_system(name)
        {
            let message = format!("the records of `{name}` would go to the system's own topic of {own}; call the entity something else");
            faults.push(Fault::new(document.place(node), message));
        }
        if let Some(node) = stream.child("key")
            && matches!(&node.kind, Kind::List(items) if items.is_empty())
        {
            let message = "a stream needs a key: the canonical fields by which its records are told apart";
            faults.push(Fault::new(document.place(node), message));
        }
        let spec = mapping(document, reading, at, stream);
        // Without its expressions, every required field would seem to be missing.
        let has_fields = stream.child("map").is_some();
        let canonical_entity = entity.and_then(|(_, name)| canonical?.entities.get(name)).filter(|_| has_fields);
        let target = canonical_entity.map(Target::of);
        let unread = CodeLists::unread();
        let code_lists = canonical.map_or(&unread, |canonical| &canonical.lists);
        let found = check_unseen(&Unseen { spec: &spec, target: target.as_ref(), code_lists, system });
        faults.extend(found.into_iter().map(|fault| in_file(fault, &document.place(stream))));
    }
    faults
}

/// A mapping's fault in the file that it came from; `whole` is where it is when it has no place.
pub(crate) fn in_file(fault: MappingFault, whole: &Place) -> Fault {
    let place = fault.place.map_or_else(
        || whole.clone(),
        |place| Place { file: place.file.as_ref().into(), line: place.line.into(), column: place.column.into() },
    );
    let field = match fault.field.as_deref() {
        Some("where") => "where: ".to_owned(),
        Some(field) => format!("field {field}: "),
        None => String::new(),
    };
    Fault { place, message: format!("{field}{}", fault.problem), suggestion: fault.remedy }
}

/// The mapping of a stream as far as it could be read.
fn mapping(document: &Document, reading: &Reading, at: usize, stream: &Node) -> MappingSpec {
    let pointer = |part: &str| format!("/streams/{at}/{part}");
    let sql = |node: &Node| Some(Sql { text: node.text()?.to_owned(), place: Some(sql_place(&document.text_place(node))) });
    let (map, key) = (stream.child("map"), stream.child("key"));
    let mut fields: Vec<(String, Sql)> = match map.map(|node| &node.kind) {
        Some(Kind::Mapping(entries)) => entries.iter().filter_map(|(key, node)| Some((key.text.clone(), sql(node)?))).collect(),
        _ => Vec::new(),
    };
    // A field whose expression is no text has its fault already: a column's name stands for what was meant.
    let within = format!("{}/", pointer("map"));
    fields.extend(reading.gaps.iter().filter_map(|gap| Some((gap.strip_prefix(&within)?.to_owned(), Sql::from("unread")))));
    let readable = map.is_some() && !reading.lacks(&pointer("key"));
    let keys = match key.map(|node| &node.kind) {
        Some(Kind::List(items)) if readable => items.iter().filter_map(|item| item.text().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    MappingSpec {
        entity: stream.child("entity").and_then(Node::text).unwrap_or_default().to_owned(),
        filter: stream.child("where").and_then(sql),
        key: keys,
        fields,
        codes: BTreeMap::new(),
        key_place: key.map(|node| sql_place(&document.place(node))),
        fields_place: map.map(|node| sql_place(&document.place(node))),
    }
}

fn sql_place(place: &Place) -> SqlPlace {
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    SqlPlace { file: place.file.display().to_string().into(), line: number(place.line), column: number(place.column) }
}

/// Where the expressions of a system's file stand; `file` is its name within the configuration folder.
pub(super) fn places(document: &Document, file: String) -> Places {
    let at = |node: &Node| {
        let place = sql_place(&document.text_place(node));
        (place.line, place.column)
    };
    let of = |stream: &Node| {
        let fields = match stream.child("map").map(|node| &node.kind) {
            Some(Kind::Mapping(entries)) => entries.iter().map(|(key, node)| (key.text.clone(), at(node))).collect(),
            _ => BTreeMap::new(),
        };
        StreamPlaces { filter: stream.child("where").map(at), key: stream.child("key").map(at), fields }
    };
    let streams = match document.root.child("streams").map(|node| &node.kind) {
        Some(Kind::List(streams)) => streams.iter().map(of).collect(),
        _ => Vec::new(),
    };
    Places { file, streams }
}
