//! The `config:` section of a MySQL or MariaDB system: parsing, defaults and the faults that need no network.

use std::time::Duration;

use hub_sdk::model::SystemName;
use hub_sdk::tls::TlsConfig;
use hub_sdk::{ConfigFault, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::decode::Zone;

/// How to reach and read one MySQL or MariaDB server. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MysqlConfig {
    /// Host name or address of the server.
    pub host: String,
    /// TCP port.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// Servers that hold the same data, `host` or `host:port`: asked in this order where the first does not answer. The place
    /// in their logs is found by GTID.
    #[serde(default)]
    pub failover: Vec<String>,
    /// Databases that `hub discover` lists; all but the server's own where none is given.
    #[serde(default)]
    pub databases: Vec<String>,
    /// The account that logs in.
    pub user: String,
    /// Its password: write a reference, `${file:secrets/ho_tich}` or `${env:HO_TICH_PASSWORD}`.
    #[serde(default)]
    pub password: Secret,
    /// Encryption of the link.
    #[serde(default)]
    pub tls: TlsConfig,
    /// The number by which the server knows the hub as a reader of its log; no replica and no other reader may have it. Made
    /// from the system's name when left out.
    #[serde(default)]
    pub server_id: Option<u32>,
    /// The time zone that `DATETIME` columns are kept in: `Asia/Ho_Chi_Minh` or `+07:00`. They become instants then; without
    /// it they stay dates and times without a zone. `TIMESTAMP` is an instant by itself.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// What becomes of `0000-00-00`.
    #[serde(default)]
    pub zero_dates: ZeroDates,
    /// Whether updates carry the whole state before them as well. Without it there is less to decode.
    #[serde(default = "defaults::before_images")]
    pub before_images: bool,
    /// How the rows that are already there are read.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// Seconds to wait for a connection.
    #[serde(default = "defaults::connect_timeout_s")]
    pub connect_timeout_s: u64,
    /// Seconds that the server may say nothing while a statement runs.
    #[serde(default = "defaults::query_timeout_s")]
    pub query_timeout_s: u64,
    /// Seconds between the signs of life that the server sends over a quiet log. After three without any the link counts as broken.
    #[serde(default = "defaults::heartbeat_s")]
    pub heartbeat_s: u64,
}

/// What becomes of the zero date. A date of which a part alone is zero is always refused, with its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroDates {
    /// It is null.
    #[default]
    Null,
    /// Its row goes to the rejects topic.
    Reject,
}

/// How the rows that are already there are read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// Whether they are read at all.
    pub mode: SnapshotMode,
    /// Connections that read at the same time, 1 to 32.
    pub workers: usize,
    /// Rows of the piece of a table that is read from one view of it.
    pub chunk_rows: u64,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { mode: SnapshotMode::Initial, workers: 2, chunk_rows: 200_000 }
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

impl MysqlConfig {
    /// The servers in the order in which they are asked.
    pub(crate) fn hosts(&self) -> Vec<(String, u16)> {
        let mut hosts = vec![(self.host.clone(), self.port)];
        hosts.extend(self.failover.iter().filter_map(|text| place(text, self.port)));
        hosts
    }

