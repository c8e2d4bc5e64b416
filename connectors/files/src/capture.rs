//! Follows the files of one stream: look, wait until a file rests, take it once, tell what is new.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use hub_sdk::model::{ChangeBatch, Checkpoint, Op, StreamName};
use hub_sdk::{BatchLimits, Delivery, Ended, ErrorKind, Known, Look, Looks, Outlet, Shut, SourceError, key_rows};

use crate::board::{Board, Waiting};
use crate::config::{FileStream, FilesConfig, Mode};
use crate::reading::{Held, Manner, Reading};
use crate::rows::{Bad, Trouble};
use crate::store::{Entry, Store, StoreError};
use crate::taken::{Files, Refused, State, Taken};

mod guard;
mod opened;

use opened::{Opened, inspect};

/// What following one stream needs.
pub(crate) struct Follower {
    pub(crate) config: Arc<FilesConfig>,
    pub(crate) store: Arc<Store>,
    pub(crate) name: StreamName,
    pub(crate) stream: Arc<FileStream>,
    /// Columns that a file must have.
    pub(crate) needed: Vec<String>,
    pub(crate) limits: BatchLimits,
    pub(crate) board: Arc<Board>,
    pub(crate) outlet: Outlet,
    pub(crate) looks: Looks,
    pub(crate) files: Files,
    /// `None` only while a file is read.
    pub(crate) held: Option<Held>,
    /// Each file as it was at the look before, and since when it has been so.
    pub(crate) before: HashMap<String, (Entry, Instant)>,
    /// Contents that were taken up again because a person had accepted them.
    pub(crate) tried: HashSet<String>,
}

/// What is to be done with a file.
enum Plan {
    /// Nothing but to remember it: its content was taken before.
    Remember(u64),
    /// It is read; so many of its rows were told.
    Read(u64),
    /// It may not be read.
    Refuse(String),
}

impl Follower {
    /// Looks again and again, until an error or until nobody receives.
    pub(crate) async fn run(mut self) -> Result<(), Ended> {
        let mut is_following = false;
        loop {
            self.look().await?;
            if self.files.is_complete && !is_following {
                is_following = true;
                // An empty delivery is the word that changes are followed now.
                self.outlet.deliver(Delivery::new(Vec::new(), Checkpoint::empty())).await?;
            }
            self.outlet.pause(self.config.every()).await?;
        }
    }

    async fn look(&mut self) -> Result<(), Ended> {
        let listed = self.unless_shut(self.store.list(&self.stream.pattern)).await?;
        let entries = listed.map_err(|error| self.lost(error))?;
        let mut due: Vec<Entry> = entries.iter().filter(|entry| !self.files.is_settled(entry)).cloned().collect();
        due.extend(self.newly_accepted(&entries).await?);
        due.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        self.tell_board(&due);
        if self.stream.mode == Mode::Whole && !self.files.is_complete {
            self.overtake(&mut due).await?;
        }
        let mut resting = 0;
        for (place, entry) in due.iter().enumerate() {
            if !self.rests(entry) {
                // The ones behind it may rest, but deliveries are taken in their order.
                break;
            }
            self.take(entry).await?;
            resting += 1;
            self.tell_board(&due[place + 1..]);
        }
        if !self.files.is_complete && resting == due.len() && self.files.any_taken() {
            let mut delivery = Delivery::new(Vec::new(), Checkpoint::empty());
            self.files.complete(&mut delivery.checkpoint);
            delivery.completed.push(self.name.clone());
            self.outlet.deliver(delivery).await?;
        }
        let mut forgotten = Checkpoint::empty();
        self.files.forget(&entries, &mut forgotten);
        if !forgotten.is_empty() {
            self.outlet.deliver(Delivery::new(Vec::new(), forgotten)).await?;
        }
        let (mut before, now) = (std::mem::take(&mut self.before), Instant::now());
        let since = |entry: Entry| match before.remove(&entry.name) {
            Some((was, since)) if was == entry => (entry.name.clone(), (entry, since)),
            _ => (entry.name.clone(), (entry, now)),
        };
        self.before = entries.into_iter().map(since).collect();
        Ok(())
    }

