//! What a subscriber reads with the registered schema is what went in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use apache_avro::types::Value;
use arrow::array::*;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};

use super::*;

const TITLE: &str = r#""title":{"vi":"Tên","en":"Name"},"hub.privacy":"none""#;
const NOW: i64 = 1_790_000_000_123_456;
const TOPIC: &str = "hub.mot-cua.dossier";

fn canonical(fields: &[(&str, &str)]) -> CanonicalSchema {
    let fields: Vec<String> = fields.iter().map(|(name, of)| format!(r#"{{"name":"{name}","type":{of},{TITLE}}}"#)).collect();
    let json = format!(
        r#"{{"type":"record","name":"Dossier","namespace":"public_admin","title":{{"vi":"Hồ sơ","en":"Dossier"}},"fields":[{}]}}"#,
        fields.join(",")
    );
    CanonicalSchema::parse(&json).unwrap()
}

/// `code` is the key, `note` may be null.
fn dossier() -> CanonicalSchema {
    canonical(&[("code", "\"string\""), ("note", r#"["null","string"]"#)])
}

fn input(canonical: &CanonicalSchema, key: &[&str], retention: Retention) -> EncoderInput {
    EncoderInput {
        canonical: canonical.clone(),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        value_schema_id: 258,
        key_schema_id: 7,
        source: SourceInfo {
            version: "0.1.0".into(),
            connector: "postgresql".into(),
            system: "mot-cua".into(),
            db: "mot_cua".into(),
            schema: "public".into(),
            table: "ho_so".into(),
        },
        topic: TOPIC.into(),
        retention,
        max_record_bytes: 1 << 20,
    }
}

fn records(canonical: &CanonicalSchema, columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<Field> = canonical.arrow().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn dossiers(rows: &[(Option<&str>, Option<&str>)]) -> RecordBatch {
    let codes: StringArray = rows.iter().map(|row| row.0).collect();
    let notes: StringArray = rows.iter().map(|row| row.1).collect();
    records(&dossier(), vec![Arc::new(codes), Arc::new(notes)])
}

fn origin(rows: u64) -> Origin {
    let mut origin = Origin::with_capacity(4);
    for row in 0..rows {
        origin.push(1_780_000_000_654_321, 24_023_128, 24_023_000 + row, row, 777);
    }
    origin
}

fn batch<'a>(ops: &'a [Op], records: &'a RecordBatch, keys: &'a RecordBatch, origin: &'a Origin) -> EncodeBatch<'a> {
    EncodeBatch {
        ops,
        records,
        recorded: None,
        old: None,
        old_recorded: None,
        keys,
        key_changes: &[],
        origin,
        origin_rows: None,
        snapshot: SnapshotMark::No,
        now_micros: NOW,
    }
}

fn first_columns(records: &RecordBatch, columns: usize) -> RecordBatch {
    records.project(&(0..columns).collect::<Vec<_>>()).unwrap()
}

/// Reads a framed row as a subscriber would, with the registered schema.
fn read(json: &str, id: u32, framed: &[u8]) -> Value {
    assert_eq!(framed[..5], frame_of(id), "frame");
    let schema = apache_avro::Schema::parse_str(json).unwrap();
    let mut rest = &framed[5..];
    let value = apache_avro::from_avro_datum(&schema, &mut rest, None).unwrap();
    assert!(rest.is_empty(), "{} bytes are left over", rest.len());
    value
}

fn frame_of(id: u32) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice()].concat()
}

fn envelope(canonical: &CanonicalSchema, block: &Block, record: usize) -> Value {
    read(&envelope_schema(canonical, TOPIC), 258, block.values.row(record))
}

fn key(canonical: &CanonicalSchema, names: &[&str], bytes: &[u8]) -> Value {
    read(&key_schema(canonical, names, TOPIC).unwrap(), 7, bytes)
}

/// A field by path, unions opened.
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    let mut found = value;
    for part in path.split('.') {
        if let Value::Union(_, inner) = found {
            found = inner;
        }
        let Value::Record(fields) = found else { panic!("{path}: no record at {part}") };
        found = &fields.iter().find(|(name, _)| name == part).unwrap_or_else(|| panic!("{path}: no {part}")).1;
    }
    match found {
        Value::Union(_, inner) => inner,
        other => other,
    }
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

#[test]
fn the_envelope_is_debeziums_in_names_order_and_values() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("H09.15-260701-0001"), Some("Đăng ký khai sinh 🎉"))]);
    let keys = first_columns(&rows, 1);
    let origin = origin(1);
    let mut encoder = Encoder::new(&input(&canonical, &["code"], Retention::Compacted)).unwrap();
    let encoded = encoder.encode(&batch(&[Op::Create], &rows, &keys, &origin)).unwrap();
    assert!(encoded.rejects.is_empty());
    assert!(encoded.block.tombstones.is_empty() && encoded.block.headers.is_empty());
    assert_eq!(encoded.block.timestamps, [NOW / 1000]);

    let value = envelope(&canonical, &encoded.block, 0);
    let names = |value: &Value| -> Vec<String> {
        let Value::Record(fields) = value else { panic!("no record") };
        fields.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&value), ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"]);
    assert_eq!(
        names(at(&value, "source")),
        [
            "version",
            "connector",
            "name",
            "ts_ms",
            "snapshot",
            "db",
            "sequence",
            "ts_us",
            "ts_ns",
            "schema",
            "table",
            "txId",
            "lsn",
            "xmin",
            "origin",
            "origin_lsn"
        ]
    );
    for (path, expected) in [
        ("before", Value::Null),
        ("after.code", text("H09.15-260701-0001")),
        ("after.note", text("Đăng ký khai sinh 🎉")),
        ("source.version", text("0.1.0")),
        ("source.connector", text("postgresql")),
        ("source.name", text("mot-cua")),
        ("source.ts_ms", Value::Long(1_780_000_000_654)),
        ("source.snapshot", text("false")),
        ("source.db", text("mot_cua")),
        ("source.sequence", text(r#"["24023128","24023000"]"#)),
        ("source.ts_us", Value::Long(1_780_000_000_654_321)),
        ("source.ts_ns", Value::Long(1_780_000_000_654_321_000)),
        ("source.schema", text("public")),
        ("source.table", text("ho_so")),
        ("source.txId", Value::Long(777)),
        ("source.lsn", Value::Long(24_023_000)),
        ("source.xmin", Value::Null),
        ("source.origin", Value::Null),
        ("source.origin_lsn", Value::Null),
        ("transaction", Value::Null),
        ("op", text("c")),
        ("ts_ms", Value::Long(NOW / 1000)),
        ("ts_us", Value::Long(NOW)),
        ("ts_ns", Value::Long(NOW * 1000)),
    ] {
        assert_eq!(at(&value, path), &expected, "{path}");
    }
    let key = key(&canonical, &["code"], encoded.block.keys.unwrap().row(0));
    assert_eq!(key, Value::Record(vec![("code".into(), text("H09.15-260701-0001"))]));
}

#[test]
fn every_logical_type_reads_back_as_it_went_in() {
    let of = |logical: &str, base: &str, more: &str| format!(r#"["null",{{"type":"{base}","logicalType":"{logical}"{more}}}]"#);
    let decimal = of("decimal", "bytes", r#","precision":14,"scale":2"#);
    let types = [
        ("code", "\"string\"".to_owned()),
        ("flag", r#"["null","boolean"]"#.into()),
        ("small", r#"["null","int"]"#.into()),
        ("big", r#"["null","long"]"#.into()),
        ("single", r#"["null","float"]"#.into()),
        ("twice", r#"["double","null"]"#.into()),
        ("raw", r#"["null","bytes"]"#.into()),
        ("fee", decimal),
        ("day", of("date", "int", "")),
        ("clock", of("time-micros", "long", "")),
        ("milli", of("timestamp-millis", "long", "")),
        ("micro", of("timestamp-micros", "long", "")),
        ("local", of("local-timestamp-micros", "long", "")),
        ("id", of("uuid", "string", "")),
        ("level", r#"["null",{"type":"enum","name":"Level","symbols":["LOW","HIGH"]}]"#.into()),
        ("tags", r#"["null",{"type":"array","items":"string"}]"#.into()),
    ];
    let types: Vec<(&str, &str)> = types.iter().map(|(name, of)| (*name, of.as_str())).collect();
    let canonical = canonical(&types);
    let uuid = "0192f0c1-2b3c-7d4e-8f50-6172839405a6";
    let mut tags = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false));
    tags.append_value([Some("nguội"), Some("")]);
    tags.append_null();
    let level = canonical.field("level").unwrap().to_symbols(&StringArray::from(vec![Some("HIGH"), None])).unwrap().0;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["a", "b"])),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Int32Array::from(vec![Some(i32::MIN), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MAX), None])),
        Arc::new(Float32Array::from(vec![Some(f32::NEG_INFINITY), None])),
        Arc::new(Float64Array::from(vec![Some(0.1), None])),
        Arc::new(BinaryArray::from(vec![Some(&[0u8, 255, 10][..]), None])),
        Arc::new(Decimal128Array::from(vec![Some(-99_999_999_999_999), None]).with_precision_and_scale(14, 2).unwrap()),
        Arc::new(Date32Array::from(vec![Some(-719_162), None])),
        Arc::new(Time64MicrosecondArray::from(vec![Some(86_399_999_999), None])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(-1), None]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_780_000_000_654_321), None]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1_780_000_000_654_321), None])),
        Arc::new(StringArray::from(vec![Some(uuid), None])),
        level,
        Arc::new(tags.finish()),
    ];
    let rows = records(&canonical, columns);
    let keys = first_columns(&rows, 1);
    let origin = origin(2);
    let mut encoder = Encoder::new(&input(&canonical, &["code"], Retention::Compacted)).unwrap();
    let encoded = encoder.encode(&batch(&[Op::Read, Op::Read], &rows, &keys, &origin)).unwrap();
    let (full, bare) = (envelope(&canonical, &encoded.block, 0), envelope(&canonical, &encoded.block, 1));
    let unscaled = (-99_999_999_999_999_i64).to_be_bytes()[1..].to_vec();
    let expected = [
        ("flag", Value::Boolean(true)),
        ("small", Value::Int(i32::MIN)),
        ("big", Value::Long(i64::MAX)),
        ("single", Value::Float(f32::NEG_INFINITY)),
        ("twice", Value::Double(0.1)),
        ("raw", Value::Bytes(vec![0, 255, 10])),
        ("fee", Value::Decimal(apache_avro::Decimal::from(&unscaled))),
        ("day", Value::Date(-719_162)),
        ("clock", Value::TimeMicros(86_399_999_999)),
        ("milli", Value::TimestampMillis(-1)),
        ("micro", Value::TimestampMicros(1_780_000_000_654_321)),
        ("local", Value::LocalTimestampMicros(-1_780_000_000_654_321)),
        ("id", Value::Uuid(uuid.parse().unwrap())),
        ("level", Value::Enum(1, "HIGH".into())),
        ("tags", Value::Array(vec![text("nguội"), text("")])),
    ];
    for (name, expected) in expected {
        assert_eq!(at(&full, &format!("after.{name}")), &expected, "{name}");
        assert_eq!(at(&bare, &format!("after.{name}")), &Value::Null, "{name} of the bare row");
    }
}

