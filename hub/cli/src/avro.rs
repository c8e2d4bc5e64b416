//! Decodes records by the schema id in their framing, as any subscriber would, into JSON that people can read.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, NamesRef, ResolvedSchema};
use apache_avro::types::Value as Avro;
use arrow::temporal_conversions::{date32_to_datetime, time64us_to_time, timestamp_us_to_datetime};
use hub_registry::Schemas;
use hub_transform::envelope::framed;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// A decoder that asks the registry once per schema.
pub(crate) struct Decoder {
    registry: Schemas,
    schemas: HashMap<u32, Schema>,
}

impl Decoder {
    /// A decoder that asks this registry.
    pub(crate) fn new(registry: Schemas) -> Self {
        Self { registry, schemas: HashMap::new() }
    }

    /// Registered ids of a topic's latest value and key schemas.
    pub(crate) async fn ids(&self, topic: &str) -> Result<(u32, u32), Failure> {
        let mut ids = [0; 2];
        for (id, part) in ids.iter_mut().zip(["value", "key"]) {
            let subject = format!("{topic}-{part}");
            let latest =
                self.registry.latest(&subject).await.map_err(|error| Failure::unavailable(format!("asking for {subject}"), error))?;
            let missing = || Failure::Unavailable(format!("the registry has no subject {subject}: the hub has not published it yet"));
            *id = latest.ok_or_else(missing)?.id;
        }
        Ok((ids[0], ids[1]))
    }

    /// The schema with an id.
    pub(crate) async fn schema(&mut self, id: u32) -> Result<&Schema, Failure> {
        if !self.schemas.contains_key(&id) {
            let text = self.registry.by_id(id).await.map_err(|error| Failure::unavailable("decoding a record", error))?;
            let schema = Schema::parse_str(&text).map_err(|error| Failure::unavailable(format!("parsing schema {id}"), error))?;
            self.schemas.insert(id, schema);
        }
        Ok(&self.schemas[&id])
    }

    /// Decodes framed bytes; what is not framed is JSON or text.
    pub(crate) async fn decode(&mut self, bytes: &[u8]) -> Result<Value, Failure> {
        let Some((id, mut body)) = framed(bytes) else {
            return Ok(serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into()));
        };
        let schema = self.schema(id).await?;
        let decoding = |error: apache_avro::Error| Failure::unavailable(format!("decoding a record by schema {id}"), error);
        let value = apache_avro::from_avro_datum(schema, &mut body, None).map_err(decoding)?;
        let resolved = ResolvedSchema::try_from(schema).map_err(decoding)?;
        Ok(json(value, Some(schema), resolved.get_names()))
    }
}

/// Avro as JSON for people: times in ISO 8601, decimals with their point, bytes in hexadecimal.
fn json(value: Avro, schema: Option<&Schema>, names: &NamesRef<'_>) -> Value {
    let schema = match schema {
        Some(Schema::Ref { name }) => find(name, names),
        other => other,
    };
    match value {
        Avro::Union(branch, inner) => {
            let branches = if let Some(Schema::Union(union)) = schema { union.variants() } else { &[] };
            json(*inner, branches.get(branch as usize), names)
        }
        Avro::Record(fields) => {
            let known = if let Some(Schema::Record(record)) = schema { record.fields.as_slice() } else { &[] };
            let object = fields.into_iter().enumerate().map(|(at, (name, value))| {
                let value = json(value, known.get(at).map(|field| &field.schema), names);
                (name, value)
            });
            Value::Object(object.collect::<Map<_, _>>())
        }
        Avro::Array(items) => {
            let item = if let Some(Schema::Array(array)) = schema { Some(array.items.as_ref()) } else { None };
            Value::Array(items.into_iter().map(|value| json(value, item, names)).collect())
        }
        Avro::Map(entries) => {
            let item = if let Some(Schema::Map(map)) = schema { Some(map.types.as_ref()) } else { None };
            Value::Object(entries.into_iter().map(|(name, value)| (name, json(value, item, names))).collect())
        }
        Avro::Decimal(decimal) => {
            let scale = if let Some(Schema::Decimal(decimal)) = schema { decimal.scale } else { 0 };
            Vec::<u8>::try_from(decimal).map_or(Value::Null, |bytes| pointed(unscaled(&bytes), scale).into())
        }
        other => plain(other),
    }
}

