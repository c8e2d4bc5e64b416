//! What is wrong at the source, in words, with what mends it.

use std::collections::BTreeMap;

use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, Finding, Probe, SourceError};

use crate::catalog::{self, Table};
use crate::charset::Charsets;
use crate::connector::Mysql;
use crate::discover::findings;
use crate::kind::quoted;
use crate::server::{Flavor, Server, cell, variables};
use crate::wire::{Session, WireError, code};

const SETTINGS: [&str; 9] = [
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "log_slave_updates",
    "gtid_mode",
];
/// A log that is kept for less than a day does not outlive a night without the hub.
const DAY: u64 = 86_400;

/// Looks at everything that a run needs.
///
/// # Errors
/// The server cannot be asked any more in the midst of it.
pub(crate) async fn probe(source: &Mysql) -> Result<Probe, SourceError> {
    let (server, mut session) = match source.servers.reach().await {
        Ok(reached) => reached,
        Err(error) => return Ok(Probe { server: String::new(), findings: vec![refused(&error)] }),
    };
    let mut found = Vec::new();
    let settings = variables(&mut session, &SETTINGS).await.map_err(|error| error.into_source("reading settings"))?;
    found.extend(log_settings(&settings, &server, source.config.failover.is_empty()));
    rights(source, &server, &mut session, &mut found).await?;
    streams(source, &mut session, &mut found).await?;
    let name = match server.flavor {
        Flavor::Maria => server.version.clone(),
        Flavor::Mysql => format!("MySQL {}", server.version),
    };
    session.close().await;
    Ok(Probe { server: name, findings: found })
}

fn finding(fatal: bool, code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { fatal, code, message: message.into(), remedy: Some(remedy.into()) }
}

/// Why nobody could log in.
fn refused(error: &SourceError) -> Finding {
    let code = match error.kind() {
        ErrorKind::Denied => "login-refused",
        ErrorKind::BadConfig => "login-impossible",
        _ => "unreachable",
    };
    let remedy = error.advice().unwrap_or("mend host and port, or let the server's firewall pass the hub");
    finding(true, code, error.report(), remedy)
}

fn log_settings(settings: &BTreeMap<String, String>, server: &Server, is_single: bool) -> Vec<Finding> {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set.eq_ignore_ascii_case(value));
    let of = |name: &str| settings.get(name).cloned().unwrap_or_default();
    let mut found = Vec::new();
    if !is("log_bin", "ON") {
        found.push(finding(true, "log-bin", "the server keeps no binary log", "start the server with log_bin in its configuration"));
    }
    if !is("binlog_format", "ROW") {
        let message = format!("binlog_format is {}: the log holds statements instead of rows", of("binlog_format"));
        found.push(finding(true, "binlog-format", message, "SET GLOBAL binlog_format = ROW; and in the server's configuration"));
    }
    if !is("binlog_row_image", "FULL") {
        let message = format!("binlog_row_image is {}: rows of the log are not whole", of("binlog_row_image"));
        found.push(finding(true, "row-image", message, "SET GLOBAL binlog_row_image = FULL; and in the server's configuration"));
    }
    if of("binlog_row_value_options").to_ascii_uppercase().contains("PARTIAL_JSON") {
        let message = "binlog_row_value_options is PARTIAL_JSON: JSON of the log is not whole";
        found.push(finding(true, "row-image", message, "SET GLOBAL binlog_row_value_options = ''"));
    }
    if !is("binlog_row_metadata", "FULL") {
        let message = "binlog_row_metadata is not FULL: after ALTER TABLE, columns are told apart by their order alone";
        found.push(finding(false, "row-metadata", message, "SET GLOBAL binlog_row_metadata = FULL; and in the server's configuration"));
    }
    let days = of("expire_logs_days").parse::<f64>().unwrap_or(0.0) * 86_400.0;
    let seconds = of("binlog_expire_logs_seconds").parse::<u64>().unwrap_or(0);
    if (1..DAY).contains(&seconds) || (seconds == 0 && days > 0.0 && days < 86_400.0) {
        let message = format!("the log is kept for {} h only: a hub that is away for longer must read everything anew", seconds / 3_600);
        found.push(finding(false, "log-kept-short", message, "SET GLOBAL binlog_expire_logs_seconds = 604800"));
    }
    if !is_single && !is("log_slave_updates", "ON") {
        let message =
            "log_slave_updates is off: what this server replicates is not in its log, so that it cannot take over, or be taken over from";
        found.push(finding(false, "no-replica-log", message, "start every server with log_slave_updates = ON"));
    }
    if server.flavor == Flavor::Mysql && !is("gtid_mode", "ON") {
        let message = "gtid_mode is off: the hub goes on by file and offset, and cannot go on at another server";
        found.push(finding(false, "gtid-off", message, "SET GLOBAL gtid_mode = ON, step by step as the manual says"));
    }
    found
}

