//! Every type: the binary and the text decoder give identical columns, and what they give is what the server means.

use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::array_value_to_string;
use bytes::BytesMut;
use futures::TryStreamExt;
use hub_connector_postgres::config::UNDECLARED_ENCODING;
use hub_connector_postgres::decode::{Cell, TableDecoder, UNDECODABLE, Wire};
use hub_connector_postgres::types::{Catalogue, ColumnType, Kind, all_binary, load_columns};
use hub_sdk::model::RowFault;
use tokio_postgres::{Client, CopyOutStream, SimpleQueryMessage};

use crate::source::{Source, port, port18};

/// One column for each type, with the values that are hard to keep.
const COLUMNS: &[(&str, &str, &[&str])] = &[
    ("bool", "boolean", &["true", "false"]),
    ("int2", "smallint", &["-32768", "32767", "0"]),
    ("int4", "integer", &["-2147483648", "2147483647"]),
    ("int8", "bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("oid", "oid", &["4294967295", "0"]),
    ("float4", "real", &["NaN", "Infinity", "-Infinity", "3.4028235e38", "1e-45", "-0", "0.1"]),
    (
        "float8",
        "double precision",
        &["NaN", "Infinity", "-Infinity", "1.7976931348623157e308", "5e-324", "-0", "0.1", "123456789.123456789"],
    ),
    ("numeric_14_2", "numeric(14,2)", &["999999999999.99", "-999999999999.99", "0.01", "-0.10", "10000.00", "100000000", "0"]),
    ("numeric_38", "numeric(38)", &["99999999999999999999999999999999999999", "-99999999999999999999999999999999999999", "1"]),
    ("numeric_38_1", "numeric(38,1)", &["9999999999999999999999999999999999999.9", "-0.1"]),
    ("numeric_38_38", "numeric(38,38)", &["0.99999999999999999999999999999999999999", "-0.00000000000000000000000000000000000001"]),
    ("numeric_9_5", "numeric(9,5)", &["1234.56789", "0.00001", "-1000"]),
    ("numeric_50_10", "numeric(50,10)", &["1234567890123456789012345678901234567890.0123456789", "0.0000000001"]),
    (
        "numeric_free",
        "numeric",
        &["NaN", "Infinity", "-Infinity", "1e130", "1e-130", "123.4500", "-0.000", "10000", "-99990000.0001", "0.0000000100"],
    ),
    ("money", "money", &["-92233720368547758.08", "92233720368547758.07", "0"]),
    ("text", "text", &["", "Nguyễn Thị Ánh", "tab\tnew\nline \\ 'q' \"d\"", "NULL"]),
    ("varchar", "varchar(20)", &["Thủ Dầu Một", ""]),
    ("bpchar", "char(6)", &["ab", "abcdef"]),
    ("name", "name", &["tên"]),
    ("single", "\"char\"", &["x", ""]),
    ("citext", "public.citext", &["Tân Uyên"]),
    ("enum", "public.trang_thai", &["mới", "đã 'xong'"]),
    ("bytea", "bytea", &["\\x", "\\x00ff5c27", "\\xdeadbeef"]),
    ("uuid", "uuid", &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "00000000-0000-0000-0000-000000000000"]),
    ("json", "json", &["{\"a\" : [1,  null], \"b\":\"ế\"}", "null"]),
    ("jsonb", "jsonb", &["{\"b\":1, \"a\":[1.50,  null,\"ế\"]}", "null", "12345678901234567890.10"]),
    ("xml", "xml", &["<a b='1'>ế</a>", "<?xml version=\"1.0\" standalone=\"yes\"?><a/>"]),
    (
        "date",
        "date",
        &["4713-01-01 BC", "0001-12-31 BC", "0001-01-01", "1969-12-31", "2000-02-29", "5874897-12-31", "infinity", "-infinity"],
    ),
    ("time", "time", &["00:00:00", "23:59:59.999999", "24:00:00", "12:00:00.5"]),
    ("time_0", "time(0)", &["07:30:00"]),
    ("timetz", "timetz", &["00:00:00+14", "24:00:00-15:59", "12:30:15.123456+07"]),
    (
        "timestamp",
        "timestamp",
        &[
            "4713-01-01 00:00:00 BC",
            "0001-12-31 23:59:59.999999 BC",
            "1969-12-31 23:59:59.999999",
            "2025-07-01 08:00:00.1",
            "294246-12-31 23:59:59.999999",
            "294247-01-10 04:00:54.775806",
            "infinity",
            "-infinity",
        ],
    ),
    (
        "timestamptz",
        "timestamptz",
        &[
            "4713-01-02 00:00:00+07 BC",
            "1969-12-31 23:59:59.999999+00",
            "2025-07-01 08:00:00+07",
            "294246-12-31 23:59:59+00",
            "infinity",
            "-infinity",
        ],
    ),
    ("interval", "interval", &["1 year -2 days 03:04:05.678901", "-178000000 years", "0"]),
    ("bit", "bit(5)", &["10101"]),
    ("varbit", "bit varying", &["", "1010111"]),
    ("inet", "inet", &["10.0.0.1", "10.0.0.0/8", "2001:db8::1", "2001:db8::/32"]),
    ("cidr", "cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", "macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", "macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("int4range", "int4range", &["[1,10)", "empty", "(,5]"]),
    ("numrange", "numrange", &["[1.10,2.20]"]),
    ("tstzrange", "tstzrange", &["[2025-01-01 00:00+07,infinity)"]),
    ("daterange", "daterange", &["[2025-01-01,2025-12-31]"]),
    ("datemultirange", "datemultirange", &["{[2025-01-01,2025-02-01), [2025-03-01,2025-04-01)}", "{}"]),
    ("hstore", "public.hstore", &["a=>1, \"b c\"=>NULL"]),
    ("ltree", "public.ltree", &["H09.15.01"]),
    ("tsvector", "tsvector", &["a:1 fat:2A cat:3"]),
    ("tsquery", "tsquery", &["fat & !(rat | cat)"]),
    ("point", "point", &["(1.5,-2)"]),
    ("line", "line", &["{1,2,3}"]),
    ("lseg", "lseg", &["[(0,0),(1,1)]"]),
    ("box", "box", &["(1,1),(0,0)"]),
    ("path", "path", &["[(0,0),(1,1)]", "((0,0),(1,1))"]),
    ("polygon", "polygon", &["((0,0),(1,1),(1,0))"]),
    ("circle", "circle", &["<(1,2),3>"]),
    ("pg_lsn", "pg_lsn", &["16/B374D848"]),
    ("int_array", "integer[]", &["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}"]),
    ("text_array", "text[]", &["{\"a,b\",NULL,\"NULL\",\"q\\\"\"}"]),
    ("inet_array", "inet[]", &["{10.0.0.1,10.0.0.0/8}"]),
    ("enum_array", "public.trang_thai[]", &["{mới,NULL}"]),
    ("composite", "public.dia_chi", &["(\"Số 1, Đường\",,2025-01-01)", "(,,)"]),
    ("composite_array", "public.dia_chi[]", &["{\"(a,1,)\",NULL}"]),
    ("d_int", "public.d_int", &["42"]),
    ("d_numeric", "public.d_numeric", &["12.50", "-9999999.99"]),
    ("d_d_numeric", "public.d_d_numeric", &["0.01"]),
    ("d_text", "public.d_text", &["định danh"]),
    ("d_timestamptz", "public.d_timestamptz", &["2025-07-01 08:00:00+07"]),
    ("d_array", "public.d_array", &["{1,2}"]),
    ("d_enum", "public.d_enum", &["mới"]),
    ("d_inet", "public.d_inet", &["10.0.0.1"]),
    ("Tên \"lạ\"", "integer", &["1"]),
];

const SETUP: &str = "
    CREATE TYPE public.trang_thai AS ENUM ('mới', 'đã ''xong''');
    CREATE TYPE public.dia_chi AS (duong text, so integer, ngay date);
    CREATE DOMAIN public.d_int AS integer CHECK (VALUE > 0);
    CREATE DOMAIN public.d_numeric AS numeric(9,2);
    CREATE DOMAIN public.d_d_numeric AS public.d_numeric;
    CREATE DOMAIN public.d_text AS text;
    CREATE DOMAIN public.d_timestamptz AS timestamptz;
    CREATE DOMAIN public.d_array AS integer[];
    CREATE DOMAIN public.d_enum AS public.trang_thai;
    CREATE DOMAIN public.d_inet AS inet;";

/// Contrib is absent from the npm builds of 18.
const EXTENSIONS: [&str; 3] = ["citext", "hstore", "ltree"];

#[tokio::test]
async fn binary_and_text_give_identical_columns_for_every_type_on_15() {
    every_type_is_the_same_in_both_forms(port()).await;
}

#[tokio::test]
async fn binary_and_text_give_identical_columns_for_every_type_on_18() {
    match port18() {
        Some(port) => every_type_is_the_same_in_both_forms(port).await,
        None => eprintln!("skipped: no PostgreSQL 18 is up (make up)"),
    }
}

async fn every_type_is_the_same_in_both_forms(port: u16) {
    let source = Source::create(port, SETUP).await;
    let present = fill(&source).await;
    let client = source.connection().await;
    let table = columns(&client).await;
    assert_eq!(table.len(), present + 1);
    assert!(!all_binary(&table));

    let binary = read_binary(&client, &table).await;
    let text = read_text(&client, &table).await;
    assert_eq!(binary.num_rows(), text.num_rows());
    for (column, field) in table.iter().zip(binary.schema().fields()) {
        let (from_binary, from_text) = (binary.column_by_name(field.name()).unwrap(), text.column_by_name(field.name()).unwrap());
        assert_eq!(format!("{from_binary:?}"), format!("{from_text:?}"), "{} {}", column.name, column.sql_type);
        // Debug shows no difference between 0.0 and -0.0 and shortens long arrays; data compares bits.
        assert_eq!(from_binary.to_data(), from_text.to_data(), "{} {}", column.name, column.sql_type);
    }
    numbers_are_the_servers(&client, &table, &text).await;
    means_what_the_server_means(&text);
    source.remove().await;
}

/// One row per value index; shorter columns are null in the rest. Gives the number of typed columns.
async fn fill(source: &Source) -> usize {
    let mut absent = Vec::new();
    for extension in EXTENSIONS {
        let there = source.admin.query_opt("SELECT 1 FROM pg_available_extensions WHERE name = $1", &[&extension]).await.unwrap();
        match there {
            Some(_) => source.run(&format!("CREATE EXTENSION {extension} SCHEMA public")).await,
            None => absent.push(format!("public.{extension}")),
        }
    }
    let usable: Vec<_> = COLUMNS.iter().filter(|(_, sql_type, _)| !absent.iter().any(|name| name == sql_type)).collect();
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let definition: Vec<_> = usable.iter().map(|(name, sql_type, _)| format!("{} {sql_type}", quote(name))).collect();
    source.run(&format!("CREATE TABLE public.moi_kieu (row_no integer PRIMARY KEY, {})", definition.join(", "))).await;
    let rows = usable.iter().map(|(_, _, values)| values.len()).max().unwrap();
    for row in 0..=rows {
        let cells: Vec<_> = usable
            .iter()
            .map(|(_, sql_type, values)| match values.get(row) {
                Some(value) => format!("'{}'::text::{sql_type}", value.replace('\'', "''")),
                None => "NULL".to_owned(),
            })
            .collect();
        source.run(&format!("SET bytea_output = hex; INSERT INTO public.moi_kieu VALUES ({row}, {})", cells.join(", "))).await;
    }
    usable.len()
}

async fn columns(client: &Client) -> Vec<ColumnType> {
    let catalogue = Catalogue::load(client).await.unwrap();
    let oid: u32 = client.query_one("SELECT 'public.moi_kieu'::regclass::oid", &[]).await.unwrap().get(0);
    let columns = load_columns(client, &catalogue, oid).await.unwrap();
    for column in &columns {
        // A replication stream names types by number alone and must come to the same.
        let by_number = catalogue.column(&column.name, column.oid, column.typmod);
        assert_eq!(&by_number, column);
    }
    columns
}

async fn read_binary(client: &Client, table: &[ColumnType]) -> RecordBatch {
    let (batch, faults) = decode_binary(client, table).await;
    assert_eq!(faults, Vec::new());
    batch
}

async fn read_text(client: &Client, table: &[ColumnType]) -> RecordBatch {
    let (batch, faults) = decode_text(client, table).await;
    assert_eq!(faults, Vec::new());
    batch
}

/// As the snapshot reads.
async fn decode_binary(client: &Client, table: &[ColumnType]) -> (RecordBatch, Vec<RowFault>) {
    let list: Vec<_> = table.iter().map(|column| column.select.to_string()).collect();
    let sql = format!("COPY (SELECT {} FROM public.moi_kieu ORDER BY row_no) TO STDOUT (FORMAT binary)", list.join(", "));
    let all: BytesMut = collect(client.copy_out(&sql).await.unwrap()).await;
    let mut rest = &all[19..];
    let mut decoder = TableDecoder::new(table, Wire::Binary);
    while let Some((&[high, low], tail)) = rest.split_first_chunk::<2>() {
        rest = tail;
        if (high, low) == (0xff, 0xff) {
            break;
        }
        assert_eq!(usize::from(u16::from_be_bytes([high, low])), table.len());
        for column in 0..table.len() {
            let (length, tail) = rest.split_first_chunk::<4>().unwrap();
            rest = tail;
            let cell = match usize::try_from(i32::from_be_bytes(*length)) {
                Err(_) => Cell::Null,
                Ok(length) => {
                    let (value, tail) = rest.split_at(length);
                    rest = tail;
                    Cell::Bytes(value)
                }
            };
            decoder.push(column, cell);
        }
        decoder.finish_row();
    }
    decoder.finish().unwrap()
}

/// As the stream sends: each type's own output, not a cast to text.
async fn decode_text(client: &Client, table: &[ColumnType]) -> (RecordBatch, Vec<RowFault>) {
    let mut decoder = TableDecoder::new(table, Wire::Text);
    for message in client.simple_query("SELECT * FROM public.moi_kieu ORDER BY row_no").await.unwrap() {
        let SimpleQueryMessage::Row(row) = message else { continue };
        for column in 0..table.len() {
            decoder.push(column, row.get(column).map_or(Cell::Null, |text| Cell::Bytes(text.as_bytes())));
        }
        decoder.finish_row();
    }
    decoder.finish().unwrap()
}

/// Asks the server itself what its values are in numbers.
async fn numbers_are_the_servers(client: &Client, table: &[ColumnType], batch: &RecordBatch) {
    for column in table {
        let array = batch.column_by_name(&column.name).unwrap();
        let quoted = format!("\"{}\"", column.name.replace('"', "\"\""));
        let of_rows = |expression: String| format!("SELECT {expression} FROM public.moi_kieu ORDER BY row_no");
        let micros = format!("(extract(epoch FROM {quoted}) * 1000000)::int8");
        let finite = |number: &str| of_rows(format!("CASE WHEN isfinite({quoted}) THEN {number} END"));
        let (sql, value): (String, Box<dyn Fn(usize) -> i64>) = match column.kind {
            Kind::Date => (
                finite(&format!("({quoted} - '1970-01-01'::date)::int8")),
                Box::new(|row| i64::from(array.as_primitive::<Date32Type>().value(row))),
            ),
            Kind::Timestamp | Kind::TimestampTz => {
                (finite(&micros), Box::new(|row| array.as_primitive::<TimestampMicrosecondType>().value(row)))
            }
            Kind::Time => (of_rows(micros), Box::new(|row| array.as_primitive::<Time64MicrosecondType>().value(row))),
            Kind::Decimal { .. } => {
                decimals_are_the_servers(client, &of_rows(format!("{quoted}::text")), array.as_primitive()).await;
                continue;
            }
            _ => continue,
        };
        for (row, expected) in numbers(client, &sql).await.into_iter().enumerate() {
            if let Some(expected) = expected {
                assert_eq!(value(row), expected, "{} row {row}", column.name);
            }
        }
    }
}

async fn decimals_are_the_servers(client: &Client, sql: &str, array: &PrimitiveArray<Decimal128Type>) {
    for (row, line) in client.query(sql, &[]).await.unwrap().iter().enumerate() {
        if let Some(expected) = line.get::<_, Option<String>>(0) {
            assert_eq!(array.value_as_string(row), expected, "{sql}");
        }
    }
}

fn means_what_the_server_means(batch: &RecordBatch) {
    let at = |name: &str, row: usize| array_value_to_string(batch.column_by_name(name).unwrap(), row).unwrap();
    assert_eq!(batch.column_by_name("oid").unwrap().as_primitive::<Int64Type>().value(0), 4_294_967_295);
    assert!(batch.column_by_name("float8").unwrap().as_primitive::<Float64Type>().value(5).is_sign_negative());
    assert_eq!(batch.column_by_name("time").unwrap().as_primitive::<Time64MicrosecondType>().value(2), 86_400_000_000);
    assert_eq!(batch.column_by_name("date").unwrap().as_primitive::<Date32Type>().value(6), i32::MAX);
    assert_eq!(batch.column_by_name("timestamptz").unwrap().as_primitive::<TimestampMicrosecondType>().value(5), i64::MIN);
    assert_eq!(at("uuid", 0), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    assert_eq!(at("inet", 0), "10.0.0.1");
    assert_eq!(at("bpchar", 0), "ab    ");
    assert_eq!(at("numeric_free", 0), "NaN");
    assert_eq!(at("numeric_free", 5), "123.4500");
    assert_eq!(at("int_array", 1), "{1,NULL,3}");
    assert_eq!(at("composite", 0), "(\"Số 1, Đường\",,2025-01-01)");
    assert_eq!(at("interval", 0), "1 year -2 days +03:04:05.678901");
}

async fn numbers(client: &Client, sql: &str) -> Vec<Option<i64>> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn collect(parts: CopyOutStream) -> BytesMut {
    let append = |mut all: BytesMut, part: bytes::Bytes| async move {
        all.extend_from_slice(&part);
        Ok(all)
    };
    parts.try_fold(BytesMut::new(), append).await.unwrap()
}

/// Values at random in the forms whose decoders have most to do, told apart by both wire forms and by the server.
const RANDOM: &str = "
    SELECT setseed(0.42);
    CREATE TABLE public.moi_kieu AS SELECT g::integer AS row_no,
        (round(((random() - 0.5) * power(10, floor(random() * 13)))::numeric, 2))::numeric(14,2) AS d2,
        (round(((random() - 0.5) * power(10, floor(random() * 20)))::numeric, 7))::numeric(30,7) AS d7,
        ((random() - 0.5)::numeric * power(10::numeric, floor(random() * 80 - 40)::integer))::numeric AS n,
        ((random() - 0.5) * power(10, floor(random() * 600 - 300))) AS f8,
        ((random() - 0.5) * power(10, floor(random() * 60 - 30)))::real AS f4,
        ('2000-01-01'::date + floor((random() - 0.5) * 4000000)::integer) AS ngay,
        ('2000-01-01'::timestamp + (random() - 0.5) * interval '9000 years') AS luc,
        ('2000-01-01'::timestamptz + (random() - 0.5) * interval '9000 years') AS luc_tz,
        ('00:00'::time + random() * interval '24 hours') AS gio,
        ((random() - 0.5) * power(2::float8, 63))::bigint AS i8,
        decode(md5(g::text), 'hex') AS bytes, md5(g::text)::uuid AS u
    FROM generate_series(1, 5000) g;";

#[tokio::test]
async fn five_thousand_random_rows_are_the_same_in_both_forms_and_as_the_server_sees_them() {
    let source = Source::create(port(), RANDOM).await;
    let client = source.connection().await;
    let table = columns(&client).await;
    assert!(all_binary(&table));
    let (binary, text) = (read_binary(&client, &table).await, read_text(&client, &table).await);
    for ((column, from_binary), from_text) in table.iter().zip(binary.columns()).zip(text.columns()) {
        assert_eq!(from_binary.null_count(), 0);
        assert_eq!(from_binary.to_data(), from_text.to_data(), "{}", column.name);
    }
    numbers_are_the_servers(&client, &table, &text).await;
    source.remove().await;
}

#[tokio::test]
async fn what_arrow_cannot_hold_is_refused_alike_in_both_forms() {
    let setup = "CREATE TABLE public.moi_kieu (row_no integer PRIMARY KEY, phi numeric(14,2), luc timestamp);
        INSERT INTO public.moi_kieu VALUES (1, 'NaN', '294247-01-10 04:00:54.775807'),
        (2, '1.00', '294276-12-31 23:59:59'), (3, '2.00', '2025-07-01 08:00:00')";
    let source = Source::create(port(), setup).await;
    let client = source.connection().await;
    let table = columns(&client).await;
    let told = |faults: Vec<RowFault>| -> Vec<(u32, String)> { faults.into_iter().map(|fault| (fault.row, fault.message)).collect() };
    let (binary, binary_faults) = decode_binary(&client, &table).await;
    let (text, text_faults) = decode_text(&client, &table).await;
    assert_eq!(binary, text);
    let faults = told(binary_faults);
    assert_eq!(faults, told(text_faults));
    assert_eq!(faults.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 0, 1]);
    assert!(faults[1].1.starts_with("column luc (timestamp without time zone): a time beyond"), "{}", faults[1].1);
    source.remove().await;
}

#[test]
fn each_kind_has_its_arrow_type_and_names_its_source_type() {
    let kinds = [
        (Kind::Int2, DataType::Int16),
        (Kind::Oid, DataType::Int64),
        (Kind::Decimal { precision: 14, scale: 2 }, DataType::Decimal128(14, 2)),
        (Kind::Numeric, DataType::Utf8),
        (Kind::Timestamp, DataType::Timestamp(TimeUnit::Microsecond, None)),
        (Kind::TimestampTz, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        (Kind::Opaque, DataType::Utf8),
    ];
    for (kind, data_type) in kinds {
        let field = column("a", kind).field();
        assert_eq!(field.data_type(), &data_type);
        assert!(field.is_nullable());
        assert_eq!(field.metadata().get("hub.source.type").map(String::as_str), Some("whatever"));
    }
}

fn column(name: &str, kind: Kind) -> ColumnType {
    ColumnType { name: name.into(), oid: 0, typmod: -1, sql_type: "whatever".into(), kind, select: Arc::from(name) }
}

#[test]
fn a_cell_that_cannot_be_represented_is_a_fault_of_its_row_and_the_batch_goes_on() {
    let columns = [column("phi", Kind::Decimal { precision: 14, scale: 2 }), column("ten", Kind::Text)];
    let mut decoder = TableDecoder::new(&columns, Wire::Text);
    for (fee, name) in [("1.50", &b"a"[..]), ("NaN", b"b"), ("2.00", b"\xff"), ("3.00", b"d")] {
        decoder.push(0, Cell::Bytes(fee.as_bytes()));
        decoder.push(1, Cell::Bytes(name));
        decoder.finish_row();
    }
    let (batch, faults) = decoder.finish().unwrap();
    assert_eq!(batch.num_rows(), 4);
    let told: Vec<_> = faults.iter().map(|fault| (fault.row, fault.column.as_deref().unwrap(), fault.code)).collect();
    assert_eq!(told, [(1, "phi", UNDECODABLE), (2, "ten", UNDECODABLE)]);
    assert_eq!(faults[0].message, "column phi (whatever): NaN or infinity, which a decimal cannot hold");
    assert!(batch.column(0).is_null(1) && batch.column(1).is_null(2));
    assert_eq!(batch.column(1).as_string::<i32>().value(3), "d");
}

#[test]
fn an_undone_row_leaves_no_cells_no_bytes_and_no_faults() {
    let kinds = [Kind::Bool, Kind::Int4, Kind::Decimal { precision: 5, scale: 0 }, Kind::Text, Kind::Bytea, Kind::Float8];
    let columns: Vec<_> = kinds.iter().map(|kind| column("c", *kind)).collect();
    let values = ["t", "7", "12345", "abc", "\\x00", "1.5"];
    let mut decoder = TableDecoder::new(&columns, Wire::Text);
    let push = |decoder: &mut TableDecoder, values: &[&str]| {
        for (place, value) in values.iter().enumerate() {
            decoder.push(place, Cell::Bytes(value.as_bytes()));
        }
    };
    push(&mut decoder, &values);
    decoder.finish_row();
    let bytes = decoder.bytes();
    push(&mut decoder, &["f", "x", "NaN", "half"]);
    decoder.undo_row();
    assert_eq!((decoder.rows(), decoder.bytes()), (1, bytes));
    push(&mut decoder, &values);
    decoder.finish_row();
    let (batch, faults) = decoder.finish().unwrap();
    assert_eq!(faults, Vec::new());
    assert_eq!(batch.slice(0, 1), batch.slice(1, 1));
    assert_eq!((decoder.rows(), decoder.bytes()), (0, 0));
}

#[test]
fn a_decoder_is_used_again_and_short_rows_are_filled_with_nulls() {
    let columns = [column("a", Kind::Int8), column("b", Kind::Text)];
    let mut decoder = TableDecoder::new(&columns, Wire::Binary);
    for round in 0..3_i64 {
        decoder.push(0, Cell::Bytes(&round.to_be_bytes()));
        let unchanged = decoder.push_unchanged(1);
        assert_eq!((unchanged.row, unchanged.column), (0, 1));
        decoder.finish_row();
        decoder.push_null_row();
        decoder.push(0, Cell::Null);
        decoder.finish_row();
        let (batch, faults) = decoder.finish().unwrap();
        assert_eq!((batch.num_rows(), faults.len()), (3, 0));
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), round);
        assert_eq!(batch.column(1).null_count(), 3);
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_a_fault_of_its_row_alone() {
    // What a register kept in TCVN3 may really hold: bytes without a declared meaning.
    let setup = "CREATE TABLE public.moi_kieu (row_no integer PRIMARY KEY, ten text);
        INSERT INTO public.moi_kieu VALUES (1, 'An'), (2, convert_from('\\x4eb9'::bytea, 'SQL_ASCII')), (3, 'Bình')";
    let source = Source::create_with(port(), "ENCODING 'SQL_ASCII' LOCALE 'C'", setup).await;
    let client = source.connection().await;
    let table = columns(&client).await;
    client.batch_execute(UNDECLARED_ENCODING).await.unwrap();
    let (batch, faults) = decode_binary(&client, &table).await;
    assert_eq!(
        faults.iter().map(|fault| (fault.row, fault.message.as_str())).collect::<Vec<_>>(),
        [(1, "column ten (text): text is not UTF-8")]
    );
    let names = batch.column(1).as_string::<i32>();
    assert_eq!((names.value(0), names.is_null(1), names.value(2)), ("An", true, "Bình"));
    source.remove().await;
}
