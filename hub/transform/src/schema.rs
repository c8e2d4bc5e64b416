//! Reads a canonical entity (`schemas/<domain>/<Entity>.avsc`) and says what its columns are in Arrow.
//!
//! One Avro record is the contract with subscribers. Every fault of a file is reported together, each with its place
//! and with what would fit instead.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use arrow_avro::schema::AVRO_ENUM_SYMBOLS_METADATA_KEY;
use serde_json::{Map, Value};

/// Attribute of a field that says whether it holds data about a person.
pub const PRIVACY: &str = "hub.privacy";
/// Attribute of a field whose values come from a code list, and Arrow metadata key of the same.
pub const CODES: &str = "hub.codes";

/// The largest precision that fits an Arrow `Decimal128`.
const MAX_PRECISION: u64 = 38;

/// A name for people, in Vietnamese and English.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Titles {
    /// Vietnamese, with its diacritics.
    pub vi: Arc<str>,
    /// English.
    pub en: Arc<str>,
}

/// What the law on personal data (91/2025) makes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privacy {
    /// Not about a person.
    None,
    /// Basic personal data.
    Personal,
    /// Sensitive personal data: health, biometrics, finance, religion, ethnic origin.
    Sensitive,
}

impl Privacy {
    /// The word used in schemas.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Personal => "personal",
            Self::Sensitive => "sensitive",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::None, Self::Personal, Self::Sensitive].into_iter().find(|privacy| privacy.word() == word)
    }
}

/// One field of a canonical entity.
#[derive(Clone, Debug)]
pub struct CanonicalField {
    name: Arc<str>,
    titles: Titles,
    doc: Arc<str>,
    privacy: Privacy,
    codes: Option<Arc<str>>,
    nullable: bool,
    default: Option<Value>,
    symbols: Option<StringArray>,
    avro: Value,
    arrow: Field,
}

impl CanonicalField {
    /// Its name, English and in snake case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its names for people.
    #[must_use]
    pub fn titles(&self) -> &Titles {
        &self.titles
    }

    /// What it means, in English; empty where the schema does not say.
    #[must_use]
    pub fn doc(&self) -> &str {
        &self.doc
    }

    /// Whether it holds data about a person.
    #[must_use]
    pub fn privacy(&self) -> Privacy {
        self.privacy
    }

    /// The code list its values come from (`dossier-status` is `schemas/codes/dossier-status.csv`).
    #[must_use]
    pub fn codes(&self) -> Option<&str> {
        self.codes.as_deref()
    }

    /// Whether it may be absent from a record.
    #[must_use]
    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// Whether a mapping may leave it out.
    #[must_use]
    pub fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// The Avro default, as JSON.
    #[must_use]
    pub fn default(&self) -> Option<&Value> {
        self.default.as_ref()
    }

    /// The symbols of an enum, in Avro's order.
    #[must_use]
    pub fn symbols(&self) -> Option<&StringArray> {
        self.symbols.as_ref()
    }

    /// Its Arrow type.
    #[must_use]
    pub fn data_type(&self) -> &DataType {
        self.arrow.data_type()
    }

    /// Its Avro field as it stands in the schema.
    #[must_use]
    pub(crate) fn avro(&self) -> &Value {
        &self.avro
    }

    /// Text as the dictionary column that an enum field needs, with the rows whose text is no symbol (null there).
    /// `None` where the field is no enum.
    #[must_use]
    pub fn to_symbols(&self, text: &StringArray) -> Option<(ArrayRef, Vec<usize>)> {
        let symbols = self.symbols.as_ref()?;
        let places: HashMap<&str, i32> = symbols.iter().flatten().zip(0..).collect();
        let mut strangers = Vec::new();
        let keys: Int32Array = text
            .iter()
            .enumerate()
            .map(|(row, value)| {
                let place = places.get(value?).copied();
                if place.is_none() {
                    strangers.push(row);
                }
                place
            })
            .collect();
        let column = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(symbols.clone())).ok()?;
        Some((Arc::new(column), strangers))
    }
}

/// One thing wrong with a canonical schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct SchemaFault {
    /// Where: `field "fee"`, `record`.
    pub place: String,
    /// What is wrong, and what would fit.
    pub message: String,
}

/// A text that is no canonical schema, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("canonical schema {name:?} cannot be used: {}", list(.faults))]
pub struct SchemaError {
    /// The record's name, as far as it could be read.
    pub name: String,
    /// All faults.
    pub faults: Vec<SchemaFault>,
}

