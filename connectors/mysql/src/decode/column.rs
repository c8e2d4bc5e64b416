//! One Arrow column, filled from cells of one form.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, NullBufferBuilder, PrimitiveArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use super::number::{decimal_packed, decimal_packed_text, decimal_text, unsigned, whole};
use super::time::{
    Zeros, Zone, date_packed, datetime_old, datetime_packed, instant, parts, push_span, time_old, time_packed, time_parts, timestamp_packed,
};
use super::{Refusal, Rules, json, text};
use crate::charset::Charset;
use crate::kind::Kind;
use crate::wire::big;

/// The form in which a column's cells come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Whole numbers, little-endian, as long as the cell.
    Int { signed: bool },
    /// Four or eight bytes of a floating-point number.
    Float,
    /// A decimal of the log.
    DecimalPacked { precision: u8, scale: u8 },
    /// A decimal as text.
    DecimalText { scale: u8 },
    /// The bytes themselves.
    Bytes,
    /// The bytes themselves without the zeros at their end.
    Padded { length: u16 },
    /// Bits, most significant byte first.
    Bits,
    /// Three bytes of the log.
    DatePacked,
    /// A date, or a date and time, in parts.
    Parts,
    /// Five bytes of the log and a fraction.
    DateTimePacked { digits: u8 },
    /// Eight bytes of an old log.
    DateTimeOld,
    /// Four bytes of the log and a fraction.
    TimestampPacked { digits: u8 },
    /// Four bytes of an old log.
    TimestampOld,
    /// Three bytes of the log and a fraction.
    TimePacked { digits: u8 },
    /// Three bytes of an old log.
    TimeOld,
    /// A time in parts.
    TimeParts,
    /// Years since 1900 in a byte.
    YearByte,
    /// The number of a label.
    Index,
    /// A bit for each label.
    Labels,
    /// MySQL's binary JSON.
    JsonBinary,
    /// A number of its reference system, then WKB.
    Geometry,
    /// Raw bytes of an identifier or an address.
    Raw,
}

#[derive(Debug)]
enum Sink {
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I128(Vec<i128>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Bytes { offsets: Vec<i32>, values: Vec<u8> },
}

/// What every sink needs beside its values.
#[derive(Debug)]
struct Marks {
    nulls: NullBufferBuilder,
    refused: Vec<(usize, Refusal)>,
    rows: usize,
}

#[derive(Debug)]
pub(super) struct ColumnDecoder {
    kind: Kind,
    charset: Charset,
    data_type: DataType,
    zeros: Zeros,
    zone: Option<Zone>,
    pub(super) form: Form,
    sink: Sink,
    marks: Marks,
}

type Read<T> = Result<Option<T>, Refusal>;

impl Marks {
    fn new() -> Self {
        Self { nulls: NullBufferBuilder::new(0), refused: Vec::new(), rows: 0 }
    }

    #[inline]
    fn fill<'a, T: Default>(
        &mut self,
        values: &mut Vec<T>,
        cells: impl Iterator<Item = Option<&'a [u8]>>,
        read: impl Fn(&'a [u8]) -> Read<T>,
    ) {
        for cell in cells {
            let value = match cell.map(&read) {
                None | Some(Ok(None)) => None,
                Some(Ok(value)) => value,
                Some(Err(refusal)) => {
                    self.refused.push((self.rows, refusal));
                    None
                }
            };
            self.rows += 1;
            match value {
                Some(value) => {
                    values.push(value);
                    self.nulls.append_non_null();
                }
                None => {
                    values.push(T::default());
                    self.nulls.append_null();
                }
            }
        }
    }

