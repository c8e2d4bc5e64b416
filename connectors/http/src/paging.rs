//! How a list goes on from page to page, and how it ends; a list that goes round in circles is found out.

use std::collections::HashSet;

use reqwest::Url;

use crate::answer::Answer;
use crate::config::{HttpStream, Paging, Request};
use crate::template::Values;

/// Where one reading of a list is.
pub(crate) struct Pages<'a> {
    paging: Option<&'a Paging>,
    page: u64,
    offset: u64,
    cursor: Option<String>,
    /// The address of the next page, where the service gives it.
    pub(crate) next: Option<Url>,
    /// Digests of the pages and cursors that were seen.
    seen: HashSet<u64>,
}

/// What a page was.
pub(crate) struct Page<'a> {
    pub(crate) answer: &'a Answer,
    pub(crate) rows: u64,
    /// A digest of all its rows.
    pub(crate) digest: u64,
    /// What stands at [`Pages::places`].
    pub(crate) places: &'a [Option<String>],
}

impl<'a> Pages<'a> {
    /// At the beginning.
    pub(crate) fn new(paging: Option<&'a Paging>) -> Self {
        let page = if let Some(Paging::Page(by)) = paging { by.first } else { 0 };
        Self { paging, page, offset: 0, cursor: None, next: None, seen: HashSet::new() }
    }

    /// Gives the placeholders of the next request their values.
    pub(crate) fn set(&self, values: &mut Values) {
        match self.paging {
            Some(Paging::Page(by)) => {
                values.set("page", self.page.to_string());
                if let Some(size) = by.size {
                    values.set("size", size.to_string());
                }
            }
            Some(Paging::Offset(by)) => {
                values.set("offset", (by.first + self.offset).to_string());
                values.set("size", by.size.to_string());
            }
            Some(Paging::Cursor(_)) => {
                if let Some(cursor) = &self.cursor {
                    values.set("cursor", cursor);
                }
            }
            Some(Paging::Link(_) | Paging::Next(_)) | None => {}
        }
    }

    /// Places of an answer that say how the list goes on.
    pub(crate) fn places(&self) -> Vec<&'a str> {
        match self.paging {
            Some(Paging::Page(by)) => by.pages.iter().map(String::as_str).collect(),
            Some(Paging::Offset(by)) => by.total.iter().map(String::as_str).collect(),
            Some(Paging::Cursor(by)) => std::iter::once(by.path.as_str()).chain(by.more.as_ref().map(|more| more.path.as_str())).collect(),
            Some(Paging::Next(by)) => vec![&by.path],
            Some(Paging::Link(_)) | None => Vec::new(),
        }
    }

    /// Goes on to the next page; false where the list is over.
    ///
    /// # Errors
    /// In words: the list goes round in circles, or leads elsewhere.
    pub(crate) fn advance(&mut self, page: &Page<'_>, base: &Url) -> Result<bool, String> {
        let Some(paging) = self.paging else { return Ok(false) };
        if page.rows > 0 && !self.seen.insert(page.digest) {
            return Err("a page has the same rows as one before: the service does not page as `paging` says, \
                        or answers its last page again for those behind it (then give `size`, `pages` or `total`)"
                .to_owned());
        }
        let number = |place: usize, path: &str| -> Result<u64, String> {
            let text = page.places.get(place).and_then(Option::as_deref).ok_or_else(|| format!("there is nothing at {path}"))?;
            text.trim().parse().map_err(|_| format!("there is no number at {path}"))
        };
        match paging {
            Paging::Page(by) => {
                self.page += 1;
                match (&by.pages, by.size) {
                    (Some(path), _) => Ok(self.page - by.first < number(0, path)?),
                    (None, Some(size)) => Ok(page.rows >= size),
                    (None, None) => Ok(page.rows > 0),
                }
            }
            Paging::Offset(by) => {
                self.offset += by.size;
                match &by.total {
                    Some(path) => Ok(page.rows > 0 && self.offset < number(0, path)?),
                    None => Ok(page.rows >= by.size),
                }
            }
            Paging::Cursor(by) => {
                self.cursor = page.places.first().cloned().flatten().filter(|cursor| !cursor.is_empty());
                let has_more = by.more.as_ref().is_none_or(|more| more.holds(page.places.get(1).and_then(Option::as_deref)));
                let Some(cursor) = self.cursor.as_ref().filter(|_| has_more) else { return Ok(false) };
                let mut digest = hub_sdk::Digest::default();
                digest.value(Some(b"cursor"));
                digest.value(Some(cursor.as_bytes()));
                if !self.seen.insert(digest.finish()) {
                    return Err("a cursor came a second time: the list would never end".to_owned());
                }
                Ok(true)
            }
            Paging::Link(_) => self.follow(page.answer.next_link(), page.answer, base),
            Paging::Next(_) => {
                let next = page.places.first().cloned().flatten().filter(|next| !next.is_empty());
                self.follow(next, page.answer, base)
            }
        }
    }

    fn follow(&mut self, address: Option<String>, answer: &Answer, base: &Url) -> Result<bool, String> {
        let Some(address) = address else { return Ok(false) };
        let here = answer.url.as_ref().unwrap_or(base);
        let next = here.join(&address).map_err(|error| format!("the address of the next page is none: {error}"))?;
        if next.origin() != base.origin() {
            return Err(format!(
                "the next page is at {}, which is another place than base_url: requests carry the login",
                next.origin().ascii_serialization()
            ));
        }
        let mut digest = hub_sdk::Digest::default();
        digest.value(Some(next.as_str().as_bytes()));
        if !self.seen.insert(digest.finish()) {
            return Err("the address of a next page came a second time: the list would never end".to_owned());
        }
        self.next = Some(next);
        Ok(true)
    }
}

