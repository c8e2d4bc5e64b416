//! Mappings as an engineer writes them, over batches as a connector gives them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit};

use super::{Mapping, MappingFault, MappingSpec, Place, PlanInput, Sql, Target, plan};
use crate::functions::{CodeLists, catalogue};

const STATUS: &str = "code,title_vi,title_en,mot-cua,khac\nreceived,Tiếp nhận,Received,1|01,A\nreturned,Đã trả,Returned,3,B\n";

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn local() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn source() -> SchemaRef {
    let column = |name: &str, of: DataType| Field::new(name, of, true);
    Arc::new(Schema::new(vec![
        column("ma_ho_so", DataType::Utf8),
        column("so_cccd", DataType::Utf8),
        column("trang_thai", DataType::Int32),
        column("ngay_nop", local()),
        column("ngay_sinh", DataType::Utf8),
        column("le_phi", DataType::Utf8),
        column("họ tên", DataType::Utf8),
        column("GhiChu", DataType::Utf8),
        column("da_xoa", DataType::Boolean),
        column("so_trang", DataType::Int64),
    ]))
}

fn target() -> Target {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let symbols = HashMap::from([pair("avro.enum.symbols", r#"["received","returned"]"#), pair("hub.codes", "dossier-status")]);
    let enumeration = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Target::new(Arc::new(Schema::new(vec![
        Field::new("code", DataType::Utf8, false),
        Field::new("applicant_id", DataType::Utf8, true),
        Field::new("status", enumeration, true).with_metadata(symbols),
        Field::new("received_at", instant(), true),
        Field::new("birth_date", DataType::Date32, true),
        Field::new("fee", DataType::Decimal128(14, 2), true),
        Field::new("name", DataType::Utf8, true),
        Field::new("pages", DataType::Int64, true),
    ])))
}

fn spec(fields: &[(&str, &str)]) -> MappingSpec {
    let sql = |line: usize, text: &str| Sql {
        text: text.to_owned(),
        place: Some(Place { file: "systems/mot-cua.yaml".into(), line: u32::try_from(line).unwrap() + 10, column: 13 }),
    };
    MappingSpec {
        entity: "public-admin.Dossier".to_owned(),
        filter: None,
        key: vec!["code".to_owned()],
        fields: fields.iter().enumerate().map(|(line, (name, text))| ((*name).to_owned(), sql(line, text))).collect(),
        codes: BTreeMap::new(),
        key_place: None,
        fields_place: None,
    }
}

const ALL: [(&str, &str); 8] = [
    ("code", "ma_ho_so"),
    ("applicant_id", "personal_id(so_cccd)"),
    ("status", "code('dossier-status', 'mot-cua', trang_thai)"),
    ("received_at", "at_time_zone(ngay_nop, 'Asia/Ho_Chi_Minh')"),
    ("birth_date", "vn_date(ngay_sinh)"),
    ("fee", "CAST(le_phi AS DECIMAL(14,2))"),
    ("name", "proper_name(\"họ tên\")"),
    ("pages", "so_trang"),
];

fn lists() -> CodeLists {
    let mut lists = CodeLists::default();
    lists.add("dossier-status", STATUS, "schemas/codes/dossier-status.csv").unwrap();
    lists
}

fn planned(spec: &MappingSpec) -> Result<Mapping, Vec<MappingFault>> {
    planned_with(spec, &["ma_ho_so"])
}

fn planned_with(spec: &MappingSpec, identity: &[&str]) -> Result<Mapping, Vec<MappingFault>> {
    let identity: Vec<String> = identity.iter().map(|column| (*column).to_owned()).collect();
    plan(&PlanInput { spec, target: &target(), source: &source(), identity: &identity, code_lists: &lists(), system: "mot-cua" })
}

fn faults(fields: &[(&str, &str)]) -> Vec<String> {
    planned(&spec(fields)).unwrap_err().iter().map(ToString::to_string).collect()
}

/// Three rows: a good one, one with `change` applied to its columns, another good one.
fn batch(changes: &[(&str, ArrayRef)]) -> RecordBatch {
    let day = 19_787 * 86_400_000_000;
    let texts = |text: &str| Arc::new(StringArray::from(vec![text; 3])) as ArrayRef;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ma_ho_so", Arc::new(StringArray::from(vec!["A", "B", "C"]))),
        ("so_cccd", texts("74190000001")),
        ("trang_thai", Arc::new(Int32Array::from(vec![1, 3, 1]))),
        ("ngay_nop", Arc::new(TimestampMicrosecondArray::from(vec![day; 3]))),
        ("ngay_sinh", texts("5/3/1990")),
        ("le_phi", texts("150000.5")),
        ("họ tên", texts("NGUYỄN VĂN A")),
        ("GhiChu", texts("")),
        ("da_xoa", Arc::new(BooleanArray::from(vec![Some(false), Some(true), None]))),
        ("so_trang", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ];
    let find =
        |name: &str, column: ArrayRef| changes.iter().find(|(changed, _)| *changed == name).map_or(column, |(_, new)| Arc::clone(new));
    let columns = columns.into_iter().map(|(name, column)| find(name, column)).collect();
    RecordBatch::try_new(source(), columns).unwrap()
}

fn middle(text: Option<&str>, others: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![Some(others), text, Some(others)]))
}

#[test]
fn a_whole_mapping_gives_canonical_records() {
    let mapping = planned(&spec(&ALL)).unwrap();
    let sorted = mapping.normalise(&batch(&[]), None).unwrap();
    assert_eq!(sorted.kept, [0, 1, 2]);
    assert!(sorted.rejects.is_empty(), "{:?}", sorted.rejects);
    let records = &sorted.records;
    assert_eq!(records.schema_ref(), target().schema());
    assert_eq!(records.column(1).as_string::<i32>().value(0), "074190000001");
    let status = records.column(2).as_dictionary::<Int32Type>();
    assert_eq!(status.keys().values().to_vec(), [0, 1, 0]);
    assert_eq!(cast(status.values(), &DataType::Utf8).unwrap().as_string::<i32>(), &StringArray::from(vec!["received", "returned"]));
    let received: &TimestampMicrosecondArray = records.column(3).as_primitive();
    assert_eq!(received.value(0), (19_787 * 24 - 7) * 3_600_000_000);
    assert_eq!(records.column(4).as_any().downcast_ref::<Date32Array>().unwrap().value(0), 7_368);
    assert_eq!(records.column(5).as_any().downcast_ref::<Decimal128Array>().unwrap().value(0), 15_000_050);
    assert_eq!(records.column(6).as_string::<i32>().value(0), "Nguyễn Văn A");
}

#[test]
fn plain_columns_are_not_copied() {
    let mapping = planned(&spec(&ALL)).unwrap();
    let rows = batch(&[]);
    let records = mapping.normalise(&rows, None).unwrap().records;
    assert!(Arc::ptr_eq(records.column(0), rows.column(0)));
    assert!(Arc::ptr_eq(records.column(7), rows.column(9)));
}

#[test]
fn a_bad_row_is_rejected_with_its_reason_and_the_others_go_on() {
    let mapping = planned(&spec(&ALL)).unwrap();
    for (column, bad, good, field, code) in [
        ("so_cccd", Some("280123456"), "074190000001", "applicant_id", "old-personal-id"),
        ("ngay_sinh", Some("31/02/1990"), "1/1/1990", "birth_date", "bad-date"),
        ("le_phi", Some("12x"), "1", "fee", "cast-failed"),
        ("le_phi", Some("1234567890123"), "1", "fee", "out-of-range"),
        ("ma_ho_so", None, "A", "code", "required-missing"),
    ] {
        let sorted = mapping.normalise(&batch(&[(column, middle(bad, good))]), None).unwrap();
        assert_eq!(sorted.kept, [0, 2], "{column}");
        assert_eq!(sorted.records.num_rows(), 2);
        assert_eq!(sorted.rejects.len(), 1, "{:?}", sorted.rejects);
        let reject = &sorted.rejects[0];
        assert_eq!((reject.row, &*reject.field, reject.code), (1, field, code));
        assert!(bad.is_none_or(|bad| !reject.message.contains(bad)), "the message holds the value: {}", reject.message);
    }
    let unknown = mapping.normalise(&batch(&[("trang_thai", Arc::new(Int32Array::from(vec![1, 9, 3])))]), None).unwrap();
    assert_eq!((unknown.rejects[0].row, unknown.rejects[0].code), (1, "unknown-code"));
    assert!(unknown.rejects[0].message.contains("schemas/codes/dossier-status.csv"));
}

#[test]
fn a_row_with_two_faults_is_rejected_once_and_names_both() {
    let mapping = planned(&spec(&ALL)).unwrap();
    let rows = batch(&[("so_cccd", middle(Some("1"), "074190000001")), ("ngay_sinh", middle(Some("x"), "1/1/1990"))]);
    let rejects = mapping.normalise(&rows, None).unwrap().rejects;
    assert_eq!(rejects.len(), 1);
    assert_eq!((&*rejects[0].field, rejects[0].code), ("applicant_id", "bad-personal-id"));
    assert!(rejects[0].message.ends_with("; also birth_date (bad-date)"), "{}", rejects[0].message);
}

#[test]
fn faults_within_case_and_coalesce_are_found_at_their_own_rows() {
    let rows = 1000;
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]));
    let target = Target::new(Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, false), Field::new("d", DataType::Date32, true)])));
    let text = |row: i64| match row {
        123 | 777 => "31/02/2024".to_owned(),
        row if row % 3 == 0 => "none".to_owned(),
        _ => "1/1/2024".to_owned(),
    };
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![Arc::new(StringArray::from_iter_values((0..rows).map(text))), Arc::new(Int64Array::from_iter_values(0..rows))],
    )
    .unwrap();
    for expression in [
        "CASE WHEN k = 'none' THEN NULL ELSE vn_date(k) END",
        "CASE WHEN n = 5 THEN vn_date('1/1/2000') WHEN k <> 'none' THEN vn_date(k) END",
        "coalesce(vn_date(nullif(k, 'none')), vn_date('1/1/2000'))",
        "CASE WHEN k <> 'none' THEN CAST(replace(replace(replace(k, '31/02/2024', 'x'), '1/1/', ''), '2024', '2024-01-01') AS DATE) END",
    ] {
        let mut spec = spec(&[("k", "k"), ("d", expression)]);
        spec.key = vec!["k".to_owned()];
        let input = PlanInput {
            spec: &spec,
            target: &target,
            source: &schema,
            identity: &["k".to_owned()],
            code_lists: &lists(),
            system: "mot-cua",
        };
        let sorted = plan(&input).unwrap().normalise(&batch, None).unwrap();
        let rejected: Vec<(u32, &str)> = sorted.rejects.iter().map(|reject| (reject.row, &*reject.field)).collect();
        assert_eq!(rejected, [(123, "d"), (777, "d")], "{expression}");
        assert_eq!(sorted.kept.len(), 998);
        let nulls = if expression.starts_with("coalesce") { 0 } else { 332 };
        assert_eq!(sorted.records.column(1).null_count(), nulls, "{expression}");
        assert!(sorted.records.column(1).is_valid(1));
    }
}

