//! Deliveries as they come in a province: late, half, twice, changed, packed, broken.

use std::fs;
use std::io::Write;
use std::time::Duration;

use hub_conformance::Run;
use hub_sdk::model::Checkpoint;
use hub_sdk::{Connector, Probe};
use serde_json::{Value, json};

use crate::desk::Desk;

fn append() -> Value {
    json!({"pattern": "*.csv", "key": ["id"]})
}

fn whole() -> Value {
    json!({"pattern": "*.csv", "key": ["id"], "mode": "whole"})
}

#[tokio::test]
async fn rows_of_later_files_are_creates_and_the_same_content_is_taken_once() {
    let mut desk = Desk::new(append());
    desk.put("a.csv", "id,ten\n007,An\n");
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["r 007|An"]);
    desk.put("b.csv", "id,ten\n8,Bình\n");
    assert_eq!(desk.changes(&mut run, 1).await, ["c 8|Bình"]);
    run.kill().await;
    // Copied back, touched, and delivered under another name.
    desk.put("a.csv", "id,ten\n007,An\n");
    desk.put("copy.csv", "id,ten\n8,Bình\n");
    let mut run = desk.run().await;
    desk.put("c.csv", "id,ten\n9,Chi\n");
    assert_eq!(desk.changes(&mut run, 1).await, ["c 9|Chi"]);
    run.shut().await;
}

#[tokio::test]
async fn a_run_goes_on_in_the_middle_of_a_file() {
    for stream in [append(), whole()] {
        let mut desk = Desk::new(stream);
        desk.limits.rows = 10;
        // The third row is at fault: it must not be told twice either.
        let row = |id: usize| if id == 3 { "3,a,b\n".to_owned() } else { format!("{id},\"số\n{id}\"\n") };
        desk.put("a.csv", format!("id,ten\n{}", (1..=95).map(row).collect::<String>()));
        let mut all = Vec::new();
        for _ in 0..4 {
            let mut run = desk.run().await;
            all.extend(desk.take(&mut run).await);
            run.kill().await;
        }
        let mut run = desk.run().await;
        all.extend(desk.snapshot(&mut run).await);
        let ids: Vec<_> = all.iter().map(|row| row[2..].split('|').next().unwrap().to_owned()).collect();
        let expected: Vec<_> = (1..=95).map(|id| id.to_string()).collect();
        assert_eq!(ids.len(), 95, "{ids:?}");
        assert_eq!(ids, expected);
        run.shut().await;
    }
}

