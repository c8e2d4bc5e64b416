//! Decodes records by the schema id in their framing, as any subscriber would.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use hub_registry::Client;
use serde_json::Value;

use crate::failure::Failure;

/// A decoder that asks the registry once per schema.
pub(crate) struct Decoder {
    registry: Client,
    schemas: HashMap<u32, Schema>,
}

impl Decoder {
    /// A decoder that asks this registry.
    pub(crate) fn new(registry: Client) -> Self {
        Self { registry, schemas: HashMap::new() }
    }

    /// Registered ids of a topic's latest value and key schemas.
    pub(crate) async fn ids(&self, topic: &str) -> Result<(u32, u32), Failure> {
        let mut ids = [0; 2];
        for (id, part) in ids.iter_mut().zip(["value", "key"]) {
            let subject = format!("{topic}-{part}");
            let latest = self.registry.latest(&subject).await.map_err(|error| Failure::unavailable(format!("asking for {subject}"), error))?;
            let missing = || Failure::Unavailable(format!("the registry has no subject {subject}: the hub has not published it yet"));
            *id = latest.ok_or_else(missing)?.id;
        }
        Ok((ids[0], ids[1]))
    }

    /// Decodes framed bytes; what is not framed is JSON or text.
    pub(crate) async fn decode(&mut self, bytes: &[u8]) -> Result<Value, Failure> {
        let Some(id) = framed(bytes) else {
            return Ok(serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into()));
        };
        if !self.schemas.contains_key(&id) {
            let text = self.registry.by_id(id).await.map_err(|error| Failure::unavailable("decoding a record", error))?;
            let schema = Schema::parse_str(&text).map_err(|error| Failure::unavailable(format!("parsing schema {id}"), error))?;
            self.schemas.insert(id, schema);
        }
        let mut body = bytes.get(5..).unwrap_or_default();
        let value = apache_avro::from_avro_datum(&self.schemas[&id], &mut body, None)
            .map_err(|error| Failure::unavailable(format!("decoding a record by schema {id}"), error))?;
        Ok(json(value))
    }
}

fn framed(bytes: &[u8]) -> Option<u32> {
    match bytes.first_chunk::<5>() {
        Some([0, id @ ..]) => Some(u32::from_be_bytes(*id)),
        _ => None,
    }
}

/// Avro as JSON that people can read: decimals as their unscaled digits, times as numbers.
fn json(value: Avro) -> Value {
    match value {
        Avro::Union(_, inner) => json(*inner),
        Avro::Record(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, json(value))).collect()),
        Avro::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => value.into(),
        Avro::Long(value)
        | Avro::TimeMicros(value)
        | Avro::TimestampMillis(value)
        | Avro::TimestampMicros(value)
        | Avro::TimestampNanos(value)
        | Avro::LocalTimestampMillis(value)
        | Avro::LocalTimestampMicros(value)
        | Avro::LocalTimestampNanos(value) => value.into(),
        Avro::Float(value) => value.into(),
        Avro::Double(value) => value.into(),
        Avro::String(text) | Avro::Enum(_, text) => text.into(),
        Avro::Uuid(uuid) => uuid.to_string().into(),
        Avro::Decimal(decimal) => Vec::<u8>::try_from(decimal).map_or(Value::Null, |bytes| unscaled(&bytes).to_string().into()),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        Avro::Map(entries) => Value::Object(entries.into_iter().map(|(name, value)| (name, json(value))).collect()),
        other => format!("{other:?}").into(),
    }
}

/// A big-endian two's complement number; canonical decimals have at most 38 digits.
fn unscaled(bytes: &[u8]) -> i128 {
    let start = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(start, |number, byte| (number << 8) | i128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_sign() {
        assert_eq!(unscaled(&[0x03, 0x20]), 800);
        assert_eq!(unscaled(&[0xff, 0x6a]), -150);
        assert_eq!(framed(&[0, 0, 0, 1, 2, 9]), Some(258));
        assert_eq!(framed(b"{}"), None);
    }
}
