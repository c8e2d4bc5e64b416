//! Ordinary SQL connections: a small pool, rustls, and errors put into the hub's kinds.

mod classify;

use std::path::Path;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use hub_sdk::{ErrorKind, SourceError};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

pub use classify::{classify, kind_of_sqlstate};
pub use hub_sdk::tls::{Encryption, encryption};

use crate::config::{PostgresConfig, session_options};

/// The SQL side of one server. Connects when asked; a broken connection is replaced at the next [`Server::connection`].
#[derive(Clone)]
pub struct Server {
    pool: Pool,
    place: String,
}

/// One connection, given back to the pool when dropped. Derefs to [`tokio_postgres::Client`].
pub type Connection = Object;

impl Server {
    /// Prepares the pool without connecting. `directory` is where a relative `tls.ca` starts.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`] where the CA file cannot be read.
    pub fn new(config: &PostgresConfig, directory: &Path) -> Result<Self, SourceError> {
        let place = format!("{}:{}/{}", config.host, config.port, config.database);
        let manager = manager(config, encryption(&config.tls, directory)?);
        let timeout = Duration::from_secs(config.connect_timeout_s);
        let pool = Pool::builder(manager)
            // The snapshot's readers, and one each for probes, gauges and watermarks.
            .max_size(config.snapshot.parallel.max(1) + 3)
            .runtime(Runtime::Tokio1)
            // The login itself (TCP is bounded below it): a server that accepts and then is silent.
            .create_timeout(Some(timeout.saturating_mul(2)))
            .recycle_timeout(Some(timeout))
            .build()
            .map_err(|error| SourceError::new(ErrorKind::Defect, format!("preparing connections to {place}")).because(error))?;
        Ok(Self { pool, place })
    }

    /// A live connection with the hub's session settings ([`crate::config::SESSION_SETTINGS`]).
    ///
    /// # Errors
    /// Why there is none, by [`classify`].
    pub async fn connection(&self) -> Result<Connection, SourceError> {
        let doing = || format!("connecting to {}", self.place);
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => classify(doing(), error),
            PoolError::Timeout(_) => SourceError::new(ErrorKind::Unreachable, doing())
                .because("the server did not answer in time")
                .advise("see whether host and port are right and a firewall is in between"),
            other => SourceError::new(ErrorKind::Unreachable, doing()).because(other),
        })
    }

    /// `host:port/database`, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Closes every idle connection and gives out no more.
    pub fn close(&self) {
        self.pool.close();
    }
}

fn manager(config: &PostgresConfig, encryption: Encryption) -> Manager {
    let mut login = tokio_postgres::Config::new();
    login
        .host(&config.host)
        .port(config.port)
        .dbname(&config.database)
        .user(&config.user)
        .application_name(&config.application_name)
        .options(session_options())
        .connect_timeout(Duration::from_secs(config.connect_timeout_s))
        .keepalives_idle(Duration::from_secs(30));
    if !config.password.reveal().is_empty() {
        login.password(config.password.reveal());
    }
    // `Verified` asks the connection whether it still lives, so that a restarted server costs no failed query.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
    match encryption {
        Encryption::Never => {
            login.ssl_mode(SslMode::Disable);
            Manager::from_config(login, NoTls, recycling)
        }
        Encryption::IfOffered(tls) => {
            login.ssl_mode(SslMode::Prefer);
            Manager::from_config(login, MakeRustlsConnect::new(tls.as_ref().clone()), recycling)
        }
        Encryption::Always(tls) => {
            login.ssl_mode(SslMode::Require);
            Manager::from_config(login, MakeRustlsConnect::new(tls.as_ref().clone()), recycling)
        }
    }
}
