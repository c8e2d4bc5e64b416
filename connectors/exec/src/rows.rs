//! Records into Arrow columns: one row's cells as text first, so that it can be compared, then column by column.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Int64Builder, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::Digest;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::schema::{ColumnShape, Kind};

/// Columns of a stream at most: records whose members are values of something would make one for each.
const COLUMNS: usize = 2_000;

/// What a cell was in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Json {
    #[default]
    Null,
    Boolean,
    Number,
    Text,
    /// An object or a list, as its text.
    Nested,
}

/// A cell of the row that is looked at: a part of its text.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    kind: Json,
    start: usize,
    end: usize,
}

/// Why a row cannot be taken as it is. Never with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its column, where one is to blame.
    pub(crate) column: Option<Arc<str>>,
    /// Stable code.
    pub(crate) code: &'static str,
    /// In words.
    pub(crate) why: String,
}

enum Builder {
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    Text(StringBuilder),
}

/// The columns of a stream, the rows that wait in them, and the row that is looked at.
pub(crate) struct Rows {
    shapes: Vec<ColumnShape>,
    places: HashMap<String, usize>,
    /// Digest of each column's name, with which those of its values begin.
    seeds: Vec<Digest>,
    builders: Vec<Builder>,
    /// Whether members that no column has become one.
    is_open: bool,
    rows: usize,
    bytes: usize,
    text: String,
    cells: Vec<Cell>,
}

impl Rows {
    /// With these columns; `is_open`: members of records that have none get one.
    pub(crate) fn new(shapes: &[ColumnShape], is_open: bool) -> Self {
        let mut rows = Self {
            shapes: Vec::new(),
            places: HashMap::new(),
            seeds: Vec::new(),
            builders: Vec::new(),
            is_open,
            rows: 0,
            bytes: 0,
            text: String::new(),
            cells: Vec::new(),
        };
        shapes.iter().for_each(|shape| rows.learn(shape));
        rows
    }

    /// Adds a column, unless one has its name.
    pub(crate) fn learn(&mut self, shape: &ColumnShape) {
        if self.places.contains_key(&shape.name) {
            return;
        }
        let mut builder = Builder::of(shape.kind);
        (0..self.rows).for_each(|_| builder.null());
        self.builders.push(builder);
        let mut seed = Digest::default();
        seed.value(Some(shape.name.as_bytes()));
        self.seeds.push(seed);
        self.places.insert(shape.name.clone(), self.shapes.len());
        self.shapes.push(shape.clone());
        self.cells.push(Cell::default());
    }

    /// Place of a column.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Looks at a record: its cells are there until the next one. What is wrong with it, where it is no row.
    pub(crate) fn look(&mut self, record: &RawValue) -> Result<(), Fault> {
        self.text.clear();
        self.cells.fill(Cell::default());
        let wrong = |why: &str| Fault { column: None, code: "undecodable", why: why.to_owned() };
        if !record.get().starts_with('{') {
            return Err(wrong("the record is no object"));
        }
        let mut fault = None;
        let members = Members(|name: &str, value: &RawValue| {
            if let Err(found) = self.cell(name, value) {
                fault.get_or_insert(found);
            }
        });
        let mut reader = serde_json::Deserializer::from_str(record.get());
        if members.read(&mut reader).is_err() {
            return Err(wrong("the record is no JSON object"));
        }
        fault.map_or(Ok(()), Err)
    }

