//! Writes schemas in the two forms that decide identity.
//!
//! *Canonical* is what Confluent stores: whitespace gone, Avro's own attributes in one order, all others kept as they came.
//! *Normal* (`normalize=true`) also sorts what has no order (properties, aliases) and writes names in full.

use std::collections::HashSet;

use serde_json::Value;

use super::{Field, Kind, Name, Naming, NodeId, Order, Schema};

impl Schema {
    /// The text under which a schema is stored and found again. Types of referenced schemas are named, not repeated.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.print(Form::Canonical)
    }

    /// As [`Schema::canonical`], with everything sorted whose order means nothing.
    #[must_use]
    pub fn normal(&self) -> String {
        self.print(Form::Normal)
    }

    fn print(&self, form: Form) -> String {
        let written = self.external.iter().cloned().collect();
        let mut printer = Printer { schema: self, form, written, out: String::with_capacity(1_024) };
        printer.node(self.root, "");
        printer.out
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Canonical,
    Normal,
}

struct Printer<'a> {
    schema: &'a Schema,
    form: Form,
    /// Full names that stand in the text already.
    written: HashSet<String>,
    out: String,
}

impl Printer<'_> {
    fn node(&mut self, id: NodeId, space: &str) {
        let node = self.schema.node(id);
        if let Some(naming) = node.kind.naming() {
            let full = naming.name.full();
            if self.written.contains(&full) {
                let name = if self.form == Form::Normal { full } else { naming.name.seen_from(space) };
                return self.text(&name);
            }
            self.written.insert(full);
        }
        match &node.kind {
            Kind::Union(branches) => {
                self.list(branches, |printer, branch| printer.node(*branch, space));
            }
            Kind::Array(items) => self.wrapped("array", "items", *items, &node.props, space),
            Kind::Map(values) => self.wrapped("map", "values", *values, &node.props, space),
            Kind::Record(record) => {
                self.open(if record.error { "error" } else { "record" });
                self.named(&record.naming, space);
                self.key("fields");
                let inner = record.naming.name.space.clone();
                self.list(&record.fields, |printer, field| printer.field(field, &inner));
                self.close(&node.props, &record.naming);
            }
            Kind::Enum(symbols) => {
                self.open("enum");
                self.named(&symbols.naming, space);
                self.key("symbols");
                self.list(&symbols.symbols, |printer, symbol| printer.text(symbol));
                if let Some(default) = &symbols.default {
                    self.key("default");
                    self.text(default);
                }
                self.close(&node.props, &symbols.naming);
            }
            Kind::Fixed(fixed) => {
                self.open("fixed");
                self.named(&fixed.naming, space);
                self.key("size");
                self.out.push_str(&fixed.size.to_string());
                self.close(&node.props, &fixed.naming);
            }
            primitive => {
                let word = primitive.primitive().unwrap_or_default();
                if node.props.is_empty() {
                    return self.text(word);
                }
                self.open(word);
                self.properties(&node.props);
                self.out.push('}');
            }
        }
    }

    fn wrapped(&mut self, word: &str, key: &str, inner: NodeId, props: &[(String, Value)], space: &str) {
        self.open(word);
        self.key(key);
        self.node(inner, space);
        self.properties(props);
        self.out.push('}');
    }

    fn field(&mut self, field: &Field, space: &str) {
        self.out.push_str("{\"name\":");
        self.text(&field.name);
        self.key("type");
        self.node(field.schema, space);
        if let Some(doc) = &field.doc {
            self.key("doc");
            self.text(doc);
        }
        if let Some(default) = &field.default {
            self.key("default");
            self.value(default);
        }
        match field.order {
            Order::Ascending => {}
            Order::Descending => self.out.push_str(",\"order\":\"descending\""),
            Order::Ignore => self.out.push_str(",\"order\":\"ignore\""),
        }
        self.aliases(field.aliases.clone());
        self.properties(&field.props);
        self.out.push('}');
    }

    fn named(&mut self, naming: &Naming, space: &str) {
        self.key("name");
        if self.form == Form::Normal {
            self.text(&naming.name.full());
            if naming.name.space.is_empty() && !space.is_empty() {
                // Else it would be read as being in the enclosing namespace.
                self.key("namespace");
                self.text("");
            }
        } else {
            self.text(&naming.name.simple);
            if naming.name.space != space {
                self.key("namespace");
                self.text(&naming.name.space);
            }
        }
        if let Some(doc) = &naming.doc {
            self.key("doc");
            self.text(doc);
        }
    }

    fn close(&mut self, props: &[(String, Value)], naming: &Naming) {
        self.properties(props);
        let space = naming.name.space.as_str();
        let write = |alias: &Name| if self.form == Form::Normal { alias.full() } else { alias.seen_from(space) };
        let aliases = naming.aliases.iter().map(write).collect();
        self.aliases(aliases);
        self.out.push('}');
    }

    fn aliases(&mut self, mut aliases: Vec<String>) {
        if aliases.is_empty() {
            return;
        }
        if self.form == Form::Normal {
            aliases.sort_unstable();
        }
        self.key("aliases");
        self.list(&aliases, |printer, alias| printer.text(alias));
    }

    fn properties(&mut self, props: &[(String, Value)]) {
        let mut props: Vec<&(String, Value)> = props.iter().collect();
        if self.form == Form::Normal {
            props.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
        for (key, value) in props {
            self.key(key);
            if self.form == Form::Normal { self.value(&sorted(value)) } else { self.value(value) }
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            write(self, item);
        }
        self.out.push(']');
    }

    fn open(&mut self, word: &str) {
        self.out.push_str("{\"type\":");
        self.text(word);
    }

    fn key(&mut self, key: &str) {
        self.out.push(',');
        self.text(key);
        self.out.push(':');
    }

    fn text(&mut self, text: &str) {
        self.value(&Value::from(text));
    }

    fn value(&mut self, value: &Value) {
        self.out.push_str(&value.to_string());
    }
}

