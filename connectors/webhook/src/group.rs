//! Group commit: what waits becomes one delivery, and its requests are answered when that is durable.

use std::sync::{Arc, PoisonError, RwLock};

use arrow::error::ArrowError;
use hub_sdk::model::{ChangeBatch, Checkpoint, Evidence, Op, Origin, RowFault, SnapshotMark, StreamName};
use hub_sdk::records::TextRows;
use hub_sdk::{BatchLimits, Delivery, ErrorKind, Outlet, SourceError, now_micros};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::answer;
use crate::figures::Figures;
use crate::keys::{Digest, Keys, Seen};
use crate::rows::{Columns, Fault, Name, Row, Rows};
use crate::waiting::{Told, Waiter, Waiting};

/// The checkpoint's partition with the number of the last delivery.
pub(crate) const SEQUENCE: &str = "push";
/// Columns that a stream may have; a row that brings more is a reject.
const MOST_COLUMNS: usize = 1_000;

/// A request that was let in and read.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its stream's place among those of the run.
    pub(crate) stream: usize,
    pub(crate) rows: Rows,
    /// The key of the whole request, where it has one.
    pub(crate) key: Option<Digest>,
    /// What is told to the audit topic, its answer still open; boxed, for most systems tell none.
    pub(crate) evidence: Option<Box<Evidence>>,
    pub(crate) answer: oneshot::Sender<Told>,
    /// Its room among the bodies that wait.
    pub(crate) room: OwnedSemaphorePermit,
}

/// The columns of a stream, as those see them who read bodies.
pub(crate) type SharedColumns = Arc<RwLock<Arc<Columns>>>;

/// One stream of a run.
pub(crate) struct Stream {
    name: StreamName,
    text: TextRows,
    columns: SharedColumns,
    /// What those see who read bodies now.
    known: Arc<Columns>,
    /// Columns that came since.
    new: Vec<String>,
    /// Whether the next delivery must tell the columns.
    is_untold: bool,
    full_images: bool,
    keys: Option<Keys>,
    ops: Vec<Op>,
    ordinals: Vec<u64>,
    faults: Vec<RowFault>,
}

impl Stream {
    /// Of a run; `is_untold` where the checkpoint does not know the columns.
    pub(crate) fn new(name: StreamName, columns: SharedColumns, is_untold: bool, full_images: bool, keys: Option<Keys>) -> Self {
        let known = Arc::clone(&columns.read().unwrap_or_else(PoisonError::into_inner));
        let text = TextRows::new(known.names());
        let (new, ops, ordinals, faults) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { name, text, columns, known, new, is_untold, full_images, keys, ops, ordinals, faults }
    }

    fn has(&self, name: &str) -> bool {
        self.known.has(name) || self.new.iter().any(|new| new == name)
    }

    /// Adds a row to the group.
    fn push<'a>(&mut self, row: &Row, cells: impl Iterator<Item = (Name<'a>, Option<&'a str>)> + Clone, ordinal: u64) -> bool {
        let mut fault = row.fault.clone();
        let new = cells.clone().filter(|(name, _)| matches!(name, Name::New(name) if !self.has(name))).count();
        let is_full = new > 0 && self.known.names().len() + self.new.len() + new > MOST_COLUMNS;
        if is_full {
            let message = format!("the row brings {new} columns more than the {MOST_COLUMNS} that a stream may have");
            fault.get_or_insert(Fault { code: "too-many-columns", message });
        }
        for (name, value) in cells {
            let place = match name {
                Name::Known(place) => place as usize,
                Name::New(name) => {
                    if !self.has(name) {
                        if is_full {
                            continue;
                        }
                        self.new.push(name.to_owned());
                    }
                    self.text.column(name)
                }
            };
            self.text.cell(place, value);
        }
        self.text.end_row();
        let is_good = fault.is_none();
        if let Some(Fault { code, message }) = fault {
            let row = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
            self.faults.push(RowFault { row, column: None, code, message });
        }
        self.ops.push(row.op);
        self.ordinals.push(ordinal);
        is_good
    }

    /// The group's rows of this stream.
    fn finish(&mut self, sequence: u64, micros: i64, checkpoint: &mut Checkpoint) -> Result<Option<ChangeBatch>, ArrowError> {
        if self.ops.is_empty() {
            return Ok(None);
        }
        let rows = self.text.finish()?;
        if !self.new.is_empty() {
            let names = self.known.names().iter().cloned().chain(self.new.drain(..));
            self.known = Arc::new(Columns::new(names));
            *self.columns.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&self.known);
            self.is_untold = true;
        }
        if std::mem::take(&mut self.is_untold) {
            checkpoint.set(columns_partition(&self.name), Value::from(self.known.names().to_vec()));
        }
        let mut origin = Origin::with_capacity(self.ops.len());
        for ordinal in self.ordinals.drain(..) {
            origin.push(micros, sequence, sequence, ordinal, 0);
        }
        Ok(Some(ChangeBatch {
            stream: self.name.clone(),
            ops: std::mem::take(&mut self.ops),
            rows,
            old: None,
            full_images: self.full_images,
            origin,
            key_changes: Vec::new(),
            faults: std::mem::take(&mut self.faults),
            snapshot: SnapshotMark::No,
        }))
    }
}

/// The checkpoint's partition with the columns of a stream.
pub(crate) fn columns_partition(stream: &StreamName) -> String {
    format!("columns/{stream}")
}

