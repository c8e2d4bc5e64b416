//! Judges whether a new schema may follow those that a subject has.
//!
//! Own rules rather than `apache_avro::SchemaCompatibility`, for reasons in docs/adr/0003-schema-registry.md: that one
//! ignores enum defaults and the aliases of named types, cannot judge decimals, stops at the first difference and has no
//! paths; and its parser panics on malformed names, which a server must not.

mod resolve;

use std::fmt;
use std::str::FromStr;

pub use resolve::{Incompatibility, Reason};

use crate::schema::Schema;

/// Which earlier schemas a new one is held against, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Anything goes.
    None,
    /// The new schema reads what the latest one wrote.
    Backward,
    /// The new schema reads what any earlier one wrote.
    BackwardTransitive,
    /// The latest schema reads what the new one writes.
    Forward,
    /// Every earlier schema reads what the new one writes.
    ForwardTransitive,
    /// Both directions, with the latest.
    Full,
    /// Both directions, with every earlier one.
    FullTransitive,
}

/// An earlier version of a subject.
#[derive(Clone, Debug)]
pub struct Earlier<'a> {
    /// Its version.
    pub version: u32,
    /// Its text, for the message.
    pub text: &'a str,
    /// Its schema.
    pub schema: &'a Schema,
}

impl Level {
    /// All levels.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Backward, Self::BackwardTransitive, Self::Forward, Self::ForwardTransitive, Self::Full, Self::FullTransitive];

    /// The level as Confluent writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    const fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    const fn is_backward(self) -> bool {
        matches!(self, Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive)
    }

    const fn is_forward(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }

    /// Judges `new` against the earlier versions, oldest first. Returns messages in Confluent's form, none where it fits.
    #[must_use]
    pub fn judge(self, new: &Schema, earlier: &[Earlier<'_>]) -> Vec<String> {
        let held_against = if self.is_transitive() { earlier } else { &earlier[earlier.len().saturating_sub(1)..] };
        held_against.iter().rev().map(|old| self.judge_one(new, old)).find(|messages| !messages.is_empty()).unwrap_or_default()
    }

    /// Judges `new` against one version, whichever it is.
    #[must_use]
    pub fn judge_one(self, new: &Schema, old: &Earlier<'_>) -> Vec<String> {
        let mut messages = Vec::new();
        if self.is_backward() {
            messages.extend(differences(new, old.schema).iter().map(|found| found.message("new", "old")));
        }
        if self.is_forward() {
            messages.extend(differences(old.schema, new).iter().map(|found| found.message("old", "new")));
        }
        if !messages.is_empty() {
            messages.push(format!("{{oldSchemaVersion: {}}}", old.version));
            messages.push(format!("{{oldSchema: '{}'}}", old.text));
            messages.push(format!("{{validateFields: 'false', compatibility: '{self}'}}"));
        }
        messages
    }
}

/// Everything that keeps `reader` from reading what `writer` wrote; empty where it can.
#[must_use]
pub fn differences(reader: &Schema, writer: &Schema) -> Vec<Incompatibility> {
    resolve::differences(reader, writer)
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is not a compatibility level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive"
)]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownLevel)
    }
}

#[cfg(test)]
mod tests;