    #[inline]
    fn write<'a>(
        &mut self,
        (offsets, values): (&mut Vec<i32>, &mut Vec<u8>),
        cells: impl Iterator<Item = Option<&'a [u8]>>,
        write: impl Fn(&'a [u8], &mut Vec<u8>) -> Result<(), Refusal>,
    ) {
        for cell in cells {
            match cell.map(|cell| write(cell, values)) {
                Some(Ok(())) => self.nulls.append_non_null(),
                None => self.nulls.append_null(),
                Some(Err(refusal)) => {
                    values.truncate(offsets.last().map_or(0, |offset| *offset as usize));
                    self.refused.push((self.rows, refusal));
                    self.nulls.append_null();
                }
            }
            self.rows += 1;
            if i32::try_from(values.len()).is_err() {
                values.truncate(offsets.last().map_or(0, |offset| *offset as usize));
                self.refused.push((self.rows - 1, Refusal::undecodable("it is too long")));
            }
            offsets.push(values.len() as i32);
        }
    }
}

const RANGE: Refusal = Refusal::undecodable("it is out of the column's range");
const LETTERS: Refusal = Refusal::undecodable("it is no text of its character set");
const FORM: Refusal = Refusal::undecodable("it comes in a form that the column does not have");

#[inline]
fn int<T: TryFrom<i64>>(bytes: &[u8], signed: bool) -> Read<T> {
    T::try_from(whole(bytes, signed)).map(Some).map_err(|_| RANGE)
}

impl ColumnDecoder {
    pub(super) fn new(kind: &Kind, rules: &Rules) -> Self {
        let data_type = kind.data_type(rules.zone.is_some());
        let sink = Self::sink(&data_type);
        Self {
            kind: kind.clone(),
            charset: kind.charset().map_or(Charset::Utf8, |name| rules.charsets.get(name)),
            data_type,
            zeros: rules.zeros,
            zone: rules.zone.clone(),
            form: Form::Bytes,
            sink,
            marks: Marks::new(),
        }
    }

    fn sink(data_type: &DataType) -> Sink {
        match data_type {
            DataType::Int8 => Sink::I8(Vec::new()),
            DataType::Int16 => Sink::I16(Vec::new()),
            DataType::Int32 | DataType::Date32 => Sink::I32(Vec::new()),
            DataType::Int64 | DataType::Timestamp(..) => Sink::I64(Vec::new()),
            DataType::Decimal128(..) => Sink::I128(Vec::new()),
            DataType::Float32 => Sink::F32(Vec::new()),
            DataType::Float64 => Sink::F64(Vec::new()),
            DataType::Boolean => Sink::Bool(Vec::new()),
            _ => Sink::Bytes { offsets: vec![0], values: Vec::new() },
        }
    }

    pub(super) fn extend<'a>(&mut self, cells: impl Iterator<Item = Option<&'a [u8]>>) {
        let marks = &mut self.marks;
        let (form, zeros) = (self.form, self.zeros);
        match &mut self.sink {
            Sink::I8(values) => match form {
                Form::Int { signed } => marks.fill(values, cells, |cell| int(cell, signed)),
                _ => marks.fill(values, cells, |_| Err(FORM)),
            },
            Sink::I16(values) => match form {
                Form::Int { signed } => marks.fill(values, cells, |cell| int(cell, signed)),
                Form::YearByte => marks.fill(values, cells, |cell| Ok(cell.first().map(|year| year_of(*year)))),
                _ => marks.fill(values, cells, |_| Err(FORM)),
            },
            Sink::I32(values) => match form {
                Form::Int { signed } => marks.fill(values, cells, |cell| int(cell, signed)),
                Form::DatePacked => marks.fill(values, cells, |cell| date_packed(cell).days(zeros)),
                Form::Parts => marks.fill(values, cells, |cell| parts(cell)?.days(zeros)),
                _ => marks.fill(values, cells, |_| Err(FORM)),
            },
            Sink::I64(values) => match form {
                Form::Int { signed } => marks.fill(values, cells, |cell| int(cell, signed)),
                Form::Bits => marks.fill(values, cells, |cell| i64::try_from(big(cell)).map(Some).map_err(|_| RANGE)),
                Form::Parts => marks.fill(values, cells, |cell| parts(cell)?.micros(zeros)),
                Form::DateTimePacked { digits } => marks.fill(values, cells, |cell| datetime_packed(cell, digits)?.micros(zeros)),
                Form::DateTimeOld => marks.fill(values, cells, |cell| datetime_old(cell).micros(zeros)),
                Form::TimestampPacked { digits } => marks.fill(values, cells, |cell| timestamp_packed(cell, digits, zeros)),
                Form::TimestampOld => marks.fill(values, cells, |cell| instant(whole(cell, false), 0, zeros)),
                _ => marks.fill(values, cells, |_| Err(FORM)),
            },
            Sink::I128(values) => match form {
                Form::Int { .. } => marks.fill(values, cells, |cell| Ok(Some(i128::from(unsigned(cell))))),
                Form::Bits => marks.fill(values, cells, |cell| Ok(Some(i128::from(big(cell))))),
                Form::DecimalPacked { precision, scale } => {
                    marks.fill(values, cells, |cell| Ok(Some(decimal_packed(cell, precision, scale))));
                }
                Form::DecimalText { scale } => marks.fill(values, cells, |cell| decimal_text(cell, scale).map(Some)),
                _ => marks.fill(values, cells, |_| Err(FORM)),
            },
            Sink::F32(values) => {
                marks.fill(values, cells, |cell| cell.try_into().map(|four| Some(f32::from_le_bytes(four))).map_err(|_| FORM))
            }
            Sink::F64(values) => {
                marks.fill(values, cells, |cell| cell.try_into().map(|eight| Some(f64::from_le_bytes(eight))).map_err(|_| FORM))
            }
            Sink::Bool(values) => marks.fill(values, cells, |cell| Ok(Some(big(cell) != 0))),
            Sink::Bytes { offsets, values } => write(marks, (offsets, values), cells, form, (&self.kind, &self.charset)),
        }
    }

