//! Workbooks of Excel as offices send them: titles above the table, dates, zeros, errors, several sheets.

use std::io::{Cursor, Write};

use serde_json::json;

use crate::desk::Desk;

/// A workbook with one sheet of rows as XML, and another one before it that is hidden.
fn workbook(rows: &str, is_1904: bool) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let sheet = |rows: &str| {
        format!("<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>{rows}</sheetData></worksheet>")
    };
    let parts = [
        (
            "[Content_Types].xml",
            "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Default Extension=\"xml\" ContentType=\"application/xml\"/></Types>".to_owned(),
        ),
        (
            "_rels/.rels",
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"r1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>".to_owned(),
        ),
        (
            "xl/workbook.xml",
            format!("<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><workbookPr date1904=\"{}\"/><sheets><sheet name=\"Danh mục\" sheetId=\"1\" state=\"hidden\" r:id=\"r1\"/><sheet name=\"Dân cư\" sheetId=\"2\" r:id=\"r2\"/></sheets></workbook>", u8::from(is_1904)),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"r1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/><Relationship Id=\"r2\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet2.xml\"/><Relationship Id=\"r3\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles\" Target=\"styles.xml\"/></Relationships>".to_owned(),
        ),
        (
            "xl/styles.xml",
            "<styleSheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><cellXfs count=\"3\"><xf numFmtId=\"0\"/><xf numFmtId=\"14\"/><xf numFmtId=\"22\"/></cellXfs></styleSheet>".to_owned(),
        ),
        ("xl/worksheets/sheet1.xml", sheet(&table(&[&["ma", "ten"], &["01", "Kinh"]]))),
        ("xl/worksheets/sheet2.xml", sheet(rows)),
    ];
    for (name, text) in parts {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A workbook with shared texts.
fn replaced(book: &[u8], texts: &str) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new_append(Cursor::new(book.to_vec())).unwrap();
    archive.start_file("xl/sharedStrings.xml", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(texts.as_bytes()).unwrap();
    archive.finish().unwrap().into_inner()
}

fn text(text: &str) -> String {
    format!("<c t=\"inlineStr\"><is><t>{text}</t></is></c>")
}

/// Rows of texts.
fn table(rows: &[&[&str]]) -> String {
    rows.iter().map(|row| format!("<row>{}</row>", row.iter().map(|cell| text(cell)).collect::<String>())).collect()
}

fn xlsx() -> serde_json::Value {
    json!({"pattern": "*.xlsx", "format": "xlsx"})
}

#[tokio::test]
async fn a_sheet_gives_its_table_and_what_its_cells_mean() {
    let rows = [
        "<row r=\"1\"><c r=\"B1\" t=\"inlineStr\"><is><t>DANH SÁCH DÂN CƯ</t></is></c></row>",
        "<row r=\"3\"><c r=\"B3\" t=\"inlineStr\"><is><t>Số định\ndanh</t></is></c><c r=\"C3\" t=\"inlineStr\"><is><t>Sinh</t></is></c>\
         <c r=\"D3\" t=\"inlineStr\"><is><t>Phí</t></is></c><c r=\"E3\" t=\"inlineStr\"><is><t>Lúc</t></is></c></row>",
        // A text keeps its zeros, a number has no `.0`, a formula gives what it gave when it was saved.
        "<row r=\"4\"><c r=\"B4\" t=\"inlineStr\"><is><t>007</t></is></c><c r=\"C4\" s=\"1\"><v>32874</v></c>\
         <c r=\"D4\"><f>1+1</f><v>2</v></c><c r=\"E4\" s=\"2\"><v>45943.5</v></c></row>",
        // Only formatted, never filled: no row.
        "<row r=\"5\"><c r=\"B5\" s=\"1\"/><c r=\"C5\" s=\"1\"/></row>",
        "<row r=\"6\"><c r=\"B6\"><v>79</v></c><c r=\"D6\" t=\"e\"><v>#N/A</v></c></row>",
        "<row r=\"7\"><c r=\"D7\"><v>2.5</v></c><c r=\"G7\"><v>1</v></c></row>",
    ]
    .concat();
    assert_eq!(
        Desk::rows_of(xlsx(), "a.xlsx", workbook(&rows, false)).await,
        [
            "r 007|1990-01-01|2|2025-10-13T12:00:00",
            "r 79|∅|∅|∅ !cell-error row 2 of a.xlsx: cell D6 holds the error #N/A",
            "r ∅|∅|2.5|∅ !wrong-fields row 3 of a.xlsx: cell G7 lies outside of the columns that the header names",
        ]
    );
    let dates = "<row r=\"1\"><c t=\"inlineStr\"><is><t>ngay</t></is></c></row><row r=\"2\"><c s=\"1\"><v>44481</v></c></row>";
    assert_eq!(Desk::rows_of(xlsx(), "a.xlsx", workbook(dates, true)).await, ["r 2025-10-13"], "counted from 1904");
}

#[tokio::test]
async fn a_sheet_is_chosen_by_name_or_number_and_its_header_by_row() {
    let book = workbook(&table(&[&["x", "y"], &["ma", "ten"], &["1", "2"]]), false);
    let with = |field: &str, value: serde_json::Value| {
        let mut stream = xlsx();
        stream[field] = value;
        stream
    };
    assert_eq!(Desk::rows_of(xlsx(), "a.xlsx", &book).await, ["r ma|ten", "r 1|2"], "the first that is visible");
    assert_eq!(Desk::rows_of(with("header", json!(2)), "a.xlsx", &book).await, ["r 1|2"]);
    assert_eq!(Desk::rows_of(with("sheet", json!(1)), "a.xlsx", &book).await, ["r 01|Kinh"]);
    assert_eq!(Desk::rows_of(with("sheet", json!("danh mục")), "a.xlsx", &book).await, ["r 01|Kinh"]);
    let mut bare = with("header", json!(0));
    bare["columns"] = json!([{"name": "a"}, {"name": "b"}]);
    assert_eq!(Desk::rows_of(bare, "a.xlsx", &book).await, ["r x|y", "r ma|ten", "r 1|2"]);
    let desk = Desk::new(with("sheet", json!("Nhà ở")));
    desk.put("a.xlsx", &book);
    let probe = desk.probe().await;
    assert!(probe.findings[0].message.contains("has no sheet Nhà ở; it has Danh mục, Dân cư"), "{:?}", probe.findings);
}

#[tokio::test]
async fn a_workbook_may_be_packed_and_a_bomb_or_a_damaged_one_goes_aside() {
    let book = workbook(&table(&[&["ma"], &["007"]]), false);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&book).unwrap();
    assert_eq!(Desk::rows_of(xlsx(), "a.xlsx", gzip.finish().unwrap()).await, ["r 007"]);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("thang 1/a.xlsx", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(&book).unwrap();
    assert_eq!(Desk::rows_of(xlsx(), "a.xlsx", archive.finish().unwrap().into_inner()).await, ["r 007"]);

    let bomb = workbook(&format!("{}<!--{}-->", table(&[&["ma"], &["1"]]), " ".repeat(3 << 20)), false);
    assert!(bomb.len() < 100_000);
    // It says that it has more texts than there is memory.
    let told =
        replaced(&book, "<sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" uniqueCount = \"99999999999\"></sst>");
    let mut truncated = book.clone();
    truncated.truncate(book.len() / 2);
    for (bytes, why) in [
        (bomb, "larger than document_mib, 1 MiB"),
        (told, "larger than document_mib, 1 MiB"),
        (truncated, "the archive cannot be opened"),
        (b"id;ten\n1;An\n".to_vec(), "no workbook of Excel"),
        ([&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..], &[0xff; 600]].concat(), "the workbook"),
        (workbook("", false), "no header is found"),
    ] {
        let mut desk = Desk::new(xlsx());
        desk.document_mib = 1;
        desk.put("a.xlsx", &bytes);
        let mut run = desk.run().await;
        while !desk.folder().join("rejected/a.xlsx").exists() {
            assert_eq!(desk.take(&mut run).await, Vec::<String>::new());
        }
        assert!(desk.aside("a.xlsx.rejected.txt").contains(why), "{why}: {}", desk.aside("a.xlsx.rejected.txt"));
        run.shut().await;
    }
}

#[tokio::test]
async fn xls_and_xlsx_of_other_programs_are_read_alike() {
    let expected = ["r 007|Nguyễn Thị Ánh|1990-01-01|2.5", "r 8|∅|2025-10-13T12:00:00|3", "r 0009|Lê Bình|∅|∅"];
    let stream = json!({"pattern": "*", "format": "xls"});
    assert_eq!(Desk::rows_of(stream.clone(), "a.xls", include_bytes!("../data/dan_cu.xls")).await, expected);
    assert_eq!(Desk::rows_of(stream, "a.xlsx", include_bytes!("../data/dan_cu.xlsx")).await, expected);
}
