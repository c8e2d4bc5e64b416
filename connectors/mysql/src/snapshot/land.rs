//! What readers and the follower share while tables are read: who reads what from which place, and how far the log is told.
//!
//! A chunk is read from a view of the server that is no older than what the follower has passed, and the follower does not pass
//! the place of a view until its chunk is handed over. So every change is either in the rows of its chunk or told after them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hub_sdk::Progress;
use hub_sdk::model::StreamName;
use tokio::sync::Notify;

use super::key::{Key, Part};
use super::territory::Territory;

/// All streams of a run.
#[derive(Debug, Default)]
pub(crate) struct Land {
    inner: Mutex<Inner>,
    /// Signalled when a chunk is handed over.
    pub(crate) landed: Notify,
    /// Held while a territory is changed and handed over, so that checkpoints of one partition keep their order.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    plots: Vec<Plot>,
    /// The latest place of which the follower has judged a change.
    passed: u64,
    /// The place up to which everything that is to be told is handed over.
    delivered: u64,
}

#[derive(Debug)]
struct Plot {
    stream: StreamName,
    territory: Territory,
    /// Ends of spans that are being read, with the places of their views once these are open.
    flights: Vec<(Option<Key>, Option<u64>)>,
    rows: u64,
    rows_expected: Option<u64>,
}

/// A span to read.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) plot: usize,
    pub(crate) after: Option<Key>,
    pub(crate) upto: Option<Key>,
}

/// What the follower does with changes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stance {
    /// All are told.
    Tell,
    /// Each is judged by its key.
    Judge,
    /// A chunk that was read before them must be handed over first.
    Wait,
}

