//! The canonical entity that a mapping must fill: its columns, the symbols of its enums, its defaults.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, SchemaRef};
use arrow_avro::schema::AVRO_ENUM_SYMBOLS_METADATA_KEY;
use datafusion_common::ScalarValue;
use serde_json::Value;

use crate::functions::Fast;
use crate::schema::{CODES, CanonicalSchema};

/// What a mapping must fill.
#[derive(Clone, Debug)]
pub struct Target {
    schema: SchemaRef,
    defaults: BTreeMap<String, Value>,
}

impl Target {
    /// An Arrow schema; enums are dictionaries whose field metadata `avro.enum.symbols` lists their symbols.
    #[must_use]
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, defaults: BTreeMap::new() }
    }

    /// A canonical entity with its defaults.
    #[must_use]
    pub fn of(entity: &CanonicalSchema) -> Self {
        let defaults = entity.fields().iter().filter_map(|field| Some((field.name().to_owned(), field.default()?.clone()))).collect();
        Self { schema: entity.arrow(), defaults }
    }

    /// The columns of its records.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether a field has a default.
    pub(super) fn has_default(&self, field: &str) -> bool {
        self.defaults.contains_key(field)
    }

    /// The default of a field as a constant of the type that an expression for it has; `None` where the JSON does not fit.
    pub(super) fn default_value(&self, field: &Field) -> Option<ScalarValue> {
        let plain = evaluated_type(field);
        match self.defaults.get(field.name()) {
            None | Some(Value::Null) => ScalarValue::try_from(&plain).ok(),
            Some(Value::Bool(value)) => ScalarValue::Boolean(Some(*value)).cast_to(&plain).ok(),
            Some(Value::Number(number)) => match number.as_i64() {
                Some(whole) if is_number_of_days_or_units(&plain) => {
                    let storage = if plain == DataType::Date32 { DataType::Int32 } else { DataType::Int64 };
                    ScalarValue::Int64(Some(whole)).cast_to(&storage).and_then(|value| value.cast_to(&plain)).ok()
                }
                Some(whole) => ScalarValue::Int64(Some(whole)).cast_to(&plain).ok(),
                None => ScalarValue::Float64(number.as_f64()).cast_to(&plain).ok(),
            },
            Some(Value::String(text)) if plain == DataType::Utf8 => Some(ScalarValue::Utf8(Some(text.clone()))),
            Some(Value::Array(items)) => match &plain {
                DataType::List(item) => {
                    let texts = items
                        .iter()
                        .map(|text| text.as_str().map(|text| ScalarValue::Utf8(Some(text.to_owned()))))
                        .collect::<Option<Vec<_>>>()?;
                    ScalarValue::List(ScalarValue::new_list(&texts, item.data_type(), item.is_nullable())).cast_to(&plain).ok()
                }
                _ => None,
            },
            Some(_) => None,
        }
    }
}

fn is_number_of_days_or_units(of: &DataType) -> bool {
    matches!(of, DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_))
}

/// The type an expression must give for a field: text for an enum.
pub(super) fn evaluated_type(field: &Field) -> DataType {
    match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    }
}

/// The code list that a field's values come from, if its schema names one.
pub(super) fn code_list(field: &Field) -> Option<&str> {
    field.metadata().get(CODES).map(String::as_str)
}

/// The symbols of an enum and the way from text to their dictionary.
#[derive(Clone, Debug)]
pub(super) struct Symbols {
    names: Vec<String>,
    values: ArrayRef,
    places: HashMap<Box<str>, i32, Fast>,
}

impl Symbols {
    /// The symbols that a field's metadata lists; `None` where it is no enum.
    pub(super) fn of(field: &Field) -> Option<Self> {
        if !matches!(field.data_type(), DataType::Dictionary(..)) {
            return None;
        }
        let names: Vec<String> = serde_json::from_str(field.metadata().get(AVRO_ENUM_SYMBOLS_METADATA_KEY)?).ok()?;
        let values: ArrayRef = Arc::new(StringArray::from_iter_values(&names));
        let places = names.iter().map(|name| name.as_str().into()).zip(0..).collect();
        Some(Self { names, values, places })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Text as a dictionary over all symbols, and the rows whose text is none of them (null there).
    pub(super) fn encode(&self, texts: &ArrayRef) -> Option<(ArrayRef, Vec<usize>)> {
        let texts = texts.as_string_opt::<i32>()?;
        let mut strangers = Vec::new();
        let keys: Int32Array = texts
            .iter()
            .enumerate()
            .map(|(row, text)| {
                let place = self.places.get(text?).copied();
                if place.is_none() {
                    strangers.push(row);
                }
                place
            })
            .collect();
        let column = DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(&self.values)).ok()?;
        Some((Arc::new(column), strangers))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::datatypes::{Schema, TimeUnit};
    use serde_json::json;

    use super::*;

    #[test]
    fn avro_defaults_become_constants_of_their_field() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)));
        for (of, default, shown) in [
            (DataType::Utf8, json!("x"), "x"),
            (DataType::Int32, json!(7), "7"),
            (DataType::Boolean, json!(true), "true"),
            (DataType::Float64, json!(0.5), "0.5"),
            (DataType::Date32, json!(1), "1970-01-02"),
            (utc, json!(0), "0"),
            (list, json!([]), "[]"),
        ] {
            let field = Field::new("f", of, false);
            let target = Target { schema: Arc::new(Schema::empty()), defaults: BTreeMap::from([("f".to_owned(), default)]) };
            let value = target.default_value(&field).unwrap_or_else(|| panic!("{field}"));
            assert_eq!(&value.data_type(), field.data_type());
            assert_eq!(value.to_string(), shown);
        }
    }
}
