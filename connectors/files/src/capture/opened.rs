//! A file that is open: what its content is, and whether it continues one that was taken.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use hub_sdk::Look;

use crate::digests::digests;
use crate::store::{Entry, Fetched};
use crate::taken::{State, Taken};
use crate::text::is_packed;

/// A file that is open, and what its content is.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) entry: Entry,
    pub(super) sha256: String,
    /// Whether the file that was taken under this name is its beginning, whole lines of it.
    pub(super) has_grown: bool,
}

impl Opened {
    /// What is taken of it after so many rows.
    pub(super) fn taken(&self, rows: u64, state: State, look: &Look) -> Taken {
        let Entry { size, modified, etag, .. } = self.entry.clone();
        Taken { size, modified, etag, sha256: self.sha256.clone(), rows, state, look: look.at, refused: None }
    }
}

/// Learns what a file's content is, and whether what was taken under its name is its beginning.
pub(super) fn inspect(fetched: Fetched, taken: Option<&Taken>) -> io::Result<Opened> {
    let Fetched { mut file, entry } = fetched;
    let size = taken.map_or(0, |taken| taken.size);
    let (start, sha256) = digests(&mut file, size)?;
    let has_grown = taken.is_some_and(|taken| taken.sha256 == start) && size < entry.size && is_seam(&mut file, size)?;
    Ok(Opened { file, entry, sha256, has_grown })
}

/// Whether a line ends where a file has grown, and the file is one that can grow; it is at its start again afterwards.
fn is_seam(file: &mut File, at: u64) -> io::Result<bool> {
    let (mut first, mut around) = (Vec::new(), Vec::new());
    file.by_ref().take(4).read_to_end(&mut first)?;
    let before = at.min(2);
    file.seek(SeekFrom::Start(at - before))?;
    file.by_ref().take(before + 2).read_to_end(&mut around)?;
    file.seek(SeekFrom::Start(0))?;
    let (old, new) = around.split_at(usize::try_from(before).unwrap_or(0).min(around.len()));
    // Either the old end was the end of a line, or that is the first thing that was added; in UTF-16 it has a zero on one side.
    let ended = old.is_empty() || old.ends_with(b"\n") || old == b"\n\0";
    let ends = new.starts_with(b"\n") || new.starts_with(b"\r\n") || new.starts_with(b"\0\n");
    Ok(!is_packed(&first) && (ended || ends))
}
