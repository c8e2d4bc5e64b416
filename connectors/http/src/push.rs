//! Follows a stream by submitting each key once, and asking after its ticket until it is done.
//!
//! A ticket is remembered as `seconds:ticket`, with the time of its submission. It is in the checkpoint before it is asked after for the first time, so
//! that a run goes on with it; a submission whose ticket did not become durable is made again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use hub_sdk::{Ended, SourceError};

use crate::asked::Entry;
use crate::config::Push;
use crate::evidence::sha256;
use crate::keyed::{FLUSH, Keyed, Outcome, now_s};
use crate::lookup::{Asker, refused, unlike};
use crate::rows::Fault;
use crate::template::Values;

/// Follows a stream of submissions.
pub(crate) struct Submissions {
    keyed: Keyed,
    settings: Arc<Push>,
    /// Makes the word of a submission the system's and the stream's own.
    salt: String,
}

/// What came of one request.
enum Step {
    /// The submission was accepted.
    Ticket(String),
    /// It is not done yet.
    Later,
    /// It is done, whatever came of it.
    Done(Outcome),
}

impl Submissions {
    /// Goes on with the tickets that are remembered.
    pub(crate) fn new(keyed: Keyed, settings: Push, system: &str) -> Self {
        let salt = format!("{system}\n{}", keyed.follower.name);
        Self { keyed, settings: Arc::new(settings), salt }
    }

    /// Submits and asks again and again, until an error or until nobody receives.
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
            let poll_s = seconds(self.settings.poll_s);
            let (due, next) = self.keyed.due(now, |entry| match (&entry.ticket, entry.at) {
                (None, 0) => Some(0),
                (Some(_), at) => Some(at.saturating_add(poll_s)),
                (None, _) => None,
            });
            let any_due = !due.is_empty();
            self.step_all(due).await?;
            let is_over = !self.keyed.any_waits();
            self.keyed.complete(is_over).await?;
            wait = if any_due { std::time::Duration::ZERO } else { self.keyed.wait(now, next) };
        }
    }

    async fn step_all(&mut self, keys: Vec<String>) -> Result<(), Ended> {
        let asker = Asker::of(&self.keyed);
        let halted = Arc::new(AtomicBool::new(false));
        let jobs: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let values = self.keyed.values(&key);
                let values = values.with("submission", &sha256(format!("{}\n{key}", self.salt).as_bytes())[..32]);
                (values, self.keyed.asked.get(&key).and_then(|entry| entry.ticket.clone()), key)
            })
            .collect();
        let concurrent = self.keyed.follower.caller.config.rate.concurrent.clamp(1, 64);
        let settings = Arc::clone(&self.settings);
        let mut steps = futures::stream::iter(jobs)
            .map(|(values, ticket, key)| {
                let (asker, halted, settings) = (asker.clone(), Arc::clone(&halted), Arc::clone(&settings));
                async move {
                    if halted.load(Ordering::Relaxed) {
                        return None;
                    }
                    let step = match &ticket {
                        None => submit(&asker, &settings, &values).await,
                        Some(ticket) => poll(&asker, &settings, values, ticket).await,
                    };
                    Some((step, ticket, key))
                }
            })
            .buffer_unordered(concurrent);
        let mut failed = None;
        loop {
            // Answers that are there do not wait for one whose turn comes tomorrow.
            let stepped = match tokio::time::timeout(FLUSH, steps.next()).await {
                Ok(Some(stepped)) => stepped,
                Ok(None) => break,
                Err(_elapsed) => {
                    self.keyed.flush().await?;
                    continue;
                }
            };
            let now = now_s();
            match stepped {
                None => {}
                Some((Ok(Step::Ticket(ticket)), _, key)) => {
                    let ticket = Some(format!("{now}:{ticket}").into());
                    self.keyed.asked.set(&key, Entry { at: now, ticket, rows: Vec::new() });
                    // At once: a submission whose ticket is lost is made again.
                    self.keyed.flush().await?;
                }
                Some((Ok(Step::Later), ticket, key)) => self.keyed.asked.set(&key, Entry { at: now, ticket, rows: Vec::new() }),
                Some((Ok(Step::Done(outcome)), _, key)) => {
                    self.keyed.apply(&key, outcome, now);
                    self.keyed.flush_if_due().await?;
                }
                Some((Err(error), ..)) => {
                    halted.store(true, Ordering::Relaxed);
                    failed = failed.or(Some(error));
                }
            }
        }
        self.keyed.flush().await?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

async fn submit(asker: &Asker, settings: &Push, values: &Values) -> Result<Step, SourceError> {
    let submit = &settings.submit;
    let fault = |fault: Fault| Ok(Step::Done(Outcome::Fault(fault)));
    let answer = asker.answer(&submit.request, values).await?;
    if !answer.status.is_success() {
        return fault(refused("submission-refused", answer.status));
    }
    let rule = submit.success.as_ref();
    let places = [submit.ticket.as_str(), rule.map_or("", |rule| rule.path.as_str())];
    let found = match answer.read(submit.request.format, None, &places).await {
        Ok(found) => found.places,
        Err(message) => return fault(Fault { code: "answer-unreadable", column: None, message }),
    };
    let [ticket, said] = <[_; 2]>::try_from(found).unwrap_or_default();
    if let Some(rule) = rule.filter(|rule| !rule.holds(said.as_deref())) {
        return fault(unlike("submission-refused", rule, said.as_deref()));
    }
    match ticket.filter(|ticket| !ticket.is_empty()) {
        Some(ticket) => Ok(Step::Ticket(ticket)),
        None => {
            let message = format!("the answer of the submission has no ticket at {}", submit.ticket);
            fault(Fault { code: "ticket-missing", column: None, message })
        }
    }
}

async fn poll(asker: &Asker, settings: &Push, values: Values, remembered: &str) -> Result<Step, SourceError> {
    let (since, ticket) = remembered.split_once(':').unwrap_or(("0", remembered));
    let answer = asker.answer(&asker.request, &values.with("ticket", ticket)).await?;
    let is_late = now_s() >= since.parse::<u64>().unwrap_or(0).saturating_add(seconds(settings.give_up_s));
    let later = |why: Fault| if is_late { Step::Done(Outcome::Fault(why)) } else { Step::Later };
    let overdue = |message: String| Fault { code: "not-done-in-time", column: None, message };
    if answer.status.is_server_error() {
        return Ok(later(overdue(format!("the service answered {} to the end", answer.status))));
    }
    if !answer.status.is_success() {
        return Ok(Step::Done(Outcome::Fault(refused("ticket-refused", answer.status))));
    }
    let rule = &settings.done;
    let said = match answer.read(asker.stream.format, None, &[rule.path.as_str()]).await {
        Ok(found) => found.places.into_iter().next().flatten(),
        Err(message) => return Ok(later(Fault { code: "answer-unreadable", column: None, message })),
    };
    if !rule.holds(said.as_deref()) {
        let fault = unlike("not-done-in-time", rule, said.as_deref());
        return Ok(later(fault));
    }
    Ok(Step::Done(match asker.rows(&answer).await? {
        Outcome::Missing => {
            let message = "the last answer has no rows".to_owned();
            Outcome::Fault(Fault { code: "answer-unreadable", column: None, message })
        }
        outcome => outcome,
    }))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of seconds that is more than 0")]
fn seconds(time: f64) -> u64 {
    time.ceil() as u64
}
