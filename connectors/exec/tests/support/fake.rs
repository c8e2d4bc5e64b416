//! The made-up Airbyte source: files of changes that a test writes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Scratch, python};

/// Its rows, and what is written of them.
pub(crate) struct FakeAirbyte {
    pub(crate) scratch: Scratch,
    rev: u64,
    /// Rows of each stream.
    pub(crate) rows: BTreeMap<String, BTreeMap<i64, Value>>,
}

impl FakeAirbyte {
    /// With streams of these JSON schemas.
    pub(crate) fn new(streams: &[(&str, Value)]) -> Self {
        let scratch = Scratch::new();
        let fake = Self { scratch, rev: 0, rows: BTreeMap::new() };
        for folder in ["data", "work"] {
            fs::create_dir(fake.scratch.path().join(folder)).unwrap();
        }
        for (name, properties) in streams {
            fs::write(fake.data().join(format!("{name}.schema")), json!({"type": "object", "properties": properties}).to_string()).unwrap();
            fs::write(fake.data().join(format!("{name}.log")), "").unwrap();
        }
        fake
    }

    /// One stream of persons.
    pub(crate) fn persons() -> Self {
        Self::new(&[("nguoi", json!({"id": {"type": "integer"}, "name": {"type": ["null", "string"]}}))])
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The folder in which runs have theirs.
    pub(crate) fn work(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    /// The `config:` section that reads it.
    pub(crate) fn config(&self) -> Value {
        json!({
            "protocol": "airbyte",
            "command": [python(), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake_airbyte.py")],
            "config": {"folder": self.data()},
            "secrets": {"/password": "mat khau"},
            "folder": self.work(),
            "every_s": 0.02,
        })
    }

    /// Writes rows; each has an `id`.
    pub(crate) fn put(&mut self, stream: &str, rows: impl IntoIterator<Item = Value>) {
        self.write(stream, rows, false);
    }

    pub(crate) fn delete(&mut self, stream: &str, ids: &[i64]) {
        self.write(stream, ids.iter().map(|id| json!({"id": id})), true);
    }

    fn write(&mut self, stream: &str, rows: impl IntoIterator<Item = Value>, deleted: bool) {
        let known = self.rows.entry(stream.to_owned()).or_default();
        let mut lines = String::new();
        for row in rows {
            self.rev += 1;
            lines.push_str(&json!({"rev": self.rev, "row": row, "deleted": deleted}).to_string());
            lines.push('\n');
            let id = row["id"].as_i64().unwrap();
            if deleted {
                known.remove(&id)
            } else {
                known.insert(id, row)
            };
        }
        let path = self.scratch.path().join("data").join(format!("{stream}.log"));
        // In one write, so that a reader never sees half a line.
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(lines.as_bytes()).unwrap();
    }

    pub(crate) fn cut(&self) {
        fs::write(self.data().join("cut"), "").unwrap();
    }

    pub(crate) fn mend(&self) {
        fs::remove_file(self.data().join("cut")).unwrap();
    }
}
