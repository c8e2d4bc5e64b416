//! Follows a list: the whole of it against what was told, or the rows that changed since a watermark.

use std::collections::HashSet;
use std::sync::Arc;

use hub_sdk::model::{Checkpoint, Op};
use hub_sdk::records::Fields;
use hub_sdk::{Ended, Known, Look, Noted, now_micros};
use reqwest::Url;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::caller::{Ask, Stumble};
use crate::config::{Mode, Paging, Request, Watermark};
use crate::follower::{Follower, list_answer};
use crate::keyed::FLUSH;
use crate::mark::{Mark, clock, time_format};
use crate::paging::{Page, Pages, list_request};
use crate::rows::{Fault, digest_of, key_of, page_digest};
use crate::template::Values;

/// Known rows below which a list may shrink as it likes.
const GUARDED: usize = 20;
/// Rows at fault that are remembered, so that each look does not reject them anew.
const REMEMBERED: usize = 10_000;

/// Follows a list.
pub(crate) struct List {
    pub(crate) follower: Follower,
    pub(crate) known: Known,
    state: State,
    partition: String,
    request: Arc<Request>,
    rejected: HashSet<u64>,
    /// Keys that the look before has not seen.
    absent_before: HashSet<Box<str>>,
}

/// What one reading of a list asks for.
#[derive(Default)]
struct Span {
    since: Option<String>,
    until: Option<String>,
    /// Where the next one begins; `None` for the last one.
    end: Option<Mark>,
}

/// How far the list was read.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// Whether the first snapshot is told.
    is_complete: bool,
    mark: Option<Mark>,
    /// When everything was read last, microseconds since 1970.
    full_at: i64,
}

impl State {
    fn restore(value: &Value) -> Self {
        Self {
            is_complete: value.get("complete").and_then(Value::as_bool).unwrap_or(false),
            mark: value.get("mark").and_then(Mark::restore),
            full_at: value.get("full_at").and_then(Value::as_i64).unwrap_or(0),
        }
    }

    fn save(&self) -> Value {
        json!({"complete": self.is_complete, "mark": self.mark.as_ref().map(Mark::save), "full_at": self.full_at})
    }
}

impl List {
    /// Goes on after a checkpoint.
    ///
    /// # Errors
    /// In words: the checkpoint was written by something else.
    pub(crate) fn new(follower: Follower, from: &Checkpoint) -> Result<Self, String> {
        let partition = format!("list/{}", follower.name);
        Ok(Self {
            known: Known::restore(from, &follower.name)?,
            state: from.get(&partition).map(State::restore).unwrap_or_default(),
            request: Arc::new(list_request(&follower.stream)),
            rejected: HashSet::new(),
            absent_before: HashSet::new(),
            partition,
            follower,
        })
    }

    /// Looks again and again, until an error or until nobody receives.
    pub(crate) async fn run(mut self) -> Result<(), Ended> {
        let mut is_following = false;
        loop {
            if let Err(ended) = self.look().await {
                return Err(self.follower.end(ended).await);
            }
            if !is_following {
                is_following = true;
                self.follower.say_following().await?;
            }
            let every = self.follower.caller.config.every(&self.follower.stream);
            self.follower.outlet.pause(every).await?;
        }
    }

    fn watermark(&self) -> Option<Watermark> {
        match &self.follower.stream.mode {
            Mode::Watermark(watermark) => Some(watermark.clone()),
            _ => None,
        }
    }

    /// Whether a look reads everything there is.
    fn is_whole(&self, watermark: Option<&Watermark>) -> bool {
        let Some(watermark) = watermark else { return true };
        #[allow(clippy::cast_possible_truncation, reason = "a number of microseconds")]
        let is_due = watermark.full_every_s.is_some_and(|every| now_micros() - self.state.full_at >= (every * 1e6) as i64);
        is_due || (!self.state.is_complete && watermark.start.is_none())
    }

    /// One look at the list: one reading of it, or one for each window of time.
    async fn look(&mut self) -> Result<(), Ended> {
        let watermark = self.watermark();
        let is_whole = self.is_whole(watermark.as_ref());
        let (began, before) = (now_micros(), self.known.len());
        let mut look = self.follower.looks.begin();
        let mut mark = self.state.mark.clone();
        self.known.begin_look();
        loop {
            let span = self.span(watermark.as_ref().filter(|_| !is_whole), mark.as_ref(), began);
            let read = self.read(&span, watermark.as_ref(), is_whole, &mut mark, &mut look).await?;
            let Some(end) = span.end else {
                if is_whole {
                    self.delete_absent(before, read, &mut look).await?;
                }
                return self.close(watermark.as_ref(), mark, began, is_whole, &mut look).await;
            };
            // A window that is over is not asked for again, whatever it held.
            mark = mark.max(Some(end));
            self.state.mark.clone_from(&mark);
            let mut delivery = self.follower.delivery(&mut look)?;
            self.known.save(&mut delivery.checkpoint);
            delivery.checkpoint.set(self.partition.clone(), self.state.save());
            self.follower.deliver(delivery).await?;
        }
    }

