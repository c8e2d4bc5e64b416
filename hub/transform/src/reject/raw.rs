//! Source rows as JSON and back, exactly: what a reject keeps of a row is enough to replay it.
//!
//! Integers, finite floats and booleans are JSON's own; text is text; decimals are strings; bytes are hexadecimal; days and
//! times are ISO 8601, or the plain number where no calendar writes them (PostgreSQL's `infinity`); lists are arrays.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch,
    RecordBatchOptions, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Int64Type, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value};

use super::RejectError;

/// Member of a row whose long values were cut.
const CUT: &str = "hub.cut";
/// 0001-01-01 and 9999-12-31 as days since 1970: what ISO 8601 writes with four digits.
const WRITABLE_DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// Writes one cell.
type Writer<'a> = Box<dyn Fn(usize) -> Value + 'a>;

/// The rows of a batch, ready to be written.
pub(super) struct RawRows<'a> {
    columns: Vec<(&'a str, Writer<'a>)>,
    rows: usize,
}

impl<'a> RawRows<'a> {
    pub(super) fn new(rows: &'a RecordBatch) -> Result<Self, RejectError> {
        let mut columns = Vec::with_capacity(rows.num_columns());
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            let write = writer(column.as_ref()).map_err(|source| RejectError::Write { column: field.name().clone(), source })?;
            columns.push((column_name(rows, field), write));
        }
        Ok(Self { columns, rows: rows.num_rows() })
    }

    /// A row as a JSON object; empty for a row that is not there.
    pub(super) fn json(&self, row: usize) -> String {
        Value::Object(self.object(row)).to_string()
    }

    /// A row whose long values are cut so that it has at most about `limit` bytes. It says so of itself and cannot be replayed.
    pub(super) fn cut(&self, row: usize, limit: usize) -> String {
        // A character may take six bytes once JSON has escaped it.
        let longest = limit / (self.columns.len().max(1) * 6);
        let mut object = Map::from_iter([(CUT.to_owned(), Value::Bool(true))]);
        for (name, value) in self.object(row) {
            let value = match value {
                Value::String(text) => Value::String(shortened(text, longest)),
                Value::Array(_) | Value::Object(_) => Value::String(shortened(value.to_string(), longest)),
                short => short,
            };
            object.insert(name, value);
        }
        Value::Object(object).to_string()
    }

    fn object(&self, row: usize) -> Map<String, Value> {
        if row >= self.rows {
            return Map::new();
        }
        self.columns.iter().map(|(name, write)| ((*name).to_owned(), write(row))).collect()
    }
}

fn column_name<'a>(rows: &'a RecordBatch, field: &FieldRef) -> &'a str {
    rows.schema_ref().field_with_name(field.name()).map_or("", |found| found.name())
}

fn shortened(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
    }
    text
}

fn writer(column: &dyn Array) -> Result<Writer<'_>, ArrowError> {
    let present = present_writer(column)?;
    Ok(Box::new(move |row| if column.is_null(row) { Value::Null } else { present(row) }))
}

/// Writes cells that are not null.
fn present_writer(column: &dyn Array) -> Result<Writer<'_>, ArrowError> {
    Ok(match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            Box::new(|row| values.value(row).into())
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            let values = cast(column, &DataType::Int64)?;
            Box::new(move |row| values.as_primitive::<Int64Type>().value(row).into())
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>();
            Box::new(|row| float(&format!("{:?}", values.value(row))))
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            Box::new(|row| float(&format!("{:?}", values.value(row))))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let values = cast(column, &DataType::Binary)?;
            Box::new(move |row| values.as_binary::<i32>().value(row).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
        }
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => moment(column)?,
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let items = writer(list.values().as_ref())?;
            Box::new(move |row| {
                let (start, end) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
                (start..end).map(|item| items(usize::try_from(item).unwrap_or_default())).collect::<Vec<_>>().into()
            })
        }
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns().iter();
            let members = fields
                .iter()
                .zip(columns)
                .map(|(field, column)| Ok((field.name(), writer(column.as_ref())?)))
                .collect::<Result<Vec<_>, ArrowError>>()?;
            Box::new(move |row| Value::Object(members.iter().map(|(name, write)| ((*name).clone(), write(row))).collect()))
        }
        _ => text(column)?,
    })
}

