//! Rows of a SELECT in the binary protocol, from the socket's buffer into Arrow columns.

use arrow::record_batch::RecordBatch;
use hub_sdk::model::{ChangeBatch, Op, Origin, RowFault, SnapshotMark, StreamName};
use hub_sdk::{BatchLimits, ErrorKind, SourceError};

use super::key::{Key, condition, key_of};
use crate::catalog::Table;
use crate::decode::{Cell, Form, Grid, Rules, TableDecoder};
use crate::kind::{Kind, Layout, quoted};
use crate::wire::{AnswerColumn, Packet, Session, Step, WireError};

/// A SELECT of a table's columns, in the order of its key where it has one that is compared here.
pub(crate) fn select(table: &Table, after: Option<&Key>, upto: Option<&Key>) -> String {
    let columns: Vec<String> = table.layout.columns.iter().map(|column| quoted(&column.name)).collect();
    let mut sql = format!("SELECT {} FROM {}.{}", columns.join(", "), quoted(&table.database), quoted(&table.name));
    if table.layout.is_sortable() {
        let order: Vec<String> = table.layout.identity().iter().map(|name| quoted(name)).collect();
        if let Some(condition) = condition(&table.layout, after, upto) {
            sql.push_str(&format!(" WHERE {condition}"));
        }
        sql.push_str(&format!(" ORDER BY {}", order.join(", ")));
    }
    sql
}

/// Reads one answer.
pub(crate) struct RowReader<'a> {
    session: &'a mut Session,
    layout: &'a Layout,
    decoder: TableDecoder,
    /// How long a cell of each column is.
    widths: Vec<Width>,
    cells: Vec<Cell>,
    picks: Vec<u32>,
    limits: BatchLimits,
    /// Key of the last row that was read.
    last: Option<Key>,
    is_done: bool,
}

/// How long a cell is in the binary protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Fixed(usize),
    /// A byte with the length before it: dates and times.
    Short,
    /// A packed length before it.
    Packed,
}

/// Rows, their faults, and the key of the last of them.
pub(crate) struct Slice {
    pub(crate) rows: RecordBatch,
    pub(crate) faults: Vec<RowFault>,
    pub(crate) last: Option<Key>,
}

impl<'a> RowReader<'a> {
    /// Runs a SELECT of all columns of a layout.
    ///
    /// # Errors
    /// The server refuses it, or gives other types than the layout has.
    pub(crate) async fn start(
        session: &'a mut Session,
        table: &'a Table,
        rules: &Rules,
        limits: BatchLimits,
        sql: &str,
    ) -> Result<Self, SourceError> {
        let failed = |error: WireError| error.into_source("reading the table").of(table.stream.clone());
        let answer = session.read(sql).await.map_err(failed)?;
        let mut decoder = TableDecoder::new(&table.layout, rules);
        let forms: Option<Vec<Form>> =
            table.layout.columns.iter().zip(&answer).map(|(column, answer)| form(&column.kind, answer)).collect();
        let forms = forms.filter(|_| answer.len() == table.layout.columns.len()).ok_or_else(|| {
            SourceError::new(ErrorKind::Unreachable, "reading the table")
                .because("its columns changed while it was being read")
                .advise("it is read again with its new columns")
                .of(table.stream.clone())
        })?;
        decoder.set_forms(&forms);
        let widths = answer.iter().map(|column| width(column.kind)).collect();
        Ok(Self {
            session,
            layout: &table.layout,
            decoder,
            widths,
            cells: Vec::new(),
            picks: Vec::new(),
            limits,
            last: None,
            is_done: false,
        })
    }

    /// The next rows, as many as a batch may hold; `None` after the last.
    ///
    /// # Errors
    /// The connection breaks, or the server gives up.
    pub(crate) async fn next(&mut self) -> Result<Option<Slice>, WireError> {
        let mut bytes = 0;
        let mut group: Option<Packet> = None;
        while !self.is_done && self.decoder.rows() + self.picks.len() < self.limits.rows.max(1) && bytes < self.limits.bytes {
            match self.session.step()? {
                Step::Row(packet) => {
                    if group.is_some_and(|group| !group.shares_ground(packet)) {
                        self.take_group(group.take());
                    }
                    walk(&self.widths, self.session.channel.ground(packet), packet, &mut self.cells)?;
                    self.picks.push(u32::try_from(self.picks.len()).unwrap_or(u32::MAX));
                    bytes += packet.to - packet.from;
                    group = Some(packet);
                }
                Step::Dry => {
                    self.take_group(group.take());
                    self.session.channel.fill().await?;
                }
                Step::End => self.is_done = true,
            }
        }
        self.take_group(group);
        if self.decoder.rows() == 0 && self.is_done {
            self.session.finish().await?;
            return Ok(None);
        }
        let (rows, faults) = self.decoder.finish().map_err(|_| WireError::Protocol("its columns contradict each other"))?;
        Ok(Some(Slice { rows, faults, last: self.last.take() }))
    }

