//! What each type of a column becomes, and the layout of a table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use hub_sdk::model::SOURCE_TYPE;
use serde::{Deserialize, Serialize};

/// The type of a column, as far as reading it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// `TINYINT` to `BIGINT`: bytes, and whether it has no sign.
    Int { bytes: u8, unsigned: bool },
    /// `FLOAT`.
    Float,
    /// `DOUBLE`.
    Double,
    /// `DECIMAL`: all digits, and those after the point.
    Decimal { precision: u8, scale: u8 },
    /// Text, with the name of its character set.
    Text { charset: String },
    /// `BINARY(n)`: the log leaves out zeros at its end.
    Binary { length: u16 },
    /// `VARBINARY` and blobs.
    Blob,
    /// `BIT(n)`.
    Bit { bits: u8 },
    /// `DATE`.
    Date,
    /// `TIME`.
    Time,
    /// `DATETIME`.
    DateTime,
    /// `TIMESTAMP`.
    Timestamp,
    /// `YEAR`.
    Year,
    /// `ENUM`, with its labels and their character set.
    Enum { charset: String, labels: Vec<String> },
    /// `SET`, the same.
    Set { charset: String, labels: Vec<String> },
    /// `JSON` of MySQL, which the log has in a binary form.
    Json,
    /// Any of the spatial types.
    Geometry,
    /// `UUID` of MariaDB.
    Uuid,
    /// `INET6` of MariaDB.
    Inet6,
    /// `INET4` of MariaDB.
    Inet4,
    /// One that the hub does not know.
    Unknown,
}

/// The most digits of Arrow's decimal.
const DECIMAL_DIGITS: u8 = 38;

impl Kind {
    /// Its column in Arrow. `zone` is whether `DATETIME` has a time zone.
    pub(crate) fn data_type(&self, zone: bool) -> DataType {
        match self {
            Self::Int { bytes: 1, unsigned: false } => DataType::Int8,
            Self::Int { bytes: 1, .. } | Self::Int { bytes: 2, unsigned: false } | Self::Year => DataType::Int16,
            Self::Int { bytes: 2 | 3, .. } | Self::Int { bytes: 4, unsigned: false } => DataType::Int32,
            Self::Int { bytes: 4, .. } | Self::Int { unsigned: false, .. } => DataType::Int64,
            Self::Int { .. } => DataType::Decimal128(20, 0),
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale } if *precision <= DECIMAL_DIGITS => {
                DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(0))
            }
            Self::Binary { .. } | Self::Blob | Self::Geometry => DataType::Binary,
            Self::Bit { bits: 1 } => DataType::Boolean,
            Self::Bit { bits: 2..=63 } => DataType::Int64,
            Self::Bit { .. } => DataType::Decimal128(20, 0),
            Self::Date => DataType::Date32,
            Self::DateTime if !zone => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::DateTime | Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal { .. }
            | Self::Text { .. }
            | Self::Time
            | Self::Enum { .. }
            | Self::Set { .. }
            | Self::Json
            | Self::Uuid
            | Self::Inet6
            | Self::Inet4
            | Self::Unknown => DataType::Utf8,
        }
    }

    /// The character set that its text is stored in, where it has one.
    pub(crate) fn charset(&self) -> Option<&str> {
        match self {
            Self::Text { charset } | Self::Enum { charset, .. } | Self::Set { charset, .. } => Some(charset),
            _ => None,
        }
    }

    /// Whether keys of it can be compared here as the server compares them.
    pub(crate) fn is_sortable(&self) -> bool {
        matches!(self, Self::Int { .. } | Self::Binary { .. })
    }

    /// Reads a type as `information_schema.COLUMNS` spells it.
    pub(crate) fn parse(data_type: &str, column_type: &str, charset: Option<&str>, (precision, scale): (u8, u8)) -> Self {
        let unsigned = column_type.contains("unsigned");
        let int = |bytes| Self::Int { bytes, unsigned };
        let text = |charset: &str| match charset {
            "binary" => Self::Blob,
            charset => Self::Text { charset: charset.to_owned() },
        };
        if column_type.contains(" COMPRESSED") {
            return Self::Unknown;
        }
        match data_type.to_ascii_lowercase().as_str() {
            "tinyint" => int(1),
            "smallint" => int(2),
            "mediumint" => int(3),
            "int" | "integer" => int(4),
            "bigint" => int(8),
            "float" => Self::Float,
            "double" | "real" => Self::Double,
            "decimal" | "numeric" => Self::Decimal { precision, scale },
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => text(charset.unwrap_or("binary")),
            "binary" => Self::Binary { length: in_brackets(column_type).parse().unwrap_or(1) },
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Blob,
            "bit" => Self::Bit { bits: in_brackets(column_type).parse().unwrap_or(1) },
            "date" => Self::Date,
            "time" => Self::Time,
            "datetime" => Self::DateTime,
            "timestamp" => Self::Timestamp,
            "year" => Self::Year,
            "enum" => Self::Enum { charset: charset.unwrap_or("binary").to_owned(), labels: labels(column_type) },
            "set" => Self::Set { charset: charset.unwrap_or("binary").to_owned(), labels: labels(column_type) },
            "json" => Self::Json,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon" | "geometrycollection"
            | "geomcollection" => Self::Geometry,
            "uuid" => Self::Uuid,
            "inet6" => Self::Inet6,
            "inet4" => Self::Inet4,
            _ => Self::Unknown,
        }
    }
}

