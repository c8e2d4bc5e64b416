//! JSON schema of a stream as columns: which names there are, and what of each Arrow holds.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use hub_sdk::model::SOURCE_TYPE;
use serde_json::Value;

/// What Arrow holds of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whole numbers of 64 bits.
    Integer,
    /// Truth values.
    Boolean,
    /// Everything else, in the source's own words.
    Text,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnShape {
    /// Its name.
    pub(crate) name: String,
    /// What Arrow holds of it.
    pub(crate) kind: Kind,
    /// The schema's words for its type.
    pub(crate) source_type: String,
    /// Whether the schema allows null.
    pub(crate) nullable: bool,
    /// The schema's remark on it.
    pub(crate) comment: Option<String>,
}

impl ColumnShape {
    /// A column of which the schema says nothing.
    pub(crate) fn untyped(name: &str) -> Self {
        Self { name: name.to_owned(), kind: Kind::Text, source_type: "any".to_owned(), nullable: true, comment: None }
    }

    /// Its Arrow field.
    pub(crate) fn field(&self) -> Arc<Field> {
        let kind = match self.kind {
            Kind::Integer => DataType::Int64,
            Kind::Boolean => DataType::Boolean,
            Kind::Text => DataType::Utf8,
        };
        let metadata = HashMap::from([(SOURCE_TYPE.to_owned(), self.source_type.clone())]);
        Arc::new(Field::new(&self.name, kind, true).with_metadata(metadata))
    }
}

/// The columns of a stream's JSON schema, in its order.
pub(crate) fn columns(schema: &Value) -> Vec<ColumnShape> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    properties.iter().map(|(name, property)| column(name, property)).collect()
}

fn column(name: &str, property: &Value) -> ColumnShape {
    let mut types = Types::default();
    types.collect(property);
    let words = types.words();
    let kind = match (words.as_slice(), property["airbyte_type"].as_str()) {
        (["integer"], _) | (["number"], Some("integer")) => Kind::Integer,
        (["boolean"], _) => Kind::Boolean,
        _ => Kind::Text,
    };
    let said = if words.is_empty() { "any".to_owned() } else { words.join(" or ") };
    let detail = property["airbyte_type"].as_str().or(property["format"].as_str());
    let source_type = detail.map_or(said.clone(), |detail| format!("{said}({detail})"));
    let comment = property["description"].as_str().map(str::to_owned);
    ColumnShape { name: name.to_owned(), kind, source_type, nullable: types.has_null || words.is_empty(), comment }
}

/// The types that a schema allows, whichever way it says so.
#[derive(Default)]
struct Types<'a> {
    found: Vec<&'a str>,
    has_null: bool,
}

impl<'a> Types<'a> {
    fn collect(&mut self, schema: &'a Value) {
        match &schema["type"] {
            Value::String(one) => self.add(one),
            Value::Array(several) => several.iter().filter_map(Value::as_str).for_each(|one| self.add(one)),
            _ => {}
        }
        for choice in ["anyOf", "oneOf"] {
            schema[choice].as_array().into_iter().flatten().for_each(|one| self.collect(one));
        }
        if schema.get("$ref").is_some() {
            // What it refers to may be anything; text holds anything.
            self.add("object");
        }
    }

    fn add(&mut self, one: &'a str) {
        match one {
            "null" => self.has_null = true,
            one if !self.found.contains(&one) => self.found.push(one),
            _ => {}
        }
    }

    /// Without integers where any number is allowed.
    fn words(&self) -> Vec<&'a str> {
        let is_number = self.found.contains(&"number");
        self.found.iter().copied().filter(|word| *word != "integer" || !is_number).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_typed_where_the_schema_says_one_type_and_text_otherwise() {
        let schema = json!({"properties": {
            "a": {"type": ["null", "integer"]},
            "b": {"type": "number", "airbyte_type": "integer"},
            "c": {"type": ["integer", "number"]},
            "d": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "e": {"type": ["string", "null"], "format": "date-time"},
            "f": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
            "g": {},
            "h": {"anyOf": [{"$ref": "#/definitions/x"}, {"type": "integer"}]},
        }});
        let shown: Vec<_> = columns(&schema).into_iter().map(|column| (column.name, column.kind, column.source_type)).collect();
        let expected = [
            ("a", Kind::Integer, "integer"),
            ("b", Kind::Integer, "number(integer)"),
            ("c", Kind::Text, "number"),
            ("d", Kind::Boolean, "boolean"),
            ("e", Kind::Text, "string(date-time)"),
            ("f", Kind::Text, "integer or string"),
            ("g", Kind::Text, "any"),
            ("h", Kind::Text, "object or integer"),
        ];
        assert_eq!(shown, expected.map(|(name, kind, words)| (name.to_owned(), kind, words.to_owned())));
    }
}
