//! Encryption of a link to a database: its `tls:` section, and rustls in those modes, which are libpq's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{ErrorKind, SourceError};

/// Encryption of the link to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// How much is asked of the server.
    #[serde(default)]
    pub mode: TlsMode,
    /// PEM file of the authorities that may have signed the server's certificate; relative to the configuration folder.
    /// Without it, `verify-ca` and `verify-full` trust the public web authorities.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

impl TlsConfig {
    /// Whether `ca` is never looked at in this mode.
    #[must_use]
    pub fn ignores_ca(&self) -> bool {
        self.ca.is_some() && matches!(self.mode, TlsMode::Disable | TlsMode::Prefer)
    }
}

/// What is asked of the server's TLS, in libpq's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server offers it; the certificate is not checked.
    #[default]
    Prefer,
    /// Always encrypted. The certificate is checked only where `ca` is given, and then as by `verify-ca`.
    Require,
    /// Always encrypted, and the certificate must be signed by a known authority.
    VerifyCa,
    /// As `verify-ca`, and the certificate must be made out to the host.
    VerifyFull,
}

/// What a connection does about encryption.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// Never asks for it.
    Never,
    /// Asks, and goes on in clear where the server offers none.
    IfOffered(Arc<ClientConfig>),
    /// Asks, and fails where the server offers none.
    Always(Arc<ClientConfig>),
}

/// Reads the CA file, where there is one, and prepares rustls.
///
/// # Errors
/// [`ErrorKind::BadConfig`] where the CA file cannot be read or holds no certificate.
pub fn encryption(tls: &TlsConfig, directory: &Path) -> Result<Encryption, SourceError> {
    let check = match tls.mode {
        TlsMode::Disable => return Ok(Encryption::Never),
        TlsMode::Prefer => Check::Nothing,
        TlsMode::Require if tls.ca.is_none() => Check::Nothing,
        TlsMode::Require | TlsMode::VerifyCa => Check::Authority,
        TlsMode::VerifyFull => Check::AuthorityAndName,
    };
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match check {
        Check::Nothing => Arc::new(Lenient { chain: None, provider: Arc::clone(&provider) }),
        Check::Authority => Arc::new(Lenient { chain: Some(by_authority(tls, directory, &provider)?), provider: Arc::clone(&provider) }),
        Check::AuthorityAndName => by_authority(tls, directory, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SourceError::new(ErrorKind::Defect, "preparing TLS").because(error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let config = Arc::new(config);
    Ok(if tls.mode == TlsMode::Prefer { Encryption::IfOffered(config) } else { Encryption::Always(config) })
}

#[derive(Clone, Copy)]
enum Check {
    Nothing,
    Authority,
    AuthorityAndName,
}

fn by_authority(tls: &TlsConfig, directory: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, SourceError> {
    let roots = match &tls.ca {
        Some(file) => roots_of(&directory.join(file))?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| SourceError::new(ErrorKind::BadConfig, "preparing to check the server's certificate").because(error))
}

fn roots_of(file: &Path) -> Result<RootCertStore, SourceError> {
    let fail = |cause: Box<dyn std::error::Error + Send + Sync>| {
        SourceError::new(ErrorKind::BadConfig, format!("reading tls.ca {}", file.display()))
            .because(cause)
            .advise("give a PEM file with the authority's certificate, as the server's administrator has it")
    };
    let pem = std::fs::read(file).map_err(|error| fail(error.into()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| fail(error.to_string().into()))?;
        roots.add(certificate).map_err(|error| fail(error.into()))?;
    }
    if roots.is_empty() {
        return Err(fail("it holds no certificate".into()));
    }
    Ok(roots)
}

/// Checks less than rustls does: nothing, as `prefer` and `require` do (against listeners, not against impostors), or the chain and not
/// the name, as `verify-ca` does.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // webpki looks at the chain first: a wrong name is only told of a certificate that is otherwise good.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
