//! Follows the stream of changes: from the walsender's bytes to deliveries, and back the confirmation of what is durable.

mod link;
mod pgoutput;
mod position;
mod stream;
mod toast;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use hub_sdk::model::{Checkpoint, StreamName};
use hub_sdk::{BatchLimits, Delivery, Ended, ErrorKind, Outlet, SourceError, now_micros};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

pub(crate) use position::{Acknowledged, WAL_PARTITION, WalPosition};

use crate::client::Server;
use crate::decode::Wire;
use crate::snapshot::{ChunkFate, ChunkRead, SNAPSHOT_PREFIX, Touched};
use crate::table::Table;
use crate::types::Catalogue;
use crate::wire::{Address, Eagerness, Lsn, Message, ReplicationMessage, Session, WireError, parse_replication};
use link::{Link, Listening};
use pgoutput::{Change, Old, Relation, Tuple, parse};
use stream::{Closed, Place, Stream};

/// An idle slot is moved on by a checkpoint of its own at most this often …
const IDLE_ADVANCE: Duration = Duration::from_secs(10);
/// … or when it holds this much WAL that nothing needs, bytes.
const IDLE_BYTES: u64 = 16 << 20;

/// A transaction of which this many changes wait is a large one: it is not held up by reading in larger pieces.
const MANY: usize = 512;
/// How long reading rests in the midst of a large transaction.
const NAP: Duration = Duration::from_millis(1);

/// What following needs.
pub(crate) struct FollowSetup {
    pub(crate) address: Address,
    pub(crate) slot: String,
    pub(crate) publication: String,
    pub(crate) major: u32,
    pub(crate) wire: Wire,
    pub(crate) limits: BatchLimits,
    pub(crate) server: Server,
    pub(crate) catalogue: Catalogue,
    pub(crate) tables: Vec<Table>,
    /// Per table: changes that committed before it are in the snapshot.
    pub(crate) starts: Vec<Lsn>,
    /// Streams whose present rows are read meanwhile: their touched keys are kept.
    pub(crate) unfinished: Vec<StreamName>,
    /// Everything up to here is in Kafka.
    pub(crate) position: WalPosition,
    /// Where the server is asked to begin; before `position` where touched keys must be seen again.
    pub(crate) from: Lsn,
    pub(crate) acknowledged: Arc<Acknowledged>,
    pub(crate) outlet: Outlet,
    pub(crate) chunks: mpsc::Receiver<ChunkRead>,
}

/// Follows until the outlet is shut.
///
/// # Errors
/// Why the stream cannot go on, classified.
pub(crate) async fn follow(setup: FollowSetup) -> Result<(), SourceError> {
    let link = Link::open(&setup).await?;
    // An empty delivery says that changes are followed now.
    let following = Delivery::new(Vec::new(), Checkpoint::empty());
    if setup.outlet.deliver(following).await.is_err() {
        return Ok(());
    }
    Follower::new(setup, link).run().await
}

/// The transaction that is being received.
#[derive(Clone, Copy, Debug)]
struct Open {
    commit: Lsn,
    commit_micros: i64,
    transaction: u64,
    /// Changes of published tables so far.
    changes: u64,
}

/// Changes in the open batches.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Changes to deliver.
    changes: usize,
    /// Changes that Kafka holds, decoded only for their keys.
    known: usize,
    /// Bytes of those to deliver, as received.
    bytes: usize,
    /// Whether a transaction among them is whole.
    has_commit: bool,
}

/// Whether the catalogue was read again for a type that it did not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Types {
    Held,
    Fresh,
}

struct Follower {
    link: Link,
    /// Chunks of running snapshots; `None` once all streams are complete.
    chunks: Option<mpsc::Receiver<ChunkRead>>,
    waiting: Option<ChunkRead>,
    toast: Option<Session>,
    server: Server,
    outlet: Outlet,
    acknowledged: Arc<Acknowledged>,
    state: State,
    last_delivery: Instant,
    last_advance: Instant,
}

