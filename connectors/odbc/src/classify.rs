//! What an error of a driver means: its kind, its words without secrets and values, and what to do next.

use arrow_odbc::odbc_api::Error;
use arrow_odbc::odbc_api::handles::Record;
use hub_sdk::{ErrorKind, SourceError};

/// Secrets that a driver may repeat in its messages.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Secrets {
    /// Keeps what must not be shown; what is too short to be a secret would only make holes in the words.
    pub(crate) fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| secret.chars().count() >= 3);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets)
    }

    /// The text without them.
    pub(crate) fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// An error of the driver or its manager, classified.
pub(crate) fn classified(error: &Error, doing: impl Into<String>, secrets: &Secrets) -> SourceError {
    let Some(record) = record(error) else {
        let text = secrets.scrub(&error.to_string());
        return SourceError::new(kind_without_record(error), doing).because(text);
    };
    let state = record.state.as_str().to_owned();
    let message = secrets.scrub(&record_message(record));
    let (kind, advice) = judge(&state, record.native_error, &message);
    let shown = match &state[..2] {
        // Data exceptions and broken constraints repeat the value, which may be personal.
        "22" | "23" => format!("the driver says {state} (native {}); its words may show values and are left out", record.native_error),
        _ => format!("the driver says {state}: {message}"),
    };
    let error = SourceError::new(kind, doing).because(shown);
    match advice {
        Some(advice) => error.advise(advice),
        None => error,
    }
}

fn record(error: &Error) -> Option<&Record> {
    match error {
        Error::Diagnostics { record, .. }
        | Error::InvalidRowArraySize { record, .. }
        | Error::UnsupportedOdbcApiVersion(record)
        | Error::UnableToRepresentNull(record)
        | Error::OracleOdbcDriverDoesNotSupport64Bit(record) => Some(record),
        _ => None,
    }
}

/// The message of a record in one line.
fn record_message(record: &Record) -> String {
    let text = String::from_utf16_lossy(&record.message);
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('\0').to_owned()
}

fn kind_without_record(error: &Error) -> ErrorKind {
    match error {
        // A driver that is killed mid-call leaves no words.
        Error::NoDiagnostics { .. } => ErrorKind::Unreachable,
        Error::TooLargeColumnBufferSize { .. } => ErrorKind::BadConfig,
        _ => ErrorKind::Defect,
    }
}

/// Words of servers for a refused login, in any state.
const REFUSED: &[&str] = &[
    "password authentication failed",
    "no password supplied",
    "pg_hba.conf",
    "login failed",
    "access denied",
    "ora-01017",
    "ora-28000",
    "sql30082n",
    "invalid username",
    "not permitted to log in",
    "file is not a database",
    "file is encrypted",
];
/// Words for a right that is missing.
const FORBIDDEN: &[&str] = &["permission denied", "permission was denied", "command denied", "ora-01031", "sql0551n", "insufficient priv"];
/// Words for a link that is gone, or was never there.
const GONE: &[&str] = &[
    "server has gone away",
    "lost connection",
    "could not connect",
    "can't connect",
    "connection refused",
    "connection reset",
    "connection is closed",
    "connection not open",
    "no connection to the server",
    "server closed the connection",
    "terminating connection",
    "communication link failure",
    "unable to open database file",
    "disk i/o error",
    "the database system is",
    "broken pipe",
    "ssl syscall",
    "unexpected eof",
    "shutdown in progress",
    "not connected",
    "error while reading from the server",
    "eof detected",
];
/// Words for a source that asks for patience.
const BUSY: &[&str] =
    &["too many connections", "too many clients", "database is locked", "connection slots", "ora-00020", "resource limit"];
/// Words for a table that is not there.
const NO_TABLE: &[&str] = &["no such table", "doesn't exist", "invalid object name", "ora-00942", "sql0204n"];
/// Words for a column that is not there.
const NO_COLUMN: &[&str] = &["no such column", "unknown column", "invalid column name", "ora-00904", "sql0206n"];

