//! Reads Avro schema text strictly, as Avro's own Java parser does, and never panics on any input.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::default::fits;
use super::{Enum, Field, Fixed, Kind, Name, Naming, Node, NodeId, Order, Record, Schema, SchemaError};

/// Attributes that Avro defines for types; no others are kept as properties.
const TYPE_WORDS: [&str; 10] = ["doc", "fields", "items", "name", "namespace", "size", "symbols", "values", "type", "aliases"];
/// Attributes that Avro defines for fields.
const FIELD_WORDS: [&str; 6] = ["default", "doc", "name", "order", "type", "aliases"];

impl Schema {
    /// Reads a schema. `referenced` are the texts of the schemas that it refers to, each after those it needs itself.
    ///
    /// # Errors
    /// [`SchemaError`] with the place and the reason where the text is not an Avro schema.
    pub fn parse(text: &str, referenced: &[&str]) -> Result<Self, SchemaError> {
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new(), path: Vec::new() };
        for dependency in referenced {
            parser.read(dependency)?;
        }
        let external = parser.names.keys().cloned().collect();
        let root = parser.read(text)?;
        let schema = Self { nodes: parser.nodes, root, external };
        schema.check_defaults()?;
        Ok(schema)
    }

    /// Defaults are checked once all types are known, since a default may be of a type that is still being read.
    fn check_defaults(&self) -> Result<(), SchemaError> {
        for node in &self.nodes {
            let Kind::Record(record) = &node.kind else { continue };
            for field in &record.fields {
                let Some(default) = &field.default else { continue };
                if !fits(self, field.schema, default) {
                    let kind = self.node(field.schema).kind.label().to_lowercase();
                    return Err(SchemaError {
                        path: format!("{}.{}", record.naming.name, field.name),
                        reason: format!("Invalid default for field {}: {default} is not a {kind}", field.name),
                    });
                }
            }
        }
        Ok(())
    }
}

struct Parser {
    nodes: Vec<Node>,
    /// Types by full name.
    names: HashMap<String, NodeId>,
    path: Vec<String>,
}

type Read<T> = Result<T, SchemaError>;

impl Parser {
    fn read(&mut self, text: &str) -> Read<NodeId> {
        match serde_json::from_str::<Value>(text) {
            Ok(json) => self.schema(&json, ""),
            Err(error) => Err(self.fault(format!("the schema is not JSON: {error}"))),
        }
    }

    fn fault(&self, reason: impl Into<String>) -> SchemaError {
        SchemaError { path: format!("/{}", self.path.join("/")), reason: reason.into() }
    }

    fn at<T>(&mut self, step: impl Into<String>, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.path.push(step.into());
        let result = read(self)?;
        self.path.pop();
        Ok(result)
    }

    fn add(&mut self, kind: Kind, props: Vec<(String, Value)>) -> NodeId {
        self.nodes.push(Node { kind, props });
        NodeId(self.nodes.len() - 1)
    }

    fn schema(&mut self, json: &Value, space: &str) -> Read<NodeId> {
        match json {
            Value::String(word) => self.word(word, space),
            Value::Array(branches) => self.union(branches, space),
            Value::Object(object) => self.object(object, space),
            other => Err(self.fault(format!("{other} is not a type: write a name, an object or a list of types"))),
        }
    }

    fn word(&mut self, word: &str, space: &str) -> Read<NodeId> {
        if let Some(kind) = Kind::from_primitive(word) {
            return Ok(self.add(kind, Vec::new()));
        }
        let name = Name::within(word, space);
        self.names.get(&name.full()).or_else(|| self.names.get(word)).copied().ok_or_else(|| {
            let hint = "define it before its first use, or name the schema that defines it in references";
            self.fault(format!("Undefined name: \"{word}\"; {hint}"))
        })
    }

