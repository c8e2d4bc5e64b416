//! The thread of a lane: gathers publications into transactions, settles them, and begins anew after failures.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hub_model::{Block, Checkpoint, SystemName};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::producer::{Commit, Failure, TransactionalProducer, Waiting, record_limit};
use super::transaction::{Begun, Broken, Member, Transaction, larger_than};
use super::{Committed, Health, LaneError, LaneInput, Publication, Session, Shared};
use crate::checkpoints;
use crate::error::{Cause, Class};
use crate::offsets::held_back;

/// What the thread is told.
pub(super) enum Command {
    Publish(Box<Publication>),
    /// Something shared has changed: a request to open, or to stop.
    Look,
}

pub(super) struct Worker {
    input: LaneInput,
    name: Arc<str>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    /// Fenced and usable; used in turn.
    producers: Option<[TransactionalProducer; IDS]>,
    /// Whose turn the next transaction is.
    turn: usize,
    /// The transaction that was begun while the one before it was committed.
    next: Option<Begun>,
    checkpoint_partitions: Option<i32>,
    /// The session of each system that may publish.
    sessions: HashMap<SystemName, u64>,
    generation: u64,
    fenced_out: bool,
}

/// Transactional ids of a lane. Kafka finishes a transaction after it has answered the commit, and tells the next one of
/// the same id to wait 20 ms until then. With two, none of 3,000 transactions in a row was told so.
const IDS: usize = 2;
/// A transaction with more records than this goes on taking publications while its own are under way: it has cost more
/// time already than another commit would.
const BULK: usize = 2_000;

impl Worker {
    pub(super) fn new(input: LaneInput, shared: Arc<Shared>, commands: mpsc::Receiver<Command>) -> Self {
        let name = input.name.as_str().into();
        Self {
            input,
            name,
            shared,
            commands,
            producers: None,
            turn: 0,
            next: None,
            checkpoint_partitions: None,
            sessions: HashMap::new(),
            generation: 0,
            fenced_out: false,
        }
    }

