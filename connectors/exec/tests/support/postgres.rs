//! A throw-away PostgreSQL server of a test's own, with an administrator's way in beside the link.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Scratch, is_root};

/// Password of the account that reads.
pub(crate) const PASSWORD: &str = "mat-khau-kho-doan";

/// A server that is stopped when dropped.
pub(crate) struct Postgres {
    pub(crate) port: u16,
    scratch: Scratch,
    server: Option<Child>,
}

fn program(name: &str) -> String {
    let bin = std::env::var("HUB_PG_BIN").unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".to_owned());
    format!("{bin}/{name}")
}

/// A command; the server refuses root, so root runs it as the user postgres.
fn lent(name: &str) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", &program(name)]);
        command
    } else {
        Command::new(program(name))
    };
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Postgres {
    /// A server with a user `hub` that may read all.
    pub(crate) fn start() -> Self {
        let scratch = Scratch::new();
        if is_root() {
            assert!(Command::new("chown").arg("postgres:").arg(scratch.path()).status().unwrap().success());
        }
        // The port is free now and very likely still is a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, scratch, server: None };
        let data = server.data();
        let made = lent("initdb").args(["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]).status();
        assert!(made.unwrap().success(), "initdb");
        let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(Path::new(&data).join("pg_hba.conf"), rules).unwrap();
        server.launch();
        server.run(&format!("CREATE ROLE hub LOGIN PASSWORD '{PASSWORD}'; GRANT pg_read_all_data TO hub"));
        server
    }

    fn data(&self) -> String {
        self.scratch.path().join("data").to_str().unwrap().to_owned()
    }

    fn launch(&mut self) {
        let (data, port) = (self.data(), self.port.to_string());
        let sockets = format!("unix_socket_directories={}", self.scratch.path().display());
        let mut command = lent("postgres");
        command.args(["-D", &data, "-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", &sockets]);
        self.server = Some(command.spawn().unwrap());
        let started = Instant::now();
        while self.try_run("SELECT 1").is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server as a crash does.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // `runuser` stands between us and the server. PostgreSQL's own word for a crash is SIGQUIT: its children end too.
        let pid = std::fs::read_to_string(Path::new(&self.data()).join("postmaster.pid")).ok();
        let pid = pid.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| server.id().to_string());
        let _sent = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ended = server.wait();
    }

    /// Starts it again.
    pub(crate) fn again(&mut self) {
        self.launch();
    }

    fn try_run(&self, sql: &str) -> Result<String, String> {
        let mut command = Command::new("psql");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-d", "postgres", "-X", "-q", "-A", "-t"]);
        command.args(["-v", "ON_ERROR_STOP=1", "-1", "-F", "\u{1f}", "-R", "\u{1e}", "-P", "null=∅", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(sql.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs statements as the administrator; their output.
    pub(crate) fn run(&self, sql: &str) -> String {
        self.try_run(sql).unwrap_or_else(|error| panic!("{sql:.300}: {error}"))
    }

    /// Rows of two columns as text, `∅` for null.
    pub(crate) fn pairs(&self, sql: &str) -> Vec<(String, String)> {
        let output = self.run(sql);
        let rows = output.trim_end_matches('\n').split('\u{1e}').filter(|row| !row.is_empty());
        rows.map(|row| row.split_once('\u{1f}').unwrap())
            .map(|(one, two)| (one.to_owned(), two.trim_end_matches('\n').to_owned()))
            .collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A text as SQL.
pub(crate) fn quoted(text: Option<&str>) -> String {
    text.map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}
