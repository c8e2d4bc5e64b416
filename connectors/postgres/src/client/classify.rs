//! Puts PostgreSQL's errors into the hub's kinds, with what to do next.

use hub_sdk::{ErrorKind, SourceError};

/// Classifies an error of tokio-postgres. `doing` reads after "failed while".
#[must_use]
pub fn classify(doing: impl Into<String>, error: tokio_postgres::Error) -> SourceError {
    let (kind, advice) = match error.as_db_error() {
        Some(db) => (kind_of_sqlstate(db.code().code(), db.message()), advice_of_sqlstate(db.code().code(), db.message())),
        None => kind_of_client(&error),
    };
    let classified = SourceError::new(kind, doing).because(error);
    match advice {
        Some(advice) => classified.advise(advice),
        None => classified,
    }
}

/// The kind of a server's error by its SQLSTATE. The message (English or not) only tells apart what one code has in common.
#[must_use]
pub fn kind_of_sqlstate(code: &str, message: &str) -> ErrorKind {
    match code {
        // wrong password, pg_hba, missing right
        "28P01" | "28000" | "42501" => ErrorKind::Denied,
        // no such database
        "3D000" => ErrorKind::BadConfig,
        // too many connections, all slots or walsenders in use at the moment
        "53300" => ErrorKind::Throttled,
        // WAL that is gone; a slot that the server gave up
        "58P01" => ErrorKind::PositionLost,
        "55000" if message.contains("replication slot") => ErrorKind::PositionLost,
        "42P01" | "42703" => ErrorKind::StreamBroken,
        // slot held by another process (often our own that has not yet died), locks, deadlocks, cancelled queries
        "55006" | "55P03" | "40001" | "40P01" | "57014" => ErrorKind::Unreachable,
        // not in the state that is needed, unknown object, not supported, standby, no slot left
        "55000" | "42704" | "0A000" | "25006" | "53400" => ErrorKind::NotPrepared,
        _ => kind_of_class(code),
    }
}

fn kind_of_class(code: &str) -> ErrorKind {
    match code.get(..2) {
        // connection, operator intervention (restart, shutdown), system error, snapshot too old, internal error
        Some("08" | "57" | "58" | "72" | "XX") => ErrorKind::Unreachable,
        Some("53") => ErrorKind::Throttled,
        Some("28") => ErrorKind::Denied,
        // configuration file of the server
        Some("F0") => ErrorKind::NotPrepared,
        _ => ErrorKind::Defect,
    }
}

fn advice_of_sqlstate(code: &str, message: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" => "correct the password of the role (config.password)",
        // Without encryption the server's answer names SSL: the commonest reason is a `hostssl` line.
        "28000" if message.contains("no encryption") || message.contains("SSL off") => {
            "allow the role in pg_hba.conf, or set tls.mode to require: the server may accept encrypted links only"
        }
        "28000" => "allow the role, database and address in pg_hba.conf and reload the server",
        "3D000" => "correct config.database",
        "53300" => "raise max_connections, or close connections of others",
        "58P01" => "take a new snapshot: the server has removed WAL that was still needed",
        "25006" => "connect to the primary server",
        _ => return None,
    })
}

/// The kind of an error that did not come from the server. The library tells its own kinds apart only in words.
fn kind_of_client(error: &tokio_postgres::Error) -> (ErrorKind, Option<&'static str>) {
    let text = error.to_string();
    if text.starts_with("error performing TLS handshake") {
        return kind_of_tls(error);
    }
    let no_password = std::error::Error::source(error).is_some_and(|cause| cause.to_string() == "password missing");
    if text.starts_with("authentication error") || no_password {
        return (ErrorKind::Denied, Some("see whether config.password is set and the server offers SCRAM or MD5"));
    }
    if text.starts_with("invalid configuration") {
        return (ErrorKind::BadConfig, None);
    }
    let wrong_use = ["error serializing", "error deserializing", "invalid column", "unexpected message"];
    if wrong_use.iter().any(|start| text.starts_with(start)) {
        return (ErrorKind::Defect, None);
    }
    (ErrorKind::Unreachable, None)
}

fn kind_of_tls(error: &tokio_postgres::Error) -> (ErrorKind, Option<&'static str>) {
    let Some(cause) = std::error::Error::source(error) else { return (ErrorKind::BadConfig, None) };
    let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            (ErrorKind::BadConfig, Some("give the authority that signed the server's certificate as tls.ca, and its own name as host"))
        }
        Some(_) => (ErrorKind::BadConfig, Some("see whether the server speaks TLS 1.2 or 1.3")),
        // Cut in the middle of the handshake.
        None if cause.is::<std::io::Error>() => (ErrorKind::Unreachable, None),
        None => (ErrorKind::BadConfig, Some("turn ssl on at the server, or set tls.mode to prefer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_of_errors_has_its_kind() {
        let cases = [
            ("28P01", "", ErrorKind::Denied),
            ("28000", "", ErrorKind::Denied),
            ("42501", "", ErrorKind::Denied),
            ("3D000", "", ErrorKind::BadConfig),
            ("53300", "", ErrorKind::Throttled),
            ("53100", "", ErrorKind::Throttled),
            ("53400", "all replication slots are in use", ErrorKind::NotPrepared),
            ("57P01", "", ErrorKind::Unreachable),
            ("57P03", "", ErrorKind::Unreachable),
            ("08006", "", ErrorKind::Unreachable),
            ("55006", "replication slot \"a\" is active", ErrorKind::Unreachable),
            ("55000", "can no longer get changes from replication slot \"a\"", ErrorKind::PositionLost),
            ("55000", "logical decoding requires wal_level >= logical", ErrorKind::NotPrepared),
            ("58P01", "requested WAL segment has already been removed", ErrorKind::PositionLost),
            ("42P01", "", ErrorKind::StreamBroken),
            ("25006", "", ErrorKind::NotPrepared),
            ("42601", "", ErrorKind::Defect),
        ];
        for (code, message, kind) in cases {
            assert_eq!(kind_of_sqlstate(code, message), kind, "{code} {message}");
        }
    }
}