fn list(faults: &[SchemaFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A checked canonical entity.
#[derive(Clone, Debug)]
pub struct CanonicalSchema {
    name: Arc<str>,
    namespace: Arc<str>,
    titles: Titles,
    doc: Arc<str>,
    json: Arc<str>,
    arrow: SchemaRef,
    fields: Arc<[CanonicalField]>,
}

impl CanonicalSchema {
    /// Reads one Avro record in JSON.
    ///
    /// # Errors
    /// [`SchemaError`] lists every fault: no title, no privacy tag, a type that has no place in a canonical record,
    /// a default that does not fit, and whatever Avro itself refuses.
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        let record: Value = serde_json::from_str(json).map_err(|cause| SchemaError {
            name: String::new(),
            faults: vec![fault("record", format!("it is not JSON: {cause}"))],
        })?;
        let text = |key| record.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text("name").to_owned();
        let mut faults = Vec::new();
        if text("type") != "record" {
            faults.push(fault("record", "the outermost type must be \"record\"".to_owned()));
        }
        let titles = titles(&record, "record", &mut faults);
        let listed = record.get("fields").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if listed.is_empty() {
            faults.push(fault("record", "it has no \"fields\"".to_owned()));
        }
        let fields: Vec<CanonicalField> = listed.iter().filter_map(|field| read_field(field, &mut faults)).collect();
        check_names(&record, &mut faults);
        // Judged last and only where names are names: apache-avro panics on some that are none.
        if faults.is_empty()
            && let Err(cause) = apache_avro::Schema::parse_str(json)
        {
            faults.push(fault("record", format!("Avro refuses it: {cause}")));
        }
        if !faults.is_empty() {
            return Err(SchemaError { name, faults });
        }
        Ok(Self {
            name: name.as_str().into(),
            namespace: text("namespace").into(),
            titles,
            doc: text("doc").into(),
            json: record.to_string().into(),
            arrow: Arc::new(Schema::new(fields.iter().map(|field| field.arrow.clone()).collect::<Vec<_>>())),
            fields: fields.into(),
        })
    }

    /// The record's own name, `Dossier`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its Avro namespace, `public_admin`; empty where it has none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its names for people.
    #[must_use]
    pub fn titles(&self) -> &Titles {
        &self.titles
    }

    /// What it describes, in English; empty where the schema does not say.
    #[must_use]
    pub fn doc(&self) -> &str {
        &self.doc
    }

    /// The schema as compact JSON, attributes included: the same text for files that differ in white space alone.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The columns of a batch of such records. An enum is a dictionary over all its symbols, in Avro's order.
    #[must_use]
    pub fn arrow(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }

    /// The fields, in order.
    #[must_use]
    pub fn fields(&self) -> &[CanonicalField] {
        &self.fields
    }

    /// One field by name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&CanonicalField> {
        self.fields.iter().find(|field| &*field.name == name)
    }
}

fn fault(place: &str, message: String) -> SchemaFault {
    SchemaFault { place: place.to_owned(), message }
}

/// Every name of the schema, at any depth, must be one in Avro's eyes: a letter or `_`, then letters, digits and `_`.
fn check_names(holder: &Value, faults: &mut Vec<SchemaFault>) {
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match holder {
        Value::Array(items) => items.iter().for_each(|item| check_names(item, faults)),
        Value::Object(members) => {
            if let Some(name) = members.get("name").and_then(Value::as_str)
                && !is_name(name)
            {
                faults.push(fault("record", format!("{name:?} is no Avro name: use letters, digits and _, not beginning with a digit")));
            }
            if let Some(namespace) = members.get("namespace").and_then(Value::as_str)
                && !namespace.is_empty()
                && !namespace.split('.').all(is_name)
            {
                faults.push(fault("record", format!("{namespace:?} is no Avro namespace: use names joined by dots")));
            }
            for within in ["fields", "type", "items", "values"] {
                members.get(within).into_iter().for_each(|member| check_names(member, faults));
            }
        }
        _ => {}
    }
}

fn titles(holder: &Value, place: &str, faults: &mut Vec<SchemaFault>) -> Titles {
    let mut take = |language: &str| -> Arc<str> {
        let found = holder.get("title").and_then(|title| title.get(language)).and_then(Value::as_str).unwrap_or_default();
        if found.trim().is_empty() {
            faults.push(fault(place, format!("it needs \"title\": {{\"vi\": …, \"en\": …}}; {language:?} is missing")));
        }
        found.into()
    };
    Titles { vi: take("vi"), en: take("en") }
}

