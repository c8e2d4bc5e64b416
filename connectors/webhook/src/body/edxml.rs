//! Official documents in edXML as bodies, alone or with their attachments as further parts.

use hub_sdk::edxml::{ATTACHMENTS, Attachment, Document, NO_EDXML};
use serde_json::Value;

use super::multipart::{self, Part};
use crate::answer::{Refusal, sha256};
use crate::attachments::Content;
use crate::rows::Builder;

/// An attachment that came with the document.
type Attached = (Attachment, Vec<u8>);

/// Reads one document, alone or as the first part of a multipart body.
pub(super) fn read(media_type: &str, body: &[u8], builder: &mut Builder<'_>, contents: &mut Vec<Content>) -> Result<(), Refusal> {
    if !super::essence(media_type).starts_with("multipart/") {
        return document(super::text(body)?, Vec::new(), builder, contents);
    }
    let mut parts = multipart::parts(media_type, body).map_err(Refusal::bad)?;
    let start = super::parameter(media_type, "start").map(|id| id.trim_start_matches('<').trim_end_matches('>'));
    let is_document = |part: &Part<'_>| match start {
        Some(start) => part.id == start,
        None => super::essence(&part.media_type).ends_with("xml") || part.content.trim_ascii_start().starts_with(b"<"),
    };
    let place = parts.iter().position(is_document).ok_or_else(|| Refusal::bad("no part of the body is the document"))?;
    let root = parts.remove(place);
    let attached = parts.into_iter().map(|part| {
        let media_type = Some(part.media_type).filter(|kind| !kind.is_empty());
        (Attachment { id: part.id, name: part.file, media_type }, part.content.into_owned())
    });
    document(super::text(&root.content)?, attached.collect(), builder, contents)
}

fn document(text: &str, mut attached: Vec<Attached>, builder: &mut Builder<'_>, contents: &mut Vec<Content>) -> Result<(), Refusal> {
    let document = Document::read(text).map_err(super::refused)?;
    let Document { mut fields, references, encoded } = document.ok_or_else(|| Refusal::bad(format!("this is no edXML: {NO_EDXML}")))?;
    for (one, letters) in encoded {
        let content = multipart::unpack(letters.as_bytes()).map_err(|why| Refusal::bad(format!("attachment {}: {why}", one.id)))?;
        attached.push((one, content));
    }
    fields.push((ATTACHMENTS.to_owned(), Some(Value::Array(told(references, attached, contents)).to_string())));
    builder.push(&fields);
    Ok(())
}

/// Every reference of the manifest with its content, and what came without a reference.
fn told(references: Vec<Attachment>, attached: Vec<Attached>, contents: &mut Vec<Content>) -> Vec<Value> {
    let mut attached: Vec<Option<Attached>> = attached.into_iter().map(Some).collect();
    let mut told = Vec::new();
    for reference in references {
        let is_meant = |one: &&mut Option<Attached>| one.as_ref().is_some_and(|(one, _)| one.id.trim_start_matches("cid:") == reference.id);
        match attached.iter_mut().find(is_meant).and_then(Option::take) {
            Some((one, content)) => {
                let (name, media_type) = (reference.name.or(one.name), reference.media_type.or(one.media_type));
                told.push(kept(&Attachment { id: reference.id, name, media_type }, content, contents));
            }
            None => told.push(reference.missing()),
        }
    }
    for (one, content) in attached.into_iter().flatten() {
        let id = one.id.trim_start_matches("cid:").to_owned();
        told.push(kept(&Attachment { id, ..one }, content, contents));
    }
    told
}