/// What the messages of the stream change; apart from the link, whose buffer they borrow.
struct State {
    address: Address,
    wire: Wire,
    limits: BatchLimits,
    catalogue: Catalogue,
    streams: Vec<Stream>,
    touched: Vec<Option<Touched>>,
    /// Per stream: changes that committed before it are in its snapshot, or will be.
    starts: Vec<Lsn>,
    /// By the relation's number, the stream or `None` for a table that is not captured.
    relations: Vec<(u32, Option<usize>)>,
    open: Option<Open>,
    /// What Kafka holds: changes at or before it are not delivered again.
    held: WalPosition,
    /// What has been handed over, or will be with the open batches.
    reached: WalPosition,
    /// Every commit before it has been received.
    seen: Lsn,
    tally: Tally,
    /// Batches that were closed because their table changed its shape.
    closed: Vec<(usize, Closed)>,
    /// Per stream, the commit of its last truncate.
    truncated: Vec<Lsn>,
    /// A relation that could not be resolved with the catalogue as it was loaded.
    unknown_type: Option<Relation>,
    /// Whether the server has asked for a status.
    answer: bool,
}

impl Follower {
    fn new(setup: FollowSetup, link: Link) -> Self {
        let is_unfinished = |table: &Table| setup.unfinished.contains(&table.stream);
        let touched: Vec<_> = setup.tables.iter().map(|table| is_unfinished(table).then(Touched::default)).collect();
        let state = State {
            address: setup.address,
            wire: setup.wire,
            limits: setup.limits,
            catalogue: setup.catalogue,
            starts: setup.starts,
            streams: setup.tables.into_iter().map(|table| Stream::new(table, setup.wire)).collect(),
            relations: Vec::new(),
            open: None,
            held: setup.position,
            reached: setup.position,
            seen: setup.from,
            tally: Tally::default(),
            closed: Vec::new(),
            truncated: vec![Lsn(0); touched.len()],
            touched,
            unknown_type: None,
            answer: false,
        };
        let now = Instant::now();
        Self {
            link,
            chunks: (!setup.unfinished.is_empty()).then_some(setup.chunks),
            waiting: None,
            toast: None,
            server: setup.server,
            outlet: setup.outlet,
            acknowledged: setup.acknowledged,
            state,
            last_delivery: now.checked_sub(setup.limits.age).unwrap_or(now),
            last_advance: now,
        }
    }

    async fn run(mut self) -> Result<(), SourceError> {
        match self.turns().await {
            Err(Ended::Failed(error)) => Err(error),
            Err(Ended::Shut) | Ok(()) => {
                self.link.close().await;
                Ok(())
            }
        }
    }

    async fn turns(&mut self) -> Result<(), Ended> {
        loop {
            self.take_buffered().await?;
            let eagerness = if self.rest().is_none() { Eagerness::LookTwice } else { Eagerness::LookOnce };
            if self.link.fill_now(eagerness).await? {
                continue;
            }
            // The socket has run dry: what is complete goes out at once.
            self.deliver_chunk_if_due().await?;
            let due = self.delivery_due();
            if due.is_some_and(|due| due <= Instant::now()) {
                self.flush().await?;
            }
            self.advance_idle().await?;
            self.wait().await?;
        }
    }

    /// Takes every message that is already here.
    async fn take_buffered(&mut self) -> Result<(), Ended> {
        loop {
            let Some(message) = self.link.next()? else { return Ok(()) };
            match message {
                Message::CopyData(payload) => self.state.take(payload)?,
                Message::Error(error) => return Err(self.link.lost(WireError::Server(error)).into()),
                Message::CopyDone | Message::Ready => return Err(self.link.lost(WireError::Closed).into()),
                _ => {}
            }
            if let Some(relation) = self.state.unknown_type.take() {
                self.reload_types(relation).await?;
            }
            if self.state.is_full() {
                self.flush().await?;
            }
            if self.waiting.is_some() && self.state.open.is_none() {
                self.deliver_chunk_if_due().await?;
            }
        }
    }

    /// When the open batches must go out; `None` while there is nothing whole to send.
    fn delivery_due(&self) -> Option<Instant> {
        let whole = self.state.tally.has_commit || self.state.open.is_none();
        // One delivery has its price; a busy source's commits share one, a quiet source's single change waits for nothing.
        (self.state.tally.changes > 0 && whole).then(|| self.last_delivery + self.state.limits.age / 2)
    }

    /// Until when reading may rest. The server sends row by row, and every read has its price: where nothing can be delivered
    /// before a moment anyway, what comes until then is read at once.
    fn rest(&self) -> Option<Instant> {
        let in_the_midst = self.state.open.is_some() && self.state.tally.changes >= MANY;
        self.delivery_due().or_else(|| in_the_midst.then(|| Instant::now() + NAP))
    }

