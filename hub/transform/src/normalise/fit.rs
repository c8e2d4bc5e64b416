//! Whether a type fits a canonical field: as it is, by a cast that loses nothing, or not, and then what to write.

use arrow::datatypes::{DataType, Field, TimeUnit};

/// How an expression's type relates to its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The same type.
    Same,
    /// A cast to the type that loses nothing.
    Cast(DataType),
    /// No; the expression that would fit, with `{}` for the given one, or an advice.
    No(String),
}

/// Judges `given` for `field`. An enum takes text.
pub(super) fn fit(given: &DataType, field: &Field) -> Fit {
    let wanted = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    if given == wanted {
        return Fit::Same;
    }
    if widens(given, wanted) {
        return Fit::Cast(wanted.clone());
    }
    Fit::No(remedy(given, field))
}

/// Whether every value of one type has its equal in the other.
fn widens(given: &DataType, wanted: &DataType) -> bool {
    use DataType as T;
    match (given, wanted) {
        (T::Null, _) => true,
        (T::Dictionary(_, values), _) => values.as_ref() == wanted || widens(values, wanted),
        (T::LargeUtf8 | T::Utf8View, T::Utf8) => true,
        (T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_), T::Binary) => true,
        (T::Int8, T::Int16) | (T::Int8 | T::Int16 | T::UInt8 | T::UInt16, T::Int32) => true,
        (T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32, T::Int64) => true,
        (T::Int8 | T::Int16 | T::UInt8 | T::UInt16, T::Float32) => true,
        (T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32 | T::Float32, T::Float64) => true,
        (_, T::Decimal128(precision, scale)) => whole_digits(given).is_some_and(|(digits, fraction)| {
            let room = i16::from(*precision) - i16::from(*scale);
            fraction <= i16::from(*scale) && digits <= room
        }),
        (T::Timestamp(from, zone), T::Timestamp(to, other)) => finer(*from, *to) && zone.is_some() == other.is_some(),
        (T::Time32(from) | T::Time64(from), T::Time32(to) | T::Time64(to)) => finer(*from, *to),
        (T::List(given) | T::LargeList(given), T::List(wanted)) => {
            given.data_type() == wanted.data_type() || widens(given.data_type(), wanted.data_type())
        }
        _ => false,
    }
}

/// The most digits before and after the point that a number's type can hold.
fn whole_digits(number: &DataType) -> Option<(i16, i16)> {
    use DataType as T;
    Some(match number {
        T::Int8 | T::UInt8 => (3, 0),
        T::Int16 | T::UInt16 => (5, 0),
        T::Int32 | T::UInt32 => (10, 0),
        T::Int64 => (19, 0),
        T::UInt64 => (20, 0),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => (i16::from(*precision) - i16::from(*scale), i16::from(*scale)),
        _ => return None,
    })
}

/// Whether a unit divides another without a rest.
fn finer(from: TimeUnit, to: TimeUnit) -> bool {
    let rank = |unit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    rank(from) <= rank(to)
}

