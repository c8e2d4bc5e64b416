//! What the hub keeps at the source, one slot and one publication per system: made, checked, measured, removed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, SourceError, SourceGauge};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::wire::{Identity, Lsn, Session, WireError, literal, quote};

/// The checkpoint's partition `slot`: which slot of which server the other partitions belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotIdentity {
    pub(crate) slot: String,
    pub(crate) publication: String,
    pub(crate) system_identifier: String,
    pub(crate) timeline: u32,
    pub(crate) consistent_point: Lsn,
}

/// Name of the checkpoint's partition that holds a [`SlotIdentity`].
pub(crate) const SLOT_PARTITION: &str = "slot";

/// What the server says of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotFacts {
    active_pid: Option<i32>,
    plugin: String,
    confirmed: Lsn,
    lost: bool,
    failover: bool,
}

/// A table to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) stream: StreamName,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) partitioned: bool,
}

impl Member {
    /// The table as SQL names it.
    pub(crate) fn sql_name(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }

    /// The table as an object of a publication: without the tables that inherit from it, but with its partitions.
    fn as_published(&self) -> String {
        if self.partitioned { self.sql_name() } else { format!("ONLY {}", self.sql_name()) }
    }
}

/// Reads what the server knows of a slot; `None` where there is none.
pub(crate) async fn inspect(sql: &mut Session, slot: &str, major: u32) -> Result<Option<SlotFacts>, SourceError> {
    let failover = if major >= 17 { "failover" } else { "false" };
    let rows = sql
        .query(&format!(
            "SELECT active_pid, plugin, confirmed_flush_lsn, wal_status = 'lost' OR restart_lsn IS NULL, {failover} \
             FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
            literal(slot)
        ))
        .await
        .map_err(|error| error.into_source(format!("reading slot {slot}")))?;
    Ok(rows.first().map(|row| SlotFacts {
        active_pid: row.parse(0),
        plugin: row.get(1).unwrap_or_default().to_owned(),
        confirmed: row.parse(2).unwrap_or_default(),
        lost: row.get(3) == Some("t"),
        failover: row.get(4) == Some("t"),
    }))
}

/// Checks that the server still is the one of the checkpoint, and that its slot still has everything after `resume`.
pub(crate) async fn check_resumable(
    sql: &mut Session,
    held: &SlotIdentity,
    server: &Identity,
    resume: Lsn,
    system: &str,
    major: u32,
) -> Result<(), SourceError> {
    let way_out = || format!("take a new snapshot: hub run … --resnapshot {system}");
    let doing = || format!("resuming slot {} from {resume}", held.slot);
    if held.system_identifier != server.system_identifier {
        return Err(SourceError::new(ErrorKind::Mismatch, doing())
            .because(format!("the checkpoint is of server {}, this is server {}", held.system_identifier, server.system_identifier))
            .advise(format!("point the configuration at the right server, or {}", way_out())));
    }
    let Some(facts) = inspect(sql, &held.slot, major).await? else {
        return Err(SourceError::new(ErrorKind::PositionLost, doing()).because("the slot does not exist any more").advise(way_out()));
    };
    if held.timeline != server.timeline && !facts.failover {
        return Err(SourceError::new(ErrorKind::Mismatch, doing())
            .because(format!(
                "the server was promoted or restored: timeline {} where the checkpoint has {}",
                server.timeline, held.timeline
            ))
            .advise(way_out()));
    }
    if facts.lost {
        return Err(SourceError::new(ErrorKind::PositionLost, doing())
            .because("the server has removed WAL that the slot needs (wal_status = lost)")
            .advise(format!("raise max_slot_wal_keep_size, then {}", way_out())));
    }
    if facts.plugin != "pgoutput" {
        return Err(SourceError::new(ErrorKind::Mismatch, doing())
            .because(format!("the slot has plugin {}, not pgoutput", facts.plugin))
            .advise(way_out()));
    }
    // We confirm only what Kafka holds, so a slot that is past our checkpoint was made or moved by someone else.
    if facts.confirmed > resume {
        return Err(SourceError::new(ErrorKind::PositionLost, doing())
            .because(format!("the slot is already at {}: it was made anew or moved by someone else", facts.confirmed))
            .advise(way_out()));
    }
    Ok(())
}