fn find<'a>(name: &Name, names: &NamesRef<'a>) -> Option<&'a Schema> {
    names.get(name).copied()
}

fn plain(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) => value.into(),
        Avro::Long(value) => value.into(),
        Avro::Float(value) => value.into(),
        Avro::Double(value) => value.into(),
        Avro::String(text) | Avro::Enum(_, text) => text.into(),
        Avro::Uuid(uuid) => uuid.to_string().into(),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        Avro::Date(days) => date32_to_datetime(days).map_or_else(|| days.into(), |day| day.format("%Y-%m-%d").to_string().into()),
        Avro::TimeMillis(millis) => time(i64::from(millis) * 1000),
        Avro::TimeMicros(micros) => time(micros),
        Avro::TimestampMillis(millis) => instant(millis.checked_mul(1000), "Z"),
        Avro::TimestampMicros(micros) => instant(Some(micros), "Z"),
        Avro::TimestampNanos(nanos) => instant(Some(nanos.div_euclid(1000)), "Z"),
        Avro::LocalTimestampMillis(millis) => instant(millis.checked_mul(1000), ""),
        Avro::LocalTimestampMicros(micros) => instant(Some(micros), ""),
        Avro::LocalTimestampNanos(nanos) => instant(Some(nanos.div_euclid(1000)), ""),
        other => format!("{other:?}").into(),
    }
}

fn time(micros: i64) -> Value {
    time64us_to_time(micros).map_or_else(|| micros.into(), |time| time.to_string().into())
}

/// Microseconds since 1970 as ISO 8601; beyond what a calendar holds, the number.
fn instant(micros: Option<i64>, zone: &str) -> Value {
    let Some(micros) = micros else { return Value::Null };
    timestamp_us_to_datetime(micros).map_or_else(|| micros.into(), |at| format!("{}{zone}", at.format("%Y-%m-%dT%H:%M:%S%.f")).into())
}

/// A big-endian two's complement number; canonical decimals have at most 38 digits.
fn unscaled(bytes: &[u8]) -> i128 {
    let start = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(start, |number, byte| (number << 8) | i128::from(*byte))
}

/// `-150` at scale 2 is `-1.50`.
fn pointed(number: i128, scale: usize) -> String {
    if scale == 0 {
        return number.to_string();
    }
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{part}", if number < 0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn decimals_keep_their_sign_and_their_point() {
        assert_eq!(unscaled(&[0x03, 0x20]), 800);
        assert_eq!(unscaled(&[0xff, 0x6a]), -150);
        assert_eq!((pointed(-150, 2), pointed(5, 2), pointed(800, 0)), ("-1.50".into(), "0.05".into(), "800".into()));
    }

    #[test]
    fn times_and_names_are_shown_as_people_write_them() {
        let schema = Schema::parse_str(
            r#"{"type":"record","name":"A","fields":[
                {"name":"inner","type":["null",{"type":"record","name":"B","fields":[{"name":"fee","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}]},
                {"name":"again","type":["null","B"]},
                {"name":"day","type":{"type":"int","logicalType":"date"}},
                {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}]}"#,
        )
        .unwrap();
        // Branch 1 and -1.50, branch 1 and 8.00, 2026-11-24, 2026-11-24 10:45:21.5 UTC.
        let bytes = [2, 4, 0xff, 0x6a, 2, 4, 0x03, 0x20, 0xbe, 0xc5, 2];
        let mut body = bytes.to_vec();
        let mut value: u64 = (1_795_517_121_500_000_i64 << 1).cast_unsigned();
        while value >= 0x80 {
            body.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        body.push(value as u8);
        let decoded = apache_avro::from_avro_datum(&schema, &mut body.as_slice(), None).unwrap();
        let names = ResolvedSchema::try_from(&schema).unwrap();
        let shown = json(decoded, Some(&schema), names.get_names());
        assert_eq!(shown["inner"]["fee"], "-1.50");
        assert_eq!(shown["again"]["fee"], "8.00");
        assert_eq!(shown["at"], "2026-11-24T10:45:21.500Z");
        assert_eq!(shown["day"].as_str().unwrap().len(), 10);
    }
}
