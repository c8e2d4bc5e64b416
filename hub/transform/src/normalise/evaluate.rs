//! Evaluates one expression over a batch and tells the rows it refuses, exactly.
//!
//! Nothing is done per row while nothing fails. Where a row number cannot be trusted (an error without one, or a fault found on the
//! filtered sub-batch of a `CASE`), the batch is halved until each refused row stands alone.

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::concat;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;

use super::mapping::NormaliseError;
use crate::functions::Refusal;
use crate::functions::faults::{Fault, collect};

/// A column and its refused rows (null there), ascending, each once.
pub(super) struct Evaluated {
    pub(super) column: ArrayRef,
    pub(super) refused: Vec<(usize, Refusal)>,
}

/// Evaluates `expr` over all rows of `batch`.
pub(super) fn evaluate(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<Evaluated, NormaliseError> {
    match attempt(expr, batch) {
        Attempt::Done(evaluated) => Ok(evaluated),
        Attempt::Unclear(_) => halve(expr, batch),
    }
}

enum Attempt {
    Done(Evaluated),
    /// Some row is refused; for a batch of one row, why.
    Unclear(Refusal),
}

fn attempt(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> Attempt {
    let rows = batch.num_rows();
    let (result, faults) = collect(|| expr.evaluate(batch).and_then(|value| value.into_array(rows)));
    match result {
        Ok(column) if faults.is_empty() => Attempt::Done(Evaluated { column, refused: Vec::new() }),
        Ok(column) if faults.iter().all(|fault| fault.rows == rows) => Attempt::Done(Evaluated { column, refused: by_row(faults) }),
        Ok(_) => match faults.into_iter().next() {
            Some(fault) => Attempt::Unclear(fault.refusal),
            None => Attempt::Unclear(FAILED),
        },
        Err(cause) => Attempt::Unclear(classify(&cause)),
    }
}

/// The first fault of each row.
fn by_row(faults: Vec<Fault>) -> Vec<(usize, Refusal)> {
    let mut refused: Vec<(usize, Refusal)> = faults.into_iter().map(|fault| (fault.row, fault.refusal)).collect();
    refused.sort_by_key(|(row, _)| *row);
    refused.dedup_by_key(|(row, _)| *row);
    refused
}

fn halve(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<Evaluated, NormaliseError> {
    let mut pieces: Vec<ArrayRef> = Vec::new();
    let mut refused = Vec::new();
    // Ranges still to do, the next one last.
    let mut ranges = vec![(0, batch.num_rows())];
    let data_type = expr.data_type(batch.schema_ref()).map_err(|cause| NormaliseError::defect(&cause.strip_backtrace()))?;
    while let Some((start, rows)) = ranges.pop() {
        match attempt(expr, &batch.slice(start, rows)) {
            Attempt::Done(done) => {
                refused.extend(done.refused.into_iter().map(|(row, refusal)| (start + row, refusal)));
                pieces.push(done.column);
            }
            Attempt::Unclear(refusal) if rows <= 1 => {
                refused.push((start, refusal));
                pieces.push(new_null_array(&data_type, rows));
            }
            Attempt::Unclear(_) => {
                let half = rows / 2;
                ranges.push((start + half, rows - half));
                ranges.push((start, half));
            }
        }
    }
    let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
    let column = concat(&pieces).map_err(|cause| NormaliseError::defect(&cause.to_string()))?;
    Ok(Evaluated { column, refused })
}

const FAILED: Refusal = Refusal::new("expression-failed", "the expression could not be worked out for this row");
const CAST: Refusal = Refusal::new("cast-failed", "the value cannot be converted to the type that CAST names");
const RANGE: Refusal = Refusal::new("out-of-range", "the value does not fit the type it is converted to");
const ZERO: Refusal = Refusal::new("divide-by-zero", "the expression divides by zero");

/// Why DataFusion failed, without its message: that holds the value.
fn classify(cause: &DataFusionError) -> Refusal {
    let DataFusionError::ArrowError(cause, _) = cause.find_root() else {
        return FAILED;
    };
    match cause.as_ref() {
        ArrowError::DivideByZero => ZERO,
        ArrowError::ArithmeticOverflow(_) => RANGE,
        ArrowError::CastError(message) | ArrowError::InvalidArgumentError(message) | ArrowError::ComputeError(message) => {
            let large = ["too large", "too small", "overflow", "Overflow", "out of range", "larger than", "Can't cast value"];
            if large.iter().any(|word| message.contains(word)) {
                RANGE
            } else if matches!(cause.as_ref(), ArrowError::CastError(_)) {
                CAST
            } else {
                FAILED
            }
        }
        ArrowError::ParseError(_) => CAST,
        _ => FAILED,
    }
}