/// The request of a list with the query parameters of its paging and watermark.
pub(crate) fn list_request(stream: &HttpStream) -> Request {
    let mut request = stream.request();
    let mut add = |param: &Option<String>, template: &str| {
        if let Some(param) = param {
            request.query.insert(param.clone(), template.to_owned());
        }
    };
    match &stream.paging {
        Some(Paging::Page(by)) => {
            add(&by.param, "{page}");
            add(&by.size_param, "{size}");
        }
        Some(Paging::Offset(by)) => {
            add(&by.param, "{offset}");
            add(&by.size_param, "{size}");
        }
        Some(Paging::Cursor(by)) => add(&by.param, "{cursor}"),
        Some(Paging::Link(_) | Paging::Next(_)) | None => {}
    }
    if let crate::config::Mode::Watermark(watermark) = &stream.mode {
        add(&watermark.param, "{since}");
    }
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use bytes::Bytes;
    use reqwest::StatusCode;
    use reqwest::header::{HeaderMap, LINK};
    use serde_json::json;

    use super::*;

    fn paging(paging: serde_json::Value) -> Paging {
        serde_json::from_value(paging).unwrap()
    }

    fn answer(link: Option<&'static str>) -> Answer {
        let headers = link.map(|link| (LINK, link.parse().unwrap()));
        Answer { status: StatusCode::OK, headers: headers.into_iter().collect::<HeaderMap>(), body: Bytes::new(), url: None }
    }

    fn step(pages: &mut Pages<'_>, rows: u64, digest: u64, places: &[Option<&str>]) -> Result<bool, String> {
        let places: Vec<_> = places.iter().map(|place| place.map(str::to_owned)).collect();
        let base = Url::parse("https://a.example/goc").unwrap();
        pages.advance(&Page { answer: &answer(None), rows, digest, places: &places }, &base)
    }

    #[test]
    fn pages_end_with_a_short_one_or_where_the_service_says() {
        let by = paging(json!({"page": {"size": 10}}));
        let mut pages = Pages::new(Some(&by));
        assert_eq!((step(&mut pages, 10, 1, &[]), step(&mut pages, 9, 2, &[])), (Ok(true), Ok(false)));
        let by = paging(json!({"page": {"pages": "/pages", "first": 0}}));
        let mut pages = Pages::new(Some(&by));
        assert_eq!((step(&mut pages, 3, 1, &[Some("2")]), step(&mut pages, 3, 2, &[Some("2")])), (Ok(true), Ok(false)));
        assert!(step(&mut Pages::new(Some(&by)), 3, 1, &[None]).is_err());
        let by = paging(json!({"offset": {"size": 10, "total": "/total"}}));
        let mut pages = Pages::new(Some(&by));
        assert_eq!((step(&mut pages, 7, 1, &[Some("20")]), step(&mut pages, 10, 2, &[Some("20")])), (Ok(true), Ok(false)));
    }

    #[test]
    fn a_list_that_goes_round_in_circles_is_an_error() {
        for by in [json!({"page": {}}), json!({"offset": {"size": 2}})].map(paging) {
            let mut pages = Pages::new(Some(&by));
            assert_eq!(step(&mut pages, 2, 7, &[]), Ok(true));
            assert!(step(&mut pages, 2, 7, &[]).unwrap_err().contains("same rows"));
        }
        let by = paging(json!({"cursor": {"path": "/next"}}));
        let mut pages = Pages::new(Some(&by));
        assert_eq!(step(&mut pages, 0, 0, &[Some("a")]), Ok(true));
        assert!(step(&mut pages, 0, 0, &[Some("a")]).unwrap_err().contains("second time"));
        let by = paging(json!({"next": {"path": "/next"}}));
        let mut pages = Pages::new(Some(&by));
        assert_eq!(step(&mut pages, 1, 1, &[Some("?p=2")]), Ok(true));
        assert!(step(&mut pages, 1, 2, &[Some("?p=2")]).unwrap_err().contains("second time"));
    }

    #[test]
    fn a_next_page_elsewhere_is_not_asked_with_the_login() {
        let by = paging(json!({"next": {"path": "/next"}}));
        let mut pages = Pages::new(Some(&by));
        assert!(step(&mut pages, 1, 1, &[Some("http://a.example/x")]).unwrap_err().contains("http://a.example"));
        assert_eq!(step(&mut pages, 1, 2, &[Some("/x?p=2")]), Ok(true));
        assert_eq!(pages.next.as_ref().unwrap().as_str(), "https://a.example/x?p=2");
        assert_eq!(step(&mut pages, 1, 3, &[None]), Ok(false));
    }

    #[test]
    fn a_cursor_ends_where_there_is_no_more() {
        let by = paging(json!({"cursor": {"path": "/next", "more": {"path": "/more", "equals": true}}}));
        let mut pages = Pages::new(Some(&by));
        assert_eq!(step(&mut pages, 1, 1, &[Some("a"), Some("true")]), Ok(true));
        assert_eq!(step(&mut pages, 1, 2, &[Some("b"), Some("false")]), Ok(false));
    }
}
