//! One stream over the runs: its records against what subscribers know, and the batches that tell the difference.

use std::collections::{HashMap, HashSet};

use arrow::error::ArrowError;
use hub_sdk::model::{ChangeBatch, Checkpoint, Op, RowFault, StreamName};
use hub_sdk::{Digest, Known, Look, Looks, Noted, join_key, key_rows};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::catalog::Wanted;
use crate::config::Mode;
use crate::plan::Plan;
use crate::rows::{Fault, Rows};
use crate::schema::ColumnShape;
use crate::window::Window;

/// Rows at fault that are remembered while the hub runs, so that each look does not tell them again.
const FAULTS: usize = 100_000;

/// What is known of the rows that were told.
enum Memory {
    /// Every row, by its key.
    Known(Known),
    /// The rows that were told last.
    Window(Window),
    /// Nothing: a followed stream without a key.
    Nothing,
}

/// What only holds during one run.
#[derive(Default)]
struct ThisRun {
    /// Whether the child has named the stream: a tap that was silent about it has not read it.
    is_named: bool,
    /// The last status that an Airbyte source gave it.
    status: Option<String>,
    /// Digest of each row by the hash of its key, to tell a row that comes twice from two rows of one key.
    seen: HashMap<u64, u64>,
    records: u64,
}

/// One stream.
pub(crate) struct Stream {
    /// How it is read.
    pub(crate) plan: Plan,
    looks: Looks,
    look: Option<Look>,
    memory: Memory,
    rows: Rows,
    ops: Vec<Op>,
    faults: Vec<RowFault>,
    told_faults: HashSet<u64>,
    /// Whether a run has read it to the end.
    pub(crate) is_complete: bool,
    run: ThisRun,
}

/// What a checkpoint says of how a stream was read.
pub(crate) struct Before {
    how: Value,
    is_complete: bool,
}

/// Partition that says how a stream is read, and whether a run has read it to the end.
fn partition(stream: &StreamName) -> String {
    format!("read/{stream}")
}

/// In which way a stream is read: in another one nothing that is known of it is of use.
fn how(wanted: &Wanted) -> Value {
    let mode = match wanted.mode {
        Mode::Whole => "whole",
        Mode::Changes => "changes",
        Mode::Log => "log",
    };
    json!({"mode": mode, "key": wanted.key})
}

impl Before {
    /// Of a stream; `None` where it was never read.
    pub(crate) fn of(from: &Checkpoint, stream: &StreamName) -> Option<Self> {
        let position = from.get(&partition(stream))?;
        let is_complete = position["complete"].as_bool().unwrap_or(false);
        Some(Self { how: position["how"].clone(), is_complete })
    }

    /// Whether it was read in the same way.
    pub(crate) fn fits(&self, wanted: &Wanted) -> bool {
        self.how == how(wanted)
    }
}

/// Every partition of a checkpoint that is of one stream alone, but for its state.
pub(crate) fn is_of(partition: &str, stream: &str) -> bool {
    let Some((kind, rest)) = partition.split_once('/') else { return false };
    match kind {
        "known" | "window" => rest.rsplit_once('/').is_some_and(|(name, _number)| name == stream),
        "read" | "look" => rest == stream,
        _ => false,
    }
}

impl Stream {
    /// Goes on after a checkpoint, which holds nothing of a stream that is read for the first time or in another way.
    pub(crate) fn restore(plan: Plan, from: &Checkpoint, remembered: usize) -> Result<Self, String> {
        let name = &plan.name;
        let memory = match plan.wanted.mode {
            Mode::Whole => Memory::Known(Known::restore(from, name)?),
            Mode::Changes | Mode::Log if plan.wanted.key.is_empty() => Memory::Nothing,
            Mode::Changes | Mode::Log => Memory::Window(Window::restore(from, name, remembered)?),
        };
        Ok(Self {
            looks: Looks::restore(from, name),
            is_complete: Before::of(from, name).is_some_and(|before| before.is_complete),
            look: None,
            memory,
            rows: Rows::new(&plan.columns, plan.wanted.columns.is_empty()),
            ops: Vec::new(),
            faults: Vec::new(),
            told_faults: HashSet::new(),
            run: ThisRun::default(),
            plan,
        })
    }

    /// Begins a run.
    pub(crate) fn begin(&mut self) {
        self.look = Some(self.looks.begin());
        self.run = ThisRun::default();
        if let Memory::Known(known) = &mut self.memory {
            known.begin_look();
        }
    }

