//! A Kafka of one test's own, for tests that take it away. Its jars are those that `make up` fetched.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rdkafka::admin::AdminClient;
use rdkafka::config::ClientConfig;

use crate::{eventually, free_port, root, unique};

/// A broker on ports of its own. Killed when dropped; its data stays for the next start.
pub struct Kafka {
    /// `host:port` of the broker.
    pub brokers: String,
    folder: PathBuf,
    libraries: String,
    child: Option<Child>,
}

impl Kafka {
    /// Formats a broker's storage without starting it.
    #[must_use]
    pub fn prepare() -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = std::env::temp_dir().join(unique("e2ekafka"));
        std::fs::create_dir_all(&folder).unwrap();
        let version = std::fs::read_to_string(root().join("deploy/local/pom.xml")).unwrap();
        let version = version.split("<kafka.version>").nth(1).unwrap().split('<').next().unwrap().to_owned();
        let home = std::env::var("HOME").unwrap();
        let libraries = format!("{home}/.cache/provincial-hub/kafka-{version}/*");
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\nauto.create.topics.enable=false\noffsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=1\ntransaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=2\ngroup.initial.rebalance.delay.ms=0\nlog.cleaner.dedupe.buffer.size=33554432\n",
            folder.join("data").display()
        );
        std::fs::write(folder.join("server.properties"), properties).unwrap();
        let kafka = Self { brokers: format!("127.0.0.1:{port}"), folder, libraries, child: None };
        let status = kafka
            .java("kafka.tools.StorageTool")
            .args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "server.properties"])
            .status()
            .expect("java is installed; run `make up`");
        assert!(status.success(), "Kafka's storage cannot be formatted; run `make up` to fetch its jars");
        kafka
    }

    fn java(&self, class: &str) -> Command {
        self.java_by(Command::new("java"), class)
    }

    fn java_by(&self, mut command: Command, class: &str) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("kafka.log")).unwrap();
        command
            .args(["-Xms128m", "-Xmx512m", "-cp", &self.libraries])
            .arg(format!("-Dlog4j2.configurationFile={}", root().join("deploy/local/log4j2.properties").display()))
            .arg(class)
            .current_dir(&self.folder)
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log));
        command
    }

    /// Starts the broker and waits until it answers.
    pub async fn start(&mut self) {
        self.start_by(Command::new("java")).await;
    }

    /// The same on a disk that is full once a file has so many mebibytes. A limit of the process stands for the full disk,
    /// which only root could mount: the broker's writes fail in the same place and it does the same about it.
    pub async fn start_with_room(&mut self, mebibytes: u32) {
        let mut limited = Command::new("bash");
        limited.args(["-c", &format!("ulimit -f {}; exec java \"$@\"", mebibytes * 1024), "java"]);
        self.start_by(limited).await;
    }

    /// Whether the broker has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    async fn start_by(&mut self, java: Command) {
        self.child = Some(self.java_by(java, "kafka.Kafka").arg("server.properties").spawn().unwrap());
        let client: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        let what = format!("Kafka in {}", self.folder.display());
        eventually(&what, async || {
            client.inner().fetch_metadata(None, std::time::Duration::from_secs(1)).ok().filter(|found| !found.brokers().is_empty())
        })
        .await;
    }

    /// Lets it hang: connections stay and nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the broker runs");
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
