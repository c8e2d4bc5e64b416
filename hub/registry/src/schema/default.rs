//! Whether a JSON value can be the default of a field: Avro's JSON encoding, unions by any of their branches.

use serde_json::Value;

use super::{Kind, NodeId, Schema};

/// True where `value` is the JSON form of a value of the type. Ends for recursive types too: each step goes into the value.
pub(super) fn fits(schema: &Schema, id: NodeId, value: &Value) -> bool {
    match &schema.node(id).kind {
        Kind::Null => value.is_null(),
        Kind::Boolean => value.is_boolean(),
        Kind::Int => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Kind::Long => value.as_i64().is_some(),
        Kind::Float | Kind::Double => {
            // Avro's Java parser writes these three words for what JSON has no numbers for.
            value.is_number() || matches!(value.as_str(), Some("NaN" | "Infinity" | "-Infinity"))
        }
        // Bytes are written as text whose characters are the bytes.
        Kind::Bytes => value.as_str().is_some_and(is_bytes),
        Kind::String => value.is_string(),
        Kind::Fixed(fixed) => {
            value.as_str().is_some_and(|text| is_bytes(text) && u64::try_from(text.chars().count()).is_ok_and(|n| n == fixed.size))
        }
        Kind::Enum(symbols) => value.as_str().is_some_and(|text| symbols.symbols.iter().any(|symbol| symbol == text)),
        Kind::Array(items) => value.as_array().is_some_and(|list| list.iter().all(|item| fits(schema, *items, item))),
        Kind::Map(values) => value.as_object().is_some_and(|map| map.values().all(|item| fits(schema, *values, item))),
        Kind::Union(branches) => branches.iter().any(|branch| fits(schema, *branch, value)),
        Kind::Record(record) => value.as_object().is_some_and(|map| {
            record.fields.iter().all(|field| match map.get(&field.name) {
                Some(value) => fits(schema, field.schema, value),
                None => field.default.is_some(),
            })
        }),
    }
}

fn is_bytes(text: &str) -> bool {
    text.chars().all(|c| u32::from(c) < 256)
}
