//! Holds a YAML tree against the JSON Schema of its type and reports every fault at once, each in its place.
//!
//! What is right in a tree with faults is handed on, so that the next check finds what is wrong there too.

use serde_json::{Map, Value};

use super::Fault;
use super::yaml::{Document, Key, Kind, Node};

/// What a tree holds.
pub(crate) struct Reading {
    /// Every fault.
    pub(crate) faults: Vec<Fault>,
    /// What is right of it: wrong values are left out (in a list they are empty), misspelt keys are spelt right. `None`
    /// where nothing is.
    pub(crate) sound: Option<Node>,
    /// JSON pointers of what was left out or is missing.
    pub(crate) gaps: Vec<String>,
}

impl Reading {
    /// Whether what a pointer names, or something in it, was left out or is missing.
    pub(crate) fn lacks(&self, pointer: &str) -> bool {
        self.gaps.iter().any(|gap| is_within(gap, pointer))
    }

    /// Whether a fault that was found in the sound part may come from what it lacks: its value, or a neighbour in a section
    /// below `base`. Settings of one section hang together (a certificate and its key); those of `base` itself do not.
    pub(crate) fn may_explain(&self, pointer: &str, base: &str) -> bool {
        let section = |pointer: &str| pointer.rsplit_once('/').map_or(String::new(), |(section, _)| section.to_owned());
        self.gaps.iter().any(|gap| {
            let beside = section(gap) == section(pointer) && section(gap) != base;
            beside || is_within(pointer, gap) || is_within(gap, pointer)
        })
    }
}

/// Whether a pointer names the same as another, or something within it.
fn is_within(pointer: &str, whole: &str) -> bool {
    pointer.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reads `node` by `schema`, in which the `$defs` are.
pub(crate) fn read(document: &Document, node: &Node, schema: &Value) -> Reading {
    let mut walk = Walk { document, root: schema, faults: Vec::new(), gaps: Vec::new() };
    let sound = walk.check(node, schema, "");
    Reading { faults: walk.faults, sound, gaps: walk.gaps }
}

/// The value with something in place of every required key that it lacks, so that the rest of it can be looked at.
pub(crate) fn filled(value: Value, schema: &Value) -> Value {
    fill(value, schema, schema)
}

fn fill(value: Value, schema: &Value, root: &Value) -> Value {
    let schema = one_of(schema, root);
    let (Value::Object(mut entries), Some(properties)) = (value.clone(), schema.get("properties").and_then(Value::as_object)) else {
        return value;
    };
    for (key, inner) in properties {
        if let Some(held) = entries.get_mut(key) {
            *held = fill(held.take(), inner, root);
        }
    }
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !entries.contains_key(key) {
            let inner = properties.get(key).unwrap_or(&Value::Null);
            entries.insert(key.to_owned(), sample(inner, root));
        }
    }
    Value::Object(entries)
}

/// A value that fits a schema.
fn sample(schema: &Value, root: &Value) -> Value {
    let schema = one_of(schema, root);
    let first = schema.get("const").or_else(|| schema.get("default")).or_else(|| schema.get("enum")?.get(0));
    if let Some(first) = first {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => fill(Value::Object(Map::new()), schema, root),
        Some("array") => Value::Array(Vec::new()),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        Some("boolean") => Value::Bool(false),
        _ => Value::String("x".to_owned()),
    }
}

/// What a schema stands for: its definition, the first branch that is not null.
fn one_of<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let schema = resolved(schema, root);
    let options = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    let mut options = options.into_iter().flatten().filter(|option| option.get("type").and_then(Value::as_str) != Some("null"));
    options.next().map_or(schema, |option| one_of(option, root))
}

fn resolved<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    while let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        match root.pointer(target.trim_start_matches('#')) {
            Some(found) => schema = found,
            None => break,
        }
    }
    schema
}

struct Walk<'a> {
    document: &'a Document,
    root: &'a Value,
    faults: Vec<Fault>,
    gaps: Vec<String>,
}

impl<'a> Walk<'a> {
    /// Tells a fault of a value, and leaves the value out.
    fn refuse(&mut self, node: &Node, path: &str, message: String, suggestion: Option<String>) -> Option<Node> {
        self.faults.push(Fault { place: self.document.place(node), message, suggestion });
        self.gaps.push(path.to_owned());
        None
    }

