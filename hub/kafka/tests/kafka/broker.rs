//! A broker of a test's own, with plain, SASL and TLS listeners, that can be killed and started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hub_kafka::config::{Mechanism, Password, SaslConfig, TlsConfig};
use hub_kafka::{KafkaConfig, Topics};

pub const USER: &str = "hub";
pub const PASSWORD: &str = "hub-secret";

/// A broker in a temporary folder. Dropping it kills it and removes the folder.
pub struct Broker {
    folder: PathBuf,
    ports: [u16; 5],
    process: Option<Child>,
}

impl Broker {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        let mut broker = Self::prepared();
        broker.run().await;
        broker
    }

    /// Formats one without starting it.
    pub fn prepared() -> Self {
        let folder = std::env::temp_dir().join(crate::fixture::fresh("broker"));
        std::fs::create_dir_all(&folder).unwrap();
        let ports = free_ports();
        certificates(&folder);
        let broker = Self { folder, ports, process: None };
        std::fs::write(broker.folder.join("server.properties"), broker.properties()).unwrap();
        let scram = |mechanism: &str| format!("{mechanism}=[name={USER},password={PASSWORD}]");
        let formatted = broker
            .java("kafka.tools.StorageTool")
            .args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", "server.properties"])
            .args(["--add-scram", &scram("SCRAM-SHA-256"), "--add-scram", &scram("SCRAM-SHA-512")])
            .output()
            .expect("java runs");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stdout));
        broker
    }

    /// Starts it (again) and waits until it answers.
    pub async fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let process =
            self.java("kafka.Kafka").arg("server.properties").stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("java runs");
        self.process = Some(process);
        let until = Instant::now() + Duration::from_secs(60);
        while Topics::connect(&self.config()).unwrap().list().is_err() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "the test's broker does not come up:\n{log}");
            tokio::task::yield_now().await;
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Lets it hang: connections stay and nothing is answered.
    pub fn freeze(&self) {
        let process = self.process.as_ref().expect("the broker runs");
        assert!(Command::new("kill").args(["-STOP", &process.id().to_string()]).status().unwrap().success());
    }

    /// Without TLS or login.
    pub fn config(&self) -> KafkaConfig {
        KafkaConfig::at(format!("127.0.0.1:{}", self.ports[0]))
    }

    /// Login without TLS.
    pub fn sasl(&self, mechanism: Mechanism, password: &str) -> KafkaConfig {
        let mut config = KafkaConfig::at(format!("127.0.0.1:{}", self.ports[2]));
        config.sasl = Some(SaslConfig { mechanism, user: USER.to_owned(), password: Password::new(password) });
        config
    }

    /// Login over TLS.
    pub fn sasl_over_tls(&self, mechanism: Mechanism) -> KafkaConfig {
        let mut config = self.sasl(mechanism, PASSWORD);
        config.brokers = format!("localhost:{}", self.ports[4]);
        config.tls = Some(TlsConfig { ca: Some(self.file("ca.crt")), ..TlsConfig::default() });
        config
    }

    /// TLS with a client certificate, which this listener asks for.
    pub fn tls(&self) -> KafkaConfig {
        let mut config = KafkaConfig::at(format!("localhost:{}", self.ports[3]));
        config.tls = Some(TlsConfig {
            ca: Some(self.file("ca.crt")),
            cert: Some(self.file("client.crt")),
            key: Some(self.file("client.key")),
            ..TlsConfig::default()
        });
        config
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command
            .current_dir(&self.folder)
            .args(["-Xms128m", "-Xmx512m", "-XX:-UsePerfData", "-cp", &format!("{}/*", libraries().display()), class])
            .stdin(Stdio::null());
        command
    }

    fn properties(&self) -> String {
        let [plain, controller, sasl, ssl, sasl_ssl] = self.ports;
        let folder = self.folder.display();
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},\
             LOGIN://127.0.0.1:{sasl},TLS://127.0.0.1:{ssl},BOTH://127.0.0.1:{sasl_ssl}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{plain},LOGIN://127.0.0.1:{sasl},\
             TLS://localhost:{ssl},BOTH://localhost:{sasl_ssl}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL,BOTH:SASL_SSL\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             ssl.keystore.type=PEM\nssl.keystore.location={folder}/broker.pem\n\
             ssl.truststore.type=PEM\nssl.truststore.location={folder}/ca.crt\n\
             listener.name.tls.ssl.client.auth=required\n\
             log.dirs={folder}/data\nauto.create.topics.enable=false\n\
             offsets.topic.num.partitions=1\noffsets.topic.replication.factor=1\n\
             transaction.state.log.num.partitions=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
             log.cleaner.dedupe.buffer.size=16777216\n"
        );
        let security = "org.apache.kafka.common.security";
        for listener in ["login", "both"] {
            text.push_str(&format!(
                "listener.name.{listener}.plain.sasl.jaas.config={security}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
                 listener.name.{listener}.scram-sha-256.sasl.jaas.config={security}.scram.ScramLoginModule required;\n\
                 listener.name.{listener}.scram-sha-512.sasl.jaas.config={security}.scram.ScramLoginModule required;\n"
            ));
        }
        text
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The jars that `make up` fetches.
fn libraries() -> PathBuf {
    let cache = std::env::var_os("HUB_CACHE")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/provincial-hub"), PathBuf::from);
    let fetched = std::fs::read_dir(&cache).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = fetched.filter(|path| path.join(".complete").exists()).max();
    found.unwrap_or_else(|| panic!("no Kafka in {}: run `make up`, which fetches it", cache.display()))
}

fn free_ports() -> [u16; 5] {
    let held: [TcpListener; 5] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// An authority, and certificates of the broker and a client.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let done = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().expect("openssl runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=hub-test-ca -days 30");
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.crt -subj /CN=other-ca -days 30");
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    for name in ["broker", "client"] {
        openssl(&format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        openssl(&format!("x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 30 -extfile names"));
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    std::fs::write(folder.join("broker.pem"), read("broker.key") + &read("broker.crt") + &read("ca.crt")).unwrap();
}
