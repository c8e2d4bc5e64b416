//! The `config:` section of a system behind ODBC: parsing, defaults and the faults that can be told offline.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_sdk::{ConfigFault, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::dialect::Dialect;

/// A database that is read through its ODBC driver. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OdbcConfig {
    /// The driver: its name in odbcinst.ini (`ODBC Driver 18 for SQL Server`) or the path of its library.
    #[serde(default)]
    pub driver: Option<String>,
    /// Host name or address of the server.
    #[serde(default)]
    pub server: Option<String>,
    /// Port of the server, where it is not the driver's usual one. For SQL Server it is written behind the server's name.
    #[serde(default)]
    pub port: Option<u16>,
    /// The database; for SQLite its file.
    #[serde(default)]
    pub database: Option<String>,
    /// The account.
    #[serde(default)]
    pub user: Option<String>,
    /// The password of the account.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Further keywords of the driver's connection string: `Encrypt: strict`, `SSLmode: verify-full`. They win over what the hub sets itself.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The whole connection string, instead of all of the above.
    #[serde(default)]
    pub connection_string: Option<Secret>,
    /// Whose SQL is spoken. Found by asking the driver unless given.
    #[serde(default)]
    pub dialect: Option<Dialect>,
    /// In which form the driver hands text over.
    #[serde(default)]
    pub encoding: Encoding,
    /// Seconds between two looks at a stream.
    #[serde(default = "defaults::every_s")]
    pub every_s: f64,
    /// Seconds that a login may take. 0: as long as the driver likes.
    #[serde(default = "defaults::login_timeout_s")]
    pub login_timeout_s: u32,
    /// Seconds that the server may take for a statement, and that no row may come. 0: for ever.
    #[serde(default = "defaults::query_timeout_s")]
    pub query_timeout_s: u32,
    /// Longest text or binary value of columns without a trustworthy length, KiB. A longer one costs its row (`value-too-long`), it is never cut.
    #[serde(default = "defaults::max_value_kib")]
    pub max_value_kib: u32,
    /// Memory into which the driver writes at once, MiB. Rows with long columns are fetched fewer at a time.
    #[serde(default = "defaults::fetch_mib")]
    pub fetch_mib: u32,
    /// What is known of streams, by name. A stream that is not named here is the table of its name, compared by its primary key.
    #[serde(default)]
    pub streams: BTreeMap<String, OdbcStream>,
}

/// One stream, and how its changes are found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OdbcStream {
    /// The table or view, `schema.table`, spelled as the database spells it; the stream's name unless given.
    #[serde(default)]
    pub table: Option<String>,
    /// Any SELECT instead of a table.
    #[serde(default)]
    pub query: Option<String>,
    /// The columns that identify a row; the primary key unless given.
    #[serde(default)]
    pub key: Vec<String>,
    /// How changes are found.
    #[serde(default)]
    pub mode: Mode,
    /// Seconds between two looks at this stream; those of the system unless given.
    #[serde(default)]
    pub every_s: Option<f64>,
}

/// How changes are found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every look reads all rows and compares them with what was told: inserts, updates and deletes, of any table with a key.
    #[default]
    Compare,
    /// Every look reads the rows whose watermark is not below the last one that was seen. Deletes are not seen.
    Watermark(Watermark),
    /// Change tracking of SQL Server.
    ChangeTracking(ChangeTracking),
    /// Change data capture of SQL Server: every change, deletes among them.
    Cdc(Cdc),
}

/// A column that grows whenever its row changes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watermark {
    /// The column. It should be indexed.
    pub column: String,
    /// What it holds.
    pub kind: MarkKind,
    /// How far behind the last watermark a look begins, for transactions that commit late: seconds of `timestamp`, steps of the others.
    #[serde(default)]
    pub overlap_s: u32,
    /// `timestamp`: rows younger than so many seconds by the clock of the source wait for the next look. 0: none waits.
    #[serde(default)]
    pub settle_s: u32,
    /// Seconds between full comparisons that find deletes as well. Needs memory for every row, as `compare` does.
    #[serde(default)]
    pub full_compare_every_s: Option<f64>,
}

