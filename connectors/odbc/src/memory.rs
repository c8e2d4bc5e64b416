//! What a stream remembers of the rows it has told, by its mode.

use hub_sdk::model::{Checkpoint, StreamName};
use hub_sdk::{Known, Noted};

use crate::config::Mode;
use crate::window::Window;

/// What was told, as far as it is needed.
pub(crate) enum Memory {
    /// Every row.
    Whole(Known),
    /// The rows that a look may meet again.
    Window(Window),
    /// None: the server says what has changed.
    Nothing,
}

impl Memory {
    /// What a checkpoint says of a stream.
    pub(crate) fn restore(from: &Checkpoint, stream: &StreamName, mode: &Mode) -> Result<Self, String> {
        Ok(match mode {
            Mode::Compare => Self::Whole(Known::restore(from, stream)?),
            Mode::Watermark(mark) if mark.full_compare_every_s.is_some() => Self::Whole(Known::restore(from, stream)?),
            Mode::Watermark(_) => Self::Window(Window::restore(from, stream)?),
            Mode::ChangeTracking(_) | Mode::Cdc(_) => Self::Nothing,
        })
    }

    /// Begins a look.
    pub(crate) fn begin_look(&mut self) {
        if let Self::Whole(known) = self {
            known.begin_look();
        }
    }

    /// Takes note of a row that was read.
    pub(crate) fn note(&mut self, key: &str, digest: u64, mark: Option<i128>) -> Noted {
        match (self, mark) {
            (Self::Whole(known), _) => known.note(key, digest),
            (Self::Window(window), Some(mark)) => window.note(key, digest, mark),
            (Self::Window(_) | Self::Nothing, _) => Noted::New,
        }
    }

    /// Keys that a look at all rows has not seen.
    pub(crate) fn absent(&self) -> Vec<Box<str>> {
        match self {
            Self::Whole(known) => known.absent(),
            Self::Window(_) | Self::Nothing => Vec::new(),
        }
    }

    /// Takes note that a row is deleted.
    pub(crate) fn forget(&mut self, key: &str) {
        if let Self::Whole(known) = self {
            known.forget(key);
        }
    }

    /// Writes what was noted into the checkpoint of the delivery that tells it; no later look reads below `low`.
    pub(crate) fn save(&mut self, low: Option<i128>, checkpoint: &mut Checkpoint) {
        match self {
            Self::Whole(known) => known.save(checkpoint),
            Self::Window(window) => window.save(low.unwrap_or(i128::MIN), checkpoint),
            Self::Nothing => {}
        }
    }

    /// Rows that are remembered.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(known) => known.len(),
            Self::Window(window) => window.len(),
            Self::Nothing => 0,
        }
    }
}