    /// Whether a file is as it was at the look before, and for long enough that a change would show.
    fn rests(&self, entry: &Entry) -> bool {
        self.before.get(&entry.name).is_some_and(|(was, since)| was == entry && since.elapsed() >= self.store.resolution())
    }

    /// Of whole deliveries that nobody knows only the last one is read.
    async fn overtake(&mut self, due: &mut Vec<Entry>) -> Result<(), Ended> {
        let Some(last) = due.pop() else { return Ok(()) };
        let look = self.looks.begin();
        let mut checkpoint = Checkpoint::empty();
        for Entry { name, size, modified, etag } in due.drain(..) {
            let taken = Taken { size, modified, etag, sha256: String::new(), rows: 0, state: State::Taken, look: look.at, refused: None };
            self.files.set(&name, taken, &mut checkpoint);
        }
        due.push(last);
        match checkpoint.is_empty() {
            true => Ok(()),
            false => Ok(self.outlet.deliver(Delivery::new(Vec::new(), checkpoint)).await?),
        }
    }

    /// Takes one file that rests.
    async fn take(&mut self, entry: &Entry) -> Result<(), Ended> {
        let fetched = match self.unless_shut(self.store.fetch(&entry.name)).await? {
            Ok(fetched) => fetched,
            // Gone since it was listed: the next look tells whether the whole place is.
            Err(error) if error.is_gone => return Ok(()),
            Err(error) => return Err(self.lost(error).into()),
        };
        // Another one since it was listed: it does not rest.
        if fetched.entry != *entry {
            return Ok(());
        }
        let taken = self.files.get(&entry.name).cloned();
        let inspected = self.unless_shut(blocking(move || inspect(fetched, taken.as_ref()))).await?;
        let opened = inspected?.map_err(|error| self.unreadable(error))?;
        let mut look = self.looks.begin();
        // Only what was refused before needs a word to be read again.
        let is_refused = self.files.get(&entry.name).is_some_and(|taken| taken.state == State::Rejected);
        let is_accepted = is_refused && self.is_accepted(&entry.name, &opened.sha256).await?;
        if is_accepted {
            self.tried.insert(opened.sha256.clone());
        }
        match self.plan(&opened, is_accepted) {
            Plan::Remember(rows) => {
                let taken = opened.taken(rows, State::Taken, &look);
                self.deliver(Vec::new(), &opened.entry.name, taken, None).await
            }
            Plan::Refuse(why) => self.reject(&opened, &look, 0, &Bad::whole(why)).await,
            Plan::Read(told) => {
                tracing::info!(stream = %self.name, file = %entry.name, bytes = entry.size, after_rows = told, "taking a file");
                if self.stream.mode == Mode::Whole
                    && told == 0
                    && let Some(trouble) = self.survey(&opened).await?
                {
                    return self.give_up(&opened, &look, 0, trouble).await;
                }
                self.read(opened, told, &mut look).await
            }
        }
    }

    fn plan(&self, opened: &Opened, is_accepted: bool) -> Plan {
        let taken = self.files.get(&opened.entry.name);
        let is_whole = self.stream.mode == Mode::Whole;
        match taken {
            Some(taken) if taken.sha256 == opened.sha256 => match taken.state {
                State::Taken => Plan::Remember(taken.rows),
                State::Partial => Plan::Read(taken.rows),
                State::Rejected if is_accepted => Plan::Read(0),
                State::Rejected => Plan::Refuse("it was refused before, and is still the same".to_owned()),
            },
            _ if is_whole => Plan::Read(0),
            Some(taken) if taken.state == State::Rejected => Plan::Read(0),
            Some(taken) if opened.has_grown && self.stream.format.grows() => Plan::Read(taken.rows),
            Some(taken) => Plan::Refuse(format!(
                "the file has changed since {} rows of it were taken, and not only grown; deliver new rows in a file of another name, or use `mode: whole`",
                taken.rows
            )),
            None => match self.files.same_content(&opened.entry.name, &opened.sha256) {
                Some(other) => {
                    tracing::info!(stream = %self.name, file = %opened.entry.name, same_as = %other, "a file has the content of one that was taken");
                    Plan::Remember(0)
                }
                None => Plan::Read(0),
            },
        }
    }

