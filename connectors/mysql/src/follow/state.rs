//! What the events of the log change: the transaction, the position, and the open batches.

mod ddl;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hub_sdk::model::ChangeBatch;
use hub_sdk::{BatchLimits, ErrorKind, SourceError};

use super::position::{LogPosition, Open};
use super::stream::{Place, Stream, Told};
use crate::binlog::{
    Change, Event, Gtids, Header, MariaGtid, MysqlGtid, Payload, Rotate, RowsHead, TableMap, Walk, checksum_bytes, kind, unpack_query,
    unpack_rows,
};
use crate::decode::{Form, Grid};
use crate::server::LogPlace;
use crate::snapshot::{Land, Stance, key_of};
use crate::wire::WireError;

/// What became of an event.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is taken.
    Done,
    /// It is taken in part: the open batches are full. It is to be given again after they were closed.
    Full,
    /// It is to be given again once a chunk of the stream's snapshot is handed over.
    Wait(usize),
    /// It is to be given again once the stream's layout is that of the log.
    Layout(usize, Box<TableMap>),
    /// It is taken. The stream was emptied while it was being read: it is to be read anew.
    Reread(usize),
}

/// Why an event cannot be taken.
#[derive(Debug)]
pub(super) enum Trouble {
    Wire(WireError),
    Source(SourceError),
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// The transaction that is being received.
#[derive(Debug)]
struct Transaction {
    place: u64,
    micros: i64,
    number: u64,
    id: Option<Id>,
    /// One statement makes it up.
    is_alone: bool,
    /// It began with BEGIN (MySQL), or with its GTID (MariaDB).
    has_begun: bool,
    /// It is prepared, and decided upon later.
    is_prepared: bool,
    /// Rows of captured streams so far.
    ordinal: u64,
    /// The same by stream.
    told: Vec<u64>,
    /// Rows by stream that were told before this run.
    behind: Vec<u64>,
}

/// The GTID of a transaction.
#[derive(Clone, Copy, Debug)]
enum Id {
    Maria(u32, u32, u64),
    Mysql([u8; 16], u64),
}

impl Id {
    fn text(self) -> String {
        match self {
            Self::Maria(domain, server, sequence) => format!("{domain}-{server}-{sequence}"),
            Self::Mysql(source, number) => format!("{}:{number}", crate::binlog::uuid_text(&source)),
        }
    }
}

/// A table of the log by its number there.
struct Mapped {
    map: TableMap,
    /// The stream, and the forms of its cells.
    stream: Option<(usize, Vec<Form>)>,
}

/// Changes in the open batches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) changes: usize,
    pub(super) bytes: usize,
    /// Whether a transaction among them is whole.
    pub(super) has_commit: bool,
}

pub(super) struct State {
    pub(super) streams: Vec<Stream>,
    by_name: HashMap<(String, String), usize>,
    land: Arc<Land>,
    limits: BatchLimits,
    tables: HashMap<u64, Mapped>,
    walk: Walk,
    file: String,
    /// Place of that file's beginning.
    file_place: u64,
    pub(super) position: LogPosition,
    pub(super) gtids: Option<Gtids>,
    /// Bytes of the checksum behind each event.
    tail: usize,
    transaction: Option<Transaction>,
    /// The transaction that the checkpoint has a part of, until it comes.
    half_told: Option<Open>,
    /// Rows of the present event that are taken.
    taken_rows: usize,
    /// Events of the present packed transaction that are taken.
    taken_events: usize,
    pub(super) tally: Tally,
    /// Batches that were closed because their table changed.
    pub(super) closed: Vec<ChangeBatch>,
}

impl State {
    pub(super) fn new(
        streams: Vec<Stream>,
        land: Arc<Land>,
        limits: BatchLimits,
        position: LogPosition,
        gtids: Option<Gtids>,
        tail: usize,
    ) -> Self {
        let by_name = streams.iter().enumerate().map(|(index, stream)| ((stream.database.clone(), stream.table.clone()), index)).collect();
        Self {
            streams,
            by_name,
            land,
            limits,
            tables: HashMap::new(),
            walk: Walk::default(),
            file: position.file.clone(),
            file_place: place_of(&position.file, position.base),
            half_told: position.open.clone(),
            position,
            gtids,
            tail,
            transaction: None,
            taken_rows: 0,
            taken_events: 0,
            tally: Tally::default(),
            closed: Vec::new(),
        }
    }

