//! rustls for services and lists of keys: own authorities, and the hub's own certificate.

use std::path::Path;
use std::sync::Arc;

use hub_sdk::{ErrorKind, SourceError};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Tls;

/// Reads the PEM files and prepares rustls.
///
/// # Errors
/// [`ErrorKind::BadConfig`] names the file that cannot be used.
pub(crate) fn client_config(tls: &Tls, directory: &Path) -> Result<ClientConfig, SourceError> {
    let roots = match &tls.ca {
        Some(file) => roots_of(&directory.join(file))?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| SourceError::new(ErrorKind::Defect, "preparing TLS").because(error))?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else { return Ok(builder.with_no_client_auth()) };
    let (certificate, key_file) = (directory.join(certificate), directory.join(key));
    let chain = certificates(&certificate, "tls.certificate")?;
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(|error| unusable(&key_file, "tls.key", error.to_string()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&certificate, "tls.certificate", error.to_string()))
}

fn roots_of(file: &Path) -> Result<RootCertStore, SourceError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, "ca")? {
        roots.add(certificate).map_err(|error| unusable(file, "ca", error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(file: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let pem = std::fs::read(file).map_err(|error| unusable(file, setting, error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(file, setting, "it holds no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(file, setting, error.to_string())),
    }
}

fn unusable(file: &Path, setting: &str, why: String) -> SourceError {
    SourceError::new(ErrorKind::BadConfig, format!("reading {setting} {}", file.display()))
        .because(why)
        .advise("give a PEM file, as the service's administrator has it")
}
