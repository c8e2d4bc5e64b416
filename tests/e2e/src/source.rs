//! A PostgreSQL database that belongs to one test.

use tokio_postgres::{Client, NoTls};

use crate::unique;

/// A fresh database; dropped with its slots when the test ends well.
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

    /// Drops the database and what the hub left on the server.
    pub async fn remove(self) {
        let admin = connect(self.port, "postgres").await;
        drop(self.client);
        let slots = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{}' AND NOT active",
            self.database
        );
        admin.batch_execute(&slots).await.unwrap();
        admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.database)).await.unwrap();
    }
}
