//! What streams by key share: where keys come from, what is remembered of them, and how their rows are told.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_sdk::model::{Checkpoint, Op};
use hub_sdk::records::Fields;
use hub_sdk::{Ended, KeyTopics, Look, SourceError};
use serde_json::{Value, json};

use crate::asked::{Asked, Entry};
use crate::config::{HttpStream, Keys};
use crate::follower::Follower;
use crate::keys::{Found, KeySource, Row};
use crate::rows::{Fault, digest_of, key_of};
use crate::template::Values;

/// Keys that are asked for between two looks for new ones.
pub(crate) const AT_ONCE: usize = 256;
/// Rows and answers wait no longer than this for others.
pub(crate) const FLUSH: Duration = Duration::from_millis(500);

/// A stream by key.
pub(crate) struct Keyed {
    pub(crate) follower: Follower,
    pub(crate) asked: Asked,
    source: KeySource,
    /// Further columns of the keys of a list, which says by them which keys it has; `None` for a topic.
    list: Option<HashMap<String, Row>>,
    column: String,
    max_keys: usize,
    position: Option<Value>,
    is_caught_up: bool,
    is_complete: bool,
    is_following: bool,
    flushed: Instant,
    look: Look,
}

/// What came of one key.
pub(crate) enum Outcome {
    /// Its rows.
    Rows(Vec<Fields>),
    /// The service knows nothing of it.
    Missing,
    /// It cannot be told.
    Fault(Fault),
}

impl Keyed {
    /// Goes on after a checkpoint.
    ///
    /// # Errors
    /// The checkpoint was written by something else, or the keys cannot be read.
    pub(crate) fn new(
        mut follower: Follower,
        from: &Checkpoint,
        (keys, max_keys): (&Keys, usize),
        topics: Option<&Arc<dyn KeyTopics>>,
        directory: &Path,
    ) -> Result<Self, SourceError> {
        let name = follower.name.clone();
        let asked = Asked::restore(from, &name).map_err(|why| {
            SourceError::new(hub_sdk::ErrorKind::Mismatch, "reading the checkpoint")
                .because(why)
                .advise("read the system anew")
                .of(name.clone())
        })?;
        let position = from.get(&format!("keys/{name}")).cloned();
        let source = KeySource::open(keys, topics, position, directory).map_err(|error| error.of(name.clone()))?;
        let is_complete = from.get(&format!("list/{name}")).is_some();
        let look = follower.looks.begin();
        Ok(Self {
            asked,
            list: matches!(keys, Keys::Sql(_)).then(HashMap::new),
            column: follower.stream.key_column().unwrap_or_default().to_owned(),
            source,
            max_keys,
            position: None,
            is_caught_up: false,
            is_complete,
            is_following: false,
            flushed: Instant::now(),
            look,
            follower,
        })
    }

    /// Takes up keys that have come, or that come within a time.
    pub(crate) async fn take_keys(&mut self, wait: Duration) -> Result<(), Ended> {
        let name = self.follower.name.clone();
        let Found { keys, position, is_caught_up } = self.source.next(wait).await.map_err(|error| error.of(name))?;
        let is_list_read = is_caught_up && self.list.is_some();
        let mut list = HashMap::new();
        for (key, row) in keys {
            if self.asked.get(&key).is_none() && self.asked.len() >= self.max_keys {
                let why = format!("there are more than {} keys", self.max_keys);
                return Err(self.follower.broken(why, "raise `max_keys`, or ask for fewer keys").into());
            }
            self.asked.add(&key);
            if is_list_read {
                list.insert(key, row);
            }
        }
        if is_list_read {
            self.list = Some(list);
        }
        self.is_caught_up |= is_caught_up;
        if position.is_some() {
            self.position = position;
        }
        self.flush().await
    }

