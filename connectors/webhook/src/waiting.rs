//! Requests whose rows are handed over and not durable yet: each is answered when its delivery is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// What a sender is told of a request that is in Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Rows that are published.
    pub(crate) accepted: u32,
    /// Rows that are in the rejects topic.
    pub(crate) rejected: u32,
    /// Rows that were published before.
    pub(crate) duplicates: u32,
}

/// One request that waits. Dropped unanswered, it says that its rows are not known to be durable.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// What it is told in the end.
    pub(crate) told: Told,
    /// Whom to tell; nobody listens where the sender went away.
    pub(crate) answer: oneshot::Sender<Told>,
}

impl Waiter {
    pub(crate) fn tell(self) {
        let _gone_away = self.answer.send(self.told);
    }
}

/// Requests by the delivery they wait for. Outlives the runs: an acknowledgement may come after a capture has ended.
/// Locked a few times per delivery.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    durable: u64,
    by_sequence: BTreeMap<u64, Vec<Waiter>>,
}

impl Waiting {
    /// A run begins after that delivery: requests at or before it are durable, those of the run before behind it never will be.
    pub(crate) fn begin(&self, durable: u64) {
        let mut held = self.held();
        let lost = held.by_sequence.split_off(&durable.saturating_add(1));
        let settled = std::mem::take(&mut held.by_sequence);
        held.durable = durable;
        drop(held);
        drop(lost);
        settled.into_values().flatten().for_each(Waiter::tell);
    }

    /// The last delivery that is known to be durable.
    pub(crate) fn durable(&self) -> u64 {
        self.held().durable
    }

    /// Requests wait for a delivery.
    pub(crate) fn wait(&self, sequence: u64, waiters: Vec<Waiter>) {
        let mut held = self.held();
        if sequence > held.durable {
            return held.by_sequence.entry(sequence).or_default().extend(waiters);
        }
        drop(held);
        waiters.into_iter().for_each(Waiter::tell);
    }

    /// Everything up to that delivery is durable.
    pub(crate) fn settle(&self, durable: u64) {
        let mut held = self.held();
        if durable <= held.durable {
            return;
        }
        held.durable = durable;
        let later = held.by_sequence.split_off(&durable.saturating_add(1));
        let settled = std::mem::replace(&mut held.by_sequence, later);
        drop(held);
        settled.into_values().flatten().for_each(Waiter::tell);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn waiter() -> (Waiter, oneshot::Receiver<Told>) {
        let (answer, told) = oneshot::channel();
        (Waiter { told: Told { accepted: 1, ..Told::default() }, answer }, told)
    }

    #[test]
    fn a_request_is_told_when_its_delivery_is_durable_and_not_before() {
        let waiting = Waiting::default();
        let ((first, mut one), (second, mut two), (late, mut three)) = (waiter(), waiter(), waiter());
        waiting.wait(5, vec![first]);
        waiting.wait(6, vec![second]);
        waiting.settle(4);
        assert!(one.try_recv().is_err());
        waiting.settle(5);
        assert!(one.try_recv().is_ok() && two.try_recv().is_err());
        waiting.wait(5, vec![late]);
        assert!(three.try_recv().is_ok(), "its delivery was durable already");
    }

    #[test]
    fn a_new_run_tells_what_became_durable_and_lets_the_rest_go() {
        let waiting = Waiting::default();
        let ((first, mut one), (second, mut two)) = (waiter(), waiter());
        waiting.wait(5, vec![first]);
        waiting.wait(6, vec![second]);
        waiting.begin(5);
        assert!(one.try_recv().is_ok());
        assert_eq!(two.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