#[tokio::test]
async fn of_a_grown_file_the_new_rows_are_taken_and_a_changed_one_goes_aside() {
    let mut desk = Desk::new(append());
    desk.put("a.csv", "id,ten\n1,An\n");
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    desk.put("a.csv", "id,ten\n1,An\n2,Bình\n");
    assert_eq!(desk.changes(&mut run, 1).await, ["c 2|Bình"]);
    desk.put("a.csv", "id,ten\n1,Anh\n2,Bình\n3,Chi\n");
    while !desk.folder().join("rejected/a.csv").exists() {
        assert_eq!(desk.take(&mut run).await, Vec::<String>::new());
    }
    assert!(desk.aside("a.csv.rejected.txt").contains("has changed since 2 rows of it were taken"));
    // Mended: what was taken before still is its beginning.
    desk.put("a.csv", "id,ten\n1,An\n2,Bình\n3,Chi\n");
    assert_eq!(desk.changes(&mut run, 1).await, ["c 3|Chi"]);
    // The last line has no end: whether it is whole is not known.
    desk.put("b.csv", "id,ten\n4,Du");
    assert_eq!(desk.changes(&mut run, 1).await, ["c 4|Du"]);
    desk.put("b.csv", "id,ten\n4,Dung\n");
    while !desk.folder().join("rejected/b.csv").exists() {
        assert_eq!(desk.take(&mut run).await, Vec::<String>::new());
    }
    run.shut().await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_waited_for() {
    let mut desk = Desk::new(append());
    desk.every_s = 0.3;
    fs::write(desk.folder().join("b.csv.part"), "id,ten\n9,never\n").unwrap();
    fs::write(desk.folder().join(".c.csv"), "id,ten\n9,never\n").unwrap();
    let mut file = fs::File::create(desk.folder().join("a.csv")).unwrap();
    file.write_all(b"id,ten\n").unwrap();
    let mut run = desk.run().await;
    for id in 1..=100 {
        file.write_all(format!("{id},x\n").as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(desk.take(&mut run).await.len(), 100, "all of it comes at once");
    run.shut().await;
}

#[tokio::test]
async fn a_whole_delivery_is_told_as_what_differs() {
    let mut desk = Desk::new(whole());
    desk.put("1.csv", "id,ten\n9,overtaken\n");
    tokio::time::sleep(Duration::from_millis(20)).await;
    desk.put("2.csv", "id,ten\n1,An\n2,Bình\n3,Chi\n");
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await, ["r 1|An", "r 2|Bình", "r 3|Chi"], "only the last delivery is a snapshot");
    desk.put("3.csv", "ten,id,them\nAn,1,\nBảo,2,\nDu,4,x\n");
    assert_eq!(desk.changes(&mut run, 3).await, ["u 2|Bảo|∅", "c 4|Du|x", "d 3|∅|∅"], "another order of columns is no change");
    assert_eq!(desk.take(&mut run).await, Vec::<String>::new(), "the word that all of it is told");
    run.kill().await;
    desk.put("4.csv", "id;ten\n4;Du\n");
    let mut run = desk.run().await;
    assert_eq!(desk.changes(&mut run, 3).await, ["u 4|Du", "d 1|∅", "d 2|∅"]);
    // The first delivery again is a delivery, whatever was taken before it.
    desk.put("5.csv", "id,ten\n1,An\n2,Bình\n3,Chi\n");
    assert_eq!(desk.changes(&mut run, 4).await, ["c 1|An", "c 2|Bình", "c 3|Chi", "d 4|∅"]);
    run.shut().await;
}

#[tokio::test]
async fn a_broken_file_goes_aside_with_its_row_and_deletes_nothing() {
    let mut desk = Desk::new(whole());
    desk.columns = vec!["ten".to_owned()];
    desk.put("1.csv", "id,ten\n1,An\n2,Bình\n");
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    for (text, row, why) in [
        ("id,ten\n1,An\n3,\"Chi\n", "row:    2", "the quote that is opened in line 3 is never closed"),
        ("id,name\n1,An\n", "column: ten", "the file has no column ten; it has id, name"),
        ("", "file:   2.csv", "there is no header line"),
    ] {
        desk.put("2.csv", text);
        let mut changes = Vec::new();
        while desk.folder().join("2.csv").exists() {
            changes.extend(desk.take(&mut run).await);
        }
        assert_eq!(changes, Vec::<String>::new(), "{why}");
        let report = fs::read_dir(desk.folder().join("rejected")).unwrap().map(|entry| entry.unwrap().path());
        let reports: Vec<_> = report.filter_map(|path| fs::read_to_string(path).ok()).collect();
        assert!(reports.iter().any(|report| report.contains(row) && report.contains(why)), "{reports:?}");
    }
    assert_eq!(fs::read_dir(desk.folder().join("rejected")).unwrap().count(), 6, "none was written over");
    desk.put("2.csv", "id,ten\n1,An\n3,Chi\n");
    assert_eq!(desk.changes(&mut run, 2).await, ["c 3|Chi", "d 2|∅"]);
    run.shut().await;
}

#[tokio::test]
async fn a_bad_row_costs_itself_alone_and_what_was_known_of_it_stands() {
    let mut desk = Desk::new(whole());
    desk.put("1.csv", "id,ten\n1,An\n2,Bình\n");
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    let mut text = b"id,ten\n1,An,more\n2,B\xecnh\n,nobody\n3,Chi\n3,Chi again\n".to_vec();
    desk.put("2.csv", &text);
    assert_eq!(
        desk.changes(&mut run, 5).await,
        [
            "c 1|An !wrong-fields row 1 of 2.csv: it has 3 values where the header names 2 columns",
            "c 2|∅ !undecodable row 2 of 2.csv: its text is not in the encoding of the stream",
            "c ∅|nobody !key-missing row 3 of 2.csv: it has no value in a column of its key",
            "c 3|Chi",
            "c 3|Chi again !key-twice row 5 of 2.csv: a row before it has the same key",
        ]
    );
    text.clear();
    text.extend_from_slice("id,ten\n1,An\n2,Bình\n3,Chi\n4,Du\n".as_bytes());
    desk.put("3.csv", &text);
    assert_eq!(desk.changes(&mut run, 1).await, ["c 4|Du"], "neither deleted nor changed");
    run.shut().await;
}

/// A list of so many people.
fn people(count: usize) -> String {
    (1..=count).fold("id,ten\n".to_owned(), |text, id| format!("{text}{id},x\n"))
}

#[tokio::test]
async fn a_delivery_that_would_delete_most_rows_is_held_back_until_a_person_accepts_it() {
    let mut desk = Desk::new(whole());
    desk.put("1.csv", people(200));
    let mut run = desk.run().await;
    assert_eq!(desk.snapshot(&mut run).await.len(), 200);
    desk.put("2.csv", people(101));
    assert_eq!(desk.changes(&mut run, 99).await.len(), 99, "half may go");
    desk.put("3.csv", people(50));
    while !desk.folder().join("rejected/3.csv").exists() {
        assert_eq!(desk.take(&mut run).await, Vec::<String>::new(), "nothing of it is told");
    }
    let report = desk.aside("3.csv.rejected.txt");
    assert!(report.contains("it would delete 51 of 101 known rows, more than shrink_guard (50 %)"), "{report}");
    let digest = report.lines().find(|line| line.len() == 64).unwrap().to_owned();
    // Put back without a word, or with that for another content: it stays where it is.
    fs::rename(desk.folder().join("rejected/3.csv"), desk.folder().join("3.csv")).unwrap();
    fs::write(desk.folder().join("3.csv.accept"), "0".repeat(64)).unwrap();
    desk.put("4.csv", people(100));
    assert_eq!(desk.changes(&mut run, 1).await, ["d 101|∅"]);
    assert!(desk.folder().join("3.csv").exists());
    run.kill().await;
    let mut run = desk.run().await;
    fs::write(desk.folder().join("3.csv.accept"), format!("{digest}  3.csv\n")).unwrap();
    assert_eq!(desk.changes(&mut run, 50).await.first().map(String::as_str), Some("d 100|∅"));
    // The word was for that content alone.
    run.shut().await;
    desk.put("5.csv", people(150));
    let mut run = desk.run().await;
    assert_eq!(desk.changes(&mut run, 100).await.len(), 100);
    desk.put("3.csv", people(49));
    while !desk.folder().join("rejected/3.csv").exists() {
        assert_eq!(desk.take(&mut run).await, Vec::<String>::new());
    }
    run.shut().await;
}

#[tokio::test]
async fn a_broken_delivery_tells_nothing_where_rows_are_guarded_and_the_guard_can_be_off() {
    let mut stream = whole();
    stream["shrink_guard"] = json!(0);
    let mut desk = Desk::new(stream);
    desk.limits.rows = 10;
    desk.put("1.csv", people(120));
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    desk.put("2.csv", "id,ten\n1,x\n");
    assert_eq!(desk.changes(&mut run, 119).await.len(), 119);
    run.shut().await;

    let mut desk = Desk::new(whole());
    desk.limits.rows = 10;
    desk.put("1.csv", people(120));
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    desk.put("2.csv", format!("{}\"open\n", people(120).replace(",x", ",y")));
    while !desk.folder().join("rejected/2.csv").exists() {
        assert_eq!(desk.take(&mut run).await, Vec::<String>::new());
    }
    assert!(desk.aside("2.csv.rejected.txt").contains("row:    121"));
    run.shut().await;
}

#[tokio::test]
async fn packed_files_are_opened_by_what_they_are() {
    let text = "id,ten\n1,An\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(Desk::rows_of(append(), "a.csv", &gzip).await, ["r 1|An"]);
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, content) in [("doc.pdf", "no rows"), ("thu_muc/a.csv", text), ("b.csv", "id\n2\n")] {
            archive.start_file(name, options).unwrap();
            archive.write_all(content.as_bytes()).unwrap();
        }
        let archive = archive.finish().unwrap().into_inner();
        assert_eq!(Desk::rows_of(append(), "a.csv", &archive).await, ["r 1|An"], "{method}");
    }
    // Damaged: the end is gone.
    let mut desk = Desk::new(append());
    desk.put("a.csv", &gzip[..gzip.len() - 6]);
    let mut run = desk.run().await;
    while !desk.folder().join("rejected/a.csv.rejected.txt").exists() {
        desk.take(&mut run).await;
    }
    run.shut().await;
}