/// Text, decimals, dictionaries and whatever else Arrow can write.
fn text(column: &dyn Array) -> Result<Writer<'_>, ArrowError> {
    let formatter = formatter(column)?;
    Ok(Box::new(move |row| formatter.value(row).try_to_string().unwrap_or_default().into()))
}

fn formatter(column: &dyn Array) -> Result<ArrayFormatter<'_>, ArrowError> {
    const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);
    ArrayFormatter::try_new(column, &OPTIONS)
}

/// JSON has no NaN and no infinities: those are the words that Rust and PostgreSQL read.
fn float(digits: &str) -> Value {
    match digits {
        "NaN" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        _ => serde_json::from_str(digits).unwrap_or_else(|_| digits.into()),
    }
}

fn moment(column: &dyn Array) -> Result<Writer<'_>, ArrowError> {
    let formatter = formatter(column)?;
    let of = column.data_type();
    let a_day = units_a_day(of);
    let numbers = cast(&cast(column, &storage(of))?, &DataType::Int64)?;
    Ok(Box::new(move |row| {
        let number = numbers.as_primitive::<Int64Type>().value(row);
        let written = WRITABLE_DAYS.contains(&number.div_euclid(a_day)).then(|| formatter.value(row).try_to_string().ok()).flatten();
        written.map_or_else(|| number.into(), Value::String)
    }))
}

/// The integer that a day or a time is kept as.
fn storage(of: &DataType) -> DataType {
    match of {
        DataType::Date32 | DataType::Time32(_) => DataType::Int32,
        _ => DataType::Int64,
    }
}

/// Units of the type in a day; for times of day so many that every one is writable.
fn units_a_day(of: &DataType) -> i64 {
    match of {
        DataType::Date32 => 1,
        DataType::Date64 => 86_400_000,
        DataType::Timestamp(TimeUnit::Second, _) => 86_400,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 86_400_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 86_400_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 86_400_000_000_000,
        _ => i64::MAX,
    }
}

/// Raw rows as columns of a stream again, for a replay. Columns that a row does not have are null, others are left out.
///
/// # Errors
/// [`RejectError::Json`], [`RejectError::Cut`] or [`RejectError::Raw`] when a row is not whole or does not fit the columns.
pub fn raw_rows(raw: &[&str], schema: &SchemaRef) -> Result<RecordBatch, RejectError> {
    let mut objects = Vec::with_capacity(raw.len());
    for text in raw {
        let object: HashMap<String, Value> = serde_json::from_str(text).map_err(RejectError::Json)?;
        if object.contains_key(CUT) {
            return Err(RejectError::Cut);
        }
        objects.push(object);
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let cells: Vec<&Value> = objects.iter().map(|object| object.get(field.name()).unwrap_or(&Value::Null)).collect();
        columns.push(column(&cells, field.data_type()).map_err(|source| RejectError::Raw { column: field.name().clone(), source })?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(raw.len()));
    let misfit = |source| RejectError::Raw { column: "*".to_owned(), source };
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(misfit)
}

/// Cells as a column of a type. What does not fit is an error, never a null.
fn column(cells: &[&Value], of: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match of {
        DataType::Boolean => Arc::new(each(cells, Value::as_bool)?.into_iter().collect::<BooleanArray>()),
        DataType::Float32 => {
            Arc::new(each(cells, |cell| number(cell, |number| number.as_f64()))?.into_iter().map(narrow).collect::<Float32Array>())
        }
        DataType::Float64 => Arc::new(each(cells, |cell| number(cell, |number| number.as_f64()))?.into_iter().collect::<Float64Array>()),
        whole if whole.is_integer() => {
            strict(&each(cells, |cell| number(cell, |number| number.as_i64()))?.into_iter().collect::<Int64Array>(), whole)?
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            strict(&each(cells, |cell| unhex(cell.as_str()?))?.iter().map(Option::as_deref).collect::<BinaryArray>(), of)?
        }
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => moments(cells, of)?,
        DataType::List(item) => list(cells, item)?,
        DataType::Struct(fields) => {
            let member = |field: &FieldRef| {
                let cells: Vec<&Value> = cells.iter().map(|cell| cell.get(field.name()).unwrap_or(&Value::Null)).collect();
                column(&cells, field.data_type())
            };
            let columns = fields.iter().map(member).collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, Some(nulls(cells)))?)
        }
        _ => strict(&each(cells, |cell| cell.as_str())?.into_iter().collect::<StringArray>(), of)?,
    })
}

