//! What stands in the way of capturing a table, and the SQL that mends it.

use hub_sdk::Finding;

use super::query::{ColumnRow, ReplicaIdentity, TableRow};
use crate::types::quote_identifier;

/// Everything found of one table, the fatal first.
pub(super) fn of_table(table: &TableRow, columns: &[ColumnRow]) -> Vec<Finding> {
    let sql = format!("{}.{}", quote_identifier(&table.schema), quote_identifier(&table.name));
    let mut findings = Vec::new();
    findings.extend(rights(table, &sql));
    findings.extend(identity(table, &sql));
    if table.unlogged {
        findings.push(Finding {
            fatal: true,
            code: "unlogged-table",
            message: format!("{sql} is unlogged: its changes are not in the WAL, so they cannot be followed"),
            remedy: Some(format!("ALTER TABLE {sql} SET LOGGED;")),
        });
    }
    if !table.odd_partitions.is_empty() {
        findings.push(partitions(table, &sql));
    }
    findings.extend(columns.iter().filter(|column| column.generated).map(|column| Finding {
        fatal: false,
        code: "generated-column",
        message: format!("column {} of {sql} is generated: the server does not send it, so it is not captured", column.name),
        remedy: Some("compute it in the mapping from the columns it is made of".to_owned()),
    }));
    findings.sort_by_key(|finding| !finding.fatal);
    findings
}

fn rights(table: &TableRow, sql: &str) -> Option<Finding> {
    let (schema, role) = (quote_identifier(&table.schema), &table.role);
    if !table.may_use_schema || !table.unreadable.is_empty() {
        let usage = if table.may_use_schema { String::new() } else { format!("GRANT USAGE ON SCHEMA {schema} TO {role}; ") };
        // A snapshot reads partitions one by one, each with a right of its own.
        let unreadable = table.unreadable.join(", ");
        let select = if unreadable.is_empty() { String::new() } else { format!("GRANT SELECT ON {unreadable} TO {role};") };
        return Some(Finding {
            fatal: true,
            code: "no-select-right",
            message: format!("the role may not read {}, which the snapshot needs", if unreadable.is_empty() { sql } else { &unreadable }),
            remedy: Some(format!("{usage}{select}").trim().to_owned()),
        });
    }
    table.row_security.then(|| Finding {
        fatal: true,
        code: "row-security",
        message: format!("a row-level policy applies to the role on {sql}: a snapshot would lack rows that the changes have"),
        remedy: Some(format!("ALTER ROLE {role} BYPASSRLS;")),
    })
}

fn identity(table: &TableRow, sql: &str) -> Option<Finding> {
    if !table.identified {
        let remedy = match &table.candidate {
            Some(index) => format!("ALTER TABLE {sql} REPLICA IDENTITY USING INDEX {};", index),
            None => format!("ALTER TABLE {sql} ADD PRIMARY KEY (…); or, dearer: ALTER TABLE {sql} REPLICA IDENTITY FULL;"),
        };
        let why = match table.identity {
            ReplicaIdentity::Nothing => "has replica identity NOTHING",
            ReplicaIdentity::Index => "has lost the index of its replica identity",
            ReplicaIdentity::Default | ReplicaIdentity::Full => "has no primary key",
        };
        return Some(Finding {
            fatal: true,
            code: if table.identity == ReplicaIdentity::Nothing { "replica-identity-nothing" } else { "no-key" },
            message: format!("{sql} {why}: once it is published, the server refuses its updates and deletes"),
            remedy: Some(remedy),
        });
    }
    (table.key.is_empty() && table.full_images()).then(|| Finding {
        fatal: false,
        code: "no-key",
        message: format!("{sql} has no primary key; its changes are told apart by the whole old row"),
        remedy: Some("choose key columns in the mapping that are unique".to_owned()),
    })
}

fn partitions(table: &TableRow, sql: &str) -> Finding {
    let names = table.odd_partitions.join(", ");
    let form = match table.identity {
        ReplicaIdentity::Full => "FULL",
        ReplicaIdentity::Nothing => "NOTHING",
        ReplicaIdentity::Default => "DEFAULT",
        ReplicaIdentity::Index => "USING INDEX …",
    };
    Finding {
        fatal: false,
        code: "partition-identity",
        message: format!("partitions of {sql} have another replica identity than it has, and theirs is what counts: {names}"),
        remedy: Some(
            table.odd_partitions.iter().map(|name| format!("ALTER TABLE {name} REPLICA IDENTITY {form};")).collect::<Vec<_>>().join(" "),
        ),
    }
}
