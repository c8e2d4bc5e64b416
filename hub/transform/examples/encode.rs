//! What encoding costs: `cargo run --release -p hub-transform --example encode` prints nanoseconds and bytes per row of the 12-field
//! dossier, envelope and key included, and what each part of it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use arrow_avro::schema::SCHEMA_METADATA_KEY;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroBinaryFormat;
use hub_model::{Op, Origin, SnapshotMark};
use hub_transform::CanonicalSchema;
use hub_transform::encode::{EncodeBatch, Encoder, EncoderInput, Retention, SourceInfo};

const ROWS: usize = 4096;
const ROUNDS: usize = 400;
const FIELDS: usize = 12;

fn main() {
    let canonical = dossier();
    let records = records(&canonical.arrow());
    let keys = records.project(&[0]).unwrap();
    let snapshot = origin(|_| 0);
    let stream = origin(|row| row / 20);
    println!("{:<48} {:>8} {:>8}", "", "ns/row", "B/row");
    let (nanos, bytes) = bare(&canonical, &records);
    println!("{:<48} {nanos:>8.1} {bytes:>8.1}", "the canonical record alone (arrow-avro)");
    for (name, op, origin, mark) in [
        ("snapshot rows, envelope and key", Op::Read, &snapshot, SnapshotMark::Initial),
        ("created rows, 20 a transaction", Op::Create, &stream, SnapshotMark::No),
        ("deleted rows with their records and tombstones", Op::Delete, &stream, SnapshotMark::No),
    ] {
        let (nanos, bytes) = whole(&canonical, &records, &keys, op, origin, mark, None);
        println!("{name:<48} {nanos:>8.1} {bytes:>8.1}");
    }
    let (nanos, bytes) = whole(&canonical, &records, &keys, Op::Update, &stream, SnapshotMark::No, Some(&records));
    println!("{:<48} {nanos:>8.1} {bytes:>8.1}", "updated rows with their old records");
}

/// The least time of all rounds per row, in nanoseconds, and the bytes per row.
fn measure(mut encode: impl FnMut() -> usize) -> (f64, f64) {
    let (mut best, mut bytes) = (f64::INFINITY, 0);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        bytes = black_box(encode());
        best = best.min(begun.elapsed().as_nanos() as f64);
    }
    (best / ROWS as f64, bytes as f64 / ROWS as f64)
}

fn bare(canonical: &CanonicalSchema, records: &RecordBatch) -> (f64, f64) {
    let metadata = [(SCHEMA_METADATA_KEY.to_owned(), canonical.json().to_owned())].into();
    let schema = canonical.arrow().as_ref().clone().with_metadata(metadata);
    let mut encoder = WriterBuilder::new(schema).build_encoder::<AvroBinaryFormat>().unwrap();
    measure(|| {
        encoder.encode(records).unwrap();
        encoder.flush().bytes().len()
    })
}

fn whole(
    canonical: &CanonicalSchema,
    records: &RecordBatch,
    keys: &RecordBatch,
    op: Op,
    origin: &Origin,
    snapshot: SnapshotMark,
    old: Option<&RecordBatch>,
) -> (f64, f64) {
    let mut encoder = Encoder::new(&EncoderInput {
        canonical: canonical.clone(),
        key: vec!["code".to_owned()],
        value_schema_id: 1,
        key_schema_id: 2,
        source: SourceInfo {
            version: "0.1.0".into(),
            connector: "postgresql".into(),
            system: "mot-cua".into(),
            db: "mot_cua".into(),
            schema: "public".into(),
            table: "ho_so".into(),
        },
        topic: "hub.mot-cua.public-admin.Dossier".into(),
        retention: Retention::Compacted,
        max_record_bytes: 1 << 20,
    })
    .unwrap();
    let ops = vec![op; ROWS];
    measure(|| {
        let batch = EncodeBatch {
            ops: &ops,
            records,
            recorded: None,
            old,
            old_recorded: None,
            keys,
            key_changes: &[],
            origin,
            origin_rows: None,
            snapshot,
            now_micros: 1_790_000_000_123_456,
        };
        let block = encoder.encode(&batch).unwrap().block;
        assert_eq!(block.len(), ROWS);
        block.bytes()
    })
}

/// The repository's dossier, its first twelve fields.
fn dossier() -> CanonicalSchema {
    let mut json: serde_json::Value = serde_json::from_str(include_str!("../../../schemas/public-admin/Dossier.avsc")).unwrap();
    json["fields"].as_array_mut().unwrap().truncate(FIELDS);
    CanonicalSchema::parse(&json.to_string()).unwrap()
}

fn origin(transaction: impl Fn(u64) -> u64) -> Origin {
    let mut origin = Origin::with_capacity(ROWS);
    for row in 0..ROWS as u64 {
        let number = transaction(row);
        let micros = 1_780_000_000_000_000 + i64::try_from(number).unwrap() * 1_003;
        origin.push(micros, 24_023_128_000 + number * 4_000, 24_023_124_000 + row * 200, row, 750_000 + number);
    }
    origin
}

fn records(schema: &SchemaRef) -> RecordBatch {
    let text = |of: &dyn Fn(usize) -> Option<String>| -> ArrayRef { Arc::new((0..ROWS).map(of).collect::<StringArray>()) };
    let date = |of: &dyn Fn(i32) -> Option<i32>| -> ArrayRef { Arc::new((0..ROWS as i32).map(of).collect::<Date32Array>()) };
    let fee: Decimal128Array = (0..ROWS as i128).map(|row| (row % 5 != 0).then_some(row % 60 * 500_000)).collect();
    let received: TimestampMicrosecondArray = (0..ROWS as i64).map(|row| Some(1_780_000_000_000_000 + row * 61_000_000)).collect();
    let columns: Vec<ArrayRef> = vec![
        text(&|row| Some(format!("000.03.15.H09-260701-{:04}", row + 1))),
        text(&|row| Some(format!("07408500{row:04}"))),
        text(&|_| Some("H09.15.03".to_owned())),
        text(&|_| Some("1.004194".to_owned())),
        text(&|row| Some(["in_progress", "returned", "completed"][row % 3].to_owned())),
        text(&|row| Some(["online", "in_person"][row % 2].to_owned())),
        Arc::new(received.with_timezone("UTC")),
        date(&|row| Some(20_640 + row % 20)),
        date(&|row| (row % 2 == 0).then_some(20_650)),
        Arc::new(fee.with_precision_and_scale(14, 2).unwrap()),
        text(&|_| Some("Đăng ký thường trú tại phường Phú Cường, Thủ Dầu Một".to_owned())),
        text(&|_| None),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}
