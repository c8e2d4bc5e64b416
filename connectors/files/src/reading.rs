//! One file on its way into batches: what is new in it, against what subscribers know.

use std::fs::File;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::model::{Op, RowFault};
use hub_sdk::records::TextRows;
use hub_sdk::{BatchLimits, Digest, Known, Noted, join_key};

use crate::config::{FileStream, Mode};
use crate::row::Row;
use crate::rows::{Bad, Rows, Trouble};

/// Rows that are looked at before a step ends although nothing of them is to be told.
const LOOKED: usize = 32_768;

/// What of a stream outlives its files.
pub(crate) struct Held {
    /// What subscribers know of it. Of no use to streams that only grow.
    pub(crate) known: Known,
    /// Its columns so far, and the rows that wait.
    pub(crate) text: TextRows,
}

/// How a file is read.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    /// Rows at its beginning that were told already.
    pub(crate) told: u64,
    /// Whether new rows are a snapshot's.
    pub(crate) is_snapshot: bool,
}

/// One open file.
pub(crate) struct Reading {
    /// What the stream keeps; taken back at the end.
    pub(crate) held: Held,
    stream: Arc<FileStream>,
    name: String,
    start: Start,
    rows: Rows,
    row: Row,
    ops: Vec<Op>,
    faults: Vec<RowFault>,
    /// Place of each of the file's columns among the stream's.
    places: Vec<usize>,
    /// Digest of each column's name, with which those of its values begin.
    seeds: Vec<Digest>,
    /// Places of the key among the file's columns; `None` where the file has not shown one yet.
    key: Vec<Option<usize>>,
}

/// Rows that are ready to be told.
pub(crate) struct Slice {
    pub(crate) ops: Vec<Op>,
    pub(crate) rows: RecordBatch,
    pub(crate) faults: Vec<RowFault>,
}

impl Reading {
    /// Opens a file; `needed` are columns that it must have. What the stream keeps comes back with an error.
    pub(crate) fn open(
        file: File,
        name: &str,
        stream: &Arc<FileStream>,
        document_mib: u64,
        needed: &[String],
        held: Held,
        start: Start,
    ) -> Result<Self, (Held, Trouble)> {
        let rows = match Rows::open(file, stream, document_mib) {
            Ok(rows) => rows,
            Err(trouble) => return Err((held, trouble)),
        };
        if let Some(missing) = needed.iter().filter(|_| rows.has_header()).find(|column| !rows.columns().contains(column)) {
            let why = format!("the file has no column {missing}; it has {}", rows.columns().join(", "));
            return Err((held, Trouble::Bad(Bad { row: None, column: Some(missing.clone()), why })));
        }
        let mut reading = Self {
            held,
            stream: Arc::clone(stream),
            name: name.to_owned(),
            start,
            rows,
            row: Row::default(),
            ops: Vec::new(),
            faults: Vec::new(),
            places: Vec::new(),
            seeds: Vec::new(),
            key: Vec::new(),
        };
        reading.learn_columns();
        reading.held.known.begin_look();
        Ok(reading)
    }

    /// Gives new columns of the file their places in the stream.
    fn learn_columns(&mut self) {
        for name in &self.rows.columns()[self.places.len()..] {
            self.places.push(self.held.text.column(name));
            let mut seed = Digest::default();
            seed.value(Some(name.as_bytes()));
            self.seeds.push(seed);
        }
        let place = |key: &String| self.rows.columns().iter().position(|column| column == key);
        self.key = self.stream.key.iter().map(place).collect();
    }

    /// Number of the row that was read last.
    pub(crate) fn number(&self) -> u64 {
        self.rows.number()
    }

    /// Reads on until a slice is full or enough was looked at. True at the end of the file.
    pub(crate) fn step(&mut self, limits: BatchLimits) -> Result<bool, Trouble> {
        for _ in 0..LOOKED {
            if self.ops.len() >= limits.rows || self.held.text.bytes() >= limits.bytes {
                return Ok(false);
            }
            if !self.rows.next(&mut self.row)? {
                return Ok(true);
            }
            if self.rows.columns().len() > self.places.len() {
                self.learn_columns();
            }
            match self.stream.mode {
                Mode::Append if self.rows.number() <= self.start.told => {}
                Mode::Append => self.append(),
                Mode::Whole => self.compare(),
            }
        }
        Ok(false)
    }

