//! The `config:` section of a system that is read by a child process: parsing, defaults and the faults that can be told offline.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hub_sdk::{ConfigFault, Secret, pointer_part};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// An Airbyte source or a Singer tap, and how it is run. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// What the child speaks.
    pub protocol: Protocol,
    /// The program and its first arguments, a list; no shell reads it. A program without `/` is looked for in `PATH`, a relative
    /// path starts at the configuration folder.
    pub command: Vec<String>,
    /// Arguments behind those that the protocol gives: `[--manifest-path, /srv/muasamcong.yaml]`.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The child's own configuration, as its documentation says. Passwords and keys belong into `secrets`.
    #[serde(default)]
    pub config: Settings,
    /// Secrets of the child's configuration, by their place in it: `/credentials/password: ${file:/run/secrets/mk}`.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// Variables of the child's environment. Beside them it has PATH, HOME, TMPDIR, LANG and TZ, and nothing of the hub's own.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// The streams that are read in another way than whole, or by another key than the source says. Others need no entry.
    #[serde(default)]
    pub streams: BTreeMap<String, ExecStream>,
    /// Seconds between the end of a run and the next one.
    #[serde(default = "defaults::every_s")]
    pub every_s: f64,
    /// Memory that the child and its own children may hold together, MiB. One that holds more is ended.
    #[serde(default = "defaults::memory_mib")]
    pub memory_mib: u64,
    /// Address space of each process, MiB, as the kernel limits it. 0: no limit; many runtimes reserve far more than they use.
    #[serde(default)]
    pub address_mib: u64,
    /// Seconds that one run may take, not counting the time that the hub makes it wait.
    #[serde(default = "defaults::run_within_s")]
    pub run_within_s: f64,
    /// Seconds without a line after which a child is ended.
    #[serde(default = "defaults::silent_for_s")]
    pub silent_for_s: f64,
    /// Seconds that a question (`spec`, `check`, `discover`) may take.
    #[serde(default = "defaults::ask_within_s")]
    pub ask_within_s: f64,
    /// The longest line that is read, MiB. A longer one ends the run: what it holds is not known.
    #[serde(default = "defaults::line_mib")]
    pub line_mib: u64,
    /// Seconds after which the source is asked for its streams and columns again, before the next run.
    #[serde(default = "defaults::discover_every_s")]
    pub discover_every_s: f64,
    /// Rows of each stream in `changes` and `log` that are remembered by digest, so that one that comes again is not told again.
    #[serde(default = "defaults::remember_rows")]
    pub remember_rows: usize,
    /// Lines of the child's last words that an error shows, without secrets and without long numbers. 0: none.
    #[serde(default = "defaults::stderr_lines")]
    pub stderr_lines: usize,
    /// File with the source's catalog, as `discover` would print it: for taps that cannot discover, or where it takes long.
    #[serde(default)]
    pub catalog: Option<PathBuf>,
    /// Singer: the argument before the catalog's file. Old taps want `--properties`. Empty: the tap is given none and reads all.
    #[serde(default = "defaults::catalog_argument")]
    pub catalog_argument: String,
    /// Folder for the child's files and its HOME. Each run has a folder of its own in it, which only the hub's user can open and
    /// which is removed after the run. Absent: the system's temporary folder.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// File in which a configuration is kept that an Airbyte source has changed itself (a refresh token that is good for one
    /// use). Absent: such a change is forgotten when the hub stops.
    #[serde(default)]
    pub updated_config: Option<PathBuf>,
}

/// How one stream is read.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecStream {
    /// What a run reads.
    #[serde(default)]
    pub mode: Mode,
    /// The columns that identify a row, where the source does not say it, or wrongly.
    #[serde(default)]
    pub key: Vec<String>,
    /// `changes`: the column by which the source finds what is new, where it leaves the choice.
    #[serde(default)]
    pub cursor: Option<String>,
    /// A column that is filled where a row is deleted. `_ab_cdc_deleted_at` and `_sdc_deleted_at` are known.
    #[serde(default)]
    pub deleted_at: Option<String>,
    /// `whole`: a run that shows fewer records than this has failed, and deletes nothing. For lists that a source may give empty
    /// by mistake.
    #[serde(default)]
    pub at_least: u64,
}

