//! One run of a system: what the checkpoint holds, what is new, then reading and following side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_sdk::model::{Checkpoint, SnapshotMark, StreamName};
use hub_sdk::{Delivery, ErrorKind, Outlet, SourceError};
use serde::Deserialize;
use tracing::info;

use crate::catalog::{self, Table};
use crate::charset::Charsets;
use crate::config::SnapshotMode;
use crate::connector::Mysql;
use crate::decode::Rules;
use crate::follow::{Following, LAYOUT_PREFIX, LOG_PARTITION, Located, LogPosition, follow, locate};
use crate::kind::{Kind, Layout};
use crate::server::Server;
use crate::snapshot::{Reading, SNAPSHOT_PREFIX, Territory, plan, read_all};
use crate::wire::Session;

/// What a checkpoint says, read.
#[derive(Default)]
struct Held {
    position: Option<LogPosition>,
    territories: BTreeMap<String, Territory>,
    layouts: BTreeMap<String, Layout>,
}

/// What a run needs of the server and its tables.
struct Prepared {
    server: Server,
    session: Session,
    tables: Vec<Table>,
    rules: Rules,
}

/// Reads and follows until the outlet is shut.
///
/// # Errors
/// Why it cannot go on, classified.
pub(crate) async fn capture(source: &Mysql, from: Checkpoint, outlet: Outlet) -> Result<(), SourceError> {
    if source.requested().is_empty() {
        // Nothing is mapped, or every stream is broken: the log is not asked for, and what comes back is read anew.
        let mut gone = Checkpoint::empty();
        let is_of_stream = |partition: &&str| partition.starts_with(SNAPSHOT_PREFIX) || partition.starts_with(LAYOUT_PREFIX);
        for partition in from.iter().filter(|(_, value)| value.is_some()).map(|(partition, _)| partition).filter(is_of_stream) {
            gone.remove(partition);
        }
        if gone.is_empty() || outlet.deliver(Delivery::new(Vec::new(), gone)).await.is_ok() {
            outlet.shut().await;
        }
        return Ok(());
    }
    let held = read_checkpoint(&from)?;
    let (server, mut session) = source.servers.reach().await?;
    let tables = load(source, &mut session).await?;
    let rules = rules(source, &mut session, &tables, &held).await?;
    let mut prepared = Prepared { server, session, tables, rules };
    let (position, located) = match held.position.clone() {
        Some(mut position) => {
            let located = locate(&prepared.server, &mut prepared.session, &mut position).await?;
            (position, located)
        }
        None => {
            let position = prepared.begin().await?;
            let located = Located::at(&position);
            (position, located)
        }
    };
    source.note(&position);
    let mark =
        if held.territories.values().any(|territory| territory.complete) { SnapshotMark::Incremental } else { SnapshotMark::Initial };
    let Some(streams) = prepared.announce(source, held, &position, &outlet).await? else { return Ok(()) };
    prepared.run(source, (position, located), streams, mark, outlet).await
}

impl Prepared {
    /// The end of the log: everything after it will be followed.
    async fn begin(&mut self) -> Result<LogPosition, SourceError> {
        let end = self.server.log_end(&mut self.session).await.map_err(|error| error.into_source("asking where the log ends"))?;
        let Some((place, gtids)) = end else {
            return Err(SourceError::new(ErrorKind::NotPrepared, "asking where the log ends")
                .because("the server keeps no binary log")
                .advise("start it with log_bin, binlog_format = ROW and binlog_row_image = FULL"));
        };
        info!(file = place.file, offset = place.offset, %gtids, "the log begins here");
        Ok(LogPosition {
            server: self.server.identity.clone(),
            base: 0,
            file: place.file,
            offset: place.offset,
            gtid: gtids.to_string(),
            open: None,
        })
    }

    /// Hands over what the checkpoint does not know yet: the position, streams that are new, streams that are gone. Gives each
    /// stream's territory, and its layout as the log has it; `None` where the outlet is shut.
    async fn announce(
        &mut self,
        source: &Mysql,
        mut held: Held,
        position: &LogPosition,
        outlet: &Outlet,
    ) -> Result<Option<Vec<(Territory, Layout)>>, SourceError> {
        let mut news = Checkpoint::empty();
        if held.position.as_ref() != Some(position) {
            news.set(LOG_PARTITION, position.to_json());
        }
        let Self { server, session, tables, .. } = self;
        let mut streams = Vec::with_capacity(tables.len());
        for table in tables.iter() {
            let name = table.stream.as_str();
            let known = held.territories.remove(name);
            let layout = held.layouts.remove(name);
            let begun = known.as_ref().is_some_and(|known| known.complete || known.count().0 > 0);
            let territory = match known {
                Some(known) if begun => known,
                _ => {
                    let planned = territory(source, server, session, table, position).await?;
                    news.set(format!("{SNAPSHOT_PREFIX}{name}"), planned.to_json());
                    planned
                }
            };
            // What was never told has no form that must be kept.
            let layout = match layout.filter(|_| begun) {
                Some(layout) => layout,
                None => {
                    let layout = table.layout.clone();
                    news.set(format!("{LAYOUT_PREFIX}{name}"), serde_json::to_value(&layout).unwrap_or_default());
                    layout
                }
            };
            streams.push((territory, layout));
        }
        for gone in held.territories.keys() {
            info!(stream = gone, "stream removed");
            news.remove(format!("{SNAPSHOT_PREFIX}{gone}"));
        }
        for gone in held.layouts.keys() {
            news.remove(format!("{LAYOUT_PREFIX}{gone}"));
        }
        if !news.is_empty() && outlet.deliver(Delivery::new(Vec::new(), news)).await.is_err() {
            return Ok(None);
        }
        Ok(Some(streams))
    }