/// What a watermark holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// A date with or without a time.
    Timestamp,
    /// SQL Server's `rowversion`, eight bytes.
    Rowversion,
    /// A whole number.
    Number,
}

/// SQL Server's change tracking.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTracking {}

/// SQL Server's change data capture.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cdc {
    /// The capture instance, `dbo_HoSo`: its changes are in `<schema>.<instance>_CT`.
    pub instance: String,
    /// The schema of the change tables.
    #[serde(default = "defaults::cdc_schema")]
    pub schema: String,
    /// The schema of the functions `fn_cdc_get_max_lsn` and `fn_cdc_get_min_lsn`.
    #[serde(default = "defaults::function_schema")]
    pub functions: String,
}

/// In which form the driver hands text over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF-8 from drivers that are known to give it whatever the locale (PostgreSQL's, MariaDB's, SQLite's), UTF-16 from all others.
    #[default]
    Auto,
    /// Bytes, which must be UTF-8.
    Utf8,
    /// Wide characters: right with every driver, and slower.
    Utf16,
}

mod defaults {
    pub(super) fn every_s() -> f64 {
        60.0
    }
    pub(super) fn login_timeout_s() -> u32 {
        15
    }
    pub(super) fn query_timeout_s() -> u32 {
        600
    }
    pub(super) fn max_value_kib() -> u32 {
        64
    }
    pub(super) fn fetch_mib() -> u32 {
        16
    }
    pub(super) fn cdc_schema() -> String {
        "cdc".to_owned()
    }
    pub(super) fn function_schema() -> String {
        "sys".to_owned()
    }
}

impl OdbcConfig {
    /// Everything that is wrong and can be told without the driver.
    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut wrong =
            |pointer: &str, message: &str| faults.push(ConfigFault { pointer: pointer.to_owned(), message: message.to_owned() });
        match (&self.driver, &self.connection_string) {
            (None, None) => wrong("/driver", "name the driver, or give a whole connection_string"),
            (Some(_), Some(_)) => {
                wrong("/connection_string", "it says everything: leave out driver, server, port, database, user and password")
            }
            (None, Some(_)) if self.server.is_some() || self.database.is_some() || self.user.is_some() || self.password.is_some() => {
                wrong("/connection_string", "it says everything: leave out server, database, user and password");
            }
            (None, Some(_)) if !self.options.is_empty() => wrong("/options", "write them into connection_string"),
            (None, Some(string)) if string.reveal().trim().is_empty() => wrong("/connection_string", "it is empty"),
            (Some(driver), None) if driver.trim().is_empty() => wrong("/driver", "it is empty"),
            _ => {}
        }
        if !is_period(self.every_s) {
            wrong("/every_s", "it must be more than 0, and at most a year");
        }
        if self.max_value_kib == 0 || self.max_value_kib > 1 << 20 {
            wrong("/max_value_kib", "it must be from 1 to 1048576");
        }
        if self.fetch_mib == 0 || self.fetch_mib > 4096 {
            wrong("/fetch_mib", "it must be from 1 to 4096");
        }
        for name in self.options.keys().filter(|name| name.is_empty() || name.contains([';', '=', '{', '}'])) {
            wrong("/options", &format!("{name:?} is no keyword of a connection string"));
        }
        for (name, stream) in &self.streams {
            let pointer = format!("/streams/{}", hub_sdk::pointer_part(name));
            for (place, message) in stream.faults() {
                wrong(&format!("{pointer}{place}"), message);
            }
        }
        faults
    }

    /// Bytes of a value whose column says no length.
    pub(crate) fn max_value(&self) -> usize {
        self.max_value_kib as usize * 1024
    }

    /// Bytes that the driver fills at once.
    pub(crate) fn fetch_bytes(&self) -> usize {
        self.fetch_mib as usize * 1024 * 1024
    }

    /// Seconds a statement may take; `None` for ever.
    pub(crate) fn query_timeout(&self) -> Option<usize> {
        (self.query_timeout_s > 0).then_some(self.query_timeout_s as usize)
    }

    /// How long no row may come before the link is given up: the statement's time, and some for the way.
    pub(crate) fn patience(&self) -> Duration {
        match self.query_timeout_s {
            0 => Duration::from_secs(u64::from(u32::MAX)),
            seconds => Duration::from_secs(u64::from(seconds) + u64::from(self.login_timeout_s) + 15),
        }
    }
}

