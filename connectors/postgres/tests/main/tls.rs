//! The five TLS modes and pg_hba's answers, against a server with a certificate of its own.

use std::path::Path;

use serde_json::{Value, json};

use crate::own_server::OwnServer;
use crate::probing::{check, fatal};
use crate::source::Source;

const HBA: &str = "host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";

#[tokio::test]
async fn every_tls_mode_accepts_and_refuses_what_libpq_does() {
    let own = OwnServer::start("wal_level = logical", HBA);
    own.certify();
    let source = Source::create(own.port, "ALTER SYSTEM SET ssl = on").await;
    source.run("SELECT pg_reload_conf()").await;
    let ca = own.path("ca.pem");
    let garbage = own.path("data/pg_hba.conf");
    let cases: [(&str, Value, Option<&str>); 11] = [
        ("127.0.0.1", json!({"mode": "disable"}), Some("pg-hba")),
        ("127.0.0.1", json!({"mode": "prefer"}), None),
        ("127.0.0.1", json!({"mode": "require"}), None),
        ("127.0.0.1", json!({"mode": "require", "ca": ca}), None),
        ("127.0.0.1", json!({"mode": "verify-ca", "ca": ca}), None),
        ("127.0.0.1", json!({"mode": "verify-full", "ca": ca}), Some("tls-certificate")),
        ("localhost", json!({"mode": "verify-full", "ca": ca}), None),
        ("localhost", json!({"mode": "verify-full"}), Some("tls-certificate")),
        ("localhost", json!({"mode": "verify-ca"}), Some("tls-certificate")),
        ("localhost", json!({"mode": "require"}), None),
        ("localhost", json!({"mode": "prefer"}), None),
    ];
    for (host, tls, refused) in cases {
        let answer = check(&source.config(json!({"host": host, "tls": tls})), &[]).await;
        assert_eq!(fatal(&answer), refused.into_iter().collect::<Vec<_>>(), "{host} {tls}: {:?}", answer.findings);
    }
    let config = source.config(json!({"tls": {"mode": "verify-full", "ca": garbage}}));
    let error = hub_connector_postgres::client::Server::new(&config, Path::new("/")).err().unwrap();
    assert_eq!(error.kind(), hub_sdk::ErrorKind::BadConfig);
    assert!(error.report().contains("it holds no certificate"), "{}", error.report());
}
