//! One file on its way into batches: what is new in it, against what subscribers know.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::model::{Op, RowFault};
use hub_sdk::{BatchLimits, Known};

use crate::columns::Columns;
use crate::config::{FileStream, Format};
use crate::rows::{Bad, Rows, Trouble};
use crate::table::Table;
use crate::text::unpacked;

mod tables;
mod texts;

use tables::Tables;
use texts::Texts;

/// What of a stream outlives its files.
pub(crate) struct Held {
    /// What subscribers know of it. Of no use to streams that only grow.
    pub(crate) known: Known,
    /// Its columns so far, and the rows that wait.
    pub(crate) columns: Columns,
    /// Its columns so far where they have types of their own.
    pub(crate) table: Option<SchemaRef>,
}

/// How a file is read.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// The stream it is of.
    pub(crate) stream: Arc<FileStream>,
    /// Columns that are needed of it.
    pub(crate) needed: Vec<String>,
    /// Whether it is a fault of the file that it lacks one of them, where it has a header.
    pub(crate) must_have: bool,
    /// Largest document, MiB.
    pub(crate) document_mib: u64,
    /// Folder for what is unpacked while it is read.
    pub(crate) spool: PathBuf,
    /// Rows at its beginning that were told already.
    pub(crate) told: u64,
    /// Whether new rows are a snapshot's.
    pub(crate) is_snapshot: bool,
    /// Whether attachments are kept: not where one only looks.
    pub(crate) keeps: bool,
}

/// One open file.
pub(crate) struct Reading {
    /// What the stream keeps; taken back at the end.
    pub(crate) held: Held,
    name: String,
    manner: Manner,
    ops: Vec<Op>,
    faults: Vec<RowFault>,
    body: Body,
}

enum Body {
    Texts(Box<Texts>),
    Tables(Box<Tables>),
}

/// Rows that are ready to be told.
pub(crate) struct Slice {
    pub(crate) ops: Vec<Op>,
    pub(crate) rows: RecordBatch,
    pub(crate) faults: Vec<RowFault>,
}

impl Reading {
    /// Opens a file. What the stream keeps comes back with an error.
    pub(crate) fn open(file: File, name: &str, manner: Manner, mut held: Held) -> Result<Self, Box<(Held, Trouble)>> {
        let body = match Self::body(file, &manner, &mut held) {
            Ok(body) => body,
            Err(trouble) => return Err(Box::new((held, trouble))),
        };
        held.known.begin_look();
        Ok(Self { held, name: name.to_owned(), manner, ops: Vec::new(), faults: Vec::new(), body })
    }

    fn body(mut file: File, manner: &Manner, held: &mut Held) -> Result<Body, Trouble> {
        file.seek(SeekFrom::Start(0)).map_err(Trouble::Io)?;
        if manner.stream.format == Format::Parquet {
            let file = unpacked(file, Format::Parquet, manner.document_mib, &manner.spool).map_err(Trouble::opening)?;
            let table = Table::open(file)?;
            missing(table.columns(), manner)?;
            return Tables::new(table, &manner.stream, held).map(|tables| Body::Tables(Box::new(tables)));
        }
        let rows = Rows::open(file, manner)?;
        if rows.has_header() {
            missing(rows.columns(), manner)?;
        }
        Ok(Body::Texts(Box::new(Texts::new(rows, &manner.stream, &mut held.columns))))
    }

    /// Whether the columns are known before any row is.
    pub(crate) fn has_header(&self) -> bool {
        match &self.body {
            Body::Texts(texts) => texts.has_header(),
            Body::Tables(_) => true,
        }
    }

    /// Takes note of the keys of some more rows, and tells nothing: what is absent at the end would be deleted. True at the end.
    pub(crate) fn survey(&mut self) -> Result<bool, Trouble> {
        match &mut self.body {
            Body::Texts(texts) => texts.survey(&mut self.held.known),
            Body::Tables(tables) => tables.survey(&mut self.held.known),
        }
    }

    /// Number of the row that was read last.
    pub(crate) fn number(&self) -> u64 {
        match &self.body {
            Body::Texts(texts) => texts.number(),
            Body::Tables(tables) => tables.number(),
        }
    }

    /// Names of the columns that the file has shown so far.
    pub(crate) fn columns(&self) -> &[String] {
        match &self.body {
            Body::Texts(texts) => texts.columns(),
            Body::Tables(tables) => tables.columns(),
        }
    }

    /// Reads on until a slice is full or enough was looked at. True at the end of the file.
    pub(crate) fn step(&mut self, limits: BatchLimits) -> Result<bool, Trouble> {
        match &self.body {
            Body::Texts(_) => self.step_texts(limits),
            Body::Tables(_) => self.step_tables(limits),
        }
    }