#[test]
fn the_try_form_of_a_function_gives_null_and_no_reject() {
    let mapping = planned(&spec(&[
        ("code", "ma_ho_so"),
        ("birth_date", "try_vn_date(ngay_sinh)"),
        ("status", "try_code('dossier-status', trang_thai)"),
    ]))
    .unwrap();
    let rows = batch(&[("ngay_sinh", middle(Some("x"), "1/1/1990")), ("trang_thai", Arc::new(Int32Array::from(vec![9, 1, 1])))]);
    let sorted = mapping.normalise(&rows, None).unwrap();
    assert!(sorted.rejects.is_empty());
    assert!(sorted.records.column_by_name("birth_date").unwrap().is_null(1));
    assert!(sorted.records.column_by_name("status").unwrap().is_null(0));
}

#[test]
fn text_that_is_no_symbol_of_its_enum_is_rejected() {
    let mapping = planned(&spec(&[("code", "ma_ho_so"), ("status", "\"GhiChu\"")])).unwrap();
    let sorted = mapping.normalise(&batch(&[("GhiChu", middle(Some("đang xử lý"), "returned"))]), None).unwrap();
    assert_eq!((sorted.rejects[0].row, sorted.rejects[0].code), (1, "unknown-symbol"));
    assert_eq!(sorted.records.column(2).as_dictionary::<Int32Type>().keys().values().to_vec(), [1, 1]);
}

