//! What following any stream needs: its exchanges, its rows that wait, and the deliveries it makes.

use std::sync::Arc;

use hub_sdk::model::{Checkpoint, StreamName};
use hub_sdk::records::Fields;
use hub_sdk::{BatchLimits, Delivery, Ended, ErrorKind, Look, Looks, Outlet, SourceError};
use serde_json::{Value, json};

use crate::answer::{Answer, Found};
use crate::auth::shown;
use crate::caller::Caller;
use crate::config::HttpStream;
use crate::connector::Board;
use crate::rows::Telling;
use crate::site::Budget;
use crate::trail::Trail;

/// What following any stream needs.
pub(crate) struct Follower {
    pub(crate) caller: Arc<Caller>,
    pub(crate) name: StreamName,
    pub(crate) stream: Arc<HttpStream>,
    pub(crate) limits: BatchLimits,
    pub(crate) outlet: Outlet,
    pub(crate) looks: Looks,
    pub(crate) telling: Telling,
    pub(crate) trail: Arc<Trail>,
    pub(crate) board: Arc<Board>,
    /// The requests of a day that the checkpoint knows of.
    pub(crate) counted: (i64, u32),
}

impl Follower {
    /// How often the stream may ask beside what its system may.
    pub(crate) fn budget(&self) -> Budget {
        let (per_minute, per_day) = self.stream.budget();
        Budget { per_minute, per_day }
    }

    fn counts(&self) -> bool {
        self.caller.config.rate.per_day.is_some() || self.stream.budget().1.is_some()
    }

    /// Takes up what the checkpoint says of the day's requests.
    pub(crate) fn restore_budget(&mut self, from: &Checkpoint) {
        let said = from.get(&counter(&self.name));
        let number = |member: &str| said.and_then(|said| said.get(member)).and_then(Value::as_i64);
        if let (Some(day), Some(used)) = (number("day"), number("used")) {
            self.counted = (day, u32::try_from(used).unwrap_or(u32::MAX));
            self.caller.site.restore(&self.name, day, self.counted.1);
        }
    }

    /// A delivery of the rows and the evidence that wait; the checkpoint is the caller's to complete.
    pub(crate) fn delivery(&mut self, look: &mut Look) -> Result<Delivery, SourceError> {
        let mut delivery = Delivery::new(Vec::new(), Checkpoint::empty());
        if !self.telling.is_empty() {
            delivery.batches = self.telling.batches(&self.name, look).map_err(|error| self.defect(error.to_string()))?;
            self.looks.save(&mut delivery.checkpoint);
        }
        self.account(&mut delivery);
        Ok(delivery)
    }

    /// Adds the evidence and the day's requests to a delivery.
    pub(crate) fn account(&mut self, delivery: &mut Delivery) {
        delivery.evidence = self.trail.take();
        let used = self.caller.site.used(&self.name);
        if self.counts() && used != self.counted {
            self.counted = used;
            delivery.checkpoint.set(counter(&self.name), json!({"day": used.0, "used": used.1}));
        }
    }

    /// Hands over a delivery that says something.
    pub(crate) async fn deliver(&self, delivery: Delivery) -> Result<(), Ended> {
        let is_empty =
            delivery.batches.is_empty() && delivery.checkpoint.is_empty() && delivery.evidence.is_empty() && delivery.completed.is_empty();
        if !is_empty {
            self.outlet.deliver(delivery).await?;
        }
        Ok(())
    }

    /// The word that changes are followed now.
    pub(crate) async fn say_following(&self) -> Result<(), Ended> {
        Ok(self.outlet.deliver(Delivery::new(Vec::new(), Checkpoint::empty())).await?)
    }

    /// Before a run ends by an error: the evidence of the exchanges that led to it is published all the same.
    pub(crate) async fn end(&mut self, ended: Ended) -> Ended {
        let Ended::Failed(error) = ended else { return ended };
        let mut delivery = Delivery::new(Vec::new(), Checkpoint::empty());
        self.account(&mut delivery);
        match self.deliver(delivery).await {
            Ok(()) => Ended::Failed(error),
            Err(ended) => ended,
        }
    }

    /// An error of this stream alone.
    pub(crate) fn broken(&self, why: impl Into<String>, advice: &str) -> SourceError {
        SourceError::new(ErrorKind::StreamBroken, "reading an answer").because(why.into()).advise(advice).of(self.name.clone())
    }

    pub(crate) fn defect(&self, why: impl Into<String>) -> SourceError {
        SourceError::new(ErrorKind::Defect, "reading an answer").because(why.into()).of(self.name.clone())
    }
}

/// The partition that keeps a stream's requests of a day.
pub(crate) fn counter(stream: &StreamName) -> String {
    format!("asked-today/{stream}")
}

/// The rows of an answer of a list, and what stands at `places`; or why it is none.
pub(crate) async fn list_answer(
    answer: &Answer,
    place: &str,
    (name, stream): (&StreamName, &HttpStream),
    places: &[&str],
) -> Result<(Vec<Fields>, Vec<Option<String>>), SourceError> {
    let broken = |why: String, advice: &str| {
        SourceError::new(ErrorKind::StreamBroken, format!("reading the answer of {place}")).because(why).advise(advice).of(name.clone())
    };
    let status = answer.status;
    if status.is_redirection() {
        let to = answer.headers.get(reqwest::header::LOCATION).and_then(|to| to.to_str().ok());
        let to = to.and_then(|to| to.split('?').next()).unwrap_or("an address it does not tell");
        return Err(broken(
            format!("the service answered {status} and points to {to}"),
            "mend `base_url` or `path`: redirects are not followed",
        ));
    }
    if !status.is_success() {
        return Err(broken(format!("the service answered {status}"), "mend `path`, `query` or the body of the stream"));
    }
    let rule = stream.success.as_ref();
    let mut wanted = places.to_vec();
    wanted.extend(rule.map(|rule| rule.path.as_str()));
    let Found { places: mut found, rows } = answer
        .read(stream.format, Some(&stream.rows), &wanted)
        .await
        .map_err(|why| broken(why, "mend `format`, or see what the service answers by `hub preview`"))?;
    if let Some(rule) = rule {
        let said = found.pop().flatten();
        if !rule.holds(said.as_deref()) {
            let why = format!("{} is {}, not {}", rule.path, shown(said.as_deref()), rule.equals.0.join(" or "));
            return Err(broken(why, "see what the service means by it; mend the request, or `success`"));
        }
    }
    let rows = rows.map_err(|error| broken(error.to_string(), "mend `rows`"))?;
    Ok((rows, found))
}