    /// Whether the open batches must be closed.
    pub(super) fn is_full(&self) -> bool {
        self.tally.changes >= self.limits.rows.max(1) || self.tally.bytes >= self.limits.bytes
    }

    /// What is done with the present transaction's changes of a stream.
    pub(super) fn stance(&self, index: usize) -> Stance {
        self.transaction.as_ref().map_or(Stance::Tell, |open| self.land.stance(index, open.place))
    }

    /// Whether a transaction is being received.
    pub(super) fn is_within(&self) -> bool {
        self.transaction.is_some()
    }

    /// The position behind everything that was taken.
    pub(super) fn reached(&self) -> LogPosition {
        let open = match &self.transaction {
            Some(open) if open.ordinal > 0 => Some(Open {
                place: open.place,
                gtid: open.id.map(Id::text).unwrap_or_default(),
                told: self
                    .streams
                    .iter()
                    .zip(&open.told)
                    .map(|(stream, told)| (stream.name.to_string(), *told))
                    .collect::<BTreeMap<_, _>>(),
            }),
            _ => self.half_told.clone(),
        };
        let gtid = self.gtids.as_ref().map(ToString::to_string).unwrap_or_default();
        LogPosition { open, gtid, ..self.position.clone() }
    }

    /// Takes one event as it comes over the link.
    pub(super) fn take_raw(&mut self, bytes: &[u8]) -> Result<Taken, Trouble> {
        let event = Event::parse(bytes, self.tail)?;
        if event.header.kind == kind::FORMAT {
            // The head of each file says whether its events have checksums; it has one itself in any case.
            self.tail = checksum_bytes(bytes).unwrap_or(self.tail);
        }
        self.take(event)
    }

    /// Takes one event.
    pub(super) fn take(&mut self, event: Event<'_>) -> Result<Taken, Trouble> {
        let header = event.header;
        if event.is_rows() {
            return self.rows(header, event.body);
        }
        match header.kind {
            kind::TABLE_MAP => return self.table(event.body),
            kind::MARIA_GTID => {
                let gtid = MariaGtid::parse(event.body)?;
                self.begin(header, Some(Id::Maria(gtid.domain, header.server, gtid.sequence)), None, gtid.sequence);
                if let Some(open) = &mut self.transaction {
                    (open.is_alone, open.has_begun, open.is_prepared) = (gtid.is_alone(), true, gtid.is_prepared());
                }
            }
            kind::GTID | kind::ANONYMOUS_GTID => {
                let gtid = MysqlGtid::parse(event.body)?;
                let id = (header.kind == kind::GTID).then_some(Id::Mysql(gtid.source, gtid.number));
                self.begin(header, id, gtid.committed, gtid.number);
            }
            kind::XID | kind::XA_PREPARE => self.end(header),
            kind::QUERY => return self.query(header, event.body),
            kind::QUERY_PACKED => return self.query(header, &unpack_query(event.body)?),
            kind::PAYLOAD => return self.payload(header, event.body),
            kind::ROTATE => {
                self.file = Rotate::parse(event.body)?.file;
                self.file_place = place_of(&self.file, self.position.base);
            }
            // Numbers of tables begin anew with each file's head.
            kind::FORMAT => self.tables.clear(),
            kind::PARTIAL_UPDATE => {
                return Err(partial("binlog_row_value_options is PARTIAL_JSON", "SET GLOBAL binlog_row_value_options = ''").into());
            }
            kind::GTID_TAGGED => {
                return Err(SourceError::new(ErrorKind::NotPrepared, "reading the log")
                    .because("its GTIDs have tags, which the hub does not read")
                    .advise("SET gtid_next without a tag")
                    .into());
            }
            kind::INCIDENT => {
                return Err(SourceError::new(ErrorKind::PositionLost, "reading the log")
                    .because("the server says that changes are missing in it (an incident)")
                    .advise("read the system anew: hub run --resnapshot")
                    .into());
            }
            _ => {}
        }
        Ok(Taken::Done)
    }