#[test]
fn an_update_carries_its_old_record_where_there_is_one() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("a"), Some("new")), (Some("b"), Some("new"))]);
    let old = dossiers(&[(Some("a"), Some("old")), (None, None)]);
    let (keys, origin) = (first_columns(&rows, 1), origin(2));
    let known = BooleanBuffer::from(vec![true, false]);
    let mut encoder = Encoder::new(&input(&canonical, &["code"], Retention::Compacted)).unwrap();
    let given = EncodeBatch { old: Some(&old), old_recorded: Some(&known), ..batch(&[Op::Update, Op::Update], &rows, &keys, &origin) };
    let encoded = encoder.encode(&given).unwrap();
    let (first, second) = (envelope(&canonical, &encoded.block, 0), envelope(&canonical, &encoded.block, 1));
    assert_eq!((at(&first, "before.note"), at(&first, "after.note")), (&text("old"), &text("new")));
    assert_eq!((at(&second, "before"), at(&second, "after.code"), at(&second, "op")), (&Value::Null, &text("b"), &text("u")));
}

#[test]
fn a_delete_is_keyed_even_without_its_record_and_a_tombstone_follows() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("a"), Some("kept")), (None, None), (Some("c"), None)]);
    let keys = first_columns(&dossiers(&[(Some("a"), None), (Some("b"), None), (Some("c"), None)]), 1);
    let (origin, known) = (origin(3), BooleanBuffer::from(vec![true, false, true]));
    let ops = [Op::Delete, Op::Delete, Op::Create];
    for (retention, tombstones) in [(Retention::Compacted, vec![0, 1]), (Retention::Timed, vec![])] {
        let mut encoder = Encoder::new(&input(&canonical, &["code"], retention)).unwrap();
        let given = EncodeBatch { recorded: Some(&known), ..batch(&ops, &rows, &keys, &origin) };
        let encoded = encoder.encode(&given).unwrap();
        assert!(encoded.rejects.is_empty());
        assert_eq!(encoded.block.tombstones, tombstones);
        let (full, bare) = (envelope(&canonical, &encoded.block, 0), envelope(&canonical, &encoded.block, 1));
        assert_eq!((at(&full, "before.note"), at(&full, "after")), (&text("kept"), &Value::Null));
        assert_eq!((at(&bare, "before"), at(&bare, "after"), at(&bare, "op")), (&Value::Null, &Value::Null, &text("d")));
        let bytes = encoded.block.keys.as_ref().unwrap().row(1).to_vec();
        assert_eq!(at(&key(&canonical, &["code"], &bytes), "code"), &text("b"));
    }
}

