//! The columns of a result: their Arrow types, and the buffers that the driver fills.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType as Arrow, Field, Schema, SchemaRef, TimeUnit};
use arrow_odbc::odbc_api::buffers::BufferDesc;
use arrow_odbc::odbc_api::{ColumnDescription, DataType, Error, ResultSetMetadata};
use hub_sdk::model::SOURCE_TYPE;

/// How a column comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Bool,
    Int8,
    UInt8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Date,
    /// Microseconds or nanoseconds since 1970.
    Timestamp(TimeUnit),
    /// Digits as text, because drivers disagree about SQL_C_NUMERIC.
    Decimal(u8, i8),
    /// Longest text in bytes.
    Text(usize),
    /// Longest text in UTF-16 units.
    Wide(usize),
    /// Longest value in bytes.
    Binary(usize),
}

/// Columns of a result.
#[derive(Debug)]
pub(crate) struct Columns {
    /// As Arrow has them; all nullable, with the source's types as metadata.
    pub(crate) schema: SchemaRef,
    /// How each comes.
    pub(crate) forms: Vec<Form>,
}

/// What decides how long values may be and how they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// Bytes of a value whose column says no length.
    pub(crate) max_value: usize,
    /// Whether lengths of columns are only words.
    pub(crate) are_ignored: bool,
    /// Whether text comes as UTF-16.
    pub(crate) is_wide: bool,
    /// Whether the driver loses numbers of single precision that are fetched as such.
    pub(crate) is_single_broken: bool,
}

impl Columns {
    /// Asks the driver.
    pub(crate) fn of(cursor: &mut impl ResultSetMetadata, lengths: Lengths) -> Result<Self, Error> {
        let count = u16::try_from(cursor.num_result_cols()?).unwrap_or(0);
        let (mut fields, mut forms) = (Vec::new(), Vec::new());
        let mut names: HashMap<String, u32> = HashMap::new();
        for place in 1..=count {
            let mut description = ColumnDescription::default();
            cursor.describe_col(place, &mut description)?;
            let mut name = description.name_to_string().unwrap_or_default();
            if name.is_empty() {
                name = format!("column_{place}");
            }
            let seen = names.entry(name.clone()).or_insert(0);
            *seen += 1;
            if *seen > 1 {
                name = format!("{name}_{seen}");
            }
            let kind = description.data_type;
            let is_unsigned = is_integer(kind) && cursor.column_is_unsigned(place)?;
            let display = matches!(kind, DataType::Other { .. } | DataType::Time { .. } | DataType::Unknown);
            let display = if display { cursor.col_display_size(place).ok().flatten().map(usize::from) } else { None };
            let form = form(kind, is_unsigned, display, lengths);
            let metadata = HashMap::from([(SOURCE_TYPE.to_owned(), words(kind, is_unsigned))]);
            fields.push(Field::new(name, form.arrow(), true).with_metadata(metadata));
            forms.push(form);
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), forms })
    }

    /// Bytes that one row takes in the buffers.
    pub(crate) fn row_bytes(&self) -> usize {
        self.forms.iter().map(|form| form.buffer().bytes_per_row()).sum::<usize>().max(1)
    }
}

impl Form {
    /// Its Arrow type.
    pub(crate) fn arrow(self) -> Arrow {
        match self {
            Self::Bool => Arrow::Boolean,
            Self::Int8 => Arrow::Int8,
            Self::UInt8 => Arrow::UInt8,
            Self::Int16 => Arrow::Int16,
            Self::Int32 => Arrow::Int32,
            Self::Int64 => Arrow::Int64,
            Self::Float32 => Arrow::Float32,
            Self::Float64 => Arrow::Float64,
            Self::Date => Arrow::Date32,
            Self::Timestamp(unit) => Arrow::Timestamp(unit, None),
            Self::Decimal(precision, scale) => Arrow::Decimal128(precision, scale),
            Self::Text(_) | Self::Wide(_) => Arrow::Utf8,
            Self::Binary(_) => Arrow::Binary,
        }
    }

    /// The buffer that the driver fills.
    pub(crate) fn buffer(self) -> BufferDesc {
        let nullable = true;
        match self {
            Self::Bool => BufferDesc::Bit { nullable },
            Self::Int8 => BufferDesc::I8 { nullable },
            Self::UInt8 => BufferDesc::U8 { nullable },
            Self::Int16 => BufferDesc::I16 { nullable },
            Self::Int32 => BufferDesc::I32 { nullable },
            Self::Int64 => BufferDesc::I64 { nullable },
            Self::Float32 => BufferDesc::F32 { nullable },
            Self::Float64 => BufferDesc::F64 { nullable },
            Self::Date => BufferDesc::Date { nullable },
            Self::Timestamp(_) => BufferDesc::Timestamp { nullable },
            // Sign, point, a zero before the point, and room to see that there are too many digits.
            Self::Decimal(precision, _) => BufferDesc::Text { max_str_len: usize::from(precision) + 24 },
            // Room for one letter more than is taken: what fills it was longer, whether or not the driver says that it has cut it.
            Self::Text(bytes) => BufferDesc::Text { max_str_len: bytes + 4 },
            Self::Wide(units) => BufferDesc::WText { max_str_len: units + 2 },
            Self::Binary(bytes) => BufferDesc::Binary { max_bytes: bytes + 1 },
        }
    }
}