/// What the child speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The Airbyte protocol: `spec`, `check`, `discover`, `read`.
    Airbyte,
    /// The Singer specification: `--discover`, `--catalog`, `--state`.
    Singer,
}

/// What a run reads of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All rows: what differs from what was told before is told, and what is absent is deleted.
    #[default]
    Whole,
    /// Rows that are new or changed since the state of the run before.
    Changes,
    /// Singer: the source's log (`LOG_BASED`), deletes among it.
    Log,
}

/// The child's own configuration. `Debug` shows the names of its members alone.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(pub Map<String, Value>);

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Mode {
    /// Whether the child's state is kept for it.
    pub(crate) fn keeps_state(self) -> bool {
        self != Self::Whole
    }
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value.clamp(0.01, 31_536_000.0))
}

impl ExecConfig {
    /// Time between two runs.
    pub(crate) fn every(&self) -> Duration {
        seconds(self.every_s)
    }

    /// Time between two questions for the source's streams.
    pub(crate) fn discover_every(&self) -> Duration {
        seconds(self.discover_every_s)
    }

    /// Longest run.
    pub(crate) fn run_within(&self) -> Duration {
        seconds(self.run_within_s)
    }

    /// Longest question.
    pub(crate) fn ask_within(&self) -> Duration {
        seconds(self.ask_within_s)
    }

    /// Longest silence.
    pub(crate) fn silent_for(&self) -> Duration {
        seconds(self.silent_for_s)
    }

    /// Longest line in bytes.
    pub(crate) fn line_bytes(&self) -> usize {
        usize::try_from(self.line_mib << 20).unwrap_or(usize::MAX)
    }

    /// How a stream is read.
    pub(crate) fn stream(&self, name: &str) -> ExecStream {
        self.streams.get(name).cloned().unwrap_or_default()
    }

    /// Every fault that can be found without starting the child, each with its place.
    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, pointer: &str, message: &str| {
            if wrong {
                faults.push(ConfigFault { pointer: pointer.to_owned(), message: message.to_owned() });
            }
        };
        let no_program = self.command.first().is_none_or(String::is_empty);
        fault(no_program, "/command", "is empty; give the program as a list, such as [/srv/taps/bin/tap-postgres]");
        let shell = self.command.len() == 1 && self.command[0].contains(' ');
        fault(shell, "/command", "is one text with blanks; give a list, one entry for each argument, since no shell reads it");
        fault(!(0.01..=2_592_000.0).contains(&self.every_s), "/every_s", "is out of range; use 0.01 to 2592000 seconds, such as 3600");
        fault(!(0.01..=2_592_000.0).contains(&self.discover_every_s), "/discover_every_s", "is out of range; use seconds, such as 3600");
        fault(!(16..=1_048_576).contains(&self.memory_mib), "/memory_mib", "is out of range; use 16 to 1048576 MiB, such as 1024");
        for (value, pointer) in
            [(self.run_within_s, "/run_within_s"), (self.silent_for_s, "/silent_for_s"), (self.ask_within_s, "/ask_within_s")]
        {
            fault(!(0.1..=2_592_000.0).contains(&value), pointer, "is out of range; use 0.1 to 2592000 seconds");
        }
        fault(!(1..=1_024).contains(&self.line_mib), "/line_mib", "is out of range; use 1 to 1024 MiB, such as 16");
        fault(self.remember_rows > 10_000_000, "/remember_rows", "is out of range; use at most 10000000");
        fault(self.stderr_lines > 100, "/stderr_lines", "is out of range; use at most 100");
        let is_singer = self.protocol == Protocol::Singer;
        fault(is_singer && self.updated_config.is_some(), "/updated_config", "is for `protocol: airbyte` alone");
        let is_argument = self.catalog_argument.is_empty() || self.catalog_argument.starts_with('-');
        fault(!is_argument, "/catalog_argument", "must be an argument such as --catalog, or empty");
        let value = Value::Object(self.config.0.clone());
        for pointer in self.secrets.keys() {
            let place = format!("/secrets/{}", pointer_part(pointer));
            fault(!pointer.starts_with('/'), &place, "is no JSON pointer; write /password, or /credentials/password for a nested one");
            fault(value.pointer(pointer).is_some(), &place, "is given in `config` too; leave it out there");
        }
        for name in self.env.keys() {
            let wrong = name.is_empty() || name.contains(['=', '\0', ' ']);
            fault(wrong, &format!("/env/{}", pointer_part(name)), "is no name of a variable");
        }
        for (name, stream) in &self.streams {
            let place = |field: &str| format!("/streams/{}/{field}", pointer_part(name));
            fault(stream.mode == Mode::Log && !is_singer, &place("mode"), "`log` is for `protocol: singer`; write `changes`");
            fault(stream.mode != Mode::Changes && stream.cursor.is_some(), &place("cursor"), "is for `mode: changes` alone");
            let is_whole = stream.mode == Mode::Whole;
            fault(!is_whole && stream.at_least > 0, &place("at_least"), "is for `mode: whole` alone");
            fault(stream.key.iter().any(String::is_empty), &place("key"), "has an empty name");
        }
        faults
    }
}

