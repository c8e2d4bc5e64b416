//! The messages of both protocols, one JSON object a line.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One message. Records borrow from their line.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    /// A row of a stream.
    Record(Record<'a>),
    /// Singer: the columns and the key of a stream whose rows follow.
    Schema(Schema),
    /// Where the child would go on.
    State(State),
    /// Something went wrong; the run will fail.
    Error(Trouble),
    /// Airbyte: how far a stream is.
    Status {
        /// The stream.
        stream: Descriptor,
        /// `STARTED`, `RUNNING`, `COMPLETE`, `INCOMPLETE`.
        status: String,
    },
    /// Airbyte: how many rows a stream has.
    Estimate {
        /// The stream.
        stream: Descriptor,
        /// Rows.
        rows: u64,
    },
    /// Airbyte: the source has changed its configuration.
    Config(Value),
    /// Airbyte: the answer to `spec`.
    Spec(Value),
    /// Airbyte: the answer to `check`.
    Connection(Connection),
    /// Airbyte: the answer to `discover`.
    Catalog(Value),
    /// What the child says to people, with its level.
    Log(Log),
    /// Singer: rows in a file beside the output, which are not read.
    Batch,
    /// A message that nothing follows from.
    Other,
}

/// A row.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// Its stream, as the child names it.
    pub(crate) stream: Cow<'a, str>,
    /// Its namespace, where it has one.
    pub(crate) namespace: Option<Cow<'a, str>>,
    /// Its columns.
    pub(crate) data: &'a RawValue,
}

/// A stream, as Airbyte names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Descriptor {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace, where it has one.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

impl Descriptor {
    /// The stream's name in the hub.
    pub(crate) fn full(&self) -> String {
        full_name(&self.name, self.namespace.as_deref())
    }
}

/// The name of a stream in the hub: `namespace.name`, or the name alone.
pub(crate) fn full_name(name: &str, namespace: Option<&str>) -> String {
    match namespace.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{namespace}.{name}"),
        None => name.to_owned(),
    }
}

/// Singer's SCHEMA.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The stream, as the tap names it.
    pub(crate) stream: String,
    /// Its JSON schema.
    pub(crate) schema: Value,
}

/// Where the child would go on.
#[derive(Debug)]
pub(crate) enum State {
    /// One value for everything: Singer's, and that of old Airbyte sources.
    Whole(Value),
    /// Of one stream.
    Stream {
        /// The stream.
        stream: Descriptor,
        /// Its `stream` member as it came.
        value: Value,
    },
    /// Of all streams, with a part that they share.
    Global(Value),
}

/// What Airbyte's `check` found.
#[derive(Debug, Deserialize)]
pub(crate) struct Connection {
    /// `SUCCEEDED` or `FAILED`.
    pub(crate) status: String,
    /// Why.
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// What the child says to people.
#[derive(Debug, Deserialize)]
pub(crate) struct Log {
    /// `FATAL`, `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`.
    #[serde(default)]
    pub(crate) level: String,
    /// The words.
    #[serde(default)]
    pub(crate) message: String,
}

/// An error that the child tells.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Trouble {
    /// For people.
    #[serde(default)]
    pub(crate) message: String,
    /// For developers.
    #[serde(default)]
    pub(crate) internal_message: Option<String>,
    /// `config_error`, `transient_error`, `system_error`.
    #[serde(default)]
    pub(crate) failure_type: Option<String>,
    /// The stream that it is about.
    #[serde(default)]
    pub(crate) stream_descriptor: Option<Descriptor>,
}

/// What a line is.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// A message.
    Message(Message<'a>),
    /// Something else that stands on stdout: it is counted, and not shown, since it may hold rows.
    Foreign,
    /// It should be a message that carries rows or state, and cannot be read. Why, without its content.
    Broken(String),
}

/// The members of both protocols' messages. What a message does not have costs nothing.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    record: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    log: Option<&'a RawValue>,
    #[serde(borrow, default)]
    trace: Option<&'a RawValue>,
    #[serde(borrow, default)]
    control: Option<&'a RawValue>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "connectionStatus")]
    connection: Option<&'a RawValue>,
    #[serde(borrow, default)]
    catalog: Option<&'a RawValue>,
}

/// Airbyte's record.
#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Option<&'a RawValue>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    error: Option<Trouble>,
    #[serde(default)]
    stream_status: Option<Status>,
    #[serde(default)]
    estimate: Option<Estimate>,
}