    /// Reads what is unread, and follows.
    async fn run(
        self,
        source: &Mysql,
        (position, located): (LogPosition, Located),
        streams: Vec<(Territory, Layout)>,
        mark: SnapshotMark,
        outlet: Outlet,
    ) -> Result<(), SourceError> {
        let Self { server, session, tables, rules } = self;
        session.close().await;
        let plots = tables.iter().zip(&streams).map(|(table, (territory, _))| (table.stream.clone(), territory.clone(), table.rows));
        source.land.settle(plots.collect(), position.latest());
        let has_unread = streams.iter().any(|(territory, _)| !territory.is_read());
        let reading = Reading {
            server: server.clone(),
            rules: rules.clone(),
            limits: source.context.limits,
            land: Arc::clone(&source.land),
            base: position.base,
            mark,
            outlet: outlet.clone(),
            tables: Arc::new(tables.clone()),
        };
        let following = Following {
            server,
            reader: source.servers.reader,
            heartbeat: source.servers.heartbeat,
            limits: source.context.limits,
            rules,
            before_images: source.config.before_images,
            streams: tables.into_iter().zip(streams).map(|(table, (_, layout))| (table.stream, layout)).collect(),
            position,
            land: Arc::clone(&source.land),
            outlet,
        };
        let workers = source.config.snapshot.workers;
        let reading = async {
            let told = reading.outlet.clone();
            read_all(reading, workers).await?;
            // The same word as when following begins: the rows that came between have made the system seem to read.
            if has_unread && told.deliver(Delivery::new(Vec::new(), Checkpoint::empty())).await.is_err() {
                return Ok(());
            }
            // Following alone decides when the run ends.
            std::future::pending::<Result<(), SourceError>>().await
        };
        tokio::select! {
            followed = follow(following, located) => followed,
            failed = reading => failed,
        }
    }
}

/// What is to be read of a stream that nothing was told of yet.
async fn territory(
    source: &Mysql,
    server: &Server,
    session: &mut Session,
    table: &Table,
    position: &LogPosition,
) -> Result<Territory, SourceError> {
    let failed = |error: crate::wire::WireError| error.into_source("measuring the table");
    if source.config.snapshot.mode == SnapshotMode::Never {
        let end = server.log_end(session).await.map_err(failed)?;
        return Ok(Territory::since(end.map_or(0, |(place, _)| position.base + place.number()).max(position.latest())));
    }
    plan(session, table, source.config.snapshot.chunk_rows, source.config.snapshot.workers).await.map_err(failed)
}

/// The tables of the streams, each fit to be read.
async fn load(source: &Mysql, session: &mut Session) -> Result<Vec<Table>, SourceError> {
    let requested = source.requested();
    let tables = catalog::tables(session, &requested).await.map_err(|error| error.into_source("reading the tables' columns"))?;
    for stream in &requested {
        let Some(table) = tables.iter().find(|table| table.stream == *stream) else { return Err(catalog::missing(stream)) };
        check(table)?;
    }
    Ok(tables)
}

/// Refuses a table that cannot be followed.
///
/// # Errors
/// It is no table, or has a column of a type that is not known.
pub(crate) fn check(table: &Table) -> Result<(), SourceError> {
    let broken = |why: String| SourceError::new(ErrorKind::StreamBroken, "looking at the table").because(why).of(table.stream.clone());
    if table.sort != "BASE TABLE" {
        return Err(broken(format!("it is a {}, which has no rows in the log that could be followed", table.sort)));
    }
    match table.layout.columns.iter().find(|column| column.kind == Kind::Unknown) {
        Some(column) => Err(broken(format!("column {} is of type {}, which the hub does not know", column.name, column.source_type))),
        None => Ok(()),
    }
}

/// Everything that decoding needs for these tables, as they are and as the checkpoint has them.
async fn rules(source: &Mysql, session: &mut Session, tables: &[Table], held: &Held) -> Result<Rules, SourceError> {
    let layouts = tables.iter().map(|table| &table.layout).chain(held.layouts.values());
    let names: Vec<&str> = layouts.flat_map(|layout| &layout.columns).filter_map(|column| column.kind.charset()).collect();
    source.rules(session, names).await
}

fn read_checkpoint(from: &Checkpoint) -> Result<Held, SourceError> {
    fn parse<T: for<'de> Deserialize<'de>>(partition: &str, value: &serde_json::Value) -> Result<T, SourceError> {
        T::deserialize(value).map_err(|error| {
            SourceError::new(ErrorKind::Mismatch, format!("reading partition {partition} of the checkpoint"))
                .because(error)
                .advise("read the system anew: hub run --resnapshot")
        })
    }
    let mut held = Held::default();
    for (partition, value) in from.iter() {
        let Some(value) = value else { continue };
        if partition == LOG_PARTITION {
            held.position = Some(parse(partition, value)?);
        } else if let Some(stream) = partition.strip_prefix(SNAPSHOT_PREFIX) {
            held.territories.insert(stream.to_owned(), parse(partition, value)?);
        } else if let Some(stream) = partition.strip_prefix(LAYOUT_PREFIX) {
            held.layouts.insert(stream.to_owned(), parse(partition, value)?);
        }
    }
    Ok(held)
}

impl Mysql {
    /// The streams that are mapped.
    pub(crate) fn requested(&self) -> Vec<StreamName> {
        self.context.streams.iter().map(|request| request.stream.clone()).collect()
    }

    /// Everything that decoding needs for columns of these character sets.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn rules(&self, session: &mut Session, names: Vec<&str>) -> Result<Rules, SourceError> {
        let charsets = Charsets::load(session, names).await.map_err(|error| error.into_source("reading character sets"))?;
        Ok(Rules { charsets, zeros: self.zeros(), zone: self.zone() })
    }
}
