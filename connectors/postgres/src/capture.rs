//! One run of a system: prepares slot and publication, reads what is there, then follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hub_sdk::model::{Checkpoint, StreamName};
use hub_sdk::{Delivery, ErrorKind, Outlet, SourceError, now_micros};
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::SnapshotMode;
use crate::connector::{Postgres, major_version};
use crate::decode::Wire;
use crate::follow::{FollowSetup, WAL_PARTITION, WalPosition, follow};
use crate::slot::{self, Member, Publishing, SLOT_PARTITION, SlotIdentity};
use crate::snapshot::{Ended, Incremental, Initial, SNAPSHOT_PREFIX, StreamSnapshot, Unfinished, plan_parts, read_initial};
use crate::table::{Table, load_tables};
use crate::types::{Catalogue, all_binary};
use crate::watch::{Publication, Watched, look, watch};
use crate::wire::{Lsn, Purpose, Session, WireError};

/// A run of a system.
pub(crate) struct Capture<'a> {
    source: &'a Postgres,
    outlet: Outlet,
    sql: Session,
    major: u32,
    catalogue: Catalogue,
    tables: Vec<Table>,
}

/// What a checkpoint says, read.
struct Held {
    identity: SlotIdentity,
    position: WalPosition,
    snapshots: BTreeMap<String, StreamSnapshot>,
}

impl<'a> Capture<'a> {
    /// Looks what the server and its tables are like now.
    ///
    /// # Errors
    /// The source is out of reach, or a table is missing.
    pub(crate) async fn prepare(source: &'a Postgres, outlet: Outlet) -> Result<Self, SourceError> {
        let mut sql = source.session().await?;
        let major = major_version(&mut sql).await?;
        // DDL on a publication must not queue behind a lock for ever, and everyone else behind it.
        sql.query("SET lock_timeout = '30s'").await.map_err(|error| error.into_source("preparing a session"))?;
        let client = source.server.connection().await?;
        let catalogue = Catalogue::load(&client).await?;
        let tables = load_tables(&client, &catalogue, &source.context.streams).await?;
        Ok(Self { source, outlet, sql, major, catalogue, tables })
    }

    /// Snapshot where needed, then changes until the outlet is shut.
    ///
    /// # Errors
    /// Why it cannot go on, classified.
    pub(crate) async fn run(self, from: Checkpoint) -> Result<(), SourceError> {
        if self.tables.is_empty() {
            // Nothing is mapped: no slot is made, since nobody would move it on.
            self.outlet.shut().await;
            return Ok(());
        }
        match read_checkpoint(&from)? {
            None => self.begin().await,
            Some(held) => self.resume(from, held).await,
        }
    }