    /// The column as it is, with the rows that were refused; begins anew.
    pub(super) fn finish(&mut self) -> Result<(ArrayRef, Vec<(usize, Refusal)>), ArrowError> {
        let sink = std::mem::replace(&mut self.sink, Self::sink(&self.data_type));
        let mut marks = std::mem::replace(&mut self.marks, Marks::new());
        let nulls = marks.nulls.finish();
        let array: ArrayRef = match sink {
            Sink::I8(values) => Arc::new(PrimitiveArray::<Int8Type>::try_new(values.into(), nulls)?),
            Sink::I16(values) => Arc::new(PrimitiveArray::<Int16Type>::try_new(values.into(), nulls)?),
            Sink::I32(values) if self.data_type == DataType::Date32 => {
                Arc::new(PrimitiveArray::<Date32Type>::try_new(values.into(), nulls)?)
            }
            Sink::I32(values) => Arc::new(PrimitiveArray::<Int32Type>::try_new(values.into(), nulls)?),
            Sink::I64(values) => match &self.data_type {
                DataType::Timestamp(..) => self.timestamps(values.into(), nulls, &mut marks.refused)?,
                _ => Arc::new(PrimitiveArray::<Int64Type>::try_new(values.into(), nulls)?),
            },
            Sink::I128(values) => typed::<Decimal128Type>(values.into(), nulls, &self.data_type)?,
            Sink::F32(values) => Arc::new(PrimitiveArray::<Float32Type>::try_new(values.into(), nulls)?),
            Sink::F64(values) => Arc::new(PrimitiveArray::<Float64Type>::try_new(values.into(), nulls)?),
            Sink::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Sink::Bytes { offsets, values } if self.data_type == DataType::Binary => {
                Arc::new(BinaryArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(values), nulls)?)
            }
            Sink::Bytes { offsets, values } => texts(offsets, values, nulls, &mut marks.refused)?,
        };
        Ok((array, marks.refused))
    }

    /// Times without a zone, or instants; a `DATETIME` of a zone becomes an instant where the zone has one for it.
    fn timestamps(
        &self,
        values: ScalarBuffer<i64>,
        nulls: Option<arrow::buffer::NullBuffer>,
        refused: &mut Vec<(usize, Refusal)>,
    ) -> Result<ArrayRef, ArrowError> {
        let (Kind::DateTime, Some(zone)) = (&self.kind, &self.zone) else {
            return typed::<TimestampMicrosecondType>(values, nulls, &self.data_type);
        };
        let local = typed::<TimestampMicrosecondType>(values, nulls, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let zoned = cast(&local, &DataType::Timestamp(TimeUnit::Microsecond, Some(zone.0.as_str().into())))?;
        let lost = (0..local.len()).filter(|row| zoned.is_null(*row) && local.is_valid(*row));
        refused.extend(lost.map(|row| (row, Refusal { code: "no-such-time", why: "its time zone skips that time, or has it twice" })));
        cast(&zoned, &self.data_type)
    }
}

