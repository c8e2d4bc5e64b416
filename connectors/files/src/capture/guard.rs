//! Holds a whole delivery back that would delete most of what is known, until a person accepts it.
//!
//! An export that broke off, or was made with a filter, is a valid file with few rows. Taken, it would delete the others at every
//! subscriber. So the keys of a delivery are read once before any of it is told. A held file is put aside as a bad one is; it is
//! accepted by a file beside it, `<name>.accept`, that holds its SHA-256: the word is of a person, for one content, and needs no
//! setting that would stay.

use std::io::Read;

use hub_sdk::Ended;

use super::{Follower, Opened, blocking};
use crate::config::Mode;
use crate::reading::Reading;
use crate::rows::{Bad, Trouble};
use crate::store::{ACCEPT, Entry};
use crate::taken::State;

/// Fewer known rows than this are not guarded: half of a handful is soon gone.
const GUARDED: usize = 100;

impl Follower {
    /// Files that were refused, lie there still or again, and are accepted by now.
    pub(super) async fn newly_accepted(&mut self, entries: &[Entry]) -> Result<Vec<Entry>, Ended> {
        let mut accepted = Vec::new();
        if self.stream.mode == Mode::Append {
            return Ok(accepted);
        }
        for entry in entries {
            let Some(taken) = self.files.get(&entry.name).filter(|taken| taken.state == State::Rejected) else { continue };
            let sha256 = taken.sha256.clone();
            // What was accepted and refused all the same has another fault.
            if self.files.is_settled(entry) && !self.tried.contains(&sha256) && self.is_accepted(&entry.name, &sha256).await? {
                accepted.push(entry.clone());
            }
        }
        Ok(accepted)
    }

    /// Whether a person has accepted this content of a file.
    pub(super) async fn is_accepted(&self, name: &str, sha256: &str) -> Result<bool, Ended> {
        let word = match self.store.fetch(&format!("{name}{ACCEPT}")).await {
            Ok(word) => word,
            Err(error) if error.is_gone => return Ok(false),
            Err(error) => return Err(self.lost(error).into()),
        };
        let read = blocking(move || {
            let mut text = String::new();
            word.file.take(256).read_to_string(&mut text).map(|_| text)
        });
        // As `sha256sum` prints it: the digest, and perhaps the name. What is no text accepts nothing.
        let text = read.await?.unwrap_or_default();
        Ok(text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(sha256)))
    }

    /// Looks through a whole delivery before any of it is told: what stands against taking it.
    pub(super) async fn survey(&mut self, opened: &Opened) -> Result<Option<Trouble>, Ended> {
        let share = u64::from(self.stream.shrink_guard);
        let held = self.held.take().ok_or_else(|| self.defect("two files of a stream are read at once"))?;
        let known = held.known.len();
        if share == 0 || known < GUARDED {
            self.held = Some(held);
            return Ok(None);
        }
        let file = opened.file.try_clone().map_err(|error| self.unreadable(error))?;
        let (name, manner) = (opened.entry.name.clone(), self.manner(0));
        let mut reading = match blocking(move || Reading::open(file, &name, manner, held)).await? {
            Ok(reading) => reading,
            Err(refused) => {
                let (held, trouble) = *refused;
                self.held = Some(held);
                return Ok(Some(trouble));
            }
        };
        let surveyed = loop {
            let (back, surveyed) = blocking(move || {
                let surveyed = reading.survey();
                (reading, surveyed)
            })
            .await?;
            reading = back;
            match surveyed {
                Ok(false) if self.is_shut().await => return Err(Ended::Shut),
                Ok(false) => {}
                over => break over,
            }
        };
        let absent = surveyed.map(|_over| reading.held.known.absent().len());
        self.held = Some(reading.held);
        let absent = match absent {
            Ok(absent) => absent,
            Err(trouble) => return Ok(Some(trouble)),
        };
        let is_too_much = absent as u64 * 100 > known as u64 * share;
        if !is_too_much || self.is_accepted(&opened.entry.name, &opened.sha256).await? {
            return Ok(None);
        }
        let (name, sha256) = (&opened.entry.name, &opened.sha256);
        let why = format!(
            "it is held back: it would delete {absent} of {known} known rows, more than shrink_guard ({share} %). If that is right, put it \
             back under its name, and beside it a file {name}{ACCEPT} with this line in it:\n\n{sha256}\n\nIf it is not, have it delivered again"
        );
        Ok(Some(Trouble::Bad(Bad::whole(why))))
    }
}