    /// Runs until it is stopped. A panic is a defect of the hub; it costs the transaction that was under way, not the lane.
    pub(super) fn live(mut self) {
        while std::panic::catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            self.begin_anew();
        }
    }

    /// Forgets all that a panic may have left half done: producers are fenced anew, and every system opens a new session.
    fn begin_anew(&mut self) {
        tracing::error!(
            lane = &*self.name,
            "the lane panicked, a defect of the hub; it begins anew, its systems go on from their checkpoints"
        );
        self.input.metrics.aborted();
        self.input.metrics.set_ready(false);
        self.producers = None;
        self.sessions.clear();
        // Its members are told that they are lost when they are dropped.
        self.next = None;
        let error = LaneError::Lost { lane: Arc::clone(&self.name) };
        self.shared.health.send_replace(Health::Waiting(error.clone()));
        self.answer_opens_with(&error);
        self.pause(RETRY_AFTER);
    }

    fn run(&mut self) {
        while self.next.is_some() || !self.stopping() {
            if let Some(Begun { transaction, sent }) = self.next.take() {
                self.transaction(transaction, sent.map(|()| None));
                continue;
            }
            if self.fenced_out {
                self.refuse_next();
                continue;
            }
            if self.producers.is_none() && !self.recover() {
                continue;
            }
            self.answer_opens();
            match self.commands.blocking_recv() {
                Some(Command::Publish(first)) => {
                    let transaction = self.new_transaction();
                    self.transaction(transaction, Ok(Some(*first)));
                }
                Some(Command::Look) => {}
                None => break,
            }
        }
        self.producers = None;
        self.refuse_all(&LaneError::Stopped { lane: Arc::clone(&self.name) });
        self.input.metrics.set_ready(false);
        self.shared.health.send_replace(Health::Stopped);
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    fn new_transaction(&mut self) -> Transaction {
        let transaction = Transaction::new(self.turn);
        self.turn = (self.turn + 1) % IDS;
        transaction
    }

    /// Gathers, sends and settles one transaction that goes on with `first`.
    fn transaction(&mut self, mut transaction: Transaction, first: Result<Option<Publication>, Broken>) {
        let shared = Arc::clone(&self.shared);
        let (name, metrics) = (Arc::clone(&self.name), self.input.metrics.clone());
        let report = move |cause: Cause| {
            tracing::warn!(lane = &*name, %cause, "kafka does not answer: publications wait");
            metrics.set_ready(false);
            shared.health.send_replace(Health::Waiting(LaneError::new(&name, cause)));
        };
        let shared = Arc::clone(&self.shared);
        let mut waiting = Waiting::new(&shared.stop, &report);
        let outcome = first
            .and_then(|first| self.gather(first, &mut transaction, &mut waiting))
            .and_then(|()| if transaction.members.is_empty() { Ok(()) } else { self.finish(&transaction, &mut waiting) });
        match outcome {
            Ok(()) => {
                if waiting.was_reported() {
                    self.ready();
                }
                self.settle(transaction);
            }
            Err(broken) => self.fail(transaction, broken),
        }
    }

    /// Sends publications, `first` and those that wait, until none waits or the transaction is full.
    fn gather(&mut self, first: Option<Publication>, transaction: &mut Transaction, waiting: &mut Waiting<'_>) -> Result<(), Broken> {
        let mut next = first;
        loop {
            if let Some(publication) = next.take()
                && let Some(publication) = self.admit(publication)
            {
                self.add(publication, transaction, waiting)?;
            }
            if transaction.is_full(&self.input) || self.has_opens() {
                return Ok(());
            }
            match self.commands.try_recv() {
                Ok(Command::Publish(publication)) => next = Some(*publication),
                Ok(Command::Look) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    let Some(producer) = self.producer(transaction) else { return Ok(()) };
                    if transaction.records < BULK || producer.in_flight() < BULK {
                        return Ok(());
                    }
                    producer.wait(waiting).map_err(|failure| self.broken(failure, transaction))?;
                }
            }
        }
    }

    /// Answers a publication that may not or cannot be published, at the cost of its own system only.
    fn admit(&mut self, publication: Publication) -> Option<Publication> {
        let Session { system, generation } = &publication.session;
        if self.sessions.get(system) != Some(generation) {
            let error = LaneError::Stale { system: system.clone() };
            publication.refuse(error);
            return None;
        }
        let limit = record_limit(&self.input.config);
        if let Some((topic, bytes)) = publication.blocks.iter().find_map(|block| larger_than(block, limit)) {
            let error = LaneError::TooLarge { system: system.clone(), topic, bytes, limit: Some(limit) };
            self.sessions.remove(system);
            publication.refuse(error);
            return None;
        }
        Some(publication)
    }

    /// Sends one publication's records, beginning the transaction where it is the first.
    fn add(&self, publication: Publication, transaction: &mut Transaction, waiting: &mut Waiting<'_>) -> Result<(), Broken> {
        let records = publication.blocks.iter().map(|block| block.len() + block.tombstones.len()).sum();
        let bytes = publication.blocks.iter().map(Block::bytes).sum();
        let begin = transaction.members.is_empty();
        // It is a member first, so that a failure answers it too.
        transaction.push(Member { publication, records, bytes });
        let (Some(producer), Some(member)) = (self.producer(transaction), transaction.members.last()) else { return Ok(()) };
        let sent = if begin { producer.begin() } else { Ok(()) }
            .and_then(|()| member.publication.blocks.iter().try_for_each(|block| producer.send(block, waiting)));
        sent.map_err(|failure| self.broken(failure, transaction))
    }

    /// Adds the checkpoints, waits for all acknowledgements and commits.
    fn finish(&mut self, transaction: &Transaction, waiting: &mut Waiting<'_>) -> Result<(), Broken> {
        let Some(producer) = self.producer(transaction) else { return Ok(()) };
        let sent = self.send_checkpoints(producer, transaction, waiting).and_then(|()| producer.drain(transaction.began, waiting));
        sent.map_err(|failure| self.broken(failure, transaction))?;
        self.begin_next(waiting);
        let Some(producer) = self.producer(transaction) else { return Ok(()) };
        match producer.commit(waiting) {
            Commit::Done => Ok(()),
            Commit::Abort(failure) => Err(self.broken(failure, transaction)),
            Commit::Unsettled(failure) => Err(Broken { failure, usable: false }),
        }
    }

    /// Begins the next transaction with what waits, while the one before it only has to be committed: librdkafka lets a
    /// millisecond pass before it registers a transaction's partitions. Every record before is acknowledged, which keeps
    /// the order; and it is committed only after the one before it has been, or aborted with it.
    fn begin_next(&mut self, waiting: &mut Waiting<'_>) {
        while !self.has_opens() && self.next.as_ref().is_none_or(|next| next.transaction.records < BULK) {
            let Ok(Command::Publish(publication)) = self.commands.try_recv() else { return };
            let Some(publication) = self.admit(*publication) else { continue };
            let mut transaction = match self.next.take() {
                Some(next) => next.transaction,
                None => self.new_transaction(),
            };
            let sent = self.add(publication, &mut transaction, waiting);
            let failed = sent.is_err();
            self.next = Some(Begun { transaction, sent });
            if failed {
                return;
            }
        }
    }

    /// One record for each partition that the transaction moves, whatever the number of publications that moved it.
    fn send_checkpoints(
        &self,
        producer: &TransactionalProducer,
        transaction: &Transaction,
        waiting: &mut Waiting<'_>,
    ) -> Result<(), Failure> {
        let mut merged: Vec<(&SystemName, Checkpoint)> = Vec::new();
        for Member { publication, .. } in &transaction.members {
            let system = &publication.session.system;
            match merged.iter_mut().find(|(known, _)| *known == system) {
                Some((_, held)) => held.merge(&publication.checkpoint),
                None => merged.push((system, publication.checkpoint.clone())),
            }
        }
        let partitions = self.checkpoint_partitions.unwrap_or(1);
        for (system, checkpoint) in merged {
            let place = checkpoints::partition_of(system, partitions);
            for (partition, position) in checkpoint.iter() {
                let key = checkpoints::key(system, partition);
                let value = position.map(|position| position.to_string().into_bytes());
                producer.send_to(&self.input.checkpoints_topic, place, key.as_bytes(), value.as_deref(), waiting)?;
            }
        }
        Ok(())
    }

    /// Aborts what a failure has left open.
    fn broken(&self, failure: Failure, transaction: &Transaction) -> Broken {
        let fenced = failure.class() == Class::Fenced;
        let usable = !fenced && !transaction.members.is_empty() && self.producer(transaction).is_some_and(|it| it.abort());
        Broken { failure, usable }
    }

    /// Tells every member that it is durable.
    fn settle(&mut self, transaction: Transaction) {
        if transaction.members.is_empty() {
            return;
        }
        let took = transaction.began.elapsed();
        self.input.metrics.committed(transaction.records, took);
        for Member { publication, records, bytes } in transaction.members {
            publication.accept(Committed { records, bytes, took });
        }
    }

    /// Ends the sessions of every member, settles what is not settled, and only then tells them.
    fn fail(&mut self, mut transaction: Transaction, broken: Broken) {
        self.input.metrics.aborted();
        let Broken { failure, mut usable } = broken;
        // What was begun after it may not be committed without it.
        if let Some(Begun { transaction: next, sent }) = self.next.take() {
            usable = usable && (sent.is_err_and(|broken| broken.usable) || self.producer(&next).is_some_and(|it| it.abort()));
            transaction.members.extend(next.members);
        }
        for member in &transaction.members {
            self.sessions.remove(member.publication.session.system());
        }
        let mut failure = failure;
        if failure.class() == Class::Fenced && !self.was_timed_out(&transaction) {
            self.leave();
        } else if !usable {
            self.producers = None;
            tracing::warn!(lane = &*self.name, cause = %failure.cause, "transaction lost: producers are made anew");
            while !self.stopping() && !self.fenced_out && !self.recover() {}
            // Fenced by one's own time-out is no more than an aborted transaction.
            if failure.class() == Class::Fenced {
                failure.cause = Cause::new(rdkafka::error::KafkaError::Canceled, &crate::client::HubContext::default());
            }
        } else {
            tracing::warn!(lane = &*self.name, cause = %failure.cause, "transaction aborted");
        }
        let given_up = self.stopping() && failure.is_canceled();
        let settled = (usable || self.producers.is_some() || self.fenced_out) && !given_up;
        let culprit = transaction.culprit(&failure);
        for Member { publication, .. } in transaction.members {
            let error = if settled {
                self.blame(&failure, culprit.as_ref(), &publication)
            } else {
                LaneError::Stopped { lane: Arc::clone(&self.name) }
            };
            publication.refuse(error);
        }
    }

    /// A transaction that is older than its timeout was aborted by Kafka itself, which looks as if another hub had taken
    /// the lane. The wall clock counts: it goes on while a machine sleeps.
    fn was_timed_out(&self, transaction: &Transaction) -> bool {
        let timeout = Duration::from_millis(u64::from(self.input.config.transaction_timeout_ms));
        transaction.began_at.elapsed().is_ok_and(|age| age >= timeout)
    }

    /// What one member of a broken transaction is told.
    fn blame(&self, failure: &Failure, culprit: Option<&SystemName>, publication: &Publication) -> LaneError {
        let system = publication.session.system();
        if let Some(culprit) = culprit
            && culprit != system
        {
            return LaneError::Neighbour { lane: Arc::clone(&self.name), culprit: culprit.clone() };
        }
        match (failure.class(), &failure.refused) {
            (Class::TooLarge, Some((topic, bytes))) => {
                LaneError::TooLarge { system: system.clone(), topic: topic.as_str().into(), bytes: *bytes, limit: None }
            }
            (Class::NoTopic, Some((topic, _))) => {
                LaneError::NoTopic { lane: Arc::clone(&self.name), topic: topic.as_str().into(), cause: failure.cause.clone() }
            }
            _ => LaneError::new(&self.name, failure.cause.clone()),
        }
    }

    /// Makes and fences the producers. False where it did not come about yet; it has waited a little then.
    fn recover(&mut self) -> bool {
        match self.try_recover() {
            Ok(producers) => {
                self.producers = Some(producers);
                self.turn = 0;
                self.input.metrics.recovered();
                self.ready();
                true
            }
            Err(error) => {
                self.input.metrics.set_ready(false);
                tracing::warn!(lane = &*self.name, error = &error as &dyn std::error::Error, "the lane is not ready");
                // Whoever is answered may look at once.
                self.shared.health.send_replace(Health::Waiting(error.clone()));
                self.answer_opens_with(&error);
                self.pause(RETRY_AFTER);
                false
            }
        }
    }

    fn try_recover(&mut self) -> Result<[TransactionalProducer; IDS], LaneError> {
        let fail = |failure: Failure| LaneError::new(&self.name, failure.cause);
        let make = |suffix: &str| TransactionalProducer::create(&self.input.config, &format!("{}-{suffix}", self.name)).map_err(fail);
        let producers = [make("a")?, make("b")?];
        for producer in &producers {
            let mut left = FENCE_ATTEMPTS;
            while let Err(failure) = producer.fence(FENCE_ATTEMPT) {
                left -= 1;
                if left == 0 || self.stopping() || failure.class() != Class::Unreachable {
                    return Err(fail(failure));
                }
            }
        }
        if self.checkpoint_partitions.is_none() {
            let counted = producers[0].partitions(&self.input.checkpoints_topic).map_err(fail)?;
            self.checkpoint_partitions = counted;
            if counted.is_none() {
                let cause = format!("its checkpoints topic {} does not exist", self.input.checkpoints_topic);
                return Err(LaneError::Fatal { lane: Arc::clone(&self.name), cause: cause.into() });
            }
        }
        self.end_forgotten(&producers)?;
        Ok(producers)
    }

    /// Ends transactions that Kafka has forgotten to end.
    ///
    /// Kafka 4.3 that is killed between its decision to commit and the writing of the commit's markers may, when it comes
    /// back, note the transaction as complete without them: the records are then neither committed nor aborted for any
    /// reader, for ever, and the checkpoint behind them cannot be read. The next marker of the same producer ends them,
    /// so each producer commits a mark where the end of the checkpoints topic is held back. A transaction that holds
    /// checkpoints was complete, which makes a commit right; topics of rows heal with the producer's next commit there.
    fn end_forgotten(&self, producers: &[TransactionalProducer; IDS]) -> Result<(), LaneError> {
        let topic = &self.input.checkpoints_topic;
        let held_back = held_back(&self.input.config, topic).map_err(|error| LaneError::of(&self.name, error))?;
        if held_back.is_empty() {
            return Ok(());
        }
        let key = checkpoints::mark(&self.name);
        let fail = |failure: Failure| LaneError::new(&self.name, failure.cause);
        let report = |_: Cause| {};
        for producer in producers {
            let mut waiting = Waiting::new(&self.shared.stop, &report);
            producer.begin().map_err(fail)?;
            for partition in &held_back {
                producer.send_to(topic, *partition, key.as_bytes(), None, &mut waiting).map_err(fail)?;
            }
            producer.drain(Instant::now(), &mut waiting).map_err(fail)?;
            if let Commit::Abort(failure) | Commit::Unsettled(failure) = producer.commit(&mut waiting) {
                return Err(fail(failure));
            }
        }
        Ok(())
    }

    fn ready(&self) {
        self.input.metrics.set_ready(true);
        self.shared.health.send_replace(Health::Ready);
    }

    /// Another hub has the lane: nothing is published any more, everything is answered.
    fn leave(&mut self) {
        tracing::error!(lane = &*self.name, "another hub has taken the lane: this one publishes nothing on it any more");
        self.fenced_out = true;
        self.producers = None;
        self.input.metrics.set_ready(false);
        self.shared.health.send_replace(Health::Fenced);
    }

    fn refuse_next(&mut self) {
        let error = LaneError::Fenced { lane: Arc::clone(&self.name) };
        self.answer_opens_with(&error);
        match self.commands.blocking_recv() {
            Some(Command::Publish(publication)) => publication.refuse(error),
            Some(Command::Look) => {}
            None => self.shared.stop.store(true, Ordering::Release),
        }
    }

    /// The lane ends.
    fn refuse_all(&mut self, error: &LaneError) {
        self.commands.close();
        self.answer_opens_with(error);
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Publish(publication) = command {
                publication.refuse(error.clone());
            }
        }
    }

    fn has_opens(&self) -> bool {
        !self.shared.opens.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// No transaction runs here: everything of an older session is settled.
    fn answer_opens(&mut self) {
        let requests = std::mem::take(&mut *self.shared.opens.lock().unwrap_or_else(PoisonError::into_inner));
        for request in requests {
            self.generation += 1;
            self.sessions.insert(request.system.clone(), self.generation);
            let session = Session { system: request.system, generation: self.generation };
            // Nobody waits any more: the session is simply never used.
            let _ = request.answer.send(Ok(session));
        }
    }

    fn answer_opens_with(&self, error: &LaneError) {
        for request in std::mem::take(&mut *self.shared.opens.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = request.answer.send(Err(error.clone()));
        }
    }

    /// Waits, but not for a lane that is to stop.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.stopping() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn producer(&self, transaction: &Transaction) -> Option<&TransactionalProducer> {
        self.producers.as_ref().and_then(|all| all.get(transaction.turn))
    }
}

/// One attempt to fence, and how many make a failure.
const FENCE_ATTEMPT: Duration = Duration::from_secs(1);
const FENCE_ATTEMPTS: usize = 5;
/// Between two attempts to make the producers anew.
const RETRY_AFTER: Duration = Duration::from_secs(1);
