//! Rows with types of their own: whole batches pass through; keys and digests are made of their texts where deliveries are compared.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::model::Op;
use hub_sdk::{BatchLimits, Digest, Known, Noted, join_key};

use super::{Body, Held, Reading};
use crate::config::{FileStream, Mode};
use crate::rows::{Bad, Trouble};
use crate::table::{Table, bytes_of, comparable, joined, widened};

/// Rows that are looked at at once, at most.
const LOOKED: usize = 8_192;

/// A file whose columns have types.
pub(super) struct Tables {
    table: Table,
    key_names: Vec<String>,
    /// Places of the key among the file's columns.
    key: Vec<usize>,
    waiting: Vec<RecordBatch>,
}

/// Texts of the columns of some rows.
struct Comparable {
    columns: Vec<(Digest, ArrayRef)>,
    key: Vec<usize>,
}

impl Tables {
    /// Opens a file of a stream, whose columns become those of the stream too.
    pub(super) fn new(table: Table, stream: &FileStream, held: &mut Held) -> Result<Self, Trouble> {
        let key: Vec<usize> = stream.key.iter().filter_map(|key| table.schema().index_of(key).ok()).collect();
        // Deletes are told by the text of the key alone, out of which these are not made again.
        let cannot = |kind: &DataType| matches!(kind, DataType::Binary | DataType::Timestamp(_, Some(_)));
        if let Some(place) = key.iter().find(|place| cannot(table.schema().field(**place).data_type())) {
            let column = table.columns().get(*place).cloned();
            return Err(Trouble::Bad(Bad { row: None, column, why: "it is binary or an instant, which cannot be a key".to_owned() }));
        }
        held.table = Some(match &held.table {
            Some(stream) => joined(stream, table.schema()).map_err(Trouble::Bad)?,
            None => Arc::clone(table.schema()),
        });
        Ok(Self { table, key_names: stream.key.clone(), key, waiting: Vec::new() })
    }

    pub(super) fn number(&self) -> u64 {
        self.table.number()
    }

    pub(super) fn columns(&self) -> &[String] {
        self.table.columns()
    }

    pub(super) fn survey(&mut self, known: &mut Known) -> Result<bool, Trouble> {
        let Some(rows) = self.table.next(LOOKED, usize::MAX)? else { return Ok(true) };
        let texts = self.key_texts(&rows).map_err(|error| self.wrong(&error))?;
        (0..rows.num_rows()).filter_map(|row| texts.key(row)).for_each(|key| known.keep(&key));
        Ok(false)
    }

    fn wrong(&self, error: &ArrowError) -> Trouble {
        Trouble::Bad(Bad { row: Some(self.number()), column: None, why: error.to_string() })
    }

    fn key_texts(&self, rows: &RecordBatch) -> Result<Comparable, ArrowError> {
        let columns = self.key.iter().map(|place| Ok((Digest::default(), comparable(rows.column(*place))?)));
        Ok(Comparable { columns: columns.collect::<Result<_, ArrowError>>()?, key: (0..self.key.len()).collect() })
    }

    fn texts(&self, rows: &RecordBatch) -> Result<Comparable, ArrowError> {
        let column = |(name, column): (&String, &ArrayRef)| {
            let mut seed = Digest::default();
            seed.value(Some(name.as_bytes()));
            Ok((seed, comparable(column)?))
        };
        let columns = self.table.columns().iter().zip(rows.columns()).map(column).collect::<Result<_, ArrowError>>()?;
        Ok(Comparable { columns, key: self.key.clone() })
    }

    /// The rows that wait, in the columns of the stream.
    pub(super) fn take(&mut self, schema: Option<&Arc<Schema>>) -> Result<RecordBatch, ArrowError> {
        let schema = schema.unwrap_or(self.table.schema());
        let waiting = std::mem::take(&mut self.waiting);
        let widened = waiting.iter().map(|rows| widened(rows, schema)).collect::<Result<Vec<_>, _>>()?;
        match widened.as_slice() {
            [only] => Ok(only.clone()),
            several => concat_batches(schema, several),
        }
    }
}

impl Comparable {
    fn key(&self, row: usize) -> Option<String> {
        let part = |place: &usize| std::str::from_utf8(bytes_of(&self.columns.get(*place)?.1, row)?).ok();
        Some(join_key(&self.key.iter().map(part).collect::<Option<Vec<&str>>>()?))
    }

    fn missing(&self, row: usize) -> Option<usize> {
        self.key.iter().position(|place| self.columns.get(*place).is_none_or(|(_, column)| bytes_of(column, row).is_none()))
    }

    fn digest(&self, row: usize) -> u64 {
        let value = |(seed, column): &(Digest, ArrayRef)| {
            let mut digest = *seed;
            digest.value(Some(bytes_of(column, row)?));
            Some(digest.finish())
        };
        self.columns.iter().filter_map(value).fold(0u64, u64::wrapping_add)
    }
}

impl Reading {
    pub(super) fn step_tables(&mut self, limits: BatchLimits) -> Result<bool, Trouble> {
        let Body::Tables(tables) = &mut self.body else { return Ok(true) };
        let before = tables.number();
        let rows = limits.rows.saturating_sub(self.ops.len()).clamp(1, LOOKED);
        let Some(batch) = tables.table.next(rows, limits.bytes)? else { return Ok(true) };
        let is_whole = self.manner.stream.mode == Mode::Whole;
        let texts = if is_whole { tables.texts(&batch) } else { tables.key_texts(&batch) };
        let texts = texts.map_err(|error| tables.wrong(&error))?;
        let key_names = tables.key_names.clone();
        let mut chosen: Vec<u32> = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let number = before + 1 + row as u64;
            let was_told = number <= self.manner.told;
            let missing = texts.missing(row);
            let op = match (missing, is_whole) {
                (None, true) => match self.held.known.note(&texts.key(row).unwrap_or_default(), texts.digest(row)) {
                    Noted::Same => continue,
                    Noted::New => Some(self.new_op()),
                    Noted::Changed => Some(Op::Update),
                    Noted::Twice => None,
                },
                (Some(_), _) => None,
                (None, false) if was_told => continue,
                (None, false) => Some(self.new_op()),
            };
            if op.is_none() && was_told {
                continue;
            }
            if op.is_none() {
                let column = missing.and_then(|part| key_names.get(part)).map(|name| Arc::from(name.as_str()));
                let (code, why) = match missing {
                    Some(_) => ("key-missing", "it has no value in a column of its key"),
                    None => ("key-twice", "a row before it has the same key"),
                };
                self.fault(self.ops.len(), number, column, code, why);
            }
            self.ops.push(op.unwrap_or(self.new_op()));
            chosen.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        let Body::Tables(tables) = &mut self.body else { return Ok(true) };
        if chosen.len() == batch.num_rows() {
            tables.waiting.push(batch);
        } else if !chosen.is_empty() {
            let chosen = take_record_batch(&batch, &UInt32Array::from(chosen)).map_err(|error| tables.wrong(&error))?;
            tables.waiting.push(chosen);
        }
        Ok(false)
    }
}
