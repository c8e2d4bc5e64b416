//! Follows a stream by asking for each key: at most once per time to live, new keys first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use hub_sdk::model::StreamName;
use hub_sdk::{Ended, SourceError};
use reqwest::StatusCode;

use crate::answer::Answer;
use crate::asked::Entry;
use crate::auth::shown;
use crate::caller::{Ask, Caller, Stumble};
use crate::config::{HttpStream, Lookup, Mode, Request};
use crate::follower::list_answer;
use crate::keyed::{FLUSH, Keyed, Outcome, now_s};
use crate::rows::Fault;
use crate::site::Budget;
use crate::template::Values;
use crate::trail::Trail;

/// Follows a stream of look-ups.
pub(crate) struct Lookups {
    keyed: Keyed,
    settings: Lookup,
    /// Keys on end that could not be told.
    faults: usize,
}

/// Keys on end that cannot be told, after which it is not they that are wrong.
const ALL_WRONG: usize = 20;

/// What asking for a key needs; it outlives the borrow of its follower.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) caller: Arc<Caller>,
    pub(crate) name: StreamName,
    pub(crate) stream: Arc<HttpStream>,
    pub(crate) request: Arc<Request>,
    pub(crate) budget: Budget,
    pub(crate) trail: Arc<Trail>,
}

impl Lookups {
    /// Goes on with what is remembered of its keys.
    pub(crate) fn new(keyed: Keyed, settings: Lookup) -> Self {
        Self { keyed, settings, faults: 0 }
    }

    /// Asks again and again, until an error or until nobody receives.
    pub(crate) async fn run(mut self) -> Result<(), Ended> {
        let ended = self.follow().await;
        match ended {
            Ok(()) => Ok(()),
            Err(ended) => Err(self.keyed.follower.end(ended).await),
        }
    }

    async fn follow(&mut self) -> Result<(), Ended> {
        let mut wait = std::time::Duration::ZERO;
        loop {
            self.keyed.take_keys(wait).await?;
            let now = now_s();
            let (due, next) = self.keyed.due(now, |entry| Some(self.settings.due_at(entry)));
            let any_due = !due.is_empty();
            self.ask_all(due).await?;
            let is_over = !self.keyed.any_waits();
            self.keyed.complete(is_over).await?;
            wait = if any_due { std::time::Duration::ZERO } else { self.keyed.wait(now, next) };
        }
    }

