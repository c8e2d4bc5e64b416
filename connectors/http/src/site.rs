//! One service as all readers of this process see it: its pace, its breaker and its token outlive a run, and a probe shares them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_sdk::model::StreamName;
use tokio::sync::Semaphore;

use crate::auth::Login;
use crate::breaker::Breaker;
use crate::config::{HttpConfig, Rate};

const MINUTE: Duration = Duration::from_secs(60);
const DAY_S: i64 = 86_400;

/// One service.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) breaker: Arc<Breaker>,
    /// Requests at the same time.
    pub(crate) slots: Semaphore,
    /// One login at a time.
    pub(crate) login: tokio::sync::Mutex<Login>,
    pace: Mutex<Pace>,
}

/// What was asked lately.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The service asked for a pause.
    hold_until: Option<Instant>,
    minute: VecDeque<Instant>,
    streams: BTreeMap<StreamName, Own>,
}

#[derive(Debug, Default)]
struct Own {
    minute: VecDeque<Instant>,
    day: i64,
    used: u32,
    answered: Option<Instant>,
}

/// How often one stream may ask beside what its system may.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) per_minute: Option<u32>,
    pub(crate) per_day: Option<u32>,
}

impl Site {
    /// The service of a system, the same for all who log in alike. There are as many as systems that are configured.
    pub(crate) fn of(system: &str, config: &HttpConfig) -> Arc<Self> {
        type Sites = Mutex<HashMap<(String, String, [u8; 32], usize), Arc<Site>>>;
        static SITES: LazyLock<Sites> = LazyLock::new(Mutex::default);
        let account = config.auth.as_ref().map_or([0; 32], crate::config::Auth::fingerprint);
        let slots = config.rate.concurrent.clamp(1, 64);
        let name = (system.to_owned(), config.base_url.clone(), account, slots);
        let mut sites = SITES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sites.entry(name).or_insert_with(|| {
            Arc::new(Self { breaker: Arc::default(), slots: Semaphore::new(slots), login: Default::default(), pace: Mutex::default() })
        }))
    }

    fn pace<T>(&self, look: impl FnOnce(&mut Pace) -> T) -> T {
        look(&mut self.pace.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a stream may make one more request, which is counted.
    pub(crate) async fn take(&self, stream: &StreamName, rate: &Rate, budget: Budget) {
        let mut has_told = false;
        loop {
            let taken = self.pace(|pace| pace.take(stream, rate, budget, Instant::now(), unix_s()));
            let Err(wait) = taken else { return };
            if wait > Duration::from_secs(30) && !has_told {
                has_told = true;
                tracing::warn!(%stream, wait_s = wait.as_secs(), "waiting, for no more requests may be made");
            }
            // Not longer than a minute at once: clocks are set, and laptops sleep.
            tokio::time::sleep(wait.clamp(Duration::from_millis(5), MINUTE)).await;
        }
    }

    /// The service asked for a pause.
    pub(crate) fn hold(&self, wait: Duration) {
        self.pace(|pace| pace.hold_until = pace.hold_until.max(Some(Instant::now() + wait)));
    }

    /// The service answered a stream.
    pub(crate) fn answered(&self, stream: &StreamName) {
        self.pace(|pace| pace.streams.entry(stream.clone()).or_default().answered = Some(Instant::now()));
    }

    /// Whether it answered other streams since a time.
    pub(crate) fn others_answered(&self, stream: &StreamName, since: Instant) -> bool {
        self.pace(|pace| pace.streams.iter().any(|(name, own)| name != stream && own.answered.is_some_and(|at| at >= since)))
    }

    /// What a checkpoint says of the requests of a stream's day.
    pub(crate) fn restore(&self, stream: &StreamName, day: i64, used: u32) {
        self.pace(|pace| {
            let own = pace.streams.entry(stream.clone()).or_default();
            if (own.day, own.used) < (day, used) {
                (own.day, own.used) = (day, used);
            }
        });
    }

    /// The day that a stream asked on last, and how often it did.
    pub(crate) fn used(&self, stream: &StreamName) -> (i64, u32) {
        self.pace(|pace| pace.streams.get(stream).map_or((0, 0), |own| (own.day, own.used)))
    }

    /// Requests of all streams of today.
    pub(crate) fn used_today(&self, rate: &Rate) -> u32 {
        self.pace(|pace| pace.used_of(day_of(unix_s(), rate)))
    }
}

impl Pace {
    fn used_of(&self, day: i64) -> u32 {
        self.streams.values().filter(|own| own.day == day).map(|own| own.used).sum()
    }

    /// Counts one more request, or says how long there must be none.
    fn take(&mut self, stream: &StreamName, rate: &Rate, budget: Budget, now: Instant, unix: i64) -> Result<(), Duration> {
        let day = day_of(unix, rate);
        let used_today = self.used_of(day);
        let own = self.streams.entry(stream.clone()).or_default();
        if own.day != day {
            (own.day, own.used) = (day, 0);
        }
        let mut wait = self.hold_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let is_used_up = |limit: Option<u32>, used: u32| limit.is_some_and(|limit| used >= limit);
        if is_used_up(rate.per_day, used_today) || is_used_up(budget.per_day, own.used) {
            let left = DAY_S - (unix + i64::from(rate.utc_offset_h) * 3_600).rem_euclid(DAY_S);
            wait = wait.max(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
        }
        wait = wait.max(window(&mut self.minute, rate.per_minute, now)).max(window(&mut own.minute, budget.per_minute, now));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        own.used = own.used.saturating_add(1);
        if budget.per_minute.is_some() {
            own.minute.push_back(now);
        }
        if rate.per_minute.is_some() {
            self.minute.push_back(now);
        }
        Ok(())
    }
}

/// How long until one more fits into the last 60 seconds.
fn window(taken: &mut VecDeque<Instant>, limit: Option<u32>, now: Instant) -> Duration {
    while taken.front().is_some_and(|first| now.saturating_duration_since(*first) >= MINUTE) {
        taken.pop_front();
    }
    match (limit, taken.front()) {
        (Some(limit), Some(first)) if taken.len() >= limit as usize => MINUTE.saturating_sub(now.saturating_duration_since(*first)),
        _ => Duration::ZERO,
    }
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> i64 {
    hub_sdk::now_micros().div_euclid(1_000_000)
}

fn day_of(unix: i64, rate: &Rate) -> i64 {
    (unix + i64::from(rate.utc_offset_h) * 3_600).div_euclid(DAY_S)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).unwrap()
    }

    #[test]
    fn a_minute_has_no_more_requests_than_it_may() {
        let rate = Rate { per_minute: Some(2), ..Rate::default() };
        let (mut pace, now, none) = (Pace::default(), Instant::now(), Budget::default());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(pace.take(&stream("a"), &rate, none, at(0), 0), Ok(()));
        assert_eq!(pace.take(&stream("b"), &rate, none, at(20), 0), Ok(()));
        assert_eq!(pace.take(&stream("a"), &rate, none, at(30), 0), Err(Duration::from_secs(30)));
        assert_eq!(pace.take(&stream("a"), &rate, none, at(60), 0), Ok(()));
        assert_eq!(pace.take(&stream("a"), &rate, none, at(61), 0), Err(Duration::from_secs(19)));
    }

    #[test]
    fn a_day_begins_where_the_service_is_and_is_shared_by_all_streams() {
        let rate = Rate { per_day: Some(3), utc_offset_h: 7, ..Rate::default() };
        let own = Budget { per_day: Some(1), ..Budget::default() };
        let (mut pace, now) = (Pace::default(), Instant::now());
        // 16:59:50 UTC is ten seconds before midnight in Vietnam.
        let evening = 17 * 3_600 - 10;
        assert_eq!(pace.take(&stream("a"), &rate, own, now, evening), Ok(()));
        assert_eq!(pace.take(&stream("a"), &rate, own, now, evening), Err(Duration::from_secs(10)));
        for _ in 0..2 {
            assert_eq!(pace.take(&stream("b"), &rate, Budget::default(), now, evening), Ok(()));
        }
        assert_eq!(pace.take(&stream("c"), &rate, own, now, evening), Err(Duration::from_secs(10)), "the system's budget is used up");
        assert_eq!(pace.take(&stream("a"), &rate, own, now, evening + 10), Ok(()));
        assert_eq!(pace.used_of(day_of(evening + 10, &rate)), 1);
    }

    #[test]
    fn a_pause_that_the_service_asks_for_holds_for_everybody() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.hold_until = Some(now + MINUTE);
        assert_eq!(pace.take(&stream("a"), &Rate::default(), Budget::default(), now, 0), Err(MINUTE));
        assert_eq!(pace.take(&stream("a"), &Rate::default(), Budget::default(), now + MINUTE, 0), Ok(()));
    }
}
