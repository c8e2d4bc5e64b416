//! Runs a rule for one value over a whole column, as a DataFusion function.
//!
//! A text rule that leaves every value as it is costs no copy: the argument's array is returned.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Builder, StringArray, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::{Result, ScalarValue, internal_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::faults::{Refusal, report};

/// What a rule makes of one value.
pub(crate) enum Outcome {
    /// The value stays as it is.
    Same,
    /// The new value is in the scratch string.
    Written,
    /// The value means "nothing": null, and no fault.
    Null,
    /// The value is refused.
    Refused(Refusal),
}

/// Text to text; the scratch string arrives empty.
pub(crate) type TextRule = fn(&str, &mut String) -> Outcome;
/// Text with two more arguments, each of which may be null.
pub(crate) type WideRule = fn(&str, Option<&str>, Option<&str>, &mut String) -> Outcome;
/// Text to days since 1970-01-01.
pub(crate) type DateRule = fn(&str) -> Result<Option<i32>, Refusal>;
/// Text to local microseconds since 1970-01-01T00:00.
pub(crate) type TimestampRule = fn(&str) -> Result<Option<i64>, Refusal>;

/// The rule behind a function, by shape.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// `f(text) -> text`.
    Text(TextRule),
    /// `f(text) -> text` and `f(text, text, text) -> text`.
    TextOrWide(TextRule, WideRule),
    /// `f(text) -> date`.
    Date(DateRule),
    /// `f(text) -> timestamp`.
    Timestamp(TimestampRule),
}

/// Whether a refused value makes the row a reject or only a null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusals {
    /// The row is rejected.
    Report,
    /// The value becomes null: the `try_` form of a function.
    Ignore,
}

/// A rule as a DataFusion function.
pub(crate) struct RuleFunction {
    name: String,
    usage: &'static str,
    rule: Rule,
    refusals: Refusals,
    signature: Signature,
}