    async fn ask_all(&mut self, keys: Vec<String>) -> Result<(), Ended> {
        let asker = Asker::of(&self.keyed);
        // After an error nothing more is asked; what is under way is waited for, since it has cost its request.
        let halted = Arc::new(AtomicBool::new(false));
        let jobs: Vec<_> = keys.into_iter().map(|key| (self.keyed.values(&key), key)).collect();
        let concurrent = self.keyed.follower.caller.config.rate.concurrent.clamp(1, 64);
        let mut answers = futures::stream::iter(jobs)
            .map(|(values, key)| {
                let (asker, halted) = (asker.clone(), Arc::clone(&halted));
                async move {
                    if halted.load(Ordering::Relaxed) {
                        return None;
                    }
                    Some((asker.ask(&values).await, key))
                }
            })
            .buffer_unordered(concurrent);
        let mut failed = None;
        loop {
            // Answers that are there do not wait for one whose turn comes tomorrow.
            let answered = match tokio::time::timeout(FLUSH, answers.next()).await {
                Ok(Some(answered)) => answered,
                Ok(None) => break,
                Err(_elapsed) => {
                    self.keyed.flush().await?;
                    continue;
                }
            };
            match answered {
                None => {}
                Some((Ok(outcome), key)) => {
                    self.faults = if matches!(outcome, Outcome::Fault(_)) { self.faults + 1 } else { 0 };
                    if self.faults >= ALL_WRONG {
                        halted.store(true, Ordering::Relaxed);
                    }
                    let at = self.settings.answered_at(&outcome, now_s());
                    self.keyed.apply(&key, outcome, at);
                    self.keyed.flush_if_due().await?;
                }
                Some((Err(error), _)) => {
                    halted.store(true, Ordering::Relaxed);
                    failed = failed.or(Some(error));
                }
            }
        }
        self.keyed.flush().await?;
        if failed.is_none() && self.faults >= ALL_WRONG {
            let why = format!("of the last {} keys none had an answer that could be read", self.faults);
            failed = Some(self.keyed.follower.broken(why, "see in the rejects topic why; mend the request, `rows` or `success`"));
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl Lookup {
    fn due_at(&self, entry: &Entry) -> u64 {
        let ttl = if entry.rows.is_empty() { self.negative_ttl_s } else { self.ttl_s };
        if entry.at == 0 { 0 } else { entry.at.saturating_add(seconds(ttl)) }
    }

    /// A key at fault that has rows is asked for again as one that was not found is.
    fn answered_at(&self, outcome: &Outcome, now: u64) -> u64 {
        match outcome {
            Outcome::Fault(_) => (now + seconds(self.negative_ttl_s)).saturating_sub(seconds(self.ttl_s)).clamp(1, now),
            Outcome::Rows(_) | Outcome::Missing => now,
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of seconds that is more than 0")]
fn seconds(time: f64) -> u64 {
    time.ceil() as u64
}

impl Asker {
    /// Of a stream by key.
    pub(crate) fn of(keyed: &Keyed) -> Self {
        let follower = &keyed.follower;
        Self {
            caller: Arc::clone(&follower.caller),
            name: follower.name.clone(),
            stream: Arc::clone(&follower.stream),
            request: Arc::new(follower.stream.request()),
            budget: follower.budget(),
            trail: Arc::clone(&follower.trail),
        }
    }

    /// Asks with the stream's own request, or another one.
    pub(crate) async fn answer(&self, request: &Request, values: &Values) -> Result<Answer, SourceError> {
        let ask = Ask { stream: &self.name, request, values, next: None, budget: self.budget, stumble: Stumble::IsAnAnswer };
        self.caller.ask(&ask, &self.trail).await.map_err(|error| error.of(self.name.clone()))
    }

    /// Asks for a key.
    ///
    /// # Errors
    /// Those that concern every key.
    pub(crate) async fn ask(&self, values: &Values) -> Result<Outcome, SourceError> {
        let answer = self.answer(&self.request, values).await?;
        let missing = match &self.stream.mode {
            Mode::Lookup(lookup) => lookup.missing.as_ref(),
            _ => None,
        };
        if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::NO_CONTENT) {
            return Ok(Outcome::Missing);
        }
        if let Some(rule) = missing
            && let Ok(found) = answer.read(self.stream.format, None, &[rule.path.as_str()]).await
            && rule.holds(found.places.first().and_then(Option::as_deref))
        {
            return Ok(Outcome::Missing);
        }
        if answer.status.is_redirection() {
            return list_answer(&answer, &self.caller.place(&self.request), (&self.name, &self.stream), &[])
                .await
                .map(|(rows, _)| Outcome::Rows(rows));
        }
        if !answer.status.is_success() {
            return Ok(Outcome::Fault(refused("lookup-refused", answer.status)));
        }
        self.rows(&answer).await
    }

    /// The rows of an answer that succeeded, or what is wrong with it.
    pub(crate) async fn rows(&self, answer: &Answer) -> Result<Outcome, SourceError> {
        match list_answer(answer, &self.caller.place(&self.request), (&self.name, &self.stream), &[]).await {
            Ok((rows, _)) if rows.is_empty() => Ok(Outcome::Missing),
            Ok((rows, _)) => Ok(Outcome::Rows(rows)),
            Err(error) => {
                let message = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                Ok(Outcome::Fault(Fault { code: "answer-unreadable", column: None, message }))
            }
        }
    }
}

/// A fault that a status tells.
pub(crate) fn refused(code: &'static str, status: StatusCode) -> Fault {
    Fault { code, column: None, message: format!("the service answered {status}") }
}

/// A fault of a rule that does not hold.
pub(crate) fn unlike(code: &'static str, rule: &crate::config::Rule, said: Option<&str>) -> Fault {
    let message = format!("{} is {}, not {}", rule.path, shown(said), rule.equals.0.join(" or "));
    Fault { code, column: None, message }
}
