//! `code` and `at_time_zone`: functions whose constant arguments are looked up once, when a mapping is planned.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion_common::{Result, internal_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::codes::CodeTable;
use super::faults::{Refusal, report};
use super::kernel::{Refusals, over_columns, text_argument};
use super::zones::Zone;

/// What a bound function looks its values up in.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// A system's codes of one list.
    Codes(Arc<CodeTable>),
    /// A time zone.
    Zone(Arc<Zone>),
}

/// A function that was given its table.
#[derive(Debug)]
pub(crate) struct BoundFunction {
    name: &'static str,
    bound: Bound,
    refusals: Refusals,
    signature: Signature,
}

impl BoundFunction {
    /// `code` or `at_time_zone` with its table; takes one argument, the value.
    pub(crate) fn new(bound: Bound, refusals: Refusals) -> Self {
        let name = match bound {
            Bound::Codes(_) => "code",
            Bound::Zone(_) => "at_time_zone",
        };
        Self { name, bound, refusals, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn address(&self) -> usize {
        match &self.bound {
            Bound::Codes(table) => Arc::as_ptr(table).addr(),
            Bound::Zone(zone) => Arc::as_ptr(zone).addr(),
        }
    }

    fn codes(&self, table: &CodeTable, values: &ArrayRef) -> Result<ArrayRef> {
        let Some(texts) = values.as_string_opt::<i32>() else {
            return internal_err!("code was given {}", values.data_type());
        };
        let mut codes = StringBuilder::with_capacity(texts.len(), texts.len() * 12);
        for (row, text) in texts.iter().enumerate() {
            let Some(text) = text else {
                codes.append_null();
                continue;
            };
            match table.find(text) {
                Some(code) => codes.append_value(code),
                None => {
                    codes.append_null();
                    if self.refusals == Refusals::Report && !text.trim().is_empty() {
                        report(texts.len(), row, Refusal { code: "unknown-code", message: Cow::Owned(table.unknown().to_owned()) });
                    }
                }
            }
        }
        Ok(Arc::new(codes.finish()))
    }

    fn instants(&self, zone: &Zone, values: &ArrayRef) -> Result<ArrayRef> {
        let Some(local) = values.as_primitive_opt::<TimestampMicrosecondType>() else {
            return internal_err!("at_time_zone was given {}", values.data_type());
        };
        let refusal = Refusal::new("no-such-time", "this local time did not exist or occurred twice in its time zone");
        Ok(Arc::new(zone.instants(local, |row| {
            if self.refusals == Refusals::Report {
                report(local.len(), row, refusal.clone());
            }
        })))
    }
}

impl ScalarUDFImpl for BoundFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match (&self.bound, given) {
            (Bound::Codes(_), [value]) => Ok(vec![text_argument("code(list, system, value)", value)?]),
            (Bound::Zone(_), [DataType::Timestamp(_, None) | DataType::Date32 | DataType::Null]) => Ok(vec![LOCAL]),
            (Bound::Zone(_), [DataType::Timestamp(_, Some(_))]) => {
                plan_err!("at_time_zone is given a timestamp with time zone: it is an instant already, leave the function out")
            }
            (Bound::Zone(_), [DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View]) => {
                plan_err!("at_time_zone wants a timestamp and is given text; write at_time_zone(vn_timestamp(…), 'Asia/Ho_Chi_Minh')")
            }
            (Bound::Zone(_), given) => plan_err!("at_time_zone wants a timestamp without time zone and is given {given:?}"),
            (Bound::Codes(_), given) => internal_err!("a bound code was given {} arguments", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.bound {
            Bound::Codes(_) => DataType::Utf8,
            Bound::Zone(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_columns(&args, |arrays| match (&self.bound, arrays) {
            (Bound::Codes(table), [values]) => self.codes(table, values),
            (Bound::Zone(zone), [values]) => self.instants(zone, values),
            _ => internal_err!("{} was given {} arguments", self.name, arrays.len()),
        })
    }
}

const LOCAL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

impl PartialEq for BoundFunction {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address() && self.refusals == other.refusals
    }
}

impl Eq for BoundFunction {}

impl Hash for BoundFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

/// The form in which `code` and `at_time_zone` stand in a parsed mapping, before their tables are looked up.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Unbound {
    name: String,
    signature: Signature,
}

impl Unbound {
    /// `name` with its `try_` prefix, if any.
    pub(crate) fn new(name: String) -> Self {
        Self { name, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Unbound {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.name.ends_with("code") { DataType::Utf8 } else { DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())) })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} was not bound when the mapping was planned", self.name)
    }
}
