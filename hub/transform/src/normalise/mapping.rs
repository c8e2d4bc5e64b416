//! A planned mapping and what it makes of a batch.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_physical_expr::PhysicalExpr;

use super::evaluate::{Evaluated, evaluate};
use super::nfc::composed;
use super::target::Symbols;
use crate::functions::Refusal;

/// A mapping that fits its source and its entity.
pub struct Mapping {
    pub(super) entity: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) source: SchemaRef,
    pub(super) target: SchemaRef,
    pub(super) key_schema: SchemaRef,
    /// Columns of the source that are read, ascending.
    pub(super) columns: Vec<usize>,
    /// Those columns' schema: what the expressions see.
    pub(super) input: SchemaRef,
    pub(super) fields: Vec<PlannedField>,
    /// Fields of the key, in the key's order.
    pub(super) key: Vec<usize>,
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    pub(super) filter_by_identity: bool,
}

/// A canonical field with the expression that fills it.
pub(super) struct PlannedField {
    pub(super) field: FieldRef,
    pub(super) expr: Arc<dyn PhysicalExpr>,
    pub(super) finish: Finish,
}

/// What is done to a column after its expression.
pub(super) enum Finish {
    /// Nothing.
    Leave,
    /// Text is composed.
    Compose,
    /// Texts of lists are composed.
    ComposeItems,
    /// Text becomes symbols.
    Symbols(Symbols),
}

impl Finish {
    pub(super) fn of(field: &Field) -> Self {
        match field.data_type() {
            DataType::Utf8 => Self::Compose,
            DataType::List(item) if item.data_type() == &DataType::Utf8 => Self::ComposeItems,
            DataType::Dictionary(..) => Symbols::of(field).map_or(Self::Leave, Self::Symbols),
            _ => Self::Leave,
        }
    }
}

/// What became of the rows of a batch.
#[derive(Debug)]
pub struct Sorted {
    /// The rows that became records, ascending.
    pub kept: Vec<u32>,
    /// One record per kept row.
    pub records: RecordBatch,
    /// The rows that were refused, ascending.
    pub rejects: Vec<Reject>,
    /// Rows that were not wanted.
    pub filtered: usize,
}

/// A row that its mapping refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Row of the batch.
    pub row: u32,
    /// The first canonical field that is to blame; `where` for the filter.
    pub field: Arc<str>,
    /// Stable reason code, kebab-case.
    pub code: &'static str,
    /// What is wrong, without the value; further fields that are to blame are named at its end.
    pub message: Cow<'static, str>,
}

/// Which rows the filter wants.
#[derive(Debug)]
pub struct Selection {
    /// True for a wanted row; no nulls.
    pub wanted: BooleanArray,
    /// Rows for which the filter could not be worked out; they are not among the wanted.
    pub rejects: Vec<Reject>,
}

/// A batch that a mapping cannot be applied to: a defect of the hub or a changed source, not of a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NormaliseError {
    /// The batch has other columns than the mapping was planned for.
    #[error("the batch's columns changed since the mapping was planned: {what}; plan it again for the new shape")]
    Shape {
        /// The first difference.
        what: String,
    },
    /// An expression gave something impossible.
    #[error("mapping could not be evaluated: {what}; this is a defect of the hub, please report it")]
    Defect {
        /// What happened.
        what: String,
    },
}

impl NormaliseError {
    pub(super) fn defect(what: &str) -> Self {
        Self::Defect { what: what.to_owned() }
    }
}

impl Mapping {
    /// The entity it fills.
    #[must_use]
    pub fn entity(&self) -> &str {
        &self.entity
    }

