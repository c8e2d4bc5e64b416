//! Streams that are parked while the others of their system go on, and when it is looked whether they were mended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::policy::BackOff;
use crate::spec::{Desired, StreamSpec};

/// How long a stream that broke is left alone at first …
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// … and at most: each return restarts the capture of the others, so one that breaks again and again returns seldom.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Between two looks whether a stream was mended. They disturb nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Why a stream is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is broken at its source: it is not read. It comes back as an added stream, with a snapshot of its own.
    Broken,
    /// The registry refuses its schema: it is read, and its rows go to the rejects topic raw.
    Refused,
}

/// One parked stream.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    pub(crate) trouble: Trouble,
    /// In words, with what to do.
    pub(crate) why: String,
    look_at: Instant,
}

/// The parked streams of a system. Nothing of it is kept over a restart of the hub: what is still broken then breaks again.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    streams: BTreeMap<String, Parked>,
    waits: BTreeMap<String, (BackOff, Instant)>,
}

impl Parking {
    /// Parks a stream that is broken at its source. False where no other would be left to go on.
    pub(crate) fn broken(&mut self, desired: &Desired, stream: &str, why: String, (now, jitter): (Instant, f64)) -> bool {
        if !self.running(desired).any(|other| other.source != stream) {
            return false;
        }
        let (wait, since) = self.waits.entry(stream.to_owned()).or_insert_with(|| (BackOff::new(FIRST_WAIT, LONGEST_WAIT), now));
        if now.duration_since(*since) > LONGEST_WAIT * 2 {
            wait.reset();
        }
        *since = now;
        let look_at = now + wait.next(jitter);
        self.streams.insert(stream.to_owned(), Parked { trouble: Trouble::Broken, why, look_at });
        true
    }

    /// Parks a stream whose schema is refused.
    pub(crate) fn refused(&mut self, stream: &str, why: String, now: Instant) {
        self.streams.insert(stream.to_owned(), Parked { trouble: Trouble::Refused, why, look_at: now + LOOK_AGAIN });
    }

    /// Still in trouble: looked at again later.
    pub(crate) fn still(&mut self, stream: &str, why: String, now: Instant) {
        if let Some(parked) = self.streams.get_mut(stream) {
            parked.why = why;
            parked.look_at = now + LOOK_AGAIN;
        }
    }

    /// Lets a stream run again.
    pub(crate) fn release(&mut self, stream: &str) {
        self.streams.remove(stream);
    }

    /// Lets all run again: none was left to go on, so none is disturbed by returns.
    pub(crate) fn release_all(&mut self) {
        self.streams.clear();
        self.waits.clear();
    }

    /// The parked stream that is to be looked at next, and when.
    pub(crate) fn next(&self) -> Option<(String, Instant)> {
        let next = self.streams.iter().min_by_key(|(_, parked)| parked.look_at)?;
        Some((next.0.clone(), next.1.look_at))
    }

    /// Why a stream is parked, where it is.
    pub(crate) fn get(&self, stream: &str) -> Option<&Parked> {
        self.streams.get(stream)
    }

    /// The system without the streams that are not read.
    pub(crate) fn without_broken(&self, desired: &Desired) -> Desired {
        let streams = self.running(desired).cloned().collect();
        let mut running = desired.clone();
        running.spec.streams = streams;
        running
    }

    fn running<'a>(&'a self, desired: &'a Desired) -> impl Iterator<Item = &'a StreamSpec> {
        let is_broken = |stream: &str| self.streams.get(stream).is_some_and(|parked| parked.trouble == Trouble::Broken);
        desired.spec.streams.iter().filter(move |stream| !is_broken(&stream.source))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    fn desired(streams: &[&str]) -> Desired {
        let stream = |name: &&str| json!({"source": name, "entity": "e.E", "key": ["k"], "map": {"k": "k"}});
        let streams: Vec<_> = streams.iter().map(stream).collect();
        serde_json::from_value(json!({
            "spec": {"system": "s", "connector": "postgres", "streams": streams}, "schemas": {}, "codes": {}, "directory": "/"
        }))
        .unwrap()
    }

    fn names(desired: &Desired) -> Vec<&str> {
        desired.spec.streams.iter().map(|stream| stream.source.as_str()).collect()
    }

    #[test]
    fn a_broken_stream_is_left_out_and_a_refused_one_is_read_on() {
        let (all, now) = (desired(&["a", "b", "c"]), Instant::now());
        let mut parking = Parking::default();
        assert!(parking.broken(&all, "a", "gone".into(), (now, 1.0)));
        parking.refused("b", "incompatible".into(), now);
        assert_eq!(names(&parking.without_broken(&all)), ["b", "c"]);
        parking.release("a");
        assert_eq!(names(&parking.without_broken(&all)), ["a", "b", "c"]);
    }

    #[test]
    fn the_last_stream_is_not_parked() {
        let (all, now) = (desired(&["a", "b"]), Instant::now());
        let mut parking = Parking::default();
        assert!(parking.broken(&all, "a", "gone".into(), (now, 1.0)));
        assert!(!parking.broken(&all, "b", "gone".into(), (now, 1.0)));
        assert_eq!(names(&parking.without_broken(&all)), ["b"]);
    }

    #[test]
    fn a_stream_that_breaks_again_and_again_returns_seldom() {
        let all = desired(&["a", "b"]);
        let mut now = Instant::now();
        let mut parking = Parking::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            parking.broken(&all, "a", "gone".into(), (now, 1.0));
            let (_, at) = parking.next().unwrap();
            waits.push((at - now).as_secs());
            parking.release("a");
            now = at;
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        now += LONGEST_WAIT * 3;
        parking.broken(&all, "a", "gone".into(), (now, 1.0));
        assert_eq!(parking.next().unwrap().1 - now, FIRST_WAIT, "it held for long: the next trouble is another one");
    }
}
