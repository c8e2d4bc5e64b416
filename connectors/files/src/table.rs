//! Parquet: batches of rows in the file's own types, or in those that the hub knows without a loss.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use hub_sdk::model::SOURCE_TYPE;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

use crate::rows::{Bad, Trouble};

/// Rows that are decoded at once.
const DECODED: usize = 4_096;

/// An open file of Parquet.
pub(crate) struct Table {
    reader: ParquetRecordBatchReader,
    /// Its columns as the hub gets them.
    schema: SchemaRef,
    names: Vec<String>,
    /// What is decoded and not taken.
    waiting: Option<RecordBatch>,
    /// Bytes of one of its rows, on average.
    row_bytes: usize,
    /// Rows that were taken.
    number: u64,
}

impl Table {
    /// Opens a file.
    pub(crate) fn open(file: File) -> Result<Self, Trouble> {
        // The file's own lengths lead the library through it: a damaged one may make it panic, which must cost the file alone.
        guarded(0, || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(0, &error))?;
            let fields: Vec<Field> = builder.schema().fields().iter().map(|field| known(field)).collect();
            let names = fields.iter().map(|field| field.name().clone()).collect();
            let reader = builder.with_batch_size(DECODED).build().map_err(|error| damaged(0, &error))?;
            Ok(Self { reader, schema: Arc::new(Schema::new(fields)), names, waiting: None, row_bytes: 1, number: 0 })
        })
    }

    /// Names of its columns.
    pub(crate) fn columns(&self) -> &[String] {
        &self.names
    }

    /// Its columns as the hub gets them.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of the row that was taken last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next rows, at most so many and at least one; `None` at the end.
    pub(crate) fn next(&mut self, rows: usize, bytes: usize) -> Result<Option<RecordBatch>, Trouble> {
        let batch = match self.waiting.take() {
            Some(batch) => batch,
            None => match self.decode()? {
                Some(batch) => {
                    self.row_bytes = (batch.get_array_memory_size() / batch.num_rows().max(1)).max(1);
                    batch
                }
                None => return Ok(None),
            },
        };
        let fits = bytes / self.row_bytes;
        let count = rows.min(fits).max(1).min(batch.num_rows());
        if count < batch.num_rows() {
            self.waiting = Some(batch.slice(count, batch.num_rows() - count));
        }
        self.number += count as u64;
        Ok(Some(batch.slice(0, count)))
    }

    fn decode(&mut self) -> Result<Option<RecordBatch>, Trouble> {
        let (number, schema, reader) = (self.number, Arc::clone(&self.schema), &mut self.reader);
        guarded(number, || {
            let Some(batch) = reader.next().transpose().map_err(|error| damaged(number, &error))? else { return Ok(None) };
            let column = |(array, field): (&ArrayRef, &Arc<Field>)| column(array, field.data_type());
            let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>();
            let columns = columns.map_err(|error| damaged(number, &error))?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(schema, columns, &options).map(Some).map_err(|error| damaged(number, &error))
        })
    }
}

fn guarded<T>(rows: u64, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    let panicked = |_| Err(Trouble::Bad(Bad { row: Some(rows + 1), column: None, why: "the file is damaged".to_owned() }));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

fn damaged(rows: u64, error: &dyn std::fmt::Display) -> Trouble {
    let row = (rows > 0).then_some(rows + 1);
    Trouble::Bad(Bad { row, column: None, why: format!("the file cannot be read as Parquet: {error}") })
}

/// A column of the file as one that the hub knows.
fn known(field: &Field) -> Field {
    let metadata = [(SOURCE_TYPE.to_owned(), source_type(field.data_type()))].into();
    Field::new(field.name(), target(field.data_type()), true).with_metadata(metadata)
}

/// The type of a column in the words of Parquet.
fn source_type(of: &DataType) -> String {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Dictionary(_, value) => source_type(value),
        other => other.to_string(),
    }
}

/// The type that carries every value of another one: the nearest that the hub's expressions and Avro know, else text.
fn target(of: &DataType) -> DataType {
    let utc = || Some(Arc::from("UTC"));
    match of {
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => target(value),
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.as_ref().and_then(|_| utc())),
        DataType::Timestamp(unit, zone) => DataType::Timestamp(*unit, zone.as_ref().and_then(|_| utc())),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Binary
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond) => of.clone(),
        _ => DataType::Utf8,
    }
}