    /// A step and the rows that it found, for a thread that may wait.
    pub(crate) fn stepped(mut self, limits: BatchLimits) -> (Self, Result<bool, Trouble>, Result<Slice, ArrowError>) {
        let stepped = self.step(limits);
        let slice = self.slice();
        (self, stepped, slice)
    }

    fn new_op(&self) -> Op {
        if self.manner.is_snapshot { Op::Read } else { Op::Create }
    }

    /// Puts a fault of a row down; the first of a row counts.
    fn fault(&mut self, row: usize, number: u64, column: Option<Arc<str>>, code: &'static str, why: &str) {
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        if self.faults.iter().rev().take_while(|fault| fault.row >= row).all(|fault| fault.row != row) {
            let message = format!("row {number} of {}: {why}", self.name);
            self.faults.push(RowFault { row, column, code, message });
        }
    }

    /// The rows that wait.
    fn slice(&mut self) -> Result<Slice, ArrowError> {
        let rows = match &mut self.body {
            Body::Texts(_) => self.finish_texts()?,
            Body::Tables(tables) => tables.take(self.held.table.as_ref())?,
        };
        Ok(Slice { ops: std::mem::take(&mut self.ops), rows, faults: std::mem::take(&mut self.faults) })
    }

    /// The columns of the stream so far.
    pub(crate) fn schema(&self) -> SchemaRef {
        match (&self.body, &self.held.table) {
            (Body::Tables(_), Some(schema)) => Arc::clone(schema),
            _ => self.held.columns.schema(),
        }
    }

    /// Places of the key among the stream's columns.
    pub(crate) fn identity(&mut self) -> Vec<usize> {
        let key = &self.manner.stream.key;
        match (&self.body, &self.held.table) {
            (Body::Tables(_), Some(schema)) => key.iter().filter_map(|key| schema.index_of(key).ok()).collect(),
            _ => key.iter().map(|key| self.held.columns.column(key)).collect(),
        }
    }
}

fn missing(columns: &[String], manner: &Manner) -> Result<(), Trouble> {
    let Some(missing) = manner.needed.iter().find(|column| manner.must_have && !columns.contains(column)) else { return Ok(()) };
    let why = format!("the file has no column {missing}; it has {}", columns.join(", "));
    Err(Trouble::Bad(Bad { row: None, column: Some(missing.clone()), why }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Write;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use hub_sdk::model::{Checkpoint, StreamName};
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// Reads a file to its end, whatever comes of it.
    fn read(format: &str, bytes: &[u8]) -> Result<u64, Trouble> {
        let stream = serde_json::from_value(serde_json::json!({"pattern": "*", "format": format})).unwrap();
        let manner = Manner {
            stream: Arc::new(stream),
            needed: Vec::new(),
            must_have: true,
            document_mib: 16,
            spool: std::env::temp_dir(),
            told: 0,
            is_snapshot: true,
            keeps: false,
        };
        let mut file = crate::text::nameless(&manner.spool).unwrap();
        file.write_all(bytes).unwrap();
        let known = Known::restore(&Checkpoint::empty(), &StreamName::new("s").unwrap()).unwrap();
        let held = Held { known, columns: Columns::default(), table: None };
        let mut reading = Reading::open(file, "a", manner, held).map_err(|refused| refused.1)?;
        while !reading.step(BatchLimits::default())? {
            reading.slice().unwrap();
        }
        reading.slice().unwrap();
        Ok(reading.number())
    }

    /// Damages one byte after the other: a file may be refused or still be read, and nothing else may come of it.
    fn damaged(format: &str, whole: &[u8]) {
        let rows = read(format, whole).unwrap();
        assert!(rows > 0);
        let mut refused = 0;
        for place in 0..whole.len() {
            for value in [0xff, whole[place] ^ 1] {
                let mut bytes = whole.to_vec();
                bytes[place] = value;
                match read(format, &bytes) {
                    Ok(_) => {}
                    Err(Trouble::Bad(_)) => refused += 1,
                    Err(Trouble::Io(error)) => panic!("byte {place}: {error}"),
                }
            }
        }
        assert!(refused > 0);
        for length in (0..whole.len()).step_by(7) {
            let _refused_or_not = read(format, &whole[..length]);
        }
    }

    #[test]
    fn a_damaged_workbook_costs_itself_alone() {
        damaged("xls", include_bytes!("../tests/data/dan_cu.xls"));
        damaged("xlsx", include_bytes!("../tests/data/dan_cu.xlsx"));
    }

    #[test]
    fn a_damaged_table_costs_itself_alone() {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..50).map(|id| format!("số {id}"))));
        let batch = RecordBatch::try_from_iter([("id", ids), ("ten", names)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        damaged("parquet", &writer.into_inner().unwrap());
    }
}
