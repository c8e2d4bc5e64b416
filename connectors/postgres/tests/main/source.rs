//! A database and a role that belong to one test, on the private server.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use hub_connector_postgres::client::{Connection, Server};
use hub_connector_postgres::config::PostgresConfig;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

/// The private PostgreSQL 15 of `make up`.
pub(crate) fn port() -> u16 {
    std::env::var("HUB_PG_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(15432)
}

/// The private PostgreSQL 18, where it is up.
pub(crate) fn port18() -> Option<u16> {
    let port = std::env::var("HUB_PG18_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(15418);
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(port)
}

/// A name that no other test and no other run has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A fresh database with a role of its own that may log in and replicate.
pub(crate) struct Source {
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) role: String,
    /// The superuser in that database.
    pub(crate) admin: Client,
}

pub(crate) const PASSWORD: &str = "mật khẩu 'khó'";

impl Source {
    pub(crate) async fn create(port: u16, setup: &str) -> Self {
        Self::create_with(port, "", setup).await
    }

    /// With further options of `CREATE DATABASE`.
    pub(crate) async fn create_with(port: u16, options: &str, setup: &str) -> Self {
        let (database, role) = (unique("pgc"), unique("pgc_role"));
        let first = connect(port, "postgres").await;
        first.batch_execute(&format!("CREATE DATABASE {database} TEMPLATE template0 {options}")).await.unwrap();
        first.batch_execute(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{}'", PASSWORD.replace('\'', "''"))).await.unwrap();
        let admin = connect(port, &database).await;
        let source = Self { port, database, role, admin };
        source.run(setup).await;
        source
    }

    pub(crate) async fn run(&self, sql: &str) {
        let sql = sql.replace("$role", &self.role);
        self.admin.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The least configuration for the role, with further keys laid over it.
    pub(crate) fn config(&self, over: Value) -> PostgresConfig {
        let mut config = json!({
            "host": "127.0.0.1", "port": self.port, "database": self.database, "user": self.role, "password": PASSWORD,
        });
        for (key, value) in over.as_object().unwrap() {
            config[key] = value.clone();
        }
        serde_json::from_value(config).unwrap()
    }

    /// A connection of the connector's own, as the superuser.
    pub(crate) async fn connection(&self) -> Connection {
        let config = self.config(json!({"user": "postgres"}));
        Server::new(&config, Path::new(".")).unwrap().connection().await.unwrap()
    }

    pub(crate) async fn remove(self) {
        let Self { port, database, role, admin } = self;
        admin.batch_execute(&format!("DROP OWNED BY {role}")).await.unwrap();
        drop(admin);
        let last = connect(port, "postgres").await;
        last.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).await.unwrap();
        last.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    }
}

pub(crate) async fn connect(port: u16, database: &str) -> Client {
    let login = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    let (client, connection) = tokio_postgres::connect(&login, NoTls)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL on 127.0.0.1:{port} does not answer; run `make up`: {error}"));
    tokio::spawn(connection);
    client
}