#[test]
fn a_changed_key_is_a_delete_and_a_create_that_point_at_each_other() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("x"), None), (Some("old"), None), (Some("new"), None)]);
    let (keys, origin) = (first_columns(&rows, 1), origin(3));
    let changes = [KeyChange { delete: 1, create: 2 }];
    let mut encoder = Encoder::new(&input(&canonical, &["code"], Retention::Compacted)).unwrap();
    let given = EncodeBatch { key_changes: &changes, ..batch(&[Op::Create, Op::Delete, Op::Create], &rows, &keys, &origin) };
    let encoded = encoder.encode(&given).unwrap();
    let told: Vec<(u32, &str, Value)> =
        encoded.block.headers.iter().map(|h| (h.record, h.name, at(&key(&canonical, &["code"], &h.value), "code").clone())).collect();
    assert_eq!(told, [(1, "__debezium.newkey", text("new")), (2, "__debezium.oldkey", text("old"))]);
    assert_eq!(encoded.block.tombstones, [1]);
}

#[test]
fn a_truncate_has_no_key_and_is_refused_for_compacted_topics() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("a"), None), (None, None), (Some("c"), None)]);
    let (keys, origin) = (first_columns(&rows, 1), origin(3));
    let ops = [Op::Create, Op::Truncate, Op::Create];
    let mut timed = Encoder::new(&input(&canonical, &["code"], Retention::Timed)).unwrap();
    let encoded = timed.encode(&batch(&ops, &rows, &keys, &origin)).unwrap();
    assert_eq!((encoded.block.len(), encoded.rejects.len()), (3, 0));
    assert_eq!(encoded.block.keys.as_ref().unwrap().row(1), b"");
    let truncate = envelope(&canonical, &encoded.block, 1);
    assert_eq!((at(&truncate, "before"), at(&truncate, "after"), at(&truncate, "op")), (&Value::Null, &Value::Null, &text("t")));

    let mut compacted = Encoder::new(&input(&canonical, &["code"], Retention::Compacted)).unwrap();
    let encoded = compacted.encode(&batch(&ops, &rows, &keys, &origin)).unwrap();
    assert_eq!((encoded.rejects[0].row, encoded.rejects[0].code), (1, "truncate-on-compacted"));
    assert_eq!(encoded.rows, Some(vec![0, 2]));
    assert_eq!(encoded.block.keys.as_ref().unwrap().len(), 2);
    assert_eq!(at(&key(&canonical, &["code"], encoded.block.keys.as_ref().unwrap().row(1)), "code"), &text("c"));
}