    fn union(&mut self, branches: &[Value], space: &str) -> Read<NodeId> {
        let mut ids = Vec::with_capacity(branches.len());
        let mut seen = HashSet::new();
        for (index, branch) in branches.iter().enumerate() {
            let id = self.at(index.to_string(), |parser| parser.schema(branch, space))?;
            let kind = &self.nodes[id.0].kind;
            if matches!(kind, Kind::Union(_)) {
                return Err(self.fault("Nested union: a union may not hold another one directly"));
            }
            let identity = kind.naming().map_or_else(|| kind.label().to_lowercase(), |naming| naming.name.full());
            if !seen.insert(identity.clone()) {
                return Err(self.fault(format!("Duplicate in union: {identity}")));
            }
            ids.push(id);
        }
        Ok(self.add(Kind::Union(ids), Vec::new()))
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str) -> Read<NodeId> {
        let Some(word) = object.get("type").and_then(Value::as_str) else {
            return Err(self.fault("No type: an object needs \"type\" with the name of a type"));
        };
        let props = |reserved: &[&str]| properties(object, reserved);
        match word {
            "record" | "error" => self.record(object, space, word == "error"),
            "enum" => self.enumeration(object, space),
            "fixed" => self.fixed(object, space),
            "array" => {
                let items = self.inner(object, "items", space)?;
                Ok(self.add(Kind::Array(items), props(&TYPE_WORDS)))
            }
            "map" => {
                let values = self.inner(object, "values", space)?;
                Ok(self.add(Kind::Map(values), props(&TYPE_WORDS)))
            }
            _ => match Kind::from_primitive(word) {
                Some(kind) => Ok(self.add(kind, props(&TYPE_WORDS))),
                None => self.word(word, space),
            },
        }
    }

    fn inner(&mut self, object: &Map<String, Value>, key: &str, space: &str) -> Read<NodeId> {
        let Some(json) = object.get(key) else {
            return Err(self.fault(format!("an {key} type is missing: write \"{key}\" with the type within")));
        };
        self.at(key, |parser| parser.schema(json, space))
    }

    fn record(&mut self, object: &Map<String, Value>, space: &str, error: bool) -> Read<NodeId> {
        let naming = self.naming(object, space)?;
        let space = naming.name.space.clone();
        let Some(list) = object.get("fields").and_then(Value::as_array) else {
            return Err(self.fault(format!("Record {} has no fields: write \"fields\" with a list", naming.name)));
        };
        // The name is known before the fields are read: that is how a type refers to itself.
        let id = self.define(&naming, Kind::Record(Record { naming: naming.clone(), fields: Vec::new(), error }))?;
        let mut fields: Vec<Field> = Vec::with_capacity(list.len());
        let mut taken = HashSet::new();
        for (index, json) in list.iter().enumerate() {
            let field = self.at("fields", |parser| parser.at(index.to_string(), |parser| parser.field(json, &space)))?;
            if !taken.insert(field.name.clone()) {
                return Err(self.fault(format!("Duplicate field {} in record {}", field.name, naming.name)));
            }
            fields.push(field);
        }
        let kind = Kind::Record(Record { naming, fields, error });
        self.nodes[id.0] = Node { kind, props: properties(object, &TYPE_WORDS) };
        Ok(id)
    }