    /// A slice without rows.
    pub(crate) fn empty(&self) -> Slice {
        Slice { rows: RecordBatch::new_empty(self.decoder.schema().clone()), faults: Vec::new(), last: None }
    }

    /// Decodes the rows whose cells were found.
    fn take_group(&mut self, group: Option<Packet>) {
        let Some(packet) = group else { return };
        let ground = self.session.channel.ground(packet);
        let width = self.widths.len();
        self.decoder.extend(Grid { ground, cells: &self.cells, width }, &self.picks);
        if self.layout.is_sortable() {
            let last = self.cells.get(self.cells.len().saturating_sub(width)..).unwrap_or_default();
            self.last = Some(key_of(self.layout, ground, last));
        }
        self.cells.clear();
        self.picks.clear();
    }
}

/// Rows that were read as a batch.
pub(crate) fn batch(stream: &StreamName, slice: Slice, (place, taken_micros): (u64, i64), mark: SnapshotMark) -> ChangeBatch {
    let count = slice.rows.num_rows();
    ChangeBatch {
        stream: stream.clone(),
        ops: vec![Op::Read; count],
        rows: slice.rows,
        old: None,
        full_images: true,
        origin: Origin {
            commit_micros: vec![taken_micros; count],
            commit_position: vec![place; count],
            position: vec![place; count],
            ordinal: vec![0; count],
            transaction: vec![0; count],
        },
        key_changes: Vec::new(),
        faults: slice.faults,
        snapshot: mark,
    }
}

/// Finds the cells of a row: a zero, a bitmap of nulls with two bits before it, and the values.
#[inline]
fn walk(widths: &[Width], ground: &[u8], packet: Packet, cells: &mut Vec<Cell>) -> Result<(), WireError> {
    const SHORT: WireError = WireError::Protocol("a row is cut off");
    let row = ground.get(..packet.to).ok_or(SHORT)?;
    let mut at = packet.from + 1 + (widths.len() + 9) / 8;
    let nulls = row.get(packet.from + 1..at).ok_or(SHORT)?;
    for (index, width) in widths.iter().enumerate() {
        let bit = index + 2;
        if nulls[bit / 8] >> (bit % 8) & 1 == 1 {
            cells.push(Cell::NULL);
            continue;
        }
        let length = match width {
            Width::Fixed(length) => *length,
            Width::Short => {
                at += 1;
                usize::from(*row.get(at - 1).ok_or(SHORT)?)
            }
            Width::Packed => {
                let (head, bytes) = match *row.get(at).ok_or(SHORT)? {
                    0xfc => (1, 2),
                    0xfd => (1, 3),
                    0xfe => (1, 8),
                    _ => (0, 1),
                };
                let length = crate::wire::little(row.get(at + head..at + head + bytes).ok_or(SHORT)?);
                at += head + bytes;
                usize::try_from(length).map_err(|_| SHORT)?
            }
        };
        if at + length > packet.to {
            return Err(SHORT);
        }
        cells.push(Cell::of(at, at + length));
        at += length;
    }
    Ok(())
}

fn width(kind: u8) -> Width {
    match kind {
        1 => Width::Fixed(1),
        2 | 13 => Width::Fixed(2),
        3 | 4 | 9 => Width::Fixed(4),
        5 | 8 => Width::Fixed(8),
        7 | 10 | 11 | 12 => Width::Short,
        _ => Width::Packed,
    }
}

/// The form of a column's cells in the binary protocol; `None` where it is of another type than the layout says.
fn form(kind: &Kind, answer: &AnswerColumn) -> Option<Form> {
    let is_text = matches!(answer.kind, 15 | 245 | 247..=255);
    Some(match (kind, answer.kind) {
        (Kind::Int { unsigned, .. }, 1 | 2 | 3 | 8 | 9) => Form::Int { signed: !unsigned },
        (Kind::Year, 13) => Form::Int { signed: false },
        (Kind::Float, 4) | (Kind::Double, 5) => Form::Float,
        (Kind::Decimal { scale, .. }, 0 | 246) => Form::DecimalText { scale: *scale },
        (Kind::Bit { .. }, 16) => Form::Bits,
        (Kind::Date, 10 | 14) | (Kind::DateTime, 12) | (Kind::Timestamp, 7) => Form::Parts,
        (Kind::Time, 11) => Form::TimeParts,
        (Kind::Geometry, 255 | 252) => Form::Geometry,
        (
            Kind::Text { .. }
            | Kind::Blob
            | Kind::Binary { .. }
            | Kind::Enum { .. }
            | Kind::Set { .. }
            | Kind::Json
            | Kind::Uuid
            | Kind::Inet6
            | Kind::Inet4,
            _,
        ) if is_text => Form::Bytes,
        _ => return None,
    })
}