/// Makes deliveries of requests.
pub(crate) struct Grouper {
    pub(crate) streams: Vec<Stream>,
    /// The last delivery.
    pub(crate) sequence: u64,
    /// What the first delivery of the run does to the checkpoint beside its own.
    pub(crate) cleaning: Checkpoint,
    pub(crate) limits: BatchLimits,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) outlet: Outlet,
}

/// The group that is being made.
struct Group {
    sequence: u64,
    rows: usize,
    bytes: usize,
    waiters: Vec<Waiter>,
    evidence: Vec<Evidence>,
}

/// Whether a group was taken.
#[derive(PartialEq, Eq)]
enum Handed {
    Over,
    Shut,
}

impl Group {
    fn has_room(&self, limits: BatchLimits) -> bool {
        self.rows < limits.rows && self.bytes < limits.bytes
    }
}

impl Grouper {
    /// Makes deliveries until the outlet is shut.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Request>) -> Result<(), SourceError> {
        while let Some(request) = queue.recv().await {
            let closes = Instant::now() + self.limits.age;
            let mut group = self.begin();
            self.take(request, &mut group);
            while group.has_room(self.limits) {
                let next = match queue.try_recv() {
                    Ok(request) => Some(request),
                    // Nothing is under way: what is there would wait for nothing.
                    Err(_) if self.waiting.durable() >= self.sequence => None,
                    Err(_) => tokio::time::timeout_at(closes, queue.recv()).await.ok().flatten(),
                };
                let Some(request) = next else { break };
                self.take(request, &mut group);
            }
            if self.deliver(group).await? == Handed::Shut {
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Group {
        let durable = self.waiting.durable();
        self.streams.iter_mut().filter_map(|stream| stream.keys.as_mut()).for_each(|keys| keys.settle(durable));
        // Microseconds, but always more than before: a place that grows though a checkpoint was lost.
        let sequence = u64::try_from(now_micros()).unwrap_or(0).max(self.sequence + 1);
        Group { sequence, rows: 0, bytes: 0, waiters: Vec::new(), evidence: Vec::new() }
    }

    /// Takes the rows of a request that were not published before.
    fn take(&mut self, request: Request, group: &mut Group) {
        let Request { stream, rows, key, evidence, answer, room } = request;
        if answer.is_closed() {
            // It was told 503 meanwhile, or went away: it is sent again, and would come twice.
            return;
        }
        let Some(stream) = self.streams.get_mut(stream) else { return };
        let mut told = Told::default();
        // The delivery of the rows' first sending, where that is not durable yet.
        let mut under_way = 0;
        let mut is_known = |keys: &mut Option<Keys>, key: Option<Digest>| {
            let (Some(keys), Some(key)) = (keys, key) else { return false };
            match keys.note(key, group.sequence) {
                Seen::New => return false,
                Seen::UnderWay(sequence) => under_way = under_way.max(sequence),
                Seen::Durable => {}
            }
            true
        };
        if is_known(&mut stream.keys, key) {
            told.duplicates = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        } else {
            for (row, cells) in rows.iter() {
                if is_known(&mut stream.keys, row.key) {
                    told.duplicates += 1;
                    continue;
                }
                match stream.push(row, cells, group.rows as u64) {
                    true => told.accepted += 1,
                    false => told.rejected += 1,
                }
                group.rows += 1;
            }
        }
        drop(room);
        let waiter = Waiter { told, answer };
        if told.accepted + told.rejected > 0 {
            group.bytes += rows.bytes();
            group.waiters.push(waiter);
            if let Some(evidence) = evidence {
                group.evidence.push(answer::attest(*evidence, told));
            }
        } else if under_way == group.sequence {
            group.waiters.push(waiter);
        } else {
            self.waiting.wait(under_way, vec![waiter]);
        }
    }

    /// Hands a group over.
    async fn deliver(&mut self, group: Group) -> Result<Handed, SourceError> {
        if group.rows == 0 {
            return Ok(Handed::Over);
        }
        let micros = now_micros();
        let mut checkpoint = std::mem::take(&mut self.cleaning);
        checkpoint.set(SEQUENCE, Value::from(group.sequence));
        let mut batches = Vec::new();
        let minute = minute(micros);
        let (mut remembered, mut forgotten) = (0, 0);
        for stream in &mut self.streams {
            let batch = stream.finish(group.sequence, micros, &mut checkpoint).map_err(|error| {
                SourceError::new(ErrorKind::Defect, "putting rows of requests together").because(error).of(stream.name.clone())
            })?;
            if let Some(keys) = &mut stream.keys {
                keys.save(&mut checkpoint, group.sequence, minute);
                remembered += keys.len() as u64;
                forgotten += keys.forgotten_early;
            }
            batches.extend(batch);
        }
        self.figures.keys(remembered, forgotten);
        self.sequence = group.sequence;
        self.waiting.wait(group.sequence, group.waiters);
        let delivery = Delivery { evidence: group.evidence, ..Delivery::new(batches, checkpoint) };
        Ok(self.outlet.deliver(delivery).await.map_or(Handed::Shut, |()| Handed::Over))
    }
}

/// Minutes since 1970.
pub(crate) fn minute(micros: i64) -> u32 {
    u32::try_from(micros / 60_000_000).unwrap_or(0)
}