#[test]
fn rows_that_cannot_be_published_are_handed_back_and_the_others_go() {
    let canonical = dossier();
    let huge = "n".repeat(2000);
    let rows = dossiers(&[(Some("a"), Some(huge.as_str())), (Some("b"), None), (None, None), (Some("d"), None)]);
    let origin = origin(4);
    let keys = first_columns(&dossiers(&[(Some("a"), None), (Some("b"), None), (Some("c"), None), (None, None)]), 1);
    let mut small = input(&canonical, &["code"], Retention::Compacted);
    small.max_record_bytes = 1000;
    let mut encoder = Encoder::new(&small).unwrap();
    let encoded = encoder.encode(&batch(&[Op::Read; 4], &rows, &keys, &origin)).unwrap();
    let codes: Vec<(u32, &str)> = encoded.rejects.iter().map(|reject| (reject.row, reject.code)).collect();
    assert_eq!(codes, [(0, "too-large"), (2, "null-required"), (3, "null-key")]);
    assert_eq!(encoded.rejects[1].field.as_deref(), Some("code"));
    assert!(encoded.rejects.iter().all(|reject| !reject.message.contains("nnn")), "no values in messages");
    assert_eq!((encoded.rows, encoded.block.len()), (Some(vec![1]), 1));
    assert_eq!(at(&envelope(&canonical, &encoded.block, 0), "after.code"), &text("b"));
}