    /// Keys to ask for now, those first that wait longest, by when each is due; and when the next one is.
    pub(crate) fn due(&self, now: u64, due_at: impl Fn(&Entry) -> Option<u64>) -> (Vec<String>, Option<u64>) {
        let (mut due, mut next) = (Vec::new(), None::<u64>);
        for (key, entry) in self.asked.iter() {
            if self.list.as_ref().is_some_and(|list| !list.contains_key(key)) {
                continue;
            }
            match due_at(entry) {
                Some(at) if at <= now => due.push((at, key)),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        self.follower.board.looked(&self.follower.name, self.asked.len(), due.len());
        if due.len() > AT_ONCE {
            due.select_nth_unstable(AT_ONCE);
            due.truncate(AT_ONCE);
            next = Some(now);
        }
        due.sort_unstable();
        (due.into_iter().map(|(_, key)| key.to_owned()).collect(), next)
    }

    /// What placeholders stand for in a request of a key.
    pub(crate) fn values(&self, key: &str) -> Values {
        let mut values = Values::default().with("key", key);
        if let Some(row) = self.list.as_ref().and_then(|list| list.get(key)) {
            row.iter().for_each(|(column, value)| values.set_column(column, value));
        }
        values
    }

    /// Tells what differs from what was told of a key, and remembers the answer as one of a time.
    pub(crate) fn apply(&mut self, key: &str, outcome: Outcome, at: u64) {
        let before = self.asked.get(key).map(|entry| entry.rows.clone()).unwrap_or_default();
        let rows = match outcome {
            Outcome::Fault(fault) => {
                self.tell_fault(vec![(self.column.clone(), Some(key.to_owned()))], fault);
                // What was told of it stands.
                return self.asked.set(key, Entry { at, ticket: None, rows: before });
            }
            Outcome::Missing => Vec::new(),
            Outcome::Rows(rows) => rows,
        };
        let mut told: Vec<(Box<str>, u64)> = Vec::new();
        for mut row in rows {
            row = with_key(row, &self.follower.stream, key);
            let digest = digest_of(&row);
            match key_of(&row, &self.follower.stream.key) {
                Err(column) => {
                    let message = "it has no value in a column of its key".to_owned();
                    let column = Some(column.to_owned());
                    self.tell_fault(row, Fault { code: "key-missing", column, message });
                }
                Ok(row_key) if told.iter().any(|(other, _)| **other == row_key) => {
                    let message = "a row before it of the same answer has the same key".to_owned();
                    self.tell_fault(row, Fault { code: "key-twice", column: None, message });
                }
                Ok(row_key) => {
                    match before.iter().find(|(other, _)| **other == row_key) {
                        None => self.follower.telling.tell(self.new_op(), &row, None),
                        Some((_, known)) if *known != digest => self.follower.telling.tell(Op::Update, &row, None),
                        Some(_) => {}
                    }
                    told.push((row_key.into(), digest));
                }
            }
        }
        for (gone, _) in before.iter().filter(|(row_key, _)| !told.iter().any(|(other, _)| other == row_key)) {
            self.follower.telling.delete(gone);
        }
        self.asked.set(key, Entry { at, ticket: None, rows: told });
    }

    fn new_op(&self) -> Op {
        if self.is_complete { Op::Create } else { Op::Read }
    }

    fn tell_fault(&mut self, row: Fields, fault: Fault) {
        self.follower.telling.tell(self.new_op(), &row, Some(fault));
    }

    /// Hands over what waits, where it is enough or has waited long enough.
    pub(crate) async fn flush_if_due(&mut self) -> Result<(), Ended> {
        if self.follower.telling.is_full(self.follower.limits) || self.flushed.elapsed() >= FLUSH {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands over rows, evidence and what is remembered.
    pub(crate) async fn flush(&mut self) -> Result<(), Ended> {
        self.flushed = Instant::now();
        let mut delivery = self.follower.delivery(&mut self.look)?;
        self.asked.save(&mut delivery.checkpoint);
        if let Some(position) = self.position.take() {
            delivery.checkpoint.set(format!("keys/{}", self.follower.name), position);
        }
        if !delivery.batches.is_empty() {
            self.look = self.follower.looks.begin();
        }
        self.follower.deliver(delivery).await
    }

    /// Says once that all rows of the first round are told: no key waits that was never asked for.
    pub(crate) async fn complete(&mut self, is_first_round_over: bool) -> Result<(), Ended> {
        if !self.is_caught_up || !is_first_round_over {
            return Ok(());
        }
        if !self.is_complete {
            self.is_complete = true;
            let name = self.follower.name.clone();
            let mut delivery = self.follower.delivery(&mut self.look)?;
            self.asked.save(&mut delivery.checkpoint);
            delivery.checkpoint.set(format!("list/{name}"), json!({"complete": true}));
            delivery.completed.push(name);
            self.follower.deliver(delivery).await?;
        }
        if !self.is_following {
            self.is_following = true;
            self.follower.say_following().await?;
        }
        Ok(())
    }

    /// Whether a key that is in reach was never asked for.
    pub(crate) fn any_waits(&self) -> bool {
        let in_reach = |key: &str| self.list.as_ref().is_none_or(|list| list.contains_key(key));
        self.asked.iter().any(|(key, entry)| entry.at == 0 && in_reach(key))
    }

    /// How long to wait for keys when nothing is due before `next`.
    pub(crate) fn wait(&self, now: u64, next: Option<u64>) -> Duration {
        let every = self.follower.caller.config.every(&self.follower.stream);
        next.map_or(every, |next| Duration::from_secs(next.saturating_sub(now)).min(every))
    }
}

/// A row with the key in its column, whether the answer has it or not.
pub(crate) fn with_key(mut row: Fields, stream: &HttpStream, key: &str) -> Fields {
    let column = stream.key_column().unwrap_or_default();
    match row.iter_mut().find(|(name, _)| name == column) {
        Some((_, value)) => *value = Some(key.to_owned()),
        None => row.insert(0, (column.to_owned(), Some(key.to_owned()))),
    }
    row
}

/// Seconds since 1970, as they are remembered.
pub(crate) fn now_s() -> u64 {
    u64::try_from(crate::site::unix_s()).unwrap_or(0).max(1)
}