impl OdbcStream {
    fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if self.table.is_some() && self.query.is_some() {
            faults.push(("/query", "give table or query, not both"));
        }
        if self.query.as_ref().is_some_and(|query| query.trim().trim_end_matches(';').trim().is_empty()) {
            faults.push(("/query", "it is empty"));
        }
        if self.query.is_some() && self.key.is_empty() {
            faults.push(("/key", "a query has no primary key: name the columns that identify a row"));
        }
        if self.every_s.is_some_and(|every| !is_period(every)) {
            faults.push(("/every_s", "it must be more than 0, and at most a year"));
        }
        match &self.mode {
            Mode::Watermark(mark) => {
                if mark.column.is_empty() {
                    faults.push(("/mode/watermark/column", "it is empty"));
                }
                if mark.settle_s > 0 && mark.kind != MarkKind::Timestamp {
                    faults.push(("/mode/watermark/settle_s", "only a timestamp can be held against a clock"));
                }
                if mark.full_compare_every_s.is_some_and(|every| !is_period(every)) {
                    faults.push(("/mode/watermark/full_compare_every_s", "it must be more than 0, and at most a year"));
                }
            }
            Mode::ChangeTracking(_) | Mode::Cdc(_) if self.query.is_some() => {
                faults.push(("/query", "the server tracks tables, not queries: give table"));
            }
            Mode::Cdc(cdc) if cdc.instance.is_empty() => faults.push(("/mode/cdc/instance", "it is empty")),
            _ => {}
        }
        faults
    }
}

fn is_period(seconds: f64) -> bool {
    seconds > 0.0 && seconds <= 31_622_400.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn faults(config: serde_json::Value) -> Vec<String> {
        let config: OdbcConfig = serde_json::from_value(config).unwrap();
        config.faults().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn all_faults_are_told_with_their_places() {
        let mark = json!({"column": "", "kind": "number", "settle_s": 5, "full_compare_every_s": 0});
        let config = json!({"every_s": 0, "max_value_kib": 0, "fetch_mib": 0, "options": {"a;b": "c"}, "streams": {
            "a/b": {"table": "t", "query": "SELECT 1", "every_s": -1, "mode": {"watermark": mark}},
            "c": {"query": "SELECT 1", "key": ["a"], "mode": {"cdc": {"instance": ""}}},
        }});
        let expected = [
            "/driver",
            "/every_s",
            "/max_value_kib",
            "/fetch_mib",
            "/options",
            "/streams/a~1b/query",
            "/streams/a~1b/key",
            "/streams/a~1b/every_s",
            "/streams/a~1b/mode/watermark/column",
            "/streams/a~1b/mode/watermark/settle_s",
            "/streams/a~1b/mode/watermark/full_compare_every_s",
            "/streams/c/query",
        ];
        assert_eq!(faults(config), expected);
    }

    #[test]
    fn a_whole_connection_string_stands_alone() {
        assert_eq!(faults(json!({"connection_string": "DSN=x"})), Vec::<String>::new());
        assert_eq!(faults(json!({"connection_string": "DSN=x", "driver": "y"})), ["/connection_string"]);
        assert_eq!(faults(json!({"connection_string": "DSN=x", "user": "y"})), ["/connection_string"]);
        assert_eq!(faults(json!({"connection_string": "DSN=x", "options": {"a": "b"}})), ["/options"]);
    }

    #[test]
    fn secrets_are_not_shown_by_debug() {
        let config: OdbcConfig = serde_json::from_value(json!({"connection_string": "Pwd=bi_mat"})).unwrap();
        assert!(!format!("{config:?}").contains("bi_mat"));
    }
}
