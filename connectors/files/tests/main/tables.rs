//! Parquet: its own types, nested ones as JSON, deliveries compared, columns that change.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, StructArray, Time32MillisecondArray, TimestampMicrosecondArray, TimestampSecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit, TimestampMillisecondType};
use arrow::record_batch::RecordBatch;
use hub_conformance::Run;
use hub_sdk::Connector;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

use crate::desk::Desk;

fn parquet(columns: Vec<(&str, ArrayRef)>, compression: Compression) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn people(ids: &[i64], names: &[Option<&str>]) -> Vec<u8> {
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(Int64Array::from(ids.to_vec()))), ("ten", Arc::new(StringArray::from(names.to_vec())))];
    parquet(columns, Compression::SNAPPY)
}

fn stream(mode: &str) -> serde_json::Value {
    json!({"pattern": "*.parquet", "format": "parquet", "key": ["id"], "mode": mode})
}

#[tokio::test]
async fn values_keep_their_types_and_what_the_hub_has_no_type_for_is_widened_or_json() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
    let field = |name: &str, kind| Arc::new(Field::new(name, kind, true));
    let nested = StructArray::from(vec![
        (field("a", DataType::Utf8), Arc::new(StringArray::from(vec!["x\"y"])) as ArrayRef),
        (field("b", DataType::Boolean), Arc::new(BooleanArray::from(vec![true])) as ArrayRef),
    ]);
    let dictionary: arrow::array::DictionaryArray<Int32Type> = vec!["Nam"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![7]))),
        ("co", Arc::new(BooleanArray::from(vec![true]))),
        ("nho", Arc::new(UInt32Array::from(vec![u32::MAX]))),
        ("lon", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("thuc", Arc::new(Float64Array::from(vec![0.1]))),
        ("phi", Arc::new(Decimal128Array::from(vec![12_345]).with_precision_and_scale(14, 2).unwrap())),
        ("ngay", Arc::new(Date32Array::from(vec![20_374]))),
        ("gio", Arc::new(Time32MillisecondArray::from(vec![3_600_000]))),
        ("luc", Arc::new(TimestampMicrosecondArray::from(vec![1_760_313_600_000_001]))),
        ("khi", Arc::new(TimestampSecondArray::from(vec![1_760_313_600]).with_timezone("+07:00"))),
        ("ma", Arc::new(FixedSizeBinaryArray::try_from_iter([[1u8, 2]].into_iter()).unwrap())),
        ("tep", Arc::new(BinaryArray::from_vec(vec![b"\xff"]))),
        ("gioi", Arc::new(dictionary)),
        ("ds", Arc::new(list)),
        ("o", Arc::new(nested)),
    ];
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default()), Compression::LZ4_RAW] {
        let desk = Desk::new(stream("append"));
        desk.put("a.parquet", parquet(columns.clone(), compression));
        let sample = desk.connector().await.sample(&hub_sdk::model::StreamName::new("s").unwrap(), 10).await.unwrap();
        let types: Vec<_> = sample.rows.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let utc = |unit| DataType::Timestamp(unit, Some("UTC".into()));
        assert_eq!(
            types,
            [
                DataType::Int64,
                DataType::Boolean,
                DataType::Int64,
                DataType::Decimal128(20, 0),
                DataType::Float64,
                DataType::Decimal128(14, 2),
                DataType::Date32,
                DataType::Time64(TimeUnit::Microsecond),
                DataType::Timestamp(TimeUnit::Microsecond, None),
                utc(TimeUnit::Millisecond),
                DataType::Binary,
                DataType::Binary,
                DataType::Utf8,
                DataType::Utf8,
                DataType::Utf8,
            ]
        );
        let instants = sample.rows.column_by_name("khi").unwrap().as_primitive::<TimestampMillisecondType>();
        assert_eq!(instants.value(0), 1_760_313_600_000);
        // The kit cannot print an instant.
        let columns = columns.iter().filter(|(name, _)| *name != "khi").cloned().collect();
        assert_eq!(
            Desk::rows_of(stream("append"), "a.parquet", parquet(columns, compression)).await,
            [
                "r 7|true|4294967295|18446744073709551615|0.1|123.45|2025-10-13|01:00:00|2025-10-13T00:00:00.000001|0102|ff|Nam|[1,null]|{\"a\":\"x\\\"y\",\"b\":true}"
            ]
        );
    }
}

