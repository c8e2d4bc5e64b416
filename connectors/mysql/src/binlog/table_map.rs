//! The event that says which table the next rows are of, and how each of their columns is stored.

use crate::decode::Form;
use crate::kind::{Column, Kind};
use crate::wire::{Bytes, WireError};

/// Numbers of types in the log.
mod tag {
    pub(super) const TINY: u8 = 1;
    pub(super) const SHORT: u8 = 2;
    pub(super) const LONG: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const TIMESTAMP: u8 = 7;
    pub(super) const LONGLONG: u8 = 8;
    pub(super) const INT24: u8 = 9;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const DATETIME: u8 = 12;
    pub(super) const YEAR: u8 = 13;
    pub(super) const NEWDATE: u8 = 14;
    pub(super) const VARCHAR: u8 = 15;
    pub(super) const BIT: u8 = 16;
    pub(super) const TIMESTAMP2: u8 = 17;
    pub(super) const DATETIME2: u8 = 18;
    pub(super) const TIME2: u8 = 19;
    pub(super) const JSON: u8 = 245;
    pub(super) const NEWDECIMAL: u8 = 246;
    pub(super) const ENUM: u8 = 247;
    pub(super) const SET: u8 = 248;
    pub(super) const TINY_BLOB: u8 = 249;
    pub(super) const MEDIUM_BLOB: u8 = 250;
    pub(super) const LONG_BLOB: u8 = 251;
    pub(super) const BLOB: u8 = 252;
    pub(super) const VAR_STRING: u8 = 253;
    pub(super) const STRING: u8 = 254;
    pub(super) const GEOMETRY: u8 = 255;
}

/// How a column is stored in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogColumn {
    tag: u8,
    /// What the type needs besides: a length, digits.
    meta: u16,
    pub(crate) width: Width,
}

/// How long the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// Always so many bytes.
    Fixed(usize),
    /// A length in so many bytes before them.
    Prefixed(usize),
}

/// A table as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableMap {
    pub(crate) id: u64,
    pub(crate) database: String,
    pub(crate) table: String,
    pub(crate) columns: Vec<LogColumn>,
    /// Names of the columns, where the server writes them (`binlog_row_metadata=FULL`).
    pub(crate) names: Vec<String>,
}

const UNKNOWN: WireError = WireError::Protocol("the log has a type that is not known");

impl TableMap {
    /// Number and names alone.
    pub(crate) fn peek(body: &[u8]) -> Result<(u64, &[u8], &[u8]), WireError> {
        let mut bytes = Bytes::new(body);
        let id = bytes.number(6)?;
        bytes.take(2)?;
        let length = usize::from(bytes.u8()?);
        let database = bytes.take(length)?;
        bytes.take(1)?;
        let length = usize::from(bytes.u8()?);
        Ok((id, database, bytes.take(length)?))
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let (id, database, table) = Self::peek(body)?;
        let mut bytes = Bytes::new(body.get(8 + 2 + database.len() + 1 + table.len() + 1..).unwrap_or_default());
        let count = bytes.length()?;
        let tags = bytes.take(count)?;
        let mut metas = Bytes::new(bytes.text()?.unwrap_or_default());
        let columns = tags.iter().map(|tag| LogColumn::parse(*tag, &mut metas)).collect::<Result<_, _>>()?;
        bytes.take(count.div_ceil(8))?;
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let mut names = Vec::new();
        while !bytes.is_empty() {
            let field = bytes.u8()?;
            let value = bytes.text()?.unwrap_or_default();
            if field == 4 {
                let mut value = Bytes::new(value);
                while let Ok(Some(name)) = value.text() {
                    names.push(text(name));
                }
            }
        }
        Ok(Self { id, database: text(database), table: text(table), columns, names })
    }
}

#[cfg(test)]
impl LogColumn {
    /// A column whose cells are so many bytes.
    pub(super) const fn fixed(bytes: usize) -> Self {
        Self { tag: tag::LONG, meta: 0, width: Width::Fixed(bytes) }
    }

    /// A column whose cells have a length in so many bytes before them.
    pub(super) const fn prefixed(bytes: usize) -> Self {
        Self { tag: tag::VARCHAR, meta: 0, width: Width::Prefixed(bytes) }
    }
}

