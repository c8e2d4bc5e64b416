//! Holds a YAML tree against the JSON Schema of its type and reports every fault at once, each in its place.

use serde_json::Value;

use super::Fault;
use super::yaml::{Document, Kind, Node};

/// All faults of `node` against `schema`; `root` holds the `$defs`.
pub(crate) fn faults(document: &Document, node: &Node, schema: &Value, root: &Value) -> Vec<Fault> {
    let mut walk = Walk { document, root, faults: Vec::new() };
    walk.check(node, schema, "");
    walk.faults
}

struct Walk<'a> {
    document: &'a Document,
    root: &'a Value,
    faults: Vec<Fault>,
}

impl<'a> Walk<'a> {
    fn fault(&mut self, node: &Node, message: String, suggestion: Option<String>) {
        self.faults.push(Fault { place: self.document.place(node), message, suggestion });
    }

    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        while let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            match self.root.pointer(target.trim_start_matches('#')) {
                Some(found) => schema = found,
                None => break,
            }
        }
        schema
    }

    fn check(&mut self, node: &Node, schema: &'a Value, path: &str) {
        let schema = self.resolve(schema);
        if let Some(options) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            self.check_options(node, options, path);
            return;
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
            self.check_enum(node, allowed, path);
            return;
        }
        if let Some(types) = schema.get("type")
            && !fits_type(node, types)
        {
            let message = format!("{} must be {}, not {}", named(path), words(types), kind_of(node));
            self.fault(node, message, None);
            return;
        }
        match &node.kind {
            Kind::Scalar(value) => self.check_bounds(node, value, schema, path),
            Kind::List(items) => {
                if let Some(inner) = schema.get("items") {
                    for (at, item) in items.iter().enumerate() {
                        self.check(item, inner, &format!("{path}/{at}"));
                    }
                }
            }
            Kind::Mapping(_) => self.check_mapping(node, schema, path),
        }
    }

    fn check_mapping(&mut self, node: &Node, schema: &'a Value, path: &str) {
        let Kind::Mapping(entries) = &node.kind else { return };
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        for (key, child) in entries {
            match (properties.and_then(|known| known.get(&key.text)), others) {
                (Some(inner), _) => self.check(child, inner, &format!("{path}/{}", key.text)),
                (None, Some(Value::Bool(false))) => {
                    let known: Vec<&str> = properties.map(|known| known.keys().map(String::as_str).collect()).unwrap_or_default();
                    self.faults.push(Fault {
                        place: self.document.key_place(key),
                        message: format!("unknown key `{}`{}", key.text, inside(path)),
                        suggestion: Some(suggest(&key.text, &known)),
                    });
                }
                (None, Some(inner)) if inner.is_object() => self.check(child, inner, &format!("{path}/{}", key.text)),
                (None, _) => {}
            }
        }
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !entries.iter().any(|(key, _)| key.text == required) {
                let about = properties.and_then(|known| known.get(required)).map(|inner| self.resolve(inner));
                let hint = about.and_then(|inner| inner.get("description")).and_then(Value::as_str);
                self.fault(node, format!("missing key `{required}`{}", inside(path)), hint.map(str::to_owned));
            }
        }
        for (left, right) in repeated(entries) {
            self.faults.push(Fault {
                place: self.document.key_place(right),
                message: format!("key `{}` is given twice{}", left.text, inside(path)),
                suggestion: None,
            });
        }
    }

    fn check_bounds(&mut self, node: &Node, value: &Value, schema: &Value, path: &str) {
        let Some(number) = value.as_f64() else { return };
        let low = schema.get("minimum").and_then(Value::as_f64);
        let high = schema.get("maximum").and_then(Value::as_f64);
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let bound = match (low, high) {
                (Some(low), Some(high)) => format!("from {low} to {high}"),
                (Some(low), None) => format!("at least {low}"),
                (None, Some(high)) => format!("at most {high}"),
                (None, None) => return,
            };
            self.fault(node, format!("{} must be {bound}", named(path)), None);
        }
    }

    fn check_enum(&mut self, node: &Node, allowed: &[Value], path: &str) {
        let Kind::Scalar(value) = &node.kind else {
            let message = format!("{} must be one of {}, not {}", named(path), list(allowed), kind_of(node));
            return self.fault(node, message, None);
        };
        if !allowed.contains(value) {
            let names: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            let suggestion = value.as_str().map(|text| suggest(text, &names));
            self.fault(node, format!("{} must be one of {}", named(path), list(allowed)), suggestion);
        }
    }

    /// The option that fits best is the one whose faults are fewest; an exact fit has none.
    fn check_options(&mut self, node: &Node, options: &'a [Value], path: &str) {
        let constants: Vec<Value> =
            options.iter().map(|option| self.resolve(option)).filter_map(|option| option.get("const").cloned()).collect();
        if constants.len() == options.len() {
            return self.check_enum(node, &constants, path);
        }
        let mut best: Option<Vec<Fault>> = None;
        for option in options {
            let option = self.resolve(option);
            if option.get("type").and_then(Value::as_str) == Some("null") && !matches!(node.kind, Kind::Scalar(Value::Null)) {
                continue;
            }
            let mut walk = Walk { document: self.document, root: self.root, faults: Vec::new() };
            walk.check(node, option, path);
            if best.as_ref().is_none_or(|held| walk.faults.len() < held.len()) {
                best = Some(walk.faults);
            }
        }
        self.faults.extend(best.unwrap_or_default());
    }
}

fn repeated(entries: &[(super::yaml::Key, Node)]) -> impl Iterator<Item = (&super::yaml::Key, &super::yaml::Key)> {
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
    let nearest = known.iter().map(|name| (distance(given, name), *name)).min();
    match nearest {
        Some((far, name)) if far <= 1 + given.chars().count() / 3 => format!("did you mean `{name}`?"),
        _ => format!("known are: {}", known.join(", ")),
    }
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
        faults(&document, &document.root, &schema, &schema).into_iter().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn all_faults_are_reported_together_with_place_and_suggestion() {
        let found = check(
            "system: 12\nconector: postgres\nstreams:\n  - source: public.a\n    entity: x.Y\n    key: code\n    map: {a: 1}\n    topic: {cleanup: compacted}\n",
        );
        assert_eq!(
            found,
            [
                "s.yaml:1:9: `system` must be text, not a number",
                "s.yaml:2:1: unknown key `conector`; did you mean `connector`?",
                "s.yaml:6:10: `key` must be a list, not text",
                "s.yaml:7:14: `a` must be text, not a number",
                "s.yaml:8:22: `cleanup` must be one of compact, delete; did you mean `compact`?",
                "s.yaml:1:1: missing key `connector`; Kind of connector, `postgres`. `hub connectors` lists them.",
            ]
        );
    }

    #[test]
    fn a_right_file_has_no_faults() {
        let found = check(
            "system: a\nconnector: postgres\nconfig: {host: x}\nstreams:\n  - {source: s, entity: e.E, key: [k], where: a = 1, map: {k: k}}\n",
        );
        assert_eq!(found, Vec::<String>::new());
    }
}
