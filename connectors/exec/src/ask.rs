//! Questions to a source: which settings it wants, whether they work, which streams it has.

use std::path::Path;

use hub_sdk::{ErrorKind, SourceError};
use serde_json::Value;

use crate::catalog::{Offered, offered};
use crate::config::Protocol;
use crate::message::{Connection, Line, Message, Trouble, read};
use crate::source::{Order, Source};

/// Bytes of an answer that is no message at most: a Singer catalog.
const ANSWER: usize = 64 << 20;

/// What a child answered before it ended.
#[derive(Default)]
struct Answer {
    spec: Option<Value>,
    connection: Option<Connection>,
    catalog: Option<Value>,
    /// Everything that it wrote: Singer's catalog is one document of many lines.
    text: Vec<u8>,
}

/// Airbyte: the JSON schema of the configuration that the source wants.
pub(crate) async fn spec(source: &Source) -> Result<Value, SourceError> {
    let answer = ask(source, &Order::Spec).await?;
    let mut spec = answer.spec.ok_or_else(|| silent(source, &Order::Spec))?;
    Ok(spec.get_mut("connectionSpecification").map(Value::take).unwrap_or_default())
}

/// Airbyte: whether the configuration works.
pub(crate) async fn check(source: &Source) -> Result<Connection, SourceError> {
    ask(source, &Order::Check).await?.connection.ok_or_else(|| silent(source, &Order::Check))
}

/// The streams that the source offers.
pub(crate) async fn discover(source: &Source) -> Result<Vec<Offered>, SourceError> {
    let order = Order::Discover;
    let catalog = match &source.catalog {
        Some(path) => written(path)?,
        None => {
            let answer = ask(source, &order).await?;
            let catalog = match source.config.protocol {
                Protocol::Airbyte => answer.catalog,
                Protocol::Singer => document(&answer.text),
            };
            catalog.ok_or_else(|| silent(source, &order))?
        }
    };
    offered(source.config.protocol, &catalog).map_err(|why| {
        SourceError::new(ErrorKind::Defect, order.doing(source.program()))
            .because(why)
            .advise("look whether `protocol` is the one that the program speaks")
    })
}

/// The catalog in a file; of Airbyte the list of streams or the message around it.
fn written(path: &Path) -> Result<Value, SourceError> {
    let wrong = |why: String| {
        let error = SourceError::new(ErrorKind::BadConfig, format!("reading the catalog {}", path.display())).because(why);
        error.advise("write into the file of `catalog` what the source prints when it is asked for its streams")
    };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut catalog = document(&text).ok_or_else(|| wrong("it holds no JSON document".to_owned()))?;
    Ok(catalog.get_mut("catalog").map(Value::take).unwrap_or(catalog))
}

fn silent(source: &Source, order: &Order) -> SourceError {
    SourceError::new(ErrorKind::BadConfig, order.doing(source.program()))
        .because("it ended well and gave no answer")
        .advise("look whether `protocol` is the one that the program speaks, and whether `command` starts it")
}

async fn ask(source: &Source, order: &Order) -> Result<Answer, SourceError> {
    let mut running = source.start(order).await?;
    let (mut answer, mut troubles, mut too_long) = (Answer::default(), Vec::new(), false);
    let is_singer = source.config.protocol == Protocol::Singer;
    loop {
        while let Some(line) = running.line() {
            match line {
                Ok(line) if is_singer && answer.text.len() + line.len() < ANSWER => {
                    answer.text.extend_from_slice(line);
                    answer.text.push(b'\n');
                }
                Ok(line) if !is_singer => answer.take(line, &mut troubles, source),
                _ => {
                    too_long = true;
                    break;
                }
            }
        }
        let filled =
            running.fill().await.map_err(|error| SourceError::new(ErrorKind::Unreachable, order.doing(source.program())).because(error))?;
        if too_long || !filled {
            break;
        }
    }
    let outcome = running.finish(too_long).await;
    // A source says why a check failed, and ends badly or well.
    if outcome.is_good() && troubles.is_empty() || answer.connection.is_some() {
        return Ok(answer);
    }
    Err(source.failed(order, &outcome, &troubles, false))
}

impl Answer {
    fn take(&mut self, line: &[u8], troubles: &mut Vec<Trouble>, source: &Source) {
        match read(line, &mut String::new()) {
            Line::Message(Message::Spec(spec)) => self.spec = Some(spec),
            Line::Message(Message::Connection(connection)) => self.connection = Some(connection),
            Line::Message(Message::Catalog(catalog)) => self.catalog = Some(catalog),
            Line::Message(Message::Error(trouble)) => troubles.push(trouble),
            Line::Message(Message::Config(config)) => source.update(&config),
            _ => {}
        }
    }
}

/// The JSON document in a text, which may have lines of a log before it.
fn document(text: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    if let Ok(whole) = serde_json::from_str(text) {
        return Some(whole);
    }
    let start = if text.starts_with('{') { 0 } else { text.find("\n{")? + 1 };
    serde_json::Deserializer::from_str(&text[start..]).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_catalog_is_found_between_lines_of_a_log() {
        for text in ["{\"streams\": [\n]}", "INFO begins\n{\n\"streams\": []}\nINFO ends", "{\"streams\": []}\nbye"] {
            assert_eq!(document(text.as_bytes()), Some(json!({"streams": []})), "{text}");
        }
        assert_eq!(document(b"nothing"), None);
    }
}