    /// What the next reading asks for.
    fn span(&self, watermark: Option<&Watermark>, mark: Option<&Mark>, began: i64) -> Span {
        let Some(settings) = watermark else { return Span { until: self.until(began), ..Span::default() } };
        let offset = self.follower.caller.config.rate.utc_offset_h;
        let since = mark.map(|mark| mark.since(settings, offset)).or_else(|| settings.start.clone());
        let from = mark.cloned().or_else(|| Mark::parse(settings.start.as_ref()?, &settings.format));
        let (Some(window), Some(Mark::Time(from)), Mark::Time(now)) = (settings.window_s, from, clock(began, settings, offset)) else {
            return Span { since, until: self.until(began), end: None };
        };
        let end = from.saturating_add(i64::try_from(window).unwrap_or(i64::MAX).saturating_mul(1_000_000));
        if end >= now {
            return Span { since, until: self.until(began), end: None };
        }
        Span { since, until: Some(Mark::Time(end).written(settings, offset)), end: Some(Mark::Time(end)) }
    }

    /// The time of the look, where the stream tells times.
    fn until(&self, began: i64) -> Option<String> {
        let Mode::Watermark(settings) = &self.follower.stream.mode else { return None };
        time_format(settings)?;
        let offset = self.follower.caller.config.rate.utc_offset_h;
        Some(clock(began, settings, offset).written(settings, offset))
    }

    /// Reads the list of a span to its end; how many pages it had.
    async fn read(
        &mut self,
        span: &Span,
        watermark: Option<&Watermark>,
        is_whole: bool,
        mark: &mut Option<Mark>,
        look: &mut Look,
    ) -> Result<usize, Ended> {
        let stream = Arc::clone(&self.follower.stream);
        let mut pages = Pages::new(stream.paging.as_ref());
        let mut read = 0;
        loop {
            let mut values = Values::default();
            pages.set(&mut values);
            for (name, value) in [("since", &span.since), ("until", &span.until)] {
                if let Some(value) = value {
                    values.set(name, value);
                }
            }
            let answer = self.ask(&values, pages.next.as_ref(), look).await?;
            let (name, places) = (&self.follower.name, pages.places());
            let (rows, places) = list_answer(&answer, &self.follower.caller.place(&self.request), (name, &stream), &places).await?;
            if !is_whole {
                // A row that changes while pages are read comes twice: both states are told.
                self.known.begin_look();
            }
            let page = Page { answer: &answer, rows: rows.len() as u64, digest: page_digest(&rows), places: &places };
            let has_more = pages.advance(&page, &self.follower.caller.base).map_err(|why| self.follower.broken(why, "mend `paging`"))?;
            drop(answer);
            read += 1;
            self.page(&rows, watermark, mark, look).await?;
            if self.follower.trail.is_long() {
                self.flush(look).await?;
            }
            if !has_more {
                return Ok(read);
            }
        }
    }

    /// Asks for a page. Rows that wait do not wait for one whose turn comes tomorrow.
    async fn ask(&mut self, values: &Values, next: Option<&Url>, look: &mut Look) -> Result<Answer, Ended> {
        let (caller, trail) = (Arc::clone(&self.follower.caller), Arc::clone(&self.follower.trail));
        let (name, request) = (self.follower.name.clone(), Arc::clone(&self.request));
        let ask = Ask { stream: &name, request: &request, values, next, budget: self.follower.budget(), stumble: Stumble::IsAFailure };
        let asking = caller.ask(&ask, &trail);
        tokio::pin!(asking);
        loop {
            match tokio::time::timeout(FLUSH, &mut asking).await {
                Ok(answered) => return Ok(answered.map_err(|error| error.of(name.clone()))?),
                Err(_elapsed) => self.flush(look).await?,
            }
        }
    }

    /// Compares the rows of a page, and hands over what is full.
    async fn page(
        &mut self,
        rows: &[Fields],
        watermark: Option<&Watermark>,
        mark: &mut Option<Mark>,
        look: &mut Look,
    ) -> Result<(), Ended> {
        for (place, row) in rows.iter().enumerate() {
            self.compare(row, &rows[..place], watermark.is_some());
            if let Some(watermark) = watermark
                && let Some(field) = &watermark.field
            {
                let value = row.iter().find(|(name, _)| name == field).and_then(|(_, value)| value.as_deref());
                let found = value.and_then(|value| Mark::parse(value, &watermark.format));
                *mark = mark.take().max(found);
            }
            if self.follower.telling.is_full(self.follower.limits) {
                self.flush(look).await?;
            }
        }
        Ok(())
    }