#[tokio::test]
async fn every_format_gives_text_as_written() {
    let fixed = json!({"pattern": "*", "format": "fixed", "columns":
        [{"name": "ma", "start": 1, "width": 4}, {"name": "ten", "start": 5, "width": 6}, {"name": "phi", "start": 11, "width": 3}]});
    assert_eq!(Desk::rows_of(fixed, "a", "0079Đặng  2.5\r\n\r\n0080Ánh\r\n").await, ["r 0079|Đặng|2.5", "r 0080|Ánh|∅"]);
    let ndjson = json!({"pattern": "*", "format": "ndjson"});
    let rows = Desk::rows_of(ndjson, "a", "{\"id\":\"007\",\"phi\":2.50}\n\n[]\n{\"id\":null,\"o\":{\"b\":\"x\"}}\n").await;
    assert_eq!(rows, ["r 007|2.50|∅", "r ∅|∅|∅ !undecodable row 2 of a: it is a list, not an object", "r ∅|∅|x"]);
    let xml = json!({"pattern": "*", "format": "xml", "rows": "/ds/nguoi"});
    assert_eq!(Desk::rows_of(xml, "a", "<ds><nguoi ma='007'><ten>An &amp; Bình</ten></nguoi></ds>").await, ["r 007|An & Bình"]);
    let tsv = json!({"pattern": "*", "format": "tsv", "header": 3});
    assert_eq!(Desk::rows_of(tsv, "a", "BÁO CÁO \"quý\tI\n\nid\tten, họ\n1\tAn, Lê\n").await, ["r 1|An, Lê"]);
    let bare = json!({"pattern": "*", "header": 0, "columns": [{"name": "id"}, {"name": "ten"}]});
    assert_eq!(Desk::rows_of(bare, "a", "1|An\n2|\n").await, ["r 1|An", "r 2|∅"]);
}

