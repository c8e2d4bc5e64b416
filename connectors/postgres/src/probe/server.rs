//! The server's settings, the role's rights and the slot.

use hub_sdk::{Finding, SourceError};
use tokio_postgres::{Client, Row};

use super::{fatal, remark};
use crate::client::classify;
use crate::config::PostgresConfig;
use crate::types::quote_literal;

/// What one query tells of the server.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// `PostgreSQL 15.18`.
    pub(super) version: String,
    major: i32,
    wal_level: String,
    standby: bool,
    slots: (i64, i64),
    walsenders: (i64, i64),
    /// Megabytes of WAL that slots may keep; -1 for no bound.
    wal_keep_mb: i64,
    encoding: String,
    may_replicate: bool,
    /// The role that is logged in, quoted.
    pub(super) role: String,
    slot: Option<SlotFacts>,
}

#[derive(Clone, Debug)]
struct SlotFacts {
    plugin: Option<String>,
    /// Whether it is a slot of this database.
    here: bool,
    active_pid: Option<i32>,
    wal_status: Option<String>,
}

/// Managed services give the right by membership in a role of their own.
const FACTS: &str = "
SELECT 'PostgreSQL ' || pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1),
       pg_catalog.current_setting('server_version_num')::int / 10000, pg_catalog.current_setting('wal_level'),
       pg_catalog.pg_is_in_recovery(),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots), pg_catalog.current_setting('max_replication_slots')::int8,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication), pg_catalog.current_setting('max_wal_senders')::int8,
       coalesce((SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'), -1),
       pg_catalog.current_setting('server_encoding'),
       r.rolsuper OR r.rolreplication OR EXISTS (
           SELECT FROM pg_catalog.pg_roles m WHERE m.rolname IN ('rds_replication', 'cloudsqlreplica')
           AND pg_catalog.pg_has_role(m.oid, 'MEMBER')),
       pg_catalog.quote_ident(r.rolname),
       s.slot_name IS NOT NULL, s.plugin::text, s.database = pg_catalog.current_database(), s.active_pid, s.wal_status
FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1::text
WHERE r.rolname = current_user";

pub(super) async fn facts(client: &Client, slot: &str) -> Result<Facts, SourceError> {
    let fail = |error| classify("reading the settings of the server", error);
    let row = client.query_one(FACTS, &[&slot]).await.map_err(fail)?;
    facts_of(&row).map_err(fail)
}

fn facts_of(row: &Row) -> Result<Facts, tokio_postgres::Error> {
    let slot = match row.try_get(12)? {
        false => None,
        true => Some(SlotFacts {
            plugin: row.try_get(13)?,
            here: row.try_get::<_, Option<bool>>(14)?.unwrap_or(false),
            active_pid: row.try_get(15)?,
            wal_status: row.try_get(16)?,
        }),
    };
    Ok(Facts {
        version: row.try_get(0)?,
        major: row.try_get(1)?,
        wal_level: row.try_get(2)?,
        standby: row.try_get(3)?,
        slots: (row.try_get(4)?, row.try_get(5)?),
        walsenders: (row.try_get(6)?, row.try_get(7)?),
        wal_keep_mb: row.try_get(8)?,
        encoding: row.try_get(9)?,
        may_replicate: row.try_get(10)?,
        role: row.try_get(11)?,
        slot,
    })
}

/// Everything that can be told of the server without its tables.
pub(super) fn findings(facts: &Facts, config: &PostgresConfig, slot: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.major < 13 {
        findings.push(fatal(
            "server-too-old",
            format!("{} is too old: the hub reads PostgreSQL 13 and later", facts.version),
            "upgrade the server",
        ));
    }
    if facts.standby {
        findings.push(fatal(
            "standby-server",
            "the server is a standby: publications and slots are made on the primary",
            "set config.host to the primary server",
        ));
    }
    findings.extend(wal(facts, slot));
    if !facts.may_replicate {
        findings.push(fatal(
            "no-replication-right",
            format!("role {} may not replicate", facts.role),
            format!("ALTER ROLE {} REPLICATION;", facts.role),
        ));
    }
    findings.extend(slot_findings(facts, config, slot));
    if facts.encoding == "SQL_ASCII" {
        findings.push(remark(
            "database-encoding",
            "the database has encoding SQL_ASCII: the server does not know what its text is; rows that are not UTF-8 will be rejected",
            "convert the database to UTF8 (dump and restore), or mend the rows that are rejected",
        ));
    }
    findings
}

fn wal(facts: &Facts, slot: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.wal_level != "logical" {
        findings.push(fatal(
            "wal-level",
            format!("wal_level is {}, and following changes needs logical", facts.wal_level),
            "ALTER SYSTEM SET wal_level = logical; then restart the server",
        ));
    }
    let (used, most) = facts.slots;
    if facts.slot.is_none() && used >= most {
        findings.push(fatal(
            "no-free-slot",
            format!("all {most} replication slots are in use, so slot {slot} cannot be made"),
            format!(
                "ALTER SYSTEM SET max_replication_slots = {}; then restart the server; or drop one that nobody reads: \
                 SELECT slot_name FROM pg_replication_slots WHERE NOT active;",
                most + 5
            ),
        ));
    }
    let (used, most) = facts.walsenders;
    let own = facts.slot.as_ref().is_some_and(|slot| slot.active_pid.is_some());
    if !own && used >= most {
        findings.push(fatal(
            "no-free-walsender",
            format!("all {most} walsenders are in use, so changes cannot be followed"),
            format!("ALTER SYSTEM SET max_wal_senders = {}; then restart the server", most + 5),
        ));
    }
    if facts.wal_keep_mb < 0 {
        findings.push(remark(
            "wal-keep-unbounded",
            "max_slot_wal_keep_size is not set: while the hub is stopped, the server keeps WAL until its disk is full",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf(); and alarm on the hub's slot metrics",
        ));
    }
    findings
}

fn slot_findings(facts: &Facts, config: &PostgresConfig, name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.failover && facts.major < 17 {
        findings.push(remark(
            "failover-unsupported",
            format!("config.failover has no effect on {}: slots survive a failover from PostgreSQL 17 on", facts.version),
            "leave config.failover out, or upgrade the server",
        ));
    }
    let Some(slot) = &facts.slot else { return findings };
    let drop = format!("SELECT pg_drop_replication_slot({});", quote_literal(name));
    if slot.plugin.as_deref() != Some("pgoutput") || !slot.here {
        findings.push(fatal(
            "slot-taken",
            format!("slot {name} belongs to somebody else: it has another plug-in than pgoutput, or another database"),
            format!("choose another name in config.slot; or, if nobody needs it: {drop}"),
        ));
    } else if slot.wal_status.as_deref() == Some("lost") {
        findings.push(fatal(
            "slot-lost",
            format!("the server has given up slot {name}: WAL that it needed is gone"),
            format!("{drop} then take a new snapshot of the system"),
        ));
    } else if let Some(pid) = slot.active_pid {
        findings.push(remark(
            "slot-active",
            format!("slot {name} is being read by process {pid}: a running hub, or somebody else"),
            format!("see who: SELECT usename, client_addr, application_name FROM pg_stat_activity WHERE pid = {pid};"),
        ));
    }
    findings
}