/// Reads every cell that is not null.
fn each<'a, T>(cells: &[&'a Value], read: impl Fn(&'a Value) -> Option<T>) -> Result<Vec<Option<T>>, ArrowError> {
    let mut values = Vec::with_capacity(cells.len());
    for cell in cells {
        match (*cell, read(cell)) {
            (Value::Null, _) => values.push(None),
            (_, Some(value)) => values.push(Some(value)),
            (_, None) => return Err(ArrowError::CastError("a value is of another kind".to_owned())),
        }
    }
    Ok(values)
}

/// A JSON number, or the text of one.
fn number<T: std::str::FromStr>(cell: &Value, read: impl Fn(&serde_json::Number) -> Option<T>) -> Option<T> {
    match cell {
        Value::Number(number) => read(number),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the number was written from an f32: it is the nearest one again")]
fn narrow(wide: Option<f64>) -> Option<f32> {
    wide.map(|wide| wide as f32)
}

fn strict(column: &dyn Array, to: &DataType) -> Result<ArrayRef, ArrowError> {
    // Arrow's own message quotes the value, which may be about a person.
    let unquoted = |_| ArrowError::CastError(format!("a value does not fit {to}"));
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() }).map_err(unquoted)
}

fn moments(cells: &[&Value], of: &DataType) -> Result<ArrayRef, ArrowError> {
    let is_number = BooleanArray::from_iter(cells.iter().map(|cell| Some(cell.is_number())));
    let numbers: Int64Array = cells.iter().map(|cell| cell.as_i64()).collect();
    let texts: StringArray =
        each(cells, |cell| if cell.is_number() { Some(None) } else { Some(cell.as_str()) })?.into_iter().map(Option::flatten).collect();
    let numbers = strict(&strict(&numbers, &storage(of))?, of)?;
    zip(&is_number, &numbers, &strict(&texts, of)?)
}

fn list(cells: &[&Value], item: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let rows = each(cells, Value::as_array)?;
    let lengths = rows.iter().map(|row| row.map_or(0, Vec::len));
    let items: Vec<&Value> = rows.iter().flatten().flat_map(|row| row.iter()).collect();
    let values = column(&items, item.data_type())?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, Some(nulls(cells)))?))
}

