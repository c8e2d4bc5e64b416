//! Follows one stream by looking at it: all of its rows, or those from a watermark on, against what was told.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, SchemaRef, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use hub_sdk::model::{ChangeBatch, Checkpoint, Op, RowFault, StreamName};
use hub_sdk::{Delivery, Ended, ErrorKind, Look, Looks, Noted, Outlet, SourceError, now_micros};
use serde_json::Value;

use crate::config::{MarkKind, Mode, OdbcStream, Watermark};
use crate::connector::Board;
use crate::dialect::Dialect;
use crate::digest::{deleted, digests, keys};
use crate::link::Link;
use crate::memory::Memory;
use crate::page::Page;
use crate::reading::Select;
use crate::session::Session;

/// Keys of rows that have none of their own: they are told once, and never deleted.
const NAMELESS: char = '\u{1}';

/// One stream that is followed.
pub(crate) struct Follower {
    pub(crate) name: StreamName,
    pub(crate) stream: Arc<OdbcStream>,
    /// Columns that are read; all of them where it is empty.
    pub(crate) wanted: Vec<String>,
    /// The key; learned from the catalogue where it is not configured.
    pub(crate) key: Vec<String>,
    pub(crate) looks: Looks,
    pub(crate) memory: Memory,
    /// Whether all rows that were there at first are told.
    pub(crate) is_complete: bool,
    /// The highest watermark that was told.
    pub(crate) mark: Option<i128>,
    /// When all rows were compared last, microseconds since 1970.
    pub(crate) compared: u64,
    /// Position in the change tables.
    pub(crate) position: Option<String>,
    pub(crate) rows: usize,
    pub(crate) board: Arc<Board>,
    pub(crate) outlet: Outlet,
}

/// What of a stream's rows a look reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// A condition in SQL, with the order it needs.
    pub(crate) condition: String,
    /// Rows below it are not taken.
    pub(crate) low: Option<i128>,
    /// How far behind the highest watermark the next look begins.
    pub(crate) watermark: Option<Watermark>,
    /// Whether it is all rows: what is not among them is gone.
    pub(crate) is_all: bool,
}

/// Rows that are to be told.
struct Sifted {
    places: Vec<u32>,
    ops: Vec<Op>,
    faults: Vec<RowFault>,
}

/// Bytes of rows that are told together at most.
const GATHERED_BYTES: usize = 4 << 20;

/// Rows of several pages that are told together: a page is as small as the widest row makes it, and a delivery costs a commit.
#[derive(Default)]
struct Gathered {
    rows: Vec<RecordBatch>,
    ops: Vec<Op>,
    faults: Vec<RowFault>,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, page: &Page, sifted: Sifted) -> Result<(), ArrowError> {
        let before = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
        let rows = match sifted.places.len() == page.rows.num_rows() {
            true => page.rows.clone(),
            false => take_record_batch(&page.rows, &UInt32Array::from(sifted.places))?,
        };
        self.bytes += rows.get_array_memory_size();
        self.rows.push(rows);
        self.faults.extend(sifted.faults.into_iter().map(|fault| RowFault { row: fault.row.saturating_add(before), ..fault }));
        self.ops.extend(sifted.ops);
        Ok(())
    }
}

impl Follower {
    /// What a checkpoint says of a stream.
    pub(crate) fn restore(&mut self, from: &Checkpoint) -> Result<(), String> {
        self.memory = Memory::restore(from, &self.name, &self.stream.mode)?;
        self.is_complete = from.get(&format!("complete/{}", self.name)).is_some();
        let number = |partition: &str| from.get(&format!("{partition}/{}", self.name)).and_then(Value::as_str);
        self.mark = number("mark").and_then(|mark| mark.parse().ok());
        self.compared = number("compared").and_then(|micros| micros.parse().ok()).unwrap_or(0);
        self.position = number("position").map(str::to_owned);
        Ok(())
    }

