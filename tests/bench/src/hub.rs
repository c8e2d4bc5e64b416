//! The hub as a process: started, asked, measured, stopped or killed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Outcome;

/// A running process whose CPU and memory are of interest.
pub(crate) struct Process {
    child: Child,
    pid: u32,
}

impl Process {
    /// Starts a command; its output goes to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Outcome<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        command.stdout(Stdio::from(file.try_clone()?)).stderr(Stdio::from(file)).kill_on_drop(true);
        let child = command.spawn()?;
        let pid = child.id().ok_or("the process ended at once")?;
        Ok(Self { child, pid })
    }

    /// User and system CPU seconds so far.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / 100.0)
    }

    /// Peak resident memory in megabytes (10^6 bytes).
    pub(crate) fn peak_mb(&self) -> Outcome<f64> {
        Ok(self.status("VmHWM")? * 1024.0 / 1e6)
    }

    /// Resident megabytes now, and threads.
    pub(crate) fn size(&self) -> Outcome<(f64, f64)> {
        Ok((self.status("VmRSS")? * 1024.0 / 1e6, self.status("Threads")?))
    }

    /// A number of the kernel's page on it.
    fn status(&self, name: &str) -> Outcome<f64> {
        let page = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let number = page.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.ok_or_else(|| format!("no {name}").into())
    }

    /// Asks it to end and waits.
    pub(crate) async fn stop(mut self) -> Outcome<()> {
        Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await?;
        if tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await.is_err() {
            self.child.kill().await?;
            return Err("the process did not end on SIGTERM within 20 s".into());
        }
        Ok(())
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill(mut self) -> Outcome<()> {
        self.child.kill().await?;
        Ok(())
    }
}

/// The folder of this crate.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The checkout.
pub(crate) fn root() -> PathBuf {
    folder().ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

/// The release binary of the hub, built beside this program by `make bench`.
pub(crate) fn binary() -> Outcome<PathBuf> {
    let me = std::env::current_exe()?;
    let binary = me.parent().ok_or("no folder")?.join("hub");
    if binary.exists() { Ok(binary) } else { Err(format!("{} is missing; run `make bench`", binary.display()).into()) }
}

/// Starts `hub run` with the bench's configuration under a topic prefix.
pub(crate) fn start(binary: &Path, prefix: &str) -> Outcome<Process> {
    start_in(binary, &folder().join("config"), prefix)
}

/// Starts `hub run` with the configuration of a folder under a topic prefix.
pub(crate) fn start_in(binary: &Path, config: &Path, prefix: &str) -> Outcome<Process> {
    let log = root().join(".local/logs/bench-hub.log");
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut command = Command::new(binary);
    command.arg("run").arg(config).env("BENCH_PREFIX", prefix);
    Process::start(command, &log)
}

/// Published records of all systems, as the hub says; 0 while it does not answer.
pub(crate) async fn published() -> u64 {
    let status = status().await;
    let streams = status.as_array().into_iter().flatten().filter_map(|system| system["streams"].as_object());
    streams.flat_map(serde_json::Map::values).filter_map(|stream| stream["published"].as_u64()).sum()
}

/// Waits until the hub follows the changes of all its systems.
pub(crate) async fn wait_following(limit: Duration) -> Outcome<()> {
    wait_states(limit, |state| state == "following").await
}

/// Waits until the hub has begun to read its source; says when it was seen to.
pub(crate) async fn wait_reading(limit: Duration) -> Outcome<Instant> {
    wait_states(limit, |state| state == "snapshot" || state == "following").await?;
    Ok(Instant::now())
}

/// Waits until all systems, of which there is one at least, are in states of this kind.
async fn wait_states(limit: Duration, wanted: fn(&str) -> bool) -> Outcome<()> {
    let started = Instant::now();
    loop {
        let status = status().await;
        let systems = status.as_array().map(Vec::as_slice).unwrap_or_default();
        let others: Vec<_> = systems.iter().filter(|system| !system["state"].as_str().is_some_and(wanted)).collect();
        if !systems.is_empty() && others.is_empty() {
            return Ok(());
        }
        if started.elapsed() > limit {
            let tell = |system: &&serde_json::Value| format!("{} is {}: {}", system["system"], system["state"], system["error"]);
            let told = others.first().map(tell).unwrap_or_default();
            return Err(
                format!("{} systems do not come so far within {limit:?}; {told}; see .local/logs/bench-hub.log", others.len()).into()
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the hub says of its systems; null while it does not answer.
async fn status() -> serde_json::Value {
    let Ok(text) = get("127.0.0.1:29464", "/status").await else { return serde_json::Value::Null };
    serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap_or_default()).unwrap_or_default()
}

/// Waits until the hub has published so many records; says when.
pub(crate) async fn wait_published(count: u64, limit: Duration) -> Outcome<Instant> {
    let started = Instant::now();
    loop {
        let now = published().await;
        if now >= count {
            return Ok(Instant::now());
        }
        if started.elapsed() > limit {
            return Err(format!("only {now} of {count} records were published in {limit:?}; see .local/logs/bench-hub.log").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A plain HTTP GET on loopback.
pub(crate) async fn get(address: &str, path: &str) -> Outcome<String> {
    request(address, "GET", path, "").await
}

/// A plain HTTP request on loopback.
pub(crate) async fn request(address: &str, method: &str, path: &str, body: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
