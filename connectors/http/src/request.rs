//! A request of the configuration becomes one that can be sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{FixedOffset, Offset as _, Utc};
use hub_sdk::{ErrorKind, Secret, SourceError};
use reqwest::Url;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::config::{Format, Method, Request};
use crate::evidence::sha256;
use crate::template::{Escape, Values, fill, fill_json};

/// A request that can be sent.
#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) method: reqwest::Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

/// What every request has: its time by the service's clock, a word of its own, and its signature.
pub(crate) fn complete(values: &mut Values, request: &Request, utc_offset_h: i32) {
    let zone = FixedOffset::east_opt(utc_offset_h.saturating_mul(3_600)).unwrap_or(Utc.fix());
    values.set_now(Utc::now().with_timezone(&zone));
    values.set("uuid", uuid::Uuid::new_v4().to_string());
    if let Some(signature) = &request.signature {
        let text = fill(signature.reveal(), values, Escape::Nothing).unwrap_or_default();
        values.set("signature", sha256(text.as_bytes()));
    }
}

/// Fills in the values. `next` is the address of a further page, which has its own query.
pub(crate) fn build(base: &Url, request: &Request, values: &Values, next: Option<&Url>) -> Result<Built, SourceError> {
    let (content_type, body) = match body(request, values) {
        Some((content_type, body)) => (Some(content_type), Some(body)),
        None => (None, None),
    };
    let method = match request.method {
        Some(Method::Get) => reqwest::Method::GET,
        Some(Method::Post) => reqwest::Method::POST,
        Some(Method::Put) => reqwest::Method::PUT,
        None if body.is_some() => reqwest::Method::POST,
        None => reqwest::Method::GET,
    };
    let url = match next {
        Some(next) => next.clone(),
        None => {
            let path = fill(&request.path, values, Escape::Path).unwrap_or_default();
            let mut url = join(base, &path)?;
            add_query(&mut url, &request.query, values);
            url
        }
    };
    let mut headers = HeaderMap::new();
    let accepted = match request.format {
        Format::Json => "application/json",
        Format::Xml => "text/xml, application/xml, application/soap+xml",
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accepted));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    add_headers(&mut headers, &request.headers, values)?;
    Ok(Built { method, url, headers, body })
}

/// An address below the base, or one of its own.
pub(crate) fn join(base: &Url, path: &str) -> Result<Url, SourceError> {
    let wrong = |error: String| {
        // A path may hold a key: it is not shown.
        SourceError::new(ErrorKind::BadConfig, "making the address of a request").because(error).advise("mend `base_url` or `path`")
    };
    if path.starts_with("http://") || path.starts_with("https://") {
        return Url::parse(path).map_err(|error| wrong(error.to_string()));
    }
    let slash = if path.is_empty() || path.starts_with(['/', '?']) { "" } else { "/" };
    Url::parse(&format!("{}{slash}{path}", base.as_str().trim_end_matches('/'))).map_err(|error| wrong(error.to_string()))
}

/// Adds query parameters that have a value.
fn add_query(url: &mut Url, query: &BTreeMap<String, String>, values: &Values) {
    let filled: Vec<_> = query.iter().filter_map(|(name, value)| Some((name, fill(value, values, Escape::Nothing)?))).collect();
    if !filled.is_empty() {
        url.query_pairs_mut().extend_pairs(filled);
    }
}

/// Adds headers that have a value; their values are never shown.
pub(crate) fn add_headers(headers: &mut HeaderMap, add: &BTreeMap<String, Secret>, values: &Values) -> Result<(), SourceError> {
    for (name, value) in add {
        let Some(filled) = fill(value.reveal(), values, Escape::Nothing) else { continue };
        headers.insert(header_name(name)?, secret_value(&filled, name)?);
    }
    Ok(())
}

/// A header's name.
pub(crate) fn header_name(name: &str) -> Result<HeaderName, SourceError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| SourceError::new(ErrorKind::BadConfig, format!("making header {name}")).because("it is no name of a header"))
}

/// A header's value that is never shown.
pub(crate) fn secret_value(value: &str, name: &str) -> Result<HeaderValue, SourceError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        SourceError::new(ErrorKind::BadConfig, format!("making header {name}")).because("its value has characters that no header may have")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn body(request: &Request, values: &Values) -> Option<(&'static str, Bytes)> {
    if let Some(json) = &request.json {
        let filled = fill_json(json, values).unwrap_or_default();
        return Some(("application/json", filled.to_string().into()));
    }
    if let Some(xml) = &request.xml {
        return Some(("text/xml; charset=utf-8", fill(xml, values, Escape::Xml).unwrap_or_default().into()));
    }
    let form = request.form.as_ref()?;
    Some(("application/x-www-form-urlencoded", form_body(form, values).into()))
}

/// Form fields, escaped.
pub(crate) fn form_body(form: &BTreeMap<String, String>, values: &Values) -> String {
    let mut fields = String::new();
    for (name, value) in form {
        let Some(value) = fill(value, values, Escape::Nothing) else { continue };
        if !fields.is_empty() {
            fields.push('&');
        }
        fields.push_str(&percent(name));
        fields.push('=');
        fields.push_str(&percent(&value));
    }
    fields
}

fn percent(text: &str) -> String {
    fill("{key}", &Values::default().with("key", text), Escape::Path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn built(request: serde_json::Value, values: &Values) -> Built {
        let base = Url::parse("https://lgsp.example/goc/").unwrap();
        build(&base, &serde_json::from_value(request).unwrap(), values, None).unwrap()
    }

    #[test]
    fn a_request_without_a_body_reads_and_one_with_a_body_posts() {
        let values = Values::default().with("key", "3700145020").with("password", "a&b=ă");
        let get = built(json!({"path": "/dn/{key}", "query": {"msdn": "{key}", "cursor": "{cursor}", "q": "a b"}}), &values);
        assert_eq!((get.method, get.url.as_str()), (reqwest::Method::GET, "https://lgsp.example/goc/dn/3700145020?msdn=3700145020&q=a+b"));
        let post = built(json!({"path": "dn", "form": {"p": "{password}"}}), &values);
        assert_eq!((post.method, post.body.unwrap().as_ref()), (reqwest::Method::POST, &b"p=a%26b%3D%C4%83"[..]));
        assert_eq!(post.url.as_str(), "https://lgsp.example/goc/dn");
    }

    #[test]
    fn headers_of_a_request_win_and_are_never_shown() {
        let xml =
            json!({"path": "/s", "xml": "<a>{key}</a>", "format": "xml", "headers": {"Content-Type": "application/soap+xml", "X": "mật"}});
        let wrong = build(&Url::parse("http://a").unwrap(), &serde_json::from_value(xml).unwrap(), &Values::default(), None);
        let built = wrong.unwrap();
        assert_eq!(built.headers[CONTENT_TYPE], "application/soap+xml");
        assert!(!format!("{:?}", built.headers).contains("mật"));
        assert_eq!(built.body.unwrap().as_ref(), b"<a></a>");
    }
}