fn kept(attachment: &Attachment, bytes: Vec<u8>, contents: &mut Vec<Content>) -> Value {
    let sha256 = sha256(&[&bytes]);
    let told = attachment.told(bytes.len(), &sha256);
    contents.push(Content { sha256, bytes });
    told
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::super::tests::{cells, read};
    use super::*;

    const HEADER: &str = r#"<e:edXMLHeader><e:MessageHeader>
        <e:From><e:OrganId>000.00.01.H09</e:OrganId><e:OrganName>Sở Nội vụ</e:OrganName></e:From>
        <e:To><e:OrganId>000.00.02.H09</e:OrganId></e:To>
        <e:Code><e:CodeNumber>12</e:CodeNumber><e:CodeNotation>UBND-VP</e:CodeNotation></e:Code>
        <e:Subject>V/v báo cáo</e:Subject></e:MessageHeader>
        <e:TraceHeaderList><e:TraceHeader><e:OrganId>000.00.01.H09</e:OrganId></e:TraceHeader></e:TraceHeaderList></e:edXMLHeader>
        <e:edXMLBody><e:edXMLManifest><e:Reference><e:ContentId>cid:1@a</e:ContentId><e:ContentType>application/pdf</e:ContentType>
        <e:AttachmentName>công văn.pdf</e:AttachmentName></e:Reference></e:edXMLManifest></e:edXMLBody>"#;
    const NAMESPACE: &str = r#"xmlns:e="http://www.mic.gov.vn/TBT/QCVN_102_2016""#;

    fn value(parsed: &super::super::Parsed, name: &str) -> Value {
        let row = cells(parsed).remove(0);
        let text = row.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.clone()).unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    fn check(parsed: &super::super::Parsed) {
        assert_eq!(value(parsed, "From_OrganId"), "000.00.01.H09");
        assert_eq!(value(parsed, "Code_CodeNotation"), "UBND-VP");
        assert_eq!(value(parsed, "To"), json!([{"OrganId": "000.00.02.H09"}]));
        assert_eq!(value(parsed, "TraceHeaderList"), json!([{"OrganId": "000.00.01.H09"}]));
        let sha256 = sha256(&[b"%PDF"]);
        let path = format!("{}/{sha256}", &sha256[..2]);
        let expected = json!([{"content_id": "1@a", "name": "công văn.pdf", "content_type": "application/pdf", "size": 4,
                               "sha256": sha256, "path": path}]);
        assert_eq!(value(parsed, "Attachments"), expected);
        assert_eq!(parsed.contents.len(), 1);
    }

    #[test]
    fn a_document_with_its_attachment_as_a_part_or_in_base64_is_the_same_row() {
        let multipart = format!(
            "--x\r\nContent-Type: text/xml\r\n\r\n<e:edXMLEnvelope {NAMESPACE}>{HEADER}</e:edXMLEnvelope>\r\n--x\r\n\
             Content-ID: <1@a>\r\n\r\n%PDF\r\n--x--"
        );
        let kind = ("content-type", "multipart/related; boundary=x");
        check(&read(json!({"format": "edxml"}), &[kind], multipart.as_bytes()).unwrap());
        let inline = format!(
            "<e:edXML {NAMESPACE}><e:edXMLEnvelope>{HEADER}</e:edXMLEnvelope><e:edXMLAttachmentEncoded><e:edXMLAttachment>\
             <e:ContentId>cid:1@a</e:ContentId><e:ContentTransferEncoded>JVBE\nRg==</e:ContentTransferEncoded>\
             </e:edXMLAttachment></e:edXMLAttachmentEncoded></e:edXML>"
        );
        check(&read(json!({"format": "edxml"}), &[("content-type", "text/xml")], inline.as_bytes()).unwrap());
    }

    #[test]
    fn a_reference_without_content_is_told_as_such_and_what_is_no_edxml_is_refused() {
        let alone = format!("<e:edXMLEnvelope {NAMESPACE}>{HEADER}</e:edXMLEnvelope>");
        let parsed = read(json!({"format": "edxml"}), &[], alone.as_bytes()).unwrap();
        assert_eq!(value(&parsed, "Attachments")[0]["sha256"], Value::Null);
        assert!(parsed.contents.is_empty());
        let refusal = read(json!({"format": "edxml"}), &[], b"<html/>").unwrap_err();
        assert!(refusal.message.contains("no edXML"), "{}", refusal.message);
    }
}