    fn field(&mut self, json: &Value, space: &str) -> Read<Field> {
        let Some(object) = json.as_object() else {
            return Err(self.fault("a field must be an object with \"name\" and \"type\""));
        };
        let name = self.text(object, "name")?.ok_or_else(|| self.fault("No field name"))?;
        self.check_name(&name)?;
        let Some(json) = object.get("type") else {
            return Err(self.fault(format!("No field type: {name}")));
        };
        let schema = self.at("type", |parser| parser.schema(json, space))?;
        let order = match self.text(object, "order")?.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("ascending") => Order::Ascending,
            Some("descending") => Order::Descending,
            Some("ignore") => Order::Ignore,
            Some(other) => return Err(self.fault(format!("order {other:?} is not ascending, descending or ignore"))),
        };
        Ok(Field {
            aliases: self.aliases(object)?,
            doc: self.text(object, "doc")?,
            default: object.get("default").cloned(),
            props: properties(object, &FIELD_WORDS),
            name,
            order,
            schema,
        })
    }

    fn enumeration(&mut self, object: &Map<String, Value>, space: &str) -> Read<NodeId> {
        let naming = self.naming(object, space)?;
        let Some(list) = object.get("symbols").and_then(Value::as_array) else {
            return Err(self.fault(format!("Enum {} has no symbols: write \"symbols\" with a list", naming.name)));
        };
        let mut symbols: Vec<String> = Vec::with_capacity(list.len());
        for symbol in list {
            let Some(symbol) = symbol.as_str() else {
                return Err(self.fault(format!("symbol {symbol} is not text")));
            };
            self.check_name(symbol)?;
            if symbols.iter().any(|known| known == symbol) {
                return Err(self.fault(format!("Duplicate enum symbol: {symbol}")));
            }
            symbols.push(symbol.to_owned());
        }
        let default = self.text(object, "default")?;
        if let Some(default) = default.as_ref().filter(|default| !symbols.contains(default)) {
            return Err(self.fault(format!("The Enum Default: {default} is not in the enum symbol set: {symbols:?}")));
        }
        let mut reserved = TYPE_WORDS.to_vec();
        reserved.push("default");
        let id = self.define(&naming, Kind::Enum(Enum { naming: naming.clone(), symbols, default }))?;
        self.nodes[id.0].props = properties(object, &reserved);
        Ok(id)
    }

    fn fixed(&mut self, object: &Map<String, Value>, space: &str) -> Read<NodeId> {
        let naming = self.naming(object, space)?;
        let Some(size) = object.get("size").and_then(Value::as_u64).filter(|size| *size <= i32::MAX as u64) else {
            return Err(self.fault(format!("Invalid or no size of fixed {}: write a number of bytes", naming.name)));
        };
        let id = self.define(&naming, Kind::Fixed(Fixed { naming: naming.clone(), size }))?;
        self.nodes[id.0].props = properties(object, &TYPE_WORDS);
        Ok(id)
    }

    fn define(&mut self, naming: &Naming, kind: Kind) -> Read<NodeId> {
        let full = naming.name.full();
        if self.names.contains_key(&full) {
            return Err(self.fault(format!("Can't redefine: {full}")));
        }
        let id = self.add(kind, Vec::new());
        self.names.insert(full, id);
        Ok(id)
    }

    fn naming(&mut self, object: &Map<String, Value>, space: &str) -> Read<Naming> {
        let text = self.text(object, "name")?.ok_or_else(|| self.fault("No name in schema: named types need \"name\""))?;
        let own = self.text(object, "namespace")?;
        let name = Name::within(&text, own.as_deref().unwrap_or(space));
        self.check_name(&name.simple)?;
        if !name.space.is_empty() {
            name.space.split('.').try_for_each(|part| self.check_name(part))?;
        }
        if Kind::from_primitive(&name.full()).is_some() {
            return Err(self.fault(format!("Schemas may not be named after primitives: {name}")));
        }
        let aliases = self.aliases(object)?.iter().map(|alias| Name::within(alias, &name.space)).collect();
        Ok(Naming { name, aliases, doc: self.text(object, "doc")? })
    }

    fn aliases(&self, object: &Map<String, Value>) -> Read<Vec<String>> {
        let Some(json) = object.get("aliases") else { return Ok(Vec::new()) };
        let list = json.as_array().ok_or_else(|| self.fault(format!("aliases not an array: {json}")))?;
        list.iter()
            .map(|alias| alias.as_str().map(str::to_owned).ok_or_else(|| self.fault(format!("alias not a string: {alias}"))))
            .collect()
    }

    fn text(&self, object: &Map<String, Value>, key: &str) -> Read<Option<String>> {
        match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.fault(format!("\"{key}\" must be text, not {other}"))),
        }
    }

    fn check_name(&self, name: &str) -> Read<()> {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Ok(());
        }
        Err(self.fault(format!("Illegal name {name:?}: names begin with a letter or _ and go on with letters, digits and _")))
    }
}

