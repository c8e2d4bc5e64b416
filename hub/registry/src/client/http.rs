//! Requests to a registry: authentication, TLS, retries and the reading of answers.

use std::path::Path;
use std::sync::Arc;

use reqwest::{Method, Response, Url};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ClientError, Patience, RegistrySettings};

/// What clients of a registry say they send and take.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

pub(super) struct Http {
    client: reqwest::Client,
    /// Ends in `/`.
    base: Url,
    settings: RegistrySettings,
    patience: Patience,
}

impl Http {
    pub(super) fn new(settings: RegistrySettings, patience: Patience) -> Result<Self, ClientError> {
        let unusable = |why: String| ClientError::Settings(why);
        let mut base =
            Url::parse(settings.url.trim()).map_err(|error| unusable(format!("the url is not one ({error}); write https://host:port")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(unusable(format!("the url begins with {}: write http:// or https://", base.scheme())));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(unusable("the url holds a user or password; write them as user and password".to_owned()));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(settings.ca.as_deref())?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(patience.request)
            .build()
            .map_err(|error| unusable(format!("no HTTP client can be made ({error})")))?;
        Ok(Self { client, base, settings, patience })
    }

    /// Makes a request, again where the registry does not answer or answers 5xx, and reads the answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let mut wait = self.patience.first_wait;
        for attempt in 0.. {
            match self.once(doing, method.clone(), path, body).await {
                Err(error) if error.is_retriable() && attempt < self.patience.retries => {
                    tracing::debug!(%error, attempt, wait_ms = wait.as_millis(), "schema registry asked again");
                }
                outcome => return outcome,
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Err(self.unreachable(doing, "it was given up".to_owned()))
    }

    async fn once<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClientError> {
        let url = self.base.join(path).map_err(|error| self.other(doing, format!("no such path ({error})")))?;
        let mut request = self.client.request(method, url).header("Accept", CONTENT_TYPE);
        if let Some(user) = &self.settings.user {
            request = request.basic_auth(user, self.settings.password.as_ref().map(crate::Password::reveal));
        }
        if let Some(body) = body {
            request = request.header("Content-Type", CONTENT_TYPE).body(body.to_string());
        }
        let response = request.send().await.map_err(|error| self.unreachable(doing, chain(&error.without_url())))?;
        self.read(doing, response).await
    }

    async fn read<T: DeserializeOwned>(&self, doing: &'static str, response: Response) -> Result<T, ClientError> {
        #[derive(Deserialize)]
        struct Refusal {
            error_code: u32,
            message: String,
        }
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(doing, chain(&error.without_url())))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.other(doing, format!("its JSON is not as expected ({error})")));
        }
        let (code, message) = match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => (refusal.error_code, refusal.message),
            Err(_) => (u32::from(status.as_u16()), status.canonical_reason().unwrap_or("no reason given").to_owned()),
        };
        Err(ClientError::from_answer(doing, self.base.as_str(), status.as_u16(), code, message))
    }

    fn unreachable(&self, doing: &'static str, why: String) -> ClientError {
        ClientError::Unreachable { doing, registry: self.base.to_string(), why }
    }

    fn other(&self, doing: &'static str, why: String) -> ClientError {
        ClientError::Other { doing, registry: self.base.to_string(), why }
    }
}

/// A subject as one segment of a path.
pub(super) fn encoded(subject: &str) -> String {
    let mut path = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && subject.len() > 2) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// TLS with ring, of this client alone: nothing is installed for the whole process.
fn tls(ca: Option<&Path>) -> Result<rustls::ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let unusable = |why: String| ClientError::Settings(format!("the file of the authority, ca: {}, {why}", file.display()));
            let certificates = CertificateDer::pem_file_iter(file).map_err(|error| unusable(format!("cannot be read ({error})")))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(format!("is not PEM ({error})")))?;
                roots.add(certificate).map_err(|error| unusable(format!("holds a certificate that cannot be used ({error})")))?;
            }
            if roots.is_empty() {
                return Err(unusable("holds no certificate".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| ClientError::Settings(format!("TLS cannot be used ({error})")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes, which reqwest does not show by itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    fn refused(url: &str) -> String {
        let settings = RegistrySettings { url: url.to_owned(), ..RegistrySettings::default() };
        Http::new(settings, Patience::default()).err().unwrap().to_string()
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_what_to_write() {
        assert!(refused("registry:8081").contains("write http:// or https://"));
        assert!(refused("nothing").contains("write https://host:port"));
        let said = refused("http://hub:hunter2@registry:8081");
        assert!(said.contains("write them as user and password") && !said.contains("hunter2"), "{said}");
        let ca = RegistrySettings { url: "https://r".to_owned(), ca: Some("/nowhere.pem".into()), ..RegistrySettings::default() };
        assert!(Http::new(ca, Patience::default()).err().unwrap().to_string().contains("/nowhere.pem"));
    }

    #[test]
    fn a_subject_is_one_segment_whatever_is_in_it() {
        assert_eq!(encoded("hub.mot-cua_x-value"), "hub.mot-cua_x-value");
        assert_eq!(encoded("a/b?c d"), "a%2Fb%3Fc%20d");
        assert_eq!(encoded(".."), "%2E%2E");
    }
}