    /// Takes up a plan that was made anew: new columns come behind the others.
    pub(crate) fn replan(&mut self, plan: Plan) {
        plan.columns.iter().for_each(|column| self.rows.learn(column));
        self.plan = plan;
    }

    /// The child has named the stream, and said which columns it will send.
    pub(crate) fn named(&mut self, columns: &[ColumnShape]) {
        self.run.is_named = true;
        let (asked, left_out) = (&self.plan.wanted.columns, &self.plan.left_out);
        let is_taken = |name: &String| (asked.is_empty() || asked.contains(name)) && !left_out.contains(name);
        columns.iter().filter(|column| is_taken(&column.name)).for_each(|column| self.rows.learn(column));
    }

    /// The child has said how far the stream is.
    pub(crate) fn set_status(&mut self, status: String) {
        self.run.is_named = true;
        self.run.status = Some(status);
    }

    /// Whether the child said that it has read the stream to its end.
    pub(crate) fn is_told_complete(&self) -> bool {
        self.run.status.as_deref() == Some("COMPLETE")
    }

    /// Whether a run that ended well has read the stream to its end.
    pub(crate) fn is_read(&self) -> bool {
        self.run.is_named && self.run.status.as_deref().is_none_or(|status| status == "COMPLETE")
    }

    /// Records of this run.
    pub(crate) fn records(&self) -> u64 {
        self.run.records
    }

    /// Takes a record.
    pub(crate) fn take(&mut self, record: &RawValue) {
        self.run.is_named = true;
        self.run.records += 1;
        if let Err(fault) = self.rows.look(record) {
            self.keep_known();
            return self.tell_fault(fault);
        }
        match self.memory {
            Memory::Known(_) => self.compare(),
            Memory::Window(_) | Memory::Nothing => self.follow(),
        }
    }

    fn is_deleted(&self) -> bool {
        self.plan.deleted_at.iter().filter_map(|name| self.rows.place(name)).any(|place| self.rows.text(place).is_some())
    }

    /// What a row is told as that nobody knows.
    fn new_op(&self) -> Op {
        if self.is_complete { Op::Create } else { Op::Read }
    }

    fn key(&self) -> Result<String, Fault> {
        let mut parts = Vec::with_capacity(self.plan.wanted.key.len());
        for name in &self.plan.wanted.key {
            match self.rows.place(name).and_then(|place| self.rows.key_part(place)) {
                Some(part) => parts.push(part),
                None => {
                    let why = "it has no single value in a column of its key".to_owned();
                    return Err(Fault { column: Some(name.as_str().into()), code: "key-missing", why });
                }
            }
        }
        Ok(join_key(&parts))
    }

    /// A row that cannot be told is not absent.
    fn keep_known(&mut self) {
        let key = self.key();
        if let (Memory::Known(known), Ok(key)) = (&mut self.memory, key) {
            known.keep(&key);
        }
    }

    /// Compares a row with what is known of its key.
    fn compare(&mut self) {
        // What is marked as deleted is as good as absent.
        if self.is_deleted() {
            return;
        }
        let key = match self.key() {
            Ok(key) => key,
            Err(fault) => return self.tell_fault(fault),
        };
        let digest = self.rows.digest();
        if let Some(before) = self.run.seen.insert(hash(&key), digest) {
            self.run.seen.insert(hash(&key), before);
            if before != digest {
                let why = "a row before it has the same key and other values".to_owned();
                self.tell_fault(Fault { column: None, code: "key-twice", why });
            }
            return;
        }
        if self.told_faults.contains(&digest) {
            return self.keep_known();
        }
        let new_op = self.new_op();
        let Memory::Known(known) = &mut self.memory else { return };
        let is_known = known.contains(&key);
        let op = if is_known { Op::Update } else { new_op };
        if self.rows.has_fault() {
            known.keep(&key);
            self.told_faults_add(digest);
            return self.tell(op);
        }
        match known.note(&key, digest) {
            Noted::Same | Noted::Twice => {}
            Noted::New | Noted::Changed => self.tell(op),
        }
    }

