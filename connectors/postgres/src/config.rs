//! The `config:` section of a PostgreSQL system: parsing, defaults and the faults that need no network.

use hub_sdk::model::SystemName;
use hub_sdk::tls::TlsConfig;
use hub_sdk::{ConfigFault, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

/// How to reach and read one PostgreSQL database. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Host name or address of the server (the primary; a pooler in between cannot replicate).
    pub host: String,
    /// TCP port.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// The database. Logical replication reads exactly one.
    pub database: String,
    /// The role that logs in. It needs `LOGIN REPLICATION`, and `SELECT` on every captured table.
    pub user: String,
    /// Its password: write a reference, `${file:secrets/mot_cua}` or `${env:MOT_CUA_PASSWORD}`.
    #[serde(default)]
    pub password: Secret,
    /// Encryption of the link.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Name of the replication slot; `hub_<system>` with `-` as `_` when left out.
    #[serde(default)]
    pub slot: Option<String>,
    /// Name of the publication; the same default as `slot`.
    #[serde(default)]
    pub publication: Option<String>,
    /// How the rows that are already there are read.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// Whether the slot is created for failover, so that it survives on a standby that takes over. PostgreSQL 17 and later.
    #[serde(default)]
    pub failover: bool,
    /// Seconds to wait for a connection.
    #[serde(default = "defaults::connect_timeout_s")]
    pub connect_timeout_s: u64,
    /// What `pg_stat_activity` shows as `application_name`.
    #[serde(default = "defaults::application_name")]
    pub application_name: String,
}

/// How the rows that are already there are read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// Whether they are read at all.
    pub mode: SnapshotMode,
    /// Connections that read at the same time, 1 to 32.
    pub parallel: usize,
    /// Size of the piece of a table that is read at once and not read again after a crash, MiB.
    pub chunk_mib: u64,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { mode: SnapshotMode::Initial, parallel: 2, chunk_mib: 64 }
    }
}

/// Whether present rows are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotMode {
    /// Each stream once, when it is first captured.
    #[default]
    Initial,
    /// Never: only what changes from now on.
    Never,
}

/// Longest identifier of PostgreSQL, bytes.
const IDENTIFIER_BYTES: usize = 63;

impl PostgresConfig {
    /// The slot of a system: as configured, or `hub_<system>`.
    #[must_use]
    pub fn slot_name(&self, system: &SystemName) -> String {
        self.slot.clone().unwrap_or_else(|| default_name(system))
    }

    /// The publication of a system: as configured, or `hub_<system>`.
    #[must_use]
    pub fn publication_name(&self, system: &SystemName) -> String {
        self.publication.clone().unwrap_or_else(|| default_name(system))
    }

    /// Every fault that can be found without the network, each with its place.
    #[must_use]
    pub fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, pointer: &str, message: &str| {
            if wrong {
                faults.push(ConfigFault { pointer: pointer.to_owned(), message: message.to_owned() });
            }
        };
        fault(self.host.trim().is_empty(), "/host", "is empty; give the host name or address of the primary server");
        fault(self.port == 0, "/port", "is 0; PostgreSQL usually listens on 5432");
        fault(self.database.is_empty(), "/database", "is empty; give the one database to capture");
        fault(self.user.is_empty(), "/user", "is empty; give a role with LOGIN and REPLICATION");
        fault(
            self.slot.as_deref().is_some_and(|slot| !is_slot_name(slot)),
            "/slot",
            "cannot name a replication slot; use 1 to 63 of a-z, 0-9 and _",
        );
        fault(
            self.publication.as_deref().is_some_and(|name| name.is_empty() || name.len() > IDENTIFIER_BYTES),
            "/publication",
            "cannot name a publication; use 1 to 63 bytes",
        );
        fault(!(1..=32).contains(&self.snapshot.parallel), "/snapshot/parallel", "is out of range; use 1 to 32, such as 2");
        fault(!(1..=16_384).contains(&self.snapshot.chunk_mib), "/snapshot/chunk_mib", "is out of range; use 1 to 16384, such as 64");
        fault(!(1..=3_600).contains(&self.connect_timeout_s), "/connect_timeout_s", "is out of range; use 1 to 3600 seconds, such as 10");
        fault(self.tls.ignores_ca(), "/tls/ca", "is never looked at in this mode; set /tls/mode to verify-full (or verify-ca)");
        fault(self.application_name.len() > IDENTIFIER_BYTES, "/application_name", "is longer than the 63 bytes that PostgreSQL keeps");
        faults
    }
}