fn in_brackets(column_type: &str) -> &str {
    column_type.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inner, _)| inner)
}

/// Labels of `enum('a','it''s')`.
fn labels(column_type: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let mut letters = column_type.chars().peekable();
    let mut label: Option<String> = None;
    while let Some(letter) = letters.next() {
        match (&mut label, letter) {
            (None, '\'') => label = Some(String::new()),
            (None, _) => {}
            (Some(text), '\'') if letters.peek() == Some(&'\'') => {
                letters.next();
                text.push('\'');
            }
            (Some(_), '\'') => labels.extend(label.take()),
            (Some(text), letter) => text.push(letter),
        }
    }
    labels
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The type in the source's words.
    pub(crate) source_type: String,
}

/// The columns of a table in their order, and those of its primary key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) columns: Vec<Column>,
    /// Places of the columns of the primary key, in the key's order.
    pub(crate) key: Vec<usize>,
}

impl Layout {
    /// The schema of its rows.
    pub(crate) fn schema(&self, zone: bool) -> SchemaRef {
        let field = |column: &Column| {
            let metadata = HashMap::from([(SOURCE_TYPE.to_owned(), column.source_type.clone())]);
            Field::new(&column.name, column.kind.data_type(zone), true).with_metadata(metadata)
        };
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// Whether keys can be compared here, so that a table is read in pieces.
    pub(crate) fn is_sortable(&self) -> bool {
        !self.key.is_empty() && self.key.iter().all(|place| self.columns.get(*place).is_some_and(|column| column.kind.is_sortable()))
    }

    /// Names of the key's columns.
    pub(crate) fn identity(&self) -> Vec<String> {
        self.key.iter().filter_map(|place| self.columns.get(*place)).map(|column| column.name.clone()).collect()
    }
}

/// An identifier in backquotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as a literal, safe whatever `sql_mode` says.
pub(crate) fn literal(text: &str) -> String {
    let mut hex = String::with_capacity(text.len() * 2 + 24);
    hex.push_str("CONVERT(X'");
    for byte in text.bytes() {
        hex.push_str(&format!("{byte:02X}"));
    }
    hex.push_str("' USING utf8mb4)");
    hex
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn labels_may_hold_quotes_commas_and_brackets() {
        let kind = Kind::parse("enum", "enum('a','it''s','x,)(y','')", Some("latin1"), (0, 0));
        let labels = ["a", "it's", "x,)(y", ""].map(str::to_owned).to_vec();
        assert_eq!(kind, Kind::Enum { charset: "latin1".to_owned(), labels });
    }

    #[test]
    fn every_whole_number_fits_its_column() {
        let of = |data_type: &str, column_type: &str| Kind::parse(data_type, column_type, None, (0, 0)).data_type(false);
        assert_eq!(of("tinyint", "tinyint(3) unsigned"), DataType::Int16);
        assert_eq!(of("smallint", "smallint(5) unsigned"), DataType::Int32);
        assert_eq!(of("mediumint", "mediumint(8) unsigned"), DataType::Int32);
        assert_eq!(of("int", "int(10) unsigned"), DataType::Int64);
        assert_eq!(of("bigint", "bigint(20) unsigned"), DataType::Decimal128(20, 0));
        assert_eq!(of("bit", "bit(1)"), DataType::Boolean);
        assert_eq!(of("bit", "bit(64)"), DataType::Decimal128(20, 0));
    }
}
