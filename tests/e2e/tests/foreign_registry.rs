//! A hub with somebody else's schema registry: over TLS, with an authority of its own, and a password.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use hub_conformance::authority;
use hub_tests_e2e::{Setup, Source, eventually};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const STREAM: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    map: {id: id, name: ten}
";

/// Ends TLS before a port of this machine, as a proxy in front of a registry does; says where.
async fn tls_before(target: u16, folder: &Path) -> u16 {
    let chain = CertificateDer::pem_file_iter(folder.join("server.crt")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (Ok(mut inner), Ok(mut outer)) = (acceptor.accept(stream).await, TcpStream::connect(("127.0.0.1", target)).await)
                else {
                    return;
                };
                let _ended = copy_bidirectional(&mut inner, &mut outer).await;
            });
        }
    });
    port
}

fn with_registry(setup: &Setup, section: &str) {
    let text = std::fs::read_to_string(setup.folder.join("hub.yaml")).unwrap();
    let lines = text.lines().map(|line| if line.starts_with("registry:") { section } else { line });
    std::fs::write(setup.folder.join("hub.yaml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
}

#[tokio::test]
async fn a_hub_publishes_with_a_registry_of_somebody_else_over_tls() {
    let source = Source::create("CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text); INSERT INTO nguoi VALUES (1, 'A')").await;
    // Somebody else's registry is the one that another hub embeds.
    let theirs = Setup::new(&source, STREAM);
    std::fs::remove_file(theirs.folder.join("systems/demo.yaml")).unwrap();
    let listen = theirs.registry;
    with_registry(&theirs, &format!("registry: {{embedded: {{listen: \"127.0.0.1:{listen}\"}}, user: hub, password: \"${{file:pw}}\"}}"));
    std::fs::write(theirs.folder.join("pw"), "mật-khẩu-sổ").unwrap();
    let registry = theirs.run();
    eventually("the registry", async || TcpStream::connect(("127.0.0.1", listen)).await.ok()).await;

    let ours = Setup::new(&source, STREAM);
    // The second one signs the certificate that is shown.
    authority(&ours.folder, "wrong");
    authority(&ours.folder, "right");
    let port = tls_before(listen, &ours.folder).await;
    let section = |ca: &str, password: &str| {
        format!("registry: {{url: \"https://localhost:{port}\", user: hub, password: \"${{file:{password}}}\", ca: {ca}.pem}}")
    };
    std::fs::write(ours.folder.join("pw"), "mật-khẩu-sổ").unwrap();
    std::fs::write(ours.folder.join("wrong-pw"), "không-đúng").unwrap();

    for (ca, password, told) in [("wrong", "pw", "certificate"), ("right", "wrong-pw", "unauthorized")] {
        with_registry(&ours, &section(ca, password));
        let hub = ours.run();
        let said = eventually("the reason", async || {
            let log = hub.log();
            log.lines().find(|line| line.contains("localhost") && line.to_lowercase().contains(told)).map(str::to_owned)
        });
        said.await;
        assert!(!hub.log().contains("không-đúng"), "the password is not logged");
        hub.kill();
        std::fs::remove_file(ours.folder.join("hub.log")).unwrap();
    }

    with_registry(&ours, &section("right", "pw"));
    let hub = ours.run();
    hub.counts("public.nguoi", "published", 1).await;
    assert!(hub.stop());
    // The schemas are in their registry, where our consumer finds them.
    let subjects = subjects(listen);
    assert!(subjects.contains(&format!("{}-value", ours.topic("person"))), "{subjects}");
    drop(registry);
}

/// `GET /subjects` with the password.
fn subjects(port: u16) -> String {
    let output = Command::new("curl").args(["-s", "-u", "hub:mật-khẩu-sổ", &format!("http://127.0.0.1:{port}/subjects")]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
