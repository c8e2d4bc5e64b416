//! What a file's content is: its SHA-256.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

/// SHA-256 of the first `size` bytes of a file, and of all of it; the file is at its start again afterwards.
pub(crate) fn digests(file: &mut File, size: u64) -> io::Result<(String, String)> {
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

/// A digest in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
