//! One connection: its string, its database, and small questions to it.

use std::path::Path;
use std::sync::Arc;

use arrow_odbc::odbc_api::handles::StatementImpl;
use arrow_odbc::odbc_api::{Connection, ConnectionOptions, Cursor, CursorImpl, environment};
use hub_sdk::{ErrorKind, SourceError};

use crate::classify::{Secrets, classified};
use crate::config::{Encoding, OdbcConfig};
use crate::dialect::{Dialect, Quotes};

/// What every connection of a system is made with.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The configuration.
    pub(crate) config: OdbcConfig,
    /// What its errors must not show.
    pub(crate) secrets: Secrets,
}

/// An open connection. It may move between threads, and is used by one at a time.
pub(crate) struct Session {
    connection: Connection<'static>,
    settings: Arc<Settings>,
    /// Whose SQL it speaks.
    pub(crate) dialect: Dialect,
    /// How it quotes names.
    pub(crate) quotes: Quotes,
    /// The database in its own words.
    pub(crate) dbms: String,
}

impl Settings {
    /// Keeps a configuration.
    pub(crate) fn new(config: OdbcConfig) -> Self {
        let mut secrets: Vec<String> = config.password.iter().map(|password| password.reveal().to_owned()).collect();
        secrets.extend(config.password.iter().map(|password| escaped(password.reveal())));
        if let Some(string) = &config.connection_string {
            secrets.push(string.reveal().to_owned());
            secrets.extend(passwords(string.reveal()));
        }
        Self { secrets: Secrets::new(secrets), config }
    }

    /// The dialect that the configuration gives or the driver's name tells.
    pub(crate) fn expected_dialect(&self) -> Dialect {
        let of_driver = self.config.driver.as_deref().or(self.config.connection_string.as_ref().map(|string| string.reveal()));
        self.config.dialect.or_else(|| of_driver.map(Dialect::of_driver)).unwrap_or(Dialect::Generic)
    }

    /// The words for messages: where it connects to.
    pub(crate) fn place(&self) -> String {
        match (&self.config.server, &self.config.database, &self.config.driver) {
            (Some(server), Some(database), _) => format!("{server}/{database}"),
            (None, Some(database), _) => database.clone(),
            (Some(server), None, _) => server.clone(),
            (None, None, Some(driver)) => format!("the database of {driver}"),
            (None, None, None) => "the database of connection_string".to_owned(),
        }
    }

    fn connection_string(&self) -> String {
        let config = &self.config;
        if let Some(string) = &config.connection_string {
            return string.reveal().to_owned();
        }
        let dialect = self.expected_dialect();
        let mut parts: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: &str| {
            if !config.options.keys().any(|option| option.eq_ignore_ascii_case(name)) {
                parts.push((name.to_owned(), value.to_owned()));
            }
        };
        add("Driver", config.driver.as_deref().unwrap_or_default());
        match (&config.server, config.port, dialect) {
            (Some(server), Some(port), Dialect::SqlServer) => add("Server", &format!("{server},{port}")),
            (Some(server), Some(port), Dialect::Oracle) => {
                add("DBQ", &format!("{server}:{port}/{}", config.database.as_deref().unwrap_or_default()));
            }
            (server, port, _) => {
                server.iter().for_each(|server| add(if dialect == Dialect::Db2 { "Hostname" } else { "Server" }, server));
                port.iter().for_each(|port| add("Port", &port.to_string()));
            }
        }
        config.database.iter().for_each(|database| add("Database", database));
        config.user.iter().for_each(|user| add("Uid", user));
        config.password.iter().for_each(|password| add("Pwd", password.reveal()));
        for (name, value) in dialect.options() {
            add(name, value);
        }
        parts.extend(config.options.iter().map(|(name, value)| (name.clone(), value.clone())));
        parts.iter().map(|(name, value)| format!("{name}={};", escaped(value))).collect()
    }

    /// Whether a database that is a file is there: SQLite would make a missing one.
    fn file(&self) -> Result<(), SourceError> {
        let Some(file) = self.config.database.as_deref().filter(|_| self.expected_dialect().is_file()) else { return Ok(()) };
        let failed = |kind, why: String| SourceError::new(kind, format!("opening {file}")).because(why);
        match std::fs::metadata(Path::new(file)) {
            Ok(metadata) if metadata.is_dir() => {
                Err(failed(ErrorKind::BadConfig, "it is a folder".to_owned()).advise("name the file of the database"))
            }
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotADirectory) => {
                Err(failed(ErrorKind::Denied, error.to_string()).advise("let the hub's account read the file and its folders"))
            }
            Err(error) => Err(failed(ErrorKind::Unreachable, error.to_string())),
        }
    }
}

impl Session {
    /// Connects. Waits: only for threads that may.
    pub(crate) fn open(settings: &Arc<Settings>) -> Result<Self, SourceError> {
        settings.file()?;
        let doing = || format!("connecting to {}", settings.place());
        let failed = |error: &arrow_odbc::odbc_api::Error| classified(error, doing(), &settings.secrets);
        let environment = environment().map_err(|error| failed(&error))?;
        let timeout = Some(settings.config.login_timeout_s).filter(|seconds| *seconds > 0);
        let options = ConnectionOptions { login_timeout_sec: timeout, ..ConnectionOptions::default() };
        let connection =
            environment.connect_with_connection_string(&settings.connection_string(), options).map_err(|error| failed(&error))?;
        let dbms = connection.database_management_system_name().map_err(|error| failed(&error))?;
        let quote = connection.identifier_quote_char().ok().flatten();
        let dialect = settings.config.dialect.unwrap_or_else(|| Dialect::of(&dbms));
        Ok(Self { connection, settings: Arc::clone(settings), dialect, quotes: Quotes(quote), dbms })
    }

