//! The connector: what the hub calls, put together from sessions, snapshots and the log.

use std::sync::{Arc, Mutex, PoisonError};

use hub_sdk::model::{ChangeBatch, Checkpoint, SnapshotMark, StreamName};
use hub_sdk::{
    Abilities, ConfigFault, Connector, Delivery, ErrorKind, OpenContext, Outlet, Probe, Progress, SourceError, SourceGauge, StreamShape,
    now_micros,
};
use serde::Deserialize;

use crate::capture::{capture, check};
use crate::catalog;
use crate::config::{MysqlConfig, SnapshotMode, ZeroDates};
use crate::decode::{Rules, Zeros, Zone};
use crate::discover::shape;
use crate::follow::{LOG_PARTITION, LogPosition};
use crate::server::{LogPlace, Server, Servers};
use crate::snapshot::{Land, RowReader, open_view, row_batch, select};
use crate::wire::Session;

/// A MySQL or MariaDB server as a source.
pub struct Mysql {
    pub(crate) config: MysqlConfig,
    pub(crate) context: OpenContext,
    pub(crate) servers: Servers,
    pub(crate) land: Arc<Land>,
    /// What is durable of the log.
    durable: Mutex<Option<LogPosition>>,
    /// A session for gauges, kept between them.
    watching: tokio::sync::Mutex<Option<(Server, Session)>>,
}

impl Connector for Mysql {
    const NAME: &'static str = "mysql";
    type Config = MysqlConfig;

    fn abilities(config: &MysqlConfig) -> Abilities {
        Abilities {
            snapshot: config.snapshot.mode != SnapshotMode::Never,
            follow: true,
            deletes: true,
            before_images: config.before_images,
            exactly_once: true,
            every_change: true,
            listens: false,
            add_streams: true,
            truncates: true,
        }
    }

    fn check(config: &MysqlConfig) -> Vec<ConfigFault> {
        config.faults()
    }

    async fn open(config: MysqlConfig, context: OpenContext) -> Result<Self, SourceError> {
        if let Some(fault) = config.faults().into_iter().next() {
            let error = SourceError::new(ErrorKind::BadConfig, format!("opening system {}", context.system));
            return Err(error.because(format!("{} {}", fault.pointer, fault.message)));
        }
        let servers = Servers::new(&config, &context.directory, &context.system)?;
        Ok(Self { config, context, servers, land: Arc::default(), durable: Mutex::default(), watching: tokio::sync::Mutex::default() })
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        crate::probe::probe(self).await
    }

    async fn discover(&self) -> Result<Vec<StreamShape>, SourceError> {
        let (_, mut session) = self.servers.reach().await?;
        let tables = catalog::tables_of(&mut session, &self.config.databases).await;
        let tables = tables.map_err(|error| error.into_source("listing tables"))?;
        let zoned = self.zone().is_some();
        session.close().await;
        Ok(tables.iter().map(|table| shape(table, zoned)).collect())
    }

    async fn sample(&self, stream: &StreamName, rows: usize) -> Result<ChangeBatch, SourceError> {
        let (server, table, rules) = self.prepare(stream).await?;
        let mut session = server.reader().await?;
        let place = self.base() + open_view(&server, &mut session).await?.number();
        let sql = format!("{} LIMIT {rows}", select(&table, None, None));
        let mut limits = self.context.limits;
        limits.rows = rows.max(1);
        let mut reader = RowReader::start(&mut session, &table, &rules, limits, &sql).await?;
        let failed = |error: crate::wire::WireError| error.into_source("reading a sample").of(stream.clone());
        let slice = match reader.next().await.map_err(failed)? {
            Some(slice) => slice,
            None => reader.empty(),
        };
        Ok(row_batch(stream, slice, (place, now_micros()), SnapshotMark::Initial))
    }