    /// The sound part of a value; `None` where it has none.
    fn check(&mut self, node: &Node, schema: &'a Value, path: &str) -> Option<Node> {
        let schema = resolved(schema, self.root);
        if let Some(options) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            return self.check_options(node, options, path);
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
            return self.check_enum(node, allowed, path);
        }
        if let Some(types) = schema.get("type")
            && !fits_type(node, types)
        {
            let message = format!("{} must be {}, not {}", named(path), words(types), kind_of(node));
            return self.refuse(node, path, message, Some(retyped(node, types)));
        }
        match &node.kind {
            Kind::Scalar(value) => self.check_bounds(node, value, schema, path),
            Kind::List(items) => {
                let Some(inner) = schema.get("items") else { return Some(node.clone()) };
                // A wrong item leaves an empty one: those after it keep their places.
                let item = |(at, item): (usize, &Node)| {
                    self.check(item, inner, &format!("{path}/{at}")).unwrap_or_else(|| item.holding(Kind::Scalar(Value::Null)))
                };
                Some(node.holding(Kind::List(items.iter().enumerate().map(item).collect())))
            }
            Kind::Mapping(entries) => Some(self.check_mapping(node, entries, schema, path)),
        }
    }

    fn check_mapping(&mut self, node: &Node, entries: &[(Key, Node)], schema: &'a Value, path: &str) -> Node {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let known: Vec<&str> = properties.map(|known| known.keys().map(String::as_str).collect()).unwrap_or_default();
        let mut sound: Vec<(Key, Node)> = Vec::new();
        for (key, child) in entries {
            let mut key = key.clone();
            let mut inner = properties.and_then(|known| known.get(&key.text)).or(others.filter(|inner| inner.is_object()));
            if inner.is_none() && others == Some(&Value::Bool(false)) {
                let suggestion = suggest(&key.text, &known);
                let message = format!("unknown key `{}`{}", key.text, inside(path));
                self.faults.push(Fault { place: self.document.key_place(&key), message, suggestion: Some(suggestion) });
                // What stands under a misspelt key is read as if it were spelt right: it may have faults of its own.
                let meant = nearest(&key.text, &known).filter(|meant| entries.iter().all(|(other, _)| other.text != **meant));
                let Some(meant) = meant else { continue };
                inner = properties.and_then(|known| known.get(meant));
                key = key.spelt(meant);
            }
            let read = match inner {
                Some(inner) => self.check(child, inner, &format!("{path}/{}", key.text)),
                None => Some(child.clone()),
            };
            sound.extend(read.map(|read| (key, read)));
        }
        self.check_missing(node, entries, schema, path, &known);
        for (left, right) in repeated(entries) {
            self.faults.push(Fault {
                place: self.document.key_place(right),
                message: format!("key `{}` is given twice{}", left.text, inside(path)),
                suggestion: Some("leave one of them".to_owned()),
            });
        }
        node.holding(Kind::Mapping(sound))
    }

    fn check_missing(&mut self, node: &Node, entries: &[(Key, Node)], schema: &'a Value, path: &str, known: &[&str]) {
        let properties = schema.get("properties").and_then(Value::as_object);
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let is_meant = |key: &Key| !known.contains(&key.text.as_str()) && nearest(&key.text, known) == Some(required);
            if entries.iter().any(|(key, _)| key.text == required || is_meant(key)) {
                continue;
            }
            let about = properties.and_then(|known| known.get(required));
            let hint = about.and_then(|inner| inner.get("description").or_else(|| resolved(inner, self.root).get("description")));
            let hint = hint.and_then(Value::as_str).map(str::to_owned);
            let _: Option<Node> =
                self.refuse(node, &format!("{path}/{required}"), format!("missing key `{required}`{}", inside(path)), hint);
        }
    }

    fn check_bounds(&mut self, node: &Node, value: &Value, schema: &Value, path: &str) -> Option<Node> {
        let Some(number) = value.as_f64() else { return Some(node.clone()) };
        let low = schema.get("minimum").and_then(Value::as_f64);
        let high = schema.get("maximum").and_then(Value::as_f64);
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let bound = match (low, high) {
                (Some(low), Some(high)) => format!("from {low} to {high}"),
                (Some(low), None) => format!("at least {low}"),
                (None, Some(high)) => format!("at most {high}"),
                (None, None) => return Some(node.clone()),
            };
            return self.refuse(node, path, format!("{} must be {bound}", named(path)), None);
        }
        Some(node.clone())
    }

    fn check_enum(&mut self, node: &Node, allowed: &[Value], path: &str) -> Option<Node> {
        let Kind::Scalar(value) = &node.kind else {
            let message = format!("{} must be one of {}, not {}", named(path), list(allowed), kind_of(node));
            return self.refuse(node, path, message, None);
        };
        if allowed.contains(value) {
            return Some(node.clone());
        }
        let names: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        let suggestion = value.as_str().map(|text| suggest(text, &names));
        self.refuse(node, path, format!("{} must be one of {}", named(path), list(allowed)), suggestion)
    }

    /// The option that fits best is the one whose faults are fewest; an exact fit has none.
    fn check_options(&mut self, node: &Node, options: &'a [Value], path: &str) -> Option<Node> {
        let constants: Vec<Value> =
            options.iter().map(|option| resolved(option, self.root)).filter_map(|option| option.get("const").cloned()).collect();
        if constants.len() == options.len() {
            return self.check_enum(node, &constants, path);
        }
        let mut best: Option<(Walk<'a>, Option<Node>)> = None;
        for option in options {
            let option = resolved(option, self.root);
            if option.get("type").and_then(Value::as_str) == Some("null") && !matches!(node.kind, Kind::Scalar(Value::Null)) {
                continue;
            }
            let mut walk = Walk { document: self.document, root: self.root, faults: Vec::new(), gaps: Vec::new() };
            let sound = walk.check(node, option, path);
            if best.as_ref().is_none_or(|(held, _)| walk.faults.len() < held.faults.len()) {
                best = Some((walk, sound));
            }
        }
        let (walk, sound) = best?;
        self.faults.extend(walk.faults);
        self.gaps.extend(walk.gaps);
        sound
    }
}