    async fn read(&mut self, opened: Opened, told: u64, look: &mut Look) -> Result<(), Ended> {
        let held = self.held.take().ok_or_else(|| self.defect("two files of a stream are read at once"))?;
        let file = opened.file.try_clone().map_err(|error| self.unreadable(error))?;
        let (name, manner) = (opened.entry.name.clone(), self.manner(told));
        let mut reading = match blocking(move || Reading::open(file, &name, manner, held)).await? {
            Ok(reading) => reading,
            Err(refused) => {
                let (held, trouble) = *refused;
                self.held = Some(held);
                return self.give_up(&opened, look, told, trouble).await;
            }
        };
        loop {
            let limits = self.limits;
            let (back, stepped, slice) = blocking(move || reading.stepped(limits)).await?;
            reading = back;
            let is_over = matches!(stepped, Ok(true));
            let rows = reading.number().max(told);
            let slice = slice.map_err(|error| self.defect(error.to_string()))?;
            if !slice.ops.is_empty() {
                let batches = look.batches(&self.name, &slice.rows, &slice.ops, &slice.faults, false);
                let taken = opened.taken(rows, State::Partial, look);
                self.deliver(batches, &opened.entry.name, taken, Some(&mut reading.held.known)).await?;
            } else if self.is_shut().await {
                return Err(Ended::Shut);
            }
            if let Err(trouble) = stepped {
                self.held = Some(reading.held);
                return self.give_up(&opened, look, rows, trouble).await;
            }
            if is_over {
                if self.stream.mode == Mode::Whole {
                    self.delete_absent(&mut reading, &opened, rows, look).await?;
                }
                let taken = opened.taken(rows, State::Taken, look);
                self.deliver(Vec::new(), &opened.entry.name, taken, Some(&mut reading.held.known)).await?;
                self.held = Some(reading.held);
                return Ok(());
            }
        }
    }

    fn manner(&self, told: u64) -> Manner {
        Manner {
            stream: Arc::clone(&self.stream),
            needed: self.needed.clone(),
            must_have: true,
            document_mib: self.config.document_mib,
            spool: self.config.spool(),
            told,
            is_snapshot: !self.files.is_complete,
            keeps: true,
        }
    }

    async fn delete_absent(&mut self, reading: &mut Reading, opened: &Opened, rows: u64, look: &mut Look) -> Result<(), Ended> {
        let absent = reading.held.known.absent();
        let identity = reading.identity();
        let schema = reading.schema();
        for keys in absent.chunks(self.limits.rows.max(1)) {
            let told = key_rows(&schema, &identity, keys).map_err(|error| self.defect(error.to_string()))?;
            keys.iter().for_each(|key| _ = reading.held.known.forget(key));
            let batch = look.batch(&self.name, vec![Op::Delete; keys.len()], told, false);
            let taken = opened.taken(rows, State::Partial, look);
            self.deliver(vec![batch], &opened.entry.name, taken, Some(&mut reading.held.known)).await?;
        }
        Ok(())
    }

    /// Ends a file that cannot be read on.
    async fn give_up(&mut self, opened: &Opened, look: &Look, rows: u64, trouble: Trouble) -> Result<(), Ended> {
        match trouble {
            Trouble::Io(error) => Err(self.unreadable(error).into()),
            Trouble::Bad(bad) => self.reject(opened, look, rows, &bad).await,
        }
    }