impl LogColumn {
    fn parse(tag: u8, metas: &mut Bytes<'_>) -> Result<Self, WireError> {
        use Width::{Fixed, Prefixed};
        let (meta, width) = match tag {
            tag::TINY | tag::YEAR => (0, Fixed(1)),
            tag::SHORT => (0, Fixed(2)),
            tag::INT24 | tag::DATE | tag::NEWDATE | tag::TIME => (0, Fixed(3)),
            tag::LONG | tag::TIMESTAMP => (0, Fixed(4)),
            tag::LONGLONG | tag::DATETIME => (0, Fixed(8)),
            tag::FLOAT | tag::DOUBLE => {
                let bytes = metas.u8()?;
                (u16::from(bytes), Fixed(usize::from(bytes)))
            }
            tag::TIMESTAMP2 | tag::DATETIME2 | tag::TIME2 => {
                let digits = metas.u8()?;
                let head = match tag {
                    tag::TIMESTAMP2 => 4,
                    tag::DATETIME2 => 5,
                    _ => 3,
                };
                (u16::from(digits), Fixed(head + usize::from(digits.div_ceil(2))))
            }
            tag::NEWDECIMAL => {
                let (precision, scale) = (metas.u8()?, metas.u8()?);
                let bytes = crate::decode::decimal_bytes(precision, scale);
                (u16::from(precision) << 8 | u16::from(scale), Fixed(bytes))
            }
            tag::VARCHAR => {
                let most = metas.u16()?;
                (most, Prefixed(if most > 255 { 2 } else { 1 }))
            }
            tag::BIT => {
                let (bits, bytes) = (metas.u8()?, metas.u8()?);
                (u16::from(bytes) * 8 + u16::from(bits), Fixed(usize::from(bytes) + usize::from(bits > 0)))
            }
            tag::JSON | tag::TINY_BLOB | tag::MEDIUM_BLOB | tag::LONG_BLOB | tag::BLOB | tag::GEOMETRY => {
                let bytes = metas.u8()?;
                (u16::from(bytes), Prefixed(usize::from(bytes)))
            }
            tag::STRING | tag::VAR_STRING | tag::ENUM | tag::SET => return Self::string(metas.u8()?, metas.u8()?),
            _ => return Err(UNKNOWN),
        };
        Ok(Self { tag, meta, width })
    }

    /// `CHAR`, `BINARY`, `ENUM` and `SET` share a type: the real one, and a length of up to ten bits, two of them within the type.
    fn string(real: u8, low: u8) -> Result<Self, WireError> {
        let (real, length) =
            if real & 0x30 == 0x30 { (real, u16::from(low)) } else { (real | 0x30, u16::from(low) | u16::from((real & 0x30) ^ 0x30) << 4) };
        let width = match real {
            tag::ENUM | tag::SET => Width::Fixed(usize::from(length)),
            tag::STRING | tag::VAR_STRING => Width::Prefixed(if length > 255 { 2 } else { 1 }),
            _ => return Err(UNKNOWN),
        };
        Ok(Self { tag: real, meta: length, width })
    }

    /// The form of its cells for a column of a layout; `None` where the two are not of one type.
    pub(crate) fn form(&self, column: &Column) -> Option<Form> {
        let bytes = |wanted: u8| match self.tag {
            tag::TINY => wanted == 1,
            tag::SHORT => wanted == 2,
            tag::INT24 => wanted == 3,
            tag::LONG => wanted == 4,
            tag::LONGLONG => wanted == 8,
            _ => false,
        };
        let digits = self.meta as u8;
        // The old forms with a fraction are as long as their digits say, which the log does not.
        let has_fraction = column.source_type.contains('(');
        let is_text = matches!(
            self.tag,
            tag::VARCHAR | tag::VAR_STRING | tag::STRING | tag::TINY_BLOB | tag::MEDIUM_BLOB | tag::LONG_BLOB | tag::BLOB
        );
        Some(match (&column.kind, self.tag) {
            (Kind::Int { bytes: wanted, unsigned }, _) if bytes(*wanted) => Form::Int { signed: !unsigned },
            (Kind::Float, tag::FLOAT) | (Kind::Double, tag::DOUBLE) => Form::Float,
            (Kind::Decimal { precision, scale }, tag::NEWDECIMAL) if self.meta == u16::from(*precision) << 8 | u16::from(*scale) => {
                Form::DecimalPacked { precision: *precision, scale: *scale }
            }
            (Kind::Text { .. } | Kind::Blob, _) if is_text => Form::Bytes,
            (Kind::Binary { length }, tag::STRING) => Form::Padded { length: *length },
            (Kind::Bit { bits }, tag::BIT) if self.meta == u16::from(*bits) => Form::Bits,
            (Kind::Date, tag::DATE | tag::NEWDATE) => Form::DatePacked,
            (Kind::Time, tag::TIME2) => Form::TimePacked { digits },
            (Kind::Time, tag::TIME) if !has_fraction => Form::TimeOld,
            (Kind::DateTime, tag::DATETIME2) => Form::DateTimePacked { digits },
            (Kind::DateTime, tag::DATETIME) if !has_fraction => Form::DateTimeOld,
            (Kind::Timestamp, tag::TIMESTAMP2) => Form::TimestampPacked { digits },
            (Kind::Timestamp, tag::TIMESTAMP) if !has_fraction => Form::TimestampOld,
            (Kind::Year, tag::YEAR) => Form::YearByte,
            (Kind::Enum { .. }, tag::ENUM) => Form::Index,
            (Kind::Set { .. }, tag::SET) => Form::Labels,
            (Kind::Json, tag::JSON) => Form::JsonBinary,
            (Kind::Geometry, tag::GEOMETRY | tag::BLOB) => Form::Geometry,
            (Kind::Uuid | Kind::Inet6 | Kind::Inet4, tag::STRING) => Form::Raw,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_long_char_has_two_bits_of_its_length_within_its_type() {
        // CHAR(255) of utf8mb4 is 1020 bytes: 0x3fc, its upper bits inverted in the type.
        let column = LogColumn::string(0xfe ^ 0x30, 0xfc).unwrap();
        assert_eq!(column, LogColumn { tag: tag::STRING, meta: 0x3fc, width: Width::Prefixed(2) });
        let column = LogColumn::string(tag::ENUM, 2).unwrap();
        assert_eq!(column.width, Width::Fixed(2));
    }
}
