//! HTTP basic authentication: one user, one password, for every path.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ApiError;
use crate::Password;

/// Wraps a router so that it answers only to this user.
pub(super) fn required(router: Router, user: &str, password: &Password) -> Router {
    let expected: Arc<[u8]> = format!("{user}:{}", password.reveal()).into_bytes().into();
    router.layer(from_fn(move |request: Request, next: Next| {
        let admitted = request.headers().get(AUTHORIZATION).is_some_and(|given| admits(&expected, given));
        async move { if admitted { next.run(request).await } else { refused() } }
    }))
}

fn admits(expected: &[u8], given: &HeaderValue) -> bool {
    let encoded = given.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, encoded)) = encoded.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Basic")) else { return false };
    STANDARD.decode(encoded.trim()).is_ok_and(|given| same(&given, expected))
}

/// Compares without telling by its time where the first difference is.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let differing =
        expected.iter().enumerate().fold(0_u8, |differing, (index, byte)| differing | (given.get(index).copied().unwrap_or(!*byte) ^ byte));
    differing == 0 && given.len() == expected.len()
}

fn refused() -> Response {
    let mut response = ApiError::new(401, "Unauthorized").into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"schema registry\""));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_password_is_admitted() {
        let header = |text: &str| HeaderValue::from_str(&format!("basic {}", STANDARD.encode(text)));
        for (given, admitted) in [("hub:secret", true), ("hub:secre", false), ("hub:secrets", false), ("hub:", false), ("", false)] {
            assert_eq!(header(given).is_ok_and(|given| admits(b"hub:secret", &given)), admitted, "{given}");
        }
        assert!(!admits(b"hub:secret", &HeaderValue::from_static("Bearer abc")));
    }
}