/// The same value with the keys of all its objects in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    fn parse(text: &str) -> Schema {
        Schema::parse(text, &[]).unwrap()
    }

    #[test]
    fn canonical_text_is_what_avros_java_parser_prints() {
        let text = r#"{ "namespace": "vn.hub", "fields": [
            {"type": {"logicalType": "timestamp-millis", "type": "long"}, "name": "at", "doc": "when"},
            {"name": "who", "type": ["null", "string"], "default": null, "order": "ignore", "aliases": ["whom"], "pii": true},
            {"name": "kind", "type": {"name": "Kind", "type": "enum", "symbols": ["A"], "default": "A", "doc": "k"}},
            {"name": "other", "type": "vn.hub.Kind"},
            {"name": "far", "type": {"type": "fixed", "name": "x.Far", "size": 3, "aliases": ["Farther", "y.Z"]}}
          ], "name": "Event", "type": "record", "title.vi": "Sự kiện", "doc": "d" }"#;
        assert_eq!(
            parse(text).canonical(),
            concat!(
                r#"{"type":"record","name":"Event","namespace":"vn.hub","doc":"d","fields":["#,
                r#"{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"when"},"#,
                r#"{"name":"who","type":["null","string"],"default":null,"order":"ignore","aliases":["whom"],"pii":true},"#,
                r#"{"name":"kind","type":{"type":"enum","name":"Kind","doc":"k","symbols":["A"],"default":"A"}},"#,
                r#"{"name":"other","type":"Kind"},"#,
                r#"{"name":"far","type":{"type":"fixed","name":"Far","namespace":"x","size":3,"aliases":["Farther","y.Z"]}}],"#,
                r#""title.vi":"Sự kiện"}"#,
            )
        );
    }

    #[test]
    fn printing_what_was_printed_changes_nothing() {
        let text = r#"{"type":"record","name":"a.R","fields":[{"name":"n","type":{"type":"record","name":"N","namespace":"",
            "fields":[{"name":"r","type":["null","a.R"]}]}},{"name":"m","type":{"type":"map","values":"N","x":1}}]}"#;
        let once = parse(text).canonical();
        assert_eq!(parse(&once).canonical(), once);
        let normal = parse(text).normal();
        assert_eq!(parse(&normal).normal(), normal);
    }

    #[test]
    fn doc_and_properties_make_another_schema_and_their_order_only_until_normalised() {
        let (plain, documented) = (parse(r#"{"type":"string","a":1,"b":2}"#), parse(r#"{"type":"string","b":2,"a":1}"#));
        assert_ne!(plain.canonical(), documented.canonical());
        assert_eq!(plain.normal(), documented.normal());
        let (with, without) =
            (parse(r#"{"type":"record","name":"R","fields":[],"doc":"x"}"#), parse(r#"{"type":"record","name":"R","fields":[]}"#));
        assert_ne!(with.normal(), without.normal());
    }

    #[test]
    fn a_type_of_a_referenced_schema_is_named_and_not_repeated() {
        let other = r#"{"type":"record","name":"Agency","namespace":"hub","fields":[]}"#;
        let text = r#"{"type":"record","name":"Dossier","namespace":"hub","fields":[{"name":"agency","type":"hub.Agency"}]}"#;
        let schema = Schema::parse(text, &[other]).unwrap();
        assert_eq!(
            schema.canonical(),
            r#"{"type":"record","name":"Dossier","namespace":"hub","fields":[{"name":"agency","type":"Agency"}]}"#
        );
    }
}