#[derive(Deserialize)]
struct Status {
    stream_descriptor: Descriptor,
    status: String,
}

#[derive(Deserialize)]
struct Estimate {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    row_estimate: Option<f64>,
}

/// Reads one line. `spare` holds it where it must be mended first.
pub(crate) fn read<'a>(line: &'a [u8], spare: &'a mut String) -> Line<'a> {
    if line.first() != Some(&b'{') {
        return Line::Foreign;
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return if carries(line) { Line::Broken("its text is no UTF-8".to_owned()) } else { Line::Foreign };
    };
    match message(text) {
        Ok(message) => Line::Message(message),
        // Python writes numbers that JSON does not have.
        Err(first) => match finite(text) {
            Some(mended) => {
                *spare = mended;
                match message(spare) {
                    Ok(message) => Line::Message(message),
                    Err(error) => told(line, &error),
                }
            }
            None => told(line, &first),
        },
    }
}

fn told<'a>(line: &[u8], error: &serde_json::Error) -> Line<'a> {
    // The words of serde may hold what it found; where it stopped says enough.
    if carries(line) {
        Line::Broken(format!("it is no whole JSON object, or not one of its kind (at byte {})", error.column()))
    } else {
        Line::Foreign
    }
}

/// Whether a line that cannot be read was to be a message that may not be left out.
fn carries(line: &[u8]) -> bool {
    let head = &line[..line.len().min(4096)];
    [&b"\"RECORD\""[..], b"\"STATE\"", b"\"SCHEMA\""].iter().any(|word| head.windows(word.len()).any(|found| found == *word))
}

fn message(text: &str) -> Result<Message<'_>, serde_json::Error> {
    let envelope: Envelope<'_> = serde_json::from_str(text)?;
    let missing = |what| <serde_json::Error as serde::de::Error>::missing_field(what);
    let need = |raw: Option<&'_ RawValue>, what| raw.map_or_else(|| Err(missing(what)), |raw| serde_json::from_str::<Value>(raw.get()));
    Ok(match &*envelope.kind {
        "RECORD" => {
            let record = envelope.record.ok_or_else(|| missing("record"))?;
            Message::Record(match envelope.stream {
                Some(stream) => Record { stream: text_of(stream)?, namespace: None, data: record },
                None => {
                    let Inner { stream, namespace, data } = serde_json::from_str(record.get())?;
                    Record { stream, namespace: namespace.map(text_of).transpose()?, data }
                }
            })
        }
        "SCHEMA" => Message::Schema(Schema {
            stream: text_of(envelope.stream.ok_or_else(|| missing("stream"))?)?.into_owned(),
            schema: need(envelope.schema, "schema")?,
        }),
        "STATE" => match (envelope.value, envelope.state) {
            (Some(value), _) => Message::State(State::Whole(serde_json::from_str(value.get())?)),
            (None, Some(state)) => Message::State(airbyte_state(serde_json::from_str(state.get())?)?),
            // Some taps begin with a state that is null.
            (None, None) => Message::Other,
        },
        "TRACE" => trace(serde_json::from_str(envelope.trace.ok_or_else(|| missing("trace"))?.get())?),
        "CONTROL" => {
            let mut control = need(envelope.control, "control")?;
            match control.pointer_mut("/connectorConfig/config") {
                Some(config) => Message::Config(config.take()),
                None => Message::Other,
            }
        }
        "SPEC" => Message::Spec(need(envelope.spec, "spec")?),
        "CONNECTION_STATUS" => {
            let connection = envelope.connection.ok_or_else(|| missing("connectionStatus"))?;
            Message::Connection(serde_json::from_str(connection.get())?)
        }
        "CATALOG" => Message::Catalog(need(envelope.catalog, "catalog")?),
        "LOG" => Message::Log(serde_json::from_str(envelope.log.ok_or_else(|| missing("log"))?.get())?),
        "BATCH" => Message::Batch,
        _ => Message::Other,
    })
}

/// A JSON text, borrowed where nothing in it is escaped: serde owns what stands in an `Option`.
fn text_of(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    match raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(raw.get()).map(Cow::Owned),
    }
}

