//! What `hub check` says of a service: everything that is wrong at once, with what mends it.

use hub_sdk::{ErrorKind, Finding, Probe, SourceError, StreamRequest};

use crate::config::{Keys, Mode};
use crate::connector::Http;
use crate::trail::Trail;

/// Logs in, and reads the first page of each mapped stream.
pub(crate) async fn probe(http: &Http) -> Result<Probe, SourceError> {
    let server = format!("service {}", http.caller.base.as_str().trim_end_matches('/'));
    let mut probe = Probe { server, findings: Vec::new() };
    if let Some(first) = http.context.streams.first()
        && let Err(error) = http.caller.token(&first.stream, &Trail::default()).await
    {
        probe.findings.push(finding(&error, None));
        return Ok(probe);
    }
    for request in &http.context.streams {
        if !stream(http, request, &mut probe.findings).await {
            break;
        }
    }
    Ok(probe)
}

/// Looks at one stream; false where looking at further ones is of no use.
async fn stream(http: &Http, request: &StreamRequest, findings: &mut Vec<Finding>) -> bool {
    let name = &request.stream;
    let stream = match http.stream(name) {
        Ok(stream) => stream,
        Err(error) => {
            findings.push(finding(&error, Some("stream-not-configured")));
            return true;
        }
    };
    if let Some(Keys::Topic(topic)) = stream.keys()
        && http.context.topics.is_none()
    {
        findings.push(Finding {
            fatal: false,
            code: "keys-not-looked-at",
            message: format!("stream {name} takes its keys from topic {}, which cannot be read without Kafka", topic.name),
            remedy: Some("run `hub check` with the hub's Kafka within reach to see whether topic and field are there".to_owned()),
        });
        return true;
    }
    if let (Mode::Push(push), Ok(reading)) = (&stream.mode, http.reading(name)) {
        // Nothing is submitted for a look; whether there are keys can be seen.
        findings.extend(reading.first_keys(&push.keys).await.err().map(|error| finding(&error, Some("keys-unreadable"))));
        return true;
    }
    let sampled = match http.reading(name) {
        Ok(reading) => reading.sample(200).await,
        Err(error) => Err(error),
    };
    let rows = match sampled {
        Ok(rows) => rows,
        Err(error) => {
            findings.push(finding(&error, None));
            return !matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Throttled);
        }
    };
    if rows.is_empty() {
        findings.push(Finding {
            fatal: false,
            code: "no-rows",
            message: format!("stream {name} has no rows yet"),
            remedy: Some("mend `rows` if there should be some: a list that is there and empty looks the same".to_owned()),
        });
        return true;
    }
    let mut columns: Vec<&str> = Vec::new();
    for (column, _) in rows.iter().flatten() {
        if !columns.contains(&column.as_str()) {
            columns.push(column);
        }
    }
    for (needed, is_key) in http.needed(name).unwrap_or_default().iter().zip(0..).map(|(needed, at)| (needed, at < stream.key.len())) {
        if !columns.contains(&needed.as_str()) {
            let meant = columns.iter().find(|column| folded(column) == folded(needed));
            let message = format!("the rows of stream {name} have no {needed}; they have {}", columns.join(", "));
            let remedy = match meant {
                Some(meant) => format!("write {meant} in `key` or the mapping"),
                None => "mend `key` or the mapping, or `rows` where the columns look wrong".to_owned(),
            };
            // A member that no row of the sample has may come yet; a key must not be absent.
            findings.push(Finding { fatal: is_key, code: "column-missing", message, remedy: Some(remedy) });
        }
    }
    watermark(&stream, name.as_str(), &rows, findings);
    true
}

/// Whether the watermark of the rows can be read.
fn watermark(stream: &crate::config::HttpStream, name: &str, rows: &[hub_sdk::records::Fields], findings: &mut Vec<Finding>) {
    let Mode::Watermark(watermark) = &stream.mode else { return };
    let Some(field) = &watermark.field else { return };
    let values: Vec<&str> = rows.iter().flatten().filter(|(column, _)| column == field).filter_map(|(_, value)| value.as_deref()).collect();
    let unread = values.iter().filter(|value| crate::mark::Mark::parse(value, &watermark.format).is_none()).count();
    let (message, remedy) = if values.is_empty() {
        (format!("no row of stream {name} has a value in {field}, its watermark"), "mend `mode.watermark.field`")
    } else if unread > 0 {
        let message = format!("{unread} of {} values of {field} of stream {name} are not written as {}", values.len(), watermark.format);
        (message, "mend `mode.watermark.format`, such as %d/%m/%Y %H:%M:%S")
    } else {
        return;
    };
    findings.push(Finding { fatal: true, code: "watermark-unreadable", message, remedy: Some(remedy.to_owned()) });
}

fn finding(error: &SourceError, code: Option<&'static str>) -> Finding {
    let code = code.unwrap_or(match error.kind() {
        ErrorKind::Unreachable => "unreachable",
        ErrorKind::Throttled => "throttled",
        ErrorKind::Denied => "login-refused",
        ErrorKind::StreamBroken => "stream-unreadable",
        ErrorKind::NotPrepared | ErrorKind::PositionLost | ErrorKind::Mismatch => "not-prepared",
        ErrorKind::BadConfig | ErrorKind::Defect => "request-wrong",
    });
    // What to do stands beside it.
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        message.push_str(&format!(": {next}"));
        cause = next.source();
    }
    let remedy = error.advice().map_or_else(|| "see whether the service is up, and what it says in its own log".to_owned(), str::to_owned);
    Finding { fatal: true, code, message, remedy: Some(remedy) }
}

/// A name without what people mistype: upper case, blanks, hyphens.
fn folded(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
