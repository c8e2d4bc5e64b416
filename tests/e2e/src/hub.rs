//! The `hub` binary as a process with a configuration folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{BROKERS, Source, eventually, free_port, root, unique};

/// A configuration folder and the ports of its hub.
pub struct Setup {
    /// The folder.
    pub folder: PathBuf,
    /// Topic prefix.
    pub prefix: String,
    /// Operators' port.
    pub http: u16,
    /// Registry port.
    pub registry: u16,
}

/// A running hub; killed when dropped.
pub struct Hub {
    child: Child,
    http: u16,
    log: PathBuf,
}

/// The binary, built once per test process in the same way as the tests were.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let status =
            Command::new(env!("CARGO")).args(["build", "--quiet", "--workspace", "--bin", "hub"]).current_dir(root()).status().unwrap();
        assert!(status.success(), "the hub does not build");
        let me = std::env::current_exe().unwrap();
        me.parent().and_then(Path::parent).unwrap().join("hub")
    })
}

impl Setup {
    /// A folder with `hub.yaml`, the project's schemas, and one system `demo` that reads `source` with these streams.
    #[must_use]
    pub fn new(source: &Source, streams: &str) -> Self {
        let config = format!(
            "config: {{host: 127.0.0.1, port: {}, database: {}, user: postgres, slot: SLOT, tls: {{mode: disable}}}}",
            source.port, source.database
        );
        Self::with_config(&config, streams)
    }

    /// The same with the `config:` section as given; `SLOT` in it becomes a slot of this setup's own (slots are one namespace per server).
    #[must_use]
    pub fn with_config(config: &str, streams: &str) -> Self {
        let prefix = unique("e2e");
        let folder = std::env::temp_dir().join(&prefix);
        let setup = Self { folder, prefix, http: free_port(), registry: free_port() };
        std::fs::create_dir_all(setup.folder.join("systems")).unwrap();
        setup.write_hub(BROKERS);
        let config = config.replace("SLOT", &setup.prefix);
        setup.write_system(&format!("system: demo\nconnector: postgres\n{config}\nstreams:\n{streams}"));
        let schemas = setup.folder.join("schemas");
        if !schemas.exists() {
            std::os::unix::fs::symlink(root().join("tests/e2e/schemas"), schemas).unwrap();
        }
        setup
    }

    /// Writes `hub.yaml` for these brokers.
    pub fn write_hub(&self, brokers: &str) {
        let text = format!(
            "kafka: {{brokers: \"{brokers}\", topic_prefix: {}}}\ntopics: {{defaults: {{partitions: 2, cleanup: compact}}}}\n\
             registry: {{embedded: {{listen: \"127.0.0.1:{}\"}}}}\nhttp: {{listen: \"127.0.0.1:{}\"}}\nschemas: schemas\n",
            self.prefix, self.registry, self.http
        );
        std::fs::write(self.folder.join("hub.yaml"), text).unwrap();
    }

    /// Changes a part of `hub.yaml`.
    pub fn edit_hub(&self, from: &str, to: &str) {
        let file = self.folder.join("hub.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replace(from, to)).unwrap();
    }

    /// Writes the file of the system.
    pub fn write_system(&self, text: &str) {
        std::fs::write(self.folder.join("systems/demo.yaml"), text).unwrap();
    }

    /// The topic of an entity.
    #[must_use]
    pub fn topic(&self, entity: &str) -> String {
        format!("{}.demo.{entity}", self.prefix)
    }

    /// Starts `hub run`.
    #[must_use]
    pub fn run(&self) -> Hub {
        self.run_with(&[])
    }

    /// Starts `hub run` with further arguments.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str]) -> Hub {
        let log = self.folder.join("hub.log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(binary())
            .arg("run")
            .arg(&self.folder)
            .args(arguments)
            .stdout(Stdio::from(file.try_clone().unwrap()))
            .stderr(Stdio::from(file))
            .spawn()
            .unwrap();
        Hub { child, http: self.http, log }
    }

    /// Starts another command of the hub that goes on by itself; what it says goes into `said` of the folder.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Child {
        let file = std::fs::File::create(self.folder.join("said")).unwrap();
        Command::new(binary())
            .arg("--config")
            .arg(&self.folder)
            .args(arguments)
            .stdout(Stdio::from(file.try_clone().unwrap()))
            .stderr(Stdio::from(file))
            .spawn()
            .unwrap()
    }

    /// Runs another command of the hub to its end.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(binary()).arg("--config").arg(&self.folder).args(arguments).output().unwrap()
    }
}

impl Hub {
    /// What `/status` says of the system.
    pub async fn status(&self) -> Option<Value> {
        let body = self.get("/status").await?;
        serde_json::from_str::<Value>(&body).ok()?.get(0).cloned()
    }

    /// The body of a page of the operators' port.
    pub async fn get(&self, path: &str) -> Option<String> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.http)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    /// Waits for a state of the system, and gives its status.
    pub async fn reaches(&self, state: &str) -> Value {
        let what = format!("state {state}; the log is {}", self.log.display());
        eventually(&what, async || self.status().await.filter(|status| status["state"] == state)).await
    }

    /// Waits until a count of a stream (`published`, `rejected` …) is at least this.
    pub async fn counts(&self, stream: &str, what: &str, least: u64) -> Value {
        let say = format!("{what} of {stream} to reach {least}; the log is {}", self.log.display());
        eventually(&say, async || {
            self.status().await.filter(|status| status["streams"][stream][what].as_u64().is_some_and(|count| count >= least))
        })
        .await
    }

    /// A variable of its environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let whole = std::fs::read_to_string(format!("/proc/{}/environ", self.child.id())).unwrap();
        whole.split('\0').find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end and waits; says whether it ended well.
    #[must_use]
    pub fn stop(mut self) -> bool {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        self.child.wait().unwrap().success()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// All that it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
