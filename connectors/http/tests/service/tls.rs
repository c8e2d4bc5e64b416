//! TLS: an authority of the service's own, and a certificate of the hub's that the service asks for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hub_sdk::model::Checkpoint;
use hub_sdk::{Connector, ErrorKind};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::reader::{Reader, config, failure, open};
use crate::support::{FakeLgsp, Reply};

struct Certificates(PathBuf);

impl Certificates {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("hub-http-tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        hub_conformance::authority(&folder, "ca");
        for step in [
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=hub -keyout hub.key -out hub.csr",
            "x509 -req -in hub.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out hub.crt",
        ] {
            let output = Command::new("openssl").args(step.split(' ')).current_dir(&folder).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let chain = |name: &str| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_file_iter(self.path(name)).unwrap().map(Result::unwrap).collect()
        };
        let mut roots = RootCertStore::empty();
        roots.add(chain("ca.pem").remove(0)).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain("server.crt"), PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap())
            .unwrap();
        TlsAcceptor::from(Arc::new(server))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.0);
    }
}

fn with(server: &FakeLgsp, tls: Value) -> Value {
    config(server, json!({"tls": tls, "streams": {"a": {"path": "/ds", "key": ["id"]}}}))
}

#[tokio::test]
async fn the_service_is_known_by_its_authority_and_knows_the_hub_by_its_certificate() {
    let files = Certificates::new();
    let server = FakeLgsp::start_tls(files.acceptor(), |_| Reply::json(&json!([{"id": 1}]))).await;
    let (ca, certificate, key) = (files.path("ca.pem"), files.path("hub.crt"), files.path("hub.key"));
    let good = with(&server, json!({"ca": ca, "certificate": certificate, "key": key}));
    let mut reader = Reader::start(&open(&good).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r id=1"]);
    let cases = [
        (json!({"certificate": certificate, "key": key}), ErrorKind::BadConfig, "tls.ca"),
        (json!({"ca": ca}), ErrorKind::Denied, "tls.certificate"),
    ];
    for (tls, kind, advice) in cases {
        let error = failure(&open(&with(&server, tls)).await, &Checkpoint::empty()).await;
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.advice().unwrap().contains(advice), "{}", error.report());
    }
    let mut elsewhere = good.clone();
    elsewhere["base_url"] = json!(format!("https://127.0.0.1:{}", server.port));
    let error = failure(&open(&elsewhere).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::BadConfig, "another name than the certificate's: {}", error.report());
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_named() {
    let server = FakeLgsp::start(|_| Reply::status(200)).await;
    let config = with(&server, json!({"ca": Path::new("/etc/hostname")}));
    let context = hub_sdk::OpenContext::new(hub_sdk::model::SystemName::new("lgsp").unwrap(), Vec::new());
    let opened = hub_connector_http::Http::open(serde_json::from_value(config).unwrap(), context).await;
    let error = opened.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::BadConfig);
    assert!(error.report().contains("/etc/hostname: it holds no certificate"), "{}", error.report());
}
