//! How long to wait before a request is made again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::config::Retry;

/// Longest `Retry-After` that is believed: what is longer is a mistake, or as good as for ever.
const LONGEST: Duration = Duration::from_secs(86_400);

impl Retry {
    /// Time before the attempt after so many that failed. `chance` is from 0 to 1.
    pub(crate) fn pause(&self, failed: u32, chance: f64) -> Duration {
        let doubled = self.first_s * 2f64.powi(i32::try_from(failed.saturating_sub(1)).unwrap_or(30).min(30));
        Duration::from_secs_f64(doubled.min(self.longest_s).max(0.0) * (1.0 - chance.clamp(0.0, 1.0) / 2.0))
    }
}

/// What `Retry-After` asks for: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.with_timezone(&Utc) - now).to_std().unwrap_or_default(),
    };
    Some(wait.min(LONGEST))
}

/// A number from 0 to 1 by chance.
pub(crate) fn chance() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u64_pair().0 >> 12;
    #[allow(clippy::cast_precision_loss, reason = "52 bits fit")]
    let chance = bits as f64 / (1u64 << 52) as f64;
    chance
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_shortened_by_chance() {
        let retry = Retry { attempts: 9, first_s: 1.0, longest_s: 5.0 };
        let pauses: Vec<_> = (1..=4).map(|failed| retry.pause(failed, 0.0).as_secs_f64()).collect();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 5.0]);
        assert_eq!(retry.pause(2, 1.0).as_secs_f64(), 1.0);
        assert_eq!(retry.pause(400, 0.0).as_secs_f64(), 5.0);
        assert!((0.0..=1.0).contains(&chance()) && chance() != chance());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-26T05:00:00Z").unwrap().with_timezone(&Utc);
        let asked = |text: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now);
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Thu, 26 Nov 2026 05:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(asked("Thu, 26 Nov 2026 04:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("99999999999"), Some(LONGEST));
        assert_eq!(asked("soon"), None);
    }
}