fn nulls(cells: &[&Value]) -> NullBuffer {
    cells.iter().map(|cell| !cell.is_null()).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use arrow::array::*;
    use arrow::datatypes::Int32Type;

    use super::*;

    fn there_and_back(column: ArrayRef) -> Vec<String> {
        let rows = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        let raw = RawRows::new(&rows).unwrap();
        let texts: Vec<String> = (0..rows.num_rows()).map(|row| raw.json(row)).collect();
        let again = raw_rows(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &rows.schema()).unwrap();
        assert_eq!(again, rows, "{texts:?}");
        let cell = |text: &String| text.strip_prefix(r#"{"a":"#).unwrap().strip_suffix('}').unwrap().to_owned();
        texts.iter().map(cell).collect()
    }

    #[test]
    fn numbers_come_back_exactly() {
        assert_eq!(there_and_back(Arc::new(Int16Array::from(vec![Some(i16::MIN), None]))), ["-32768", "null"]);
        assert_eq!(there_and_back(Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN]))), [i64::MAX.to_string(), i64::MIN.to_string()]);
        let decimals = Decimal128Array::from(vec![-150, 10_i128.pow(37)]).with_precision_and_scale(38, 2).unwrap();
        assert_eq!(there_and_back(Arc::new(decimals))[0], r#""-1.50""#);
        let floats = Float64Array::from(vec![0.1, 1e300, -0.0, f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(
            there_and_back(Arc::new(floats)),
            ["0.1", "1e+300", "-0.0", "2.2250738585072014e-308", r#""Infinity""#, r#""-Infinity""#]
        );
        there_and_back(Arc::new(Float32Array::from(vec![0.1, 16_777_216.0, f32::MAX])));
        there_and_back(Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])));
        let rows = raw_rows(
            &[r#"{"a":"NaN"}"#],
            &Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new("a", DataType::Float64, true)])),
        );
        assert!(rows.unwrap().column(0).as_primitive::<Float64Type>().value(0).is_nan());
    }

    #[test]
    fn text_and_bytes_come_back_exactly() {
        there_and_back(Arc::new(StringArray::from(vec![Some("Nguyễn \"A\"\n\u{0}"), Some(""), None])));
        assert_eq!(
            there_and_back(Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), Some(&[]), None]))),
            [r#""00ff""#, r#""""#, "null"]
        );
        there_and_back(Arc::new(vec![Some("x"), None, Some("y")].into_iter().collect::<DictionaryArray<Int32Type>>()));
    }

    #[test]
    fn days_and_times_come_back_even_where_no_calendar_has_them() {
        assert_eq!(
            there_and_back(Arc::new(Date32Array::from(vec![20_000, i32::MAX, -719_162]))),
            [r#""2024-10-04""#, "2147483647", r#""0001-01-01""#]
        );
        let micros = vec![Some(1_780_000_000_654_321), Some(0), Some(i64::MAX), Some(i64::MIN), Some(-1), None];
        let zoned = there_and_back(Arc::new(TimestampMicrosecondArray::from(micros.clone()).with_timezone("UTC")));
        assert_eq!(zoned[..3], [r#""2026-05-28T20:26:40.654321Z""#, r#""1970-01-01T00:00:00Z""#, "9223372036854775807"]);
        there_and_back(Arc::new(TimestampMicrosecondArray::from(micros)));
        there_and_back(Arc::new(Time64MicrosecondArray::from(vec![0, 86_399_999_999])));
    }

    #[test]
    fn lists_and_structures_come_back() {
        let mut lists = ListBuilder::new(Int32Builder::new());
        lists.append_value([Some(1), None]);
        lists.append_null();
        lists.append_value([]);
        assert_eq!(there_and_back(Arc::new(lists.finish())), ["[1,null]", "null", "[]"]);
        let fields = vec![Arc::new(arrow::datatypes::Field::new("x", DataType::Utf8, true))];
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![Some("a"), None]))];
        let both = StructArray::new(fields.into(), columns, Some(NullBuffer::from(vec![true, false])));
        assert_eq!(there_and_back(Arc::new(both)), [r#"{"x":"a"}"#, "null"]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_not_a_null() {
        let schema = |of| Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new("a", of, true)]));
        for (of, raw) in [
            (DataType::Int16, r#"{"a":40000}"#),
            (DataType::Int32, r#"{"a":"x"}"#),
            (DataType::Boolean, r#"{"a":"true"}"#),
            (DataType::Date32, r#"{"a":"2024-02-31"}"#),
            (DataType::Binary, r#"{"a":"0g"}"#),
            (DataType::Utf8, r#"{"a":{}}"#),
        ] {
            let error = raw_rows(&[raw], &schema(of)).unwrap_err();
            let RejectError::Raw { column, source } = &error else { panic!("{raw}: {error}") };
            assert_eq!(column, "a");
            assert!(!source.to_string().contains("02-31"), "the value is quoted: {source}");
        }
        assert!(matches!(raw_rows(&["[]"], &schema(DataType::Utf8)), Err(RejectError::Json(_))));
        assert_eq!(raw_rows(&["{}"], &schema(DataType::Utf8)).unwrap().column(0).null_count(), 1);
    }
}
