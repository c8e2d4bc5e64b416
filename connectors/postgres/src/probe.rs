//! What `hub check` asks of a PostgreSQL source: everything that is wrong at once, in words, with the SQL that mends it.

mod connection;
mod server;
mod streams;

use hub_sdk::model::SystemName;
use hub_sdk::{Finding, Probe, SourceError, StreamRequest};

use crate::client::Server;
use crate::config::PostgresConfig;

/// Looks whether the server can be reached, read and followed for these streams. What is wrong is in the answer's
/// findings, refused logins and an unreachable server included.
///
/// # Errors
/// Only where the link breaks while it is being asked.
pub async fn probe(
    server: &Server,
    config: &PostgresConfig,
    system: &SystemName,
    requests: &[StreamRequest],
) -> Result<Probe, SourceError> {
    let client = match server.connection().await {
        Ok(client) => client,
        Err(error) => {
            return Ok(Probe { server: server.place().to_owned(), findings: vec![connection::finding(&error, config)] });
        }
    };
    let (slot, publication) = (config.slot_name(system), config.publication_name(system));
    let facts = server::facts(&client, &slot).await?;
    let mut findings = server::findings(&facts, config, &slot);
    findings.extend(streams::findings(&client, &facts.role, &publication, requests).await?);
    findings.sort_by_key(|finding| !finding.fatal);
    Ok(Probe { server: facts.version, findings })
}

/// A finding that stops the capture.
fn fatal(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { fatal: true, code, message: message.into(), remedy: Some(remedy.into()) }
}

/// A finding that is only worth knowing.
fn remark(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { fatal: false, code, message: message.into(), remedy: Some(remedy.into()) }
}