    /// A stable hash of the mapping, of its system and of the codes it uses: 16 hexadecimal digits.
    #[must_use]
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The source's columns that it reads, in the source's order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.input.fields().iter().map(|field| field.name().as_str())
    }

    /// The source's columns that it was planned for.
    #[must_use]
    pub fn source(&self) -> &SchemaRef {
        &self.source
    }

    /// The columns of [`Sorted::records`].
    #[must_use]
    pub fn target(&self) -> &SchemaRef {
        &self.target
    }

    /// The columns of the records that [`Self::keys`] gives, in the key's order.
    #[must_use]
    pub fn key_schema(&self) -> &SchemaRef {
        &self.key_schema
    }

    /// Places of the key's fields among the target's columns, in the key's order.
    #[must_use]
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// Whether it has a filter (`where`).
    #[must_use]
    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether the filter can be judged from what a delete without full image carries.
    #[must_use]
    pub fn filters_by_identity(&self) -> bool {
        self.filter_by_identity
    }

    /// Which rows the filter wants; all without one. A null condition wants no row.
    ///
    /// # Errors
    /// [`NormaliseError`] when the batch has other columns than planned for.
    pub fn selects(&self, rows: &RecordBatch) -> Result<Selection, NormaliseError> {
        let input = self.input_of(rows)?;
        let Some(condition) = &self.filter else {
            return Ok(Selection { wanted: BooleanArray::new(BooleanBuffer::new_set(rows.num_rows()), None), rejects: Vec::new() });
        };
        let Evaluated { column, refused } = evaluate(condition.as_ref(), &input)?;
        let wanted = match column.as_boolean_opt() {
            Some(answers) => match answers.nulls() {
                Some(nulls) => BooleanArray::new(answers.values() & nulls.inner(), None),
                None => answers.clone(),
            },
            // A filter that is NULL for every row.
            None => BooleanArray::new(BooleanBuffer::new_unset(rows.num_rows()), None),
        };
        let field: Arc<str> = "where".into();
        let rejects = refused
            .into_iter()
            .map(|(row, refusal)| Reject { row: number(row), field: Arc::clone(&field), code: refusal.code, message: refusal.message })
            .collect();
        Ok(Selection { wanted, rejects })
    }

    /// Makes canonical records of the rows for which `wanted` is true (all without it). The filter is the caller's to apply.
    ///
    /// # Errors
    /// [`NormaliseError`] when the batch has other columns than planned for.
    pub fn normalise(&self, rows: &RecordBatch, wanted: Option<&BooleanArray>) -> Result<Sorted, NormaliseError> {
        self.sort(rows, wanted, &self.fields.iter().collect::<Vec<_>>(), &self.target)
    }

    /// Makes the keys alone, for deletes that carry no more than their identity.
    ///
    /// # Errors
    /// [`NormaliseError`] when the batch has other columns than planned for.
    pub fn keys(&self, rows: &RecordBatch, wanted: Option<&BooleanArray>) -> Result<Sorted, NormaliseError> {
        let fields: Vec<&PlannedField> = self.key.iter().filter_map(|index| self.fields.get(*index)).collect();
        self.sort(rows, wanted, &fields, &self.key_schema)
    }

    fn sort(
        &self,
        rows: &RecordBatch,
        wanted: Option<&BooleanArray>,
        fields: &[&PlannedField],
        schema: &SchemaRef,
    ) -> Result<Sorted, NormaliseError> {
        let mut input = self.input_of(rows)?;
        let total = input.num_rows();
        let mut numbers: Option<Vec<u32>> = None;
        if let Some(wanted) = wanted.filter(|wanted| wanted.true_count() < total || wanted.len() != total) {
            input = filter_record_batch(&input, wanted).map_err(|cause| NormaliseError::defect(&cause.to_string()))?;
            numbers = Some((0..wanted.len()).filter(|row| wanted.is_valid(*row) && wanted.value(*row)).map(number).collect());
        }
        let mut refused = Refused::default();
        let mut columns = Vec::with_capacity(fields.len());
        for planned in fields {
            columns.push(planned.column(&input, &mut refused, self.key_has(planned))?);
        }
        let kept_rows = input.num_rows();
        let mut kept = numbers.unwrap_or_else(|| (0..number(kept_rows)).collect());
        let rejects = refused.into_rejects(&kept);
        if !rejects.is_empty() {
            let keep = BooleanArray::from(keep_mask(&kept, &rejects));
            for column in &mut columns {
                *column = filter(column.as_ref(), &keep).map_err(|cause| NormaliseError::defect(&cause.to_string()))?;
            }
            let mut mask = keep.values().iter();
            kept.retain(|_| mask.next().unwrap_or(false));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept.len()));
        let records = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(|cause| NormaliseError::defect(&cause.to_string()))?;
        Ok(Sorted { kept, records, rejects, filtered: total - kept_rows })
    }

    fn key_has(&self, planned: &PlannedField) -> KeyPart {
        let is_key = self.key.iter().filter_map(|index| self.fields.get(*index)).any(|key| std::ptr::eq(key, planned));
        if is_key { KeyPart::Yes } else { KeyPart::No }
    }

    /// The columns that expressions see, if they are still those of the plan.
    fn input_of(&self, rows: &RecordBatch) -> Result<RecordBatch, NormaliseError> {
        let schema = rows.schema_ref();
        if !Arc::ptr_eq(schema, &self.source) {
            for (place, index) in self.columns.iter().enumerate() {
                let planned = self.input.field(place);
                let found = schema.fields().get(*index);
                if found.is_none_or(|found| found.name() != planned.name() || found.data_type() != planned.data_type()) {
                    let found = found.map_or_else(|| "gone".to_owned(), |found| format!("{} {}", found.name(), found.data_type()));
                    let what = format!("column {} {} is now {found}", planned.name(), planned.data_type());
                    return Err(NormaliseError::Shape { what });
                }
            }
        }
        let columns = self.columns.iter().map(|index| Arc::clone(rows.column(*index))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.input), columns, &options)
            .map_err(|cause| NormaliseError::defect(&cause.to_string()))
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("entity", &self.entity).field("version", &self.version).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyPart {
    Yes,
    No,
}