fn judge(state: &str, native: i32, message: &str) -> (ErrorKind, Option<String>) {
    let text = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if matches!(state, "IM002" | "IM003" | "IM004" | "IM005")
        || text.contains("can't open lib")
        || text.contains("data source name not found")
    {
        return (ErrorKind::BadConfig, Some("name a driver that is installed; hub check lists them".to_owned()));
    }
    let is_refused = text.contains("role") && text.contains("does not exist") && text.contains("fatal");
    if state.starts_with("28")
        || is_refused
        || says(REFUSED)
        || (text.contains("database") && text.contains("fatal") && text.contains("does not exist"))
    {
        return (ErrorKind::Denied, Some("mend user, password or database, or let the server admit the account".to_owned()));
    }
    if says(BUSY) || state == "53300" || matches!(state, "40001" | "40P01") {
        return (ErrorKind::Throttled, None);
    }
    if state == "HYT00" || state == "HYT01" || state == "57014" || native == 1205 {
        return (ErrorKind::Unreachable, Some("raise query_timeout_s where the statement needs longer".to_owned()));
    }
    if says(GONE) || state.starts_with("08") || state.starts_with("57P") || state == "HYC00" && text.contains("connection") {
        return (ErrorKind::Unreachable, None);
    }
    if says(FORBIDDEN) || state == "42501" {
        return (ErrorKind::Denied, Some("grant the account SELECT on what the stream reads".to_owned()));
    }
    if matches!(state, "42S02" | "42P01" | "3F000") || says(NO_TABLE) {
        return (ErrorKind::StreamBroken, Some("hub check names tables that may be meant".to_owned()));
    }
    if matches!(state, "42S22" | "42703") || says(NO_COLUMN) {
        return (ErrorKind::StreamBroken, Some("mend key, mode or the mapping; hub check names the columns there are".to_owned()));
    }
    if state.starts_with("42") || state.starts_with("22") || state.starts_with("37") || text.contains("syntax error") {
        return (ErrorKind::StreamBroken, Some("mend the stream's query or mode".to_owned()));
    }
    (ErrorKind::Unreachable, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_servers_are_told_apart() {
        let kind = |state: &str, message: &str| judge(state, 0, message).0;
        assert_eq!(kind("08001", "FATAL: password authentication failed for user \"hub\""), ErrorKind::Denied);
        assert_eq!(kind("28000", "[ma-3.1.15]Access denied for user"), ErrorKind::Denied);
        assert_eq!(kind("28000", "[Microsoft][ODBC Driver 18 for SQL Server]Login failed for user 'hub'."), ErrorKind::Denied);
        assert_eq!(kind("08S01", "Communication link failure"), ErrorKind::Unreachable);
        assert_eq!(kind("57P01", "terminating connection due to administrator command"), ErrorKind::Unreachable);
        assert_eq!(kind("01000", "[unixODBC][Driver Manager]Can't open lib 'x' : file not found"), ErrorKind::BadConfig);
        assert_eq!(kind("HY000", "[SQLite]no such table: a (1)"), ErrorKind::StreamBroken);
        assert_eq!(kind("42S22", "Invalid column name 'x'."), ErrorKind::StreamBroken);
        assert_eq!(kind("42000", "ORA-01031: insufficient privileges"), ErrorKind::Denied);
        assert_eq!(kind("08004", "FATAL: sorry, too many clients already"), ErrorKind::Throttled);
    }

    #[test]
    fn secrets_are_taken_out_of_messages_the_longest_first() {
        let secrets = Secrets::new(vec!["abc".to_owned(), "abcdef".to_owned(), "x".to_owned()]);
        assert_eq!(secrets.scrub("PWD=abcdef;x abc"), "PWD=***;x ***");
        assert_eq!(format!("{secrets:?}"), "***");
    }
}
