//! Attachments in a folder, named by their SHA-256: the same content is kept once, and is on the disk before the answer.

use std::io;
use std::path::Path;

use hub_sdk::edxml;

/// One attachment.
#[derive(Debug)]
pub(crate) struct Content {
    /// In hexadecimal.
    pub(crate) sha256: String,
    pub(crate) bytes: Vec<u8>,
}

/// Keeps them all. What is there already is not written again.
///
/// # Errors
/// As [`edxml::keep`].
pub(crate) fn keep(folder: &Path, contents: &[Content]) -> io::Result<()> {
    contents.iter().try_for_each(|content| edxml::keep(folder, &content.sha256, &content.bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::fs;

    use hub_sdk::edxml::path_of;

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