    /// Puts a file aside with a report, and remembers that it is refused.
    async fn reject(&mut self, opened: &Opened, look: &Look, rows: u64, bad: &Bad) -> Result<(), Ended> {
        let name = &opened.entry.name;
        tracing::warn!(stream = %self.name, file = %name, row = bad.row, column = bad.column, why = %bad.why, "a file is refused");
        let taken = match self.files.get(name).filter(|taken| taken.state == State::Taken && taken.sha256 != opened.sha256) {
            // What was taken of it stays true; the state that is refused is remembered beside it.
            Some(taken) if self.stream.mode == Mode::Append => {
                let Entry { size, modified, etag, .. } = opened.entry.clone();
                Taken { refused: Some(Refused { size, modified, etag }), look: look.at, ..taken.clone() }
            }
            _ => opened.taken(rows, State::Rejected, look),
        };
        if !self.config.aside.is_empty() {
            let report = report(&self.name, name, rows, bad);
            if let Err(error) = self.store.set_aside(&self.config.aside, &opened.entry, report).await {
                // It stays where it is, and is not tried again before it changes.
                tracing::warn!(stream = %self.name, file = %name, error = %error.why, "a refused file cannot be moved aside");
            }
        }
        self.deliver(Vec::new(), &opened.entry.name, taken, None).await
    }

    /// Hands batches over with what is taken of their file by then; `known` where they moved what subscribers know.
    async fn deliver(&mut self, batches: Vec<ChangeBatch>, name: &str, taken: Taken, known: Option<&mut Known>) -> Result<(), Ended> {
        let mut delivery = Delivery::new(batches, Checkpoint::empty());
        self.files.set(name, taken, &mut delivery.checkpoint);
        self.looks.save(&mut delivery.checkpoint);
        if let Some(known) = known {
            known.save(&mut delivery.checkpoint);
        }
        self.outlet.deliver(delivery).await?;
        Ok(())
    }

    /// What takes long ends when nobody receives any more.
    async fn unless_shut<T>(&self, work: impl Future<Output = T>) -> Result<T, Shut> {
        tokio::select! {
            done = work => Ok(done),
            () = self.outlet.shut() => Err(Shut),
        }
    }

    async fn is_shut(&self) -> bool {
        self.outlet.pause(std::time::Duration::ZERO).await.is_err()
    }

    fn tell_board(&self, due: &[Entry]) {
        let oldest = due.iter().map(|entry| entry.modified).min();
        self.board.tell(&self.name, Waiting { files: due.len(), oldest, rejected: self.files.rejected() });
    }

    fn lost(&self, error: StoreError) -> SourceError {
        error.told(format!("reading {}", self.store.place())).of(self.name.clone())
    }

    fn unreadable(&self, error: io::Error) -> SourceError {
        unreadable(error, format!("reading {}", self.store.place())).of(self.name.clone())
    }

    fn defect(&self, why: impl Into<String>) -> SourceError {
        SourceError::new(ErrorKind::Defect, "reading files").of(self.name.clone()).because(why.into())
    }
}

fn report(stream: &StreamName, name: &str, rows: u64, bad: &Bad) -> String {
    let mut text = format!("file:   {name}\nstream: {stream}\n");
    if let Some(row) = bad.row {
        text.push_str(&format!("row:    {row} (not counting the header)\n"));
    }
    if let Some(column) = &bad.column {
        text.push_str(&format!("column: {column}\n"));
    }
    text.push_str(&format!("why:    {}\n", bad.why));
    text.push_str(&match rows {
        0 => "\nNothing of it was taken. Mend it and deliver it again, under the same or another name.\n".to_owned(),
        rows => format!("\nIts first {rows} rows were read before. Mend it and deliver it again, under the same or another name.\n"),
    });
    text
}

/// Runs what waits for the disk on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SourceError::new(ErrorKind::Defect, "waiting for the disk").because(error.to_string()))
}

/// An error of reading a file that was opened.
pub(crate) fn unreadable(error: io::Error, doing: String) -> SourceError {
    let kind = if error.kind() == io::ErrorKind::PermissionDenied { ErrorKind::Denied } else { ErrorKind::Unreachable };
    SourceError::new(kind, doing).because(error).advise("see whether the place of the files can be reached and read")
}
