//! One filled set of buffers as Arrow columns. A value that cannot be held costs its row, never the page.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, PrimitiveArray, RecordBatchOptions, StringBuilder,
    TimestampMicrosecondBuilder, TimestampNanosecondBuilder,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, UInt8Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_odbc::odbc_api::buffers::{AnyColumnBufferSlice, ColumnarDynBuffer};
use arrow_odbc::odbc_api::sys::{Date, NULL_DATA, Timestamp};
use arrow_odbc::odbc_api::{Bit, Pod};
use hub_sdk::model::RowFault;

use crate::columns::{Columns, Form};
use crate::dialect::days;

/// Rows of a result.
#[derive(Debug)]
pub(crate) struct Page {
    /// The rows; a cell at fault is null.
    pub(crate) rows: RecordBatch,
    /// What could not be held, by row.
    pub(crate) faults: Vec<RowFault>,
}

/// What is wrong with a cell.
type Fault = (&'static str, String);

/// Takes the rows out of the buffers.
pub(crate) fn page(columns: &Columns, buffers: &ColumnarDynBuffer) -> Result<Page, ArrowError> {
    let mut faults = Faults { found: Vec::new(), column: Arc::from("") };
    let mut arrays = Vec::with_capacity(columns.forms.len());
    for (place, (form, field)) in columns.forms.iter().zip(columns.schema.fields()).enumerate() {
        faults.column = field.name().as_str().into();
        let array = array(*form, buffers.column(place), &mut faults);
        arrays.push(array.ok_or_else(|| ArrowError::CastError(format!("column {} came in another form than was bound", field.name())))?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(buffers.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(&columns.schema), arrays, &options)?;
    let mut faults = faults.found;
    // One fault a row: the first column's.
    faults.sort_by_key(|fault| fault.row);
    faults.dedup_by_key(|fault| fault.row);
    Ok(Page { rows, faults })
}

struct Faults {
    found: Vec<RowFault>,
    column: Arc<str>,
}

impl Faults {
    fn add(&mut self, row: usize, (code, message): Fault) {
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        let message = format!("column {}: {message}", self.column);
        self.found.push(RowFault { row, column: Some(Arc::clone(&self.column)), code, message });
    }
}

fn array(form: Form, cells: AnyColumnBufferSlice<'_>, faults: &mut Faults) -> Option<ArrayRef> {
    Some(match form {
        Form::Bool => booleans(cells)?,
        Form::Int8 => plain::<Int8Type>(cells)?,
        Form::UInt8 => plain::<UInt8Type>(cells)?,
        Form::Int16 => plain::<Int16Type>(cells)?,
        Form::Int32 => plain::<Int32Type>(cells)?,
        Form::Int64 => plain::<Int64Type>(cells)?,
        Form::Float32 => plain::<Float32Type>(cells)?,
        Form::Float64 => plain::<Float64Type>(cells)?,
        Form::Date => dates(cells, faults)?,
        Form::Timestamp(unit) => timestamps(cells, unit, faults)?,
        Form::Decimal(precision, scale) => decimals(cells, precision, scale, faults)?,
        Form::Text(max) => narrow(cells, max, faults)?,
        Form::Wide(max) => wide(cells, max, faults)?,
        Form::Binary(max) => binary(cells, max, faults)?,
    })
}

/// Numbers whose buffers are what Arrow holds.
fn plain<T: ArrowPrimitiveType>(cells: AnyColumnBufferSlice<'_>) -> Option<ArrayRef>
where
    T::Native: Pod,
{
    let (values, indicators) = cells.as_nullable_slice::<T::Native>()?.raw_values();
    let nulls = indicators
        .contains(&NULL_DATA)
        .then(|| NullBuffer::new(BooleanBuffer::collect_bool(indicators.len(), |row| indicators[row] != NULL_DATA)));
    Some(Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values.to_vec()), nulls)))
}

fn booleans(cells: AnyColumnBufferSlice<'_>) -> Option<ArrayRef> {
    let cells = cells.as_nullable_slice::<Bit>()?;
    let mut builder = BooleanBuilder::with_capacity(cells.len());
    for cell in cells {
        builder.append_option(cell.map(|bit| bit.0 != 0));
    }
    Some(Arc::new(builder.finish()))
}

fn no_day() -> Fault {
    ("no-such-date", "no day of the calendar, or a year before 1 or after 9999".to_owned())
}

fn dates(cells: AnyColumnBufferSlice<'_>, faults: &mut Faults) -> Option<ArrayRef> {
    let cells = cells.as_nullable_slice::<Date>()?;
    let mut builder = Date32Builder::with_capacity(cells.len());
    for (row, cell) in cells.enumerate() {
        let value = cell.map(|date| days(date.year.into(), date.month.into(), date.day.into()).and_then(|days| i32::try_from(days).ok()));
        match value {
            Some(None) => {
                faults.add(row, no_day());
                builder.append_null();
            }
            value => builder.append_option(value.flatten()),
        }
    }
    Some(Arc::new(builder.finish()))
}

fn timestamps(cells: AnyColumnBufferSlice<'_>, unit: TimeUnit, faults: &mut Faults) -> Option<ArrayRef> {
    let cells = cells.as_nullable_slice::<Timestamp>()?;
    let mut values: Vec<Option<i64>> = Vec::with_capacity(cells.len());
    for (row, cell) in cells.enumerate() {
        let value = cell.map(|time| instant(time, unit));
        if value == Some(None) {
            faults.add(row, no_day());
        }
        values.push(value.flatten());
    }
    Some(match unit {
        TimeUnit::Nanosecond => {
            let mut builder = TimestampNanosecondBuilder::with_capacity(values.len());
            values.into_iter().for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        _ => {
            let mut builder = TimestampMicrosecondBuilder::with_capacity(values.len());
            values.into_iter().for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
    })
}

fn instant(time: &Timestamp, unit: TimeUnit) -> Option<i64> {
    let days = days(time.year.into(), time.month.into(), time.day.into())?;
    if time.hour > 23 || time.minute > 59 || time.second > 59 || time.fraction > 999_999_999 {
        return None;
    }
    let seconds = days * 86_400 + i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + i64::from(time.second);
    match unit {
        TimeUnit::Nanosecond => seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(time.fraction)),
        _ => Some(seconds * 1_000_000 + i64::from(time.fraction / 1_000)),
    }
}

fn decimals(cells: AnyColumnBufferSlice<'_>, precision: u8, scale: i8, faults: &mut Faults) -> Option<ArrayRef> {
    let cells = cells.as_text()?;
    let mut builder = Decimal128Builder::with_capacity(cells.len());
    for (row, cell) in cells.iter().enumerate() {
        match cell.map(|digits| decimal(digits, precision, scale)) {
            Some(None) => {
                faults.add(row, ("number-unfit", format!("no number of {precision} digits, {scale} of them behind the point")));
                builder.append_null();
            }
            value => builder.append_option(value.flatten()),
        }
    }
    builder.finish().with_precision_and_scale(precision, scale).ok().map(|array| Arc::new(array) as ArrayRef)
}

/// Digits as a whole number of `scale` places behind the point; `None` for what has more places, more digits, or is no number.
pub(crate) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let text = text.trim_ascii();
    let (is_negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mut value, mut places, mut any) = (0i128, None, false);
    let scale = u32::from(scale.unsigned_abs());
    for byte in digits {
        match byte {
            // Some drivers write the point of their locale.
            b'.' | b',' if places.is_none() => places = Some(0u32),
            b'0'..=b'9' => {
                any = true;
                if let Some(places) = &mut places {
                    if *places == scale {
                        if *byte == b'0' {
                            continue;
                        }
                        return None;
                    }
                    *places += 1;
                }
                value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
            }
            _ => return None,
        }
    }
    let value = value.checked_mul(10i128.checked_pow(scale - places.unwrap_or(0))?)?;
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (any && value < limit).then_some(if is_negative { -value } else { value })
}

fn too_long(max: usize, unit: &str) -> Fault {
    (
        "value-too-long",
        format!("longer than the {max} {unit} that are fetched; raise max_value_kib, or cast it to a longer type in a query"),
    )
}

fn undecodable() -> Fault {
    ("undecodable", "not in the encoding that the driver promised; set encoding".to_owned())
}

fn narrow(cells: AnyColumnBufferSlice<'_>, max: usize, faults: &mut Faults) -> Option<ArrayRef> {
    let cells = cells.as_text()?;
    let bytes = cells.iter().flatten().map(<[u8]>::len).sum();
    let mut builder = StringBuilder::with_capacity(cells.len(), bytes);
    for (row, cell) in cells.iter().enumerate() {
        let Some(cell) = cell else {
            builder.append_null();
            continue;
        };
        match std::str::from_utf8(cell) {
            Ok(text) if text.len() <= max => builder.append_value(text),
            // What is cut may end in the middle of a letter.
            _ if cell.len() > max => {
                faults.add(row, too_long(max, "bytes"));
                builder.append_null();
            }
            _ => {
                faults.add(row, undecodable());
                builder.append_null();
            }
        }
    }
    Some(Arc::new(builder.finish()))
}

fn wide(cells: AnyColumnBufferSlice<'_>, max: usize, faults: &mut Faults) -> Option<ArrayRef> {
    let cells = cells.as_wide_text()?;
    let units: usize = (0..cells.len()).map(|row| cells.get(row).map_or(0, <[u16]>::len)).sum();
    let mut builder = StringBuilder::with_capacity(cells.len(), units * 2);
    let mut text = String::new();
    for row in 0..cells.len() {
        let Some(cell) = cells.get(row) else {
            builder.append_null();
            continue;
        };
        text.clear();
        let is_whole = char::decode_utf16(cell.iter().copied()).all(|letter| letter.map(|letter| text.push(letter)).is_ok());
        if cell.len() > max {
            faults.add(row, too_long(max, "UTF-16 units"));
            builder.append_null();
        } else if is_whole {
            builder.append_value(&text);
        } else {
            faults.add(row, undecodable());
            builder.append_null();
        }
    }
    Some(Arc::new(builder.finish()))
}

fn binary(cells: AnyColumnBufferSlice<'_>, max: usize, faults: &mut Faults) -> Option<ArrayRef> {
    let cells = cells.as_binary()?;
    let bytes = cells.iter().flatten().map(<[u8]>::len).sum();
    let mut builder = BinaryBuilder::with_capacity(cells.len(), bytes);
    for (row, cell) in cells.iter().enumerate() {
        let fits = cell.filter(|cell| cell.len() <= max);
        if fits.is_none() && cell.is_some() {
            faults.add(row, too_long(max, "bytes"));
        }
        builder.append_option(fits);
    }
    Some(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn digits_that_do_not_fit_are_no_number() {
        assert_eq!(decimal(b"-999999999999.99", 14, 2), Some(-99_999_999_999_999));
        assert_eq!(decimal(b".5", 14, 2), Some(50));
        assert_eq!(decimal(b"7", 14, 2), Some(700));
        assert_eq!(decimal(b"1.2500", 14, 2), Some(125));
        for unfit in [&b"1.255"[..], b"1000000000000.00", b"NaN", b"", b"-", b"1e5", b"1.2.3"] {
            assert_eq!(decimal(unfit, 14, 2), None, "{}", String::from_utf8_lossy(unfit));
        }
        assert_eq!(decimal(b"18446744073709551615", 20, 0), Some(i128::from(u64::MAX)));
        assert_eq!(decimal("9".repeat(38).as_bytes(), 38, 0), Some(10i128.pow(38) - 1));
    }

    #[test]
    fn days_that_no_calendar_has_are_refused() {
        let time = |year, month, day| Timestamp { year, month, day, hour: 0, minute: 0, second: 0, fraction: 0 };
        assert_eq!(instant(&time(0, 0, 0), TimeUnit::Microsecond), None);
        assert_eq!(instant(&time(2023, 2, 29), TimeUnit::Microsecond), None);
        assert_eq!(instant(&time(1970, 1, 2), TimeUnit::Microsecond), Some(86_400_000_000));
        assert_eq!(instant(&time(9999, 12, 31), TimeUnit::Nanosecond), None, "nanoseconds end in 2262");
    }
}
