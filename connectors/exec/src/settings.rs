//! The configuration that the child is given: `config` with its secrets, or what the source has made of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::config::ExecConfig;

/// `config` with the secrets at their places; objects are made where a pointer goes through nothing.
pub(crate) fn merged(config: &ExecConfig) -> Value {
    let mut whole = Value::Object(config.config.0.clone());
    for (pointer, secret) in &config.secrets {
        let mut place = &mut whole;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            place = into(place, &step);
        }
        *place = Value::from(secret.reveal());
    }
    whole
}

/// The member or element of a name.
fn into<'a>(place: &'a mut Value, step: &str) -> &'a mut Value {
    let index = step.parse::<usize>().ok().filter(|index| place.get(index).is_some());
    if let (Some(index), true) = (index, place.is_array()) {
        return &mut place[index];
    }
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    &mut place[step]
}

/// Where a configuration is kept that the source has changed, and of which one it was made.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    of: String,
}

impl Kept {
    /// The file at `path`, for changes of `base`.
    pub(crate) fn new(path: PathBuf, base: &Value) -> Self {
        let of = Sha256::digest(base.to_string()).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path, of }
    }

    /// What was kept; `None` where nothing was, or `config` was changed since by its owner.
    pub(crate) fn read(&self) -> io::Result<Option<Value>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut kept: Value = serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let is_mine = kept["of"] == self.of.as_str();
        Ok(kept.get_mut("config").filter(|_| is_mine).map(Value::take))
    }

    /// Keeps a changed configuration; whole or not at all, and for the hub's user alone.
    pub(crate) fn write(&self, config: &Value) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        remove(&fresh)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(json!({"of": self.of, "config": config}).to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }

    /// Removes the file.
    pub(crate) fn forget(&self) -> io::Result<()> {
        remove(&self.path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn secrets_come_to_their_places() {
        let config = serde_json::from_value(json!({
            "protocol": "airbyte", "command": ["s"], "config": {"host": "h", "list": [{"a": 1}]},
            "secrets": {"/password": "p", "/auth/api~1key": "k", "/list/0/b": "l"},
        }));
        let whole = merged(&config.unwrap());
        assert_eq!(whole, json!({"host": "h", "list": [{"a": 1, "b": "l"}], "password": "p", "auth": {"api/key": "k"}}));
    }

    #[test]
    fn a_changed_configuration_is_kept_until_its_owner_changes_it() {
        let folder = crate::folder::WorkFolder::make(&std::env::temp_dir(), "kept").unwrap();
        let (path, base) = (folder.path().join("kept.json"), json!({"a": 1}));
        let kept = Kept::new(path.clone(), &base);
        assert_eq!(kept.read().unwrap(), None);
        kept.write(&json!({"a": 2})).unwrap();
        kept.write(&json!({"a": 3})).unwrap();
        assert_eq!(Kept::new(path.clone(), &base).read().unwrap(), Some(json!({"a": 3})));
        assert_eq!(Kept::new(path, &json!({"a": 9})).read().unwrap(), None);
        kept.forget().unwrap();
        assert_eq!(kept.read().unwrap(), None);
    }
}
