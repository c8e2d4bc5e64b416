//! The connector: what the hub calls, put together from slot, snapshot and stream.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hub_sdk::model::{ChangeBatch, Checkpoint, SnapshotMark, StreamName};
use hub_sdk::{
    Abilities, ConfigFault, Connector, ErrorKind, OpenContext, Outlet, Probe, Progress, SourceError, SourceGauge, StreamRequest,
    StreamShape, now_micros,
};
use tokio::sync::Mutex;

use crate::capture::Capture;
use crate::client::{Server, encryption};
use crate::config::PostgresConfig;
use crate::discover::discover;
use crate::follow::Acknowledged;
use crate::probe::probe;
use crate::slot::{self, Forecast};
use crate::snapshot::{Board, Stamp, read_sample, snapshot_batch};
use crate::table::{Table, load_tables};
use crate::types::Catalogue;
use crate::wire::{Address, Lsn, Purpose, Session, WireError};

/// One PostgreSQL database as a source.
pub struct Postgres {
    pub(crate) config: PostgresConfig,
    pub(crate) context: OpenContext,
    pub(crate) server: Server,
    pub(crate) address: Address,
    pub(crate) acknowledged: Arc<Acknowledged>,
    pub(crate) board: Arc<Board>,
    forecast: Forecast,
    /// Kept between calls: gauges are asked for every few seconds.
    gauging: Mutex<Option<Session>>,
}

impl Connector for Postgres {
    const NAME: &'static str = "postgres";
    type Config = PostgresConfig;

    fn abilities(_config: &PostgresConfig) -> Abilities {
        Abilities {
            snapshot: true,
            follow: true,
            deletes: true,
            before_images: true,
            exactly_once: true,
            every_change: true,
            listens: false,
            add_streams: true,
            truncates: true,
        }
    }

    fn check(config: &PostgresConfig) -> Vec<ConfigFault> {
        config.faults()
    }

    async fn open(config: PostgresConfig, context: OpenContext) -> Result<Self, SourceError> {
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(SourceError::new(ErrorKind::BadConfig, format!("opening system {}", context.system))
                .because(format!("{} {}", fault.pointer, fault.message)));
        }
        let server = Server::new(&config, &context.directory)?;
        let password = (!config.password.reveal().is_empty()).then(|| config.password.clone());
        let address = Address {
            host: config.host.clone(),
            port: config.port,
            user: config.user.clone(),
            password,
            database: config.database.clone(),
            application: config.application_name.clone(),
            encryption: encryption(&config.tls, &context.directory)?,
            patience: Duration::from_secs(config.connect_timeout_s.saturating_mul(2)),
        };
        Ok(Self {
            config,
            context,
            server,
            address,
            acknowledged: Arc::new(Acknowledged::default()),
            board: Arc::new(Board::default()),
            forecast: Forecast::default(),
            gauging: Mutex::new(None),
        })
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        probe(&self.server, &self.config, &self.context.system, &self.context.streams).await
    }

    async fn discover(&self) -> Result<Vec<StreamShape>, SourceError> {
        let client = self.server.connection().await?;
        discover(&client).await
    }

    async fn sample(&self, stream: &StreamName, rows: usize) -> Result<ChangeBatch, SourceError> {
        let table = self.table(stream).await?;
        let mut session = self.session().await?;
        let read = read_sample(&mut session, &table, rows).await.map_err(|error| error.of(stream.clone()))?;
        session.close().await;
        let stamp = Stamp { at: Lsn(0), micros: now_micros(), mark: SnapshotMark::Initial };
        Ok(snapshot_batch(stream, read, stamp))
    }

    async fn scan(&self, stream: &StreamName, outlet: Outlet) -> Result<(), SourceError> {
        crate::scan::scan(self, stream, &outlet).await
    }

    async fn capture(&self, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
        self.board.clear();
        Capture::prepare(self, outlet).await?.run(from).await
    }

    fn acknowledge(&self, durable: &Checkpoint) {
        self.acknowledged.advance(durable);
    }

    async fn gauges(&self) -> Result<Vec<SourceGauge>, SourceError> {
        let mut held = self.gauging.lock().await;
        // A session whose query failed is not kept: the next call opens a new one.
        let mut session = match held.take() {
            Some(session) => session,
            None => self.session().await?,
        };
        let gauges = slot::gauges(&mut session, &self.slot(), &self.forecast).await?;
        *held = Some(session);
        Ok(gauges)
    }

    fn progress(&self) -> Vec<Progress> {
        self.board.read()
    }

    async fn release(&self) -> Result<(), SourceError> {
        let mut session = self.session().await?;
        let major = major_version(&mut session).await?;
        slot::release(&mut session, &self.slot(), &self.publication(), major).await?;
        session.close().await;
        Ok(())
    }
}

impl Postgres {
    pub(crate) fn slot(&self) -> String {
        self.config.slot_name(&self.context.system)
    }

    pub(crate) fn publication(&self) -> String {
        self.config.publication_name(&self.context.system)
    }

    /// One captured table, as it is now.
    pub(crate) async fn table(&self, stream: &StreamName) -> Result<Table, SourceError> {
        let client = self.server.connection().await?;
        let catalogue = Catalogue::load(&client).await?;
        let asked = self.context.streams.iter().find(|request| request.stream == *stream).cloned();
        let request = asked.unwrap_or_else(|| StreamRequest { stream: stream.clone(), columns: Vec::new() });
        let tables = load_tables(&client, &catalogue, &[request]).await?;
        tables.into_iter().next().ok_or_else(|| SourceError::new(ErrorKind::Defect, "reading the definition of a table").of(stream.clone()))
    }

    /// An SQL session of our own client.
    pub(crate) async fn session(&self) -> Result<Session, SourceError> {
        Session::connect(&self.address, Purpose::Sql)
            .await
            .map_err(|error| error.into_source(format!("connecting to {}", self.server.place())))
    }

    /// The streams by name, for what is checked against a checkpoint.
    pub(crate) fn requested(&self) -> BTreeSet<StreamName> {
        self.context.streams.iter().map(|request| request.stream.clone()).collect()
    }
}

/// The server's major version, 15.
pub(crate) async fn major_version(session: &mut Session) -> Result<u32, SourceError> {
    let failed = |error: WireError| error.into_source("reading the server's version");
    let row = session.row("SELECT current_setting('server_version_num')::int / 10000").await.map_err(failed)?;
    row.parse(0).ok_or_else(|| SourceError::new(ErrorKind::Defect, "reading the server's version"))
}