    /// Looks once.
    pub(crate) async fn look(&mut self, link: &mut Link) -> Result<(), Ended> {
        self.learn_key(link).await?;
        match self.stream.mode.clone() {
            Mode::Compare => self.compare(link, Part { is_all: true, ..Part::default() }).await?,
            Mode::Watermark(watermark) => self.look_from_watermark(link, &watermark).await?,
            Mode::ChangeTracking(_) => self.look_at_tracking(link).await?,
            Mode::Cdc(cdc) => self.look_at_cdc(link, &cdc).await?,
        }
        self.board.looked(&self.name, self.memory.len());
        Ok(())
    }

    async fn learn_key(&mut self, link: &mut Link) -> Result<(), SourceError> {
        if !self.key.is_empty() {
            return Ok(());
        }
        let (stream, name) = (Arc::clone(&self.stream), self.name.clone());
        let key = link.run(move |session| session.key_of(&stream, &name)).await.map_err(|error| error.of(self.name.clone()))?;
        if key.is_empty() {
            return Err(SourceError::new(ErrorKind::StreamBroken, "reading the primary key")
                .because("the table has none that the driver tells of")
                .advise("name the columns that identify a row in `key` of the stream")
                .of(self.name.clone()));
        }
        self.key = key;
        Ok(())
    }

    async fn look_from_watermark(&mut self, link: &mut Link, watermark: &Watermark) -> Result<(), Ended> {
        let every = watermark.full_compare_every_s.map(Duration::from_secs_f64);
        let is_due = |every: Duration| {
            u64::try_from(now_micros()).unwrap_or(0) >= self.compared + u64::try_from(every.as_micros()).unwrap_or(u64::MAX)
        };
        if every.is_some_and(is_due) {
            self.compare(link, Part { is_all: true, watermark: Some(watermark.clone()), ..Part::default() }).await?;
            let mut checkpoint = Checkpoint::empty();
            self.compared = u64::try_from(now_micros()).unwrap_or(0);
            checkpoint.set(format!("compared/{}", self.name), Value::String(self.compared.to_string()));
            return Ok(self.outlet.deliver(Delivery::new(Vec::new(), checkpoint)).await?);
        }
        let (mark, watermark_of, name) = (self.mark, watermark.clone(), self.name.clone());
        let part = link.run(move |session| part_from(session, mark, &watermark_of)).await.map_err(|error| error.of(name))?;
        self.compare(link, part).await
    }

    /// Reads a part of the rows, tells what is new in it, and what is gone where it is all of them.
    pub(crate) async fn compare(&mut self, link: &mut Link, part: Part) -> Result<(), Ended> {
        let mut look = self.looks.begin();
        self.memory.begin_look();
        let (stream, name, wanted, rows) = (Arc::clone(&self.stream), self.name.clone(), self.wanted.clone(), self.rows);
        let (key, condition) = (self.key.clone(), part.condition.clone());
        let select = move |session: &Session| {
            Ok(Select { sql: session.select(&stream, &name, &columns_of(&stream, &key, &wanted), &condition), rows })
        };
        let mut reading = link.read(format!("reading {}", link.place()), select);
        let Some(columns) = reading.columns().await else {
            let ended = link.finish(reading).await;
            return Err(self.failed(ended).into());
        };
        let identity = self.places(&columns.schema)?;
        let marks = part.watermark.as_ref().map(|mark| self.place(&columns.schema, &mark.column)).transpose()?;
        let mut gathered = Gathered::default();
        while let Some(page) = reading.page().await {
            let marks = marks.map(|place| self.marks(page.rows.column(place), &part)).transpose()?;
            let sifted = self.sift(&page, &identity, marks.as_deref(), part.low)?;
            self.advance(marks.as_deref());
            if sifted.places.is_empty() {
                continue;
            }
            gathered.add(&page, sifted).map_err(|error| self.defect(error))?;
            if gathered.ops.len() >= self.rows || gathered.bytes >= GATHERED_BYTES {
                let batches = self.batches(&mut look, std::mem::take(&mut gathered))?;
                self.deliver(batches, &part, &[], link.dialect()).await?;
            }
        }
        if !gathered.ops.is_empty() {
            let batches = self.batches(&mut look, gathered)?;
            self.deliver(batches, &part, &[], link.dialect()).await?;
        }
        link.finish(reading).await.map_err(|error| error.of(self.name.clone()))?;
        if part.is_all {
            self.delete_absent(&mut look, &columns.schema, &identity, &part, link.dialect()).await?;
        }
        if !self.is_complete {
            self.is_complete = true;
            let completed = [self.name.clone()];
            self.deliver(Vec::new(), &part, &completed, link.dialect()).await?;
        }
        Ok(())
    }

