//! The Avro schemas of what is published: Debezium's envelope around a canonical record, and its key.

use serde_json::{Value, json};

use crate::schema::{CanonicalField, CanonicalSchema};

/// Key fields that cannot make a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The canonical entity has no such field.
    #[error("key field {field:?} is not a field of {entity}: name one of its fields")]
    Unknown {
        /// The field.
        field: String,
        /// The entity.
        entity: String,
    },
    /// The field may be null.
    #[error("key field {field:?} of {entity} may be null: make it required in the schema, or choose another key")]
    Nullable {
        /// The field.
        field: String,
        /// The entity.
        entity: String,
    },
    /// The same field twice.
    #[error("key field {field:?} of {entity} is named twice")]
    Repeated {
        /// The field.
        field: String,
        /// The entity.
        entity: String,
    },
}

/// A topic's name as an Avro namespace: `hub.mot-cua.dossier` is `hub.mot_cua.dossier`.
#[must_use]
pub fn namespace(topic: &str) -> String {
    let part = |part: &str| {
        let mut name: String = part.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            name.insert(0, '_');
        }
        name
    };
    topic.split('.').map(part).collect::<Vec<_>>().join(".")
}

/// The value schema of a topic: Debezium's envelope with the canonical record nested as `Value`.
///
/// `topic` becomes the namespace, see [`namespace`]. The canonical record's attributes (titles, privacy, code lists)
/// stay in it, so that a subscriber finds them in the registry.
#[must_use]
pub fn envelope_schema(canonical: &CanonicalSchema, topic: &str) -> String {
    let namespace = namespace(topic);
    let own = format!("{namespace}.Value");
    let mut value: Value = serde_json::from_str(canonical.json()).unwrap_or_default();
    value["name"] = "Value".into();
    value["namespace"] = namespace.as_str().into();
    value["hub.entity"] = match canonical.namespace() {
        "" => canonical.name().into(),
        domain => format!("{}.{}", domain.replace('_', "-"), canonical.name()).into(),
    };
    json!({
        "type": "record", "name": "Envelope", "namespace": namespace,
        "fields": [
            {"name": "before", "type": ["null", value], "default": null},
            {"name": "after", "type": ["null", own], "default": null},
            {"name": "source", "type": source()},
            {"name": "transaction", "type": ["null", transaction()], "default": null},
            {"name": "op", "type": "string"},
            optional("ts_ms", "long"), optional("ts_us", "long"), optional("ts_ns", "long"),
        ],
    })
    .to_string()
}

/// The key schema of a topic: the key fields of the canonical record, in the order given.
///
/// # Errors
/// [`KeyError`] when a field is unknown, may be null, or is named twice.
pub fn key_schema(canonical: &CanonicalSchema, key: &[impl AsRef<str>], topic: &str) -> Result<String, KeyError> {
    let fields: Vec<Value> =
        key_fields(canonical, key)?.into_iter().map(|field| json!({"name": field.name(), "type": field.avro()["type"]})).collect();
    Ok(json!({"type": "record", "name": "Key", "namespace": namespace(topic), "fields": fields}).to_string())
}

/// The fields of a key.
pub(super) fn key_fields<'a>(canonical: &'a CanonicalSchema, key: &[impl AsRef<str>]) -> Result<Vec<&'a CanonicalField>, KeyError> {
    let mut found: Vec<&CanonicalField> = Vec::with_capacity(key.len());
    for name in key {
        let (field, entity) = (name.as_ref().to_owned(), canonical.name().to_owned());
        let Some(known) = canonical.field(&field) else {
            return Err(KeyError::Unknown { field, entity });
        };
        if known.nullable() {
            return Err(KeyError::Nullable { field, entity });
        }
        if found.iter().any(|earlier| earlier.name() == field) {
            return Err(KeyError::Repeated { field, entity });
        }
        found.push(known);
    }
    Ok(found)
}

fn optional(name: &str, of: &str) -> Value {
    json!({"name": name, "type": ["null", of], "default": null})
}

/// Debezium's source block for PostgreSQL; connectors without a log position leave its last fields null.
fn source() -> Value {
    json!({
        "type": "record", "name": "Source",
        "fields": [
            {"name": "version", "type": "string"},
            {"name": "connector", "type": "string"},
            {"name": "name", "type": "string"},
            {"name": "ts_ms", "type": "long"},
            {"name": "snapshot", "type": ["string", "null"], "default": "false"},
            {"name": "db", "type": "string"},
            optional("sequence", "string"),
            optional("ts_us", "long"),
            optional("ts_ns", "long"),
            {"name": "schema", "type": "string"},
            {"name": "table", "type": "string"},
            optional("txId", "long"),
            optional("lsn", "long"),
            optional("xmin", "long"),
            optional("origin", "string"),
            optional("origin_lsn", "long"),
        ],
    })
}

fn transaction() -> Value {
    json!({
        "type": "record", "name": "block", "namespace": "event",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "total_order", "type": "long"},
            {"name": "data_collection_order", "type": "long"},
        ],
    })
}
