//! Official documents in edXML (QCVN 102:2016/BTTTT): one row for each, its attachments by reference to what is kept apart.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hub_sdk::records::{DocumentError, Fields, xml_rows};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::digests::hex;
use crate::reading::Manner;
use crate::rows::{Bad, Trouble, document};
use crate::text::{content, open};

/// Columns that come first, in each document; other elements of the header come behind them.
pub(crate) const COLUMNS: [&str; 15] = [
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
    "/edXML/AttachmentEncoded/Attachment",
    "/edXML/edXMLAttachmentEncoded/edXMLAttachment",
    "/edXMLEnvelope/AttachmentEncoded/Attachment",
    "/edXMLEnvelope/edXMLAttachmentEncoded/edXMLAttachment",
];

/// An attachment that came with the document.
#[derive(Debug, Default)]
struct Attached {
    id: String,
    name: String,
    media_type: Option<String>,
    content: Vec<u8>,
}

/// Reads the document of a file. Its attachments are on the disk, under their digests, when it returns.
pub(crate) fn read(file: File, manner: &Manner) -> Result<Fields, Trouble> {
    let (text, members) = opened(file, manner)?;
    let header = |path: &&str| Ok::<_, Trouble>(rows(&text, &format!("{path}/edXMLHeader/MessageHeader"))?.into_iter().next());
    let mut found = None;
    for envelope in ENVELOPES {
        if let Some(fields) = header(&envelope)? {
            found = Some((envelope, fields));
            break;
        }
    }
    let Some((envelope, mut fields)) = found else {
        return Err(bad("it is no edXML: there is no edXMLEnvelope with an edXMLHeader and its MessageHeader"));
    };
    // One receiver or many, one step of the way or many: always a list, so that the columns stay the same.
    fields.retain(|(name, _)| name != "To" && !name.starts_with("To_") && !name.starts_with("TraceHeaderList"));
    fields.push(("To".to_owned(), Some(list(rows(&text, &format!("{envelope}/edXMLHeader/MessageHeader/To"))?))));
    for parent in ["edXMLHeader", "edXMLHeader/MessageHeader"] {
        let trace = rows(&text, &format!("{envelope}/{parent}/TraceHeaderList/TraceHeader"))?;
        if !trace.is_empty() {
            fields.push(("TraceHeaderList".to_owned(), Some(list(trace))));
            break;
        }
    }
    let references = rows(&text, &format!("{envelope}/edXMLBody/edXMLManifest/Reference"))?;
    let told = referenced(references, encoded(&text, manner)?, members, manner)?;
    fields.push(("Attachments".to_owned(), Some(Value::Array(told).to_string())));
    Ok(fields)
}

/// The document, and the other members of the archive that it lies in.
fn opened(mut file: File, manner: &Manner) -> Result<(String, Vec<Attached>), Trouble> {
    let mut first = Vec::with_capacity(2);
    Read::by_ref(&mut file).take(2).read_to_end(&mut first).map_err(Trouble::Io)?;
    file.seek(SeekFrom::Start(0)).map_err(Trouble::Io)?;
    if first != b"PK" {
        let text = open(file, manner.stream.format, manner.stream.encoding).map_err(Trouble::opening)?;
        return Ok((document(text, manner.document_mib)?, Vec::new()));
    }
    let archived = |error: &dyn std::fmt::Display| Trouble::opening(content(format!("the archive cannot be read: {error}")));
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| archived(&error))?;
    let (mut text, mut members, mut left) = (None, Vec::new(), manner.document_mib << 20);
    for place in 0..archive.len() {
        let member = archive.by_index(place).map_err(|error| archived(&error))?;
        let path = member.name().map_err(|error| archived(&error))?.to_string();
        if !member.is_file() || path.starts_with("__MACOSX/") {
            continue;
        }
        let mut bytes = Vec::new();
        member.take(left + 1).read_to_end(&mut bytes).map_err(|error| archived(&error))?;
        left = left.checked_sub(bytes.len() as u64).ok_or_else(|| too_large(manner))?;
        let is_document = path.to_lowercase().ends_with(".edxml") || path.to_lowercase().ends_with(".xml");
        if is_document && text.is_none() {
            let read = String::from_utf8(bytes).map_err(|error| bad(format!("the document is no UTF-8: {}", error.utf8_error())))?;
            text = Some(read);
        } else {
            members.push(Attached { name: path, content: bytes, ..Attached::default() });
        }
    }
    let text = text.ok_or_else(|| bad("the archive has no member that ends in .edxml or .xml"))?;
    Ok((text, members))
}

/// The attachments that stand in the document itself.
fn encoded(text: &str, manner: &Manner) -> Result<Vec<Attached>, Trouble> {
    let mut attached = Vec::new();
    for path in ENCODED {
        for row in rows(text, path)? {
            let id = field(&row, &["ContentId"]).unwrap_or_default().to_owned();
            let Some(letters) = field(&row, &["ContentTransferEncoded", "Content"]) else { continue };
            let letters: Vec<u8> = letters.bytes().filter(|letter| !letter.is_ascii_whitespace()).collect();
            let bytes = STANDARD.decode(letters).map_err(|error| bad(format!("attachment {id} is no base64: {error}")))?;
            let name = field(&row, &["AttachmentName", "ContentName"]).unwrap_or_default().to_owned();
            let content = unwrapped(bytes, &name, manner)?;
            attached.push(Attached { id, name, media_type: field(&row, &["ContentType"]).map(str::to_owned), content });
        }
    }
    Ok(attached)
}

