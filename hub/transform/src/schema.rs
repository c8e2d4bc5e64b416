//! Reads a canonical entity (`schemas/<domain>/<Entity>.avsc`) and says what its columns are in Arrow.
//!
//! One Avro record is the contract with subscribers. Every fault of a file is reported together, each with its place
//! and with what would fit instead.

#[cfg(test)]
mod tests;
mod types;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow_avro::schema::AVRO_ENUM_SYMBOLS_METADATA_KEY;
use serde_json::Value;

use types::{arrow_type, starts_with_null, symbols, without_null};

/// Attribute of a field that says whether it holds data about a person.
pub const PRIVACY: &str = "hub.privacy";
/// Attribute of a field whose values come from a code list, and Arrow metadata key of the same.
pub const CODES: &str = "hub.codes";

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
        let record: Value = serde_json::from_str(json)
            .map_err(|cause| SchemaError { name: String::new(), faults: vec![fault("record", format!("it is not JSON: {cause}"))] })?;
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
    let metadata = metadata(symbols.as_ref(), codes.as_deref());
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

/// What Arrow is told of a field beside its type.
fn metadata(symbols: Option<&StringArray>, codes: Option<&str>) -> HashMap<String, String> {
    let mut metadata = HashMap::new();
    if let Some(symbols) = symbols {
        let names: Vec<&str> = symbols.iter().flatten().collect();
        metadata.insert(AVRO_ENUM_SYMBOLS_METADATA_KEY.to_owned(), Value::from(names).to_string());
    }
    if let Some(codes) = codes {
        metadata.insert(CODES.to_owned(), codes.to_owned());
    }
    metadata
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
