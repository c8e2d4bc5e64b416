//! What follows from an error: connectors classify, this page decides.

use std::time::Duration;

use hub_sdk::ErrorKind;

/// What the engine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try again by itself after a back-off.
    Retry,
    /// Say what is wrong and try again now and then: a person mends it at the source, and nobody should have to restart the hub.
    TellAndRetry,
    /// Leave the stream out and go on with the others; look now and then whether it was mended. As [`Action::TellAndRetry`]
    /// where the error names no stream, or no other stream is left.
    Park,
    /// Stop until a person decides.
    Stop,
}

/// The decision for each kind of error.
#[must_use]
pub fn decide(kind: ErrorKind) -> Action {
    match kind {
        ErrorKind::Unreachable | ErrorKind::Throttled => Action::Retry,
        ErrorKind::Denied | ErrorKind::NotPrepared => Action::TellAndRetry,
        ErrorKind::StreamBroken => Action::Park,
        ErrorKind::BadConfig | ErrorKind::PositionLost | ErrorKind::Mismatch | ErrorKind::Defect => Action::Stop,
    }
}

/// Waiting times between attempts: doubling up to a bound, with jitter, so that a hundred systems do not return at once.
#[derive(Clone, Debug)]
pub struct BackOff {
    attempts: u32,
    first: Duration,
    most: Duration,
}

impl BackOff {
    /// Waits from `first` up to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { attempts: 0, first, most }
    }

    /// The next wait; `jitter` in 0..1 is chance, passed in.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.most);
        self.attempts = self.attempts.saturating_add(1);
        doubled.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0))
    }

    /// Progress was made: the next trouble starts small again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_small_after_progress() {
        let mut wait = BackOff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| wait.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        wait.reset();
        assert_eq!(wait.next(0.0), Duration::from_millis(75));
    }

    #[test]
    fn only_a_person_ends_a_lost_position() {
        assert_eq!(decide(ErrorKind::PositionLost), Action::Stop);
        assert_eq!(decide(ErrorKind::Unreachable), Action::Retry);
        assert_eq!(decide(ErrorKind::Denied), Action::TellAndRetry);
    }

    #[test]
    fn a_broken_stream_is_parked() {
        assert_eq!(decide(ErrorKind::StreamBroken), Action::Park);
    }
}