    /// The number as a reader of the log.
    pub(crate) fn reader(&self, system: &SystemName) -> u32 {
        // FNV-1a: the same number wherever and whenever it is made. The upper half is seldom used by hand.
        let hash = system.as_str().bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        self.server_id.unwrap_or(hash | 0x8000_0000)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_s)
    }

    /// Every fault that can be found without the network, each with its place.
    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, pointer: &str, message: &str| {
            if wrong {
                faults.push(ConfigFault { pointer: pointer.to_owned(), message: message.to_owned() });
            }
        };
        fault(self.host.trim().is_empty(), "/host", "is empty; give the host name or address of the server");
        fault(self.port == 0, "/port", "is 0; the server usually listens on 3306");
        for (index, text) in self.failover.iter().enumerate() {
            fault(place(text, self.port).is_none(), &format!("/failover/{index}"), "is no host; write `host` or `host:port`");
        }
        fault(self.user.is_empty(), "/user", "is empty; give an account with REPLICATION SLAVE and SELECT");
        fault(self.server_id == Some(0), "/server_id", "is 0; use a number that no replica has");
        fault(
            self.time_zone.as_deref().is_some_and(|name| Zone::new(name).is_none()),
            "/time_zone",
            "is no time zone; write a name such as Asia/Ho_Chi_Minh or an offset such as +07:00",
        );
        fault(!(1..=32).contains(&self.snapshot.workers), "/snapshot/workers", "is out of range; use 1 to 32, such as 2");
        fault(
            !(1_000..=100_000_000).contains(&self.snapshot.chunk_rows),
            "/snapshot/chunk_rows",
            "is out of range; use 1000 to 100000000, such as 200000",
        );
        fault(!(1..=3_600).contains(&self.connect_timeout_s), "/connect_timeout_s", "is out of range; use 1 to 3600 seconds, such as 10");
        fault(!(1..=86_400).contains(&self.query_timeout_s), "/query_timeout_s", "is out of range; use 1 to 86400 seconds, such as 600");
        fault(!(1..=3_600).contains(&self.heartbeat_s), "/heartbeat_s", "is out of range; use 1 to 3600 seconds, such as 10");
        fault(self.tls.ignores_ca(), "/tls/ca", "is never looked at in this mode; set /tls/mode to verify-full (or verify-ca)");
        faults
    }
}

/// `host`, `host:port`, `[address]:port`.
fn place(text: &str, port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => (text, port),
        Some((host, own)) => (host, own.parse().ok()?),
        None => (text, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').trim();
    (!host.is_empty() && port != 0).then(|| (host.to_owned(), port))
}

mod defaults {
    pub(super) fn port() -> u16 {
        3306
    }
    pub(super) fn before_images() -> bool {
        true
    }
    pub(super) fn connect_timeout_s() -> u64 {
        10
    }
    pub(super) fn query_timeout_s() -> u64 {
        600
    }
    pub(super) fn heartbeat_s() -> u64 {
        10
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn least() -> serde_json::Value {
        json!({"host": "db", "user": "hub", "password": "hunter2"})
    }

    fn parse(value: serde_json::Value) -> MysqlConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_least_configuration_has_working_defaults_and_no_faults() {
        let config = parse(least());
        assert_eq!((config.port, config.tls.mode, config.zero_dates), (3306, hub_sdk::tls::TlsMode::Prefer, ZeroDates::Null));
        assert_eq!(config.faults(), Vec::new());
        let reader = |name: &str| config.reader(&SystemName::new(name).unwrap());
        assert!(reader("ho-tich") >= 0x8000_0000 && reader("ho-tich") != reader("dat-dai"));
    }

    #[test]
    fn all_faults_are_told_together_each_with_its_place() {
        let mut value = least();
        value["host"] = json!("");
        value["failover"] = json!(["b:x", "c:3307"]);
        value["time_zone"] = json!("Ha Noi");
        value["snapshot"] = json!({"workers": 0, "chunk_rows": 1});
        value["tls"] = json!({"mode": "prefer", "ca": "ca.pem"});
        let pointers: Vec<String> = parse(value).faults().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(pointers, ["/host", "/failover/0", "/time_zone", "/snapshot/workers", "/snapshot/chunk_rows", "/tls/ca"]);
    }

    #[test]
    fn other_servers_are_named_with_or_without_a_port() {
        let mut value = least();
        value["failover"] = json!(["b", "c:3307", "[::1]:3308", "fe80::1"]);
        let hosts: Vec<_> = parse(value).hosts().into_iter().map(|(host, port)| format!("{host} {port}")).collect();
        assert_eq!(hosts, ["db 3306", "b 3306", "c 3307", "::1 3308", "fe80::1 3306"]);
    }

    #[test]
    fn the_password_is_never_shown() {
        assert!(!format!("{:?}", parse(least())).contains("hunter2"));
    }
}
