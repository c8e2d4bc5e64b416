//! Rows of text: cells go into columns as they lie in the file; keys and digests are made only where deliveries are compared.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::model::Op;
use hub_sdk::{BatchLimits, Digest, Known, Noted, join_key};

use super::{Body, Reading};
use crate::columns::Columns;
use crate::config::{Encoding, FileStream, Mode};
use crate::row::Row;
use crate::rows::{Rows, Trouble};

/// Rows that are looked at before a step ends although nothing of them is to be told.
const LOOKED: usize = 32_768;

/// A file whose values are text.
pub(super) struct Texts {
    rows: Rows,
    row: Row,
    /// Number in the file of each row that waits.
    numbers: Vec<u64>,
    /// Place of each of the file's columns among the stream's.
    places: Vec<usize>,
    /// Digest of each column's name, with which those of its values begin.
    seeds: Vec<Digest>,
    /// Names of the columns of the key.
    key_names: Vec<String>,
    /// Their places among the file's columns; `None` where the file has not shown one yet.
    key: Vec<Option<usize>>,
}

impl Texts {
    pub(super) fn new(rows: Rows, stream: &FileStream, columns: &mut Columns) -> Self {
        let (places, seeds, key) = (Vec::new(), Vec::new(), Vec::new());
        let mut texts = Self { rows, row: Row::default(), numbers: Vec::new(), places, seeds, key_names: stream.key.clone(), key };
        texts.learn_columns(columns);
        texts
    }

    pub(super) fn number(&self) -> u64 {
        self.rows.number()
    }

    pub(super) fn has_header(&self) -> bool {
        self.rows.has_header()
    }

    pub(super) fn columns(&self) -> &[String] {
        self.rows.columns()
    }

    /// Gives new columns of the file their places in the stream.
    fn learn_columns(&mut self, columns: &mut Columns) {
        for name in &self.rows.columns()[self.places.len()..] {
            self.places.push(columns.column(name));
            let mut seed = Digest::default();
            seed.value(Some(name.as_bytes()));
            self.seeds.push(seed);
        }
        let place = |key: &String| self.rows.columns().iter().position(|column| column == key);
        self.key = self.key_names.iter().map(place).collect();
    }

    pub(super) fn survey(&mut self, known: &mut Known) -> Result<bool, Trouble> {
        for _ in 0..LOOKED {
            if !self.rows.next(&mut self.row)? {
                return Ok(true);
            }
            // The columns of the stream are learnt when its rows are told.
            let place = |key: &String| self.rows.columns().iter().position(|column| column == key);
            if self.key.contains(&None) {
                self.key = self.key_names.iter().map(place).collect();
            }
            if let Some(key) = self.key_text() {
                known.keep(&key);
            }
        }
        Ok(false)
    }

    fn key_text(&self) -> Option<Cow<'_, str>> {
        let cells = self.rows.cells(&self.row);
        let part = |place: &Option<usize>| cells.text((*place)?).ok()?;
        if let [only] = self.key.as_slice() {
            let text = part(only)?;
            return Some(if text.starts_with('[') { join_key(&[text]).into() } else { text.into() });
        }
        let parts = self.key.iter().map(part).collect::<Option<Vec<&str>>>()?;
        Some(join_key(&parts).into())
    }

    /// A digest that does not depend on the order of the columns, or on columns without a value. `None` for what cannot be decoded.
    fn digest(&self) -> Option<u64> {
        let (cells, mut sum) = (self.rows.cells(&self.row), 0u64);
        for (place, seed) in self.seeds.iter().enumerate() {
            if let Some(value) = cells.text(place).ok()? {
                let mut digest = *seed;
                digest.value(Some(value.as_bytes()));
                sum = sum.wrapping_add(digest.finish());
            }
        }
        Some(sum)
    }

    fn lacks_key(&self) -> bool {
        let cells = self.rows.cells(&self.row);
        self.key.iter().any(|place| place.is_none_or(|place| cells.raw(place).is_none()))
    }

    fn blame_key(&mut self) {
        let cells = self.rows.cells(&self.row);
        let missing = |place: &Option<usize>| place.is_none_or(|place| cells.raw(place).is_none());
        let Some(part) = self.key.iter().position(missing) else { return };
        self.row.blame(self.key_names.get(part).map(String::as_str), "key-missing", "it has no value in a column of its key".to_owned());
    }

    /// Compares the row with what is known: what is to be told of it.
    fn compare(&mut self, known: &mut Known) -> Option<Change> {
        let Some(key) = self.key_text() else {
            self.blame_key();
            return Some(Change::Fault);
        };
        let Some(digest) = self.digest().filter(|_| self.row.fault.is_none()) else {
            // What cannot be decoded is blamed when the batch is made.
            known.keep(&key);
            return Some(Change::Fault);
        };
        match known.note(&key, digest) {
            Noted::Same => None,
            Noted::New => Some(Change::New),
            Noted::Changed => Some(Change::Update),
            Noted::Twice => {
                self.row.blame(None, "key-twice", "a row before it has the same key".to_owned());
                Some(Change::Fault)
            }
        }
    }
}

/// What is to be told of a row.
#[derive(Clone, Copy)]
enum Change {
    New,
    Update,
    /// It is at fault, which is told once.
    Fault,
}

impl Reading {
    pub(super) fn step_texts(&mut self, limits: BatchLimits) -> Result<bool, Trouble> {
        let (new, is_whole) = (self.new_op(), self.manner.stream.mode == Mode::Whole);
        let Body::Texts(texts) = &mut self.body else { return Ok(true) };
        for _ in 0..LOOKED {
            if self.ops.len() >= limits.rows || self.held.columns.bytes() >= limits.bytes {
                return Ok(false);
            }
            if !texts.rows.next(&mut texts.row)? {
                return Ok(true);
            }
            if texts.rows.columns().len() > texts.places.len() {
                texts.learn_columns(&mut self.held.columns);
            }
            let number = texts.rows.number();
            let was_told = number <= self.manner.told;
            let op = if is_whole {
                match texts.compare(&mut self.held.known) {
                    None => continue,
                    Some(Change::Update) => Op::Update,
                    Some(Change::Fault) if was_told => continue,
                    Some(Change::New | Change::Fault) => new,
                }
            } else {
                if was_told {
                    continue;
                }
                if texts.lacks_key() {
                    texts.blame_key();
                }
                new
            };
            self.held.columns.push(&texts.places, texts.rows.cells(&texts.row));
            if let Some(fault) = texts.row.fault.take() {
                let row = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
                let message = format!("row {number} of {}: {}", self.name, fault.why);
                self.faults.push(hub_sdk::model::RowFault { row, column: fault.column, code: fault.code, message });
            }
            texts.numbers.push(number);
            self.ops.push(op);
        }
        Ok(false)
    }

    pub(super) fn finish_texts(&mut self) -> Result<RecordBatch, ArrowError> {
        // UTF-8 passes as it is; what comes out of a decoder holds U+FFFD where that could not read.
        let (rows, bad) = self.held.columns.finish(self.manner.stream.encoding != Encoding::Utf8)?;
        let Body::Texts(texts) = &mut self.body else { return Ok(rows) };
        let numbers = std::mem::take(&mut texts.numbers);
        for cell in bad {
            let column = self.held.columns.name(cell.column).map(Arc::from);
            let number = numbers.get(cell.row as usize).copied().unwrap_or(0);
            self.fault(cell.row as usize, number, column, "undecodable", "its text is not in the encoding of the stream");
        }
        self.faults.sort_by_key(|fault| fault.row);
        Ok(rows)
    }
}
