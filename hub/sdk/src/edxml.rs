//! Official documents in edXML (QCVN 102:2016/BTTTT): the header as columns, attachments as references to what is kept apart.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use crate::records::{DocumentError, Fields, xml_rows};

/// Columns that come first, in each document; other elements of the header come behind them.
pub const COLUMNS: [&str; 15] = [
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
/// The last of [`COLUMNS`]: a JSON list of what [`Attachment::told`] and [`Attachment::missing`] say.
pub const ATTACHMENTS: &str = "Attachments";
/// What a text is told that is no document.
pub const NO_EDXML: &str = "there is no edXMLEnvelope with an edXMLHeader and its MessageHeader";
/// Where an envelope is.
const ENVELOPES: [&str; 2] = ["/edXML/edXMLEnvelope", "/edXMLEnvelope"];
/// Where attachments are that stand in the document itself.
const ENCODED: [&str; 4] = [
    "/edXML/AttachmentEncoded/Attachment",
    "/edXML/edXMLAttachmentEncoded/edXMLAttachment",
    "/edXMLEnvelope/AttachmentEncoded/Attachment",
    "/edXMLEnvelope/edXMLAttachmentEncoded/edXMLAttachment",
];

/// A document without the contents of its attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its columns but [`ATTACHMENTS`].
    pub fields: Fields,
    /// The attachments that its manifest names.
    pub references: Vec<Attachment>,
    /// The attachments that stand in it, each with its letters of base64 as they are there.
    pub encoded: Vec<(Attachment, String)>,
}

/// What is said of an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Its content id, without `cid:` where a manifest names it.
    pub id: String,
    /// The name of its file.
    pub name: Option<String>,
    /// Its media type.
    pub media_type: Option<String>,
}

impl Document {
    /// Reads a document; `None` where there is no envelope with its header.
    ///
    /// # Errors
    /// It is no XML, or larger than a document may be.
    pub fn read(text: &str) -> Result<Option<Self>, DocumentError> {
        for envelope in ENVELOPES {
            if let Some(header) = rows(text, &format!("{envelope}/edXMLHeader/MessageHeader"))?.into_iter().next() {
                return Self::of(text, envelope, header).map(Some);
            }
        }
        Ok(None)
    }

    fn of(text: &str, envelope: &str, mut fields: Fields) -> Result<Self, DocumentError> {
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
        Ok(Self { fields, references: references.iter().map(Attachment::referenced).collect(), encoded: encoded(text)? })
    }
}

impl Attachment {
    fn referenced(row: &Fields) -> Self {
        Self {
            id: field(row, &["ContentId", "href"]).unwrap_or_default().trim_start_matches("cid:").to_owned(),
            name: field(row, &["AttachmentName", "ContentName", "Description"]).map(str::to_owned),
            media_type: field(row, &["ContentType"]).map(str::to_owned),
        }
    }

    /// How it is told when its content is kept.
    #[must_use]
    pub fn told(&self, size: usize, sha256: &str) -> Value {
        json!({
            "content_id": self.id, "name": self.name, "content_type": self.media_type, "size": size, "sha256": sha256, "path": path_of(sha256),
        })
    }

    /// How it is told when its content did not come: it may come another way, and nothing of what was sent is lost.
    #[must_use]
    pub fn missing(&self) -> Value {
        json!({"content_id": self.id, "name": self.name, "content_type": self.media_type, "size": null, "sha256": null, "path": null})
    }
}

/// Where a content is in the folder of attachments, by its SHA-256 in hexadecimal.
#[must_use]
pub fn path_of(sha256: &str) -> String {
    format!("{}/{sha256}", sha256.get(..2).unwrap_or_default())
}

/// Keeps a content in a folder under its digest; what is there already is not written again.
///
/// # Errors
/// What the disk says; nothing half-written stands under a content's name then.
pub fn keep(folder: &Path, sha256: &str, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(path_of(sha256));
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

fn encoded(text: &str) -> Result<Vec<(Attachment, String)>, DocumentError> {
    let mut found = Vec::new();
    for path in ENCODED {
        for row in rows(text, path)? {
            let Some(letters) = field(&row, &["ContentTransferEncoded", "Content"]) else { continue };
            let attachment = Attachment {
                id: field(&row, &["ContentId"]).unwrap_or_default().to_owned(),
                name: field(&row, &["AttachmentName", "ContentName"]).map(str::to_owned),
                media_type: field(&row, &["ContentType"]).map(str::to_owned),
            };
            found.push((attachment, letters.to_owned()));
        }
    }
    Ok(found)
}

/// The elements at a path; none where the way to it is not there.
fn rows(text: &str, path: &str) -> Result<Vec<Fields>, DocumentError> {
    let mut rows = Vec::new();
    match xml_rows(text, path, |fields| rows.push(fields)) {
        Ok(()) | Err(DocumentError::NoRows { .. }) => Ok(rows),
        Err(error) => Err(error),
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