#[test]
fn every_text_is_composed() {
    let mapping = planned(&spec(&[("code", "ma_ho_so"), ("name", "\"họ tên\"")])).unwrap();
    let sorted = mapping.normalise(&batch(&[("họ tên", middle(Some("Ha\u{300} No\u{302}\u{323}i"), "Huế"))]), None).unwrap();
    assert_eq!(sorted.records.column_by_name("name").unwrap().as_string::<i32>(), &StringArray::from(vec!["Huế", "Hà Nội", "Huế"]));
}

#[test]
fn the_filter_selects_and_null_is_not_wanted() {
    let mut filtered = spec(&ALL);
    filtered.filter = Some(Sql::from("NOT da_xoa"));
    let mapping = planned(&filtered).unwrap();
    let rows = batch(&[]);
    let selection = mapping.selects(&rows).unwrap();
    assert_eq!(selection.wanted, BooleanArray::from(vec![true, false, false]));
    let wanted = BooleanArray::from(vec![false, true, true]);
    let sorted = mapping.normalise(&rows, Some(&wanted)).unwrap();
    assert_eq!((sorted.kept.as_slice(), sorted.filtered), ([1, 2].as_slice(), 1));
    assert_eq!(sorted.records.column(0).as_string::<i32>(), &StringArray::from(vec!["B", "C"]));
    let bad = batch(&[("ngay_sinh", middle(Some("x"), "1/1/1990"))]);
    let sorted = mapping.normalise(&bad, Some(&wanted)).unwrap();
    assert_eq!((sorted.kept.as_slice(), sorted.rejects[0].row), ([2].as_slice(), 1));
    assert!(!mapping.filters_by_identity());
    filtered.filter = Some(Sql::from("CAST(le_phi AS INT) > 0 AND ma_ho_so <> 'C'"));
    let selection = planned(&filtered).unwrap().selects(&batch(&[("le_phi", middle(Some("x"), "1"))])).unwrap();
    assert_eq!(selection.wanted, BooleanArray::from(vec![true, false, false]));
    assert_eq!((selection.rejects[0].row, &*selection.rejects[0].field, selection.rejects[0].code), (1, "where", "cast-failed"));
}

