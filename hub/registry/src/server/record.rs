//! The records of the registry's topic, in the form of Confluent's `_schemas`, so that its tools can read ours and we theirs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A record as it goes into the topic: `None` for the value deletes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// A key, as the topic holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(tag = "keytype")]
pub(crate) enum Key {
    #[serde(rename = "SCHEMA")]
    Schema { subject: String, version: u32 },
    #[serde(rename = "CONFIG")]
    Config {
        #[serde(default)]
        subject: Option<String>,
    },
    #[serde(rename = "MODE")]
    Mode {
        #[serde(default)]
        subject: Option<String>,
    },
    #[serde(rename = "DELETE_SUBJECT")]
    DeleteSubject { subject: String },
    #[serde(rename = "CLEAR_SUBJECT")]
    ClearSubject { subject: String },
    /// With magic 0 a mark in the log; with magic 1 ours, which keeps the highest id ever given (see [`HighestId`]).
    #[serde(rename = "NOOP")]
    Noop { magic: u8 },
}

/// Value of a SCHEMA key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SchemaValue {
    pub(crate) subject: String,
    pub(crate) version: u32,
    pub(crate) id: u32,
    #[serde(rename = "schemaType", default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema_type: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) references: Vec<Reference>,
    pub(crate) schema: String,
    #[serde(default)]
    pub(crate) deleted: bool,
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// The type's full name, as the referring schema writes it.
    pub name: String,
    /// The subject that has it.
    pub subject: String,
    /// Its version; -1 when registering stands for the latest.
    pub version: i32,
}

/// Value of a CONFIG key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ConfigValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    #[serde(rename = "compatibilityLevel", default)]
    pub(crate) level: Option<String>,
}

/// Value of a MODE key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ModeValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    #[serde(default)]
    pub(crate) mode: Option<String>,
}

/// Value of a DELETE_SUBJECT key: all versions up to this one are soft-deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeleteValue {
    pub(crate) subject: String,
    pub(crate) version: u32,
}

/// Value of our NOOP key. Schemas that were deleted for good leave the topic, and their ids must still never be given again:
/// messages that carry them may live on. Confluent's registry skips NOOP records, whatever their value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HighestId {
    #[serde(rename = "highestId")]
    pub(crate) highest_id: u32,
}

impl Key {
    /// The key's text, with its members in Confluent's order: compaction compares bytes.
    pub(crate) fn text(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let subject = |subject: &Option<String>| subject.as_deref().map_or_else(|| "null".to_owned(), quoted);
        match self {
            Self::Schema { subject, version } => {
                format!(r#"{{"keytype":"SCHEMA","subject":{},"version":{version},"magic":1}}"#, quoted(subject))
            }
            Self::Config { subject: of } => format!(r#"{{"keytype":"CONFIG","subject":{},"magic":0}}"#, subject(of)),
            Self::Mode { subject: of } => format!(r#"{{"keytype":"MODE","subject":{},"magic":0}}"#, subject(of)),
            Self::DeleteSubject { subject } => {
                format!(r#"{{"keytype":"DELETE_SUBJECT","subject":{},"magic":0}}"#, quoted(subject))
            }
            Self::ClearSubject { subject } => {
                format!(r#"{{"keytype":"CLEAR_SUBJECT","subject":{},"magic":0}}"#, quoted(subject))
            }
            Self::Noop { magic } => format!(r#"{{"keytype":"NOOP","magic":{magic}}}"#),
        }
    }

    /// A record that deletes this key.
    pub(crate) fn tombstone(&self) -> Record {
        Record { key: self.text(), value: None }
    }

    /// A record that sets this key.
    pub(crate) fn set(&self, value: &impl Serialize) -> Record {
        // These values are structs of text and numbers: they always have a JSON form.
        Record { key: self.text(), value: serde_json::to_string(value).ok() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn keys_are_written_as_confluent_writes_them_and_read_back() {
        let keys = [
            (Key::Schema { subject: "a\"b".to_owned(), version: 2 }, r#"{"keytype":"SCHEMA","subject":"a\"b","version":2,"magic":1}"#),
            (Key::Config { subject: None }, r#"{"keytype":"CONFIG","subject":null,"magic":0}"#),
            (Key::Mode { subject: Some("s".to_owned()) }, r#"{"keytype":"MODE","subject":"s","magic":0}"#),
            (Key::DeleteSubject { subject: "s".to_owned() }, r#"{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}"#),
            (Key::Noop { magic: 0 }, r#"{"keytype":"NOOP","magic":0}"#),
        ];
        for (key, text) in keys {
            assert_eq!(key.text(), text);
            assert_eq!(serde_json::from_str::<Key>(text).unwrap(), key);
        }
    }

    #[test]
    fn a_value_written_by_confluent_is_read() {
        let text = r#"{"subject":"s","version":1,"id":7,"md5":"x","schema":"\"string\"","deleted":false,"ts":1}"#;
        let value: SchemaValue = serde_json::from_str(text).unwrap();
        assert_eq!((value.id, value.schema.as_str(), value.deleted), (7, "\"string\"", false));
    }
}
