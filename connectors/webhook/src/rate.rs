//! How many requests a second are let in: one number that moves on, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A rate with a second's worth at once. Times are microseconds of any clock that does not go back.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Microseconds that one request costs.
    cost: u64,
    /// How far ahead of the time the cost may be.
    burst: u64,
    /// The time up to which everything is paid for.
    paid: AtomicU64,
}

impl Rate {
    /// So many requests a second.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are checked to be within 0.001 and a million")]
    pub(crate) fn new(per_second: f64) -> Self {
        let cost = (1e6 / per_second).clamp(1.0, 1e10) as u64;
        Self { cost, burst: cost.max(1_000_000), paid: AtomicU64::new(0) }
    }

    /// Lets a request in, or says how long it should wait.
    pub(crate) fn admit(&self, now: u64) -> Result<(), Duration> {
        let next = |paid: u64| {
            let next = paid.max(now) + self.cost;
            (next <= now + self.burst).then_some(next)
        };
        match self.paid.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(_) => Ok(()),
            Err(paid) => Err(Duration::from_micros(paid.saturating_add(self.cost).saturating_sub(now + self.burst))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_passes_at_once_and_then_one_as_each_is_paid() {
        let rate = Rate::new(10.0);
        let passed = (0..100).filter(|_| rate.admit(1_000_000).is_ok()).count();
        assert_eq!(passed, 10);
        assert_eq!(rate.admit(1_000_000), Err(Duration::from_millis(100)));
        assert_eq!(rate.admit(1_100_000), Ok(()));
        assert!(rate.admit(1_100_000).is_err());
    }

    #[test]
    fn a_rate_below_one_a_second_lets_the_first_in() {
        let rate = Rate::new(0.1);
        assert!(rate.admit(5).is_ok());
        assert_eq!(rate.admit(5), Err(Duration::from_secs(10)));
    }
}