    fn cell(&mut self, name: &str, value: &RawValue) -> Result<(), Fault> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None if !self.is_open => return Ok(()),
            None if self.shapes.len() >= COLUMNS => {
                let why = format!("it has a member beside the {COLUMNS} columns that a stream may have");
                return Err(Fault { column: None, code: "too-many-columns", why });
            }
            None => {
                self.learn(&ColumnShape::untyped(name));
                self.shapes.len() - 1
            }
        };
        let (raw, start) = (value.get(), self.text.len());
        let kind = match raw.as_bytes().first() {
            Some(b'"') => {
                let plain = &raw[1..raw.len() - 1];
                if plain.contains('\\') {
                    let text: String = serde_json::from_str(raw).map_err(|_| Fault {
                        column: Some(name.into()),
                        code: "undecodable",
                        why: "its text has an escape that stands for no letter".to_owned(),
                    })?;
                    self.text.push_str(&text);
                } else {
                    self.text.push_str(plain);
                }
                Json::Text
            }
            Some(b'n') => Json::Null,
            Some(b't' | b'f') => Json::Boolean,
            Some(b'{' | b'[') => Json::Nested,
            _ => Json::Number,
        };
        if !matches!(kind, Json::Text | Json::Null) {
            self.text.push_str(raw);
        }
        self.cells[place] = Cell { kind, start, end: self.text.len() };
        Ok(())
    }

    /// The text of a cell of the row that is looked at; `None` for null.
    pub(crate) fn text(&self, place: usize) -> Option<&str> {
        let cell = self.cells.get(place)?;
        (cell.kind != Json::Null).then(|| &self.text[cell.start..cell.end])
    }

    /// The text of a cell that can be part of a key: a single value.
    pub(crate) fn key_part(&self, place: usize) -> Option<&str> {
        (self.cells.get(place)?.kind != Json::Nested).then(|| self.text(place))?
    }

    /// A digest that does not depend on the order of the columns, or on columns without a value.
    pub(crate) fn digest(&self) -> u64 {
        let mut sum = 0u64;
        for (place, seed) in self.seeds.iter().enumerate() {
            if let Some(text) = self.text(place) {
                let mut digest = *seed;
                digest.value(Some(text.as_bytes()));
                sum = sum.wrapping_add(digest.finish());
            }
        }
        sum
    }

    /// Whether a cell of the row that is looked at is not of its column's type.
    pub(crate) fn has_fault(&self) -> bool {
        let wrong = |(cell, builder): (&Cell, &Builder)| !builder.fits(cell.kind, &self.text[cell.start..cell.end]);
        self.cells.iter().zip(&self.builders).any(wrong)
    }

    /// Adds the row that is looked at to those that wait. What is wrong with a cell, which is null then.
    pub(crate) fn tell(&mut self) -> Option<Fault> {
        let mut fault = None;
        for (place, builder) in self.builders.iter_mut().enumerate() {
            let cell = self.cells[place];
            let text = &self.text[cell.start..cell.end];
            if let Err(expected) = builder.add(cell.kind, text) {
                let why = format!("it is {}, where the schema says {expected}", cell.kind.words());
                fault.get_or_insert_with(|| Fault { column: Some(self.shapes[place].name.as_str().into()), code: "wrong-type", why });
            }
        }
        self.rows += 1;
        self.bytes += self.text.len() + self.builders.len();
        fault
    }

    /// Rows that wait.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Bytes of the rows that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The columns so far.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.shapes.iter().map(ColumnShape::field).collect::<Vec<_>>()))
    }

    /// The rows that wait, and begins anew with the same columns.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = self.builders.iter_mut().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.schema(), columns, &options)
    }
}

impl Json {
    fn words(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a truth value",
            Self::Number => "a number that is not whole or too large",
            Self::Text => "a text",
            Self::Nested => "an object or a list",
        }
    }
}

impl Builder {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Integer => Self::Integer(Int64Builder::new()),
            Kind::Boolean => Self::Boolean(BooleanBuilder::new()),
            Kind::Text => Self::Text(StringBuilder::new()),
        }
    }

    fn null(&mut self) {
        match self {
            Self::Integer(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
        }
    }

    /// Whether a cell is of the column's type.
    fn fits(&self, kind: Json, text: &str) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Boolean(_) => matches!(kind, Json::Null | Json::Boolean),
            Self::Integer(_) => kind == Json::Null || (kind == Json::Number && whole_number(text).is_some()),
        }
    }

    /// Adds a cell. Where it is not of the column's type it is null, and what it should be comes back.
    fn add(&mut self, kind: Json, text: &str) -> Result<(), &'static str> {
        if kind == Json::Null {
            self.null();
            return Ok(());
        }
        match self {
            Self::Text(builder) => builder.append_value(text),
            Self::Boolean(builder) if kind == Json::Boolean => builder.append_value(text == "true"),
            Self::Boolean(builder) => {
                builder.append_null();
                return Err("a truth value");
            }
            Self::Integer(builder) => match whole_number(text).filter(|_| kind == Json::Number) {
                Some(number) => builder.append_value(number),
                None => {
                    builder.append_null();
                    return Err("a whole number of 64 bits");
                }
            },
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
        }
    }
}