#[tokio::test]
async fn a_whole_delivery_of_parquet_is_told_as_what_differs() {
    let mut desk = Desk::new(stream("whole"));
    desk.put("1.parquet", people(&[1, 2, 3], &[Some("An"), Some("Bình"), None]));
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["r 1|An", "r 2|Bình", "r 3|∅"]);
    desk.put("2.parquet", people(&[1, 2, 4, 4], &[Some("An"), Some("Bảo"), Some("Du"), Some("Du again")]));
    let expected =
        ["u 2|Bảo", "c 4|Du", "c 4|Du again !key-twice row 4 of 2.parquet: a row before it has the same key", "d 3|∅"].map(str::to_owned);
    assert_eq!(desk.changes(&mut run, 4).await, expected);
    run.kill().await;
    // After a crash the same state is known.
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), None]));
    let ages: ArrayRef = Arc::new(Int32Array::from(vec![36, 40, 1]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["An", "Bảo", "x"]));
    desk.put("3.parquet", parquet(vec![("tuoi", ages), ("id", ids), ("ten", names)], Compression::SNAPPY));
    let mut run = desk.run().await;
    assert_eq!(
        desk.changes(&mut run, 4).await,
        ["u 1|An|36", "u 2|Bảo|40", "c ∅|x|1 !key-missing row 3 of 3.parquet: it has no value in a column of its key", "d 4|∅|∅"]
    );
    run.shut().await;
}

#[tokio::test]
async fn a_run_goes_on_in_the_middle_of_a_table() {
    for mode in ["append", "whole"] {
        let mut desk = Desk::new(stream(mode));
        desk.limits.rows = 10;
        let ids: Vec<i64> = (1..=95).collect();
        desk.put("a.parquet", people(&ids, &vec![Some("x"); 95]));
        let mut all = Vec::new();
        for _ in 0..4 {
            let mut run = desk.run().await;
            all.extend(desk.take(&mut run).await);
            run.kill().await;
        }
        let mut run: Run<_> = desk.run().await;
        all.extend(desk.snapshot(&mut run).await);
        assert_eq!(all, ids.iter().map(|id| format!("r {id}|x")).collect::<Vec<_>>(), "{mode}");
        run.shut().await;
    }
}

#[tokio::test]
async fn a_table_of_other_types_or_a_damaged_one_goes_aside() {
    let mut desk = Desk::new(stream("append"));
    desk.put("a.parquet", people(&[1], &[Some("An")]));
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["2"]));
    let good = people(&[5], &[Some("Tư")]);
    for (name, bytes, why) in [
        (
            "b.parquet",
            parquet(vec![("id", ids)], Compression::SNAPPY),
            "column: id\nwhy:    its type is Utf8, and Int64 in the files before",
        ),
        ("c.parquet", b"id;ten\n1;An\n".to_vec(), "cannot be read as Parquet"),
        ("d.parquet", [&good[..20], &[0xff; 40], &good[60..]].concat(), "why:    the file"),
    ] {
        desk.put(name, bytes);
        while !desk.folder().join("rejected").join(name).exists() {
            assert_eq!(desk.take(&mut run).await, Vec::<String>::new());
        }
        assert!(desk.aside(&format!("{name}.rejected.txt")).contains(why), "{}", desk.aside(&format!("{name}.rejected.txt")));
    }
    desk.put("e.parquet", people(&[2], &[None]));
    assert_eq!(desk.changes(&mut run, 1).await, ["c 2|∅"]);
    run.shut().await;
}