/// What every session sets, so that text has one form and no row-level policy hides rows in silence.
/// The snapshot's readers and the replication connection must use the same.
pub const SESSION_SETTINGS: [(&str, &str); 9] = [
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("client_encoding", "UTF8"),
    ("search_path", "pg_catalog"),
    // A policy would filter the snapshot and not the stream: better an error that names the table.
    ("row_security", "off"),
    ("statement_timeout", "0"),
];

/// What a session that reads rows runs besides, where `server_encoding` is `SQL_ASCII`. Such a database may hold any bytes, and
/// with `client_encoding=UTF8` the first value that is no UTF-8 ends the whole COPY or stream (22021). Passed on as they are,
/// the decoder refuses that one row.
pub const UNDECLARED_ENCODING: &str = "SET client_encoding = 'SQL_ASCII'";

/// [`SESSION_SETTINGS`] as the `options` of a start-up message.
#[must_use]
pub fn session_options() -> String {
    SESSION_SETTINGS.iter().map(|(name, value)| format!("-c {name}={value}")).collect::<Vec<_>>().join(" ")
}

fn default_name(system: &SystemName) -> String {
    format!("hub_{}", system.as_str().replace('-', "_"))
}

fn is_slot_name(name: &str) -> bool {
    (1..=IDENTIFIER_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

mod defaults {
    pub(super) fn port() -> u16 {
        5432
    }
    pub(super) fn connect_timeout_s() -> u64 {
        10
    }
    pub(super) fn application_name() -> String {
        "provincial-data-hub".to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn least() -> serde_json::Value {
        json!({"host": "db", "database": "mot_cua", "user": "hub", "password": "hunter2"})
    }

    fn parse(value: serde_json::Value) -> PostgresConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_least_configuration_has_working_defaults_and_no_faults() {
        let config = parse(least());
        assert_eq!(config.port, 5432);
        assert_eq!(config.tls, TlsConfig { mode: hub_sdk::tls::TlsMode::Prefer, ca: None });
        assert_eq!(config.snapshot, SnapshotConfig { mode: SnapshotMode::Initial, parallel: 2, chunk_mib: 64 });
        let system = SystemName::new("mot-cua").unwrap();
        assert_eq!(config.slot_name(&system), "hub_mot_cua");
        assert_eq!(config.publication_name(&system), "hub_mot_cua");
        assert_eq!(config.faults(), Vec::new());
    }

    #[test]
    fn an_unknown_key_is_refused_at_every_level() {
        for (section, key) in [("", "hots"), ("tls", "cert"), ("snapshot", "threads")] {
            let mut value = least();
            if section.is_empty() {
                value[key] = json!(1);
            } else {
                value[section] = json!({ key: 1 });
            }
            let error = serde_json::from_value::<PostgresConfig>(value).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        assert!(!format!("{:?}", parse(least())).contains("hunter2"));
    }

    #[test]
    fn all_faults_are_told_together_each_with_its_place() {
        let mut value = least();
        value["host"] = json!("");
        value["port"] = json!(0);
        value["slot"] = json!("Hub-Slot");
        value["snapshot"] = json!({"parallel": 0, "chunk_mib": 0});
        value["tls"] = json!({"mode": "prefer", "ca": "ca.pem"});
        let pointers: Vec<String> = parse(value).faults().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(pointers, ["/host", "/port", "/slot", "/snapshot/parallel", "/snapshot/chunk_mib", "/tls/ca"]);
    }
}
