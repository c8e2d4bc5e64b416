//! A throw-away MariaDB with a binary log, and an administrator's way in beside the link.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Password of the account that reads.
pub(crate) const PASSWORD: &str = "mat khau; 'kho}'";

/// A server of its own, stopped when dropped.
pub(crate) struct Database {
    pub(crate) port: u16,
    folder: PathBuf,
    settings: Vec<String>,
    server: Option<Child>,
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// A command; servers refuse root, so root runs them as the user postgres, whom every machine of ours has.
fn lent(program: &str) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", program]);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Gives a file or a folder to that user.
pub(crate) fn lend(path: &std::path::Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres:").arg(path).status().unwrap().success());
    }
}

#[allow(dead_code, reason = "each test binary uses a part")]
impl Database {
    /// A server with a user `hub` that may read all, and its log.
    pub(crate) fn start() -> Self {
        Self::start_with(1, &[])
    }

    /// The same with a number and further settings.
    pub(crate) fn start_with(number: u32, settings: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hubmy_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        lend(&folder);
        // The port is free now and very likely still is a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut own = vec![format!("--server-id={number}")];
        own.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let mut database = Self { port, folder, settings: own, server: None };
        let made = lent("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args([format!("--datadir={}", database.data()), format!("--tmpdir={}", database.folder.display())])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(made.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&made.stderr));
        database.launch();
        database.run("CREATE DATABASE IF NOT EXISTS hub CHARACTER SET utf8mb4");
        database.user("hub", PASSWORD);
        database
    }

    /// An account that may do what a system needs.
    pub(crate) fn user(&self, name: &str, password: &str) {
        let secret = password.replace('\'', "''");
        self.run(&format!("CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{secret}'"));
        self.run(&format!("GRANT SELECT ON hub.* TO {name}@'127.0.0.1'"));
        self.run(&format!("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO {name}@'127.0.0.1'"));
    }

    pub(crate) fn folder(&self) -> &PathBuf {
        &self.folder
    }

    fn data(&self) -> String {
        self.folder.join("data").to_str().unwrap().to_owned()
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn launch(&mut self) {
        let mut command = lent("mariadbd");
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=1"]);
        command.args(["--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL", "--max-allowed-packet=256M"]);
        command.args(["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--skip-slave-start"]);
        command.args([
            format!("--datadir={}", self.data()),
            format!("--port={}", self.port),
            format!("--tmpdir={}", self.folder.display()),
        ]);
        command.args([format!("--socket={}", self.socket().display()), format!("--pid-file={}", self.folder.join("pid").display())]);
        command.args(&self.settings);
        self.server = Some(command.spawn().unwrap());
        let started = Instant::now();
        while !self.client("SELECT 1").status.success() {
            assert!(started.elapsed() < Duration::from_secs(60), "the server does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server as a crash does, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// Ends the server as a crash does.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // `runuser` stands between us and the server.
        let pid = std::fs::read_to_string(self.folder.join("pid")).ok();
        let pid = pid.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| server.id().to_string());
        let _sent = Command::new("kill").args(["-KILL", &pid]).status();
        let _ended = server.wait();
    }

    fn client(&self, sql: &str) -> std::process::Output {
        use std::io::Write;
        let mut child = Command::new("mariadb")
            .args(["--no-defaults", "-uroot", "--default-character-set=utf8mb4", "--batch", "--skip-column-names", "--raw"])
            .arg(format!("--socket={}", self.socket().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A client that cannot connect reads nothing.
        let _unread = child.stdin.take().unwrap().write_all(sql.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs statements as the administrator, in the database `hub` where it is there.
    pub(crate) fn run(&self, sql: &str) {
        let output = self.client(&format!("CREATE DATABASE IF NOT EXISTS hub CHARACTER SET utf8mb4; USE hub; {sql}"));
        assert!(output.status.success(), "{sql:.100}: {}", refusal(&output.stderr));
    }

    /// Rows as lines with tabs.
    pub(crate) fn lines(&self, sql: &str) -> Vec<String> {
        let output = self.client(&format!("USE hub; {sql}"));
        assert!(output.status.success(), "{sql:.100}: {}", refusal(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// The `config:` section that reads it at a port.
    pub(crate) fn config(&self, port: u16) -> Value {
        json!({"host": "127.0.0.1", "port": port, "user": "hub", "password": PASSWORD, "tls": {"mode": "disable"}, "connect_timeout_s": 5})
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.kill();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the client says of a refused statement, without the statement.
fn refusal(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr).into_owned();
    text.lines().filter(|line| line.starts_with("ERROR")).collect()
}

/// A text as SQL.
#[allow(dead_code, reason = "each test binary uses a part")]
pub(crate) fn quoted(text: &Option<String>) -> String {
    text.as_ref().map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}