    /// Takes a row of a followed stream, unless it was told so just before.
    fn follow(&mut self) {
        let is_deleted = self.is_deleted();
        let mut op = self.new_op();
        if let Memory::Window(_) = self.memory {
            let key = match self.key() {
                Ok(key) => hash(&key),
                Err(fault) => return self.tell_fault(fault),
            };
            let digest = self.rows.digest();
            let Memory::Window(window) = &mut self.memory else { return };
            op = match window.note(key, digest) {
                Noted::Same | Noted::Twice => return,
                Noted::Changed if self.is_complete => Op::Update,
                Noted::New | Noted::Changed => op,
            };
        }
        self.tell(if is_deleted { Op::Delete } else { op });
    }

    fn told_faults_add(&mut self, digest: u64) {
        if self.told_faults.len() >= FAULTS {
            self.told_faults.clear();
        }
        self.told_faults.insert(digest);
    }

    /// Tells a row at fault, once while the hub runs.
    fn tell_fault(&mut self, fault: Fault) {
        let digest = self.rows.digest() ^ hash(fault.code);
        if matches!(self.memory, Memory::Known(_)) {
            if self.told_faults.contains(&digest) {
                return;
            }
            self.told_faults_add(digest);
        }
        let row = self.ops.len();
        self.tell(self.new_op());
        self.faults.retain(|told| told.row as usize != row);
        self.blame(row, fault);
    }

    fn tell(&mut self, op: Op) {
        let row = self.ops.len();
        if let Some(fault) = self.rows.tell() {
            self.blame(row, fault);
        }
        self.ops.push(op);
    }

    fn blame(&mut self, row: usize, fault: Fault) {
        let message = format!("record {} of this run of {}: {}", self.run.records, self.plan.name, fault.why);
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        self.faults.push(RowFault { row, column: fault.column, code: fault.code, message });
    }

    /// Rows that wait, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.rows.len(), self.rows.bytes())
    }

    /// The rows that wait as batches: what a snapshot read apart from changes.
    pub(crate) fn batches(&mut self) -> Result<Vec<ChangeBatch>, ArrowError> {
        let (ops, faults) = (std::mem::take(&mut self.ops), std::mem::take(&mut self.faults));
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.rows.finish()?;
        let Some(look) = &mut self.look else { return Ok(Vec::new()) };
        Ok(look.batches(&self.plan.name, &rows, &ops, &faults, false))
    }

    /// An empty batch with the columns that there are.
    pub(crate) fn empty(&mut self) -> Result<ChangeBatch, ArrowError> {
        let rows = self.rows.finish()?;
        Ok(self.looks.begin().batch(&self.plan.name, Vec::new(), rows.slice(0, 0), false))
    }

    /// Keys that a run which has read all of it has not seen, and is over by that. Nothing of a stream that is followed.
    pub(crate) fn absent(&mut self) -> Vec<Box<str>> {
        // Needed between two rows of one run alone.
        self.run.seen = HashMap::new();
        match &self.memory {
            Memory::Known(known) => known.absent(),
            Memory::Window(_) | Memory::Nothing => Vec::new(),
        }
    }

    /// Deletes of keys, which are forgotten.
    pub(crate) fn deletes(&mut self, keys: &[Box<str>]) -> Result<Option<ChangeBatch>, ArrowError> {
        let identity: Vec<usize> = self.plan.wanted.key.iter().filter_map(|name| self.rows.place(name)).collect();
        let rows = key_rows(&self.rows.schema(), &identity, keys)?;
        let (Memory::Known(known), Some(look)) = (&mut self.memory, &mut self.look) else { return Ok(None) };
        keys.iter().for_each(|key| _ = known.forget(key));
        Ok(Some(look.batch(&self.plan.name, vec![Op::Delete; keys.len()], rows, false)))
    }

    /// Writes what is known by now into the checkpoint of the delivery that tells it.
    pub(crate) fn save(&mut self, checkpoint: &mut Checkpoint) {
        match &mut self.memory {
            Memory::Known(known) => known.save(checkpoint),
            Memory::Window(window) => window.save(checkpoint),
            Memory::Nothing => {}
        }
        self.looks.save(checkpoint);
        checkpoint.set(partition(&self.plan.name), json!({"how": how(&self.plan.wanted), "complete": self.is_complete}));
    }
}

fn hash(text: &str) -> u64 {
    let mut digest = Digest::default();
    digest.value(Some(text.as_bytes()));
    digest.finish()
}

/// What a checkpoint remembers of the source itself: a state is of use to no other program.
pub(crate) fn identity(protocol: &str, program: &str) -> Value {
    json!({"protocol": protocol, "program": program})
}
