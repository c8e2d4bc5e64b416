//! Texts with placeholders such as `{key}`, filled with values that are escaped as their place asks for.

use std::borrow::Cow;
use std::fmt::Write as _;

use chrono::{DateTime, FixedOffset};
use serde_json::Value;

use crate::mark::is_format;

/// Names that stand for something; everything else in braces is text.
pub(crate) const NAMES: [&str; 15] = [
    "page",
    "offset",
    "size",
    "cursor",
    "since",
    "until",
    "key",
    "ticket",
    "token",
    "submission",
    "user",
    "password",
    "now",
    "uuid",
    "signature",
];
/// Names that have a value in every request.
pub(crate) const ALWAYS: [&str; 3] = ["now", "uuid", "signature"];
/// Begins the name of a further column of a list of keys.
const COLUMN: &str = "key.";
/// Begins the time of a request in a form of its own: `{now:%Y%m%d%H%M%S}`.
const TIME: &str = "now:";

/// What placeholders stand for in one request.
#[derive(Clone, Default)]
pub(crate) struct Values {
    texts: Vec<(String, String)>,
    /// When the request is made, by the service's clock.
    now: Option<DateTime<FixedOffset>>,
}

impl Values {
    /// Gives a name its value.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.texts.retain(|(known, _)| known != name);
        self.texts.push((name.to_owned(), value.into()));
    }

    /// The same with one more.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// Gives a further column of the key its value.
    pub(crate) fn set_column(&mut self, column: &str, value: &str) {
        self.set(&format!("{COLUMN}{column}"), value);
    }

    /// Gives the time of the request its value.
    pub(crate) fn set_now(&mut self, now: DateTime<FixedOffset>) {
        self.now = Some(now);
    }

    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let time = |format: &str| self.now.map(|now| now.format(format).to_string().into());
        match name.strip_prefix(TIME) {
            Some(format) => time(format),
            None if name == "now" => time("%Y-%m-%dT%H:%M:%S%:z"),
            None => self.texts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str().into()),
        }
    }
}

/// How a value is written at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    /// As it is: queries, forms and JSON are escaped by those who write them.
    Nothing,
    /// In a path of an address.
    Path,
    /// In an XML document.
    Xml,
}

/// The parts of a template, in order: text, and names of placeholders.
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn parts(template: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(open) = rest[from..].find('{').map(|at| from + at) {
            let name = rest[open + 1..].find('}').map(|close| &rest[open + 1..open + 1 + close]);
            if let Some(name) = name.filter(|name| is_name(name)) {
                if open > 0 {
                    let text = &rest[..open];
                    rest = &rest[open..];
                    return Some(Part::Text(text));
                }
                rest = &rest[name.len() + 2..];
                return Some(Part::Name(name));
            }
            from = open + 1;
        }
        Some(Part::Text(std::mem::take(&mut rest)))
    })
}

fn is_name(name: &str) -> bool {
    NAMES.contains(&name)
        || name.strip_prefix(TIME).is_some_and(|format| format.contains('%') && is_format(format))
        || name.strip_prefix(COLUMN).is_some_and(|column| !column.is_empty() && !column.contains(['{', '"', ' ']))
}

/// The names of a template's placeholders.
pub(crate) fn names(template: &str) -> impl Iterator<Item = &str> {
    parts(template).filter_map(|part| match part {
        Part::Name(name) => Some(name),
        Part::Text(_) => None,
    })
}

/// A template with its values; `None` where it is nothing but a placeholder that has none.
pub(crate) fn fill(template: &str, values: &Values, escape: Escape) -> Option<String> {
    let mut filled = String::with_capacity(template.len());
    let (mut has_text, mut has_value, mut lacks) = (false, false, false);
    for part in parts(template) {
        match part {
            Part::Text(text) => {
                has_text = true;
                filled.push_str(text);
            }
            Part::Name(name) => match values.get(name) {
                Some(value) => {
                    has_value = true;
                    escaped(&value, escape, &mut filled);
                }
                None => lacks = true,
            },
        }
    }
    (has_text || has_value || !lacks).then_some(filled)
}