mod defaults {
    pub(super) fn every_s() -> f64 {
        600.0
    }
    pub(super) fn memory_mib() -> u64 {
        1_024
    }
    pub(super) fn run_within_s() -> f64 {
        21_600.0
    }
    pub(super) fn silent_for_s() -> f64 {
        900.0
    }
    pub(super) fn ask_within_s() -> f64 {
        300.0
    }
    pub(super) fn line_mib() -> u64 {
        16
    }
    pub(super) fn discover_every_s() -> f64 {
        3_600.0
    }
    pub(super) fn remember_rows() -> usize {
        100_000
    }
    pub(super) fn stderr_lines() -> usize {
        5
    }
    pub(super) fn catalog_argument() -> String {
        "--catalog".to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn config(config: Value) -> ExecConfig {
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        assert!(config(json!({"protocol": "singer", "command": ["tap-csv"]})).faults().is_empty());
        let all = config(json!({
            "protocol": "airbyte", "command": ["source faker"], "every_s": 0, "memory_mib": 1, "run_within_s": 0,
            "line_mib": 0, "stderr_lines": 1000, "catalog_argument": "catalog",
            "config": {"user": "a", "password": "b"}, "secrets": {"password": "x", "/password": "y"}, "env": {"A=B": "z"},
            "streams": {"a/b": {"mode": "log", "at_least": 1}, "c": {"cursor": "d", "key": [""]}},
        }));
        let pointers: Vec<_> = all.faults().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(
            pointers,
            [
                "/command",
                "/every_s",
                "/memory_mib",
                "/run_within_s",
                "/line_mib",
                "/stderr_lines",
                "/catalog_argument",
                "/secrets/~1password",
                "/secrets/password",
                "/env/A=B",
                "/streams/a~1b/mode",
                "/streams/a~1b/at_least",
                "/streams/c/cursor",
                "/streams/c/key",
            ]
        );
    }

    #[test]
    fn what_the_child_is_given_is_not_shown() {
        let config = config(json!({
            "protocol": "singer", "command": ["t"], "config": {"password": "m@tkhau"}, "secrets": {"/k": "m@tkhau"}, "env": {"T": "m@tkhau"},
        }));
        let shown = format!("{config:?}");
        assert!(!shown.contains("m@tkhau") && shown.contains("password"), "{shown}");
    }
}
