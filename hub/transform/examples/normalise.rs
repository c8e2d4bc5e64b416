//! What a 12-field mapping costs: `cargo run -p hub-transform --example normalise` prints nanoseconds per row of each expression and of all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use hub_transform::functions::CodeLists;
use hub_transform::normalise::{Mapping, MappingSpec, PlanInput, Sql, Target, plan};

const ROWS: usize = 4096;
const ROUNDS: usize = 400;

/// Field, its type, its expression: what the target of 150 ns a row is about.
fn fields() -> Vec<(&'static str, DataType, &'static str)> {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let enumeration = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    vec![
        ("code", DataType::Utf8, "ma_ho_so"),
        ("procedure", DataType::Utf8, "thu_tuc"),
        ("applicant", DataType::Utf8, "ho_ten"),
        ("address", DataType::Utf8, "dia_chi"),
        ("agency", DataType::Utf8, "co_quan"),
        ("status", enumeration, "code('dossier-status', trang_thai)"),
        ("channel", DataType::Utf8, "code('channel', kenh)"),
        ("received_at", instant.clone(), "at_time_zone(ngay_nop, 'Asia/Ho_Chi_Minh')"),
        ("due_at", instant, "at_time_zone(ngay_hen, 'Asia/Ho_Chi_Minh')"),
        ("fee", DataType::Decimal128(16, 2), "le_phi"),
        ("pages", DataType::Int64, "so_trang"),
        ("online", DataType::Boolean, "truc_tuyen"),
    ]
}

/// Further expressions, each measured alone.
const MORE: [(&str, DataType, &str); 7] = [
    ("personal_id, clean", DataType::Utf8, "personal_id(so_cccd)"),
    ("personal_id, a tenth without its zero", DataType::Utf8, "personal_id(so_cccd_ban)"),
    ("vn_date", DataType::Date32, "vn_date(ngay_sinh)"),
    ("proper_name", DataType::Utf8, "proper_name(ho_ten_hoa)"),
    ("from_tcvn3", DataType::Utf8, "from_tcvn3(ho_ten_abc)"),
    ("nfd text", DataType::Utf8, "ho_ten_nfd"),
    ("CAST text AS DECIMAL", DataType::Decimal128(14, 2), "CAST(le_phi_chu AS DECIMAL(14,2))"),
];

fn main() {
    let rows = batch();
    let all = fields();
    let whole = mapping(&rows, &all);
    println!("{:<42} {:>9}", "expression", "ns/row");
    for field in all.iter().map(|(name, of, sql)| (*name, of.clone(), *sql)).skip(1).chain(MORE) {
        let pair = [all[0].clone(), field.clone()];
        let alone = measure(&mapping(&rows, &pair), &rows) - measure(&mapping(&rows, &pair[..1]), &rows);
        println!("{:<42} {:>9.1}", if MORE.iter().any(|more| more.0 == field.0) { field.0 } else { field.2 }, alone.max(0.0));
    }
    let text: usize = ["ma_ho_so", "thu_tuc", "ho_ten", "dia_chi", "co_quan"]
        .into_iter()
        .map(|name| rows.column_by_name(name).unwrap().to_data().buffers()[1].len())
        .sum();
    println!("{:<42} {:>9.1}   ({} bytes of text a row)", "all 12 fields", measure(&whole, &rows), text / ROWS);
}

/// Nanoseconds per row, the best of all rounds.
fn measure(mapping: &Mapping, rows: &RecordBatch) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let sorted = black_box(mapping.normalise(black_box(rows), None).unwrap());
        let nanos = begun.elapsed().as_nanos() as f64 / ROWS as f64;
        assert_eq!(sorted.kept.len(), ROWS);
        best = best.min(nanos);
    }
    best
}

