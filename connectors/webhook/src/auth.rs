//! Who may send: signatures, tokens and certificates, compared in constant time.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use hub_sdk::Secret;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName};
use sha2::{Sha256, Sha512};

use crate::config::{Algorithm, Auth, Encoding, SecretForm, Signed};

/// Why somebody may not send; never with what they showed.
pub(crate) type Denied = String;

/// How senders of one stream are known.
pub(crate) enum Guard {
    Anyone,
    Signature(Box<Signature>),
    Token(Vec<Digest32>),
    Certificate(Vec<String>),
}

type Digest32 = [u8; 32];

/// The hash by which two texts are compared: neither their lengths nor their first difference is seen from outside.
fn blinded(text: &[u8]) -> Digest32 {
    use sha2::Digest;
    Sha256::digest(text).into()
}

/// Prepared checks of a signature.
pub(crate) struct Signature {
    keys: Vec<Key>,
    header: HeaderName,
    prefix: String,
    encoding: Encoding,
    signed_headers: Vec<HeaderName>,
    timestamp: Option<(HeaderName, Duration)>,
}

/// The state of an HMAC after its key.
enum Key {
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl Guard {
    /// Prepares the checks.
    ///
    /// # Errors
    /// What is wrong with a secret or a header's name.
    pub(crate) fn new(auth: &Auth) -> Result<Self, String> {
        Ok(match auth {
            Auth::None => Self::Anyone,
            Auth::Hmac(signed) => Self::Signature(Box::new(Signature::new(signed)?)),
            Auth::Bearer(bearer) => {
                let tokens = std::iter::once(&bearer.token).chain(&bearer.token_previous);
                Self::Token(tokens.map(|token| blinded(token.reveal().as_bytes())).collect())
            }
            Auth::Mtls(certified) => Self::Certificate(certified.names.clone()),
        })
    }

    /// Whether who sends is known from the body alone.
    pub(crate) fn reads_bodies(&self) -> bool {
        matches!(self, Self::Signature(_))
    }

    /// Looks at what is known before the body.
    ///
    /// # Errors
    /// Why the sender may not send.
    pub(crate) fn head(&self, headers: &HeaderMap, names: Option<&[String]>, now_s: u64) -> Result<(), Denied> {
        match self {
            Self::Anyone => Ok(()),
            Self::Signature(signature) => signature.head(headers, now_s),
            Self::Token(known) => {
                let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
                let (scheme, token) = shown.and_then(|shown| shown.split_at_checked(7)).ok_or("there is no Authorization: Bearer")?;
                let token = blinded(token.trim_ascii());
                // Digests of unknown texts tell nothing by how long their comparison takes.
                let is_known = known.iter().fold(false, |found, known| found | (*known == token));
                if is_known && scheme.eq_ignore_ascii_case(b"bearer ") { Ok(()) } else { Err("the token is not known".to_owned()) }
            }
            Self::Certificate(wanted) => {
                let names = names.ok_or("no certificate was shown")?;
                match wanted.is_empty() || names.iter().any(|name| wanted.contains(name)) {
                    true => Ok(()),
                    false => Err("the certificate is of a name that may not send here".to_owned()),
                }
            }
        }
    }

    /// Looks at the body's signature.
    ///
    /// # Errors
    /// Why the sender may not send.
    pub(crate) fn body(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Denied> {
        match self {
            Self::Signature(signature) => signature.body(headers, body),
            Self::Anyone | Self::Token(_) | Self::Certificate(_) => Ok(()),
        }
    }
}

impl Signature {
    fn new(signed: &Signed) -> Result<Self, String> {
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("header {name:?}: {error}"));
        let secrets = std::iter::once(&signed.secret).chain(&signed.secret_previous);
        let timestamp = signed.timestamp.as_ref();
        let timestamp = timestamp.map(|one| Ok::<_, String>((name(&one.header)?, Duration::from_secs(one.tolerance_s)))).transpose()?;
        let mut signed_headers = signed.signed_headers.iter().map(|header| name(header)).collect::<Result<Vec<_>, _>>()?;
        if let Some((header, _)) = &timestamp
            && !signed_headers.contains(header)
        {
            signed_headers.push(header.clone());
        }
        Ok(Self {
            keys: secrets.map(|secret| key(secret, signed.secret_form, signed.algorithm)).collect::<Result<_, _>>()?,
            header: name(&signed.header)?,
            prefix: signed.prefix.clone(),
            encoding: signed.encoding,
            signed_headers,
            timestamp,
        })
    }

    fn head(&self, headers: &HeaderMap, now_s: u64) -> Result<(), Denied> {
        if !headers.contains_key(&self.header) {
            return Err(format!("there is no header {}", self.header));
        }
        if let Some(missing) = self.signed_headers.iter().find(|name| !headers.contains_key(*name)) {
            return Err(format!("there is no header {missing}, which is signed"));
        }
        let Some((header, tolerance)) = &self.timestamp else { return Ok(()) };
        let time = headers.get(header).and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse::<u64>().ok());
        let time = time.ok_or_else(|| format!("{header} is no time in seconds since 1970"))?;
        match time.abs_diff(now_s) <= tolerance.as_secs() {
            true => Ok(()),
            false => Err(format!("{header} is more than {} s off: the request is old, or a clock is wrong", tolerance.as_secs())),
        }
    }