fn column(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    if array.data_type().is_nested() && !matches!(array.data_type(), DataType::Dictionary(..)) {
        let text = |row: usize| -> Result<Option<String>, ArrowError> {
            if array.is_null(row) { Ok(None) } else { json(array, row).map(|value| Some(value.to_string())) }
        };
        return Ok(Arc::new((0..array.len()).map(text).collect::<Result<StringArray, _>>()?));
    }
    match array.data_type() {
        DataType::Null => Ok(new_null_array(wanted, array.len())),
        same if same == wanted => Ok(Arc::clone(array)),
        _ => cast_with_options(array, wanted, &options),
    }
}

/// A value of a list, a structure or a map as JSON.
fn json(array: &dyn Array, row: usize) -> Result<Value, ArrowError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let list = |items: ArrayRef| (0..items.len()).map(|item| json(&items, item)).collect::<Result<Vec<_>, _>>().map(Value::Array);
    let text = || ArrayFormatter::try_new(array, &FormatOptions::default()).map(|shown| shown.value(row).to_string());
    Ok(match array.data_type() {
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let members = columns.map(|(field, column)| Ok::<_, ArrowError>((field.name().clone(), json(column, row)?)));
            Value::Object(members.collect::<Result<_, _>>()?)
        }
        DataType::List(_) => list(array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row))?,
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let [keys, values] = entries.columns() else { return Ok(Value::Null) };
            let name = |entry| {
                Ok::<_, ArrowError>(match json(keys, entry)? {
                    Value::String(name) => name,
                    other => other.to_string(),
                })
            };
            let members = (0..entries.len()).map(|entry| Ok::<_, ArrowError>((name(entry)?, json(values, entry)?)));
            Value::Object(members.collect::<Result<_, _>>()?)
        }
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        kind if kind.is_integer() => serde_json::from_str(&text()?).unwrap_or(Value::Null),
        // A number that JSON has no form for (NaN) is its text.
        kind if kind.is_floating() => text().map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)))?,
        _ => Value::String(text()?),
    })
}

/// Rows in the columns of a stream, which has all of theirs: those that they lack are null.
pub(crate) fn widened(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if rows.schema_ref() == schema {
        return Ok(rows.clone());
    }
    let column = |field: &Arc<Field>| {
        let found = rows.column_by_name(field.name()).cloned();
        found.unwrap_or_else(|| new_null_array(field.data_type(), rows.num_rows()))
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), schema.fields().iter().map(column).collect(), &options)
}

/// The columns of a stream with those of one more file; a column whose type is another one is told.
pub(crate) fn joined(stream: &SchemaRef, file: &SchemaRef) -> Result<SchemaRef, Bad> {
    let mut fields: Vec<Arc<Field>> = stream.fields().iter().cloned().collect();
    for field in file.fields() {
        match stream.field_with_name(field.name()) {
            Err(_new) => fields.push(Arc::clone(field)),
            Ok(known) if known.data_type() == field.data_type() => {}
            Ok(known) => {
                let why = format!("its type is {}, and {} in the files before", field.data_type(), known.data_type());
                return Err(Bad { row: None, column: Some(field.name().clone()), why });
            }
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The values of a column as texts that tell any two apart: for keys and digests. Binary stays binary.
pub(crate) fn comparable(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Utf8 | DataType::Binary => Ok(Arc::clone(array)),
        // Names of zones are not printed by this build of Arrow; the zone is that of the column, always UTC.
        DataType::Timestamp(unit, Some(_)) => {
            comparable(&cast_with_options(array, &DataType::Timestamp(*unit, None), &CastOptions::default())?)
        }
        _ => cast_with_options(array, &DataType::Utf8, &CastOptions { safe: false, format_options: FormatOptions::default() }),
    }
}

/// The bytes of a value that [`comparable`] made; `None` for null.
pub(crate) fn bytes_of(array: &ArrayRef, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        _ => Some(array.as_string::<i32>().value(row).as_bytes()),
    }
}