fn mapping(rows: &RecordBatch, fields: &[(&str, DataType, &str)]) -> Mapping {
    let symbols = HashMap::from([("avro.enum.symbols".to_owned(), r#"["received","processing","returned"]"#.to_owned())]);
    let field = |(index, (name, of, _)): (usize, &(&str, DataType, &str))| {
        let field = Field::new(*name, of.clone(), index > 0);
        if matches!(of, DataType::Dictionary(..)) { field.with_metadata(symbols.clone()) } else { field }
    };
    let target = Target::new(Arc::new(Schema::new(fields.iter().enumerate().map(field).collect::<Vec<_>>())));
    let spec = MappingSpec {
        entity: "Dossier".to_owned(),
        filter: None,
        key: vec!["code".to_owned()],
        fields: fields.iter().map(|(name, _, sql)| ((*name).to_owned(), Sql::from(*sql))).collect(),
        codes: BTreeMap::new(),
        key_place: None,
        fields_place: None,
    };
    let mut lists = CodeLists::default();
    lists.add("dossier-status", "code,title_vi,title_en,mot-cua\nreceived,,,1\nprocessing,,,2\nreturned,,,3\n", "a.csv").unwrap();
    lists
        .add("channel", "code,title_vi,title_en,mot-cua\nin-person,,,Trực tiếp\nonline,,,Trực tuyến\npost,,,Bưu chính\n", "b.csv")
        .unwrap();
    let source = rows.schema();
    let input = PlanInput {
        spec: &spec,
        target: &target,
        source: &source,
        identity: &["ma_ho_so".to_owned()],
        code_lists: &lists,
        system: "mot-cua",
    };
    plan(&input).unwrap()
}

fn batch() -> RecordBatch {
    let names = ["Nguyễn Văn Trường", "Trần Thị Bích Ngọc", "Lê Hoàng Phương Thảo", "Phạm Minh Đức", "Đặng Thị Quỳnh"];
    let texts = |make: &dyn Fn(usize) -> String| Arc::new(StringArray::from_iter_values((0..ROWS).map(make))) as ArrayRef;
    let times = |step: i64| {
        Arc::new(TimestampMicrosecondArray::from_iter_values((0..4096).map(|row| 1_700_000_000_000_000 + row * step))) as ArrayRef
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ma_ho_so", texts(&|row| format!("000.00.15.H09-240305-{row:04}"))),
        ("thu_tuc", texts(&|row| format!("1.00{:04}.000.00.00.H09", row % 900))),
        ("ho_ten", texts(&|row| names[row % 5].to_owned())),
        ("dia_chi", texts(&|row| format!("Số {row}, đường Cách Mạng Tháng Tám, phường Phú Thọ"))),
        ("co_quan", texts(&|row| format!("H09.15.{:02}", row % 90 + 1))),
        ("trang_thai", Arc::new(Int32Array::from_iter_values((0..4096).map(|row| row % 3 + 1)))),
        ("kenh", texts(&|row| ["Trực tiếp", "Trực tuyến", "Bưu chính"][row % 3].to_owned())),
        ("ngay_nop", times(1_000_000)),
        ("ngay_hen", times(3_000_000)),
        ("le_phi", Arc::new(Decimal128Array::from_iter_values((0..4096).map(i128::from)).with_precision_and_scale(14, 2).unwrap())),
        ("so_trang", Arc::new(Int64Array::from_iter_values(0..4096))),
        ("truc_tuyen", Arc::new(BooleanArray::from_iter((0..ROWS).map(|row| Some(row % 2 == 0))))),
        ("so_cccd", texts(&|row| format!("074190{row:06}"))),
        ("so_cccd_ban", texts(&|row| format!("{}74190{row:06}", if row % 10 == 0 { "" } else { "0" }))),
        ("ngay_sinh", texts(&|row| format!("{:02}/{:02}/19{}", row % 28 + 1, row % 12 + 1, row % 90 + 10))),
        ("ho_ten_hoa", texts(&|row| names[row % 5].to_uppercase())),
        ("ho_ten_abc", texts(&|row| ["NguyÔn V¨n Tr\u{ad}êng", "Hµ Néi", "§Æng ThÞ Quúnh"][row % 3].to_owned())),
        ("ho_ten_nfd", texts(&|row| ["Nguye\u{302}\u{303}n", "Ha\u{300} No\u{302}\u{323}i"][row % 2].to_owned())),
        ("le_phi_chu", texts(&|row| format!("{row}.50"))),
    ];
    let schema: SchemaRef =
        Arc::new(Schema::new(columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}