    fn compare(&mut self, row: &Fields, before: &[Fields], keeps_last: bool) {
        let stream = Arc::clone(&self.follower.stream);
        let new = if self.state.is_complete { Op::Create } else { Op::Read };
        let digest = digest_of(row);
        let key = match key_of(row, &stream.key) {
            Ok(key) => key,
            Err(column) => {
                let message = "it has no value in a column of its key".to_owned();
                return self.reject(row, digest, Fault { code: "key-missing", column: Some(column.to_owned()), message });
            }
        };
        match self.known.note(&key, digest) {
            Noted::Same => {}
            Noted::New => self.follower.telling.tell(new, row, None),
            Noted::Changed => self.follower.telling.tell(Op::Update, row, None),
            Noted::Twice if keeps_last => {
                // The later state counts: it may be the only look that sees it.
                self.known.forget(&key);
                self.known.note(&key, digest);
                self.follower.telling.tell(Op::Update, row, None);
            }
            Noted::Twice if before.iter().any(|other| key_of(other, &stream.key).is_ok_and(|other| other == key)) => {
                let message = "a row before it on the same page has the same key".to_owned();
                self.reject(row, digest, Fault { code: "key-twice", column: None, message });
            }
            // Moved onto a later page while pages were read: the next look sees its last state.
            Noted::Twice => {}
        }
    }

    /// Tells a row at fault, unless a look before has told it.
    fn reject(&mut self, row: &Fields, digest: u64, fault: Fault) {
        if self.rejected.len() >= REMEMBERED {
            self.rejected.clear();
        }
        if self.rejected.insert(digest) {
            let new = if self.state.is_complete { Op::Create } else { Op::Read };
            self.follower.telling.tell(new, row, Some(fault));
        }
    }

    async fn delete_absent(&mut self, before: usize, pages: usize, look: &mut Look) -> Result<(), Ended> {
        let absent = self.known.absent();
        let guard = usize::from(self.follower.stream.shrink_guard);
        if before >= GUARDED && absent.len() * 100 > guard * before {
            // What was told of this look stands; only the deletes wait.
            self.flush(look).await?;
            let why = format!("{} of {before} known rows are absent from the list, more than {guard} per cent", absent.len());
            let advice = "see whether the list is right; if it is, set `shrink_guard: 100` until it was read";
            return Err(self.follower.broken(why, advice).into());
        }
        let stream = &self.follower.stream;
        let may_move = pages > 1 && matches!(stream.paging, Some(Paging::Page(_) | Paging::Offset(_)));
        let looks = stream.delete_after_looks.unwrap_or(if may_move { 2 } else { 1 });
        let (gone, seen_lately) = match looks {
            2 => absent.into_iter().partition(|key| self.absent_before.contains(key)),
            _ => (absent, Vec::new()),
        };
        self.absent_before = seen_lately.into_iter().collect();
        for key in gone {
            self.known.forget(&key);
            self.follower.telling.delete(&key);
            if self.follower.telling.is_full(self.follower.limits) {
                self.flush(look).await?;
            }
        }
        Ok(())
    }

    /// Hands over the rows that wait with what subscribers know by then.
    async fn flush(&mut self, look: &mut Look) -> Result<(), Ended> {
        let mut delivery = self.follower.delivery(look)?;
        self.known.save(&mut delivery.checkpoint);
        self.follower.deliver(delivery).await
    }

    /// Ends a look that read all its pages.
    async fn close(
        &mut self,
        watermark: Option<&Watermark>,
        mark: Option<Mark>,
        began: i64,
        is_whole: bool,
        look: &mut Look,
    ) -> Result<(), Ended> {
        let mut delivery = self.follower.delivery(look)?;
        self.known.save(&mut delivery.checkpoint);
        let by_clock = watermark.filter(|watermark| watermark.field.is_none());
        let mark = match by_clock {
            Some(watermark) => Some(clock(began, watermark, self.follower.caller.config.rate.utc_offset_h)),
            None => mark,
        };
        let full_at = if is_whole && watermark.is_some() { began } else { self.state.full_at };
        let state = State { is_complete: true, mark, full_at };
        if !self.state.is_complete {
            delivery.completed.push(self.follower.name.clone());
        }
        if state != self.state {
            delivery.checkpoint.set(self.partition.clone(), state.save());
            self.state = state;
        }
        self.follower.board.looked(&self.follower.name, self.known.len(), 0);
        self.follower.deliver(delivery).await
    }
}
