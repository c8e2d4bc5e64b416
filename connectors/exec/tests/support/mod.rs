//! What the tests stand on: a folder of their own, real sources from PyPI, and a made-up one whose rows a test changes.
#![allow(dead_code, reason = "each test uses what it needs")]

pub(crate) mod api;
pub(crate) mod desk;
pub(crate) mod fake;
pub(crate) mod mariadb;
pub(crate) mod postgres;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("exec_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether the tests run as root, which servers refuse.
pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The program of a real source, which is installed on first use.
pub(crate) fn source(name: &str, program: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/sources.sh");
    let output = Command::new("sh").args([script, name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("{}/{name}/bin/{program}", String::from_utf8(output.stdout).unwrap().trim())
}

/// The interpreter itself, and not a script that looks for one.
pub(crate) fn python() -> &'static str {
    static FOUND: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    FOUND.get_or_init(|| {
        let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// The processes that live and have a word in their command line.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let command = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    };
    entries.filter_map(command).filter(|line| line.contains(word)).collect()
}