    /// The first start: slot, exported snapshot, then changes from the slot's consistent point.
    async fn begin(mut self) -> Result<(), SourceError> {
        let (slot, publication) = (self.source.slot(), self.source.publication());
        // A slot of an earlier life belongs to a checkpoint that is gone: nothing of it can be used.
        slot::drop_slot(&mut self.sql, &slot, self.major).await?;
        let (members, system) = (self.members(), self.system());
        slot::publish(&mut self.sql, &publication, &members, Publishing::Anew, system).await?;
        let failed = |error: WireError| error.into_source(format!("creating slot {slot}"));
        let mut exporter = Session::connect(&self.source.address, Purpose::Replication).await.map_err(failed)?;
        let server = exporter.identify().await.map_err(failed)?;
        let failover = self.source.config.failover && self.major >= 17;
        let created = exporter.create_slot(&slot, failover).await.map_err(failed)?;
        let taken_micros = now_micros();
        let start = created.consistent_point;
        info!(slot, consistent_point = %start, "slot made");
        let position = WalPosition::before_everything(start);
        let identity = SlotIdentity {
            slot,
            publication,
            system_identifier: server.system_identifier,
            timeline: server.timeline,
            consistent_point: start,
        };
        let mut checkpoint = Checkpoint::empty();
        checkpoint.set(SLOT_PARTITION, to_json(&identity));
        checkpoint.set(WAL_PARTITION, position.to_json());
        let published = self.published(&identity.publication).await?;
        let mut plans = self.plan(start).await?;
        for (table, plan) in &mut plans {
            plan.entry = published.as_ref().and_then(|published| published.entry(&table.member()));
        }
        let states = plans.iter().map(|(table, plan)| (table.stream.to_string(), plan.clone())).collect();
        for (table, plan) in &plans {
            checkpoint.set(snapshot_partition(&table.stream), plan.to_json());
        }
        self.source.acknowledged.reset(&checkpoint);
        let reads = self.source.config.snapshot.mode != SnapshotMode::Never;
        let completed = plans.iter().filter(|(_, plan)| reads && plan.complete).map(|(table, _)| table.stream.clone()).collect();
        if self.outlet.deliver(Delivery::new(Vec::new(), checkpoint).completing(completed)).await.is_err() {
            return Ok(());
        }
        let initial = Initial {
            address: self.source.address.clone(),
            snapshot: created.snapshot,
            readers: self.source.config.snapshot.parallel,
            limits: self.source.context.limits,
            major: self.major,
            outlet: self.outlet.clone(),
            board: Arc::clone(&self.source.board),
            taken_micros,
            streams: plans,
        };
        if read_initial(initial, exporter).await? == Ended::Shut {
            return Ok(());
        }
        self.follow(identity, position, start, &states, Vec::new()).await
    }