fn repeated(entries: &[(Key, Node)]) -> impl Iterator<Item = (&Key, &Key)> {
    entries.iter().enumerate().flat_map(move |(at, (left, _))| {
        entries.iter().skip(at + 1).filter(move |(right, _)| right.text == left.text).map(move |(right, _)| (left, right))
    })
}

fn fits_type(node: &Node, types: &Value) -> bool {
    let fits = |name: &str| match (&node.kind, name) {
        (Kind::Mapping(_), "object")
        | (Kind::List(_), "array")
        | (Kind::Scalar(Value::Null), "null")
        | (Kind::Scalar(Value::Bool(_)), "boolean")
        | (Kind::Scalar(Value::String(_)), "string")
        | (Kind::Scalar(Value::Number(_)), "number") => true,
        (Kind::Scalar(Value::Number(number)), "integer") => number.is_i64() || number.is_u64(),
        _ => false,
    };
    match types {
        Value::String(name) => fits(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(fits),
        _ => true,
    }
}

/// How a value of the wrong type is written in the right one. It does not repeat the value, which may be a secret.
fn retyped(node: &Node, types: &Value) -> String {
    let names: Vec<&str> = match types {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    };
    let wanted = names.into_iter().find(|name| *name != "null").unwrap_or_default();
    let scalar = matches!(&node.kind, Kind::Scalar(value) if !value.is_null());
    let number = node.text().is_some_and(|text| text.trim().parse::<f64>().is_ok());
    match wanted {
        "string" if scalar => "put it in quotes",
        "string" => "write one text",
        "array" if scalar => "put it in brackets: [ … ]",
        "array" => "write a list: each item on a line of its own after `- `",
        "object" => "write its keys on lines of their own below it, indented",
        "boolean" => "write true or false, without quotes",
        _ if number => "write it without quotes",
        "integer" => "write a whole number",
        _ => "write a number",
    }
    .to_owned()
}

fn kind_of(node: &Node) -> &'static str {
    match &node.kind {
        Kind::Mapping(_) => "a mapping",
        Kind::List(_) => "a list",
        Kind::Scalar(Value::Null) => "empty",
        Kind::Scalar(Value::Bool(_)) => "true or false",
        Kind::Scalar(Value::Number(_)) => "a number",
        Kind::Scalar(_) => "text",
    }
}

fn words(types: &Value) -> String {
    let word = |name: &str| match name {
        "object" => "a mapping",
        "array" => "a list",
        "null" => "empty",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "text",
    };
    match types {
        Value::String(name) => word(name).to_owned(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(word).collect::<Vec<_>>().join(" or ")
        }
        _ => "something else".to_owned(),
    }
}

