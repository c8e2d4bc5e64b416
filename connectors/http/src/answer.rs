//! An answer of the service, and what is read out of it.

use std::io::Read as _;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use hub_sdk::records::{DocumentError, Fields, json_at, json_rows, xml_at, xml_rows};
use reqwest::header::{CONTENT_ENCODING, HeaderMap, LINK};
use reqwest::{StatusCode, Url};

use crate::config::Format;

/// Answers that are longer are read on a thread of their own.
const LONG: usize = 64 << 10;

/// An answer of the service.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What was asked, without the login: addresses of further pages may be relative to it.
    pub(crate) url: Option<Url>,
}

/// What was read out of an answer.
#[derive(Debug)]
pub(crate) struct Found {
    /// What stands at the places that were asked for, in their order.
    pub(crate) places: Vec<Option<String>>,
    /// The rows, or why there are none: a document that reports a failure has no place for them.
    pub(crate) rows: Result<Vec<Fields>, DocumentError>,
}

impl Answer {
    /// Reads rows and single places.
    ///
    /// # Errors
    /// In words, without a value: it is no text of UTF-8, or no document of the format.
    pub(crate) async fn read(&self, format: Format, rows: Option<&str>, places: &[&str]) -> Result<Found, String> {
        if self.body.len() < LONG {
            return read(&self.body, format, rows, places);
        }
        let (body, rows) = (self.body.clone(), rows.map(str::to_owned));
        let places: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
        let reading = move || read(&body, format, rows.as_deref(), &places.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(reading).await.map_err(|error| error.to_string())?
    }

    /// The address of `Link: <…>; rel="next"`.
    pub(crate) fn next_link(&self) -> Option<String> {
        let links = self.headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        links.flat_map(links_of).find(|(_, rel)| rel.split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))).map(|(address, _)| address)
    }
}

/// A body that the service has packed, unpacked within a limit.
///
/// # Errors
/// In words: it is damaged, longer than the limit, or packed in another way than gzip.
pub(crate) async fn unpacked(body: Bytes, headers: &HeaderMap, limit: usize) -> Result<Bytes, String> {
    let packing = headers.get(CONTENT_ENCODING).and_then(|packing| packing.to_str().ok()).unwrap_or_default().trim().to_ascii_lowercase();
    match packing.as_str() {
        "" | "identity" => return Ok(body),
        "gzip" | "x-gzip" => {}
        other => return Err(format!("the answer is packed by {other}, though only gzip was asked for")),
    }
    let unpack = move || {
        let mut plain = Vec::new();
        let read = MultiGzDecoder::new(&*body).take(limit as u64 + 1).read_to_end(&mut plain);
        read.map_err(|error| format!("the answer is packed and damaged: {error}"))?;
        if plain.len() > limit {
            return Err(format!("the answer has more than {} MiB unpacked", limit >> 20));
        }
        Ok(Bytes::from(plain))
    };
    tokio::task::spawn_blocking(unpack).await.map_err(|error| error.to_string())?
}

fn read(body: &[u8], format: Format, rows: Option<&str>, places: &[&str]) -> Result<Found, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the answer is no UTF-8 from byte {} on", error.valid_up_to() + 1))?;
    let at = |place: &&str| match format {
        Format::Json => json_at(text, place),
        Format::Xml => xml_at(text, place),
    };
    let places = places.iter().map(at).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    let rows = match (rows, format) {
        (None, _) => Ok(()),
        (Some(path), Format::Json) => json_rows(text, path, |fields| found.push(fields)),
        (Some(path), Format::Xml) => xml_rows(text, path, |fields| found.push(fields)),
    };
    match rows {
        Err(error @ DocumentError::Malformed { .. }) => Err(error.to_string()),
        rows => Ok(Found { places, rows: rows.map(|()| found) }),
    }
}

/// Addresses and relations of a `Link` header (RFC 8288).
fn links_of(header: &str) -> Vec<(String, String)> {
    let mut links = Vec::new();
    let mut rest = header;
    while let Some((address, after)) = rest.split_once('<').and_then(|(_, link)| link.split_once('>')) {
        // Parameters go on until the next address.
        let end = after.find('<').unwrap_or(after.len());
        let rel = after[..end].split(';').filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
            let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel").then(|| value.to_owned())
        });
        links.push((address.to_owned(), rel.unwrap_or_default()));
        rest = &after[end..];
    }
    links
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        let answer = |link: &'static str| Answer {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(LINK, link.parse().unwrap())]),
            body: Bytes::new(),
            url: None,
        };
        let github =
            r#"<https://a/x?page=1>; rel="prev", <https://a/x?page=3>; title="a, b"; rel="next", <https://a/x?page=9>; rel="last""#;
        assert_eq!(answer(github).next_link().as_deref(), Some("https://a/x?page=3"));
        assert_eq!(answer("</x?p=2>;REL=\"last next\"").next_link().as_deref(), Some("/x?p=2"));
        assert_eq!(answer(r#"<https://a>; rel="last""#).next_link(), None);
    }

    #[tokio::test]
    async fn an_answer_that_reports_a_failure_still_has_its_places() {
        let answer =
            Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from_static(br#"{"error_code":"01"}"#), url: None };
        let found = answer.read(Format::Json, Some("/data"), &["/error_code"]).await.unwrap();
        assert_eq!(found.places, [Some("01".to_owned())]);
        assert!(found.rows.is_err());
        let answer = Answer { body: Bytes::from_static(b"\xff"), ..answer };
        assert_eq!(answer.read(Format::Json, None, &[]).await.unwrap_err(), "the answer is no UTF-8 from byte 1 on");
    }
}
