//! The folder of one run: the child's files and its HOME. Nobody else can open it, and it is removed with the run.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "hub-exec";

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    /// Makes a folder in `parent`.
    pub(crate) fn make(parent: &Path, system: &str) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (pid, start) = (std::process::id(), started(std::process::id()).unwrap_or(0));
        let name = format!("{PREFIX}-{system}-{pid}-{start}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only the hub's user can read; its path.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(content)?;
        Ok(path)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // A child that is just being ended may still write into it.
        for _again in 0..3 {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %self.path.display(), %error, "the folder of a run cannot be removed");
                }
                _ => return,
            }
        }
    }
}

/// Removes what a hub that was killed left of a system's runs: it holds secrets.
pub(crate) fn sweep(parent: &Path, system: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((pid, start)) = name.to_str().and_then(|name| owner(name, system)) else { continue };
        if started(pid) != Some(start) {
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => tracing::info!(folder = %entry.path().display(), "removed what a run of a hub that was killed left"),
                Err(error) => tracing::warn!(folder = %entry.path().display(), %error, "the folder of a run cannot be removed"),
            }
        }
    }
}

/// Which process made a folder of this name, and when that began.
fn owner(name: &str, system: &str) -> Option<(u32, u64)> {
    let mut parts = name.rsplitn(4, '-');
    let (_count, start, pid, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (rest == format!("{PREFIX}-{system}")).then_some(())?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

/// When a process began, in the kernel's ticks; `None` where there is none. A number alone is used again.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_else_can_open_it_and_nothing_stays() {
        let folder = WorkFolder::make(&std::env::temp_dir(), "thu").unwrap();
        let file = folder.write("config.json", b"{}").unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        drop(folder);
        assert!(!file.parent().unwrap().exists());
    }

    #[test]
    fn what_a_killed_hub_left_is_removed_and_what_runs_is_not() {
        let parent = WorkFolder::make(&std::env::temp_dir(), "cha").unwrap();
        let mine = WorkFolder::make(parent.path(), "he-a").unwrap();
        let own = started(std::process::id()).unwrap();
        let left = [format!("hub-exec-he-a-{}-{}-0", std::process::id(), own + 1), "hub-exec-he-a-4194305-7-3".to_owned()];
        let others = ["hub-exec-he-a-b-4194305-7-3", "hub-exec-he-a-x", "khac"];
        left.iter().map(String::as_str).chain(others).for_each(|name| fs::create_dir(parent.path().join(name)).unwrap());
        sweep(parent.path(), "he-a");
        assert!(mine.path().exists());
        assert!(left.iter().all(|name| !parent.path().join(name).exists()));
        assert!(others.iter().all(|name| parent.path().join(name).exists()));
    }
}
