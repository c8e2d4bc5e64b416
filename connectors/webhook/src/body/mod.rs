//! Bodies into rows, format by format. A body that cannot be read is refused whole; a row that cannot be used is a reject.

mod cloudevents;
mod edxml;
mod multipart;

use std::path::PathBuf;

use bytes::Bytes;
use hub_sdk::records::{json_fields, json_rows, xml_rows};
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use crate::answer::Refusal;
use crate::attachments::Content;
use crate::config::{Endpoint, Format};
use crate::rows::{Builder, Columns, Rows, Rules};

/// How the bodies of one stream are read.
pub(crate) struct Reader {
    format: Format,
    path: String,
    rules: Rules,
    attachments: Option<PathBuf>,
}

/// A body that was read.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) rows: Rows,
    /// Attachments, to be kept before the answer.
    pub(crate) contents: Vec<Content>,
}

impl Reader {
    /// `attachments` is the folder as the system runs.
    pub(crate) fn new(endpoint: &Endpoint, attachments: Option<PathBuf>) -> Self {
        Self { format: endpoint.format, path: endpoint.rows.clone(), rules: Rules::new(endpoint), attachments }
    }

    /// Where attachments are kept.
    pub(crate) fn attachments(&self) -> Option<&PathBuf> {
        self.attachments.as_ref()
    }

    /// How many times its size a body takes while it is read: fields of text, or a tree of elements.
    pub(crate) fn weight(&self) -> usize {
        match self.format {
            Format::Json | Format::Ndjson | Format::Cloudevents => 4,
            Format::Xml | Format::Edxml => 8,
        }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Why it is refused, with the place of what is wrong; never with a value.
    pub(crate) fn read(&self, headers: &HeaderMap, body: &Bytes, columns: &Columns) -> Result<Parsed, Refusal> {
        let mut builder = Builder::new(&self.rules, columns, body.len());
        let mut contents = Vec::new();
        match self.format {
            Format::Json => json_rows(text(body)?, &self.path, |fields| builder.push(&fields)).map_err(refused)?,
            Format::Ndjson => ndjson(text(body)?, &mut builder)?,
            Format::Xml => xml_rows(text(body)?, &self.path, |fields| builder.push(&fields)).map_err(refused)?,
            Format::Edxml => edxml::read(media_type(headers), body, &mut builder, &mut contents)?,
            Format::Cloudevents => cloudevents::read(headers, body, &mut builder)?,
        }
        let rows = builder.finish().map_err(|count| {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("{count} rows are more than one body may hold; send them in parts"))
        })?;
        match rows.all_bad() {
            Some(fault) => Err(Refusal::bad(format!("no row can be used: {}: {}", fault.code, fault.message))),
            None => Ok(Parsed { rows, contents }),
        }
    }

    /// Columns that every body of the format has.
    pub(crate) fn standard_columns(format: Format) -> &'static [&'static str] {
        match format {
            Format::Cloudevents => cloudevents::COLUMNS,
            Format::Edxml => &hub_sdk::edxml::COLUMNS,
            Format::Json | Format::Ndjson | Format::Xml => &[],
        }
    }
}

/// Looks at what is said of a body before it is read.
///
/// # Errors
/// It is packed, or in another encoding than UTF-8.
pub(crate) fn readable(headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return refuse("the body is packed (Content-Encoding); send it as it is");
    }
    match parameter(media_type(headers), "charset") {
        Some(charset) if !["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known)) => {
            refuse("the body is not in UTF-8 (charset); send it in UTF-8")
        }
        _ => Ok(()),
    }
}

fn ndjson(text: &str, builder: &mut Builder<'_>) -> Result<(), Refusal> {
    for (place, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fields = json_fields(line.trim_start_matches('\u{feff}'));
        let fields = fields.map_err(|error| Refusal::bad(format!("line {}: {error}", place + 1)))?;
        builder.push(&fields);
    }
    Ok(())
}

fn text(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|error| Refusal::bad(format!("the body is not UTF-8 from byte {} on", error.valid_up_to())))
}

fn refused(error: hub_sdk::records::DocumentError) -> Refusal {
    Refusal::bad(error.to_string())
}