    /// Waits for bytes, acknowledgements, chunks or the clock.
    async fn wait(&mut self) -> Result<(), Ended> {
        let rest = self.rest();
        if rest.is_some() {
            self.link.rest()?;
        }
        let next_status = self.link.next_status();
        let chunk = async {
            match (&mut self.chunks, &self.waiting) {
                (Some(chunks), None) => chunks.recv().await,
                _ => std::future::pending().await,
            }
        };
        let mut chunk_came = None;
        tokio::select! {
            read = self.link.fill(), if rest.is_none() => read?,
            () = self.acknowledged.changed.notified() => {}
            () = sleep_until(rest.unwrap_or(next_status)), if rest.is_some() => {}
            () = sleep_until(next_status) => {}
            () = self.outlet.shut() => return Err(Ended::Shut),
            chunk = chunk => chunk_came = Some(chunk),
        }
        match chunk_came {
            Some(Some(chunk)) => self.waiting = Some(chunk),
            // The reader is through: every stream is complete.
            Some(None) => self.chunks = None,
            None => {}
        }
        self.tell(Listening::Yes).await?;
        Ok(())
    }

    /// Closes all open batches and hands them over with the position that is behind them.
    async fn flush(&mut self) -> Result<(), Ended> {
        let mut closed = std::mem::take(&mut self.state.closed);
        for index in 0..self.state.streams.len() {
            if let Some(batch) = self.state.close(index)? {
                closed.push((index, batch));
            }
        }
        let mut batches = Vec::with_capacity(closed.len());
        for (index, batch) in closed {
            let Closed { mut batch, missing, shape, .. } = batch.without_known();
            if batch.is_empty() {
                continue;
            }
            if let (false, Some(stream)) = (missing.is_empty(), self.state.streams.get(index)) {
                let again = toast::Again { address: &self.state.address, table: &stream.table, wire: self.state.wire, shape: &shape };
                again.fill(&mut self.toast, &mut batch, &missing).await?;
            }
            batches.push(batch);
        }
        self.state.tally = Tally::default();
        if batches.is_empty() {
            return Ok(());
        }
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set(WAL_PARTITION, self.state.reached.to_json());
        self.deliver(Delivery::new(batches, checkpoint)).await?;
        self.state.held = self.state.reached;
        Ok(())
    }

    /// Hands a delivery over; while it waits for room, the server goes on hearing from us.
    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Ended> {
        let outlet = self.outlet.clone();
        let mut handing = pin!(outlet.deliver(delivery));
        loop {
            let next_status = self.link.next_status();
            tokio::select! {
                biased;
                handed = &mut handing => {
                    handed?;
                    break;
                }
                () = self.acknowledged.changed.notified() => {}
                () = sleep_until(next_status) => {}
            }
            self.tell(Listening::No).await?;
        }
        self.last_delivery = Instant::now();
        Ok(())
    }

    async fn tell(&mut self, listening: Listening) -> Result<(), SourceError> {
        let asked = std::mem::take(&mut self.state.answer);
        self.link.tell(self.state.seen, self.acknowledged.confirmable(), asked, listening).await
    }

    /// Delivers the slice that waits, once the stream of changes has passed its watermark.
    async fn deliver_chunk_if_due(&mut self) -> Result<(), Ended> {
        let passed = self.state.open.is_none() && self.waiting.as_ref().is_some_and(|chunk| self.state.seen >= chunk.high);
        if !passed {
            return Ok(());
        }
        // Changes before the watermark go first, and their keys are touched.
        self.flush().await?;
        let Some(chunk) = self.waiting.take() else { return Ok(()) };
        let Some(index) = self.state.streams.iter().position(|stream| *stream.name() == chunk.stream) else {
            return Ok(());
        };
        if self.state.truncated.get(index).is_some_and(|truncated| *truncated >= chunk.low) {
            // Ignored: a reader that has gone needs no answer.
            let _gone = chunk.fate.send(ChunkFate::Stale);
            return Ok(());
        }
        let key = self.state.streams.get(index).map(|stream| stream.table.key.clone()).unwrap_or_default();
        let touched = self.state.touched.get(index).and_then(Option::as_ref);
        let micros = now_micros();
        let batches = ChunkRead::into_batches(chunk.rows, &chunk.stream, chunk.high, micros, |(rows, faults)| {
            touched.map_or(Ok((rows.clone(), faults.clone())), |touched| touched.untouched(&rows, faults, &key))
        })
        .map_err(|error| SourceError::new(ErrorKind::Defect, "leaving out touched rows").because(error))?;
        let rows = batches.iter().map(|batch| batch.len() as u64).sum();
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set(format!("{SNAPSHOT_PREFIX}{}", chunk.stream), chunk.state.to_json());
        let completed = chunk.state.complete.then(|| chunk.stream.clone()).into_iter().collect();
        self.deliver(Delivery::new(batches, checkpoint).completing(completed)).await?;
        if chunk.state.complete
            && let Some(touched) = self.state.touched.get_mut(index)
        {
            *touched = None;
        }
        let _gone = chunk.fate.send(ChunkFate::Delivered(rows));
        Ok(())
    }

