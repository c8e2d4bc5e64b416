//! What senders are told, as responses and as evidence.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hub_sdk::model::Evidence;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::waiting::Told;

/// A request that is not taken. Nothing of it is published: the sender keeps it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// When to try again, where that helps.
    pub(crate) again: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), again: None }
    }

    /// The body cannot be used as it is.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Too much at once.
    pub(crate) fn busy(message: &str, again: Duration) -> Self {
        Self { again: Some(again), ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// The hub cannot take it now.
    pub(crate) fn later(message: &str) -> Self {
        Self { again: Some(Duration::from_secs(1)), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    pub(crate) fn response(self) -> Response<Full<Bytes>> {
        let mut response = respond(self.status, Bytes::from(json!({"error": self.message}).to_string()));
        if let Some(again) = self.again {
            let seconds = again.as_millis().div_ceil(1_000).max(1);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// The answer to a request that is in Kafka.
pub(crate) fn taken(told: Told) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, words(told))
}

fn respond(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn words(told: Told) -> Bytes {
    let Told { accepted, rejected, duplicates } = told;
    match (rejected, duplicates) {
        (0, 0) => format!("{{\"accepted\":{accepted}}}"),
        (0, _) if accepted == 0 => format!("{{\"accepted\":0,\"duplicates\":{duplicates},\"duplicate\":true}}"),
        _ => format!("{{\"accepted\":{accepted},\"rejected\":{rejected},\"duplicates\":{duplicates}}}"),
    }
    .into()
}

/// Evidence of a request with the answer it will have.
pub(crate) fn attest(evidence: Evidence, told: Told) -> Evidence {
    let answer = words(told);
    Evidence { outcome: "200".to_owned(), answer_sha256: sha256(&[&answer]), answer_bytes: answer.len() as u64, ..evidence }
}

/// SHA-256 of parts one after the other, in hexadecimal.
pub(crate) fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hex(&hash.finalize())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half)).map_or('0', |digit| char::from(*digit));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_became_of_the_rows() {
        let told = |accepted, rejected, duplicates| words(Told { accepted, rejected, duplicates });
        assert_eq!(told(3, 0, 0), "{\"accepted\":3}");
        assert_eq!(told(0, 0, 2), "{\"accepted\":0,\"duplicates\":2,\"duplicate\":true}");
        assert_eq!(told(1, 1, 1), "{\"accepted\":1,\"rejected\":1,\"duplicates\":1}");
    }

    #[test]
    fn who_is_turned_away_is_told_when_to_come_again() {
        let response = Refusal::busy("x", Duration::from_millis(1_200)).response();
        assert_eq!((response.status().as_u16(), response.headers().get(RETRY_AFTER).map(|value| value.as_bytes())), (429, Some(&b"2"[..])));
    }
}