/// Whether the log may be read, and whether it is filtered.
async fn rights(source: &Mysql, server: &Server, session: &mut Session, found: &mut Vec<Finding>) -> Result<(), SourceError> {
    let user = &source.config.user;
    let end = match server.log_end(session).await {
        Ok(Some((place, _))) => place,
        // Said already: there is no log.
        Ok(None) => return Ok(()),
        Err(error) if is_denied(&error) => {
            let right = if server.flavor == Flavor::Maria { "BINLOG MONITOR" } else { "REPLICATION CLIENT" };
            let message = format!("{user} may not see where the log is: {error}");
            found.push(finding(true, "no-log-right", message, format!("GRANT {right} ON *.* TO {user}")));
            return Ok(());
        }
        Err(error) => return Err(error.into_source("asking where the log ends")),
    };
    if let Err(error) = server.log_files(session).await {
        let right = if server.flavor == Flavor::Maria { "BINLOG MONITOR" } else { "REPLICATION CLIENT" };
        found.push(finding(
            true,
            "no-log-right",
            format!("{user} may not list the log: {error}"),
            format!("GRANT {right} ON *.* TO {user}"),
        ));
    }
    // Asked for by another number, so that a run that follows now is not thrown out.
    let mut trying = server.session().await?;
    let tried = trying.try_dump(source.servers.reader ^ 1, &end.file, end.offset).await;
    trying.close().await;
    match tried {
        Ok(()) => {}
        Err(error) if is_denied(&error) => {
            let message = format!("{user} may not read the log: {error}");
            found.push(finding(true, "no-replication-right", message, format!("GRANT REPLICATION SLAVE ON *.* TO {user}")));
        }
        Err(error) => {
            found.push(finding(true, "log-unreadable", format!("the log cannot be read: {error}"), "look into the server's error log"))
        }
    }
    let grants = if server.flavor == Flavor::Mysql { session.query("SHOW GRANTS").await.unwrap_or_default() } else { Vec::new() };
    let may = |right: &str| grants.iter().any(|row| cell(row, 0).contains(right));
    if server.flavor == Flavor::Mysql && !may("RELOAD") && !may("FLUSH_TABLES") && !may("ALL PRIVILEGES") {
        let message = format!(
            "{user} may not hold commits for an instant: the snapshot waits until the log rests, and a transaction that is being committed then may be told twice"
        );
        found.push(finding(false, "no-reload-right", message, format!("GRANT RELOAD ON *.* TO {user}")));
    }
    filters(source, server, session, found).await
}

/// Databases that the server leaves out of its log.
async fn filters(source: &Mysql, server: &Server, session: &mut Session, found: &mut Vec<Finding>) -> Result<(), SourceError> {
    let failed = |error: WireError| error.into_source("asking where the log ends");
    let row = match server.flavor {
        Flavor::Maria => session.one("SHOW MASTER STATUS").await,
        Flavor::Mysql => match session.one("SHOW BINARY LOG STATUS").await {
            Err(WireError::Server(_)) => session.one("SHOW MASTER STATUS").await,
            other => other,
        },
    };
    let row = row.map_err(failed)?.unwrap_or_default();
    let list = |place: usize| cell(&row, place).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (only, without) = (list(2), list(3));
    for stream in source.requested() {
        let Some((database, _)) = catalog::parts(&stream) else { continue };
        if without.iter().any(|name| name == database) || (!only.is_empty() && !only.iter().any(|name| name == database)) {
            let message = format!("the server leaves database {database} out of its log: changes of {stream} would not be seen");
            found.push(finding(true, "log-filter", message, "take binlog_do_db and binlog_ignore_db out of the server's configuration"));
        }
    }
    Ok(())
}