#[test]
fn keys_are_made_of_the_identity_alone() {
    let mut two = spec(&ALL);
    two.key = vec!["pages".to_owned(), "code".to_owned()];
    let mapping = planned_with(&two, &["ma_ho_so", "so_trang"]).unwrap();
    let absent = |name: &str| (source().field_with_name(name).unwrap().data_type().clone(), name.to_owned());
    let nulls: Vec<(String, ArrayRef)> = ["so_cccd", "ngay_sinh", "trang_thai"]
        .into_iter()
        .map(|name| {
            let (of, name) = absent(name);
            (name, arrow::array::new_null_array(&of, 3))
        })
        .collect();
    let changes: Vec<(&str, ArrayRef)> = nulls.iter().map(|(name, column)| (name.as_str(), Arc::clone(column))).collect();
    let mut changes = changes;
    changes.push(("so_trang", Arc::new(Int64Array::from(vec![Some(7), None, Some(9)]))));
    let sorted = mapping.keys(&batch(&changes), None).unwrap();
    assert_eq!(sorted.records.schema_ref().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["pages", "code"]);
    assert_eq!(sorted.records.column(0).as_primitive::<Int64Type>().values().to_vec(), [7, 9]);
    assert_eq!((sorted.rejects[0].row, &*sorted.rejects[0].field, sorted.rejects[0].code), (1, "pages", "required-missing"));
}

#[test]
fn a_key_that_deletes_cannot_give_is_a_fault_with_advice() {
    let faults = planned_with(&spec(&[("code", "concat(ma_ho_so, so_cccd)")]), &["ma_ho_so"]).unwrap_err();
    let text = faults[0].to_string();
    assert!(text.contains("reads so_cccd") && text.contains("REPLICA IDENTITY FULL"), "{text}");
    assert!(planned_with(&spec(&[("code", "concat(ma_ho_so, so_cccd)")]), &["ma_ho_so", "so_cccd"]).is_ok());
}

#[test]
fn a_type_that_does_not_fit_says_what_to_write() {
    assert_eq!(
        faults(&[
            ("code", "ma_ho_so"),
            ("fee", "le_phi"),
            ("received_at", "ngay_nop"),
            ("birth_date", "ngay_sinh"),
            ("pages", "le_phi"),
            ("status", "trang_thai")
        ]),
        [
            "systems/mot-cua.yaml:11:13: field fee: wants decimal(14,2) but the expression gives text; write CAST(le_phi AS DECIMAL(14,2))",
            "systems/mot-cua.yaml:12:13: field received_at: wants timestamp with time zone but the expression gives timestamp; write at_time_zone(ngay_nop, 'Asia/Ho_Chi_Minh')",
            "systems/mot-cua.yaml:13:13: field birth_date: wants date but the expression gives text; write vn_date(ngay_sinh)",
            "systems/mot-cua.yaml:14:13: field pages: wants bigint but the expression gives text; write CAST(le_phi AS BIGINT)",
            "systems/mot-cua.yaml:15:13: field status: wants one of received, returned but the expression gives int; write code('dossier-status', trang_thai), or a CASE that gives its symbols",
        ]
    );
}

