//! Attachments in a folder, named by their SHA-256: the same content is kept once, and is on the disk before the answer.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// One attachment.
#[derive(Debug)]
pub(crate) struct Content {
    /// In hexadecimal.
    pub(crate) sha256: String,
    pub(crate) bytes: Vec<u8>,
}

/// Where a content is in the folder.
pub(crate) fn path_of(sha256: &str) -> String {
    format!("{}/{sha256}", sha256.get(..2).unwrap_or_default())
}

/// Keeps them all. What is there already is not written again.
///
/// # Errors
/// What the disk says; nothing half-written stands under a content's name then.
pub(crate) fn keep(folder: &Path, contents: &[Content]) -> io::Result<()> {
    for content in contents {
        let path = folder.join(path_of(&content.sha256));
        if fs::metadata(&path).is_ok_and(|there| there.len() == content.bytes.len() as u64) {
            continue;
        }
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)?;
        write(parent, &path, &content.bytes)?;
        // A name is durable when its folder is; a new folder when the one above is.
        File::open(parent)?.sync_all()?;
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn write(parent: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let unfinished = parent.join(format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&unfinished, path));
    if renamed.is_err() {
        let _never_there = fs::remove_file(&unfinished);
    }
    renamed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_content_is_kept_once_under_its_digest() {
        let folder = std::env::temp_dir().join(format!("hub-webhook-attachments-{}", std::process::id()));
        let content = || Content { sha256: crate::answer::sha256(&[b"a"]), bytes: b"a".to_vec() };
        keep(&folder, &[content(), content()]).unwrap();
        keep(&folder, &[content()]).unwrap();
        let path = folder.join(path_of(&content().sha256));
        assert_eq!(fs::read(&path).unwrap(), b"a");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing unfinished is left");
        fs::remove_dir_all(&folder).unwrap();
        assert!(keep(Path::new("/dev/null/nowhere"), &[content()]).is_err());
    }
}
