//! Official documents in edXML as files, alone or in an archive with their attachments.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hub_sdk::edxml::{ATTACHMENTS, Attachment, Document, NO_EDXML, keep};
use hub_sdk::records::Fields;
use serde_json::Value;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::digests::hex;
use crate::reading::Manner;
use crate::rows::{Bad, Trouble, document};
use crate::text::{content, open};

/// An attachment that came with the document.
type Attached = (Attachment, Vec<u8>);

/// Reads the document of a file. Its attachments are on the disk, under their digests, when it returns.
pub(crate) fn read(file: File, manner: &Manner) -> Result<Fields, Trouble> {
    let (text, members) = opened(file, manner)?;
    let Document { mut fields, references, encoded } = Document::read(&text)?.ok_or_else(|| bad(format!("it is no edXML: {NO_EDXML}")))?;
    let mut attached = Vec::new();
    for (one, letters) in encoded {
        let letters: Vec<u8> = letters.bytes().filter(|letter| !letter.is_ascii_whitespace()).collect();
        let bytes = STANDARD.decode(letters).map_err(|error| bad(format!("attachment {} is no base64: {error}", one.id)))?;
        let content = unwrapped(bytes, one.name.as_deref().unwrap_or_default(), manner)?;
        attached.push((one, content));
    }
    attached.extend(members);
    fields.push((ATTACHMENTS.to_owned(), Some(Value::Array(told(references, attached, manner)?).to_string())));
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
            members.push((Attachment { name: Some(path), ..Attachment::default() }, bytes));
        }
    }
    let text = text.ok_or_else(|| bad("the archive has no member that ends in .edxml or .xml"))?;
    Ok((text, members))
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
fn told(references: Vec<Attachment>, attached: Vec<Attached>, manner: &Manner) -> Result<Vec<Value>, Trouble> {
    let mut attached: Vec<Option<Attached>> = attached.into_iter().map(Some).collect();
    let mut told = Vec::new();
    for reference in references {
        let mut of_id = |test: &dyn Fn(&Attachment) -> bool| {
            let meant = attached.iter_mut().find(|one| one.as_ref().is_some_and(|(one, _)| test(one)));
            meant.and_then(Option::take)
        };
        let Attachment { id, name, .. } = &reference;
        let by_id = of_id(&|one| !one.id.is_empty() && one.id.trim_start_matches("cid:") == id);
        // A member of the archive has nothing but its name.
        let by_name = |one: &Attachment| one.id.is_empty() && (name.as_deref() == Some(file(one)) || (!id.is_empty() && file(one) == id));
        match by_id.or_else(|| of_id(&by_name)) {
            Some((one, bytes)) => {
                let name = reference.name.or(Some(file(&one).to_owned())).filter(|name| !name.is_empty());
                let media_type = reference.media_type.or(one.media_type);
                told.push(kept(&Attachment { id: reference.id, name, media_type }, &bytes, manner)?);
            }
            None => told.push(reference.missing()),
        }
    }
    for (one, bytes) in attached.into_iter().flatten() {
        let id = one.id.trim_start_matches("cid:").to_owned();
        told.push(kept(&Attachment { id, ..one }, &bytes, manner)?);
    }
    Ok(told)
}

/// The name of an attachment's file without its folders.
fn file(attachment: &Attachment) -> &str {
    attachment.name.as_deref().and_then(|name| name.rsplit('/').next()).unwrap_or_default()
}

/// Keeps an attachment under its digest; how it is told.
fn kept(attachment: &Attachment, bytes: &[u8], manner: &Manner) -> Result<Value, Trouble> {
    let sha256 = hex(Sha256::new_with_prefix(bytes));
    if let Some(folder) = manner.stream.attachments.as_ref().filter(|_| manner.keeps) {
        let unkept =
            |error| Trouble::Io(io::Error::new(io::Error::kind(&error), format!("keeping attachments in {}: {error}", folder.display())));
        keep(folder, &sha256, bytes).map_err(unkept)?;
    }
    Ok(attachment.told(bytes.len(), &sha256))
}

fn bad(why: impl Into<String>) -> Trouble {
    Trouble::Bad(Bad::whole(why))
}

fn too_large(manner: &Manner) -> Trouble {
    bad(format!("it is larger than document_mib, {} MiB, when it is unpacked; raise it", manner.document_mib))
}