#[test]
fn all_misspelt_names_are_told_at_once_with_their_columns() {
    assert_eq!(
        faults(&[
            ("code", "ma_hoso"),
            ("feee", "le_phi"),
            ("applicant_id", "concat(persnal_id(so_cccd), so_cccdd)"),
            ("status", "code('dosier-status', trang_thai)"),
            ("received_at", "at_time_zone(ngay_nop, 'Asia/Hanoi')"),
            ("birth_date", "now()"),
            ("name", "max(ho_so.ghi_chu"),
            ("pages", "(SELECT 1)"),
        ]),
        [
            "systems/mot-cua.yaml:10:13: field code: the source has no column ma_hoso; did you mean ma_ho_so?",
            "systems/mot-cua.yaml:11:13: field feee: public-admin.Dossier has no such field; did you mean fee?",
            "systems/mot-cua.yaml:12:20: field applicant_id: there is no function persnal_id; did you mean personal_id?",
            "systems/mot-cua.yaml:12:41: field applicant_id: the source has no column so_cccdd; did you mean so_cccd?",
            "systems/mot-cua.yaml:13:13: field status: there is no code list dosier-status; did you mean dossier-status?",
            "systems/mot-cua.yaml:14:13: field received_at: there is no time zone Asia/Hanoi; write at_time_zone(<column>, 'Asia/Ho_Chi_Minh')",
            "systems/mot-cua.yaml:15:13: field birth_date: now gives another result each time, so a replay would differ; use a column of the source; every event carries the time of its change already",
            "systems/mot-cua.yaml:16:13: field name: this is not an SQL expression: Expected: ), found: EOF",
            "systems/mot-cua.yaml:17:13: field pages: a mapping sees one row of one stream, so it cannot hold a query",
        ]
    );
}

#[test]
fn required_fields_without_expression_or_default_are_told() {
    let told = faults(&[("name", "ma_ho_so")]);
    assert_eq!(
        told,
        [
            "key field code is not mapped; add an expression for it",
            "field code: it is required (text) and not mapped; map it, or give it a default in its schema",
        ]
    );
    assert_eq!(
        faults(&[("code", "NULL")]),
        [
            "systems/mot-cua.yaml:10:13: field code: it is required but the expression is always null; give a value, or make the field nullable in its schema"
        ]
    );
}

#[test]
fn wrong_arguments_and_constants_are_told_when_the_mapping_is_planned() {
    let told = faults(&[
        ("code", "personal_id(ma_ho_so, so_cccd)"),
        ("birth_date", "vn_date('31/02/2024')"),
        ("received_at", "at_time_zone(ngay_sinh, 'Asia/Ho_Chi_Minh')"),
        ("applicant_id", "personal_id(da_xoa)"),
        ("pages", "CAST('x' AS BIGINT)"),
        ("status", "code('dossier-status', 'mot-cau', trang_thai)"),
    ]);
    for (part, text) in [
        ("personal_id is given 2 arguments; it is personal_id(text [, birth_date, gender text]) -> text", &told),
        ("a constant in it is refused (bad-date)", &told),
        ("at_time_zone(vn_timestamp(…), 'Asia/Ho_Chi_Minh')", &told),
        ("wants text and is given Boolean", &told),
        ("field pages", &told),
        ("code list dossier-status has no column mot-cau; did you mean mot-cua?", &told),
    ] {
        assert!(text.iter().any(|line| line.contains(part)), "{part} is not told in {text:#?}");
    }
    assert_eq!(told.len(), 6, "{told:#?}");
}

#[test]
fn columns_are_found_in_the_sources_own_spelling() {
    let mapping = planned(&spec(&[("code", "MA_HO_SO"), ("name", "concat(ghichu, \"ho\u{323} te\u{302}n\")"), ("pages", "1")])).unwrap();
    assert_eq!(mapping.columns().collect::<Vec<_>>(), ["ma_ho_so", "họ tên", "GhiChu"]);
    let records = mapping.normalise(&batch(&[]), None).unwrap().records;
    assert_eq!(records.column_by_name("pages").unwrap().as_primitive::<Int64Type>().value(2), 1);
}

