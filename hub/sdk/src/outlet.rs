//! The way out of a connector: deliveries through a queue bounded in bytes, under one budget for the process.

use std::sync::Arc;

use hub_model::{ChangeBatch, Checkpoint, StreamName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::backlog::{Backlog, Place};
use crate::{Evidence, SourceError};

/// What a connector hands over at once: batches of one or more streams, and the checkpoint that holds once all of them
/// are durable. A delivery without batches only moves the checkpoint; an empty one says that changes are followed now.
#[derive(Debug)]
pub struct Delivery {
    /// Batches, at most one stream each; within one stream in order.
    pub batches: Vec<ChangeBatch>,
    /// The partitions that this delivery moves.
    pub checkpoint: Checkpoint,
    /// Streams all of whose present rows are handed over with this delivery: what their topics hold beside those rows and
    /// later changes is gone at the source. Told once a snapshot, with its last rows (or without, where there are none).
    pub completed: Vec<StreamName>,
    /// Exchanges that led to it, published to the audit topic in the same transaction; empty unless the configuration asks.
    pub evidence: Vec<Evidence>,
}

impl Delivery {
    /// Batches and the checkpoint behind them.
    #[must_use]
    pub fn new(batches: Vec<ChangeBatch>, checkpoint: Checkpoint) -> Self {
        Self { batches, checkpoint, completed: Vec::new(), evidence: Vec::new() }
    }

    /// The same, with the streams all of whose present rows are handed over with it.
    #[must_use]
    pub fn completing(self, completed: Vec<StreamName>) -> Self {
        Self { completed, ..self }
    }
}

/// Bytes that all queues of the process may hold together.
#[derive(Clone, Debug)]
pub struct Budget {
    kibibytes: Arc<Semaphore>,
    total: u32,
}

/// Part of the budget, given back when dropped. It travels with the rows until they are durable.
#[derive(Debug)]
pub struct Permit {
    _held: OwnedSemaphorePermit,
    /// The delivery's place in the backlog: it waits for as long as its memory is held.
    _place: Option<Place>,
}

/// The receiving side is gone: the connector should end quietly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outlet is shut")]
pub struct Shut;

/// How a run ends before its time, within a connector: one `?` serves both.
#[derive(Debug)]
pub enum Ended {
    /// Nobody receives any more.
    Shut,
    /// An error.
    Failed(SourceError),
}

impl From<Shut> for Ended {
    fn from(_: Shut) -> Self {
        Self::Shut
    }
}

impl From<SourceError> for Ended {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

impl Budget {
    /// A budget of so many bytes (at least 1 KiB).
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / 1024).unwrap_or(u32::MAX / 2).max(1);
        Self { kibibytes: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits for room. A request larger than the whole budget takes all of it, so that one huge batch still passes.
    pub async fn take(&self, bytes: usize) -> Permit {
        let wanted = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.total);
        match Arc::clone(&self.kibibytes).acquire_many_owned(wanted).await {
            Ok(held) => Permit { _held: held, _place: None },
            // The semaphore is never closed; waiting for ever is the only honest answer if it were.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Bytes that may be in use.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total as usize * 1024
    }

    /// Bytes in use now.
    #[must_use]
    pub fn used(&self) -> usize {
        (self.total as usize - self.kibibytes.available_permits().min(self.total as usize)) * 1024
    }
}

/// Where a connector puts its deliveries. Clones share the queue (parallel snapshot readers).
#[derive(Clone, Debug)]
pub struct Outlet {
    budget: Budget,
    backlog: Backlog,
    queue: mpsc::Sender<(Delivery, Permit)>,
}

/// An outlet under `budget` and the queue it fills, at most `depth` deliveries deep.
#[must_use]
pub fn outlet(budget: Budget, depth: usize) -> (Outlet, mpsc::Receiver<(Delivery, Permit)>) {
    outlet_into(budget, depth, Backlog::default())
}

/// The same, with every delivery in `backlog` from the moment it is handed over until its [`Permit`] is dropped.
#[must_use]
pub fn outlet_into(budget: Budget, depth: usize, backlog: Backlog) -> (Outlet, mpsc::Receiver<(Delivery, Permit)>) {
    let (queue, deliveries) = mpsc::channel(depth.max(1));
    (Outlet { budget, backlog, queue }, deliveries)
}

impl Outlet {
    /// Hands over a delivery, waiting for room.
    ///
    /// # Errors
    /// [`Shut`] when nobody receives any more.
    pub async fn deliver(&self, delivery: Delivery) -> Result<(), Shut> {
        let bytes = delivery.batches.iter().map(ChangeBatch::bytes).sum::<usize>();
        let place = self.backlog.enter(&delivery.batches);
        let permit = tokio::select! {
            permit = self.budget.take(bytes) => Permit { _place: Some(place), ..permit },
            () = self.queue.closed() => return Err(Shut),
        };
        self.queue.send((delivery, permit)).await.map_err(|_| Shut)
    }

    /// Waits between two looks at a source.
    ///
    /// # Errors
    /// [`Shut`], at once, when nobody receives any more.
    pub async fn pause(&self, time: std::time::Duration) -> Result<(), Shut> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.queue.closed() => Err(Shut),
        }
    }

    /// Returns when nobody receives any more.
    pub async fn shut(&self) {
        self.queue.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_budget_makes_the_sender_wait_and_a_dropped_permit_lets_it_on() {
        let budget = Budget::new(4096);
        let held = budget.take(10_000).await;
        assert_eq!(budget.used(), 4096);
        let waiting = budget.take(1);
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(held);
        assert!(futures::poll!(waiting.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn a_delivery_waits_from_its_hand_over_until_its_permit_is_dropped() {
        let backlog = Backlog::default();
        let budget = Budget::new(1024);
        let (outlet, mut deliveries) = outlet_into(budget.clone(), 1, backlog.clone());
        let full = budget.take(1024).await;
        let empty = || Delivery::new(Vec::new(), Checkpoint::empty());
        let mut waiting = Box::pin(outlet.deliver(empty()));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        let later = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let unsettled = backlog.unsettled(later);
        assert_eq!(unsettled.deliveries, 1, "one that waits for room counts too");
        assert!(unsettled.waited >= std::time::Duration::from_secs(5));
        drop(full);
        assert_eq!(waiting.await, Ok(()));
        let received = deliveries.recv().await;
        assert_eq!(backlog.unsettled(later).deliveries, 1);
        drop(received);
        assert_eq!(backlog.unsettled(later), crate::Unsettled::default());
    }

    #[tokio::test]
    async fn a_delivery_that_is_given_up_waits_no_more() {
        let backlog = Backlog::default();
        let (outlet, deliveries) = outlet_into(Budget::new(1024), 1, backlog.clone());
        drop(deliveries);
        let empty = Delivery::new(Vec::new(), Checkpoint::empty());
        assert_eq!(outlet.deliver(empty).await, Err(Shut));
        assert_eq!(backlog.unsettled(std::time::Instant::now()).deliveries, 0);
    }

    #[tokio::test]
    async fn a_shut_outlet_ends_the_sender() {
        let (outlet, deliveries) = outlet(Budget::new(1 << 20), 1);
        drop(deliveries);
        let empty = Delivery::new(Vec::new(), Checkpoint::empty());
        assert_eq!(outlet.deliver(empty).await, Err(Shut));
    }
}