    fn begin(&mut self, header: Header, id: Option<Id>, committed: Option<u64>, number: u64) {
        let place = self.place(header);
        let mut behind = vec![0; self.streams.len()];
        let is_half_told = |open: &Open| match id {
            Some(id) if !open.gtid.is_empty() => open.gtid == id.text(),
            _ => open.place == place,
        };
        if let Some(open) = self.half_told.take_if(|open| is_half_told(open)) {
            for (stream, behind) in self.streams.iter().zip(&mut behind) {
                *behind = open.told.get(stream.name.as_str()).copied().unwrap_or(0);
            }
        }
        let micros = committed.and_then(|micros| i64::try_from(micros).ok()).unwrap_or(i64::from(header.seconds) * 1_000_000);
        self.transaction = Some(Transaction {
            place,
            micros,
            number,
            id,
            is_alone: false,
            has_begun: false,
            is_prepared: false,
            ordinal: 0,
            told: vec![0; behind.len()],
            behind,
        });
    }

    fn end(&mut self, header: Header) {
        let Some(ended) = self.transaction.take() else { return };
        match (&mut self.gtids, ended.id) {
            (Some(Gtids::Maria(position)), Some(Id::Maria(domain, server, sequence))) => position.add(domain, server, sequence),
            (Some(Gtids::Mysql(set)), Some(Id::Mysql(source, number))) => set.add(source, number),
            _ => {}
        }
        self.position.file.clone_from(&self.file);
        self.position.offset = u64::from(header.end);
        self.tally.has_commit = true;
    }

    /// The place of an event's end.
    fn place(&self, header: Header) -> u64 {
        self.file_place + u64::from(header.end)
    }

    fn table(&mut self, body: &[u8]) -> Result<Taken, Trouble> {
        let (id, database, table) = TableMap::peek(body)?;
        if let Some(known) = self.tables.get(&id)
            && known.map.database.as_bytes() == database
            && known.map.table.as_bytes() == table
        {
            if let Some((index, forms)) = &known.stream
                && let Some(stream) = self.streams.get_mut(*index)
            {
                stream.take_forms(forms);
            }
            return Ok(Taken::Done);
        }
        let name = (String::from_utf8_lossy(database).into_owned(), String::from_utf8_lossy(table).into_owned());
        let Some(index) = self.by_name.get(&name).copied() else {
            let map = TableMap { id, database: name.0, table: name.1, columns: Vec::new(), names: Vec::new() };
            self.tables.insert(id, Mapped { map, stream: None });
            return Ok(Taken::Done);
        };
        let map = TableMap::parse(body)?;
        let Some(stream) = self.streams.get_mut(index) else { return Ok(Taken::Done) };
        match stream.forms(&map).filter(|_| !stream.is_stale) {
            Some(forms) => {
                stream.take_forms(&forms);
                self.tables.insert(id, Mapped { map, stream: Some((index, forms)) });
                Ok(Taken::Done)
            }
            None => Ok(Taken::Layout(index, Box::new(map))),
        }
    }

