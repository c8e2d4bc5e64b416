//! One column: growing buffers by kind, and the one dispatch from a cell to its parser.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, PrimitiveArray, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use super::{Refusal, Wire, binary, numeric, text};
use crate::types::{ColumnType, Kind};

/// One column's decoder and buffers.
#[derive(Debug)]
pub(super) struct ColumnDecoder {
    kind: Kind,
    data_type: DataType,
    values: Values,
    nulls: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Bits(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int128(Vec<i128>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Bytes(Bytes),
}

/// Values of any length: value `i` is `offsets[i]..offsets[i + 1]`.
#[derive(Debug)]
struct Bytes {
    data: Vec<u8>,
    offsets: Vec<i32>,
}

impl ColumnDecoder {
    pub(super) fn new(column: &ColumnType) -> Self {
        let values = match column.kind {
            Kind::Bool => Values::Bits(BooleanBufferBuilder::new(0)),
            Kind::Int2 => Values::Int16(Vec::new()),
            Kind::Int4 | Kind::Date => Values::Int32(Vec::new()),
            Kind::Int8 | Kind::Oid | Kind::Time | Kind::Timestamp | Kind::TimestampTz => Values::Int64(Vec::new()),
            Kind::Float4 => Values::Float32(Vec::new()),
            Kind::Float8 => Values::Float64(Vec::new()),
            Kind::Decimal { .. } => Values::Int128(Vec::new()),
            Kind::Numeric | Kind::Text | Kind::Jsonb | Kind::Uuid | Kind::Bytea | Kind::Opaque => Values::Bytes(Bytes::with_capacity(0, 0)),
        };
        Self { kind: column.kind, data_type: column.kind.data_type(), values, nulls: NullBufferBuilder::new(0) }
    }

    /// Bytes that each row takes, null or not.
    pub(super) fn fixed_bytes(&self) -> usize {
        match &self.values {
            Values::Bits(_) => 1,
            Values::Int16(_) => 2,
            Values::Int32(_) | Values::Float32(_) | Values::Bytes(_) => 4,
            Values::Int64(_) | Values::Float64(_) => 8,
            Values::Int128(_) => 16,
        }
    }

    /// Appends a value, or nothing where it is refused.
    #[inline]
    pub(super) fn push(&mut self, wire: Wire, bytes: &[u8]) -> Result<(), Refusal> {
        let binary = wire == Wire::Binary;
        match &mut self.values {
            Values::Bits(values) => values.append(if binary { binary::boolean(bytes)? } else { text::boolean(bytes)? }),
            Values::Int16(values) => values.push(if binary { binary::int2(bytes)? } else { text::integer(bytes)? }),
            Values::Int32(values) => values.push(match (self.kind, wire) {
                (Kind::Date, Wire::Binary) => binary::date(bytes)?,
                (Kind::Date, Wire::Text) => text::date(bytes)?,
                (_, Wire::Binary) => binary::int4(bytes)?,
                (_, Wire::Text) => text::integer(bytes)?,
            }),
            Values::Int64(values) => values.push(int64(self.kind, wire, bytes)?),
            Values::Float32(values) => values.push(if binary { binary::float4(bytes)? } else { text::float(bytes)? }),
            Values::Float64(values) => values.push(if binary { binary::float8(bytes)? } else { text::float(bytes)? }),
            Values::Int128(values) => {
                let Kind::Decimal { precision, scale } = self.kind else { return Err("no decimal limits") };
                values.push(match wire {
                    Wire::Binary => numeric::decimal_of_binary(bytes, precision, scale)?,
                    Wire::Text => numeric::decimal_of_text(bytes, precision, scale)?,
                });
            }
            Values::Bytes(values) => values.push(self.kind, wire, bytes)?,
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a null.
    #[inline]
    pub(super) fn push_null(&mut self) {
        match &mut self.values {
            Values::Bits(values) => values.append(false),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::Int128(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Bytes(values) => values.push_empty(),
        }
        self.nulls.append_null();
    }

    /// Keeps the first `rows` cells.
    pub(super) fn truncate(&mut self, rows: usize) {
        if self.nulls.len() <= rows {
            return;
        }
        match &mut self.values {
            Values::Bits(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Int128(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Bytes(values) => values.truncate(rows),
        }
        self.nulls.truncate(rows);
    }

    /// The array of `rows` cells, and the rows whose text is not UTF-8 (null in it). Keeps room for as many again.
    pub(super) fn finish(&mut self, rows: usize) -> Result<(ArrayRef, Vec<usize>), ArrowError> {
        while self.nulls.len() < rows {
            self.push_null();
        }
        let nulls = self.nulls.finish();
        self.nulls = NullBufferBuilder::new(rows);
        let array: ArrayRef = match &mut self.values {
            Values::Bits(values) => {
                let bits = values.finish();
                values.reserve(rows);
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Int16(values) => primitive::<Int16Type>(values, nulls, &self.data_type)?,
            Values::Int32(values) if self.kind == Kind::Date => primitive::<Date32Type>(values, nulls, &self.data_type)?,
            Values::Int32(values) => primitive::<Int32Type>(values, nulls, &self.data_type)?,
            Values::Int64(values) => match self.kind {
                Kind::Time => primitive::<Time64MicrosecondType>(values, nulls, &self.data_type)?,
                Kind::Timestamp | Kind::TimestampTz => primitive::<TimestampMicrosecondType>(values, nulls, &self.data_type)?,
                _ => primitive::<Int64Type>(values, nulls, &self.data_type)?,
            },
            Values::Int128(values) => primitive::<Decimal128Type>(values, nulls, &self.data_type)?,
            Values::Float32(values) => primitive::<Float32Type>(values, nulls, &self.data_type)?,
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, &self.data_type)?,
            Values::Bytes(values) if self.kind == Kind::Bytea => {
                let (offsets, data) = values.take();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::Bytes(values) => {
                let (offsets, data) = values.take();
                return strings(offsets, data, nulls);
            }
        };
        Ok((array, Vec::new()))
    }
}

#[inline]
fn int64(kind: Kind, wire: Wire, bytes: &[u8]) -> Result<i64, Refusal> {
    match (kind, wire) {
        (Kind::Oid, Wire::Binary) => binary::oid(bytes),
        (Kind::Time, Wire::Binary) => binary::time(bytes),
        (Kind::Time, Wire::Text) => text::time(bytes),
        (Kind::Timestamp | Kind::TimestampTz, Wire::Binary) => binary::timestamp(bytes),
        (Kind::Timestamp | Kind::TimestampTz, Wire::Text) => text::timestamp(bytes),
        (_, Wire::Binary) => binary::int8(bytes),
        (_, Wire::Text) => text::integer(bytes),
    }
}

impl Bytes {
    fn with_capacity(values: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(values + 1);
        offsets.push(0);
        Self { data: Vec::with_capacity(bytes), offsets }
    }

    #[inline]
    fn push(&mut self, kind: Kind, wire: Wire, bytes: &[u8]) -> Result<(), Refusal> {
        let start = self.data.len();
        let written = match (kind, wire) {
            (Kind::Jsonb, Wire::Binary) => binary::jsonb(bytes).map(|json| self.data.extend_from_slice(json)),
            (Kind::Uuid, Wire::Binary) => binary::uuid(bytes, &mut self.data),
            (Kind::Bytea, Wire::Text) => text::bytea(bytes, &mut self.data),
            (Kind::Numeric, Wire::Binary) => numeric::text_of_binary(bytes, &mut self.data),
            _ => {
                self.data.extend_from_slice(bytes);
                Ok(())
            }
        };
        let written = written.and_then(|()| i32::try_from(self.data.len()).map_err(|_| "the batch exceeds 2 GB in one column"));
        match written {
            Ok(end) => self.offsets.push(end),
            Err(refusal) => {
                self.data.truncate(start);
                return Err(refusal);
            }
        }
        Ok(())
    }

    #[inline]
    fn push_empty(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0));
        self.data.truncate(end);
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let room = Self::with_capacity(self.offsets.len(), self.data.len());
        let full = std::mem::replace(self, room);
        (OffsetBuffer::new(ScalarBuffer::from(full.offsets)), Buffer::from_vec(full.data))
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let room = Vec::with_capacity(values.len());
    let full = std::mem::replace(values, room);
    let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(full), nulls)?;
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

/// Text is checked once for the whole column; only where that fails, value by value.
fn strings(offsets: OffsetBuffer<i32>, data: Buffer, nulls: Option<NullBuffer>) -> Result<(ArrayRef, Vec<usize>), ArrowError> {
    if let Ok(array) = StringArray::try_new(offsets.clone(), data.clone(), nulls.clone()) {
        return Ok((Arc::new(array), Vec::new()));
    }
    let raw = BinaryArray::try_new(offsets, data, nulls)?;
    let mut refused = Vec::new();
    let array: StringArray = (0..raw.len())
        .map(|row| {
            let value = raw.is_valid(row).then(|| raw.value(row))?;
            let text = std::str::from_utf8(value).ok();
            if text.is_none() {
                refused.push(row);
            }
            text
        })
        .collect();
    Ok((Arc::new(array), refused))
}
