//! The folder: which files are there, whose they are, and where a bad one goes.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use hub_sdk::{ErrorKind, SourceError};
use sha2::{Digest, Sha256};

/// One file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name in the folder.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
    /// When it was changed last, microseconds since 1970.
    pub(crate) modified: u64,
}

/// Endings of names under which programs write files that they rename when all is there.
const UNFINISHED: [&str; 6] = [".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp"];

/// Files of a pattern in the order of their delivery. Unfinished and hidden ones are left out.
pub(crate) fn list(folder: &Path, pattern: &str) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let lower = name.to_lowercase();
        let is_hidden = name.starts_with('.') || name.starts_with("~$");
        if is_hidden || UNFINISHED.iter().any(|ending| lower.ends_with(ending)) || !matches(&pattern.to_lowercase(), &lower) {
            continue;
        }
        // A file may be gone again, and a link may lead nowhere: neither is there.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_file() {
            entries.push(Entry { name, size: metadata.len(), modified: modified(&metadata) });
        }
    }
    entries.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    Ok(entries)
}

/// When a file was changed last, microseconds since 1970.
pub(crate) fn modified(metadata: &fs::Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Whether a name is of a pattern with `*` and `?`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

/// SHA-256 of the first `size` bytes of a file, and of all of it; the file is at its start again afterwards.
pub(crate) fn digests(file: &mut fs::File, size: u64) -> io::Result<(String, String)> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    feed(&mut hash, &mut file.by_ref().take(size))?;
    let start = hash.clone();
    feed(&mut hash, file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok((hex(start), hex(hash)))
}

fn feed(hash: &mut Sha256, from: &mut impl Read) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Moves a bad file into the sub-folder `aside`, with its report beside it. A file of the same name that lies there stays, and
/// so does one that was delivered in the place of the bad one meanwhile.
pub(crate) fn set_aside(folder: &Path, aside: &str, bad: &Entry, report: &str) -> io::Result<()> {
    let name = &bad.name;
    let metadata = fs::metadata(folder.join(name))?;
    if (metadata.len(), modified(&metadata)) != (bad.size, bad.modified) {
        return Ok(());
    }
    let target = folder.join(aside);
    fs::create_dir_all(&target)?;
    let mut free = name.clone();
    let mut count = 1;
    while target.join(&free).exists() {
        count += 1;
        free = format!("{count}_{name}");
    }
    fs::write(target.join(format!("{free}.rejected.txt")), report)?;
    fs::rename(folder.join(name), target.join(&free))
}

/// What an error of the file system means.
pub(crate) fn classified(error: io::Error, doing: String) -> SourceError {
    let (kind, advice) = match error.kind() {
        io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "let the user of the hub read the folder and its files"),
        io::ErrorKind::NotADirectory => (ErrorKind::Denied, "`folder` leads through a file; give the folder that holds the files"),
        // A folder that is not there is a mount that is lost, more often than not: what is there again tomorrow is read then.
        _ => (ErrorKind::Unreachable, "mount the folder again, or mend `folder`"),
    };
    SourceError::new(kind, doing).because(error).advise(advice)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn patterns_know_any_letters_and_one_letter() {
        for (pattern, name, expected) in [
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("dan_cu_????.csv", "dan_cu_2026.csv", true),
            ("dan_cu_????.csv", "dan_cu_226.csv", false),
            ("*", "", true),
            ("hồ?sơ*", "hồ sơ 1", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