    fn rows(&mut self, header: Header, body: &[u8]) -> Result<Taken, Trouble> {
        let head = RowsHead::parse(header, body)?;
        if self.transaction.is_none() {
            self.begin(header, None, None, 0);
        }
        let at = self.place(header);
        // A number without a table ends a statement and has no rows.
        let Some(mapped) = self.tables.get(&head.table) else { return Ok(Taken::Done) };
        let Some((index, _)) = &mapped.stream else { return Ok(Taken::Done) };
        let index = *index;
        let (Some(open), Some(stream)) = (&mut self.transaction, self.streams.get_mut(index)) else { return Ok(Taken::Done) };
        if open.is_prepared {
            return Err(prepared(stream).into());
        }
        if !is_whole(head.present, head.columns) || !is_whole(head.present_after, head.columns) || head.columns != mapped.map.columns.len()
        {
            return Err(partial("binlog_row_image is not FULL", "SET GLOBAL binlog_row_image = FULL").of(stream.name.clone()).into());
        }
        let stance = self.land.stance(index, open.place);
        if stance == Stance::Wait {
            return Ok(Taken::Wait(index));
        }
        let unpacked;
        let ground = if head.is_packed {
            unpacked = unpack_rows(head.rows)?;
            unpacked.as_slice()
        } else {
            head.rows
        };
        let images = self.walk.all(&head, &mapped.map.columns, ground)?;
        let rows = if head.change == Change::Update { images / 2 } else { images };
        let width = head.columns;
        let verdicts = (stance == Stance::Judge).then(|| {
            let keys: Vec<_> = self.walk.cells.chunks(width).map(|cells| key_of(&stream.layout, ground, cells)).collect();
            self.land.judge(index, open.place, &keys)
        });
        let from = self.taken_rows;
        let behind = usize::try_from(open.behind[index].saturating_sub(open.told[index])).unwrap_or(usize::MAX).min(rows - from);
        let room = self.limits.rows.max(1).saturating_sub(self.tally.changes).max(1);
        let to = rows.min(from + behind + room);
        let told = Told {
            change: head.change,
            grid: Grid { ground, cells: &self.walk.cells, width },
            skip: from + behind,
            rows: to,
            verdicts: verdicts.as_deref(),
            ordinal: open.ordinal - from as u64,
        };
        stream.take(&told, Place { micros: open.micros, commit: open.place, at, transaction: open.number });
        let count = (to - from) as u64;
        open.ordinal += count;
        open.told[index] += count;
        self.tally.changes += to - from - behind;
        self.tally.bytes += ground.len() * (to - from) / rows.max(1);
        self.taken_rows = if to < rows { to } else { 0 };
        Ok(if to < rows { Taken::Full } else { Taken::Done })
    }

    /// The events of a transaction that was compressed as a whole; they are few enough to be taken at once.
    fn payload(&mut self, header: Header, body: &[u8]) -> Result<Taken, Trouble> {
        let payload = Payload::parse(body)?;
        let done = std::mem::take(&mut self.taken_events);
        for (number, event) in payload.events().enumerate().skip(done) {
            let mut event = Event::parse(event, 0)?;
            event.header.end = header.end;
            match self.take(event)? {
                Taken::Done => {}
                other => {
                    self.taken_events = number + usize::from(matches!(other, Taken::Reread(_)));
                    return Ok(other);
                }
            }
        }
        Ok(Taken::Done)
    }

    /// Closes all open batches.
    pub(super) fn close(&mut self) -> Result<Vec<ChangeBatch>, SourceError> {
        let mut batches = std::mem::take(&mut self.closed);
        for stream in &mut self.streams {
            if !stream.is_empty() {
                batches.push(stream.close().map_err(defect)?);
            }
        }
        self.tally = Tally::default();
        Ok(batches)
    }

    /// Closes the open batch of a stream whose layout is about to change.
    pub(super) fn close_one(&mut self, index: usize) -> Result<(), SourceError> {
        if let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.is_empty()) {
            self.closed.push(stream.close().map_err(defect)?);
        }
        Ok(())
    }
}

/// The place of a file's beginning.
fn place_of(file: &str, base: u64) -> u64 {
    base + LogPlace { file: file.to_owned(), offset: 0 }.number()
}

fn defect(error: arrow::error::ArrowError) -> SourceError {
    SourceError::new(ErrorKind::Defect, "closing a batch").because(error)
}

fn is_whole(present: &[u8], columns: usize) -> bool {
    (0..columns).all(|column| present.get(column / 8).is_some_and(|byte| byte >> (column % 8) & 1 == 1))
}

fn partial(why: &str, remedy: &str) -> SourceError {
    SourceError::new(ErrorKind::NotPrepared, "reading rows of the log")
        .because(format!("they are not whole: {why}"))
        .advise(format!("{remedy} (sessions keep their own until they end), then read the system anew: hub run --resnapshot"))
}

fn prepared(stream: &Stream) -> SourceError {
    SourceError::new(ErrorKind::StreamBroken, "reading the table's changes")
        .because("they are of an XA transaction, whose outcome is not known yet")
        .advise("do not change this table by XA transactions, or do not capture it")
        .of(stream.name.clone())
}
