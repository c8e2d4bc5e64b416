//! Reads slices of a heap by `COPY … (FORMAT binary)`, straight from the connection's buffer into Arrow columns.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use hub_sdk::model::RowFault;
use hub_sdk::{BatchLimits, ErrorKind, SourceError};

use super::plan::Part;
use crate::decode::{Cell, TableDecoder, Wire};
use crate::table::Table;
use crate::wire::{Message, Session, WireError};

/// What `COPY … (FORMAT binary)` begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xFF\r\n\0";
/// A slice aims at this many decoded bytes: one delivery, so that it is published whole or not at all.
const SLICE_BYTES: u64 = 4 << 20;
/// Most blocks of a slice.
const MOST_BLOCKS: u64 = 1_024;

/// Rows as they were read, with their faults.
pub(crate) type Rows = (RecordBatch, Vec<RowFault>);

/// Reads slices of one stream.
#[derive(Debug)]
pub(crate) struct SliceReader {
    decoder: TableDecoder,
    limits: BatchLimits,
    select: String,
    /// Whether the server scans ranges of row addresses (PostgreSQL 14 and later).
    range_scans: bool,
    blocks: u64,
    partitioned: bool,
}

impl SliceReader {
    pub(crate) fn new(table: &Table, limits: BatchLimits, major: u32) -> Self {
        let select: Vec<&str> = table.columns.iter().map(|column| column.select.as_ref()).collect();
        Self {
            decoder: TableDecoder::new(&table.columns, Wire::Binary),
            limits,
            select: select.join(", "),
            range_scans: major >= 14,
            blocks: 0,
            partitioned: table.partitioned,
        }
    }

    /// Reads the blocks from `from` on, at most up to `to`. Gives the rows and the block after the last one read.
    ///
    /// # Errors
    /// The link broke, the table is gone, or a right is missing.
    pub(crate) async fn read(&mut self, session: &mut Session, part: &Part, from: u64, to: u64) -> Result<(Vec<Rows>, u64), SourceError> {
        if self.blocks == 0 {
            self.blocks = (SLICE_BYTES / part.bytes_per_block.max(1)).clamp(1, MOST_BLOCKS / 2);
        }
        let end = (from + self.blocks).min(to);
        let sql = format!("COPY ({}) TO STDOUT (FORMAT binary)", self.statement(&part.sql_name, from, end));
        let (rows, bytes) = copy_out(session, &sql, &mut self.decoder, self.limits).await?;
        // Wide rows come in runs: the next slice is as large as this one should have been.
        let fitting = (end - from) * SLICE_BYTES / bytes.max(SLICE_BYTES / 64);
        self.blocks = fitting.clamp(self.blocks.div_ceil(4), self.blocks * 2).clamp(1, MOST_BLOCKS);
        Ok((rows, end))
    }

    fn statement(&self, table: &str, from: u64, to: u64) -> String {
        // Tables that inherit are streams of their own; partitions are named one by one.
        let only = if self.partitioned { "" } else { "ONLY " };
        let select = &self.select;
        if self.range_scans {
            return format!("SELECT {select} FROM {only}{table} WHERE ctid >= '({from},0)' AND ctid < '({to},0)'");
        }
        // Before 14 a range of addresses would scan the whole table each time; a list of addresses does not.
        // 291 is the most rows that a block of 8 KiB holds.
        let last = to - 1;
        format!(
            "SELECT {select} FROM {only}{table} WHERE ctid = ANY (ARRAY(SELECT ('(' || b || ',' || i || ')')::tid \
             FROM generate_series({from}, {last}) AS b, generate_series(1, 291) AS i))"
        )
    }
}

/// Reads at most `rows` present rows of a table, in the columns and types of the stream.
///
/// # Errors
/// The link broke, the table is gone, or a right is missing.
pub(crate) async fn read_sample(session: &mut Session, table: &Table, rows: usize) -> Result<Rows, SourceError> {
    let select: Vec<&str> = table.columns.iter().map(|column| column.select.as_ref()).collect();
    let name = table.member().sql_name();
    let sql = format!("COPY (SELECT {} FROM {name} LIMIT {rows}) TO STDOUT (FORMAT binary)", select.join(", "));
    let mut decoder = TableDecoder::new(&table.columns, Wire::Binary);
    let limits = BatchLimits { rows: usize::MAX, bytes: usize::MAX, ..BatchLimits::default() };
    let (mut read, _bytes) = copy_out(session, &sql, &mut decoder, limits).await?;
    match read.pop() {
        Some(rows) => Ok(rows),
        None => decoder.finish().map_err(|error| SourceError::new(ErrorKind::Defect, "closing a batch").because(error)),
    }
}

/// Runs a COPY to its end. Gives its rows in batches of the limits' size, and their bytes.
async fn copy_out(
    session: &mut Session,
    sql: &str,
    decoder: &mut TableDecoder,
    limits: BatchLimits,
) -> Result<(Vec<Rows>, u64), SourceError> {
    let failed = |error: WireError| error.into_source("copying rows of the snapshot");
    let defect = |error: ArrowError| SourceError::new(ErrorKind::Defect, "closing a batch of the snapshot").because(error);
    session.start_copy(sql).await.map_err(failed)?;
    let mut batches = Vec::new();
    let mut bytes = 0;
    let mut begun = false;
    let mut failure = None;
    loop {
        match session.buffered().map_err(failed)? {
            None => session.fill().await.map_err(failed)?,
            Some(Message::CopyData(payload)) => {
                decode(payload, decoder, &mut begun).map_err(failed)?;
                if decoder.rows() >= limits.rows || decoder.bytes() >= limits.bytes {
                    bytes += decoder.bytes() as u64;
                    batches.push(decoder.finish().map_err(defect)?);
                }
            }
            Some(Message::Error(error)) => failure = Some(error),
            Some(Message::Ready) => break,
            Some(_) => {}
        }
    }
    if let Some(error) = failure {
        decoder.finish().map_err(defect)?;
        return Err(failed(WireError::Server(error)));
    }
    if decoder.rows() > 0 {
        bytes += decoder.bytes() as u64;
        batches.push(decoder.finish().map_err(defect)?);
    }
    Ok((batches, bytes))
}

/// Reads the tuples of one COPY message, the header of the first included.
fn decode(payload: &[u8], decoder: &mut TableDecoder, begun: &mut bool) -> Result<(), WireError> {
    let broken = || WireError::Protocol("broken COPY data".into());
    let mut rest = payload;
    if !*begun {
        rest = rest.strip_prefix(SIGNATURE).and_then(|rest| rest.get(4..)).ok_or_else(broken)?;
        let (extension, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        rest = tail.get(u32::from_be_bytes(*extension) as usize..).ok_or_else(broken)?;
        *begun = true;
    }
    while !rest.is_empty() {
        let (count, tail) = rest.split_first_chunk::<2>().ok_or_else(broken)?;
        rest = tail;
        // The trailer has a count of -1 and nothing after it.
        let Ok(count) = usize::try_from(i16::from_be_bytes(*count)) else { return Ok(()) };
        for column in 0..count {
            let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                decoder.push(column, Cell::Null);
                rest = tail;
                continue;
            };
            let (value, tail) = tail.split_at_checked(length).ok_or_else(broken)?;
            decoder.push(column, Cell::Bytes(value));
            rest = tail;
        }
        decoder.finish_row();
    }
    Ok(())
}
