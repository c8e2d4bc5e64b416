//! A throw-away PostgreSQL with settings that the shared one must not have.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs in a folder of its own and is stopped when dropped.
pub(crate) struct OwnServer {
    pub(crate) port: u16,
    folder: PathBuf,
    /// Where its programs are.
    programs: PathBuf,
}

/// Debian's PostgreSQL 15.
fn debian() -> PathBuf {
    std::env::var_os("HUB_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from)
}

/// The PostgreSQL 18 that `deploy/local/stack.sh up pg18` fetches: it has `initdb`, `pg_ctl` and `postgres` alone.
#[allow(dead_code, reason = "only the kit runs on it")]
pub(crate) fn eighteen() -> PathBuf {
    let home = std::env::var("HOME").unwrap_or_default();
    let folders = [format!("{home}/.cache/provincial-hub/pg18"), "/var/cache/provincial-hub/pg18".to_owned()];
    let programs = folders.iter().map(|folder| Path::new(folder).join("native/bin")).find(|bin| bin.join("initdb").exists());
    programs.expect("PostgreSQL 18 is there: run `make test`, or `deploy/local/stack.sh up pg18`")
}

/// Every role comes in by password, but for the superuser, who comes in by trust.
pub(crate) const HBA: &str = "host all postgres 127.0.0.1/32 trust\nhost replication postgres 127.0.0.1/32 trust\n\
                              host all all 127.0.0.1/32 scram-sha-256\n";

impl OwnServer {
    /// A new server with these settings and access rules.
    pub(crate) fn start(settings: &str, hba: &str) -> Self {
        Self::start_with(debian(), settings, hba)
    }

    /// The same with the programs of a folder.
    pub(crate) fn start_with(programs: PathBuf, settings: &str, hba: &str) -> Self {
        let server = Self::prepare(programs);
        let data = server.data();
        server.run(&["initdb", "-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]);
        server.write("pg_hba.conf", hba);
        server.launch(settings);
        server
    }

    /// A standby that follows `primary`.
    pub(crate) fn standby_of(primary: &Self) -> Self {
        let server = Self::prepare(debian());
        let port = primary.port.to_string();
        server.run(&["pg_basebackup", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-D", &server.data(), "-R", "-c", "fast"]);
        server.launch("wal_level = logical");
        server
    }

    /// Makes an authority (`ca.pem` in its folder) and a certificate for `localhost` signed by it. Root may use a key of root's.
    pub(crate) fn certify(&self) {
        let data = self.data();
        let data = Path::new(&data);
        hub_conformance::authority(data, "ca");
        for file in ["server.key", "server.crt"] {
            give_to_postgres(&data.join(file));
        }
        std::fs::copy(data.join("ca.pem"), self.path("ca.pem")).unwrap();
    }

    /// Ends it at once, without a shutdown checkpoint, and starts it again.
    #[allow(dead_code, reason = "only the fixture of the conformance kit restarts its server")]
    pub(crate) fn restart(&self) {
        self.run(&["pg_ctl", "-D", &self.data(), "-m", "immediate", "-w", "stop"]);
        let log = self.folder.join("log");
        self.run(&["pg_ctl", "-D", &self.data(), "-l", log.to_str().unwrap(), "-w", "start"]);
    }

    /// A file of the server's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Takes new access rules into use.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = Path::new(&self.data()).join(name);
        std::fs::write(&path, text).unwrap();
        give_to_postgres(&path);
    }

    pub(crate) fn data(&self) -> String {
        self.folder.join("data").to_str().unwrap().to_owned()
    }

    fn prepare(programs: PathBuf) -> Self {
        let folder = std::env::temp_dir().join(crate::source::unique("pgc_server"));
        std::fs::create_dir_all(&folder).unwrap();
        give_to_postgres(&folder);
        // The port is free now and very likely still is a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, folder, programs }
    }

    fn launch(&self, settings: &str) {
        let own = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n{settings}\n",
            self.port,
            self.folder.display()
        );
        self.write("postgresql.auto.conf", &format!("{}{own}", self.kept_settings()));
        let log = self.folder.join("log");
        self.run(&["pg_ctl", "-D", &self.data(), "-l", log.to_str().unwrap(), "-w", "start"]);
    }

    fn run(&self, arguments: &[&str]) {
        let output = postgres(&self.programs, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What pg_basebackup wrote to make a standby of it.
    fn kept_settings(&self) -> String {
        let written = std::fs::read_to_string(Path::new(&self.data()).join("postgresql.auto.conf")).unwrap_or_default();
        written.lines().filter(|line| line.starts_with("primary_conninfo")).map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _stopped = postgres(&self.programs, &["pg_ctl", "-D", &self.data(), "-m", "immediate", "stop"]);
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

/// Lends a file or folder to the user postgres, where root runs the tests: the server refuses root.
pub(crate) fn give_to_postgres(path: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres:").arg(path).status().unwrap().success());
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn postgres(programs: &Path, arguments: &[&str]) -> Output {
    let program = programs.join(arguments[0]).to_str().unwrap().to_owned();
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", &program]);
        command
    } else {
        Command::new(&program)
    };
    // A server that inherits the pipes would keep `output` waiting for ever.
    command.args(&arguments[1..]).current_dir("/").stdin(std::process::Stdio::null());
    if arguments[0] == "pg_ctl" {
        let status = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
        return Output { status, stdout: Vec::new(), stderr: Vec::new() };
    }
    command.output().unwrap()
}