    /// Moves the position of a source whose changes concern nobody, so that its WAL can be forgotten.
    async fn advance_idle(&mut self) -> Result<(), Ended> {
        let State { open, reached, seen, tally, .. } = &self.state;
        let behind = seen.0.saturating_sub(reached.resume_lsn.0);
        let due = behind >= IDLE_BYTES || (behind > 0 && self.last_advance.elapsed() >= IDLE_ADVANCE);
        if !due || open.is_some() || tally.changes > 0 || self.acknowledged.resume() < reached.resume_lsn {
            return Ok(());
        }
        self.state.reached.resume_lsn = *seen;
        self.state.held = self.state.reached;
        self.last_advance = Instant::now();
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set(WAL_PARTITION, self.state.reached.to_json());
        self.deliver(Delivery::new(Vec::new(), checkpoint)).await
    }

    /// A type was made since the catalogue was read.
    async fn reload_types(&mut self, relation: Relation) -> Result<(), Ended> {
        let client = self.server.connection().await?;
        self.state.catalogue = Catalogue::load(&client).await?;
        self.state.relate(relation, Types::Fresh)?;
        Ok(())
    }
}

impl State {
    /// Takes one message of the walsender.
    #[inline]
    fn take(&mut self, payload: &[u8]) -> Result<(), SourceError> {
        let broken = |error: WireError| error.into_source("reading the stream of changes");
        match parse_replication(payload).map_err(broken)? {
            ReplicationMessage::Keepalive { end, reply } => {
                self.answer |= reply;
                if self.open.is_none() {
                    self.seen = self.seen.max(end);
                }
                Ok(())
            }
            ReplicationMessage::Data { at, body } => {
                let change =
                    parse(body).map_err(|error| SourceError::new(ErrorKind::Defect, "reading the stream of changes").because(error))?;
                self.apply(at, change)
            }
        }
    }

    #[inline]
    fn apply(&mut self, at: Lsn, change: Change<'_>) -> Result<(), SourceError> {
        match change {
            Change::Insert { relation, new } => self.insert(at, relation, &new),
            Change::Update { relation, old, new } => self.update(at, relation, &old, &new),
            Change::Delete { relation, old } => self.delete(at, relation, &old),
            Change::Begin { commit, commit_micros, transaction } => {
                self.open = Some(Open { commit, commit_micros, transaction: transaction.into(), changes: 0 });
            }
            Change::Commit { end } => self.commit(end),
            Change::Truncate { relations } => relations.iter().for_each(|relation| self.truncate(at, *relation)),
            Change::Relation(relation) => return self.relate(relation, Types::Held),
            // A watermark; `seen` passes it with the commit of its transaction.
            Change::Message { .. } | Change::Ignored => {}
        }
        Ok(())
    }

    fn commit(&mut self, end: Lsn) {
        self.seen = self.seen.max(end);
        if self.open.take().is_some() && self.tally.changes > 0 {
            self.tally.has_commit = true;
            self.reached.resume_lsn = self.reached.resume_lsn.max(end);
        }
    }

    #[inline]
    fn insert(&mut self, at: Lsn, relation: u32, new: &Tuple<'_>) {
        let Some((index, place)) = self.place(at, relation) else { return };
        if let Some(stream) = self.streams.get_mut(index) {
            stream.insert(new, place);
        }
        self.count(index, new.bytes(), place);
    }