/// A JSON body with its values. Counts become numbers where they are the whole text; members that are nothing but a placeholder without a value are left out.
pub(crate) fn fill_json(template: &Value, values: &Values) -> Option<Value> {
    Some(match template {
        Value::String(text) => {
            let filled = fill(text, values, Escape::Nothing)?;
            let is_count = matches!(text.as_str(), "{page}" | "{offset}" | "{size}");
            match filled.parse::<u64>() {
                Ok(count) if is_count => Value::from(count),
                _ => Value::String(filled),
            }
        }
        Value::Array(list) => Value::Array(list.iter().filter_map(|value| fill_json(value, values)).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().filter_map(|(name, value)| Some((name.clone(), fill_json(value, values)?))).collect())
        }
        other => other.clone(),
    })
}

fn escaped(value: &str, escape: Escape, into: &mut String) {
    match escape {
        Escape::Nothing => into.push_str(value),
        Escape::Path => {
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                    into.push(char::from(byte));
                } else {
                    // Writing into a String cannot fail.
                    let _ = write!(into, "%{byte:02X}");
                }
            }
        }
        Escape::Xml => {
            for letter in value.chars() {
                match letter {
                    '&' => into.push_str("&amp;"),
                    '<' => into.push_str("&lt;"),
                    '>' => into.push_str("&gt;"),
                    '"' => into.push_str("&quot;"),
                    '\'' => into.push_str("&apos;"),
                    other => into.push(other),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn values() -> Values {
        let mut values = Values::default().with("key", "a/b <&> \"c\"").with("page", "3");
        values.set_column("to_ban_do", "12");
        values
    }

    #[test]
    fn a_value_is_escaped_as_its_place_asks_for() {
        assert_eq!(fill("/thua/{key}", &values(), Escape::Path).unwrap(), "/thua/a%2Fb%20%3C%26%3E%20%22c%22");
        assert_eq!(fill("<k>{key}</k>", &values(), Escape::Xml).unwrap(), "<k>a/b &lt;&amp;&gt; &quot;c&quot;</k>");
        assert_eq!(fill_json(&json!({"k": "{key}"}), &values()).unwrap().to_string(), r#"{"k":"a/b <&> \"c\""}"#);
        assert_eq!(fill("{key.to_ban_do}-{page}", &values(), Escape::Nothing).unwrap(), "12-3");
    }

    #[test]
    fn braces_that_name_nothing_are_text() {
        for text in ["{}", "{{x}}", "{ key }", "{", "a{b", "{\"a\":1}"] {
            assert_eq!(fill(text, &values(), Escape::Nothing).unwrap(), text);
        }
        assert_eq!(fill("{{page}}", &values(), Escape::Nothing).unwrap(), "{3}");
    }

    #[test]
    fn the_time_of_a_request_is_written_as_the_service_wants_it() {
        let mut values = values();
        values.set_now(DateTime::parse_from_rfc3339("2026-11-26T10:00:07+07:00").unwrap());
        assert_eq!(fill("{now}|{now:%Y%m%d%H%M%S}", &values, Escape::Nothing).unwrap(), "2026-11-26T10:00:07+07:00|20261126100007");
        assert_eq!(fill("{now:hh}", &values, Escape::Nothing).unwrap(), "{now:hh}");
    }

    #[test]
    fn counts_in_a_body_are_numbers_and_what_has_no_value_is_left_out() {
        let body = json!({"page": "{page}", "cursor": "{cursor}", "text": "trang {page}{cursor}", "list": ["{since}", 1]});
        assert_eq!(fill_json(&body, &values()).unwrap(), json!({"page": 3, "text": "trang 3", "list": [1]}));
        assert_eq!(fill("{cursor}", &values(), Escape::Nothing), None);
    }
}