fn airbyte_state(mut state: Value) -> Result<State, serde_json::Error> {
    let kind = state["type"].as_str().map(str::to_owned);
    let mut member = |name: &str| state.get_mut(name).map(Value::take).unwrap_or_default();
    match kind.as_deref() {
        Some("STREAM") => {
            let value = member("stream");
            let stream = Descriptor::deserialize(&value["stream_descriptor"])?;
            Ok(State::Stream { stream, value })
        }
        Some("GLOBAL") => Ok(State::Global(member("global"))),
        _ => Ok(State::Whole(member("data"))),
    }
}

fn trace<'a>(trace: Trace) -> Message<'a> {
    match (trace.kind.as_str(), trace.error, trace.stream_status, trace.estimate) {
        ("ERROR", Some(error), _, _) => Message::Error(error),
        ("STREAM_STATUS", _, Some(Status { stream_descriptor, status }), _) => Message::Status { stream: stream_descriptor, status },
        ("ESTIMATE", _, _, Some(Estimate { name, namespace, row_estimate: Some(rows) })) if rows >= 0.0 =>
        {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, not below zero")]
            Message::Estimate { stream: Descriptor { name, namespace }, rows: rows as u64 }
        }
        _ => Message::Other,
    }
}

/// The line with `NaN`, `Infinity` and `-Infinity` as texts; `None` where there are none.
fn finite(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut mended, mut from, mut place, mut in_text) = (String::new(), 0, 0, false);
    while place < bytes.len() {
        match bytes[place] {
            b'\\' if in_text => place += 1,
            b'"' => in_text = !in_text,
            b'N' | b'I' | b'-' if !in_text => {
                if let Some(word) = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| text[place..].starts_with(word)) {
                    mended.push_str(&text[from..place]);
                    mended.push_str(&format!("\"{word}\""));
                    place += word.len();
                    from = place;
                    continue;
                }
            }
            _ => {}
        }
        place += 1;
    }
    if from == 0 {
        return None;
    }
    mended.push_str(&text[from..]);
    Some(mended)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn shown(line: &str) -> String {
        match read(line.as_bytes(), &mut String::new()) {
            Line::Message(Message::Record(record)) => {
                format!("{} {}", full_name(&record.stream, record.namespace.as_deref()), record.data.get())
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn records_of_both_protocols_are_records() {
        assert_eq!(
            shown(r#"{"type":"RECORD","record":{"stream":"a","namespace":"n","data":{"x":1.50},"emitted_at":1}}"#),
            r#"n.a {"x":1.50}"#
        );
        assert_eq!(shown(r#"{"type": "RECORD", "stream": "a", "record": {"x": 1}, "version": 1}"#), r#"a {"x": 1}"#);
    }

    #[test]
    fn states_of_every_kind_are_told_apart() {
        assert!(shown(r#"{"type":"STATE","value":{"bookmarks":{}}}"#).contains("Whole"));
        assert!(shown(r#"{"type":"STATE","state":{"data":{"a":1}}}"#).contains("Whole"));
        assert!(
            shown(r#"{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"a"},"stream_state":{}}}}"#)
                .contains("Stream")
        );
        assert!(shown(r#"{"type":"STATE","state":{"type":"GLOBAL","global":{"shared_state":{},"stream_states":[]}}}"#).contains("Global"));
    }

    #[test]
    fn what_is_no_message_is_foreign_and_a_torn_one_is_broken() {
        for foreign in ["Starting…", "[1]", "{}", r#"{"level":"info","msg":"x"}"#, "{not json"] {
            assert_eq!(shown(foreign), "Foreign", "{foreign}");
        }
        let broken = shown(r#"{"type":"RECORD","stream":"a","record":{"ten":"Nguyễn Văn A""#);
        assert!(broken.starts_with("Broken") && !broken.contains("Nguyễn"), "{broken}");
        for broken in [r#"{"type":"RECORD","stream":"a"}"#, r#"{"type":"STATE","state":{"type":"STREAM","stream":7}}"#] {
            assert!(shown(broken).starts_with("Broken"), "{broken}");
        }
        assert!(shown(r#"{"type":"STATE","value":null}"#).contains("Other"));
    }

    #[test]
    fn numbers_that_json_does_not_have_are_texts() {
        let line = r#"{"type":"RECORD","stream":"a","record":{"x": NaN, "y": [-Infinity, Infinity], "z": "NaN \" NaN"}}"#;
        assert_eq!(shown(line), r#"a {"x": "NaN", "y": ["-Infinity", "Infinity"], "z": "NaN \" NaN"}"#);
    }
}
