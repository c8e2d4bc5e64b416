//! From the bytes of a file to its text as UTF-8: unpacked, decoded, without a byte order mark.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use encoding_rs::{Decoder, UTF_16BE, UTF_16LE, WINDOWS_1258};
use flate2::CrcReader;
use flate2::read::{DeflateDecoder, MultiGzDecoder};
use zip::{CompressionMethod, ZipArchive};

use crate::config::{Encoding, Format};

/// Bytes of text, as they come.
pub(crate) type Text = Box<dyn Read + Send>;

/// Opens a file's text. What is wrong with its content is an error of kind [`io::ErrorKind::InvalidData`].
pub(crate) fn open(mut file: File, format: Format, encoding: Encoding) -> io::Result<Text> {
    let mut first = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(0))?;
    let bytes: Text = match first.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(BufReader::with_capacity(128 << 10, file))),
        [b'P', b'K', 3 | 5, 4 | 6] => member(file, format)?,
        _ => Box::new(file),
    };
    decoded(bytes, encoding)
}

/// A file that is no text, unpacked where it is packed: by gzip, or as a member of an archive that is not itself of the format.
pub(crate) fn unpacked(mut file: File, format: Format, document_mib: u64, spool: &Path) -> io::Result<File> {
    let mut first = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(0))?;
    let bytes: Text = match first.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(BufReader::with_capacity(128 << 10, file))),
        [b'P', b'K', 3 | 5, 4 | 6] if !is_workbook(&file)? => member(file, format)?,
        _ => {
            file.seek(SeekFrom::Start(0))?;
            return Ok(file);
        }
    };
    let (limit, mut plain) = (document_mib << 20, nameless(spool)?);
    if io::copy(&mut bytes.take(limit + 1), &mut plain)? > limit {
        return Err(content(format!("it is larger than document_mib, {document_mib} MiB, when it is unpacked; raise it")));
    }
    plain.seek(SeekFrom::Start(0))?;
    Ok(plain)
}

/// Whether an archive is what Excel writes.
fn is_workbook(file: &File) -> io::Result<bool> {
    let archive = ZipArchive::new(BufReader::new(file.try_clone()?)).map_err(unopened)?;
    Ok(archive.index_for_name("[Content_Types].xml").is_some())
}