#[tokio::test]
async fn legacy_encodings_reach_the_mapping_as_it_wants_them() {
    let with = |encoding: &str| json!({"pattern": "*", "encoding": encoding});
    assert_eq!(Desk::rows_of(with("tcvn3"), "a", b"id;ten\n1;H\xb5 N\xe9i\n").await, ["r 1|Hµ Néi"]);
    assert_eq!(Desk::rows_of(with("vni"), "a", b"id;ten\n1;Ha\xf8 No\xe4i\n").await, ["r 1|Haø Noäi"]);
    assert_eq!(Desk::rows_of(with("windows-1258"), "a", b"id;ten\n1;\xd0\xfd\xec\n").await, ["r 1|Đư\u{301}"]);
    let utf16: Vec<u8> = "\u{feff}id;ten\n1;Đường\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(Desk::rows_of(with("utf-8"), "a", &utf16).await, ["r 1|Đường"]);
}

#[tokio::test]
async fn a_probe_tells_what_is_wrong_with_what_mends_it() {
    let codes = |probe: &Probe| probe.findings.iter().map(|finding| (finding.code, finding.fatal)).collect::<Vec<_>>();
    let mut desk = Desk::new(whole());
    desk.columns = vec!["Ho_Ten".to_owned()];
    assert_eq!(codes(&desk.probe().await), [("no-file-matches", false)]);
    desk.put("a.csv", "id;ho ten\n1;An\n");
    let probe = desk.probe().await;
    assert_eq!(codes(&probe), [("column-missing", true)]);
    assert_eq!(probe.findings[0].remedy.as_deref(), Some("write ho ten in `key` or the mapping"));
    desk.put("a.csv", b"PK\x03\x04 not an archive");
    assert_eq!(codes(&desk.probe().await), [("file-unreadable", true)]);
    fs::remove_dir_all(desk.folder()).unwrap();
    assert_eq!(codes(&desk.probe().await), [("folder-missing", true)]);
}

#[tokio::test]
async fn gauges_tell_what_waits() {
    let desk = Desk::new(append());
    desk.put("a.csv", "id,ten\n1,An\n");
    let connector = desk.connector().await;
    let waiting = |gauges: Vec<hub_sdk::SourceGauge>| gauges.iter().find(|gauge| gauge.name == "files_waiting").unwrap().value;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    run.next().await.unwrap();
    while waiting(connector.gauges().await.unwrap()) > 0.0 {
        run.next().await.unwrap();
    }
    run.shut().await;
}