/// An expression that fits, `{}` standing for the given one.
fn remedy(given: &DataType, field: &Field) -> String {
    use DataType as T;
    let text = matches!(given, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let whole = given.is_integer();
    match field.data_type() {
        T::Dictionary(..) => "code('<list>', {}), or a CASE that gives its symbols".to_owned(),
        T::Date32 if text || whole => "vn_date({})".to_owned(),
        T::Timestamp(_, Some(_)) if text => "at_time_zone(vn_timestamp({}), 'Asia/Ho_Chi_Minh')".to_owned(),
        T::Timestamp(_, Some(_)) if matches!(given, T::Timestamp(_, None) | T::Date32) => "at_time_zone({}, 'Asia/Ho_Chi_Minh')".to_owned(),
        T::Timestamp(_, None) if text => "vn_timestamp({})".to_owned(),
        T::Boolean if text || whole => "{} = '<the value that means yes>'".replace('\'', if whole { "" } else { "'" }),
        T::List(_) => "an expression that gives a list of texts".to_owned(),
        wanted => format!("CAST({{}} AS {})", sql_type(wanted)),
    }
}

/// A type as it is written in SQL.
pub(super) fn sql_type(of: &DataType) -> String {
    use DataType as T;
    let timestamp = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "TIMESTAMP(0)",
        TimeUnit::Millisecond => "TIMESTAMP(3)",
        TimeUnit::Microsecond => "TIMESTAMP",
        TimeUnit::Nanosecond => "TIMESTAMP(9)",
    };
    match of {
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "TEXT".to_owned(),
        T::Int16 => "SMALLINT".to_owned(),
        T::Int32 => "INT".to_owned(),
        T::Int64 => "BIGINT".to_owned(),
        T::Float32 => "REAL".to_owned(),
        T::Float64 => "DOUBLE PRECISION".to_owned(),
        T::Binary | T::LargeBinary | T::BinaryView => "BYTEA".to_owned(),
        T::Date32 => "DATE".to_owned(),
        T::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        T::Timestamp(unit, None) => timestamp(unit).to_owned(),
        T::Timestamp(unit, Some(_)) => format!("{} WITH TIME ZONE", timestamp(unit)),
        T::Time32(_) | T::Time64(_) => "TIME".to_owned(),
        other => other.to_string().to_uppercase(),
    }
}

/// A type as people call it.
pub(super) fn words(of: &DataType, symbols: Option<&[String]>) -> String {
    use DataType as T;
    match of {
        T::Dictionary(_, values) => match symbols {
            Some(symbols) => format!("one of {}", symbols.join(", ")),
            None => words(values, None),
        },
        T::Null => "always null".to_owned(),
        T::List(item) | T::LargeList(item) => format!("list of {}", words(item.data_type(), None)),
        other => sql_type(other).to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn judge(given: DataType, wanted: DataType) -> Fit {
        fit(&given, &Field::new("f", wanted, true))
    }

    #[test]
    fn only_casts_that_lose_nothing_are_implied() {
        use DataType as T;
        let utc = || Some(Arc::from("UTC"));
        let fits = |given: T, wanted: T| assert_eq!(judge(given, wanted.clone()), Fit::Cast(wanted));
        fits(T::Int32, T::Int64);
        fits(T::Int32, T::Decimal128(12, 2));
        fits(T::Decimal128(10, 2), T::Decimal128(14, 2));
        fits(T::Utf8View, T::Utf8);
        fits(T::Timestamp(TimeUnit::Millisecond, Some("Asia/Ho_Chi_Minh".into())), T::Timestamp(TimeUnit::Microsecond, utc()));
        assert_eq!(judge(T::Utf8, T::Utf8), Fit::Same);
        let refused = |given: T, wanted: T, remedy: &str| assert_eq!(judge(given, wanted), Fit::No(remedy.to_owned()));
        refused(T::Int64, T::Int32, "CAST({} AS INT)");
        refused(T::Int32, T::Decimal128(11, 2), "CAST({} AS DECIMAL(11,2))");
        refused(T::Decimal128(16, 2), T::Decimal128(14, 2), "CAST({} AS DECIMAL(14,2))");
        refused(T::Decimal128(14, 4), T::Decimal128(14, 2), "CAST({} AS DECIMAL(14,2))");
        refused(T::Utf8, T::Decimal128(14, 2), "CAST({} AS DECIMAL(14,2))");
        refused(T::Utf8, T::Date32, "vn_date({})");
        refused(
            T::Timestamp(TimeUnit::Microsecond, None),
            T::Timestamp(TimeUnit::Microsecond, utc()),
            "at_time_zone({}, 'Asia/Ho_Chi_Minh')",
        );
        refused(
            T::Timestamp(TimeUnit::Microsecond, utc()),
            T::Timestamp(TimeUnit::Millisecond, utc()),
            "CAST({} AS TIMESTAMP(3) WITH TIME ZONE)",
        );
        refused(T::Date32, T::Timestamp(TimeUnit::Microsecond, None), "CAST({} AS TIMESTAMP)");
        refused(T::Int64, T::Float64, "CAST({} AS DOUBLE PRECISION)");
        refused(T::Int16, T::Boolean, "{} = <the value that means yes>");
    }
}
