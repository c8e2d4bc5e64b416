//! The audit topic's record: an exchange with a source, as digests and circumstances, for whoever must prove what was exchanged.

use std::sync::Arc;

use bytes::Bytes;
use hub_model::{Block, Evidence, Rows};

use crate::avro::{frame, put_bytes, put_long};

/// Avro schema of the record. Fields are only ever added at the end, with defaults.
pub const SCHEMA: &str = r#"{"type":"record","name":"Exchange","namespace":"vn.hub","doc":"An exchange with a source: who asked what, when, how it ended, and the digests of both sides.","fields":[
{"name":"system","type":"string"},{"name":"stream","type":"string"},
{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"},"doc":"When it ended."},
{"name":"account","type":"string","doc":"The account that was used, or the address of the caller; empty where there is none."},
{"name":"what","type":"string","doc":"Method and address, without the query."},
{"name":"outcome","type":"string","doc":"How it ended, in the protocol's words."},
{"name":"request_sha256","type":"string","doc":"Of method, address with its query, and body; hexadecimal."},
{"name":"answer_sha256","type":"string","doc":"Of the answer's body, hexadecimal; empty where none came."},
{"name":"answer_bytes","type":"long"},
{"name":"kept","type":"string","doc":"Where both are kept whole; empty where they are not."}]}"#;

/// One record per exchange for `topic`, whose value schema is registered as `schema_id`. Keyed by stream, so that those of one
/// stream keep their order.
#[must_use]
pub fn encode(topic: &Arc<str>, schema_id: u32, system: &str, evidence: &[Evidence]) -> Block {
    let (mut values, mut value_ends) = (Vec::with_capacity(evidence.len() * 384), vec![0]);
    let (mut keys, mut key_ends) = (Vec::with_capacity(evidence.len() * 32), vec![0]);
    for exchange in evidence {
        values.extend_from_slice(&frame(schema_id));
        put_bytes(&mut values, system.as_bytes());
        put_bytes(&mut values, exchange.stream.as_str().as_bytes());
        put_long(&mut values, exchange.at_micros);
        for text in [&exchange.account, &exchange.what, &exchange.outcome, &exchange.request_sha256, &exchange.answer_sha256] {
            put_bytes(&mut values, text.as_bytes());
        }
        put_long(&mut values, i64::try_from(exchange.answer_bytes).unwrap_or(i64::MAX));
        put_bytes(&mut values, exchange.kept.as_bytes());
        value_ends.push(values.len());
        keys.extend_from_slice(exchange.stream.as_str().as_bytes());
        key_ends.push(keys.len());
    }
    Block {
        topic: Arc::clone(topic),
        keys: Some(Rows::new(Bytes::from(keys), key_ends)),
        values: Rows::new(Bytes::from(values), value_ends),
        timestamps: evidence.iter().map(|exchange| exchange.at_micros.div_euclid(1000)).collect(),
        tombstones: Vec::new(),
        headers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use apache_avro::types::Value;
    use hub_model::StreamName;

    use super::*;

    #[test]
    fn an_exchange_is_read_back_by_its_schema() {
        let exchange = Evidence {
            at_micros: 1_700_000_000_000_001,
            stream: StreamName::new("dan_cu").unwrap(),
            account: "hub-h09".to_owned(),
            what: "GET https://lgsp.example/dmdc/1.0/AllCategory".to_owned(),
            outcome: "200".to_owned(),
            request_sha256: "ab".repeat(32),
            answer_sha256: "cd".repeat(32),
            answer_bytes: 7,
            kept: String::new(),
        };
        let block = encode(&"h09.lgsp.audit".into(), 3, "lgsp", &[exchange.clone(), exchange]);
        assert_eq!((block.len(), block.timestamps[1]), (2, 1_700_000_000_000));
        let (id, mut body) = crate::envelope::framed(block.values.row(1)).unwrap();
        assert_eq!(id, 3);
        let schema = apache_avro::Schema::parse_str(SCHEMA).unwrap();
        let Value::Record(fields) = apache_avro::from_avro_datum(&schema, &mut body, None).unwrap() else { panic!("no record") };
        assert_eq!(body.len(), 0);
        assert_eq!(fields[0].1, Value::String("lgsp".to_owned()));
        assert_eq!(fields[2].1, Value::TimestampMicros(1_700_000_000_000_001));
        assert_eq!(fields[8].1, Value::Long(7));
    }
}