/// A whole number, also as Python writes one that was a float: `12.0`.
fn whole_number(text: &str) -> Option<i64> {
    let digits = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    digits.parse().ok()
}

/// Calls its function with every member of a JSON object, without holding any.
struct Members<F>(F);

impl<F: FnMut(&str, &RawValue)> Members<F> {
    fn read<'de, D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str, &RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            (self.0)(&name, value);
        }
        Ok(())
    }
}

/// A member's name, borrowed where nothing in it is escaped.
struct Name<'a>(std::borrow::Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(name.into()))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(name.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;
    use serde_json::json;

    use super::*;

    fn rows() -> Rows {
        let schema = json!({"properties": {"id": {"type": "integer"}, "t": {"type": "string"}, "b": {"type": "boolean"}}});
        Rows::new(&crate::schema::columns(&schema), true)
    }

    fn look(rows: &mut Rows, record: &str) -> Result<(), Fault> {
        rows.look(serde_json::from_str(record).unwrap())
    }

    #[test]
    fn records_become_columns_and_new_members_columns_of_their_own() {
        let mut rows = rows();
        for record in [
            r#"{"id": 9007199254740993, "t": "\u0110\u1eb7ng", "b": true}"#,
            r#"{"b": null, "id": 12.0, "n": 2.50, "o": {"a": [1, 2.50]}}"#,
            r#"{"id": -1, "t": 7, "n": NaN}"#.replace("NaN", "\"NaN\"").as_str(),
        ] {
            look(&mut rows, record).unwrap();
            assert_eq!(rows.tell(), None, "{record}");
        }
        let batch = rows.finish().unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[9_007_199_254_740_993, 12, -1]);
        let text = |place: usize| batch.column(place).as_string::<i32>().iter().map(|cell| cell.map(str::to_owned)).collect::<Vec<_>>();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(text(1), [some("Đặng"), None, some("7")]);
        assert_eq!(text(3), [None, some("2.50"), some("NaN")]);
        assert_eq!(text(4), [None, some(r#"{"a": [1, 2.50]}"#), None]);
        assert_eq!(batch.column(2).null_count(), 2);
        assert_eq!((rows.len(), rows.bytes()), (0, 0));
    }

    #[test]
    fn a_value_that_is_not_of_its_type_is_told_without_it() {
        let mut rows = rows();
        for (record, column) in
            [(r#"{"id": "079090000001"}"#, "id"), (r#"{"id": 1.5}"#, "id"), (r#"{"id": 9223372036854775808}"#, "id"), (r#"{"b": 1}"#, "b")]
        {
            look(&mut rows, record).unwrap();
            assert!(rows.has_fault());
            let fault = rows.tell().unwrap();
            assert_eq!((fault.column.as_deref(), fault.code), (Some(column), "wrong-type"));
            assert!(!fault.why.contains("0790"), "{}", fault.why);
        }
        assert_eq!(rows.finish().unwrap().num_rows(), 4);
        assert_eq!(look(&mut rows, "[1]").unwrap_err().code, "undecodable");
        assert_eq!(look(&mut rows, r#"{"t": "\ud83d"}"#).unwrap_err().column.as_deref(), Some("t"));
    }

    #[test]
    fn the_order_of_members_and_absent_ones_are_no_change() {
        let mut rows = rows();
        let mut digest = |record: &str| {
            look(&mut rows, record).unwrap();
            rows.digest()
        };
        assert_eq!(digest(r#"{"id": 1, "t": "a", "b": null}"#), digest(r#"{"t": "a", "id": 1}"#));
        assert_ne!(digest(r#"{"id": 1, "t": "a"}"#), digest(r#"{"id": 1, "t": ""}"#));
        assert_ne!(digest(r#"{"id": 1, "t": ""}"#), digest(r#"{"id": 1}"#));
    }
}