    async fn plan(&mut self, start: Lsn) -> Result<Vec<(Table, StreamSnapshot)>, SourceError> {
        let snapshot = &self.source.config.snapshot;
        let mut plans = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let plan = if snapshot.mode == SnapshotMode::Never {
                StreamSnapshot::finished(start)
            } else {
                let parts = plan_parts(&mut self.sql, table, snapshot.parallel, snapshot.chunk_mib).await?;
                let mut plan = StreamSnapshot { start_lsn: start, complete: false, parts: Some(parts), entry: None };
                plan.settle();
                plan
            };
            plans.push((table.clone(), plan));
        }
        Ok(plans)
    }

    /// A later start: goes on after the checkpoint; reads streams that were added or not read to their end beside it.
    async fn resume(mut self, from: Checkpoint, held: Held) -> Result<(), SourceError> {
        let Held { identity, position, mut snapshots } = held;
        self.source.acknowledged.reset(&from);
        self.check_server(&identity, &position, &snapshots).await?;
        let before = self.published(&identity.publication).await?;
        let announced = self.announce(&mut snapshots, before.as_ref()).await?;
        if !announced.is_empty() && self.outlet.deliver(Delivery::new(Vec::new(), announced)).await.is_err() {
            return Ok(());
        }
        // Only now that the checkpoint knows of them may the added tables appear in the stream of changes.
        let followed: BTreeSet<StreamName> = self
            .tables
            .iter()
            .filter(|table| snapshots.get(table.stream.as_str()).is_some_and(StreamSnapshot::was_followed))
            .map(|table| table.stream.clone())
            .collect();
        let (members, system) = (self.members(), self.system());
        slot::publish(&mut self.sql, &identity.publication, &members, Publishing::Resume(&followed), system).await?;
        let learned = self.learn(&identity.publication, &mut snapshots).await?;
        if !learned.is_empty() && self.outlet.deliver(Delivery::new(Vec::new(), learned)).await.is_err() {
            return Ok(());
        }
        let unfinished: Vec<Unfinished> = self
            .tables
            .iter()
            .filter_map(|table| {
                let state = snapshots.get(table.stream.as_str()).filter(|state| !state.complete)?.clone();
                Some(Unfinished { table: table.clone(), state })
            })
            .collect();
        for stream in &unfinished {
            self.source.acknowledged.hold(stream.table.stream.as_str(), stream.state.start_lsn);
        }
        let begin = unfinished.iter().map(|stream| stream.state.start_lsn).fold(position.resume_lsn, Lsn::min);
        self.follow(identity, position, begin, &snapshots, unfinished).await
    }

    async fn published(&mut self, publication: &str) -> Result<Option<Publication>, SourceError> {
        look(&mut self.sql, publication).await.map_err(|error| error.into_source(format!("reading publication {publication}")))
    }

    /// Keeps the numbers of entries that the checkpoint does not know: before anything of theirs is followed.
    async fn learn(&mut self, publication: &str, snapshots: &mut BTreeMap<String, StreamSnapshot>) -> Result<Checkpoint, SourceError> {
        let mut learned = Checkpoint::empty();
        let Some(published) = self.published(publication).await? else { return Ok(learned) };
        for table in &self.tables {
            let Some(state) = snapshots.get_mut(table.stream.as_str()).filter(|state| state.entry.is_none()) else { continue };
            state.entry = published.entry(&table.member());
            if state.entry.is_some() {
                learned.set(snapshot_partition(&table.stream), state.to_json());
            }
        }
        Ok(learned)
    }

    async fn check_server(
        &mut self,
        identity: &SlotIdentity,
        position: &WalPosition,
        snapshots: &BTreeMap<String, StreamSnapshot>,
    ) -> Result<(), SourceError> {
        let failed = |error: WireError| error.into_source("asking the server who it is");
        let mut walsender = Session::connect(&self.source.address, Purpose::Replication).await.map_err(failed)?;
        let server = walsender.identify().await.map_err(failed)?;
        walsender.close().await;
        let needed =
            snapshots.values().filter(|snapshot| !snapshot.complete).map(|snapshot| snapshot.start_lsn).fold(position.resume_lsn, Lsn::min);
        slot::check_resumable(&mut self.sql, identity, &server, needed, self.source.context.system.as_str(), self.major).await
    }

    /// Enters streams that the checkpoint does not know, or whose changes were not all published; forgets those that are not
    /// wanted any more.
    async fn announce(
        &mut self,
        snapshots: &mut BTreeMap<String, StreamSnapshot>,
        published: Option<&Publication>,
    ) -> Result<Checkpoint, SourceError> {
        let mut news = Checkpoint::empty();
        // From here on: what committed before is seen by the stream's snapshot, and not told as a change.
        let now = wal_end(&mut self.sql).await?;
        for table in &self.tables {
            match snapshots.get(table.stream.as_str()) {
                None => info!(stream = %table.stream, "stream added"),
                Some(state) => {
                    let gap = published.is_some_and(|now| !now.all && state.has_gap(now.entry(&table.member())));
                    if !gap {
                        continue;
                    }
                    if state.was_followed() {
                        warn!(stream = %table.stream, "the table was not in the publication all the time: its present rows are read anew");
                    }
                }
            }
            let state = match self.source.config.snapshot.mode {
                SnapshotMode::Initial => StreamSnapshot::announced(now),
                SnapshotMode::Never => StreamSnapshot::finished(now),
            };
            news.set(snapshot_partition(&table.stream), state.to_json());
            snapshots.insert(table.stream.to_string(), state);
        }
        let requested = self.source.requested();
        let unwanted: Vec<String> =
            snapshots.keys().filter(|stream| !requested.iter().any(|requested| requested.as_str() == stream.as_str())).cloned().collect();
        for stream in unwanted {
            info!(stream, "stream removed");
            news.remove(format!("{SNAPSHOT_PREFIX}{stream}"));
            snapshots.remove(&stream);
        }
        Ok(news)
    }

    /// Follows; `unfinished` streams are read beside it.
    async fn follow(
        self,
        identity: SlotIdentity,
        position: WalPosition,
        from: Lsn,
        states: &BTreeMap<String, StreamSnapshot>,
        unfinished: Vec<Unfinished>,
    ) -> Result<(), SourceError> {
        let state_of = |table: &Table| states.get(table.stream.as_str());
        let watched: Vec<Watched> =
            self.tables.iter().map(|table| (table.member(), state_of(table).and_then(|state| state.entry))).collect();
        let starts = self.tables.iter().map(|table| state_of(table).map_or(Lsn(0), |state| state.start_lsn)).collect();
        let binary = self.major >= 14 && self.tables.iter().all(|table| all_binary(&table.columns));
        let publication = identity.publication.clone();
        let (chunks, incoming) = mpsc::channel(1);
        let setup = FollowSetup {
            address: self.source.address.clone(),
            slot: identity.slot,
            publication: identity.publication,
            major: self.major,
            wire: if binary { Wire::Binary } else { Wire::Text },
            limits: self.source.context.limits,
            server: self.source.server.clone(),
            catalogue: self.catalogue,
            unfinished: unfinished.iter().map(|stream| stream.table.stream.clone()).collect(),
            tables: self.tables,
            starts,
            position,
            from,
            acknowledged: Arc::clone(&self.source.acknowledged),
            outlet: self.outlet,
            chunks: incoming,
        };
        let incremental = Incremental {
            address: self.source.address.clone(),
            system: self.source.context.system.to_string(),
            limits: self.source.context.limits,
            major: self.major,
            chunk_mib: self.source.config.snapshot.chunk_mib,
            board: Arc::clone(&self.source.board),
            chunks,
        };
        let watching = watch(self.source, self.sql, &publication, &watched);
        let reading = async {
            match incremental.run(unfinished).await {
                // All is read: following alone decides when the run ends.
                Ok(()) => std::future::pending::<Result<(), SourceError>>().await,
                Err(error) => Err(error),
            }
        };
        tokio::select! {
            followed = follow(setup) => followed,
            failed = reading => failed,
            lost = watching => Err(lost),
        }
    }

    fn members(&self) -> Vec<Member> {
        self.tables.iter().map(Table::member).collect()
    }

    fn system(&self) -> &'a str {
        self.source.context.system.as_str()
    }
}