/// What an expression of one row gives, as text, or its reject's reason code.
fn value_of(expression: &str, of: DataType) -> String {
    let target = Target::new(Arc::new(Schema::new(vec![Field::new("code", DataType::Utf8, false), Field::new("f", of, true)])));
    let spec = spec(&[("code", "ma_ho_so"), ("f", expression)]);
    let identity = ["ma_ho_so".to_owned()];
    let input = PlanInput { spec: &spec, target: &target, source: &source(), identity: &identity, code_lists: &lists(), system: "mot-cua" };
    let mapping = plan(&input).unwrap_or_else(|faults| panic!("{expression}: {}", faults[0]));
    let sorted = mapping.normalise(&batch(&[]).slice(1, 1), None).unwrap();
    match sorted.rejects.first() {
        Some(reject) => reject.code.to_owned(),
        None => arrow::util::display::array_value_to_string(sorted.records.column(1), 0).unwrap(),
    }
}

#[test]
fn sql_means_what_postgresql_means_by_it() {
    for (expression, value) in [
        ("ma_ho_so || '-' || so_trang", "B-2"),
        ("CASE trang_thai WHEN 3 THEN 'xong' ELSE 'chưa' END", "xong"),
        ("CASE WHEN ngay_sinh LIKE '5/%' AND so_trang BETWEEN 1 AND 3 THEN 'yes' END", "yes"),
        ("CASE WHEN trang_thai IN (1, 2) THEN 'a' WHEN ma_ho_so ILIKE 'b%' THEN 'b' END", "b"),
        ("CASE WHEN ma_ho_so ~ '^[A-C]$' THEN 'match' END", "match"),
        ("CASE WHEN \"GhiChu\" IS DISTINCT FROM NULL THEN 'set' END", "set"),
        ("substring(le_phi FROM 1 FOR 3)", "150"),
        ("left(le_phi, 2) || right(le_phi, 1)", "155"),
        ("trim(BOTH ' ' FROM '  x ')", "x"),
        ("lpad(trang_thai::text, 3, '0')", "003"),
        ("split_part(ngay_sinh, '/', 3)", "1990"),
        ("regexp_replace(le_phi, '[^0-9]', '', 'g')", "1500005"),
        ("upper(lower(\"họ tên\"))", "NGUYỄN VĂN A"),
        ("CAST(position('/' IN ngay_sinh) AS TEXT)", "2"),
        ("to_char(vn_date(ngay_sinh), '%Y')", "1990"),
        ("nullif(\"GhiChu\", '')", ""),
        ("coalesce(blank_to_null(\"GhiChu\"), 'không')", "không"),
        ("concat_ws(' ', ma_ho_so, NULL, le_phi)", "B 150000.5"),
        ("trang_thai", "3"),
    ] {
        let expression = if expression == "trang_thai" { "CAST(trang_thai AS TEXT)" } else { expression };
        assert_eq!(value_of(expression, DataType::Utf8), value, "{expression}");
    }
    for (expression, of, value) in [
        ("EXTRACT(YEAR FROM ngay_nop)", DataType::Int32, "2024"),
        ("so_trang * 2 + 1", DataType::Int64, "5"),
        ("le_phi::numeric(14,2) * 0.1", DataType::Decimal128(38, 4), "15000.0500"),
        ("DATE '2024-03-05'", DataType::Date32, "2024-03-05"),
        ("CAST(ngay_nop AS DATE)", DataType::Date32, "2024-03-05"),
        ("date_trunc('month', ngay_nop)", local(), "2024-03-01T00:00:00"),
        ("ngay_nop + INTERVAL '1 day'", local(), "2024-03-06T00:00:00"),
        ("ngay_nop AT TIME ZONE 'Asia/Ho_Chi_Minh'", instant(), "2024-03-04T17:00:00Z"),
        ("at_time_zone(vn_date(ngay_sinh), '+07:00')", instant(), "1990-03-04T17:00:00Z"),
        ("TIMESTAMP '2024-03-05 08:30:00'", local(), "2024-03-05T08:30:00"),
        ("trang_thai = 3", DataType::Boolean, "true"),
        ("da_xoa AND trang_thai IS NOT NULL", DataType::Boolean, "true"),
        ("7", DataType::Int32, "7"),
        ("0.5", DataType::Float64, "0.5"),
        ("NULL", DataType::Date32, ""),
    ] {
        assert_eq!(value_of(expression, of), value, "{expression}");
    }
}

