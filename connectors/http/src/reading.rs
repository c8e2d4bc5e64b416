//! Reads a stream outside of a capture: samples, scans, and the first page for a probe.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_sdk::model::{Checkpoint, Op, StreamName};
use hub_sdk::records::Fields;
use hub_sdk::{BatchLimits, Delivery, ErrorKind, KeyTopics, Looks, Outlet, SourceError};

use crate::caller::{Ask, Caller, Stumble};
use crate::config::{HttpStream, Keys, Mode};
use crate::follower::list_answer;
use crate::keyed::{Outcome, with_key};
use crate::keys::{KeySource, Row};
use crate::lookup::Asker;
use crate::paging::{Page, Pages, list_request};
use crate::rows::{Telling, key_of, page_digest};
use crate::site::Budget;
use crate::template::Values;
use crate::trail::Trail;

/// Pages that a sample reads at most.
const PAGES: usize = 3;
/// Keys that a sample asks for at most: each costs a request.
const KEYS: usize = 5;
/// How long a sample waits for keys.
const FIRST_KEYS: Duration = Duration::from_secs(10);

/// A reading of one stream.
pub(crate) struct Reading {
    pub(crate) caller: Arc<Caller>,
    pub(crate) name: StreamName,
    pub(crate) stream: Arc<HttpStream>,
    pub(crate) topics: Option<Arc<dyn KeyTopics>>,
    pub(crate) directory: PathBuf,
}

impl Reading {
    /// Rows of the first pages, or of the first keys.
    pub(crate) async fn sample(&self, rows: usize) -> Result<Vec<Fields>, SourceError> {
        let mut found = Vec::new();
        if let Some(keys) = self.stream.keys() {
            // Nothing is submitted for a sample.
            return if matches!(self.stream.mode, Mode::Lookup(_)) { self.look_up(keys, rows).await } else { Ok(found) };
        }
        let mut pages = Pages::new(self.stream.paging.as_ref());
        for _ in 0..PAGES {
            let (page, has_more) = self.page(&mut pages).await?;
            found.extend(page);
            if !has_more || found.len() >= rows {
                break;
            }
        }
        found.truncate(rows);
        Ok(found)
    }

    /// The first keys there are, as far as they come in time.
    pub(crate) async fn first_keys(&self, keys: &Keys) -> Result<Vec<(String, Row)>, SourceError> {
        let mut source = KeySource::open(keys, self.topics.as_ref(), None, &self.directory)?;
        let until = Instant::now() + FIRST_KEYS;
        loop {
            let found = source.next(until.saturating_duration_since(Instant::now())).await.map_err(|error| error.of(self.name.clone()))?;
            if !found.keys.is_empty() || found.is_caught_up || Instant::now() >= until {
                return Ok(found.keys);
            }
        }
    }

    async fn look_up(&self, keys: &Keys, rows: usize) -> Result<Vec<Fields>, SourceError> {
        let (per_minute, per_day) = self.stream.budget();
        let asker = Asker {
            caller: Arc::clone(&self.caller),
            name: self.name.clone(),
            stream: Arc::clone(&self.stream),
            request: Arc::new(self.stream.request()),
            budget: Budget { per_minute, per_day },
            trail: Arc::default(),
        };
        let mut found = Vec::new();
        for (key, row) in self.first_keys(keys).await?.into_iter().take(KEYS) {
            let mut values = Values::default().with("key", &key);
            row.iter().for_each(|(column, value)| values.set_column(column, value));
            match asker.ask(&values).await? {
                Outcome::Rows(answered) => found.extend(answered.into_iter().map(|row| with_key(row, &self.stream, &key))),
                Outcome::Missing => {}
                Outcome::Fault(fault) => {
                    return Err(SourceError::new(ErrorKind::StreamBroken, "asking for a key")
                        .because(fault.message)
                        .advise("mend the request of the stream, `rows` or `success`")
                        .of(self.name.clone()));
                }
            }
            if found.len() >= rows {
                break;
            }
        }
        found.truncate(rows);
        Ok(found)
    }

    /// Every row once, as reads without a checkpoint.
    pub(crate) async fn scan(&self, mut telling: Telling, limits: BatchLimits, outlet: Outlet) -> Result<(), SourceError> {
        if !matches!(self.stream.mode, Mode::Whole | Mode::Watermark(_)) {
            let why = "its rows are had by key alone, and each answer costs a request; read what is published instead";
            return Err(SourceError::new(ErrorKind::BadConfig, "reading all rows of a stream").because(why).of(self.name.clone()));
        }
        let mut look = Looks::restore(&Checkpoint::empty(), &self.name).begin();
        let mut pages = Pages::new(self.stream.paging.as_ref());
        let mut seen = HashSet::new();
        loop {
            let (rows, has_more) = self.page(&mut pages).await?;
            for (place, row) in rows.iter().enumerate() {
                if key_of(row, &self.stream.key).is_ok_and(|key| seen.insert(key)) {
                    telling.tell(Op::Read, row, None);
                }
                let is_last = place + 1 == rows.len();
                if telling.is_full(limits) || (is_last && !telling.is_empty()) {
                    let batches = telling.batches(&self.name, &mut look);
                    let batches = batches.map_err(|error| SourceError::new(ErrorKind::Defect, "reading all rows").because(error))?;
                    if outlet.deliver(Delivery::new(batches, Checkpoint::empty())).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if !has_more {
                return Ok(());
            }
        }
    }

    /// The next page, and whether there is one behind it.
    pub(crate) async fn page(&self, pages: &mut Pages<'_>) -> Result<(Vec<Fields>, bool), SourceError> {
        let (request, mut values) = (list_request(&self.stream), Values::default());
        pages.set(&mut values);
        if let Mode::Watermark(watermark) = &self.stream.mode
            && let Some(start) = &watermark.start
        {
            values.set("since", start);
        }
        let budget = Budget::default();
        let ask =
            Ask { stream: &self.name, request: &request, values: &values, next: pages.next.as_ref(), budget, stumble: Stumble::IsAFailure };
        let answer = self.caller.ask(&ask, &Trail::default()).await.map_err(|error| error.of(self.name.clone()))?;
        let places = pages.places();
        let (rows, places) = list_answer(&answer, &self.caller.place(&request), (&self.name, &self.stream), &places).await?;
        let page = Page { answer: &answer, rows: rows.len() as u64, digest: page_digest(&rows), places: &places };
        let broken = |why: String| {
            SourceError::new(ErrorKind::StreamBroken, "reading an answer").because(why).advise("mend `paging`").of(self.name.clone())
        };
        let has_more = pages.advance(&page, &self.caller.base).map_err(broken)?;
        Ok((rows, has_more))
    }
}