fn typed<T: ArrowPrimitiveType>(
    values: ScalarBuffer<T::Native>,
    nulls: Option<arrow::buffer::NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(values, nulls)?.with_data_type(data_type.clone())))
}

fn year_of(byte: u8) -> i16 {
    if byte == 0 { 0 } else { 1_900 + i16::from(byte) }
}

/// Values that become text or bytes.
fn write<'a>(
    marks: &mut Marks,
    sink: (&mut Vec<i32>, &mut Vec<u8>),
    cells: impl Iterator<Item = Option<&'a [u8]>>,
    form: Form,
    (kind, charset): (&Kind, &Charset),
) {
    match (form, kind) {
        (Form::Bytes, _) if matches!(charset, Charset::Utf8) => marks.write(sink, cells, |cell, out| {
            out.extend_from_slice(cell);
            Ok(())
        }),
        (Form::Bytes, _) => marks.write(sink, cells, |cell, out| charset.append(cell, out).then_some(()).ok_or(LETTERS)),
        (Form::Padded { length }, _) => marks.write(sink, cells, |cell, out| {
            out.extend_from_slice(cell);
            out.resize(out.len() + usize::from(length).saturating_sub(cell.len()), 0);
            Ok(())
        }),
        (Form::Geometry, _) => marks.write(sink, cells, |cell, out| {
            out.extend_from_slice(cell.get(4..).ok_or(FORM)?);
            Ok(())
        }),
        (Form::Index, Kind::Enum { labels, .. }) => marks.write(sink, cells, |cell, out| text::push_label(unsigned(cell), labels, out)),
        (Form::Labels, Kind::Set { labels, .. }) => marks.write(sink, cells, |cell, out| text::push_labels(unsigned(cell), labels, out)),
        (Form::TimePacked { digits }, _) => marks.write(sink, cells, |cell, out| {
            push_span(time_packed(cell, digits)?, out);
            Ok(())
        }),
        (Form::TimeOld, _) => marks.write(sink, cells, |cell, out| {
            push_span(time_old(cell), out);
            Ok(())
        }),
        (Form::TimeParts, _) => marks.write(sink, cells, |cell, out| {
            push_span(time_parts(cell)?, out);
            Ok(())
        }),
        (Form::DecimalPacked { precision, scale }, _) => marks.write(sink, cells, |cell, out| {
            decimal_packed_text(cell, precision, scale, out);
            Ok(())
        }),
        (Form::DecimalText { .. }, _) => marks.write(sink, cells, |cell, out| {
            out.extend_from_slice(cell);
            Ok(())
        }),
        (Form::JsonBinary, _) => marks.write(sink, cells, json::push),
        (Form::Raw, Kind::Uuid) => marks.write(sink, cells, text::push_uuid),
        (Form::Raw, Kind::Inet6) => marks.write(sink, cells, text::push_inet6),
        (Form::Raw, Kind::Inet4) => marks.write(sink, cells, text::push_inet4),
        _ => marks.write(sink, cells, |_, _| Err(FORM)),
    }
}

/// A column of text; a cell that is no UTF-8 becomes null and is refused.
fn texts(
    offsets: Vec<i32>,
    values: Vec<u8>,
    nulls: Option<arrow::buffer::NullBuffer>,
    refused: &mut Vec<(usize, Refusal)>,
) -> Result<ArrayRef, ArrowError> {
    let is_whole = std::str::from_utf8(&values)
        .is_ok_and(|text| offsets.iter().all(|offset| text.is_char_boundary(usize::try_from(*offset).unwrap_or(usize::MAX))));
    if is_whole {
        return Ok(Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(values), nulls)?));
    }
    let cells = offsets.windows(2).enumerate().map(|(row, ends)| {
        let cell = values.get(ends[0] as usize..ends[1] as usize).unwrap_or_default();
        let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let read = std::str::from_utf8(cell);
        if read.is_err() {
            refused.push((row, LETTERS));
        }
        read.ok().filter(|_| !is_null)
    });
    Ok(Arc::new(cells.collect::<StringArray>()))
}
