//! What each Avro type is in Arrow, and what would fit in place of one that has no place in a canonical record.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, TimeUnit};
use serde_json::{Map, Value};

/// The largest precision that fits an Arrow `Decimal128`.
const MAX_PRECISION: u64 = 38;

/// The type without the null of its union, and whether there was one.
pub(super) fn without_null(declared: &Value) -> Result<(&Value, bool), String> {
    let Some(branches) = declared.as_array() else {
        return Ok((declared, false));
    };
    let null = Value::from("null");
    let others: Vec<&Value> = branches.iter().filter(|branch| **branch != null).collect();
    match (others.as_slice(), branches.len() - others.len()) {
        ([only], 1) => Ok((*only, true)),
        ([only], 0) => Ok((*only, false)),
        _ => Err("a union may hold one type beside \"null\"; give each meaning a field of its own".to_owned()),
    }
}

pub(super) fn symbols(inner: &Value) -> Option<StringArray> {
    if inner.get("type")?.as_str()? != "enum" {
        return None;
    }
    Some(inner.get("symbols")?.as_array()?.iter().filter_map(Value::as_str).map(Some).collect())
}

/// The Arrow type of an Avro type without null, or what would fit in its place.
pub(super) fn arrow_type(inner: &Value) -> Result<DataType, String> {
    match inner {
        Value::String(name) => primitive(name),
        Value::Object(declared) => {
            let name = declared.get("type").and_then(Value::as_str).unwrap_or_default();
            match name {
                "enum" => Ok(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))),
                "array" => list_type(declared),
                _ => match declared.get("logicalType").and_then(Value::as_str) {
                    Some(logical) => logical_type(name, logical, declared),
                    None => primitive(name),
                },
            }
        }
        _ => Err("its type must be a name or an object".to_owned()),
    }
}

fn primitive(name: &str) -> Result<DataType, String> {
    Ok(match name {
        "boolean" => DataType::Boolean,
        "int" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "bytes" => DataType::Binary,
        "string" => DataType::Utf8,
        "record" => return Err("a record within a record is not supported: give each part a field, as in address_street".to_owned()),
        "map" => return Err("map is not supported: use a string that holds JSON, or an array of strings".to_owned()),
        "fixed" => return Err("fixed is not supported: use bytes".to_owned()),
        "null" => return Err("null alone is not supported: use a union of null and a type".to_owned()),
        other => {
            return Err(format!(
                "type {other:?} is not supported: use boolean, int, long, float, double, string, bytes, enum, array of strings, \
                 or a logical type (date, time-micros, timestamp-micros, local-timestamp-micros, decimal, uuid)"
            ));
        }
    })
}

fn list_type(declared: &Map<String, Value>) -> Result<DataType, String> {
    let (items, nullable) = without_null(declared.get("items").unwrap_or(&Value::Null))?;
    match items.as_str() {
        Some("string") => Ok(DataType::List(Arc::new(Field::new("item", DataType::Utf8, nullable)))),
        _ => Err("an array may hold strings alone: write numbers as text, or make an entity of the items".to_owned()),
    }
}

fn logical_type(name: &str, logical: &str, declared: &Map<String, Value>) -> Result<DataType, String> {
    let utc = || Some(Arc::from("UTC"));
    Ok(match (name, logical) {
        ("int", "date") => DataType::Date32,
        ("int", "time-millis") => DataType::Time32(TimeUnit::Millisecond),
        ("long", "time-micros") => DataType::Time64(TimeUnit::Microsecond),
        ("long", "timestamp-millis") => DataType::Timestamp(TimeUnit::Millisecond, utc()),
        ("long", "timestamp-micros") => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        ("long", "local-timestamp-millis") => DataType::Timestamp(TimeUnit::Millisecond, None),
        ("long", "local-timestamp-micros") => DataType::Timestamp(TimeUnit::Microsecond, None),
        ("string", "uuid") => DataType::Utf8,
        ("bytes", "decimal") => return decimal(declared),
        (_, "decimal") => return Err(format!("decimal on {name} is not supported: use decimal on bytes")),
        _ => {
            return Err(format!(
                "logical type {logical:?} on {name} is not supported: use date on int, time-micros, timestamp-micros or \
                 local-timestamp-micros on long, decimal on bytes, uuid on string"
            ));
        }
    })
}

fn decimal(declared: &Map<String, Value>) -> Result<DataType, String> {
    let number = |key| declared.get(key).map_or(Some(0), Value::as_u64);
    match (number("precision"), number("scale")) {
        (Some(precision), Some(scale)) if (1..=MAX_PRECISION).contains(&precision) && scale <= precision => {
            let fits = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
            let scale = i8::try_from(scale).map_err(|_| "its scale is too large".to_owned())?;
            Ok(DataType::Decimal128(fits(precision), scale))
        }
        _ => Err(format!("a decimal needs \"precision\" 1 to {MAX_PRECISION} and \"scale\" 0 to the precision")),
    }
}

/// Whether null is the first branch of a union: then only null may be its default.
pub(super) fn starts_with_null(declared: &Value) -> bool {
    declared.as_array().and_then(|branches| branches.first()) == Some(&Value::from("null"))
}
