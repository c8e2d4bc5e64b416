//! Leaves a service alone that fails again and again, and lets a single request find out whether it is back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One service's breaker. Time is passed in.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when nobody is let through; then one is.
    open_until: Option<Instant>,
    is_probing: bool,
    /// What the last failure was.
    why: String,
}

/// For how long nobody is let through, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) left: Duration,
    pub(crate) why: String,
}

/// Leave for one request, whose end must be told; dropped untold it is as if it had never been.
#[derive(Debug)]
pub(crate) struct Leave {
    breaker: Arc<Breaker>,
    is_probe: bool,
}

impl Breaker {
    /// Leave for a request, or how long none is made.
    pub(crate) fn admit(self: &Arc<Self>, now: Instant) -> Result<Leave, Rest> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = state.open_until else { return Ok(Leave { breaker: Arc::clone(self), is_probe: false }) };
        if now < until || state.is_probing {
            let left = until.saturating_duration_since(now).max(Duration::from_millis(100));
            return Err(Rest { left, why: state.why.clone() });
        }
        state.is_probing = true;
        Ok(Leave { breaker: Arc::clone(self), is_probe: true })
    }

    /// How long nobody is let through yet.
    pub(crate) fn rests(&self, now: Instant) -> Option<Rest> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.open_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())?;
        Some(Rest { left, why: state.why.clone() })
    }

    /// Whether nobody is let through, for gauges.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open_until.is_some()
    }
}

impl Leave {
    /// The service answered.
    pub(crate) fn succeeded(self) {
        *self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// It did not.
    pub(crate) fn failed(self, limit: u32, rest: Duration, now: Instant, why: String) {
        let mut state = self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        state.why = why;
        if self.is_probe || (state.failures >= limit && state.open_until.is_none()) {
            state.open_until = Some(now + rest);
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner).is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const REST: Duration = Duration::from_secs(60);

    #[test]
    fn it_opens_after_failures_on_end_and_a_single_probe_closes_it() {
        let (breaker, now) = (Arc::new(Breaker::default()), Instant::now());
        breaker.admit(now).unwrap().failed(2, REST, now, String::new());
        breaker.admit(now).unwrap().succeeded();
        breaker.admit(now).unwrap().failed(2, REST, now, String::new());
        assert!(!breaker.is_open(), "a success begins the count anew");
        breaker.admit(now).unwrap().failed(2, REST, now, String::new());
        assert_eq!(breaker.admit(now).unwrap_err().left, REST);
        let later = now + REST;
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err(), "one at a time");
        probe.failed(2, REST, later, "502".to_owned());
        assert_eq!(breaker.admit(later).unwrap_err(), Rest { left: REST, why: "502".to_owned() }, "it rests again");
        let latest = later + REST;
        drop(breaker.admit(latest).unwrap());
        breaker.admit(latest).unwrap().succeeded();
        assert!(breaker.admit(latest).is_ok() && !breaker.is_open());
    }
}
