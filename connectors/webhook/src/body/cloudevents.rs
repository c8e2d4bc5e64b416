//! CloudEvents 1.0 over HTTP: structured, batched and binary. Attributes are columns of their names, the data's members `data_…`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hub_sdk::records::{Fields, json_fields, json_rows};
use hyper::header::HeaderMap;

use crate::answer::Refusal;
use crate::rows::{Builder, Fault};

/// Attributes that come first.
pub(super) const COLUMNS: &[&str] = &["id", "source", "type", "subject", "time", "specversion", "datacontenttype", "dataschema"];
/// Attributes without which nothing is a CloudEvent.
const REQUIRED: &[&str] = &["id", "source", "type", "specversion"];

/// Reads the events of a body.
pub(super) fn read(headers: &HeaderMap, body: &Bytes, builder: &mut Builder<'_>) -> Result<(), Refusal> {
    let media_type = super::media_type(headers);
    let essence = super::essence(media_type);
    match essence.as_str() {
        "application/cloudevents-batch+json" | "application/cloudevents+json" => {
            json_rows(super::text(body)?, "", |fields| take(&fields, builder)).map_err(super::refused)
        }
        other if other.starts_with("application/cloudevents") => {
            Err(Refusal::bad(format!("events in {other} are not read; send application/cloudevents+json")))
        }
        _ if headers.contains_key("ce-id") || headers.contains_key("ce-specversion") => {
            take(&binary(headers, media_type, &essence, body)?, builder);
            Ok(())
        }
        _ => Err(Refusal::bad("this is no CloudEvent: neither is the Content-Type application/cloudevents+json nor are there ce- headers")),
    }
}

fn take(fields: &Fields, builder: &mut Builder<'_>) {
    let value = |name: &str| fields.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref());
    let missing = REQUIRED.iter().find(|name| value(name).is_none_or(str::is_empty));
    let wrong = match missing {
        Some(missing) => {
            let message = format!("the event has no {missing}, which every CloudEvent has");
            Some(Fault { code: "event-incomplete", message })
        }
        None if value("specversion") != Some("1.0") => {
            let message = "the event is of another version of CloudEvents than 1.0".to_owned();
            Some(Fault { code: "event-version", message })
        }
        None => None,
    };
    builder.push_with(fields, wrong);
}

/// An event whose attributes are headers and whose data is the body.
fn binary(headers: &HeaderMap, media_type: &str, essence: &str, body: &Bytes) -> Result<Fields, Refusal> {
    let mut fields = Fields::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix("ce-") {
            let value = decoded(value.as_bytes()).ok_or_else(|| Refusal::bad(format!("the header {name} is not UTF-8")))?;
            fields.push((attribute.to_owned(), Some(value)));
        }
    }
    if !media_type.is_empty() {
        fields.push(("datacontenttype".to_owned(), Some(media_type.to_owned())));
    }
    if body.is_empty() {
        return Ok(fields);
    }
    if essence.is_empty() || essence == "application/json" || essence == "text/json" || essence.ends_with("+json") {
        // As a member of an object the data is flattened as that of a structured event is.
        let data = format!("{{\"data\":{}}}", super::text(body)?.trim_start_matches('\u{feff}'));
        fields.extend(json_fields(&data).map_err(super::refused)?);
    } else if let Ok(text) = std::str::from_utf8(body) {
        fields.push(("data".to_owned(), Some(text.to_owned())));
    } else {
        fields.push(("data_base64".to_owned(), Some(STANDARD.encode(body))));
    }
    Ok(fields)
}

/// A header's value: what is not plain ASCII is written as %XX, and quotes may stand around it.
fn decoded(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::super::tests::{cells, pairs, read};

    const ATTRIBUTES: [(&str, &str); 4] = [("id", "1"), ("source", "/mot-cua"), ("type", "vn.ho-so"), ("specversion", "1.0")];

    #[test]
    fn the_three_modes_give_the_same_columns() {
        let event = r#"{"id":"1","source":"/mot-cua","type":"vn.ho-so","specversion":"1.0","data":{"ma":"H09","phi":2.50}}"#;
        let expected: Vec<_> = ATTRIBUTES.into_iter().chain([("data_ma", "H09"), ("data_phi", "2.50")]).collect();
        let settings = || json!({"format": "cloudevents"});
        let structured = read(settings(), &[("content-type", "application/cloudevents+json; charset=utf-8")], event.as_bytes()).unwrap();
        assert_eq!(cells(&structured), [pairs(&expected)]);
        let batch = format!("[{event},{event}]");
        let batched = read(settings(), &[("content-type", "application/cloudevents-batch+json")], batch.as_bytes()).unwrap();
        assert_eq!(cells(&batched), [pairs(&expected), pairs(&expected)]);
        let headers: Vec<_> = ATTRIBUTES.map(|(name, value)| (format!("ce-{name}"), value)).to_vec();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let binary = read(settings(), &headers, br#"{"ma":"H09","phi":2.50}"#).unwrap();
        let mut found = cells(&binary).remove(0);
        found.sort();
        let mut expected = pairs(&expected);
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn headers_are_decoded_and_data_that_is_no_json_is_kept() {
        let headers =
            [("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t"), ("ce-specversion", "1.0"), ("ce-subject", "H%E1%BB%93%20s%C6%A1 100%")];
        let with = |kind| headers.iter().copied().chain([("content-type", kind)]).collect::<Vec<_>>();
        let found = cells(&read(json!({"format": "cloudevents"}), &with("text/xml"), b"<a/>").unwrap()).remove(0);
        assert!(found.contains(&("subject".to_owned(), Some("Hồ sơ 100%".to_owned()))));
        assert!(found.contains(&("data".to_owned(), Some("<a/>".to_owned()))));
        let found = cells(&read(json!({"format": "cloudevents"}), &with("image/png"), b"\xff\x00").unwrap()).remove(0);
        assert!(found.contains(&("data_base64".to_owned(), Some("/wA=".to_owned()))));
    }

    #[test]
    fn what_is_no_cloud_event_is_refused() {
        let structured = [("content-type", "application/cloudevents+json")];
        for (headers, body, why) in [
            (&structured[..], r#"{"id":"1"}"#, "has no source"),
            (&structured[..], r#"{"id":"1","source":"s","type":"t","specversion":"0.3"}"#, "another version"),
            (&[("content-type", "application/json")][..], "{}", "no CloudEvent"),
            (&[("content-type", "application/cloudevents+avro")][..], "", "are not read"),
        ] {
            let refusal = read(json!({"format": "cloudevents"}), headers, body.as_bytes()).unwrap_err();
            assert!(refusal.status.as_u16() == 400 && refusal.message.contains(why), "{}", refusal.message);
        }
    }
}
