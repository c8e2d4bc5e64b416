//! Kafka goes away and comes back, on a broker of this test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hub_registry::{Normalize, Offer, Registry, StartError};
use rdkafka::admin::AdminClient;
use reqwest::Method;
use serde_json::json;

use crate::fixture::{Served, at, fresh};

/// A broker on ports of its own. Ended when dropped.
struct Broker {
    brokers: String,
    folder: PathBuf,
    child: Option<Child>,
}

impl Broker {
    fn prepare() -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, controller) = (free(), free());
        let folder = std::env::temp_dir().join(fresh("kafka"));
        std::fs::create_dir_all(&folder).unwrap();
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\nlog.dirs={}\n\
             auto.create.topics.enable=false\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=1\nlog.cleaner.dedupe.buffer.size=33554432\n",
            folder.join("data").display()
        );
        std::fs::write(folder.join("server.properties"), properties).unwrap();
        let broker = Self { brokers: format!("127.0.0.1:{port}"), folder, child: None };
        let mut format = broker.java("kafka.tools.StorageTool");
        let status = format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties"]).status();
        assert!(status.expect("java is installed; run `make up`").success(), "Kafka's jars are missing; run `make up`");
        broker
    }

    /// Java with the jars that `make up` fetched.
    fn java(&self, class: &str) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let pom = std::fs::read_to_string(root.join("deploy/local/pom.xml")).unwrap();
        let version = pom.split("<kafka.version>").nth(1).unwrap().split('<').next().unwrap().to_owned();
        let jars = format!("{}/.cache/provincial-hub/kafka-{version}/*", std::env::var("HOME").unwrap());
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("kafka.log")).unwrap();
        let mut command = Command::new("java");
        command
            .args(["-Xms64m", "-Xmx384m", "-cp", &jars])
            .arg(format!("-Dlog4j2.configurationFile={}", root.join("deploy/local/log4j2.properties").display()))
            .arg(class)
            .current_dir(&self.folder)
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log));
        command
    }

    async fn start(&mut self) {
        self.child = Some(self.java("kafka.Kafka").arg("server.properties").spawn().unwrap());
        let client: AdminClient<_> = at(&self.brokers).create().unwrap();
        let asked = move || {
            let answered =
                |_: &i32| client.inner().fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|found| !found.brokers().is_empty());
            (0..60).find(answered).is_some()
        };
        let answers = tokio::task::spawn_blocking(asked).await.unwrap();
        assert!(answers, "Kafka does not start; see {}", self.folder.join("kafka.log").display());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_reads_go_on_and_writes_end_with_50003_and_then_all_is_well_again() {
    let mut broker = Broker::prepare();
    broker.start().await;
    let topic = fresh("away");
    let registry = Registry::start(at(&broker.brokers), &topic, 1).await.unwrap();
    registry.register("s", &Offer::avro("\"int\""), Normalize::No).await.unwrap();
    let hasty = registry.clone().write_within(Duration::from_secs(2));
    let served = Served::serve(hasty.clone(), hasty.router()).await;

    broker.kill();
    assert_eq!(served.get("/subjects").await, json!(["s"]));
    assert_eq!(served.register("s", "\"int\"").await, json!({"id": 1}), "what is there already needs no Kafka");
    let offer = Some(json!({"schema": "\"long\""}));
    for _ in 0..2 {
        let (status, code, message) = served.refused(Method::POST, "/subjects/t/versions", offer.clone()).await;
        assert_eq!((status, code), (500, 50003), "{message}");
        assert!(message.contains("nothing was written, try again"), "{message}");
    }
    assert_eq!(served.get("/subjects").await, json!(["s"]));

    broker.start().await;
    let patient = registry.write_within(Duration::from_secs(60));
    let served = Served::serve(patient.clone(), patient.router()).await;
    assert_eq!(served.register("t", "\"long\"").await, json!({"id": 2}));
    assert_eq!(served.get("/subjects").await, json!(["s", "t"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_not_there_is_an_error_that_may_come_right() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = at(&free.to_string());
    client.set("socket.timeout.ms", "1000");
    let error = Registry::start_within(client, "hub.schemas", 1, Duration::from_secs(2)).await.err().unwrap();
    assert!(matches!(error, StartError::Kafka { .. }) && error.is_retriable(), "{error}");
}