/// A file without a name, gone when it is closed. Only the hub's user may read it.
pub(crate) fn nameless(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("hub-files-{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = folder.join(name);
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Whether a file is packed: it cannot grow then.
pub(crate) fn is_packed(first: &[u8]) -> bool {
    first.starts_with(&[0x1f, 0x8b]) || first.starts_with(b"PK")
}

/// The first fitting member of a zip archive: one with an ending of the format, else the only one.
fn member(mut file: File, format: Format) -> io::Result<Text> {
    let mut archive = ZipArchive::new(BufReader::new(file.try_clone()?)).map_err(unopened)?;
    let mut names = Vec::new();
    for place in 0..archive.len() {
        let member = archive.by_index_raw(place).map_err(content)?;
        let name = member.name().map_err(content)?.to_lowercase();
        if member.is_file() && !name.starts_with("__macosx/") {
            names.push((place, name));
        }
    }
    let fits = |name: &str| format.endings().iter().any(|ending| name.ends_with(ending));
    let chosen = names.iter().find(|(_, name)| fits(name)).or(if names.len() == 1 { names.first() } else { None });
    let Some((place, _)) = chosen else {
        return Err(content(format!("the archive has no member that ends in {}", format.endings().join(" or "))));
    };
    let member = archive.by_index_raw(*place).map_err(content)?;
    if member.encrypted() {
        return Err(content("the archive is encrypted"));
    }
    let start = member.data_start().ok_or_else(|| content("the archive does not say where its member begins"))?;
    let (size, sum, method) = (member.compressed_size(), member.crc32(), member.compression());
    drop(member);
    // The archive's own reader borrows the archive; ours goes along with the file.
    file.seek(SeekFrom::Start(start))?;
    let packed = BufReader::with_capacity(128 << 10, file.take(size));
    match method {
        CompressionMethod::Stored => Ok(Box::new(Summed { inner: CrcReader::new(packed), sum })),
        CompressionMethod::Deflated => Ok(Box::new(Summed { inner: CrcReader::new(DeflateDecoder::new(packed)), sum })),
        other => {
            Err(content(format!("the archive's member is packed by {other}, which is not read; pack it as zip programs do by themselves")))
        }
    }
}

/// Refuses a member at its end whose check sum is another one.
struct Summed<R> {
    inner: CrcReader<R>,
    sum: u32,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() && self.inner.crc().sum() != self.sum {
            return Err(content("the check sum of the archive's member is wrong"));
        }
        Ok(count)
    }
}

/// An error of a file's content.
pub(crate) fn content(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn unopened(error: zip::result::ZipError) -> io::Error {
    content(format!("the archive cannot be opened: {error}"))
}

/// Text as UTF-8. UTF-8 itself passes unchanged: what is wrong in it costs a row and not the file.
fn decoded(mut bytes: Text, encoding: Encoding) -> io::Result<Text> {
    let mut first = Vec::with_capacity(3);
    bytes.by_ref().take(3).read_to_end(&mut first)?;
    let decoder = match (encoding, first.as_slice()) {
        (Encoding::Utf8, [0xef, 0xbb, 0xbf]) => return Ok(bytes),
        (Encoding::Utf8 | Encoding::Utf16le, [0xff, 0xfe, ..]) => Some(UTF_16LE.new_decoder_with_bom_removal()),
        (Encoding::Utf8 | Encoding::Utf16be, [0xfe, 0xff, ..]) => Some(UTF_16BE.new_decoder_with_bom_removal()),
        (Encoding::Utf8, _) => return Ok(Box::new(Cursor::new(first).chain(bytes))),
        (Encoding::Utf16le, _) => Some(UTF_16LE.new_decoder_without_bom_handling()),
        (Encoding::Utf16be, _) => Some(UTF_16BE.new_decoder_without_bom_handling()),
        (Encoding::Windows1258, _) => Some(WINDOWS_1258.new_decoder_without_bom_handling()),
        (Encoding::Tcvn3 | Encoding::Vni, _) => None,
    };
    let inner = Box::new(Cursor::new(first).chain(bytes));
    Ok(Box::new(Decoded { inner, decoder, raw: vec![0; 64 << 10], text: vec![0; 200 << 10], from: 0, to: 0, is_over: false }))
}

/// Decodes as it is read. What cannot be decoded becomes U+FFFD.
struct Decoded {
    inner: Text,
    /// None: each byte is the letter of its number.
    decoder: Option<Decoder>,
    raw: Vec<u8>,
    text: Vec<u8>,
    from: usize,
    to: usize,
    is_over: bool,
}

impl Decoded {
    fn refill(&mut self) -> io::Result<()> {
        (self.from, self.to) = (0, 0);
        while self.to == 0 && !self.is_over {
            let count = match self.inner.read(&mut self.raw) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            self.is_over = count == 0;
            match &mut self.decoder {
                // Three bytes of text for each raw one are enough for every encoding: all of it is taken at once.
                Some(decoder) => self.to = decoder.decode_to_utf8(&self.raw[..count], &mut self.text, self.is_over).2,
                None => self.to = encoding_rs::mem::convert_latin1_to_utf8(&self.raw[..count], &mut self.text),
            }
        }
        Ok(())
    }
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.from == self.to {
            self.refill()?;
        }
        let count = buffer.len().min(self.to - self.from);
        buffer[..count].copy_from_slice(&self.text[self.from..self.from + count]);
        self.from += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read(bytes: &[u8], encoding: Encoding) -> String {
        let mut text = String::new();
        decoded(Box::new(Cursor::new(bytes.to_vec())), encoding).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn text_of_each_encoding_is_the_same_text() {
        let utf16 = |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<_>>();
        let text = "mã;Đường số 7 — 🏠\n".repeat(20_000);
        assert_eq!(read(text.as_bytes(), Encoding::Utf8), text);
        assert_eq!(read(format!("\u{feff}{text}").as_bytes(), Encoding::Utf8), text);
        for (order, encoding) in [(u16::to_le_bytes as fn(u16) -> [u8; 2], Encoding::Utf16le), (u16::to_be_bytes, Encoding::Utf16be)] {
            assert_eq!(read(&utf16(&text, order), encoding), text);
            assert_eq!(read(&utf16(&format!("\u{feff}{text}"), order), encoding), text);
            assert_eq!(read(&utf16(&format!("\u{feff}{text}"), order), Encoding::Utf8), text, "the mark is enough");
        }
        assert_eq!(read(b"\xd0\xfd\xec", Encoding::Windows1258), "Đư\u{301}");
        assert_eq!(read(b"H\xb5 N\xe9i", Encoding::Tcvn3), "H\u{b5} N\u{e9}i");
        assert_eq!(read(b"a", Encoding::Utf8), "a");
        assert_eq!(read(b"", Encoding::Utf16le), "");
    }
}