#[test]
fn rows_find_their_origin_in_the_change_batch() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("a"), None), (Some("b"), None)]);
    let (keys, origin) = (first_columns(&rows, 1), origin(5));
    let mut encoder = Encoder::new(&input(&canonical, &["code"], Retention::Compacted)).unwrap();
    let given = EncodeBatch {
        origin_rows: Some(&[1, 4]),
        snapshot: SnapshotMark::Incremental,
        ..batch(&[Op::Read, Op::Read], &rows, &keys, &origin)
    };
    let encoded = encoder.encode(&given).unwrap();
    for (record, lsn) in [(0, 24_023_001), (1, 24_023_004)] {
        let value = envelope(&canonical, &encoded.block, record);
        assert_eq!(at(&value, "source.lsn"), &Value::Long(lsn));
        assert_eq!(at(&value, "source.snapshot"), &text("incremental"));
    }
}

#[test]
fn a_source_without_positions_has_null_in_their_place() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("a"), None)]);
    let empty = rows.project(&[]).unwrap();
    let mut origin = Origin::default();
    origin.push(0, 0, 0, 0, 0);
    let mut encoder = Encoder::new(&input(&canonical, &[], Retention::Timed)).unwrap();
    let encoded = encoder.encode(&batch(&[Op::Create], &rows, &empty, &origin)).unwrap();
    let value = envelope(&canonical, &encoded.block, 0);
    for path in ["source.sequence", "source.txId", "source.lsn"] {
        assert_eq!(at(&value, path), &Value::Null, "{path}");
    }
    assert!(encoded.block.keys.is_none());
}

