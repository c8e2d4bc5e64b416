//! A PostgreSQL database that belongs to one test.

use tokio_postgres::{Client, NoTls};

use crate::unique;

/// A fresh database; dropped with its slots when the test ends.
pub struct Source {
    /// Its name.
    pub database: String,
    /// Port of its server.
    pub port: u16,
    /// A connection to it.
    pub client: Client,
}

async fn connect(port: u16, database: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&format!("host=127.0.0.1 port={port} user=postgres dbname={database}"), NoTls)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL on 127.0.0.1:{port} does not answer; run `make up`: {error}"));
    tokio::spawn(connection);
    client
}

impl Source {
    /// A fresh database on the private PostgreSQL 15.
    pub async fn create(setup: &str) -> Self {
        Self::create_on(15432, setup).await
    }

    /// A fresh database on the server of a port.
    pub async fn create_on(port: u16, setup: &str) -> Self {
        let database = unique("e2e_");
        connect(port, "postgres").await.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
        let client = connect(port, &database).await;
        client.batch_execute(setup).await.unwrap();
        Self { database, port, client }
    }

    /// Runs statements.
    pub async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// One text value.
    pub async fn text(&self, sql: &str) -> Option<String> {
        let row = self.client.query_opt(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))?;
        row.get(0)
    }

    /// Ends it where the test says so.
    pub async fn remove(self) {
        drop(self);
    }
}

impl Drop for Source {
    /// Drops the database and what the hub left on the server, however the test ended: a server has only so many slots.
    fn drop(&mut self) {
        let (port, database) = (self.port, self.database.clone());
        let clean = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let admin = connect(port, "postgres").await;
                let slots = format!("FROM pg_replication_slots WHERE database = '{database}'");
                for _ in 0..100 {
                    let ended = format!("SELECT pg_terminate_backend(active_pid) {slots} AND active");
                    let dropped = format!("SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active");
                    let _raced = admin.batch_execute(&format!("{ended}; {dropped}")).await;
                    if admin.query_opt(&format!("SELECT {slots} LIMIT 1"), &[]).await.is_ok_and(|left| left.is_none()) {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                let _gone = admin.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await;
            });
        };
        // A test that failed is told of itself, not of what could not be tidied up after it.
        let _tidied = std::thread::spawn(clean).join();
    }
}
