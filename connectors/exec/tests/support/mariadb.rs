//! A throw-away MariaDB server of a test's own, with a log of its rows.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Scratch, is_root};

/// A server that is stopped when dropped.
pub(crate) struct Mariadb {
    pub(crate) port: u16,
    scratch: Scratch,
    server: Option<Child>,
}

/// A command; the server refuses root, so root runs it as the user postgres.
fn lent(name: &str) -> Command {
    let mut command = Command::new(if is_root() { "runuser" } else { name });
    if is_root() {
        command.args(["-u", "postgres", "--", name]);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Mariadb {
    /// A server with a user `hub` that may read all and follow the log.
    pub(crate) fn start(password: &str) -> Self {
        let scratch = Scratch::new();
        if is_root() {
            assert!(Command::new("chown").arg("postgres:").arg(scratch.path()).status().unwrap().success());
        }
        // The port is free now and very likely still is a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (folder, data) = (scratch.path().display(), scratch.path().join("data").display().to_string());
        let made = lent("mariadb-install-db")
            .args(["--no-defaults", &format!("--datadir={data}"), "--auth-root-authentication-method=normal", "--skip-test-db"])
            // A server that starts removes what looks like a temporary table of its own, whoever's it is.
            .arg(format!("--tmpdir={folder}"))
            .status();
        assert!(made.unwrap().success(), "mariadb-install-db");
        let mut command = lent("mariadbd");
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"]);
        command.args(["--log-bin=binlog", "--server-id=1", "--binlog-format=ROW", "--character-set-server=utf8mb4"]);
        command.args([
            format!("--datadir={data}"),
            format!("--tmpdir={folder}"),
            format!("--port={port}"),
            format!("--socket={folder}/socket"),
            format!("--pid-file={folder}/pid"),
        ]);
        let server = Some(command.spawn().unwrap());
        let server = Self { port, scratch, server };
        let started = Instant::now();
        while server.try_run("SELECT 1").is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "MariaDB does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server.run(&format!("CREATE USER hub@'127.0.0.1' IDENTIFIED BY '{password}'"));
        server.run("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT, SLAVE MONITOR ON *.* TO hub@'127.0.0.1'");
        server
    }

    fn try_run(&self, sql: &str) -> Result<(), String> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h", "127.0.0.1", "-P", &self.port.to_string(), "-u", "root", "--default-character-set=utf8mb4"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _refused = stdin.write_all(sql.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Runs statements as the administrator.
    pub(crate) fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("{sql:.300}: {error}"));
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // `runuser` stands between us and the server.
        let pid = std::fs::read_to_string(self.scratch.path().join("pid")).unwrap_or_else(|_| server.id().to_string());
        let _sent = Command::new("kill").args(["-KILL", pid.trim()]).status();
        let _ended = server.wait();
    }
}
