//! Official documents in edXML (QCVN 102:2016/BTTTT): the header as columns, attachments as references to what is kept apart.

use hub_sdk::records::{DocumentError, Fields, xml_rows};
use serde_json::{Map, Value, json};

use super::multipart::{self, Part};
use crate::answer::{Refusal, sha256};
use crate::attachments::{Content, path_of};
use crate::rows::Builder;

/// Columns that come first; other elements of the header come behind them.
pub(super) const COLUMNS: &[&str] = &[
    "DocumentId",
    "From_OrganId",
    "From_OrganizationInCharge",
    "From_OrganName",
    "To",
    "Code_CodeNumber",
    "Code_CodeNotation",
    "PromulgationInfo_Place",
    "PromulgationInfo_PromulgationDate",
    "DocumentType_Type",
    "DocumentType_TypeName",
    "Subject",
    "Content",
    "TraceHeaderList",
    "Attachments",
];
/// Where an envelope is.
const ENVELOPES: [&str; 2] = ["/edXML/edXMLEnvelope", "/edXMLEnvelope"];
/// Where attachments are that stand in the document itself.
const ENCODED: [&str; 4] = [
    "/edXML/edXMLAttachmentEncoded/edXMLAttachment",
    "/edXML/AttachmentEncoded/Attachment",
    "/edXMLEnvelope/edXMLAttachmentEncoded/edXMLAttachment",
    "/edXMLEnvelope/AttachmentEncoded/Attachment",
];

/// An attachment that came with the document.
struct Attached {
    id: String,
    name: Option<String>,
    media_type: Option<String>,
    content: Vec<u8>,
}

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
    let attached = parts.into_iter().map(|part| Attached {
        id: part.id,
        name: part.file,
        media_type: Some(part.media_type).filter(|kind| !kind.is_empty()),
        content: part.content.into_owned(),
    });
    document(super::text(&root.content)?, attached.collect(), builder, contents)
}

fn document(text: &str, attached: Vec<Attached>, builder: &mut Builder<'_>, contents: &mut Vec<Content>) -> Result<(), Refusal> {
    let mut fields = Fields::new();
    let mut envelope = "";
    for path in ENVELOPES {
        let rows = rows(text, &format!("{path}/edXMLHeader/MessageHeader"))?;
        if let Some(header) = rows.into_iter().next() {
            (fields, envelope) = (header, path);
            break;
        }
    }
    if envelope.is_empty() {
        return Err(Refusal::bad("this is no edXML: there is no edXMLEnvelope with an edXMLHeader and its MessageHeader"));
    }
    // One receiver or many, one step of the way or many: always a list, so that the columns stay the same.
    fields.retain(|(name, _)| name != "To" && !name.starts_with("To_") && !name.starts_with("TraceHeaderList"));
    fields.push(("To".to_owned(), Some(list(rows(text, &format!("{envelope}/edXMLHeader/MessageHeader/To"))?))));
    for parent in ["edXMLHeader", "edXMLHeader/MessageHeader"] {
        let trace = rows(text, &format!("{envelope}/{parent}/TraceHeaderList/TraceHeader"))?;
        if !trace.is_empty() {
            fields.push(("TraceHeaderList".to_owned(), Some(list(trace))));
            break;
        }
    }
    let references = rows(text, &format!("{envelope}/edXMLBody/edXMLManifest/Reference"))?;
    let attachments = references_of(references, with_encoded(text, attached)?, contents);
    fields.push(("Attachments".to_owned(), Some(Value::Array(attachments).to_string())));
    builder.push(&fields);
    Ok(())
}

/// The attachments that came as parts, and those in the document itself.
fn with_encoded(text: &str, mut attached: Vec<Attached>) -> Result<Vec<Attached>, Refusal> {
    for path in ENCODED {
        for row in rows(text, path)? {
            let id = field(&row, &["ContentId"]).unwrap_or_default().to_owned();
            let Some(content) = field(&row, &["ContentTransferEncoded", "Content"]) else { continue };
            let content = multipart::unpack(content.as_bytes()).map_err(|why| Refusal::bad(format!("attachment {id}: {why}")))?;
            let own = |names| field(&row, names).map(str::to_owned);
            attached.push(Attached { id, name: own(&["AttachmentName", "ContentName"]), media_type: own(&["ContentType"]), content });
        }
    }
    Ok(attached)
}

/// Every reference of the manifest with its content, and what came without a reference.
fn references_of(references: Vec<Fields>, attached: Vec<Attached>, contents: &mut Vec<Content>) -> Vec<Value> {
    let mut attached: Vec<Option<Attached>> = attached.into_iter().map(Some).collect();
    let mut told = Vec::new();
    for reference in references {
        let id = field(&reference, &["ContentId", "href"]).unwrap_or_default().trim_start_matches("cid:").to_owned();
        let name = field(&reference, &["AttachmentName", "ContentName", "Description"]).map(str::to_owned);
        let media_type = field(&reference, &["ContentType"]).map(str::to_owned);
        let is_meant = |one: &&mut Option<Attached>| one.as_ref().is_some_and(|one| one.id.trim_start_matches("cid:") == id);
        match attached.iter_mut().find(is_meant).and_then(Option::take) {
            Some(one) => {
                let (name, media_type) = (name.or_else(|| one.name.clone()), media_type.or_else(|| one.media_type.clone()));
                told.push(kept(&id, name, media_type, one.content, contents));
            }
            // It may come another way; nothing of what was sent is lost.
            None => {
                told.push(json!({"content_id": id, "name": name, "content_type": media_type, "size": null, "sha256": null, "path": null}))
            }
        }
    }
    for one in attached.into_iter().flatten() {
        told.push(kept(one.id.trim_start_matches("cid:"), one.name, one.media_type, one.content, contents));
    }
    told
}

fn kept(id: &str, name: Option<String>, media_type: Option<String>, content: Vec<u8>, contents: &mut Vec<Content>) -> Value {
    let sha256 = sha256(&[&content]);
    let told = json!({
        "content_id": id, "name": name, "content_type": media_type, "size": content.len(), "sha256": sha256, "path": path_of(&sha256),
    });
    contents.push(Content { sha256, bytes: content });
    told
}

/// The elements at a path; none where the way to it is not there.
fn rows(text: &str, path: &str) -> Result<Vec<Fields>, Refusal> {
    let mut rows = Vec::new();
    match xml_rows(text, path, |fields| rows.push(fields)) {
        Ok(()) | Err(DocumentError::NoRows { .. }) => Ok(rows),
        Err(error) => Err(super::refused(error)),
    }
}

fn list(rows: Vec<Fields>) -> String {
    let object = |fields: Fields| Value::Object(fields.into_iter().map(|(name, value)| (name, value.into())).collect::<Map<_, _>>());
    Value::Array(rows.into_iter().map(object).collect()).to_string()
}

fn field<'a>(fields: &'a Fields, names: &[&str]) -> Option<&'a str> {
    let named = names.iter().find_map(|wanted| fields.iter().find(|(name, _)| name == wanted));
    named.and_then(|(_, value)| value.as_deref()).filter(|value| !value.is_empty())
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
