//! Throw-away databases of the three kinds that have a driver here, with an administrator's way in beside the link.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arrow_odbc::odbc_api::{ConnectionOptions, Cursor, environment};
use serde_json::{Value, json};

/// Password of the account that reads.
pub(crate) const PASSWORD: &str = "mat khau; 'kho}'";

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mariadb,
    Sqlite,
}

/// A database of its own: a server that is stopped when dropped, or a file.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    folder: PathBuf,
    server: Option<Child>,
}

fn driver(name: &str) -> String {
    format!("/usr/lib/x86_64-linux-gnu/odbc/{name}")
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// A command; servers refuse root, so root runs them as the user postgres.
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

impl Database {
    /// A new database with a user `hub` that may read all.
    pub(crate) fn start(kind: Kind) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("odbc_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        if is_root() {
            assert!(Command::new("chown").arg("postgres:").arg(&folder).status().unwrap().success());
        }
        // The port is free now and very likely still is a moment later.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut database = Self { kind, port, folder, server: None };
        let data = database.data();
        match kind {
            Kind::Postgres => {
                let made = lent(&pg("initdb"))
                    .args(["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"])
                    .status();
                assert!(made.unwrap().success(), "initdb");
                let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
                std::fs::write(Path::new(&data).join("pg_hba.conf"), rules).unwrap();
            }
            Kind::Mariadb => {
                let made = lent("mariadb-install-db")
                    .args(["--no-defaults", &format!("--datadir={data}"), "--auth-root-authentication-method=normal", "--skip-test-db"])
                    // A server that starts removes what looks like a temporary table of its own, whoever's it is.
                    .arg(format!("--tmpdir={}", database.folder.display()))
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .output()
                    .unwrap();
                assert!(made.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&made.stderr));
            }
            Kind::Sqlite => drop(std::fs::File::create(database.file()).unwrap()),
        }
        database.launch();
        let secret = PASSWORD.replace('\'', "''");
        match kind {
            Kind::Postgres => database.run(&format!("CREATE ROLE hub LOGIN PASSWORD '{secret}'; GRANT pg_read_all_data TO hub")),
            Kind::Mariadb => {
                database.run(&format!("CREATE USER hub@'127.0.0.1' IDENTIFIED BY '{secret}'"));
                database.run("GRANT SELECT ON hub.* TO hub@'127.0.0.1'");
            }
            Kind::Sqlite => {}
        }
        database
    }

    fn data(&self) -> String {
        self.folder.join("data").to_str().unwrap().to_owned()
    }

    /// The file of a SQLite database.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("du_lieu.db")
    }

    /// Where that file is while it cannot be reached.
    pub(crate) fn lost(&self) -> PathBuf {
        self.file().with_extension("lost")
    }

    fn present(&self) -> PathBuf {
        if self.lost().exists() { self.lost() } else { self.file() }
    }

    fn launch(&mut self) {
        let (data, port) = (self.data(), self.port);
        let mut command = match self.kind {
            Kind::Sqlite => return,
            Kind::Postgres => {
                let mut command = lent(&pg("postgres"));
                let sockets = format!("unix_socket_directories={}", self.folder.display());
                command.args(["-D", &data, "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", &sockets]);
                command
            }
            Kind::Mariadb => {
                let mut command = lent("mariadbd");
                let socket = self.folder.join("socket");
                command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"]);
                command.args([format!("--datadir={data}"), format!("--port={port}"), format!("--socket={}", socket.display())]);
                command.arg(format!("--tmpdir={}", self.folder.display()));
                command.args([format!("--pid-file={}", self.folder.join("pid").display()), "--max-allowed-packet=256M".to_owned()]);
                command
            }
        };
        self.server = Some(command.spawn().unwrap());
        let started = Instant::now();
        while let Err(error) = self.connect() {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?} does not start: {error}", self.kind);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server as a crash does, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let pid = match self.kind {
            // `runuser` stands between us and the server.
            Kind::Postgres => std::fs::read_to_string(Path::new(&self.data()).join("postmaster.pid")).ok(),
            _ => std::fs::read_to_string(self.folder.join("pid")).ok(),
        };
        let pid = pid.and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| server.id().to_string());
        // PostgreSQL's own word for a crash is SIGQUIT: its children end too.
        let signal = if self.kind == Kind::Postgres { "-QUIT" } else { "-KILL" };
        let _sent = Command::new("kill").args([signal, &pid]).status();
        let _ended = server.wait();
    }

    fn connect(&self) -> Result<arrow_odbc::odbc_api::Connection<'static>, arrow_odbc::odbc_api::Error> {
        let place = format!("Server=127.0.0.1;Port={}", self.port);
        let string = match self.kind {
            Kind::Postgres => format!("Driver={};{place};Database=postgres;Uid=postgres;", driver("psqlodbcw.so")),
            Kind::Mariadb => format!("Driver={};{place};Uid=root;CHARSET=utf8mb4;Database=;", driver("libmaodbc.so")),
            Kind::Sqlite => format!("Driver={};Database={};Timeout=10000;", driver("libsqlite3odbc.so"), self.present().display()),
        };
        let connection = environment().unwrap().connect_with_connection_string(&string, ConnectionOptions::default())?;
        if self.kind == Kind::Mariadb {
            let _none = connection.execute("CREATE DATABASE IF NOT EXISTS hub CHARACTER SET utf8mb4", (), None)?;
            let _none = connection.execute("USE hub", (), None)?;
        }
        Ok(connection)
    }

    /// Runs a statement as the administrator.
    pub(crate) fn run(&self, sql: &str) {
        let connection = self.connect().unwrap();
        if let Err(error) = connection.execute(sql, (), None) {
            panic!("{sql:.300}: {error}");
        }
    }

    /// Rows of two columns as text.
    pub(crate) fn pairs(&self, sql: &str) -> Vec<(String, Option<String>)> {
        let connection = self.connect().unwrap();
        let mut cursor = connection.execute(sql, (), None).unwrap().unwrap();
        let mut rows = Vec::new();
        while let Some(mut row) = cursor.next_row().unwrap() {
            let mut cell = |place| {
                let mut units = Vec::new();
                row.get_wide_text(place, &mut units).unwrap().then(|| String::from_utf16(&units).unwrap())
            };
            rows.push((cell(1).unwrap(), cell(2)));
        }
        rows
    }

    /// The `config:` section that reads it at a port.
    pub(crate) fn config(&self, port: u16) -> Value {
        match self.kind {
            Kind::Postgres => {
                json!({"driver": driver("psqlodbcw.so"), "server": "127.0.0.1", "port": port, "database": "postgres", "user": "hub",
                "password": PASSWORD})
            }
            Kind::Mariadb => {
                json!({"driver": driver("libmaodbc.so"), "server": "127.0.0.1", "port": port, "database": "hub", "user": "hub",
                "password": PASSWORD})
            }
            Kind::Sqlite => json!({"driver": driver("libsqlite3odbc.so"), "database": self.file()}),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.kill();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

fn pg(program: &str) -> String {
    let bin = std::env::var("HUB_PG_BIN").unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".to_owned());
    format!("{bin}/{program}")
}

/// A text as SQL.
pub(crate) fn quoted(text: &Option<String>) -> String {
    text.as_ref().map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")))
}
