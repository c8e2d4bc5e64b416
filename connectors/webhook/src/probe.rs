//! What `hub check` finds: the address, the certificates, the streams and the folders.

use hub_sdk::{ErrorKind, Finding, Probe, SourceError, StreamRequest};

use crate::config::{Auth, Endpoint, Format};
use crate::connector::Webhook;
use crate::server::{classified, listen};

/// Looks at everything that a run will need.
pub(crate) fn probe(webhook: &Webhook) -> Probe {
    let config = &webhook.config;
    let mut findings = Vec::new();
    let encryption = webhook.encryption();
    if let Err(error) = &encryption {
        findings.push(of(error, "certificate-unusable", true));
    }
    findings.extend(address(webhook));
    let is_open = config.address().is_some_and(|address| !address.ip().is_loopback());
    if config.tls.is_none() && is_open {
        findings.push(Finding {
            fatal: false,
            code: "no-tls",
            message: format!("what is sent to {} can be read on its way", config.listen),
            remedy: Some("set `tls`, or let a proxy with TLS in front and listen on 127.0.0.1".to_owned()),
        });
    }
    for request in &webhook.context.streams {
        stream(webhook, request, &mut findings);
    }
    let form = if config.tls.is_some() { "https" } else { "http" };
    Probe { server: format!("{form} on {} with {} paths", config.listen, config.streams.len()), findings }
}

/// Whether one can listen there. A hub that runs already does.
fn address(webhook: &Webhook) -> Option<Finding> {
    let address = webhook.config.address()?;
    if webhook.listening.load(std::sync::atomic::Ordering::Acquire) {
        return None;
    }
    let error = listen(address).err()?;
    let (code, fatal) = match error.kind() {
        std::io::ErrorKind::AddrInUse => ("address-in-use", false),
        std::io::ErrorKind::AddrNotAvailable => ("address-not-local", true),
        std::io::ErrorKind::PermissionDenied => ("address-denied", true),
        _ => ("address-unusable", true),
    };
    Some(of(&classified(address, error), code, fatal))
}

fn stream(webhook: &Webhook, request: &StreamRequest, findings: &mut Vec<Finding>) {
    let endpoint = match webhook.endpoint(&request.stream) {
        Ok(endpoint) => endpoint,
        Err(error) => return findings.push(of(&error, "stream-not-configured", true)),
    };
    let name = &request.stream;
    if let Auth::Hmac(signed) = &endpoint.auth
        && signed.secret.reveal().len() < 16
    {
        findings.push(Finding {
            fatal: false,
            code: "secret-short",
            message: format!("the secret of {name} has fewer than 16 letters: it can be guessed"),
            remedy: Some("use one of `openssl rand -hex 32`".to_owned()),
        });
    }
    if endpoint.idempotency.is_none() {
        findings.push(Finding {
            fatal: false,
            code: "no-idempotency",
            message: format!("a request of {name} that is repeated after a lost answer is published twice"),
            remedy: Some("set `idempotency` with what identifies a request: a header, fields or the body".to_owned()),
        });
    }
    let is_open = matches!(endpoint.format, Format::Json | Format::Ndjson | Format::Xml);
    if endpoint.columns.is_empty() && is_open {
        findings.push(Finding {
            fatal: false,
            code: "columns-open",
            message: format!("the columns of {name} are found as they come: rows are rejects while a column that is mapped has never come"),
            remedy: Some("name in `columns` what the mapping reads".to_owned()),
        });
    }
    findings.extend(folder(webhook, endpoint));
}

/// Whether attachments can be kept.
fn folder(webhook: &Webhook, endpoint: &Endpoint) -> Option<Finding> {
    let folder = webhook.attachments(endpoint)?;
    let name = folder.join(format!(".hub-check-{}", std::process::id()));
    let tried = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&name, b"")).and_then(|()| std::fs::remove_file(&name));
    let error = tried.err()?;
    let error = SourceError::new(ErrorKind::NotPrepared, format!("writing in {}", folder.display())).because(error);
    Some(of(&error.advise("give the hub's user the right to write there"), "attachments-not-writable", true))
}

fn of(error: &SourceError, code: &'static str, fatal: bool) -> Finding {
    Finding { fatal, code, message: error.report(), remedy: error.advice().map(str::to_owned) }
}