#[test]
fn a_failed_conversion_has_one_reason_code_whatever_its_types() {
    for (expression, of, code) in [
        ("CAST(ma_ho_so AS INT)", DataType::Int32, "cast-failed"),
        ("CAST(ma_ho_so AS DATE)", DataType::Date32, "cast-failed"),
        ("CAST(ma_ho_so AS TIMESTAMP)", local(), "cast-failed"),
        ("CAST(ma_ho_so AS DOUBLE PRECISION)", DataType::Float64, "cast-failed"),
        ("CAST(ma_ho_so AS BOOLEAN)", DataType::Boolean, "cast-failed"),
        ("CAST(ma_ho_so AS DECIMAL(5,2))", DataType::Decimal128(5, 2), "cast-failed"),
        ("CAST(le_phi AS DECIMAL(5,2))", DataType::Decimal128(5, 2), "out-of-range"),
        ("CAST(CAST(le_phi AS DECIMAL(20,2)) AS DECIMAL(5,2))", DataType::Decimal128(5, 2), "out-of-range"),
        ("CAST(so_trang * 3000000000 AS INT)", DataType::Int32, "out-of-range"),
        ("CAST(CAST(le_phi AS DOUBLE PRECISION) * 1e9 AS INT)", DataType::Int32, "out-of-range"),
        ("CAST(so_trang * 10000 AS DECIMAL(5,2))", DataType::Decimal128(5, 2), "out-of-range"),
        ("so_trang / (trang_thai - 3)", DataType::Int64, "divide-by-zero"),
        ("so_trang * 9223372036854775807", DataType::Int64, "out-of-range"),
    ] {
        assert_eq!(value_of(expression, of), code, "{expression}");
    }
    assert_eq!(value_of("TRY_CAST(ma_ho_so AS INT)", DataType::Int32), "");
}

#[test]
fn a_mapping_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&planned(&spec(&ALL)).unwrap());
}

#[test]
fn an_empty_batch_and_a_batch_of_rejects_give_no_records() {
    let mapping = planned(&spec(&ALL)).unwrap();
    let none = mapping.normalise(&batch(&[]).slice(0, 0), None).unwrap();
    assert_eq!((none.kept.len(), none.records.num_rows(), none.rejects.len()), (0, 0, 0));
    let unwanted = mapping.normalise(&batch(&[]), Some(&BooleanArray::from(vec![false; 3]))).unwrap();
    assert_eq!((unwanted.records.num_rows(), unwanted.filtered), (0, 3));
    let bad = mapping.normalise(&batch(&[("le_phi", Arc::new(StringArray::from(vec!["x"; 3])))]), None).unwrap();
    assert_eq!((bad.records.num_rows(), bad.rejects.len()), (0, 3));
}