    /// Which rows of a page are to be told, and as what.
    fn sift(&mut self, page: &Page, identity: &[usize], marks: Option<&[Option<i128>]>, low: Option<i128>) -> Result<Sifted, SourceError> {
        let keys = keys(&page.rows, identity).map_err(|error| self.defect(error))?;
        let digests = digests(page);
        let mut sifted = Sifted { places: Vec::new(), ops: Vec::new(), faults: Vec::new() };
        let mut faults = page.faults.iter().peekable();
        for (row, (key, digest)) in keys.into_iter().zip(digests).enumerate() {
            let place = u32::try_from(row).unwrap_or(u32::MAX);
            let mut fault = faults.next_if(|fault| fault.row == place).cloned();
            let mark = marks.and_then(|marks| marks[row]);
            if low.is_some() && mark < low {
                continue;
            }
            let new = if self.is_complete { Op::Create } else { Op::Read };
            let noted = match &key {
                Some(key) => self.memory.note(key, digest, mark),
                None => {
                    fault = Some(nameless(place, "key-missing", "a column of the key is null"));
                    self.memory.note(&format!("{NAMELESS}{digest:x}"), digest, mark)
                }
            };
            let op = match noted {
                Noted::New => new,
                Noted::Changed => Op::Update,
                Noted::Same => continue,
                Noted::Twice => {
                    let again = format!("{NAMELESS}{digest:x}{}", key.as_deref().unwrap_or_default());
                    if self.memory.note(&again, digest, mark) != Noted::New {
                        continue;
                    }
                    fault = Some(nameless(place, "key-twice", "another row of this look has the same key"));
                    new
                }
            };
            sifted.faults.extend(fault.map(|fault| RowFault { row: u32::try_from(sifted.ops.len()).unwrap_or(u32::MAX), ..fault }));
            sifted.places.push(place);
            sifted.ops.push(op);
        }
        Ok(sifted)
    }

    fn batches(&self, look: &mut Look, gathered: Gathered) -> Result<Vec<ChangeBatch>, SourceError> {
        let Some(first) = gathered.rows.first() else { return Ok(Vec::new()) };
        let rows = concat_batches(&first.schema(), &gathered.rows).map_err(|error| self.defect(error))?;
        Ok(look.batches(&self.name, &rows, &gathered.ops, &gathered.faults, false))
    }

    async fn delete_absent(
        &mut self,
        look: &mut Look,
        schema: &SchemaRef,
        identity: &[usize],
        part: &Part,
        dialect: Dialect,
    ) -> Result<(), Ended> {
        let absent = self.memory.absent();
        for keys in absent.chunks(self.rows.max(1)) {
            keys.iter().for_each(|key| self.memory.forget(key));
            let own: Vec<Box<str>> = keys.iter().filter(|key| !key.starts_with(NAMELESS)).cloned().collect();
            let mut batches = Vec::new();
            if !own.is_empty() {
                let rows = deleted(schema, identity, &own).map_err(|error| self.defect(error))?;
                batches.push(look.batch(&self.name, vec![Op::Delete; own.len()], rows, false));
            }
            self.deliver(batches, part, &[], dialect).await?;
        }
        Ok(())
    }