impl RuleFunction {
    /// `usage` is shown when the arguments do not fit.
    pub(crate) fn new(name: String, usage: &'static str, rule: Rule, refusals: Refusals) -> Self {
        Self { name, usage, rule, refusals, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn refuse(&self, rows: usize, row: usize, refusal: Refusal) {
        if self.refusals == Refusals::Report {
            report(rows, row, refusal);
        }
    }

    fn text(&self, values: &ArrayRef, apply: impl Fn(usize, &str, &mut String) -> Outcome) -> Result<ArrayRef> {
        let Some(texts) = values.as_string_opt::<i32>() else {
            return internal_err!("{} was given {}", self.name, values.data_type());
        };
        let mut scratch = String::new();
        for row in 0..texts.len() {
            if texts.is_null(row) {
                continue;
            }
            scratch.clear();
            let outcome = apply(row, texts.value(row), &mut scratch);
            if !matches!(outcome, Outcome::Same) {
                return Ok(self.rewrite(texts, row, outcome, scratch, apply));
            }
        }
        Ok(Arc::clone(values))
    }

    /// Copies `texts` up to `changed`, whose outcome is known, and applies the rule to the rest.
    fn rewrite(
        &self,
        texts: &StringArray,
        changed: usize,
        first: Outcome,
        mut scratch: String,
        apply: impl Fn(usize, &str, &mut String) -> Outcome,
    ) -> ArrayRef {
        let rows = texts.len();
        let mut builder = StringBuilder::with_capacity(rows, texts.value_data().len());
        texts.iter().take(changed).for_each(|text| builder.append_option(text));
        let mut known = Some(first);
        for row in changed..rows {
            if texts.is_null(row) {
                builder.append_null();
                continue;
            }
            let text = texts.value(row);
            let outcome = known.take().unwrap_or_else(|| {
                scratch.clear();
                apply(row, text, &mut scratch)
            });
            match outcome {
                Outcome::Same => builder.append_value(text),
                Outcome::Written => builder.append_value(&scratch),
                Outcome::Null => builder.append_null(),
                Outcome::Refused(refusal) => {
                    builder.append_null();
                    self.refuse(rows, row, refusal);
                }
            }
        }
        Arc::new(builder.finish())
    }

    fn wide(&self, arrays: &[ArrayRef], rule: WideRule) -> Result<ArrayRef> {
        let (Some(second), Some(third)) =
            (arrays.get(1).and_then(|array| array.as_string_opt::<i32>()), arrays.get(2).and_then(|array| array.as_string_opt::<i32>()))
        else {
            return internal_err!("{} was given arguments that are not text", self.name);
        };
        let at = |array: &StringArray, row| array.is_valid(row).then_some(row);
        self.text(&arrays[0], |row, text, scratch| {
            let second = at(second, row).map(|row| second.value(row));
            let third = at(third, row).map(|row| third.value(row));
            rule(text, second, third, scratch)
        })
    }

    /// Applies a rule to each text; `push` gets the value, or `None` for null.
    fn each<T>(&self, values: &ArrayRef, rule: fn(&str) -> Result<Option<T>, Refusal>, mut push: impl FnMut(Option<T>)) -> Result<()> {
        let Some(texts) = values.as_string_opt::<i32>() else {
            return internal_err!("{} was given {}", self.name, values.data_type());
        };
        for row in 0..texts.len() {
            if texts.is_null(row) {
                push(None);
                continue;
            }
            match rule(texts.value(row)) {
                Ok(value) => push(value),
                Err(refusal) => {
                    push(None);
                    self.refuse(texts.len(), row, refusal);
                }
            }
        }
        Ok(())
    }

    fn run(&self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let Some(first) = arrays.first() else {
            return internal_err!("{} was given no argument", self.name);
        };
        match self.rule {
            Rule::TextOrWide(_, rule) if arrays.len() == 3 => self.wide(arrays, rule),
            Rule::Text(rule) | Rule::TextOrWide(rule, _) => self.text(first, |_, text, scratch| rule(text, scratch)),
            Rule::Date(rule) => {
                let mut days = Date32Builder::with_capacity(first.len());
                self.each(first, rule, |value| days.append_option(value))?;
                Ok(Arc::new(days.finish()))
            }
            Rule::Timestamp(rule) => {
                let mut micros = TimestampMicrosecondBuilder::with_capacity(first.len());
                self.each(first, rule, |value| micros.append_option(value))?;
                Ok(Arc::new(micros.finish()))
            }
        }
    }
}

/// The type an argument that wants text is cast to, or why it cannot be.
pub(crate) fn text_argument(usage: &str, given: &DataType) -> Result<DataType> {
    match given {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Ok(DataType::Utf8),
        DataType::Decimal128(_, 0) | DataType::Date32 => Ok(DataType::Utf8),
        DataType::Dictionary(_, values) => text_argument(usage, values),
        whole if whole.is_integer() => Ok(DataType::Utf8),
        other => plan_err!("{usage} wants text and is given {other}; write CAST(… AS TEXT) if that is meant"),
    }
}

impl ScalarUDFImpl for RuleFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let fits = match self.rule {
            Rule::TextOrWide(..) => matches!(given.len(), 1 | 3),
            Rule::Text(_) | Rule::Date(_) | Rule::Timestamp(_) => given.len() == 1,
        };
        if !fits {
            return plan_err!("{} is given {} arguments; it is {}", self.name, given.len(), self.usage);
        }
        given.iter().map(|each| text_argument(self.usage, each)).collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.rule {
            Rule::Text(_) | Rule::TextOrWide(..) => DataType::Utf8,
            Rule::Date(_) => DataType::Date32,
            Rule::Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_columns(&args, |arrays| self.run(arrays))
    }
}

/// Runs `work` on the arguments as arrays; constants give a constant.
pub(crate) fn over_columns(args: &ScalarFunctionArgs, work: impl FnOnce(&[ArrayRef]) -> Result<ArrayRef>) -> Result<ColumnarValue> {
    let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { args.number_rows };
    let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let result = work(&arrays)?;
    if constant { Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)) } else { Ok(ColumnarValue::Array(result)) }
}

impl std::fmt::Debug for RuleFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

// One name is one rule, so the name alone identifies a function.
impl PartialEq for RuleFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for RuleFunction {}

impl Hash for RuleFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