/// Drops the slot of an earlier life of the system, where there is one.
pub(crate) async fn drop_slot(sql: &mut Session, slot: &str, major: u32) -> Result<(), SourceError> {
    let failed = |error: WireError| error.into_source(format!("dropping slot {slot}"));
    for _attempt in 0..50 {
        let Some(facts) = inspect(sql, slot, major).await? else { return Ok(()) };
        if let Some(pid) = facts.active_pid {
            sql.query(&format!("SELECT pg_catalog.pg_terminate_backend({pid})")).await.map_err(failed)?;
        }
        match sql.query(&format!("SELECT pg_catalog.pg_drop_replication_slot({})", literal(slot))).await {
            Ok(_) => return Ok(()),
            // Still held by the walsender that was told to end; it does so within milliseconds.
            Err(error) if error.sqlstate() == Some("55006") => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) if error.sqlstate() == Some("42704") => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
    Err(SourceError::new(ErrorKind::Unreachable, format!("dropping slot {slot}"))
        .because("its walsender does not end")
        .advise(format!("SELECT pg_drop_replication_slot({})", literal(slot))))
}

/// Ends a walsender that still holds the slot: one of our own whose connection broke unnoticed.
pub(crate) async fn take_over(sql: &mut Session, slot: &str) -> Result<(), SourceError> {
    sql.query(&format!(
        "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = {} AND active_pid IS NOT NULL",
        literal(slot)
    ))
    .await
    .map(|_rows| ())
    .map_err(|error| error.into_source(format!("taking over slot {slot} from another walsender")))
}

/// How [`publish`] treats a publication that lacks what the checkpoint expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publishing<'a> {
    /// The system was never read: make or change whatever is needed.
    Anew,
    /// The named streams have been followed; if one is missing, changes were lost.
    Resume(&'a BTreeSet<StreamName>),
}

/// Makes the publication hold exactly `members`. Gives those that were added.
pub(crate) async fn publish(
    sql: &mut Session,
    publication: &str,
    members: &[Member],
    how: Publishing<'_>,
    system: &str,
) -> Result<Vec<StreamName>, SourceError> {
    let failed = |error: WireError| publication_error(error, publication, members);
    let facts = sql
        .query(&format!(
            "SELECT puballtables, pubviaroot, pubinsert AND pubupdate AND pubdelete AND pubtruncate \
             FROM pg_catalog.pg_publication WHERE pubname = {}",
            literal(publication)
        ))
        .await
        .map_err(failed)?;
    let Some(facts) = facts.first() else {
        if let Publishing::Resume(_) = how {
            return Err(SourceError::new(ErrorKind::PositionLost, format!("reading publication {publication}"))
                .because("it was dropped, and changes since cannot be decoded any more")
                .advise(format!("take a new snapshot: hub run … --resnapshot {system}")));
        }
        let tables: Vec<_> = members.iter().map(Member::as_published).collect();
        let create =
            format!("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)", quote(publication), tables.join(", "));
        sql.query(&create).await.map_err(failed)?;
        info!(publication, tables = members.len(), "publication made");
        return Ok(members.iter().map(|member| member.stream.clone()).collect());
    };
    if facts.get(1) != Some("t") && members.iter().any(|member| member.partitioned) {
        alter(sql, publication, "SET (publish_via_partition_root = true)").await.map_err(failed)?;
    }
    if facts.get(2) != Some("t") {
        alter(sql, publication, "SET (publish = 'insert, update, delete, truncate')").await.map_err(failed)?;
    }
    if facts.get(0) == Some("t") {
        return Ok(Vec::new());
    }
    change_members(sql, publication, members, how).await
}

async fn change_members(
    sql: &mut Session,
    publication: &str,
    members: &[Member],
    how: Publishing<'_>,
) -> Result<Vec<StreamName>, SourceError> {
    let failed = |error: WireError| publication_error(error, publication, members);
    let present = sql
        .query(&format!(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_publication p \
             JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid \
             JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE p.pubname = {}",
            literal(publication)
        ))
        .await
        .map_err(failed)?;
    let present: BTreeSet<(&str, &str)> =
        present.iter().map(|row| (row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default())).collect();
    let mut added = Vec::new();
    for member in members {
        if present.contains(&(member.schema.as_str(), member.table.as_str())) {
            continue;
        }
        if let Publishing::Resume(followed) = how
            && followed.contains(&member.stream)
        {
            return Err(SourceError::new(ErrorKind::StreamBroken, format!("reading publication {publication}"))
                .of(member.stream.clone())
                .because("the table was taken out of the publication right now; its changes since then are lost"));
        }
        let add = alter(sql, publication, &format!("ADD TABLE {}", member.as_published())).await;
        add.map_err(|error| not_added(error, publication, member))?;
        info!(publication, stream = %member.stream, "table added to the publication");
        added.push(member.stream.clone());
    }
    let wanted: BTreeSet<(&str, &str)> = members.iter().map(|member| (member.schema.as_str(), member.table.as_str())).collect();
    for (schema, table) in present.difference(&wanted) {
        let dropped = alter(sql, publication, &format!("DROP TABLE {}.{}", quote(schema), quote(table))).await;
        // Whoever made the publication may keep more in it than we read; those rows are passed over.
        if let Err(error) = dropped {
            warn!(publication, schema, table, %error, "cannot take an unused table out of the publication");
        }
    }
    Ok(added)
}

async fn alter(sql: &mut Session, publication: &str, change: &str) -> Result<(), WireError> {
    sql.query(&format!("ALTER PUBLICATION {} {change}", quote(publication))).await.map(|_rows| ())
}

/// Why a table cannot be published: where it is the table's own trouble, the others can go on.
fn not_added(error: WireError, publication: &str, member: &Member) -> SourceError {
    let own = matches!(error.sqlstate(), Some("42501" | "42P01" | "42809" | "22023"));
    let kind = if own { ErrorKind::StreamBroken } else { error.kind() };
    let failure = SourceError::new(kind, format!("adding a table to publication {publication}")).of(member.stream.clone()).because(error);
    if own { failure.advise(put_back(publication, member)) } else { failure }
}

/// How a table is published again where the hub's role may not do it.
pub(crate) fn put_back(publication: &str, member: &Member) -> String {
    format!(
        "where the hub's role may not do that itself, let the owner run: ALTER PUBLICATION {} ADD TABLE {}",
        quote(publication),
        member.as_published()
    )
}

fn publication_error(error: WireError, publication: &str, members: &[Member]) -> SourceError {
    let tables: Vec<_> = members.iter().map(Member::as_published).collect();
    let refused = matches!(error.sqlstate(), Some("42501"));
    let kind = if refused { ErrorKind::NotPrepared } else { error.kind() };
    let failure = SourceError::new(kind, format!("preparing publication {publication}")).because(error);
    if !refused {
        return failure;
    }
    failure.advise(format!(
        "let the owner of the tables run: CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
        quote(publication),
        tables.join(", ")
    ))
}

/// Removes slot and publication for good.
pub(crate) async fn release(sql: &mut Session, slot: &str, publication: &str, major: u32) -> Result<(), SourceError> {
    drop_slot(sql, slot, major).await?;
    let statement = format!("DROP PUBLICATION IF EXISTS {}", quote(publication));
    sql.query(&statement).await.map_err(|error| {
        error.into_source(format!("dropping publication {publication}")).advise(format!("run as its owner: {statement}"))
    })?;
    info!(slot, publication, "slot and publication removed");
    Ok(())
}

/// Remembers how fast the room of a slot shrinks.
#[derive(Debug, Default)]
pub(crate) struct Forecast {
    last: Mutex<Option<Sample>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    safe_bytes: f64,
    /// Bytes per second by which the room shrinks, smoothed; negative while it grows.
    rate: f64,
}

impl Forecast {
    /// Seconds until the slot is lost if WAL goes on growing as it did between the last calls; `None` while it does not.
    fn update(&self, safe_bytes: f64, now: Instant) -> Option<f64> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rate = match *last {
            Some(before) if now > before.at => {
                let fresh = (before.safe_bytes - safe_bytes) / (now - before.at).as_secs_f64();
                before.rate * 0.7 + fresh * 0.3
            }
            Some(before) => before.rate,
            None => 0.0,
        };
        *last = Some(Sample { at: now, safe_bytes, rate });
        (rate > 1.0).then(|| (safe_bytes / rate).max(0.0))
    }
}