impl PlannedField {
    /// The finished column; refused rows are null in it.
    fn column(&self, input: &RecordBatch, refused: &mut Refused, key: KeyPart) -> Result<ArrayRef, NormaliseError> {
        let Evaluated { column, refused: mut rows } = evaluate(self.expr.as_ref(), input)?;
        let column = match &self.finish {
            Finish::Leave => column,
            Finish::Compose => composed(&column),
            Finish::ComposeItems => composed_items(&column),
            Finish::Symbols(symbols) => {
                let (encoded, strangers) = symbols.encode(&composed(&column)).ok_or_else(|| self.wrong_type(&column))?;
                rows.extend(strangers.into_iter().map(|row| (row, UNKNOWN_SYMBOL)));
                encoded
            }
        };
        let column = self.as_declared(column)?;
        let required = !self.field.is_nullable() || key == KeyPart::Yes;
        if required && column.null_count() > 0 {
            // A row refused already is null for that reason.
            let known: std::collections::BTreeSet<usize> = rows.iter().map(|(row, _)| *row).collect();
            rows.extend((0..column.len()).filter(|row| column.is_null(*row) && !known.contains(row)).map(|row| (row, MISSING)));
        }
        for (row, refusal) in rows {
            refused.add(row, self.field.name(), refusal);
        }
        Ok(column)
    }

    /// Lists may differ from the field in the name of their items alone.
    fn as_declared(&self, column: ArrayRef) -> Result<ArrayRef, NormaliseError> {
        if column.data_type() == self.field.data_type() {
            return Ok(column);
        }
        match (column.as_list_opt::<i32>(), self.field.data_type()) {
            (Some(list), DataType::List(item)) => {
                let (_, offsets, values, nulls) = list.clone().into_parts();
                let renamed = ListArray::try_new(Arc::clone(item), offsets, values, nulls);
                renamed.map(|list| Arc::new(list) as ArrayRef).map_err(|_| self.wrong_type(&column))
            }
            _ => Err(self.wrong_type(&column)),
        }
    }

    fn wrong_type(&self, column: &ArrayRef) -> NormaliseError {
        NormaliseError::defect(&format!(
            "field {} wants {} and was given {}",
            self.field.name(),
            self.field.data_type(),
            column.data_type()
        ))
    }
}

const MISSING: Refusal = Refusal::new("required-missing", "the field is required and the mapping gives null");
const UNKNOWN_SYMBOL: Refusal = Refusal::new("unknown-symbol", "the value is none of the field's symbols");

fn composed_items(column: &ArrayRef) -> ArrayRef {
    let Some(list) = column.as_list_opt::<i32>() else {
        return Arc::clone(column);
    };
    let items = composed(list.values());
    if Arc::ptr_eq(&items, list.values()) {
        return Arc::clone(column);
    }
    let (item, offsets, _, nulls) = list.clone().into_parts();
    ListArray::try_new(item, offsets, items, nulls).map_or_else(|_| Arc::clone(column), |list| Arc::new(list))
}

/// Refused rows of the evaluated batch, the first reason of each and the further fields.
#[derive(Default)]
struct Refused {
    rows: BTreeMap<usize, (Arc<str>, Refusal, String)>,
}

impl Refused {
    #[cold]
    fn add(&mut self, row: usize, field: &str, refusal: Refusal) {
        match self.rows.entry(row) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert((field.into(), refusal, String::new()));
            }
            std::collections::btree_map::Entry::Occupied(mut taken) => {
                let also = &mut taken.get_mut().2;
                also.push_str(if also.is_empty() { "; also " } else { ", " });
                also.push_str(&format!("{field} ({})", refusal.code));
            }
        }
    }

    /// As rejects of the whole batch: `numbers` gives each evaluated row's number there.
    fn into_rejects(self, numbers: &[u32]) -> Vec<Reject> {
        let reject = |(row, (field, refusal, also)): (usize, (Arc<str>, Refusal, String))| {
            let message = if also.is_empty() { refusal.message } else { Cow::Owned(format!("{}{also}", refusal.message)) };
            Reject { row: numbers.get(row).copied().unwrap_or(u32::MAX), field, code: refusal.code, message }
        };
        self.rows.into_iter().map(reject).collect()
    }
}

fn keep_mask(kept: &[u32], rejects: &[Reject]) -> Vec<bool> {
    let mut rejects = rejects.iter().peekable();
    kept.iter().map(|row| rejects.next_if(|reject| reject.row == *row).is_none()).collect()
}

/// A batch has fewer than 2³² rows.
fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}