    fn update(&mut self, at: Lsn, relation: u32, old: &Old<'_>, new: &Tuple<'_>) {
        let Some((index, place)) = self.place(at, relation) else { return };
        if let Some(stream) = self.streams.get_mut(index) {
            stream.update(old, new, place);
        }
        self.count(index, old_bytes(old) + new.bytes(), place);
    }

    fn delete(&mut self, at: Lsn, relation: u32, old: &Old<'_>) {
        let Some((index, place)) = self.place(at, relation) else { return };
        if let Some(stream) = self.streams.get_mut(index) {
            stream.delete(old, place);
        }
        self.count(index, old_bytes(old), place);
    }

    fn truncate(&mut self, at: Lsn, relation: u32) {
        let Some((index, place)) = self.place(at, relation) else { return };
        if let Some(stream) = self.streams.get_mut(index) {
            stream.truncate(place);
        }
        if let Some(truncated) = self.truncated.get_mut(index) {
            *truncated = Lsn(place.commit);
        }
        self.count(index, 0, place);
    }

    /// Counts a change, and says where it belongs; `None` where it is not wanted or known already and of no use.
    #[inline]
    fn place(&mut self, at: Lsn, relation: u32) -> Option<(usize, Place)> {
        let open = self.open.as_mut()?;
        let ordinal = open.changes;
        open.changes += 1;
        let index = self.relations.iter().find(|(oid, _)| *oid == relation)?.1?;
        // Such a change must not count as touched either: later ones of its key may have gone by while it was not published.
        if self.starts.get(index).is_some_and(|start| open.commit < *start) {
            return None;
        }
        let place = Place { commit_micros: open.commit_micros, commit: open.commit.0, at: at.0, ordinal, transaction: open.transaction };
        let known = self.held.includes(open.commit, ordinal);
        let wanted = !known || self.touched.get(index).is_some_and(Option::is_some);
        wanted.then_some((index, place))
    }

    #[inline]
    fn count(&mut self, index: usize, bytes: usize, place: Place) {
        let commit = Lsn(place.commit);
        if self.held.includes(commit, place.ordinal) {
            if let Some(stream) = self.streams.get_mut(index) {
                stream.mark_known();
            }
            self.tally.known += 1;
            return;
        }
        self.tally.changes += 1;
        self.tally.bytes += bytes;
        self.reached.commit_lsn = commit;
        self.reached.ordinal = place.ordinal;
    }

    fn is_full(&self) -> bool {
        self.tally.changes + self.tally.known >= self.limits.rows || self.tally.bytes >= self.limits.bytes
    }

    /// Closes a stream's open batch, where it holds something, and keeps its keys if they are wanted.
    fn close(&mut self, index: usize) -> Result<Option<Closed>, SourceError> {
        let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.is_empty()) else { return Ok(None) };
        let failed = |error: ArrowError| SourceError::new(ErrorKind::Defect, "closing a batch of changes").because(error);
        let closed = stream.close().map_err(failed)?;
        if let Some(Some(touched)) = self.touched.get_mut(index) {
            touched.add(&closed.batch.rows, &closed.shape.key).map_err(failed)?;
        }
        Ok(Some(closed))
    }

    /// Takes up a table as the stream describes it.
    fn relate(&mut self, relation: Relation, types: Types) -> Result<(), SourceError> {
        let by_number = self.streams.iter().position(|stream| stream.table.oid == relation.oid);
        let by_name =
            || self.streams.iter().position(|stream| stream.table.schema == relation.schema && stream.table.name == relation.table);
        let found = by_number.or_else(by_name);
        self.relations.retain(|(oid, _)| *oid != relation.oid);
        self.relations.push((relation.oid, found));
        let Some(index) = found else { return Ok(()) };
        if types == Types::Held && relation.columns.iter().any(|column| !self.catalogue.knows(column.oid)) {
            self.unknown_type = Some(relation);
            return Ok(());
        }
        let differs = self.streams.get(index).is_some_and(|stream| stream.differs(&relation, &self.catalogue));
        if differs && let Some(closed) = self.close(index)? {
            self.closed.push((index, closed));
        }
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        if stream.adopt(&relation, &self.catalogue) {
            warn!(stream = %stream.name(), columns = stream.shape.columns.len(), "the table changed its shape");
        }
        Ok(())
    }
}

fn old_bytes(old: &Old<'_>) -> usize {
    match old {
        Old::Same => 0,
        Old::Key(tuple) | Old::Full(tuple) => tuple.bytes(),
    }
}