fn named(path: &str) -> String {
    match path.rsplit('/').next() {
        Some(last) if !last.is_empty() && last.parse::<usize>().is_err() => format!("`{last}`"),
        _ => "this value".to_owned(),
    }
}

fn inside(path: &str) -> String {
    match path.split('/').rfind(|part| !part.is_empty() && part.parse::<usize>().is_err()) {
        Some(parent) => format!(" in `{parent}`"),
        None => String::new(),
    }
}

fn list(values: &[Value]) -> String {
    let shown: Vec<String> = values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    shown.join(", ")
}

/// "did you mean …" where something is near, else what is allowed.
pub(crate) fn suggest(given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "none is known".to_owned(),
        None => format!("known are: {}", known.join(", ")),
    }
}

/// The known name that was meant, where one is near enough.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let (far, name) = known.iter().map(|name| (distance(given, name), *name)).min()?;
    (far <= 1 + given.chars().count() / 3).then_some(name)
}

/// Levenshtein distance; the texts are short.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::path::Path;

    use super::*;

    fn check(text: &str) -> Vec<String> {
        let schema = serde_json::to_value(schemars::schema_for!(hub_engine::spec::SystemSpec)).unwrap();
        let document = Document::parse(Path::new("s.yaml"), text).unwrap();
        read(&document, &document.root, &schema).faults.into_iter().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn all_faults_are_reported_together_with_place_and_suggestion() {
        let found = check(
            "system: 12\nconector: postgres\nstreams:\n  - source: public.a\n    entity: x.Y\n    key: code\n    map: {a: 1}\n    topic: {cleanup: compacted}\n",
        );
        assert_eq!(
            found,
            [
                "s.yaml:1:9: `system` must be text, not a number; put it in quotes",
                "s.yaml:2:1: unknown key `conector`; did you mean `connector`?",
                "s.yaml:6:10: `key` must be a list, not text; put it in brackets: [ … ]",
                "s.yaml:7:14: `a` must be text, not a number; put it in quotes",
                "s.yaml:8:22: `cleanup` must be one of compact, delete; did you mean `compact`?",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_told_with_what_it_is_for_and_a_repeated_key_hides_nothing() {
        let found = check("system: a\nsystem: b\nstreams: []\ntitle: {vi: A, enn: B}\n");
        assert_eq!(
            found,
            [
                "s.yaml:4:16: unknown key `enn` in `title`; did you mean `en`?",
                "s.yaml:1:1: missing key `connector`; Kind of connector, `postgres`. `hub connectors` lists them.",
                "s.yaml:2:1: key `system` is given twice; leave one of them",
            ]
        );
    }

    #[test]
    fn what_is_right_is_handed_on_with_misspelt_keys_spelt_right() {
        let schema = serde_json::to_value(schemars::schema_for!(hub_engine::spec::SystemSpec)).unwrap();
        let text = "sytem: a\nconnector: 5\nstreams:\n  - 7\n  - {source: s, entity: e.E, key: [1, k], map: {k: k, l: 2}, wat: x}\n";
        let document = Document::parse(Path::new("s.yaml"), text).unwrap();
        let reading = read(&document, &document.root, &schema);
        let sound = reading.sound.as_ref().unwrap().value();
        assert_eq!(
            sound,
            serde_json::json!({"system": "a", "streams": [null, {"source": "s", "entity": "e.E", "key": [null, "k"], "map": {"k": "k"}}]})
        );
        assert_eq!(reading.gaps, ["/connector", "/streams/0", "/streams/1/key/0", "/streams/1/map/l"]);
        assert!(reading.lacks("/streams/1/key") && !reading.lacks("/streams/1/source"));
        assert!(reading.may_explain("/streams/1/map/k", "") && !reading.may_explain("/streams/1/map/k", "/streams/1/map"));
        assert!(reading.may_explain("/connector", "") && !reading.may_explain("/system", ""));
        assert_eq!(filled(sound, &schema)["connector"], "x");
    }

    #[test]
    fn a_right_file_has_no_faults() {
        let found = check(
            "system: a\nconnector: postgres\nconfig: {host: x}\nstreams:\n  - {source: s, entity: e.E, key: [k], where: a = 1, map: {k: k}}\n",
        );
        assert_eq!(found, Vec::<String>::new());
    }
}