impl Land {
    /// Forgets everything, and takes these streams.
    pub(crate) fn settle(&self, streams: Vec<(StreamName, Territory, Option<u64>)>, passed: u64) {
        let mut inner = self.lock();
        let plot = |(stream, territory, rows_expected)| Plot { stream, territory, flights: Vec::new(), rows: 0, rows_expected };
        *inner = Inner { plots: streams.into_iter().map(plot).collect(), passed, delivered: passed };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A span that nobody reads yet.
    pub(crate) fn next_chunk(&self) -> Option<Chunk> {
        let mut inner = self.lock();
        for (plot, of) in inner.plots.iter_mut().enumerate() {
            let spans = of.territory.spans.iter().enumerate();
            let free = |upto: &Option<Key>| of.flights.iter().all(|(flight, _)| flight != upto);
            let found = spans.filter(|(_, span)| span.read.is_none()).find(|(_, span)| free(&span.upto));
            if let Some((index, span)) = found {
                let upto = span.upto.clone();
                let after = index.checked_sub(1).and_then(|before| of.territory.spans[before].upto.clone());
                of.flights.push((upto.clone(), None));
                return Some(Chunk { plot, after, upto });
            }
        }
        None
    }

    /// A view is open at a place. False where the follower has passed it: changes before it were left out, and are not in it.
    pub(crate) fn take_off(&self, chunk: &Chunk, place: u64) -> bool {
        let mut inner = self.lock();
        if place < inner.passed {
            return false;
        }
        if let Some(plot) = inner.plots.get_mut(chunk.plot)
            && let Some(flight) = plot.flights.iter_mut().find(|(upto, _)| *upto == chunk.upto)
        {
            flight.1 = Some(place);
        }
        true
    }

    /// Rows of a chunk up to `key`, or all, are read; gives what the checkpoint says of it.
    pub(crate) fn mark(&self, chunk: &Chunk, key: Option<Key>, place: u64, rows: u64) -> Territory {
        let mut inner = self.lock();
        let delivered = inner.delivered;
        let Some(plot) = inner.plots.get_mut(chunk.plot) else { return Territory::since(place) };
        plot.territory.mark(chunk.upto.as_ref(), key, place, delivered);
        plot.rows += rows;
        plot.territory.clone()
    }

    /// Rows were handed over that no checkpoint knows of.
    pub(crate) fn count(&self, chunk: &Chunk, rows: u64) {
        if let Some(plot) = self.lock().plots.get_mut(chunk.plot) {
            plot.rows += rows;
        }
    }

    /// The chunk is handed over, or given up.
    pub(crate) fn land(&self, chunk: &Chunk) {
        if let Some(plot) = self.lock().plots.get_mut(chunk.plot) {
            plot.flights.retain(|(upto, _)| *upto != chunk.upto);
        }
        self.landed.notify_waiters();
    }

    /// Says that a stream is complete once all of it is read; gives its territory then, once.
    pub(crate) fn complete(&self, plot: usize) -> Option<Territory> {
        let mut inner = self.lock();
        let plot = inner.plots.get_mut(plot)?;
        if plot.territory.complete || !plot.territory.is_read() || !plot.flights.is_empty() {
            return None;
        }
        plot.territory.complete = true;
        Some(plot.territory.clone())
    }

    /// What the follower does with changes at a place. It passes the place with that.
    pub(crate) fn stance(&self, plot: usize, place: u64) -> Stance {
        let mut inner = self.lock();
        inner.passed = inner.passed.max(place);
        let Some(plot) = inner.plots.get_mut(plot) else { return Stance::Tell };
        if plot.territory.spans.is_empty() {
            return Stance::Tell;
        }
        if plot.flights.iter().any(|(_, view)| view.is_some_and(|view| view < place)) {
            return Stance::Wait;
        }
        if plot.territory.complete && place > plot.territory.latest() {
            return Stance::Tell;
        }
        Stance::Judge
    }

    /// Whether a change at a place of a row with this key is told, each in turn.
    pub(crate) fn judge(&self, plot: usize, place: u64, keys: &[Vec<Part>]) -> Vec<bool> {
        let inner = self.lock();
        let territory = inner.plots.get(plot).map(|plot| &plot.territory);
        keys.iter().map(|key| territory.is_none_or(|territory| territory.tells(key, place))).collect()
    }

    /// Everything up to a place is handed over; gives the streams whose places mean nothing from then on.
    pub(crate) fn pass(&self, place: u64) -> Vec<StreamName> {
        let mut inner = self.lock();
        inner.delivered = inner.delivered.max(place);
        let mut settled = Vec::new();
        for plot in &mut inner.plots {
            if plot.territory.complete && !plot.territory.spans.is_empty() && place >= plot.territory.latest() {
                plot.territory.spans.clear();
                settled.push(plot.stream.clone());
            }
        }
        settled
    }

    /// How a truncate at a place meets what was read: whether some spans were read before it, and some after it (or are read now).
    pub(crate) fn around(&self, plot: usize, place: u64) -> (bool, bool) {
        let inner = self.lock();
        let Some(plot) = inner.plots.get(plot).filter(|plot| !plot.territory.spans.is_empty()) else { return (true, false) };
        let before = plot.territory.spans.iter().any(|span| span.read.is_some_and(|read| read < place));
        let after = plot.territory.spans.iter().any(|span| span.read.is_some_and(|read| read >= place));
        (before, after || plot.flights.iter().any(|(_, view)| view.is_some()))
    }

    /// How far each snapshot is.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        let of = |plot: &Plot| {
            let (chunks_done, chunks) = plot.territory.count();
            Progress { stream: plot.stream.to_string(), rows: plot.rows, rows_expected: plot.rows_expected, chunks_done, chunks }
        };
        self.lock().plots.iter().filter(|plot| !plot.territory.complete || plot.rows > 0).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn land() -> Land {
        let land = Land::default();
        let territory = Territory::unread(vec![vec![Part::Number(10)]]);
        land.settle(vec![(StreamName::new("d.t").unwrap(), territory, None)], 5);
        land
    }

    #[test]
    fn a_view_that_the_follower_has_passed_is_not_read_from() {
        let land = land();
        let chunk = land.next_chunk().unwrap();
        assert!(!land.take_off(&chunk, 4));
        assert_eq!(land.stance(0, 7), Stance::Judge);
        assert!(!land.take_off(&chunk, 6));
        assert!(land.take_off(&chunk, 7));
    }

    #[test]
    fn the_follower_waits_for_a_chunk_whose_view_it_would_pass() {
        let land = land();
        let (first, second) = (land.next_chunk().unwrap(), land.next_chunk().unwrap());
        assert!(land.next_chunk().is_none());
        assert!(land.take_off(&first, 20) && land.take_off(&second, 30));
        assert_eq!(land.stance(0, 20), Stance::Judge);
        assert_eq!(land.stance(0, 21), Stance::Wait);
        land.mark(&first, None, 20, 1);
        land.land(&first);
        assert_eq!(land.complete(0), None);
        assert_eq!(land.stance(0, 21), Stance::Judge);
        assert_eq!(land.judge(0, 21, &[vec![Part::Number(1)], vec![Part::Number(11)]]), [true, false]);
        land.mark(&second, None, 30, 1);
        land.land(&second);
        assert!(land.complete(0).is_some() && land.complete(0).is_none());
        assert_eq!(land.stance(0, 31), Stance::Tell);
        assert_eq!(land.pass(29), []);
        assert_eq!(land.pass(30), [StreamName::new("d.t").unwrap()]);
    }
}