fn media_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The kind without its parameters, in lower case.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A parameter of a header such as `multipart/related; boundary="x"`, without its quotes.
fn parameter<'a>(header: &'a str, wanted: &str) -> Option<&'a str> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        // A semicolon between quotes is a letter of the value.
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.find(';').map_or((value, ""), |end| value.split_at(end)),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim_end());
        }
        rest = after.split_once(';')?.1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    pub(super) fn read(settings: serde_json::Value, headers: &[(&str, &str)], body: &[u8]) -> Result<Parsed, Refusal> {
        let mut endpoint = json!({"path": "/a", "auth": "none"});
        endpoint.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let headers = headers.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap(), hyper::header::HeaderValue::from_str(value).unwrap())
        });
        let reader = Reader::new(&serde_json::from_value(endpoint).unwrap(), None);
        reader.read(&headers.collect(), &Bytes::copy_from_slice(body), &Columns::default())
    }

    pub(super) fn cells(parsed: &Parsed) -> Vec<Vec<(String, Option<String>)>> {
        let name = |name: crate::rows::Name<'_>| match name {
            crate::rows::Name::New(name) => name.to_owned(),
            crate::rows::Name::Known(place) => place.to_string(),
        };
        let row = |cells: &mut dyn Iterator<Item = (crate::rows::Name<'_>, Option<&str>)>| {
            cells.map(|(column, value)| (name(column), value.map(str::to_owned))).collect()
        };
        parsed.rows.iter().map(|(_, mut cells)| row(&mut cells)).collect()
    }

    pub(super) fn pairs(expected: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
    }

    #[test]
    fn json_ndjson_and_xml_are_rows_of_text() {
        let json = read(json!({"rows": "/d"}), &[], br#"{"d":[{"a":{"b":1.50}},{"a":{"b":2}}]}"#).unwrap();
        assert_eq!(cells(&json), [pairs(&[("a_b", "1.50")]), pairs(&[("a_b", "2")])]);
        let lines = read(json!({"format": "ndjson"}), &[], b"{\"a\":1}\r\n\n{\"a\":2}\n").unwrap();
        assert_eq!(cells(&lines), [pairs(&[("a", "1")]), pairs(&[("a", "2")])]);
        let xml = read(json!({"format": "xml", "rows": "/r/x"}), &[], b"<r><x><a>1</a></x><x a='2'/></r>").unwrap();
        assert_eq!(cells(&xml), [pairs(&[("a", "1")]), pairs(&[("a", "2")])]);
        assert_eq!(read(json!({}), &[], b"[]").unwrap().rows.len(), 0);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place_and_without_its_values() {
        let why = |settings, body: &[u8]| {
            let refusal = read(settings, &[], body).unwrap_err();
            assert!(!refusal.message.contains("074"), "{}", refusal.message);
            (refusal.status.as_u16(), refusal.message)
        };
        assert_eq!(why(json!({}), b"{\"id\": \"074\" \"b\"}").1, "not well-formed JSON: expected `,` or `}` at line 1 column 14");
        assert_eq!(why(json!({"format": "ndjson"}), b"{\"a\":1}\n[1]").1, "line 2: row 1 is a list, not an object");
        assert_eq!(why(json!({}), b"{\"a\":\"\xff\"}"), (400, "the body is not UTF-8 from byte 6 on".to_owned()));
        assert_eq!(why(json!({"format": "xml"}), b"<a>074").0, 400);
        assert_eq!(why(json!({"max_rows": 1}), b"[{\"a\":1},{\"a\":2}]").0, 413);
        let no_row = why(json!({"key": ["id"]}), b"[{\"a\":\"074\"}]");
        assert_eq!(no_row.1, "no row can be used: key-missing: the row has no id, which is part of its key");
        assert!(read(json!({"key": ["id"]}), &[], b"[{\"a\":1},{\"id\":1}]").is_ok(), "a bad row among good ones is a reject");
    }

    #[test]
    fn parameters_of_media_types_are_found() {
        let header = "multipart/related; type=\"text/xml; x\"; boundary=\"a b\"; start=<1>";
        assert_eq!((parameter(header, "boundary"), parameter(header, "START"), parameter(header, "no")), (Some("a b"), Some("<1>"), None));
        assert_eq!(parameter("text/xml;charset=UTF-8", "charset"), Some("UTF-8"));
        assert_eq!(parameter("text/xml", "charset"), None);
    }
}
