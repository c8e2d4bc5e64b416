//! What `hub check` says of a folder: everything that is wrong at once, with what mends it.

use hub_sdk::{Finding, Probe, SourceError, StreamRequest};

use crate::connector::Files;

/// Looks at the folder and at the newest file of each mapped stream.
pub(crate) async fn probe(files: &Files) -> Result<Probe, SourceError> {
    let place = files.store.place();
    let entries = match files.reached().await {
        Ok(entries) => entries,
        Err(error) => {
            let finding = Finding { fatal: true, code: error.code, message: error.why, remedy: Some(error.advice) };
            return Ok(Probe { server: place, findings: vec![finding] });
        }
    };
    let mut probe = Probe { server: format!("{place} with {entries} files"), findings: Vec::new() };
    for request in &files.context.streams {
        stream(files, request, &mut probe.findings).await?;
    }
    Ok(probe)
}

async fn stream(files: &Files, request: &StreamRequest, findings: &mut Vec<Finding>) -> Result<(), SourceError> {
    let stream = match files.stream(&request.stream) {
        Ok(stream) => stream,
        Err(error) => {
            let remedy = error.advice().map(str::to_owned);
            findings.push(Finding { fatal: true, code: "stream-not-configured", message: error.report(), remedy });
            return Ok(());
        }
    };
    let present = files.files(&request.stream).await?;
    let Some(newest) = present.last() else {
        findings.push(no_files(&stream.pattern, files).await);
        return Ok(());
    };
    match files.columns_of(&request.stream, newest).await {
        // A document without rows has no columns, and nothing is wrong with that.
        Ok(columns) if columns.is_empty() => {}
        Ok(columns) => {
            for needed in files.needed(&request.stream)?.iter().filter(|needed| !columns.contains(needed)) {
                let meant = columns.iter().find(|column| folded(column) == folded(needed));
                let message = format!("{} has no column {needed}; it has {}", newest.name, columns.join(", "));
                let remedy = match meant {
                    Some(meant) => format!("write {meant} in `key` or the mapping"),
                    None => "mend `key` or the mapping, or `header`, `delimiter` and `rows` where the columns look wrong".to_owned(),
                };
                findings.push(Finding { fatal: true, code: "column-missing", message, remedy: Some(remedy) });
            }
        }
        Err(error) => {
            let remedy = error.advice().map(str::to_owned);
            findings.push(Finding { fatal: true, code: "file-unreadable", message: error.report(), remedy });
        }
    }
    Ok(())
}

/// The finding for a pattern that nothing fits, with what lies there.
pub(crate) async fn no_files(pattern: &str, files: &Files) -> Finding {
    let listed = files.store.list("*").await.unwrap_or_default();
    let mut there: Vec<String> = listed.into_iter().map(|entry| entry.name).collect();
    there.sort();
    there.truncate(5);
    let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
    Finding {
        fatal: false,
        code: "no-file-matches",
        message: format!("no file in {} fits {pattern} yet; there is {there}", files.store.place()),
        remedy: Some("wait for the first delivery, or mend `pattern`".to_owned()),
    }
}

/// A name without what people mistype: upper case, blanks, hyphens.
fn folded(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