fn is_denied(error: &WireError) -> bool {
    matches!(error.code(), Some(code::PRIVILEGE_MISSING | code::ACCESS_DENIED | code::DB_ACCESS_DENIED | code::TABLE_ACCESS_DENIED))
}

/// The tables that are mapped.
async fn streams(source: &Mysql, session: &mut Session, found: &mut Vec<Finding>) -> Result<(), SourceError> {
    let requested = source.requested();
    let failed = |error: WireError| error.into_source("reading the tables' columns");
    let tables = catalog::tables(session, &requested).await.map_err(failed)?;
    let names: Vec<&str> = tables.iter().flat_map(|table| &table.layout.columns).filter_map(|column| column.kind.charset()).collect();
    let charsets = Charsets::load(session, names).await.map_err(failed)?;
    for request in &source.context.streams {
        let Some(table) = tables.iter().find(|table| table.stream == request.stream) else {
            found.push(missing(session, &request.stream, &source.config.user).await);
            continue;
        };
        found.extend(findings(table, &charsets));
        found.extend(cascades(session, table).await);
        if let Err(error) = select_nothing(session, table).await {
            let message = format!("{} may not read {}: {error}", source.config.user, table.stream);
            let remedy = format!("GRANT SELECT ON {} TO {}", table.stream, source.config.user);
            found.push(finding(true, "no-select-right", message, remedy));
        }
        for column in request.columns.iter().filter(|name| table.layout.columns.iter().all(|column| column.name != **name)) {
            let names: Vec<&str> = table.layout.columns.iter().map(|column| column.name.as_str()).collect();
            let message = format!("{} has no column {column}; it has {}", table.stream, names.join(", "));
            found.push(finding(true, "column-missing", message, "mend the mapping"));
        }
    }
    Ok(())
}

/// What InnoDB changes by itself when a parent row goes is not in the log.
async fn cascades(session: &mut Session, table: &Table) -> Option<Finding> {
    // information_schema hides constraints from an account that may only read.
    let sql = format!("SHOW CREATE TABLE {}.{}", quoted(&table.database), quoted(&table.name));
    let row = session.one(&sql).await.ok().flatten()?;
    let text = cell(&row, 1);
    let acts = ["ON DELETE CASCADE", "ON DELETE SET NULL", "ON UPDATE CASCADE", "ON UPDATE SET NULL"];
    let is_constraint = |line: &&str| line.trim_start().starts_with("CONSTRAINT") && acts.iter().any(|act| line.contains(act));
    let name = text.lines().find(is_constraint)?.split('`').nth(1).unwrap_or_default().to_owned();
    let message = format!(
        "{} changes with the parent rows of its foreign key {name}: the server does not log such changes, so that they are not seen",
        table.stream
    );
    Some(finding(false, "foreign-key-cascade", message, "let the application or a trigger delete such rows, or compare with hub verify"))
}

async fn select_nothing(session: &mut Session, table: &Table) -> Result<(), WireError> {
    let columns: Vec<String> = table.layout.columns.iter().map(|column| quoted(&column.name)).collect();
    let sql = format!("SELECT {} FROM {}.{} LIMIT 0", columns.join(", "), quoted(&table.database), quoted(&table.name));
    session.query(&sql).await.map(drop)
}

/// A table that is not there, with the names that may be meant.
async fn missing(session: &mut Session, stream: &StreamName, user: &str) -> Finding {
    let own: Vec<String> = catalog::parts(stream).map(|(database, _)| database.to_owned()).into_iter().collect();
    let there = catalog::tables_of(session, &own).await.unwrap_or_default();
    let near: Vec<&str> = there.iter().map(|table| table.stream.as_str()).take(20).collect();
    let message = if near.is_empty() {
        format!("there is no table {stream} that {user} may see")
    } else {
        format!("there is no table {stream} that {user} may see; there are {}", near.join(", "))
    };
    finding(true, "table-missing", message, format!("write database.table as the server spells it, or GRANT SELECT ON {stream} TO {user}"))
}