fn read_field(field: &Value, faults: &mut Vec<SchemaFault>) -> Option<CanonicalField> {
    let Some(name) = field.get("name").and_then(Value::as_str) else {
        faults.push(fault("record", "a field has no \"name\"".to_owned()));
        return None;
    };
    let place = format!("field {name:?}");
    let titles = titles(field, &place, faults);
    let privacy = privacy(field, &place, faults);
    let codes = codes(field, &place, faults);
    let Some(declared) = field.get("type") else {
        faults.push(fault(&place, "it has no \"type\"".to_owned()));
        return None;
    };
    let (inner, nullable) = match without_null(declared) {
        Ok(found) => found,
        Err(message) => {
            faults.push(fault(&place, message));
            return None;
        }
    };
    let default = field.get("default").cloned();
    if nullable && default.as_ref().is_some_and(|value| !value.is_null()) && starts_with_null(declared) {
        faults.push(fault(&place, "a default other than null needs the union to begin with the value's type".to_owned()));
    }
    let data_type = match arrow_type(inner) {
        Ok(found) => found,
        Err(message) => {
            faults.push(fault(&place, message));
            return None;
        }
    };
    let symbols = symbols(inner);
    let mut metadata = HashMap::new();
    if let Some(found) = &symbols {
        let names: Vec<&str> = found.iter().flatten().collect();
        metadata.insert(AVRO_ENUM_SYMBOLS_METADATA_KEY.to_owned(), Value::from(names).to_string());
    }
    if let Some(found) = &codes {
        metadata.insert(CODES.to_owned(), found.to_string());
    }
    Some(CanonicalField {
        name: name.into(),
        titles,
        doc: field.get("doc").and_then(Value::as_str).unwrap_or_default().into(),
        privacy,
        codes,
        nullable,
        default,
        symbols,
        avro: field.clone(),
        arrow: Field::new(name, data_type, nullable).with_metadata(metadata),
    })
}

fn privacy(field: &Value, place: &str, faults: &mut Vec<SchemaFault>) -> Privacy {
    let word = field.get(PRIVACY).and_then(Value::as_str).unwrap_or_default();
    Privacy::of_word(word).unwrap_or_else(|| {
        faults.push(fault(place, format!("it needs {PRIVACY:?}: \"none\", \"personal\" or \"sensitive\"")));
        Privacy::None
    })
}

fn codes(field: &Value, place: &str, faults: &mut Vec<SchemaFault>) -> Option<Arc<str>> {
    let given = field.get(CODES)?;
    let name = given.as_str().unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(fits) {
        faults.push(fault(place, format!("{CODES:?} must name a file of schemas/codes in a-z, 0-9 and -, without .csv")));
        return None;
    }
    Some(name.into())
}

fn starts_with_null(declared: &Value) -> bool {
    declared.as_array().and_then(|branches| branches.first()) == Some(&Value::from("null"))
}