fn properties(object: &Map<String, Value>, reserved: &[&str]) -> Vec<(String, Value)> {
    let kept = object.iter().filter(|(key, _)| !reserved.contains(&key.as_str()));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    fn refused(text: &str) -> String {
        Schema::parse(text, &[]).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        let cases = [
            ("", "the schema is not JSON"),
            ("\"nothing\"", "Undefined name: \"nothing\""),
            ("12", "12 is not a type"),
            ("{}", "No type"),
            (r#"{"type":"array"}"#, "an items type is missing"),
            (r#"{"type":"record","name":"bad-name","fields":[]}"#, "Illegal name \"bad-name\""),
            (r#"{"type":"record","name":"","fields":[]}"#, "Illegal name \"\""),
            (r#"{"type":"record","name":"R","namespace":"a..b","fields":[]}"#, "Illegal name \"\""),
            (r#"{"type":"record","name":"R"}"#, "has no fields"),
            (r#"{"type":"record","fields":[]}"#, "No name in schema"),
            (r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "No field type: a (at /fields/0)"),
            (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"x.y"}]}"#, "(at /fields/0/type)"),
            (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#, "Duplicate field a"),
            (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}"#, "Invalid default for field a"),
            (r#"{"type":"enum","name":"E","symbols":["A","A"]}"#, "Duplicate enum symbol: A"),
            (r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#, "The Enum Default: B"),
            (r#"{"type":"enum","name":"E","symbols":["ĐỎ"]}"#, "Illegal name"),
            (r#"{"type":"fixed","name":"F","size":-1}"#, "Invalid or no size"),
            (r#"["int",{"type":"int","logicalType":"date"}]"#, "Duplicate in union: int"),
            (r#"["int",["null"]]"#, "Nested union"),
            (r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#, "Can't redefine: F (at /1)"),
        ];
        for (text, reason) in cases {
            let said = refused(text);
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    #[test]
    fn a_type_refers_to_itself_and_to_what_referenced_schemas_define() {
        let other = r#"{"type":"record","name":"Agency","namespace":"hub","fields":[{"name":"code","type":"string"}]}"#;
        let text = r#"{"type":"record","name":"Node","namespace":"hub","fields":[
            {"name":"next","type":["null","Node"],"default":null},{"name":"agency","type":"hub.Agency"}]}"#;
        assert!(Schema::parse(text, &[other]).is_ok());
        assert!(Schema::parse(text, &[]).unwrap_err().reason.contains("Undefined name: \"hub.Agency\""));
    }

    #[test]
    fn every_schema_that_is_accepted_here_is_accepted_by_apache_avro() {
        let texts = [
            r#""string""#,
            r#"["null",{"type":"long","logicalType":"timestamp-millis"}]"#,
            r#"{"type":"map","values":{"type":"array","items":"double"}}"#,
            r#"{"type":"record","name":"a.b.R","aliases":["Old"],"fields":[{"name":"x","type":{"type":"fixed","name":"F","size":4}},
                {"name":"y","type":["null","F"],"default":null},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"],"default":"A"}}]}"#,
        ];
        for text in texts {
            assert!(Schema::parse(text, &[]).is_ok(), "{text}");
            assert!(apache_avro::Schema::parse_str(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn no_damage_to_a_text_makes_the_parser_panic_and_what_it_accepts_prints_and_parses_again() {
        let text = r#"{"type":"record","name":"a.R","aliases":["Old"],"fields":[{"name":"x","type":["null",{"type":"map","values":"R"}],
            "default":null},{"name":"e","type":{"type":"enum","name":"E","symbols":["A"],"default":"A"}},
            {"name":"f","type":{"type":"fixed","name":"F","size":4},"order":"ignore"}]}"#;
        let mut accepted = 0;
        for at in 0..text.len() {
            for damage in ["", "\"", "{", "[", "0", "-", ".", "\u{1}", "null", "\"R\""] {
                let damaged = format!("{}{damage}{}", &text[..at], &text[at + 1..]);
                if let Ok(schema) = Schema::parse(&damaged, &[]) {
                    accepted += 1;
                    let printed = schema.canonical();
                    assert_eq!(Schema::parse(&printed, &[]).unwrap().canonical(), printed, "{damaged}");
                }
            }
        }
        assert!(accepted > 100, "the damage is not so great that nothing is left: {accepted}");
    }
}
