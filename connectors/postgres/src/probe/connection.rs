//! Why there is no connection, as a finding.

use std::error::Error;

use hub_sdk::{ErrorKind, Finding, SourceError};

use super::fatal;
use crate::config::PostgresConfig;
use crate::types::{quote_identifier, quote_literal};

/// The finding of a connection that failed.
pub(super) fn finding(error: &SourceError, config: &PostgresConfig) -> Finding {
    let (host, port, database, user) = (&config.host, config.port, &config.database, &config.user);
    let role = quote_identifier(user);
    let client = error.source().and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    let server_says = client.and_then(tokio_postgres::Error::as_db_error).map(|db| (db.code().code(), db.message()));
    match server_says {
        Some(("28P01", _)) => fatal(
            "wrong-password",
            format!("the server refuses the password of role {user} (or there is no such role)"),
            format!("correct config.user and config.password, or: ALTER ROLE {role} PASSWORD '…';"),
        ),
        Some(("28000", message)) if message.contains("not permitted to log in") => {
            fatal("no-login-right", format!("role {user} may not log in"), format!("ALTER ROLE {role} LOGIN;"))
        }
        Some(("28000", message)) if message.contains("does not exist") => {
            fatal("no-such-role", format!("there is no role {user}"), format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '…';"))
        }
        // Only the English text tells whether a `hostssl` line is what is missed.
        Some(("28000", message)) => fatal("pg-hba", format!("pg_hba.conf refuses the connection: {message}"), hba_line(config, message)),
        Some(("3D000", _)) => fatal(
            "no-such-database",
            format!("the server has no database {database}"),
            format!(
                "correct config.database; these exist: SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> {};",
                quote_literal(database)
            ),
        ),
        Some(("42501", message)) => fatal(
            "no-connect-right",
            format!("role {user} may not connect to database {database}: {message}"),
            format!("GRANT CONNECT ON DATABASE {} TO {role};", quote_identifier(database)),
        ),
        Some(("53300", message)) => fatal(
            "no-free-connection",
            format!("the server takes no more connections: {message}"),
            "ALTER SYSTEM SET max_connections = …; then restart the server, or close connections of others",
        ),
        Some((code, message)) => fatal("connection-refused-by-server", format!("{message} (SQLSTATE {code})"), advice(error)),
        None if client.is_some_and(|error| error.to_string().starts_with("error performing TLS handshake")) => tls(error),
        None if error.kind() == ErrorKind::Denied => fatal(
            "authentication",
            format!("logging in as {user} failed: {}", cause(error)),
            "set config.password, and let the server ask for scram-sha-256 in pg_hba.conf",
        ),
        None if error.kind() != ErrorKind::Unreachable => {
            fatal("connection-settings", format!("connecting to {host}:{port} failed: {}", cause(error)), advice(error))
        }
        None => fatal(
            "unreachable",
            format!("nothing answers as PostgreSQL on {host}:{port}: {}", cause(error)),
            "start the server, let it listen on that address (listen_addresses, port), and open firewalls in between",
        ),
    }
}

fn hba_line(config: &PostgresConfig, message: &str) -> String {
    let unencrypted = message.contains("no encryption") || message.contains("SSL off");
    let kind = if message.contains("SSL encryption") || message.contains("SSL on") { "hostssl" } else { "host" };
    let mut remedy = format!(
        "add to pg_hba.conf: {kind} {} {} <address of the hub>/32 scram-sha-256; then SELECT pg_reload_conf();",
        quote_identifier(&config.database),
        quote_identifier(&config.user)
    );
    if unencrypted {
        remedy.push_str(" If there is such a line for hostssl, set config.tls.mode to require.");
    }
    remedy
}

fn tls(error: &SourceError) -> Finding {
    let cause = cause(error);
    if cause.contains("does not support TLS") {
        return fatal(
            "tls-refused",
            "the server offers no TLS, and config.tls.mode asks for it",
            "ALTER SYSTEM SET ssl = on; with ssl_cert_file and ssl_key_file, then SELECT pg_reload_conf(); or set config.tls.mode to prefer",
        );
    }
    let message = format!("TLS with the server fails: {cause}");
    if cause.contains("certificate") {
        return fatal("tls-certificate", message, advice(error));
    }
    fatal("tls-handshake", message, advice(error))
}

fn advice(error: &SourceError) -> String {
    error.advice().unwrap_or("see the server's log").to_owned()
}

/// The innermost causes in one line: the outer ones only say that a connection failed.
fn cause(error: &SourceError) -> String {
    let mut parts = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        parts.push(cause.to_string());
        next = cause.source();
    }
    parts.pop().unwrap_or_else(|| error.to_string())
}