#[test]
fn a_key_may_have_several_fields_and_none_that_may_be_null() {
    let canonical = canonical(&[("code", "\"string\""), ("step", "\"int\""), ("note", r#"["null","string"]"#)]);
    let rows = records(
        &canonical,
        vec![Arc::new(StringArray::from(vec!["a"])), Arc::new(Int32Array::from(vec![2])), Arc::new(StringArray::from(vec![None::<&str>]))],
    );
    let (keys, origin) = (rows.project(&[1, 0]).unwrap(), origin(1));
    let mut encoder = Encoder::new(&input(&canonical, &["step", "code"], Retention::Compacted)).unwrap();
    let encoded = encoder.encode(&batch(&[Op::Create], &rows, &keys, &origin)).unwrap();
    let bytes = encoded.block.keys.unwrap().row(0).to_vec();
    let expected = Value::Record(vec![("step".into(), Value::Int(2)), ("code".into(), text("a"))]);
    assert_eq!(key(&canonical, &["step", "code"], &bytes), expected);

    assert!(matches!(key_schema(&canonical, &["note"], TOPIC), Err(KeyError::Nullable { .. })));
    assert!(matches!(key_schema(&canonical, &["nope"], TOPIC), Err(KeyError::Unknown { .. })));
    assert!(matches!(key_schema(&canonical, &["code", "code"], TOPIC), Err(KeyError::Repeated { .. })));
}

#[test]
fn columns_that_are_not_the_schemas_are_refused_whole() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("a"), None)]);
    let keys = first_columns(&rows, 1);
    let swapped = rows.project(&[1, 0]).unwrap();
    let mut encoder = Encoder::new(&input(&canonical, &["code"], Retention::Compacted)).unwrap();
    let error = encoder.encode(&batch(&[Op::Create], &swapped, &keys, &origin(1))).unwrap_err();
    assert!(matches!(error, EncodeError::Columns { what: "records", .. }), "{error}");
    let error = encoder.encode(&batch(&[Op::Create], &rows, &keys, &origin(2))).unwrap_err();
    assert!(matches!(error, EncodeError::Rows { what: "origin", found: 2, expected: 1, .. }), "{error}");
    assert!(encoder.encode(&batch(&[Op::Create], &rows, &keys, &origin(1))).is_ok(), "a failed batch leaves nothing behind");
}

#[test]
fn the_same_encoder_gives_the_same_bytes_batch_after_batch() {
    let canonical = dossier();
    let rows = dossiers(&[(Some("a"), None), (Some("b"), Some("x"))]);
    let (keys, origin) = (first_columns(&rows, 1), origin(2));
    let mut encoder = Encoder::new(&input(&canonical, &["code"], Retention::Compacted)).unwrap();
    let bytes = |encoded: &Encoded| (0..2).map(|row| encoded.block.values.row(row).to_vec()).collect::<Vec<_>>();
    let first = encoder.encode(&batch(&[Op::Create, Op::Update], &rows, &keys, &origin)).unwrap();
    let second = encoder.encode(&batch(&[Op::Create, Op::Update], &rows, &keys, &origin)).unwrap();
    assert_eq!(bytes(&first), bytes(&second));
}

#[test]
fn topics_make_namespaces_that_avro_takes() {
    assert_eq!(namespace("hub.mot-cua.dossier"), "hub.mot_cua.dossier");
    assert_eq!(namespace("91-systems.hộ tịch"), "_91_systems.h__t_ch");
}

#[test]
fn an_enum_in_the_key_and_the_record_keeps_its_place() {
    let canonical = canonical(&[("kind", r#"{"type":"enum","name":"Kind","symbols":["A","B"]}"#), ("code", "\"string\"")]);
    let keys = DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![1]), Arc::new(StringArray::from(vec!["A", "B"]))).unwrap();
    let rows = records(&canonical, vec![Arc::new(keys), Arc::new(StringArray::from(vec!["a"]))]);
    let (keys, origin) = (first_columns(&rows, 1), origin(1));
    let mut encoder = Encoder::new(&input(&canonical, &["kind"], Retention::Compacted)).unwrap();
    let encoded = encoder.encode(&batch(&[Op::Create], &rows, &keys, &origin)).unwrap();
    assert_eq!(at(&envelope(&canonical, &encoded.block, 0), "after.kind"), &Value::Enum(1, "B".into()));
    let bytes = encoded.block.keys.unwrap().row(0).to_vec();
    assert_eq!(at(&key(&canonical, &["kind"], &bytes), "kind"), &Value::Enum(1, "B".into()));
}