/// The type without the null of its union, and whether there was one.
fn without_null(declared: &Value) -> Result<(&Value, bool), String> {
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

fn symbols(inner: &Value) -> Option<StringArray> {
    if inner.get("type")?.as_str()? != "enum" {
        return None;
    }
    Some(inner.get("symbols")?.as_array()?.iter().filter_map(Value::as_str).map(Some).collect())
}

/// The Arrow type of an Avro type without null, or what would fit in its place.
fn arrow_type(inner: &Value) -> Result<DataType, String> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"Probe","namespace":"test","title":{{"vi":"Thử","en":"Probe"}},"fields":[{fields}]}}"#)
    }

    fn field(name: &str, of: &str) -> String {
        format!(r#"{{"name":"{name}","type":{of},"title":{{"vi":"Tên","en":"Name"}},"hub.privacy":"none"}}"#)
    }

    fn type_of(of: &str) -> DataType {
        CanonicalSchema::parse(&record(&field("a", of))).unwrap().arrow().field(0).data_type().clone()
    }

    #[test]
    fn every_supported_type_has_its_arrow_type() {
        let utc = || Some(Arc::from("UTC"));
        for (avro, arrow) in [
            (r#""string""#, DataType::Utf8),
            (r#"["null","int"]"#, DataType::Int32),
            (r#"["long","null"]"#, DataType::Int64),
            (r#""float""#, DataType::Float32),
            (r#""double""#, DataType::Float64),
            (r#""boolean""#, DataType::Boolean),
            (r#""bytes""#, DataType::Binary),
            (r#"{"type":"string"}"#, DataType::Utf8),
            (r#"{"type":"bytes","logicalType":"decimal","precision":14,"scale":2}"#, DataType::Decimal128(14, 2)),
            (r#"{"type":"bytes","logicalType":"decimal","precision":38}"#, DataType::Decimal128(38, 0)),
            (r#"{"type":"int","logicalType":"date"}"#, DataType::Date32),
            (r#"{"type":"long","logicalType":"time-micros"}"#, DataType::Time64(TimeUnit::Microsecond)),
            (r#"{"type":"long","logicalType":"timestamp-millis"}"#, DataType::Timestamp(TimeUnit::Millisecond, utc())),
            (r#"{"type":"long","logicalType":"timestamp-micros"}"#, DataType::Timestamp(TimeUnit::Microsecond, utc())),
            (r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, DataType::Timestamp(TimeUnit::Microsecond, None)),
            (r#"{"type":"string","logicalType":"uuid"}"#, DataType::Utf8),
            (r#"{"type":"array","items":"string"}"#, DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)))),
        ] {
            assert_eq!(type_of(avro), arrow, "{avro}");
        }
    }

    #[test]
    fn an_enum_is_a_dictionary_that_keeps_its_symbols() {
        let schema = CanonicalSchema::parse(&record(&field("a", r#"["null",{"type":"enum","name":"Level","symbols":["LOW","HIGH"]}]"#))).unwrap();
        let arrow = schema.arrow();
        assert!(matches!(arrow.field(0).data_type(), DataType::Dictionary(..)));
        assert_eq!(arrow.field(0).metadata()[AVRO_ENUM_SYMBOLS_METADATA_KEY], r#"["LOW","HIGH"]"#);
        let text = StringArray::from(vec![Some("HIGH"), None, Some("MIDDLE"), Some("LOW")]);
        let (column, strangers) = schema.field("a").unwrap().to_symbols(&text).unwrap();
        assert_eq!(strangers, [2]);
        let keys = column.as_any().downcast_ref::<DictionaryArray<Int32Type>>().unwrap().keys().clone();
        assert_eq!(keys, Int32Array::from(vec![Some(1), None, None, Some(0)]));
    }

    #[test]
    fn all_faults_are_reported_together_with_what_would_fit() {
        let fields = [
            r#"{"name":"bare","type":"string"}"#.to_owned(),
            field("deep", r#"{"type":"record","name":"In","fields":[]}"#),
            field("wide", r#"{"type":"bytes","logicalType":"decimal","precision":60,"scale":2}"#),
            field("either", r#"["null","string","int"]"#),
            field("numbers", r#"{"type":"array","items":"int"}"#),
        ];
        let error = CanonicalSchema::parse(&record(&fields.join(","))).unwrap_err();
        let places: Vec<&str> = error.faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(
            places,
            ["field \"bare\"", "field \"bare\"", "field \"bare\"", "field \"deep\"", "field \"wide\"", "field \"either\"", "field \"numbers\""]
        );
        let text = error.to_string();
        for part in ["\"vi\" is missing", "hub.privacy", "address_street", "1 to 38", "beside \"null\"", "strings alone"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn what_avro_refuses_is_a_fault_too() {
        for of in [
            r#"{"type":"enum","name":"9","symbols":["A"]}"#,
            r#"{"type":"enum","name":"E","namespace":"a-b","symbols":["A"]}"#,
            r#"{"type":"enum","name":"E","symbols":["A","A"]}"#] {
            assert!(CanonicalSchema::parse(&record(&field("a", of))).is_err(), "{of}");
        }
        assert!(CanonicalSchema::parse("{").unwrap_err().to_string().contains("not JSON"));
    }

    #[test]
    fn the_text_of_a_schema_does_not_depend_on_white_space() {
        let dense = record(&field("a", r#""string""#));
        let airy = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&dense).unwrap()).unwrap();
        let (dense, airy) = (CanonicalSchema::parse(&dense).unwrap(), CanonicalSchema::parse(&airy).unwrap());
        assert_eq!(dense.json(), airy.json());
        assert_eq!((dense.name(), dense.namespace()), ("Probe", "test"));
    }
}