    /// What its system was configured with.
    pub(crate) fn config(&self) -> &OdbcConfig {
        &self.settings.config
    }

    /// The connection itself, for the catalogue.
    pub(crate) fn connection(&self) -> &Connection<'static> {
        &self.connection
    }

    /// Whether text is asked for as UTF-16.
    pub(crate) fn is_wide(&self) -> bool {
        match self.settings.config.encoding {
            Encoding::Auto => !self.dialect.gives_utf8(),
            Encoding::Utf8 => false,
            Encoding::Utf16 => true,
        }
    }

    /// An error of this session.
    pub(crate) fn failed(&self, error: &arrow_odbc::odbc_api::Error, doing: impl Into<String>) -> SourceError {
        classified(error, doing, &self.settings.secrets)
    }

    /// Runs a statement that has rows.
    pub(crate) fn rows(&self, sql: &str, doing: &str) -> Result<CursorImpl<StatementImpl<'_>>, SourceError> {
        let executed = self.connection.execute(sql, (), self.config().query_timeout());
        executed.map_err(|error| self.failed(&error, doing))?.ok_or_else(|| {
            SourceError::new(ErrorKind::BadConfig, doing).because("the statement has no rows").advise("only SELECT can be read")
        })
    }

    /// The first column of the first row as text; `None` where there is no row, or it is null.
    pub(crate) fn one(&self, sql: &str, doing: &str) -> Result<Option<String>, SourceError> {
        let mut cursor = self.rows(sql, doing)?;
        let Some(mut row) = cursor.next_row().map_err(|error| self.failed(&error, doing))? else { return Ok(None) };
        let mut text = Vec::new();
        let is_there = row.get_wide_text(1, &mut text).map_err(|error| self.failed(&error, doing))?;
        Ok(is_there.then(|| String::from_utf16_lossy(&text)))
    }

    /// The same as bytes.
    pub(crate) fn one_binary(&self, sql: &str, doing: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let mut cursor = self.rows(sql, doing)?;
        let Some(mut row) = cursor.next_row().map_err(|error| self.failed(&error, doing))? else { return Ok(None) };
        let mut bytes = Vec::new();
        let is_there = row.get_binary(1, &mut bytes).map_err(|error| self.failed(&error, doing))?;
        Ok(is_there.then_some(bytes))
    }
}

/// A value of a connection string: in braces where it would end early or be read as something else.
fn escaped(value: &str) -> String {
    let is_plain = !value.contains(['[', ']', '{', '}', '(', ')', ',', ';', '?', '*', '=', '!', '@', '+', '%', '\'', '"']);
    if is_plain && value.trim() == value {
        return value.to_owned();
    }
    format!("{{{}}}", value.replace('}', "}}"))
}

/// Values of the keywords of a connection string that hold secrets.
fn passwords(string: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = string;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.trim_start().strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or((braced, ""), |(value, next)| (value, next)),
            None => after.split_once(';').map_or((after, ""), |(value, next)| (value, next)),
        };
        let name = name.trim_matches([';', ' ', '}']).to_lowercase();
        if ["pwd", "password", "secret", "token"].iter().any(|part| name.contains(part)) {
            found.push(value.to_owned());
        }
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn string(config: serde_json::Value) -> String {
        Settings::new(serde_json::from_value(config).unwrap()).connection_string()
    }

    #[test]
    fn values_are_braced_where_they_would_end_early() {
        let config = json!({"driver": "Unknown", "server": "h", "port": 1, "user": "a", "password": "x;y}z=", "options": {"Trust": "yes"}});
        assert_eq!(string(config), "Driver=Unknown;Server=h;Port=1;Uid=a;Pwd={x;y}}z=};Trust=yes;");
    }

    #[test]
    fn options_win_over_what_the_hub_sets() {
        let config = json!({"driver": "psqlodbcw.so", "options": {"usedeclarefetch": "0"}});
        let string = string(config);
        assert!(string.contains("usedeclarefetch=0;") && !string.contains("UseDeclareFetch=1"), "{string}");
    }

    #[test]
    fn sql_server_and_oracle_write_the_port_in_their_own_way() {
        let config = json!({"driver": "ODBC Driver 18 for SQL Server", "server": "h", "port": 1433, "database": "d"});
        assert_eq!(string(config), "Driver=ODBC Driver 18 for SQL Server;Server={h,1433};Database=d;");
        let config = json!({"driver": "Oracle in instantclient", "server": "h", "port": 1521, "database": "d"});
        assert!(string(config).contains("DBQ=h:1521/d;"));
    }

    #[test]
    fn passwords_of_a_whole_string_are_secrets() {
        assert_eq!(passwords("DSN=a; PWD={x;y};AccessToken=tt;Uid=b"), ["x;y", "tt"]);
    }
}
