//! Digests and keys of the rows of a page, column by column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::{Digest, join_key, key_rows};

use crate::page::Page;

/// A digest of each row. It does not depend on the order of the columns, nor on columns without a value; a cell at fault counts
/// as what is wrong with it.
pub(crate) fn digests(page: &Page) -> Vec<u64> {
    let mut sums = vec![0u64; page.rows.num_rows()];
    let schema = page.rows.schema();
    for (field, column) in schema.fields().iter().zip(page.rows.columns()) {
        let mut seed = Digest::default();
        seed.value(Some(field.name().as_bytes()));
        let mut add = |row: usize, value: &[u8]| {
            let mut digest = seed;
            digest.value(Some(value));
            sums[row] = sums[row].wrapping_add(digest.finish());
        };
        cells(column, &mut add);
    }
    for fault in &page.faults {
        let mut digest = Digest::default();
        digest.value(fault.column.as_deref().map(str::as_bytes));
        digest.value(Some(fault.code.as_bytes()));
        if let Some(sum) = sums.get_mut(fault.row as usize) {
            *sum = sum.wrapping_add(digest.finish());
        }
    }
    sums
}

/// Calls `add` with the bytes of every value that is there.
fn cells(column: &ArrayRef, add: &mut impl FnMut(usize, &[u8])) {
    let present = |row: &usize| column.is_valid(*row);
    let rows = 0..column.len();
    match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            rows.filter(present).for_each(|row| add(row, texts.value(row).as_bytes()));
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>();
            rows.filter(present).for_each(|row| add(row, bytes.value(row)));
        }
        DataType::Boolean => {
            let bits = column.as_boolean();
            rows.filter(present).for_each(|row| add(row, &[u8::from(bits.value(row))]));
        }
        kind => {
            let Some(width) = kind.primitive_width() else { return };
            let data = column.to_data();
            let bytes = data.buffers()[0].as_slice();
            let start = data.offset() * width;
            rows.filter(present).for_each(|row| add(row, &bytes[start + row * width..start + (row + 1) * width]));
        }
    }
}

/// The key of each row as one text; `None` where a part of it is null.
pub(crate) fn keys(rows: &RecordBatch, identity: &[usize]) -> Result<Vec<Option<Box<str>>>, ArrowError> {
    let parts = identity.iter().map(|place| texts(rows.column(*place))).collect::<Result<Vec<_>, _>>()?;
    let key = |row: usize| {
        let parts = parts.iter().map(|part| part.is_valid(row).then(|| part.value(row))).collect::<Option<Vec<&str>>>()?;
        Some(join_key(&parts).into())
    };
    Ok((0..rows.num_rows()).map(key).collect())
}

/// Rows that have nothing but keys that [`keys`] has made.
pub(crate) fn deleted(schema: &SchemaRef, identity: &[usize], keys: &[Box<str>]) -> Result<RecordBatch, ArrowError> {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Binary => Field::new(field.name(), DataType::Utf8, true),
        _ => field.as_ref().clone(),
    };
    let texts = Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()));
    let rows = key_rows(&texts, identity, keys)?;
    let column = |(field, column): (&Arc<Field>, &ArrayRef)| match field.data_type() {
        DataType::Binary => Arc::new(column.as_string::<i32>().iter().map(|hex| hex.map(unhex)).collect::<BinaryArray>()) as ArrayRef,
        _ => Arc::clone(column),
    };
    RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().zip(rows.columns()).map(column).collect())
}

/// A column of a key as text that casts back to the same value.
fn texts(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    match column.data_type() {
        DataType::Binary => Ok(column.as_binary::<i32>().iter().map(|bytes| bytes.map(hex)).collect()),
        DataType::Utf8 => Ok(column.as_string::<i32>().clone()),
        _ => Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::array::{Decimal128Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    fn rows() -> RecordBatch {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(Int64Array::from(vec![Some(-1), Some(2), None]))),
            ("b", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255]), Some(&[]), Some(&[1])]))),
            ("c", Arc::new(TimestampMicrosecondArray::from(vec![1, 1_709_251_199_123_456, 0]))),
            ("d", Arc::new(Decimal128Array::from(vec![1, -250, 3]).with_precision_and_scale(14, 2).unwrap())),
            ("e", Arc::new(StringArray::from(vec!["[", "ă", ""]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn keys_of_every_type_come_back_in_deletes() {
        let rows = rows();
        let identity = [4, 0, 1, 2, 3];
        let keys = keys(&rows, &identity).unwrap();
        assert!(keys[2].is_none(), "a part is null");
        let keys: Vec<Box<str>> = keys.into_iter().flatten().collect();
        assert_eq!(deleted(&rows.schema(), &identity, &keys).unwrap(), rows.slice(0, 2));
    }

    #[test]
    fn a_digest_knows_its_values_and_not_the_order_of_columns() {
        let page = |rows| Page { rows, faults: Vec::new() };
        let all = digests(&page(rows()));
        let turned = digests(&page(rows().project(&[4, 3, 2, 1, 0]).unwrap()));
        assert_eq!(all, turned);
        assert_eq!(digests(&page(rows().slice(1, 2))), all[1..]);
        assert_ne!(all[0], digests(&page(rows().project(&[0, 1, 2, 3]).unwrap()))[0]);
    }
}
