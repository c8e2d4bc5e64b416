//! TLS of the listener: certificates from files that may be renewed while it runs, and the names of those who come.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hub_sdk::{ErrorKind, SourceError};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Tagged};

use crate::config::Tls;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(30);
/// The attribute `commonName`.
const COMMON_NAME: &str = "2.5.4.3";

/// The listener's side of TLS. The files are looked at now and then; a faulty renewal leaves the old ones in use.
pub(crate) struct Encryption {
    files: Tls,
    held: Mutex<Held>,
}

struct Held {
    acceptor: TlsAcceptor,
    changed: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl Encryption {
    /// Reads the files; relative ones start at `directory`.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`] where they cannot be used.
    pub(crate) fn new(tls: &Tls, directory: &Path) -> Result<Self, SourceError> {
        let absolute = |path: &PathBuf| directory.join(path);
        let files =
            Tls { certificate: absolute(&tls.certificate), key: absolute(&tls.key), client_ca: tls.client_ca.as_ref().map(absolute) };
        let held = Held { changed: changed(&files), acceptor: load(&files)?, looked: Instant::now() };
        Ok(Self { files, held: Mutex::new(held) })
    }

    /// What accepts the next connection.
    pub(crate) fn acceptor(&self, now: Instant) -> TlsAcceptor {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(held.looked) >= LOOK {
            held.looked = now;
            let changed = changed(&self.files);
            if changed != held.changed {
                match load(&self.files) {
                    Ok(acceptor) => {
                        tracing::info!(certificate = %self.files.certificate.display(), "the certificate was renewed");
                        (held.acceptor, held.changed) = (acceptor, changed);
                    }
                    // Certificate and key are often written one after the other: the next look sees both.
                    Err(error) => tracing::warn!(error = error.report(), "the renewed certificate cannot be used; the old one stays"),
                }
            }
        }
        held.acceptor.clone()
    }
}

fn changed(files: &Tls) -> Vec<Option<SystemTime>> {
    let all = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    all.into_iter().flatten().map(|file| std::fs::metadata(file).and_then(|there| there.modified()).ok()).collect()
}

fn load(files: &Tls) -> Result<TlsAcceptor, SourceError> {
    let unusable = |file: &Path, cause: Box<dyn std::error::Error + Send + Sync>| {
        SourceError::new(ErrorKind::BadConfig, format!("reading {} for TLS", file.display()))
            .because(cause)
            .advise("give PEM files that the hub may read: the certificate with its chain, its key, and the senders' authority")
    };
    let certificates = |file: &Path| -> Result<Vec<CertificateDer<'static>>, SourceError> {
        let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let found = found.map_err(|error| unusable(file, error.into()))?;
        if found.is_empty() { Err(unusable(file, "there is no certificate in it".into())) } else { Ok(found) }
    };
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key, error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable(&files.certificate, error.into()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| unusable(file, error.into()))?;
            }
            // Streams with other ways to tell who sends share the listener: whether one must be shown is each stream's.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated().build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(file, error.into()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&files.certificate, error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The common names of a certificate that was verified; none where it cannot be read.
pub(crate) fn common_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(certificate) else { return Vec::new() };
    let attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|relative| relative.0.iter());
    let named = attributes.filter(|attribute| attribute.oid.to_string() == COMMON_NAME);
    named.filter_map(|attribute| text(attribute.value.tag(), attribute.value.value())).collect()
}

fn text(tag: x509_cert::der::Tag, bytes: &[u8]) -> Option<String> {
    use x509_cert::der::Tag;
    match tag {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => String::from_utf8(bytes.to_vec()).ok(),
        Tag::BmpString => {
            let (units, []) = bytes.as_chunks::<2>() else { return None };
            String::from_utf16(&units.iter().map(|unit| u16::from_be_bytes(*unit)).collect::<Vec<_>>()).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
        let folder = std::env::temp_dir().join(format!("hub-webhook-tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        hub_conformance::authority(&folder, "hub");
        let tls = Tls { certificate: "server.crt".into(), key: "server.key".into(), client_ca: Some("hub.pem".into()) };
        let encryption = Encryption::new(&tls, &folder).unwrap();
        let began = Instant::now();
        let at = |looks: u32| encryption.acceptor(began + LOOK * looks + Duration::from_secs(1));
        let first = at(0);
        let same = |one: &TlsAcceptor, other: &TlsAcceptor| Arc::ptr_eq(one.config(), other.config());
        assert!(same(&first, &at(1)), "nothing has changed");
        std::fs::write(folder.join("server.key"), "no key").unwrap();
        assert!(same(&first, &at(2)), "the old one stays");
        hub_conformance::authority(&folder, "hub");
        let renewed = at(3);
        assert!(!same(&first, &renewed) && same(&renewed, &at(4)));
        let certificate = CertificateDer::from_pem_file(folder.join("hub.pem")).unwrap();
        assert_eq!(common_names(&certificate), ["hub"]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(Encryption::new(&tls, &folder).err().unwrap().kind(), ErrorKind::BadConfig);
    }
}
