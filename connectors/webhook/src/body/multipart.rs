//! The parts of a `multipart/related` or `multipart/form-data` body, which is in memory whole.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Parts that one body may have.
const MOST: usize = 1_000;

/// One part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// `Content-ID` without its angle brackets, or the name of a form's field.
    pub(super) id: String,
    /// The name of its file.
    pub(super) file: Option<String>,
    /// `Content-Type` as written; empty where there is none.
    pub(super) media_type: String,
    pub(super) content: Cow<'a, [u8]>,
}

/// Cuts a body at its boundary.
///
/// # Errors
/// What is not as it should be, with its part.
pub(super) fn parts<'a>(media_type: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, String> {
    let boundary = super::parameter(media_type, "boundary").filter(|boundary| !boundary.is_empty());
    let boundary = format!("--{}", boundary.ok_or("the Content-Type names no boundary")?);
    let first = find(body, boundary.as_bytes()).ok_or("the boundary is nowhere in the body")?;
    let between = format!("\r\n{boundary}");
    let mut parts = Vec::new();
    let mut rest = body.get(first + boundary.len()..).unwrap_or_default();
    loop {
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        let place = parts.len() + 1;
        if place > MOST {
            return Err(format!("there are more than {MOST} parts"));
        }
        let begun = find(rest, b"\r\n").ok_or_else(|| format!("part {place} does not begin"))?;
        rest = rest.get(begun + 2..).unwrap_or_default();
        let end = find(rest, between.as_bytes()).ok_or_else(|| format!("part {place} does not end with the boundary"))?;
        parts.push(part(rest.get(..end).unwrap_or_default()).map_err(|why| format!("part {place}: {why}"))?);
        rest = rest.get(end + between.len()..).unwrap_or_default();
    }
}

fn part(bytes: &[u8]) -> Result<Part<'_>, String> {
    let (head, content) = match bytes.strip_prefix(b"\r\n") {
        Some(content) => (&b""[..], content),
        None => {
            let end = find(bytes, b"\r\n\r\n").ok_or("its headers do not end")?;
            (bytes.get(..end).unwrap_or_default(), bytes.get(end + 4..).unwrap_or_default())
        }
    };
    let head = std::str::from_utf8(head).map_err(|_| "its headers are not UTF-8")?.replace("\r\n ", " ").replace("\r\n\t", " ");
    let header = |wanted: &str| {
        let named = head.lines().filter_map(|line| line.split_once(':'));
        named.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let disposition = header("content-disposition").unwrap_or_default();
    let id = header("content-id").map(|id| id.trim_start_matches('<').trim_end_matches('>'));
    let id = id.or_else(|| super::parameter(disposition, "name")).unwrap_or_default().to_owned();
    let media_type = header("content-type").unwrap_or_default().to_owned();
    let file = super::parameter(disposition, "filename").or_else(|| super::parameter(&media_type, "name")).map(str::to_owned);
    let content = match header("content-transfer-encoding").map(str::to_ascii_lowercase).as_deref() {
        Some("base64") => Cow::Owned(unpack(content)?),
        Some("quoted-printable") => return Err("its transfer encoding quoted-printable is not read; send binary or base64".to_owned()),
        _ => Cow::Borrowed(content),
    };
    Ok(Part { id, file, media_type, content })
}

/// Base64 with line ends in it.
pub(super) fn unpack(text: &[u8]) -> Result<Vec<u8>, String> {
    let plain: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(plain).map_err(|_| "it is no base64".to_owned())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        let place = from + rest.iter().position(|byte| *byte == first)?;
        if bytes.get(place..)?.starts_with(wanted) {
            return Some(place);
        }
        from = place + 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn parts_have_their_names_kinds_and_bytes() {
        let body = b"preamble\r\n--x y\r\nContent-Type: text/xml;\r\n charset=utf-8\r\n\r\n<a/>\r\n--x y\r\nContent-ID: <1@a>\r\n\
            Content-Disposition: attachment; filename=\"c\xc3\xb4ng v\xc4\x83n.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n/w\r\nA=\r\n\
            --x y\r\n\r\n\x00--x\r\n\r\n--x y--\r\n";
        let parts = parts("multipart/related; boundary=\"x y\"", body).unwrap();
        let found: Vec<_> = parts.iter().map(|part| (part.id.as_str(), part.file.as_deref(), &*part.content)).collect();
        assert_eq!(found, [("", None, &b"<a/>"[..]), ("1@a", Some("công văn.pdf"), b"\xff\x00"), ("", None, b"\x00--x\r\n")]);
        assert_eq!(parts[0].media_type, "text/xml; charset=utf-8");
    }

    #[test]
    fn a_body_that_is_cut_is_refused() {
        for (body, why) in [
            (&b"--x\r\n\r\nabc"[..], "part 1 does not end"),
            (b"--y\r\n\r\nabc\r\n--y--", "nowhere"),
            (b"--x", "part 1 does not begin"),
            (b"--x\r\nA: b\r\n--x--", "headers do not end"),
        ] {
            assert!(parts("multipart/related; boundary=x", body).unwrap_err().contains(why), "{why}");
        }
        assert!(parts("multipart/related", b"").is_err());
    }
}