    fn body(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Denied> {
        let shown = headers.get_all(&self.header).iter().filter_map(|value| value.to_str().ok());
        let shown = shown.flat_map(str::split_ascii_whitespace).filter_map(|one| one.strip_prefix(self.prefix.as_str()));
        // A handful is enough for a change of secrets; each costs a hash.
        let shown: Vec<Vec<u8>> = shown.filter_map(|text| decode(text, self.encoding)).take(4).collect();
        if shown.is_empty() {
            return Err(format!("{} holds no signature of the form that is configured", self.header));
        }
        let before: Vec<&[u8]> = self.signed_headers.iter().filter_map(|name| headers.get(name)).map(|value| value.as_bytes()).collect();
        let is_valid = self.keys.iter().any(|key| key.signs(&before, body, &shown));
        if is_valid { Ok(()) } else { Err("the signature is not of this body and secret".to_owned()) }
    }
}

impl Key {
    fn signs(&self, before: &[&[u8]], body: &[u8], shown: &[Vec<u8>]) -> bool {
        match self {
            Self::Sha256(key) => verify(key, before, body, shown),
            Self::Sha512(key) => verify(key, before, body, shown),
        }
    }
}

fn verify<M: Mac + Clone>(key: &M, before: &[&[u8]], body: &[u8], shown: &[Vec<u8>]) -> bool {
    let mut mac = key.clone();
    for value in before {
        mac.update(value);
        mac.update(b".");
    }
    mac.update(body);
    shown.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
}

fn key(secret: &Secret, form: SecretForm, algorithm: Algorithm) -> Result<Key, String> {
    let text = secret.reveal();
    let bytes = match form {
        SecretForm::Text => text.as_bytes().to_vec(),
        SecretForm::Base64 => {
            let text = text.strip_prefix("whsec_").unwrap_or(text);
            STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).map_err(|_| "the secret is no base64".to_owned())?
        }
        SecretForm::Hex => unhex(text).ok_or_else(|| "the secret is not hexadecimal".to_owned())?,
    };
    let unusable = |_| "the secret cannot be a key".to_owned();
    Ok(match algorithm {
        Algorithm::Sha256 => Key::Sha256(Hmac::new_from_slice(&bytes).map_err(unusable)?),
        Algorithm::Sha512 => Key::Sha512(Hmac::new_from_slice(&bytes).map_err(unusable)?),
    })
}

fn decode(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Hex => unhex(text),
        Encoding::Base64 => STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok(),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn guard(auth: serde_json::Value) -> Guard {
        Guard::new(&serde_json::from_value(auth).unwrap()).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_signature_of_the_manual_of_github_is_valid_and_one_of_another_body_is_not() {
        // The example of GitHub's page on validating deliveries.
        let guard = guard(json!({"hmac": {"secret": "It's a Secret to Everybody"}}));
        let shown = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let headers = headers(&[("x-hub-signature-256", shown)]);
        assert_eq!(guard.head(&headers, None, 0), Ok(()));
        assert_eq!(guard.body(&headers, b"Hello, World!"), Ok(()));
        assert!(guard.body(&headers, b"Hello, World?").is_err());
    }

    #[test]
    fn the_example_of_standard_webhooks_is_valid_with_its_time_and_refused_later() {
        let guard = guard(json!({"hmac": {
            "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "secret_form": "base64", "header": "webhook-signature", "prefix": "v1,",
            "encoding": "base64", "signed_headers": ["webhook-id", "webhook-timestamp"], "timestamp": {"header": "webhook-timestamp"},
        }}));
        let headers = headers(&[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,bm9ldHUjKzFob2VudXRob2VodWUzMjRvdWVvdW9ldQo= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ]);
        assert_eq!(guard.head(&headers, None, 1_614_265_400), Ok(()));
        assert_eq!(guard.body(&headers, br#"{"test": 2432232314}"#), Ok(()));
        let why = guard.head(&headers, None, 1_614_265_330 + 301).unwrap_err();
        assert!(why.contains("300 s off"), "{why}");
    }

    #[test]
    fn the_secret_before_is_valid_too() {
        let old = guard(json!({"hmac": {"secret": "cu", "header": "x-s", "prefix": ""}}));
        let both = guard(json!({"hmac": {"secret": "moi", "secret_previous": "cu", "header": "x-s", "prefix": "", "algorithm": "sha256"}}));
        let mut mac = Hmac::<Sha256>::new_from_slice(b"cu").unwrap();
        mac.update(b"{}");
        let headers = headers(&[("x-s", &crate::answer::hex(&mac.finalize().into_bytes()))]);
        assert_eq!((old.body(&headers, b"{}"), both.body(&headers, b"{}")), (Ok(()), Ok(())));
    }

    #[test]
    fn a_token_is_compared_whole_and_a_certificate_by_its_name() {
        let token = guard(json!({"bearer": {"token": "abc", "token_previous": "cu"}}));
        for (shown, is_let_in) in [("Bearer abc", true), ("bearer cu", true), ("Bearer ab", false), ("Basic abc", false), ("abc", false)] {
            assert_eq!(token.head(&headers(&[("authorization", shown)]), None, 0).is_ok(), is_let_in, "{shown}");
        }
        let named = guard(json!({"mtls": {"names": ["ioc.h09.gov.vn"]}}));
        let names = |name: &str| vec![name.to_owned()];
        assert!(named.head(&HeaderMap::new(), Some(&names("ioc.h09.gov.vn")), 0).is_ok());
        assert!(named.head(&HeaderMap::new(), Some(&names("khac")), 0).is_err());
        assert!(named.head(&HeaderMap::new(), None, 0).is_err());
    }
}