/// The exchange of documents sends each attachment as an archive of one member, whose name means nothing: that member.
fn unwrapped(bytes: Vec<u8>, name: &str, manner: &Manner) -> Result<Vec<u8>, Trouble> {
    if !bytes.starts_with(b"PK\x03\x04") || name.to_lowercase().ends_with(".zip") {
        return Ok(bytes);
    }
    let Ok(mut archive) = ZipArchive::new(Cursor::new(&bytes)) else { return Ok(bytes) };
    if archive.len() != 1 {
        return Ok(bytes);
    }
    let (limit, mut inner) = (manner.document_mib << 20, Vec::new());
    let read = archive.by_index(0).map_err(io::Error::other).and_then(|member| member.take(limit + 1).read_to_end(&mut inner));
    read.map_err(|error| bad(format!("attachment {name} cannot be unpacked: {error}")))?;
    if inner.len() as u64 > limit {
        return Err(too_large(manner));
    }
    Ok(inner)
}

/// Every reference of the manifest with its content, and what came without a reference.
fn referenced(references: Vec<Fields>, attached: Vec<Attached>, members: Vec<Attached>, manner: &Manner) -> Result<Vec<Value>, Trouble> {
    let mut attached: Vec<Option<Attached>> = attached.into_iter().chain(members).map(Some).collect();
    let mut told = Vec::new();
    for reference in references {
        let id = field(&reference, &["ContentId", "href"]).unwrap_or_default().trim_start_matches("cid:").to_owned();
        let name = field(&reference, &["AttachmentName", "ContentName", "Description"]).map(str::to_owned);
        let media_type = field(&reference, &["ContentType"]).map(str::to_owned);
        let mut of_id =
            |test: &dyn Fn(&Attached) -> bool| attached.iter_mut().find(|one| one.as_ref().is_some_and(test)).and_then(Option::take);
        let by_id = of_id(&|one| !one.id.is_empty() && one.id.trim_start_matches("cid:") == id);
        let file = |one: &Attached| one.name.rsplit('/').next().unwrap_or_default().to_owned();
        // A member of the archive has nothing but its name.
        let by_name = |one: &Attached| one.id.is_empty() && (name.as_ref() == Some(&file(one)) || (!id.is_empty() && file(one) == id));
        match by_id.or_else(|| of_id(&by_name)) {
            Some(one) => {
                let name = name.or(Some(file(&one))).filter(|name| !name.is_empty());
                told.push(kept(&id, name, media_type.or(one.media_type), &one.content, manner)?);
            }
            // It may come another way; nothing of what was sent is lost.
            None => {
                told.push(json!({"content_id": id, "name": name, "content_type": media_type, "size": null, "sha256": null, "path": null}));
            }
        }
    }
    for one in attached.into_iter().flatten() {
        let name = Some(one.name).filter(|name| !name.is_empty());
        told.push(kept(one.id.trim_start_matches("cid:"), name, one.media_type, &one.content, manner)?);
    }
    Ok(told)
}

/// Keeps an attachment under its digest; how it is told.
fn kept(id: &str, name: Option<String>, media_type: Option<String>, bytes: &[u8], manner: &Manner) -> Result<Value, Trouble> {
    let sha256 = hex(Sha256::new_with_prefix(bytes));
    let path = format!("{}/{sha256}", sha256.get(..2).unwrap_or_default());
    if let Some(folder) = manner.stream.attachments.as_ref().filter(|_| manner.keeps) {
        let unkept =
            |error| Trouble::Io(io::Error::new(io::Error::kind(&error), format!("keeping attachments in {}: {error}", folder.display())));
        keep(folder, &path, bytes).map_err(unkept)?;
    }
    Ok(json!({"content_id": id, "name": name, "content_type": media_type, "size": bytes.len(), "sha256": sha256, "path": path}))
}

/// Writes a content unless it is there. Nothing half-written ever stands under a content's name.
fn keep(folder: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(path);
    if fs::metadata(&path).is_ok_and(|there| there.len() == bytes.len() as u64) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let unfinished = parent.join(format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&unfinished, &path)) {
        let _never_there = fs::remove_file(&unfinished);
        return Err(error);
    }
    // A name is durable when its folder is; a new folder when the one above is.
    File::open(parent)?.sync_all()?;
    File::open(folder)?.sync_all()
}

/// The elements at a path; none where the way to it is not there.
fn rows(text: &str, path: &str) -> Result<Vec<Fields>, Trouble> {
    let mut rows = Vec::new();
    match xml_rows(text, path, |fields| rows.push(fields)) {
        Ok(()) | Err(DocumentError::NoRows { .. }) => Ok(rows),
        Err(error) => Err(error.into()),
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

fn bad(why: impl Into<String>) -> Trouble {
    Trouble::Bad(Bad::whole(why))
}

fn too_large(manner: &Manner) -> Trouble {
    bad(format!("it is larger than document_mib, {} MiB, when it is unpacked; raise it", manner.document_mib))
}