/// Lag and health of the slot.
pub(crate) async fn gauges(sql: &mut Session, slot: &str, forecast: &Forecast) -> Result<Vec<SourceGauge>, SourceError> {
    let rows = sql
        .query(&format!(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), \
             pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), safe_wal_size, wal_status, active::int \
             FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
            literal(slot)
        ))
        .await
        .map_err(|error| error.into_source(format!("measuring slot {slot}")))?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let mut gauges = Vec::new();
    let mut tell = |name, value: Option<f64>| {
        if let Some(value) = value {
            gauges.push(SourceGauge { name, label: None, value });
        }
    };
    let safe = row.parse::<f64>(2);
    tell("lag_bytes", row.parse(0));
    tell("slot_retained_bytes", row.parse(1));
    tell("slot_safe_wal_bytes", safe);
    tell("slot_active", row.parse(4));
    tell("slot_lost_in_seconds", safe.and_then(|safe| forecast.update(safe, Instant::now())));
    if let Some(status) = row.get(3) {
        gauges.push(SourceGauge { name: "slot_wal_status", label: Some(("wal_status", status.to_owned())), value: 1.0 });
    }
    Ok(gauges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gauge_is_on_the_reference_page() {
        let (code, page) = (include_str!("slot.rs"), include_str!("../../../docs/metrics.md"));
        let names =
            code.split("tell(\"").skip(1).chain(code.split("SourceGauge { name: \"").skip(1)).filter_map(|rest| rest.split('"').next());
        let names: Vec<&str> = names.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).collect();
        assert!(names.len() >= 6, "{names:?}");
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            // The hub has a name of its own for the lag of every kind of source.
            let metric = if name == "lag_bytes" { "hub_capture_lag_bytes".to_owned() } else { format!("hub_source_{name}") };
            assert!(page.lines().any(|line| line.starts_with(&format!("| `{metric}` |"))), "docs/metrics.md has no row for {metric}");
        }
    }

    #[test]
    fn a_slot_whose_room_shrinks_is_forecast_to_be_lost_and_one_that_recovers_is_not() {
        let forecast = Forecast::default();
        let start = Instant::now();
        assert_eq!(forecast.update(1e9, start), None);
        let mut seconds = None;
        for step in 1_u32..=20 {
            seconds = forecast.update(1e9 - 1e6 * f64::from(step), start + Duration::from_secs(step.into()));
        }
        assert!(seconds.is_some_and(|seconds| (900.0..1_100.0).contains(&seconds)), "{seconds:?}");
        for step in 21_u32..=40 {
            seconds = forecast.update(2e9, start + Duration::from_secs(step.into()));
        }
        assert_eq!(seconds, None);
    }
}