    fn new_op(&self) -> Op {
        if self.start.is_snapshot { Op::Read } else { Op::Create }
    }

    fn append(&mut self) {
        if self.key.iter().any(|place| !matches!(place.map(|place| self.row.cell(place)), Some(Ok(Some(_)) | Err(_)))) {
            self.blame_key();
        }
        self.tell(self.new_op());
    }

    fn blame_key(&mut self) {
        let missing = |place: &Option<usize>| place.is_none_or(|place| self.row.cell(place) == Ok(None));
        let column = self.key.iter().position(missing).map(|part| self.stream.key[part].clone());
        self.row.blame(column.as_deref(), "key-missing", "it has no value in a column of its key".to_owned());
    }

    /// Compares a row of a whole delivery with what is known.
    fn compare(&mut self) {
        let Some(key) = self.key_text() else {
            self.blame_key();
            return self.tell_fault();
        };
        let Some(digest) = self.digest().filter(|_| self.row.fault.is_none()) else {
            // What cannot be decoded is blamed when its cells are told.
            self.held.known.keep(&key);
            return self.tell_fault();
        };
        match self.held.known.note(&key, digest) {
            Noted::Same => {}
            Noted::New => self.tell(self.new_op()),
            Noted::Changed => self.tell(Op::Update),
            Noted::Twice => {
                self.row.blame(None, "key-twice", "a row before it has the same key".to_owned());
                self.tell_fault();
            }
        }
    }

    fn key_text(&self) -> Option<String> {
        let part = |place: &Option<usize>| self.row.cell((*place)?).ok()?;
        let parts = self.key.iter().map(part).collect::<Option<Vec<&str>>>()?;
        Some(join_key(&parts))
    }

    /// A digest that does not depend on the order of the columns, or on columns without a value. `None` for what cannot be decoded.
    fn digest(&self) -> Option<u64> {
        let mut sum = 0u64;
        for (place, seed) in self.seeds.iter().enumerate() {
            if let Some(value) = self.row.cell(place).ok()? {
                let mut digest = *seed;
                digest.value(Some(value.as_bytes()));
                sum = sum.wrapping_add(digest.finish());
            }
        }
        Some(sum)
    }

    /// Tells a row at fault, unless the run before a crash has told it.
    fn tell_fault(&mut self) {
        if self.rows.number() > self.start.told {
            self.tell(self.new_op());
        }
    }

    fn tell(&mut self, op: Op) {
        for cell in 0..self.places.len() {
            match self.row.cell(cell) {
                // U+FFFD is what the decoder writes for bytes that are not in an encoding other than UTF-8.
                Ok(Some(text)) if self.stream.encoding != crate::config::Encoding::Utf8 && text.contains('\u{fffd}') => {
                    self.undecodable(cell);
                }
                Ok(value) => self.held.text.cell(self.places[cell], value),
                Err(_undecodable) => self.undecodable(cell),
            }
        }
        self.held.text.end_row();
        let row = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
        if let Some(fault) = self.row.fault.take() {
            let message = format!("row {} of {}: {}", self.rows.number(), self.name, fault.why);
            self.faults.push(RowFault { row, column: fault.column, code: fault.code, message });
        }
        self.ops.push(op);
    }

    fn undecodable(&mut self, cell: usize) {
        let column = self.rows.columns().get(cell).map(String::as_str);
        self.row.blame(column, "undecodable", "its text is not in the encoding of the stream".to_owned());
    }

    /// The rows that wait.
    pub(crate) fn slice(&mut self) -> Result<Slice, ArrowError> {
        let rows = self.held.text.finish()?;
        Ok(Slice { ops: std::mem::take(&mut self.ops), rows, faults: std::mem::take(&mut self.faults) })
    }

    /// Places of the key among the stream's columns.
    pub(crate) fn identity(&mut self) -> Vec<usize> {
        let keys = self.stream.key.clone();
        keys.iter().map(|key| self.held.text.column(key)).collect()
    }
}
