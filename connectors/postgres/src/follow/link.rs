//! The replication connection while it streams: reading, answering in time, noticing a dead server.

use std::time::Duration;

use hub_sdk::{ErrorKind, SourceError};
use tokio::time::Instant;
use tracing::info;

use super::FollowSetup;
use crate::slot;
use crate::wire::{Eagerness, Lsn, Message, Purpose, Session, StandbyStatus, StartOptions, WireError};

/// The server hears from us at least this often (it gives up after `wal_sender_timeout`, 60 s by default).
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// A server that says nothing for this long is asked whether it lives …
const ASK_AFTER: Duration = Duration::from_secs(10);
/// … and given up when it does not answer within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a slot may still be held by a connection of ours that the server has not yet missed.
const TAKE_OVER_TRIES: u32 = 40;

/// The stream.
pub(super) struct Link {
    session: Session,
    slot: String,
    told: Lsn,
    told_at: Instant,
    heard_at: Instant,
    asked_at: Option<Instant>,
}

/// Whether a silent server is asked for a sign of life. Not while we do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    Yes,
    No,
}

impl Link {
    /// Connects and begins the stream, taking the slot over from a connection of ours that broke unnoticed.
    pub(super) async fn open(setup: &FollowSetup) -> Result<Self, SourceError> {
        let doing = || format!("starting replication from slot {} at {}", setup.slot, setup.from);
        let failed = |error: WireError| lost(error, doing());
        let mut tries = 0;
        let session = loop {
            let mut session = Session::connect(&setup.address, Purpose::Replication).await.map_err(failed)?;
            let options = StartOptions {
                slot: &setup.slot,
                publication: &setup.publication,
                from: setup.from,
                binary: setup.wire == crate::decode::Wire::Binary && setup.major >= 14,
                messages: setup.major >= 14,
            };
            match session.start_replication(&options).await {
                Ok(()) => break session,
                Err(error) if error.sqlstate() == Some("55006") && tries < TAKE_OVER_TRIES => {
                    tries += 1;
                    if tries == TAKE_OVER_TRIES / 4 {
                        let mut sql = Session::connect(&setup.address, Purpose::Sql).await.map_err(failed)?;
                        slot::take_over(&mut sql, &setup.slot).await?;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(failed(error)),
            }
        };
        info!(slot = setup.slot, from = %setup.from, wire = ?setup.wire, "following changes");
        let now = Instant::now();
        Ok(Self {
            session,
            slot: setup.slot.clone(),
            told: Lsn(0),
            told_at: now.checked_sub(STATUS_EVERY).unwrap_or(now),
            heard_at: now,
            asked_at: None,
        })
    }

    /// The next message that is already here.
    pub(super) fn next(&mut self) -> Result<Option<Message<'_>>, SourceError> {
        self.session.buffered().map_err(|error| error.into_source("reading the stream of changes"))
    }

    /// Reads what is there without waiting; false when the socket has run dry.
    pub(super) async fn fill_now(&mut self, eagerness: Eagerness) -> Result<bool, SourceError> {
        let read = self.session.fill_now(eagerness).await;
        let read = read.map_err(|error| self.lost(error))?;
        if read {
            self.heard();
        }
        Ok(read)
    }

    /// Waits for bytes.
    pub(super) async fn fill(&mut self) -> Result<(), SourceError> {
        let read = self.session.fill().await;
        read.map_err(|error| self.lost(error))?;
        self.heard();
        Ok(())
    }

    /// Lets bytes pile up unnoticed until the next call.
    pub(super) fn rest(&mut self) -> Result<(), SourceError> {
        self.session.rest().map_err(|error| self.lost(error))
    }

    fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.asked_at = None;
    }

    /// When the server must hear from us next.
    pub(super) fn next_status(&self) -> Instant {
        self.told_at + STATUS_EVERY
    }

    /// Tells the server how far we are, where it asked, where more became durable, or where it is time.
    pub(super) async fn tell(&mut self, seen: Lsn, durable: Lsn, asked: bool, listening: Listening) -> Result<(), SourceError> {
        let now = Instant::now();
        let dead = self.asked_at.is_some_and(|asked| now.duration_since(asked) > ANSWER_WITHIN);
        if listening == Listening::Yes && dead {
            return Err(self.lost(WireError::Silent((ASK_AFTER + ANSWER_WITHIN).as_secs())));
        }
        if !asked && durable <= self.told && now < self.next_status() {
            return Ok(());
        }
        let silent = now.duration_since(self.heard_at) > ASK_AFTER;
        let reply = listening == Listening::Yes && silent && self.asked_at.is_none();
        self.told = self.told.max(durable);
        let status = StandbyStatus { received: seen.max(self.told), durable: self.told, reply };
        self.session.send_status(status).await.map_err(|error| lost(error, format!("confirming slot {}", self.slot)))?;
        self.told_at = now;
        if reply {
            self.asked_at = Some(now);
        }
        Ok(())
    }

    /// Puts an error of the stream into its kind.
    pub(super) fn lost(&self, error: WireError) -> SourceError {
        lost(error, format!("following slot {}", self.slot))
    }

    /// Ends the stream politely, so that the slot is free at once.
    pub(super) async fn close(self) {
        self.session.close().await;
    }
}

fn lost(error: WireError, doing: String) -> SourceError {
    let gone = match error.sqlstate() {
        // The publication or the slot is gone, or WAL that the slot needs.
        Some("42704" | "58P01") => true,
        Some("55000") => error.message().contains("slot"),
        _ => false,
    };
    if gone {
        return SourceError::new(ErrorKind::PositionLost, doing)
            .because(error)
            .advise("take a new snapshot: hub run … --resnapshot SYSTEM");
    }
    error.into_source(doing)
}
