//! The catalogue of types: what each source column becomes in Arrow, and how it is read.

mod catalogue;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use hub_sdk::model::SOURCE_TYPE;

pub use catalogue::{Catalogue, load_columns};

/// How a column is decoded. One variant per decoder, not per SQL type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `oid`, unsigned, in a signed 64-bit column because Avro has no unsigned numbers.
    Oid,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `numeric(p,s)` that Arrow's 128-bit decimal holds whole.
    Decimal {
        /// Decimal digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// `numeric` without limits, or with more than 38 digits: PostgreSQL's own text.
    Numeric,
    /// Types whose binary form is their text: `text`, `varchar`, `bpchar`, `name`, `citext`, enums, `json`, `xml`.
    Text,
    /// `jsonb`: a version byte, then text.
    Jsonb,
    /// `uuid`, as text.
    Uuid,
    /// `bytea`.
    Bytea,
    /// `date`.
    Date,
    /// `time`.
    Time,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    TimestampTz,
    /// Everything else: PostgreSQL's own text, and no binary decoder.
    Opaque,
}

impl Kind {
    /// Whether [`crate::decode::Wire::Binary`] values of the type's own can be decoded. A slot that captures a column
    /// without runs in text; a snapshot reads such a column as text ([`ColumnType::select`]).
    #[must_use]
    pub const fn has_binary(self) -> bool {
        !matches!(self, Self::Opaque)
    }

    /// Its column in Arrow.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(0)),
            Self::Numeric | Self::Text | Self::Jsonb | Self::Uuid | Self::Opaque => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The kind of a base type that every server has, by its fixed number; `None` for all others.
    #[must_use]
    pub fn of_builtin(oid: u32, typmod: i32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            26 => Self::Oid,
            // name, text, json, xml, bpchar, varchar
            19 | 25 | 114 | 142 | 1042 | 1043 => Self::Text,
            700 => Self::Float4,
            701 => Self::Float8,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            NUMERIC => numeric(typmod),
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ => return None,
        })
    }
}

/// One column of a source table, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// Its name at the source.
    pub name: Arc<str>,
    /// Its type's number, a domain's own where it is one.
    pub oid: u32,
    /// Its type modifier, -1 for none.
    pub typmod: i32,
    /// Its type in SQL, `numeric(14,2)`.
    pub sql_type: Arc<str>,
    /// How it is decoded.
    pub kind: Kind,
    /// What a snapshot selects: the quoted column, or its text where the type has no binary decoder.
    pub select: Arc<str>,
}

impl ColumnType {
    /// Its field in Arrow: nullable, with the source's type as metadata.
    #[must_use]
    pub fn field(&self) -> Field {
        let metadata = HashMap::from([(SOURCE_TYPE.to_owned(), self.sql_type.to_string())]);
        Field::new(self.name.as_ref(), self.kind.data_type(), true).with_metadata(metadata)
    }
}

/// The Arrow schema of columns.
#[must_use]
pub fn schema_of(columns: &[ColumnType]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(ColumnType::field).collect::<Vec<_>>()))
}

/// Whether every column has a binary decoder, so that its slot can run in binary.
#[must_use]
pub fn all_binary(columns: &[ColumnType]) -> bool {
    columns.iter().all(|column| column.kind.has_binary())
}

/// An identifier in double quotes, inner ones doubled.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal, safe whatever `standard_conforming_strings` says.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        return format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    }
    format!("'{}'", text.replace('\'', "''"))
}

const NUMERIC: u32 = 1700;
const VARCHAR_HEADER: i32 = 4;

/// The kind of a `numeric` with this modifier. A negative scale (15 and later) has whole numbers only; a scale beyond
/// the precision has no digits before the point.
fn numeric(typmod: i32) -> Kind {
    let Some((precision, scale)) = numeric_limits(typmod) else { return Kind::Numeric };
    let (precision, scale) = match scale {
        ..0 => (precision - scale, 0),
        _ => (precision.max(scale), scale),
    };
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) => Kind::Decimal { precision, scale },
        _ => Kind::Numeric,
    }
}

/// Precision and scale in a modifier; the scale has 11 bits with a sign.
fn numeric_limits(typmod: i32) -> Option<(i32, i32)> {
    if typmod < VARCHAR_HEADER {
        return None;
    }
    let limits = typmod - VARCHAR_HEADER;
    let scale = limits & 0x7ff;
    Some(((limits >> 16) & 0xffff, (scale ^ 1024) - 1024))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn typmod(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn numerics_of_up_to_38_digits_are_decimals_and_the_rest_stay_text() {
        let kind = |precision, scale| Kind::of_builtin(NUMERIC, typmod(precision, scale)).unwrap();
        assert_eq!(kind(14, 2), Kind::Decimal { precision: 14, scale: 2 });
        assert_eq!(kind(38, 38), Kind::Decimal { precision: 38, scale: 38 });
        assert_eq!(kind(5, -2), Kind::Decimal { precision: 7, scale: 0 });
        assert_eq!(kind(3, 5), Kind::Decimal { precision: 5, scale: 5 });
        assert_eq!(kind(39, 0), Kind::Numeric);
        assert_eq!(kind(1000, -1000), Kind::Numeric);
        assert_eq!(Kind::of_builtin(NUMERIC, -1), Some(Kind::Numeric));
    }

    #[test]
    fn quoting_survives_quotes_and_backslashes() {
        assert_eq!(quote_identifier("Hồ \"sơ\""), "\"Hồ \"\"sơ\"\"\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), " E'a\\\\''b'");
    }
}