#[test]
fn a_batch_gives_what_its_rows_give_alone() {
    let mut fields = ALL.to_vec();
    fields[4].1 = "CASE WHEN trang_thai = 1 THEN vn_date(ngay_sinh) WHEN so_trang > 40 THEN vn_date(le_phi) END";
    fields[7].1 = "CASE WHEN da_xoa THEN CAST(le_phi AS BIGINT) ELSE so_trang / (so_trang - 7) END";
    let mapping = planned(&spec(&fields)).unwrap();
    let rows = 500_usize;
    // A fixed sequence (Knuth's generator), so that a failure comes back.
    let mut state = 7_u64;
    let mut pick = |choices: &[&'static str]| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        choices[usize::try_from(state >> 40).unwrap() % choices.len()]
    };
    let mut texts = |choices: &[&'static str]| -> ArrayRef {
        Arc::new((0..rows).map(|_| Some(pick(choices)).filter(|text| *text != "null")).collect::<StringArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        texts(&["A", "B", "C", "D", "null"]),
        texts(&["74190000001", "074190000001", "280123456", "null"]),
        cast(&texts(&["1", "1", "3", "9", "null"]), &DataType::Int32).unwrap(),
        cast(&texts(&["2024-03-05T00:00:00", "1969-01-01T00:00:00", "null"]), &local()).unwrap(),
        texts(&["5/3/1990", "31/02/1990", "null"]),
        texts(&["150000", "12x", "1.5", "20240305", "null"]),
        texts(&["NGUYỄN VĂN A", "Ha\u{300}", "null"]),
        texts(&[""]),
        cast(&texts(&["true", "false", "null"]), &DataType::Boolean).unwrap(),
        cast(&texts(&["1", "7", "30", "50", "null"]), &DataType::Int64).unwrap(),
    ];
    let batch = RecordBatch::try_new(source(), columns).unwrap();
    let together = mapping.normalise(&batch, None).unwrap();
    let (mut kept, mut rejects, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows {
        let number = u32::try_from(row).unwrap();
        let alone = mapping.normalise(&batch.slice(row, 1), None).unwrap();
        kept.extend(alone.kept.iter().map(|_| number));
        rejects.extend(alone.rejects.into_iter().map(|reject| super::Reject { row: number, ..reject }));
        records.push(alone.records);
    }
    assert!(kept.len() > 10 && rejects.len() > 200, "{} kept, {} rejected", kept.len(), rejects.len());
    assert_eq!(together.kept, kept);
    assert_eq!(together.rejects, rejects);
    assert_eq!(together.records, arrow::compute::concat_batches(target().schema(), &records).unwrap());
}

#[test]
fn the_version_changes_with_the_mapping_and_the_codes_it_uses_alone() {
    let version = |spec: &MappingSpec| planned(spec).unwrap().version().to_string();
    let first = version(&spec(&ALL));
    assert_eq!(first.len(), 16);
    let mut moved = spec(&ALL);
    moved.fields.iter_mut().for_each(|(_, sql)| sql.place = None);
    assert_eq!(version(&moved), first);
    let mut changed = spec(&ALL);
    changed.fields[7].1.text = "so_trang + 1".to_owned();
    assert_ne!(version(&changed), first);
    let mut recoded = spec(&ALL);
    recoded.codes.insert("dossier-status".to_owned(), "khac".to_owned());
    assert_ne!(version(&recoded), first);
}

#[test]
fn a_changed_source_is_told_and_not_guessed() {
    let mapping = planned(&spec(&ALL)).unwrap();
    let other = batch(&[]).project(&[1, 0, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
    let told = mapping.normalise(&other, None).unwrap_err().to_string();
    assert!(told.contains("column ma_ho_so Utf8 is now so_cccd Utf8"), "{told}");
}

#[test]
fn lists_of_text_are_composed_and_keep_their_nulls() {
    let item = |nullable| DataType::List(Arc::new(Field::new("element", DataType::Utf8, nullable)));
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("tags", item(true), true)]));
    let wanted = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let target = Target::new(Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, false), Field::new("tags", wanted, true)])));
    let values = StringArray::from(vec![Some("Ha\u{300}"), None, Some("b")]);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1]);
    let list = ListArray::new(Arc::new(Field::new("element", DataType::Utf8, true)), offsets, Arc::new(values), None);
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(list)]).unwrap();
    let mut spec = spec(&[("k", "k"), ("tags", "tags")]);
    spec.key = vec!["k".to_owned()];
    let input =
        PlanInput { spec: &spec, target: &target, source: &schema, identity: &["k".to_owned()], code_lists: &lists(), system: "mot-cua" };
    let records = plan(&input).unwrap().normalise(&batch, None).unwrap().records;
    let tags = records.column(1).as_list::<i32>();
    assert_eq!(tags.value(0).as_string::<i32>(), &StringArray::from(vec![Some("Hà"), None]));
    assert_eq!(tags.len(), 2);
}

#[test]
fn the_example_of_every_function_holds() {
    let mut lists = CodeLists::default();
    lists.add("dossier-status", STATUS, "dossier-status.csv").unwrap();
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(vec!["k"]))]).unwrap();
    for doc in catalogue() {
        let (expression, result) = doc.example;
        let of = match doc.signature.rsplit_once("-> ").unwrap().1 {
            "date" => DataType::Date32,
            "timestamp" => local(),
            "timestamp with time zone" => instant(),
            _ => DataType::Utf8,
        };
        let target = Target::new(Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, false), Field::new("f", of, true)])));
        let mut spec = spec(&[("k", "k"), ("f", expression)]);
        spec.key = vec!["k".to_owned()];
        let input =
            PlanInput { spec: &spec, target: &target, source: &schema, identity: &["k".to_owned()], code_lists: &lists, system: "mot-cua" };
        let mapping = plan(&input).unwrap_or_else(|faults| panic!("{expression}: {faults:?}"));
        let records = mapping.normalise(&batch, None).unwrap().records;
        let shown = arrow::util::display::array_value_to_string(records.column(1), 0).unwrap();
        assert_eq!(shown, result, "{expression}");
        assert!(doc.signature.starts_with(doc.name));
    }
}