    /// Hands batches over with everything that is known once they are durable.
    pub(crate) async fn deliver(
        &mut self,
        batches: Vec<ChangeBatch>,
        part: &Part,
        completed: &[StreamName],
        dialect: Dialect,
    ) -> Result<(), Ended> {
        let mut delivery = Delivery::new(batches, Checkpoint::empty()).completing(completed.to_vec());
        let checkpoint = &mut delivery.checkpoint;
        self.looks.save(checkpoint);
        let low = part.watermark.as_ref().and_then(|mark| low(self.mark, mark, dialect));
        self.memory.save(low, checkpoint);
        // In the order of the watermark every row told so far is behind it; without that order it is saved at the end alone.
        if let Some(mark) = self.mark.filter(|_| part.watermark.is_some() && (!part.is_all || !completed.is_empty())) {
            checkpoint.set(format!("mark/{}", self.name), Value::String(mark.to_string()));
        }
        if !completed.is_empty() {
            checkpoint.set(format!("complete/{}", self.name), Value::Bool(true));
        }
        // Taken before the first row was read, and of use once the last one is told.
        if let Some(position) = self.position.as_ref().filter(|_| self.is_complete) {
            checkpoint.set(format!("position/{}", self.name), Value::String(position.clone()));
        }
        Ok(self.outlet.deliver(delivery).await?)
    }

    /// Moves the watermark behind a page.
    fn advance(&mut self, marks: Option<&[Option<i128>]>) {
        let highest = marks.into_iter().flatten().copied().max().flatten();
        self.mark = self.mark.max(highest);
    }

    /// Watermarks of a page. The source must give them in order, or a crash would skip rows.
    fn marks(&self, column: &ArrayRef, part: &Part) -> Result<Vec<Option<i128>>, SourceError> {
        let kind = part.watermark.as_ref().map_or(MarkKind::Number, |mark| mark.kind);
        let broken = |why: String| {
            SourceError::new(ErrorKind::StreamBroken, "reading watermarks").because(why).advise("name another column, or use mode compare")
        };
        let marks = marks(column, kind).map_err(|why| broken(why).of(self.name.clone()))?;
        let is_ordered = part.is_all || marks.iter().flatten().is_sorted();
        if is_ordered {
            return Ok(marks);
        }
        Err(broken("the source orders them as something else than it shows them: times in several forms, or numbers as text".to_owned())
            .of(self.name.clone()))
    }

    /// Places of the key among the columns.
    pub(crate) fn places(&self, schema: &SchemaRef) -> Result<Vec<usize>, SourceError> {
        self.key.iter().map(|column| self.place(schema, column)).collect()
    }

    fn place(&self, schema: &SchemaRef, column: &str) -> Result<usize, SourceError> {
        schema.index_of(column).map_err(|_| {
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            SourceError::new(ErrorKind::StreamBroken, format!("looking for column {column}"))
                .because(format!("the stream has {}", names.join(", ")))
                .advise("mend key or mode of the stream")
                .of(self.name.clone())
        })
    }

    /// The error that ended a reading before its first row.
    pub(crate) fn failed(&self, ended: Result<(), SourceError>) -> SourceError {
        match ended {
            Err(error) => error.of(self.name.clone()),
            Ok(()) => self.defect("it has no columns"),
        }
    }

    pub(crate) fn defect(&self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
        SourceError::new(ErrorKind::Defect, "reading a stream").because(why).of(self.name.clone())
    }
}

fn nameless(row: u32, code: &'static str, message: &str) -> RowFault {
    RowFault { row, column: None, code, message: message.to_owned() }
}

/// Columns to read: none means all. What the key and the mode need comes anyway.
pub(crate) fn columns_of(stream: &OdbcStream, key: &[String], wanted: &[String]) -> Vec<String> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut columns = key.to_vec();
    if let Mode::Watermark(mark) = &stream.mode {
        columns.push(mark.column.clone());
    }
    columns.extend(wanted.iter().cloned());
    let mut seen = std::collections::HashSet::new();
    columns.retain(|column| seen.insert(column.clone()));
    columns
}

/// Where the next look begins.
fn low(mark: Option<i128>, watermark: &Watermark, dialect: Dialect) -> Option<i128> {
    let step = if watermark.kind == MarkKind::Timestamp { 1_000_000_000 } else { 1 };
    mark.map(|mark| dialect.floor(watermark.kind, mark.saturating_sub(i128::from(watermark.overlap_s) * step)))
}