fn is_integer(kind: DataType) -> bool {
    matches!(kind, DataType::TinyInt | DataType::SmallInt | DataType::Integer | DataType::BigInt)
}

fn form(kind: DataType, is_unsigned: bool, display: Option<usize>, lengths: Lengths) -> Form {
    match kind {
        DataType::Bit => Form::Bool,
        DataType::TinyInt if is_unsigned => Form::UInt8,
        DataType::TinyInt => Form::Int8,
        DataType::SmallInt if is_unsigned => Form::Int32,
        DataType::SmallInt => Form::Int16,
        DataType::Integer if is_unsigned => Form::Int64,
        // SQLite has one kind of integer, whatever its column was declared as.
        DataType::Integer if lengths.are_ignored => Form::Int64,
        DataType::Integer => Form::Int32,
        DataType::BigInt if is_unsigned => Form::Decimal(20, 0),
        DataType::BigInt => Form::Int64,
        DataType::Real | DataType::Float { precision: 0..=24 } if !lengths.are_ignored && !lengths.is_single_broken => Form::Float32,
        DataType::Real | DataType::Float { .. } | DataType::Double => Form::Float64,
        DataType::Date => Form::Date,
        DataType::Timestamp { precision: 7.. } => Form::Timestamp(TimeUnit::Nanosecond),
        DataType::Timestamp { .. } => Form::Timestamp(TimeUnit::Microsecond),
        DataType::Numeric { precision: precision @ 1..=38, scale } | DataType::Decimal { precision: precision @ 1..=38, scale }
            if (0..=38).contains(&scale) && !lengths.are_ignored =>
        {
            // PostgreSQL and Oracle allow more digits behind the point than in all; Arrow does not.
            let (precision, scale) = (u8::try_from(precision).unwrap_or(38), i8::try_from(scale).unwrap_or(0));
            Form::Decimal(precision.max(scale.unsigned_abs()), scale)
        }
        DataType::Numeric { .. } | DataType::Decimal { .. } => text(Some(128), lengths),
        DataType::Binary { length } | DataType::Varbinary { length } => binary(length.map(usize::from), lengths),
        DataType::LongVarbinary { .. } => binary(None, lengths),
        DataType::Char { length } | DataType::WChar { length } | DataType::Varchar { length } | DataType::WVarchar { length } => {
            text(length.map(usize::from), lengths)
        }
        DataType::LongVarchar { .. } | DataType::WLongVarchar { .. } => text(None, lengths),
        DataType::Time { .. } | DataType::Other { .. } | DataType::Unknown => text(display, lengths),
    }
}

/// `letters` are what the column may hold; a letter takes up to four bytes, or two units.
fn text(letters: Option<usize>, lengths: Lengths) -> Form {
    let max_units = lengths.max_value / 2;
    let trusted = letters.filter(|letters| *letters > 0 && !lengths.are_ignored);
    match (lengths.is_wide, trusted) {
        (true, Some(letters)) => Form::Wide(letters.saturating_mul(2).min(max_units).max(32)),
        (true, None) => Form::Wide(max_units),
        (false, Some(letters)) => Form::Text(letters.saturating_mul(4).min(lengths.max_value).max(64)),
        (false, None) => Form::Text(lengths.max_value),
    }
}

fn binary(bytes: Option<usize>, lengths: Lengths) -> Form {
    let trusted = bytes.filter(|bytes| *bytes > 0 && !lengths.are_ignored);
    Form::Binary(trusted.map_or(lengths.max_value, |bytes| bytes.min(lengths.max_value)))
}

/// The driver's type in the words of SQL.
fn words(kind: DataType, is_unsigned: bool) -> String {
    let sized = |name: &str, length: Option<std::num::NonZeroUsize>| match length {
        Some(length) => format!("{name}({length})"),
        None => name.to_owned(),
    };
    let signed = |name: &str| if is_unsigned { format!("{name} unsigned") } else { name.to_owned() };
    match kind {
        DataType::Unknown => "unknown".to_owned(),
        DataType::Char { length } => sized("char", length),
        DataType::WChar { length } => sized("nchar", length),
        DataType::Varchar { length } => sized("varchar", length),
        DataType::WVarchar { length } => sized("nvarchar", length),
        DataType::LongVarchar { .. } => "long varchar".to_owned(),
        DataType::WLongVarchar { .. } => "long nvarchar".to_owned(),
        DataType::Numeric { precision, scale } => format!("numeric({precision},{scale})"),
        DataType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        DataType::TinyInt => signed("tinyint"),
        DataType::SmallInt => signed("smallint"),
        DataType::Integer => signed("integer"),
        DataType::BigInt => signed("bigint"),
        DataType::Float { precision } => format!("float({precision})"),
        DataType::Real => "real".to_owned(),
        DataType::Double => "double".to_owned(),
        DataType::Varbinary { length } => sized("varbinary", length),
        DataType::LongVarbinary { .. } => "long varbinary".to_owned(),
        DataType::Binary { length } => sized("binary", length),
        DataType::Date => "date".to_owned(),
        DataType::Time { precision } => format!("time({precision})"),
        DataType::Timestamp { precision } => format!("timestamp({precision})"),
        DataType::Bit => "bit".to_owned(),
        DataType::Other { data_type, .. } => format!("driver type {}", data_type.0),
    }
}