fn snapshot_partition(stream: &StreamName) -> String {
    format!("{SNAPSHOT_PREFIX}{stream}")
}

async fn wal_end(sql: &mut Session) -> Result<Lsn, SourceError> {
    let row = sql.row("SELECT pg_catalog.pg_current_wal_insert_lsn()").await;
    let row = row.map_err(|error| error.into_source("asking for the end of the WAL"))?;
    row.parse(0).ok_or_else(|| SourceError::new(ErrorKind::Defect, "reading the end of the WAL"))
}

fn to_json(identity: &SlotIdentity) -> serde_json::Value {
    serde_json::to_value(identity).unwrap_or_default()
}

/// Reads a checkpoint; `None` for a system that was never read.
fn read_checkpoint(from: &Checkpoint) -> Result<Option<Held>, SourceError> {
    let Some(identity) = from.get(SLOT_PARTITION) else { return Ok(None) };
    let broken = |error: serde_json::Error| {
        SourceError::new(ErrorKind::Mismatch, "reading the checkpoint")
            .because(error)
            .advise("it was written by another version of the hub; take a new snapshot: hub run … --resnapshot SYSTEM")
    };
    let identity = SlotIdentity::deserialize(identity).map_err(broken)?;
    let position = match from.get(WAL_PARTITION) {
        Some(position) => WalPosition::deserialize(position).map_err(broken)?,
        None => WalPosition::before_everything(identity.consistent_point),
    };
    let mut snapshots = BTreeMap::new();
    for (partition, value) in from.iter() {
        if let (Some(stream), Some(value)) = (partition.strip_prefix(SNAPSHOT_PREFIX), value) {
            snapshots.insert(stream.to_owned(), StreamSnapshot::deserialize(value).map_err(broken)?);
        }
    }
    Ok(Some(Held { identity, position, snapshots }))
}