    async fn scan(&self, stream: &StreamName, outlet: Outlet) -> Result<(), SourceError> {
        let (server, table, rules) = self.prepare(stream).await?;
        let mut session = server.reader().await?;
        let place = self.base() + open_view(&server, &mut session).await?.number();
        let sql = select(&table, None, None);
        let mut reader = RowReader::start(&mut session, &table, &rules, self.context.limits, &sql).await?;
        let stamp = (place, now_micros());
        while let Some(slice) = reader.next().await.map_err(|error| error.into_source("reading the table").of(stream.clone()))? {
            let batches = vec![row_batch(stream, slice, stamp, SnapshotMark::Initial)];
            if outlet.deliver(Delivery::new(batches, Checkpoint::empty())).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn capture(&self, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
        capture(self, from, outlet).await
    }

    fn acknowledge(&self, durable: &Checkpoint) {
        // Nothing is told to the server: it keeps its log for as long as its own settings say.
        if let Some(position) = durable.get(LOG_PARTITION).and_then(|value| LogPosition::deserialize(value).ok()) {
            self.note(&position);
        }
    }

    async fn gauges(&self) -> Result<Vec<SourceGauge>, SourceError> {
        let Some(position) = self.lock().clone() else { return Ok(Vec::new()) };
        let mut watching = self.watching.lock().await;
        let (server, mut session) = match watching.take() {
            Some(held) => held,
            None => self.servers.reach().await?,
        };
        let files = server.log_files(&mut session).await.map_err(|error| error.into_source("listing files of the log"))?;
        *watching = Some((server, session));
        Ok(gauges(&files, &position))
    }

    fn progress(&self) -> Vec<Progress> {
        self.land.progress()
    }

    async fn release(&self) -> Result<(), SourceError> {
        // A reader of the log leaves nothing at the server.
        *self.watching.lock().await = None;
        Ok(())
    }
}

impl Mysql {
    /// The server, the table of a stream and what decoding it needs.
    async fn prepare(&self, stream: &StreamName) -> Result<(Server, catalog::Table, Rules), SourceError> {
        let (server, mut session) = self.servers.reach().await?;
        let table = catalog::table(&mut session, stream).await?;
        check(&table)?;
        let rules = self.rules(&mut session, table.layout.columns.iter().filter_map(|column| column.kind.charset()).collect()).await?;
        session.close().await;
        Ok((server, table, rules))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<LogPosition>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps how far the log is durable.
    pub(crate) fn note(&self, position: &LogPosition) {
        *self.lock() = Some(position.clone());
    }

    /// What is added to places of the server's log now.
    fn base(&self) -> u64 {
        self.lock().as_ref().map_or(0, |position| position.base)
    }

    pub(crate) fn zeros(&self) -> Zeros {
        match self.config.zero_dates {
            ZeroDates::Null => Zeros::Null,
            ZeroDates::Reject => Zeros::Reject,
        }
    }

    pub(crate) fn zone(&self) -> Option<Zone> {
        self.config.time_zone.as_deref().and_then(Zone::new)
    }
}

/// How much of the log is behind the position, and how much the server keeps.
fn gauges(files: &[(String, u64)], position: &LogPosition) -> Vec<SourceGauge> {
    let place = |file: &str, offset: u64| LogPlace { file: file.to_owned(), offset }.number();
    let here = place(&position.file, position.offset);
    let behind = |(file, size): &(String, u64)| {
        let from = if *file == position.file { position.offset } else { 0 };
        if place(file, *size) > here { size.saturating_sub(from) } else { 0 }
    };
    let kept =
        |(file, size): &(String, u64)| if place(file, *size) <= here { *size } else { size.saturating_sub(behind(&(file.clone(), *size))) };
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let gauge = |name, value: u64| SourceGauge { name, label: None, value: value as f64 };
    // What is kept before the position is how long the hub may still stay away, in bytes.
    vec![gauge("lag_bytes", files.iter().map(behind).sum()), gauge("log_kept_bytes", files.iter().map(kept).sum())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_counted_over_the_files_after_the_position() {
        let position = LogPosition { server: String::new(), base: 0, file: "b.000002".into(), offset: 40, gtid: String::new(), open: None };
        let files = [("b.000001".to_owned(), 100), ("b.000002".to_owned(), 100), ("b.000003".to_owned(), 30)];
        let values: Vec<_> = gauges(&files, &position).into_iter().map(|gauge| (gauge.name, gauge.value)).collect();
        assert_eq!(values, [("lag_bytes", 90.0), ("log_kept_bytes", 140.0)]);
    }
}