/// The rows from the watermark on, in its order.
fn part_from(session: &Session, mark: Option<i128>, watermark: &Watermark) -> Result<Part, SourceError> {
    let (dialect, column) = (session.dialect, session.quotes.name(&watermark.column));
    let low = low(mark, watermark, dialect);
    let mut condition = format!(" WHERE {column} IS NOT NULL");
    if let Some(low) = low {
        condition.push_str(&format!(" AND {column} >= {}", dialect.literal(watermark.kind, low)));
    }
    if watermark.settle_s > 0 {
        let now = session.now()? - i128::from(watermark.settle_s) * 1_000_000_000;
        condition.push_str(&format!(" AND {column} <= {}", dialect.literal(watermark.kind, dialect.floor(watermark.kind, now))));
    }
    condition.push_str(&format!(" ORDER BY {column}"));
    Ok(Part { condition, low, watermark: Some(watermark.clone()), is_all: false })
}

/// Watermarks as whole numbers: nanoseconds since 1970 of timestamps, eight bytes of row versions.
fn marks(column: &ArrayRef, kind: MarkKind) -> Result<Vec<Option<i128>>, String> {
    let wrong = || format!("a column of type {} is no watermark of kind {kind:?}", column.data_type());
    let numbers =
        |array: &ArrayRef| -> Vec<Option<i128>> { array.as_primitive::<Int64Type>().iter().map(|number| number.map(i128::from)).collect() };
    match (kind, column.data_type()) {
        (MarkKind::Number, DataType::Decimal128(_, 0)) => Ok(column.as_primitive::<Decimal128Type>().iter().collect()),
        (MarkKind::Number, kind) if kind.is_integer() => Ok(numbers(&cast(column, &DataType::Int64).map_err(|_| wrong())?)),
        (MarkKind::Timestamp, DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            Ok(column.as_primitive::<TimestampNanosecondType>().iter().map(|nanos| nanos.map(i128::from)).collect())
        }
        (MarkKind::Timestamp, DataType::Timestamp(..) | DataType::Date32) => {
            let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None)).map_err(|_| wrong())?;
            let micros = cast(&micros, &DataType::Int64).map_err(|_| wrong())?;
            Ok(numbers(&micros).into_iter().map(|micros| micros.map(|micros| micros * 1_000)).collect())
        }
        (MarkKind::Rowversion, DataType::Binary) => {
            let version = |bytes: &[u8]| bytes.iter().take(15).fold(0i128, |sum, byte| (sum << 8) | i128::from(*byte));
            Ok(column.as_binary::<i32>().iter().map(|bytes| bytes.map(version)).collect())
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::array::{BinaryArray, Date32Array, Int32Array, StringArray};

    use super::*;

    #[test]
    fn watermarks_of_every_kind_are_numbers_in_their_order() {
        let version: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&[0, 0, 0, 0, 0, 0, 1, 2]]));
        assert_eq!(marks(&version, MarkKind::Rowversion), Ok(vec![Some(258)]));
        let day: ArrayRef = Arc::new(Date32Array::from(vec![Some(1), None]));
        assert_eq!(marks(&day, MarkKind::Timestamp), Ok(vec![Some(86_400_000_000_000), None]));
        let number: ArrayRef = Arc::new(Int32Array::from(vec![-5]));
        assert_eq!(marks(&number, MarkKind::Number), Ok(vec![Some(-5)]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["5"]));
        assert!(marks(&text, MarkKind::Number).is_err());
    }

    #[test]
    fn only_what_is_needed_is_read_where_the_mapping_says_what_that_is() {
        let stream = OdbcStream {
            mode: Mode::Watermark(Watermark {
                column: "m".to_owned(),
                kind: MarkKind::Number,
                overlap_s: 0,
                settle_s: 0,
                full_compare_every_s: None,
            }),
            ..OdbcStream::default()
        };
        assert_eq!(columns_of(&stream, &["k".to_owned()], &["a".to_owned(), "k".to_owned()]), ["k", "m", "a"]);
        assert!(columns_of(&stream, &["k".to_owned()], &[]).is_empty());
    }
}
