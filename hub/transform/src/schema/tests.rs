//! What a canonical schema may be, and what is said of one that may not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::datatypes::TimeUnit;

use super::*;

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"Probe","namespace":"test","title":{{"vi":"Thử","en":"Probe"}},"fields":[{fields}]}}"#)
}

fn field(name: &str, of: &str) -> String {
    format!(r#"{{"name":"{name}","type":{of},"title":{{"vi":"Tên","en":"Name"}},"hub.privacy":"none"}}"#)
}

fn type_of(of: &str) -> DataType {
    CanonicalSchema::parse(&record(&field("a", of))).unwrap().arrow().field(0).data_type().clone()
}

#[test]
fn every_supported_type_has_its_arrow_type() {
    let utc = || Some(Arc::from("UTC"));
    for (avro, arrow) in [
        (r#""string""#, DataType::Utf8),
        (r#"["null","int"]"#, DataType::Int32),
        (r#"["long","null"]"#, DataType::Int64),
        (r#""float""#, DataType::Float32),
        (r#""double""#, DataType::Float64),
        (r#""boolean""#, DataType::Boolean),
        (r#""bytes""#, DataType::Binary),
        (r#"{"type":"string"}"#, DataType::Utf8),
        (r#"{"type":"bytes","logicalType":"decimal","precision":14,"scale":2}"#, DataType::Decimal128(14, 2)),
        (r#"{"type":"bytes","logicalType":"decimal","precision":38}"#, DataType::Decimal128(38, 0)),
        (r#"{"type":"int","logicalType":"date"}"#, DataType::Date32),
        (r#"{"type":"long","logicalType":"time-micros"}"#, DataType::Time64(TimeUnit::Microsecond)),
        (r#"{"type":"long","logicalType":"timestamp-millis"}"#, DataType::Timestamp(TimeUnit::Millisecond, utc())),
        (r#"{"type":"long","logicalType":"timestamp-micros"}"#, DataType::Timestamp(TimeUnit::Microsecond, utc())),
        (r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, DataType::Timestamp(TimeUnit::Microsecond, None)),
        (r#"{"type":"string","logicalType":"uuid"}"#, DataType::Utf8),
        (r#"{"type":"array","items":"string"}"#, DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)))),
    ] {
        assert_eq!(type_of(avro), arrow, "{avro}");
    }
}

#[test]
fn an_enum_is_a_dictionary_that_keeps_its_symbols() {
    let schema =
        CanonicalSchema::parse(&record(&field("a", r#"["null",{"type":"enum","name":"Level","symbols":["LOW","HIGH"]}]"#))).unwrap();
    let arrow = schema.arrow();
    assert!(matches!(arrow.field(0).data_type(), DataType::Dictionary(..)));
    assert_eq!(arrow.field(0).metadata()[AVRO_ENUM_SYMBOLS_METADATA_KEY], r#"["LOW","HIGH"]"#);
    let text = StringArray::from(vec![Some("HIGH"), None, Some("MIDDLE"), Some("LOW")]);
    let (column, strangers) = schema.field("a").unwrap().to_symbols(&text).unwrap();
    assert_eq!(strangers, [2]);
    let keys = column.as_any().downcast_ref::<DictionaryArray<Int32Type>>().unwrap().keys().clone();
    assert_eq!(keys, Int32Array::from(vec![Some(1), None, None, Some(0)]));
}

#[test]
fn all_faults_are_reported_together_with_what_would_fit() {
    let fields = [
        r#"{"name":"bare","type":"string"}"#.to_owned(),
        field("deep", r#"{"type":"record","name":"In","fields":[]}"#),
        field("wide", r#"{"type":"bytes","logicalType":"decimal","precision":60,"scale":2}"#),
        field("either", r#"["null","string","int"]"#),
        field("numbers", r#"{"type":"array","items":"int"}"#),
    ];
    let error = CanonicalSchema::parse(&record(&fields.join(","))).unwrap_err();
    let places: Vec<&str> = error.faults.iter().map(|fault| fault.place.as_str()).collect();
    assert_eq!(
        places,
        ["field \"bare\"", "field \"bare\"", "field \"bare\"", "field \"deep\"", "field \"wide\"", "field \"either\"", "field \"numbers\""]
    );
    let text = error.to_string();
    for part in ["\"vi\" is missing", "hub.privacy", "address_street", "1 to 38", "beside \"null\"", "strings alone"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn what_avro_refuses_is_a_fault_too() {
    for of in [
        r#"{"type":"enum","name":"9","symbols":["A"]}"#,
        r#"{"type":"enum","name":"E","namespace":"a-b","symbols":["A"]}"#,
        r#"{"type":"enum","name":"E","symbols":["A","A"]}"#,
    ] {
        assert!(CanonicalSchema::parse(&record(&field("a", of))).is_err(), "{of}");
    }
    assert!(CanonicalSchema::parse("{").unwrap_err().to_string().contains("not JSON"));
}

#[test]
fn the_text_of_a_schema_does_not_depend_on_white_space() {
    let dense = record(&field("a", r#""string""#));
    let airy = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&dense).unwrap()).unwrap();
    let (dense, airy) = (CanonicalSchema::parse(&dense).unwrap(), CanonicalSchema::parse(&airy).unwrap());
    assert_eq!(dense.json(), airy.json());
    assert_eq!((dense.name(), dense.namespace()), ("Probe", "test"));
}
