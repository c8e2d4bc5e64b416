//! One transaction of a lane: the publications that share it, and what they are told.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hub_model::{Block, SystemName};

use super::producer::Failure;
use super::{Committed, LaneError, LaneInput, Publication};
use crate::error::Class;

/// A transaction that has begun, and whether all of it could be sent so far.
pub(super) struct Begun {
    pub(super) transaction: Transaction,
    pub(super) sent: Result<(), Broken>,
}

/// Publications of one transaction.
pub(super) struct Transaction {
    /// Which producer's it is.
    pub(super) turn: usize,
    pub(super) began: Instant,
    pub(super) began_at: SystemTime,
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) members: Vec<Member>,
}

/// One publication whose records have been sent.
pub(super) struct Member {
    pub(super) publication: Publication,
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// How a transaction ended that did not commit.
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// Whether the producers can go on.
    pub(super) usable: bool,
}

impl Transaction {
    pub(super) fn new(turn: usize) -> Self {
        Self { turn, began: Instant::now(), began_at: SystemTime::now(), records: 0, bytes: 0, members: Vec::new() }
    }

    pub(super) fn push(&mut self, member: Member) {
        self.records += member.records;
        self.bytes += member.bytes;
        self.members.push(member);
    }

    pub(super) fn is_full(&self, input: &LaneInput) -> bool {
        self.records >= input.limits.records || self.bytes >= input.limits.bytes
    }

    /// The system that owns the topic whose record was refused.
    pub(super) fn culprit(&self, failure: &Failure) -> Option<SystemName> {
        let (topic, _) = failure.refused.as_ref()?;
        if !matches!(failure.class(), Class::TooLarge | Class::NoTopic) {
            return None;
        }
        let owner = self.members.iter().find(|member| member.publication.blocks.iter().any(|block| *block.topic == **topic));
        owner.map(|member| member.publication.session.system.clone())
    }
}

impl Publication {
    pub(super) fn accept(self, committed: Committed) {
        drop(self.held);
        drop(self.blocks);
        (self.done)(Ok(committed));
    }

    pub(super) fn refuse(self, error: LaneError) {
        drop(self.held);
        drop(self.blocks);
        (self.done)(Err(error));
    }
}

/// The first record of a block that is larger than `limit`, with its topic.
pub(super) fn larger_than(block: &Block, limit: usize) -> Option<(Arc<str>, usize)> {
    // No record can be larger than the block; most blocks are far smaller than the limit.
    let headers: usize = block.headers.iter().map(|header| header.name.len() + header.value.len() + 16).sum();
    if block.bytes() + headers <= limit {
        return None;
    }
    (0..block.len()).find_map(|row| {
        let key = block.keys.as_ref().map_or(0, |keys| keys.row(row).len());
        let own = block.headers.iter().filter(|header| header.record as usize == row);
        let headers: usize = own.map(|header| header.name.len() + header.value.len() + 16).sum();
        let bytes = block.values.row(row).len() + key + headers;
        (bytes > limit).then(|| (Arc::clone(&block.topic), bytes))
    })
}
