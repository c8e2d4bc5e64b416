//! Official documents in edXML: their header as columns, their attachments kept by content and told by reference.

use std::io::{Cursor, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hub_sdk::Connector;
use hub_sdk::model::StreamName;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::desk::Desk;

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A document with a manifest of two references, and what comes behind its envelope.
fn document(behind: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<edXML xmlns:edXML="http://www.mic.gov.vn/TBT/QCVN_102_2016"><edXML:edXMLEnvelope>
<edXML:edXMLHeader><edXML:MessageHeader>
  <edXML:From><edXML:OrganId>000.00.01.H09</edXML:OrganId><edXML:OrganName>Văn phòng UBND</edXML:OrganName></edXML:From>
  <edXML:To><edXML:OrganId>000.00.15.H09</edXML:OrganId></edXML:To>
  <edXML:Code><edXML:CodeNumber>0123</edXML:CodeNumber><edXML:CodeNotation>UBND-VP</edXML:CodeNotation></edXML:Code>
  <edXML:PromulgationInfo><edXML:PromulgationDate>2026-01-31</edXML:PromulgationDate></edXML:PromulgationInfo>
  <edXML:Subject>V/v chuyển đổi số &amp; dữ liệu</edXML:Subject>
  <edXML:SignerInfo><edXML:FullName>Nguyễn Thị Ánh</edXML:FullName></edXML:SignerInfo>
</edXML:MessageHeader>
<edXML:TraceHeaderList><edXML:TraceHeader><edXML:OrganId>000.00.01.H09</edXML:OrganId></edXML:TraceHeader></edXML:TraceHeaderList>
</edXML:edXMLHeader>
<edXML:edXMLBody><edXML:edXMLManifest>
  <edXML:Reference><edXML:ContentId>cid:1</edXML:ContentId><edXML:ContentType>application/pdf</edXML:ContentType><edXML:AttachmentName>công văn.pdf</edXML:AttachmentName></edXML:Reference>
  <edXML:Reference><edXML:ContentId>cid:2</edXML:ContentId><edXML:AttachmentName>phụ lục.docx</edXML:AttachmentName></edXML:Reference>
</edXML:edXMLManifest></edXML:edXMLBody></edXML:edXMLEnvelope>{behind}</edXML>"#
    )
}

struct Kept {
    desk: Desk,
    folder: std::path::PathBuf,
}

impl Kept {
    fn new() -> Self {
        let mut desk = Desk::new(json!({"pattern": "*.edxml", "format": "edxml"}));
        let folder = desk.folder().join("kho_tep");
        desk.stream["attachments"] = json!(folder);
        Self { desk, folder }
    }

    /// The one row of a document, by column.
    async fn row(&mut self, bytes: &[u8]) -> std::collections::BTreeMap<String, String> {
        self.desk.put("a.edxml", bytes);
        let mut run = self.desk.run().await;
        let delivery = run.next().await.unwrap();
        let rows = &delivery.batches[0].rows;
        assert_eq!(rows.num_rows(), 1);
        let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        let row = names.into_iter().enumerate().map(|(place, name)| (name, hub_conformance::cell(rows, place, 0))).collect();
        run.shut().await;
        row
    }

    fn content(&self, attachment: &Value) -> Vec<u8> {
        std::fs::read(self.folder.join(attachment["path"].as_str().unwrap())).unwrap()
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_document_is_a_row_and_its_attachments_are_kept_before_it_is_told() {
    let mut kept = Kept::new();
    // As the national exchange sends it: in base64, packed as an archive of one member.
    let packed = STANDARD.encode(archive(&[("3f2a.pdf", b"%PDF-1.7 a")]));
    let (start, end) = packed.split_at(20);
    let text = document(&format!(
        "<AttachmentEncoded><Attachment><ContentId>cid:1</ContentId><edXML:ContentTransferEncoded>{start}\n  {end}</edXML:ContentTransferEncoded></Attachment></AttachmentEncoded>"
    ));
    let row = kept.row(text.as_bytes()).await;
    for (column, value) in [
        ("From_OrganId", "000.00.01.H09"),
        ("To", r#"[{"OrganId":"000.00.15.H09"}]"#),
        ("Code_CodeNumber", "0123"),
        ("Subject", "V/v chuyển đổi số & dữ liệu"),
        ("SignerInfo_FullName", "Nguyễn Thị Ánh"),
        ("TraceHeaderList", r#"[{"OrganId":"000.00.01.H09"}]"#),
        ("DocumentId", "∅"),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    let attachments: Vec<Value> = serde_json::from_str(&row["Attachments"]).unwrap();
    let digest = sha256(b"%PDF-1.7 a");
    let path = format!("{}/{digest}", &digest[..2]);
    assert_eq!(
        attachments,
        [
            json!({"content_id": "1", "name": "công văn.pdf", "content_type": "application/pdf", "size": 10, "sha256": digest, "path": path}),
            json!({"content_id": "2", "name": "phụ lục.docx", "content_type": null, "size": null, "sha256": null, "path": null}),
        ]
    );
    assert_eq!(kept.content(&attachments[0]), b"%PDF-1.7 a");
}

#[tokio::test]
async fn attachments_may_be_members_of_the_same_archive() {
    let mut kept = Kept::new();
    let inner = archive(&[("[Content_Types].xml", b"<x/>"), ("word/document.xml", b"<y/>")]);
    let text = document("");
    let members: [(&str, &[u8]); 4] =
        [("goi/tep/phụ lục.docx", &inner), ("goi/1.edxml", text.as_bytes()), ("goi/tep/công văn.pdf", b"%PDF"), ("goi/thừa.txt", b"x")];
    let row = kept.row(&archive(&members)).await;
    let attachments: Vec<Value> = serde_json::from_str(&row["Attachments"]).unwrap();
    let names: Vec<_> = attachments.iter().map(|one| (one["name"].as_str().unwrap(), one["size"].as_u64().unwrap())).collect();
    assert_eq!(names, [("công văn.pdf", 4), ("phụ lục.docx", inner.len() as u64), ("goi/thừa.txt", 1)]);
    assert_eq!(kept.content(&attachments[1]), inner);
}

#[tokio::test]
async fn a_sample_keeps_nothing_and_what_is_no_document_goes_aside() {
    let kept = Kept::new();
    let text =
        document("<AttachmentEncoded><Attachment><ContentId>cid:1</ContentId><Content>YQ==</Content></Attachment></AttachmentEncoded>");
    kept.desk.put("a.edxml", text);
    let sample = kept.desk.connector().await.sample(&StreamName::new("s").unwrap(), 10).await.unwrap();
    assert_eq!((sample.len(), kept.folder.exists()), (1, false));
    for (text, why) in [
        ("<ds><nguoi/></ds>".to_owned(), "it is no edXML"),
        (
            document("<AttachmentEncoded><Attachment><ContentId>7</ContentId><Content>!</Content></Attachment></AttachmentEncoded>"),
            "attachment 7 is no base64",
        ),
        (document("").replace("</edXML>", ""), "not well-formed XML"),
    ] {
        let mut kept = Kept::new();
        kept.desk.put("a.edxml", text);
        let mut run = kept.desk.run().await;
        while !kept.desk.folder().join("rejected/a.edxml").exists() {
            assert_eq!(kept.desk.take(&mut run).await, Vec::<String>::new());
        }
        assert!(kept.desk.aside("a.edxml.rejected.txt").contains(why), "{}", kept.desk.aside("a.edxml.rejected.txt"));
        run.shut().await;
    }
}
