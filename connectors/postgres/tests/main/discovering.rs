//! Discovery tells tables as they are, whatever their names, and what stands in the way of capturing them.

use hub_connector_postgres::discover::{discover, shapes_of};
use hub_sdk::StreamShape;
use hub_sdk::model::StreamName;

use crate::source::{Source, port};

const SETUP: &str = "
    CREATE TYPE public.trang_thai AS ENUM ('mới', 'xong');
    CREATE TABLE public.co_quan (ma text PRIMARY KEY, ten text NOT NULL);
    CREATE TABLE public.ho_so (
        id bigint GENERATED ALWAYS AS IDENTITY, nam integer NOT NULL, ma_co_quan text REFERENCES public.co_quan (ma),
        le_phi numeric(14,2), tong numeric(14,2) GENERATED ALWAYS AS (le_phi * 1.1) STORED, tt public.trang_thai, bo_di text,
        PRIMARY KEY (nam, id));
    ALTER TABLE public.ho_so DROP COLUMN bo_di;
    COMMENT ON COLUMN public.ho_so.le_phi IS 'Lệ phí, đồng';
    INSERT INTO public.ho_so (nam, le_phi) SELECT 2025, g FROM generate_series(1, 1000) g;
    ANALYZE public.ho_so;
    CREATE VIEW public.xem AS SELECT * FROM public.ho_so;
    CREATE SCHEMA \"Sở TT.TT\";
    CREATE TABLE \"Sở TT.TT\".\"Hồ \"\"sơ\"\"\" (\"Mã số\" integer PRIMARY KEY, \"a.b\" text);
    CREATE TABLE public.\"Văn bản\" (id integer PRIMARY KEY);
    CREATE TABLE public.nhat_ky (luc timestamptz NOT NULL, noi_dung text) PARTITION BY RANGE (luc);
    CREATE TABLE public.nhat_ky_2025 PARTITION OF public.nhat_ky FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    ALTER TABLE public.nhat_ky REPLICA IDENTITY FULL;
    CREATE TABLE public.day_du (a integer, b text);
    ALTER TABLE public.day_du REPLICA IDENTITY FULL;
    CREATE TABLE public.khong_khoa (a integer);
    CREATE TABLE public.co_chi_muc (a integer NOT NULL, b integer NOT NULL);
    CREATE UNIQUE INDEX \"Chỉ mục\" ON public.co_chi_muc (b, a);
    CREATE TABLE public.theo_chi_muc (a integer NOT NULL, b integer NOT NULL);
    CREATE UNIQUE INDEX theo_b ON public.theo_chi_muc (b);
    ALTER TABLE public.theo_chi_muc REPLICA IDENTITY USING INDEX theo_b;
    CREATE TABLE public.khong_gi (a integer PRIMARY KEY);
    ALTER TABLE public.khong_gi REPLICA IDENTITY NOTHING;
    CREATE UNLOGGED TABLE public.tam (a integer PRIMARY KEY);";

fn named<'a>(shapes: &'a [StreamShape], name: &str) -> &'a StreamShape {
    shapes.iter().find(|shape| shape.stream.as_str() == name).unwrap_or_else(|| panic!("no {name} in {:?}", names(shapes)))
}

fn names(shapes: &[StreamShape]) -> Vec<&str> {
    shapes.iter().map(|shape| shape.stream.as_str()).collect()
}

fn codes(shape: &StreamShape) -> Vec<&str> {
    shape.findings.iter().map(|finding| finding.code).collect()
}

fn remedy(shape: &StreamShape) -> &str {
    shape.findings[0].remedy.as_deref().unwrap()
}

#[tokio::test]
async fn tables_are_told_with_columns_keys_and_what_stands_in_the_way() {
    let source = Source::create(port(), SETUP).await;
    let client = source.connection().await;
    let shapes = discover(&client).await.unwrap();
    assert_eq!(
        names(&shapes),
        [
            "\"Sở TT.TT\".\"Hồ \"\"sơ\"\"\"",
            "public.Văn bản",
            "public.co_chi_muc",
            "public.co_quan",
            "public.day_du",
            "public.ho_so",
            "public.khong_gi",
            "public.khong_khoa",
            "public.nhat_ky",
            "public.tam",
            "public.theo_chi_muc",
        ]
    );

    let dossiers = named(&shapes, "public.ho_so");
    let columns: Vec<_> =
        dossiers.columns.iter().map(|column| (column.name.as_str(), column.source_type.as_str(), column.nullable, column.key)).collect();
    assert_eq!(
        columns,
        [
            ("id", "bigint", false, Some(2)),
            ("nam", "integer", false, Some(1)),
            ("ma_co_quan", "text", true, None),
            ("le_phi", "numeric(14,2)", true, None),
            ("tt", "public.trang_thai", true, None),
        ]
    );
    let remarks: Vec<_> = dossiers.columns.iter().map(|column| column.comment.as_deref()).collect();
    assert_eq!(
        remarks,
        [Some("numbered by the source"), None, Some("references public.co_quan(ma)"), Some("Lệ phí, đồng"), Some("one of mới, xong")]
    );
    assert_eq!(dossiers.identity, ["nam", "id"]);
    assert_eq!((dossiers.full_images, dossiers.rows), (false, Some(1000)));
    assert!(dossiers.bytes.unwrap() >= 8192);
    assert_eq!(codes(dossiers), ["generated-column"]);
    assert_eq!(dossiers.schema.fields().len(), dossiers.columns.len());
    assert_eq!(dossiers.schema.field(3).metadata()["hub.source.type"], "numeric(14,2)");

    let full = named(&shapes, "public.day_du");
    assert_eq!((full.identity.as_slice(), full.full_images), (["a".to_owned(), "b".to_owned()].as_slice(), true));
    assert_eq!((codes(full), full.findings[0].fatal), (vec!["no-key"], false));

    let keyless = named(&shapes, "public.khong_khoa");
    assert_eq!((codes(keyless), keyless.findings[0].fatal), (vec!["no-key"], true));
    let indexed = named(&shapes, "public.co_chi_muc");
    assert_eq!(remedy(indexed), "ALTER TABLE \"public\".\"co_chi_muc\" REPLICA IDENTITY USING INDEX \"Chỉ mục\";");
    client.batch_execute(remedy(indexed)).await.unwrap();
    assert_eq!(named(&shapes, "public.theo_chi_muc").identity, ["b"]);
    assert_eq!(codes(named(&shapes, "public.khong_gi")), ["replica-identity-nothing"]);
    assert_eq!(codes(named(&shapes, "public.tam")), ["unlogged-table"]);

    let partitioned = named(&shapes, "public.nhat_ky");
    assert_eq!(codes(partitioned), ["partition-identity"]);
    client.batch_execute(remedy(partitioned)).await.unwrap();

    let streams: Vec<_> =
        ["public.co_chi_muc", "public.nhat_ky", "public.nhat_ky_2025", "\"Sở TT.TT\".\"Hồ \"\"sơ\"\"\"", "public.khong_co"]
            .iter()
            .map(|name| StreamName::new(name).unwrap())
            .collect();
    let mended = shapes_of(&client, &streams).await.unwrap();
    assert_eq!(names(&mended), ["\"Sở TT.TT\".\"Hồ \"\"sơ\"\"\"", "public.co_chi_muc", "public.nhat_ky", "public.nhat_ky_2025"]);
    assert_eq!(named(&mended, "public.co_chi_muc").identity, ["b", "a"]);
    assert!(named(&mended, "public.nhat_ky").full_images);
    source.remove().await;
}
