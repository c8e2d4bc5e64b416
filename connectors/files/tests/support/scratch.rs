//! A folder of a test's own, and deliveries into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new folder.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("hub-files-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone_already = fs::remove_dir_all(&self.0);
    }
}

/// Writes a file as a careful deliverer does: under another name first.
pub(crate) fn deliver(folder: &Path, name: &str, bytes: &[u8]) {
    let unfinished = folder.join(format!("{name}.tmp"));
    fs::write(&unfinished, bytes).unwrap();
    fs::rename(unfinished, folder.join(name)).unwrap();
}
