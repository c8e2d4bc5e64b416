//! The tables that are mapped, and the publication that must hold them.

use hub_sdk::model::StreamName;
use hub_sdk::{Finding, SourceError, StreamRequest, StreamShape};
use tokio_postgres::{Client, Row};

use super::{fatal, remark};
use crate::client::classify;
use crate::discover::shapes_of;
use crate::types::quote_identifier;

/// A requested stream as the catalogue has it.
struct Member {
    stream: StreamName,
    /// Quoted name; `None` where there is no such table.
    sql: Option<String>,
    partitioned: bool,
    /// What stands under that name instead of a table: `a view`.
    other: Option<&'static str>,
    /// Tables that may have been meant.
    alike: Vec<String>,
    owned: bool,
    published: bool,
    /// Whether the publication passes on only some rows or columns.
    narrowed: bool,
}

struct Publication {
    owned: bool,
    all_tables: bool,
    via_root: bool,
    all_operations: bool,
    may_create: bool,
    exists: bool,
}

const MEMBERS: &str = "
SELECT w.name,
       CASE WHEN c.relkind IN ('r', 'p') THEN pg_catalog.quote_ident(c.nspname) || '.' || pg_catalog.quote_ident(c.relname) END,
       coalesce(c.relkind = 'p', false), c.relkind::text,
       ARRAY(SELECT n.nspname || '.' || a.relname
             FROM pg_catalog.pg_class a JOIN pg_catalog.pg_namespace n ON n.oid = a.relnamespace
             WHERE c.oid IS NULL AND a.relkind IN ('r', 'p') AND NOT a.relispartition
               AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
               AND pg_catalog.lower(a.relname) = pg_catalog.lower(pg_catalog.regexp_replace(w.name, '^.*\\.', ''))
             ORDER BY 1 LIMIT 3),
       coalesce(pg_catalog.pg_has_role(c.relowner, 'USAGE'), false),
       r.prrelid IS NOT NULL,
       coalesce(pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL OR pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL, false)
FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY w(name, place)
LEFT JOIN LATERAL (
    SELECT c.*, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND (n.nspname || '.' || c.relname = w.name
           OR pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) = w.name)
    ORDER BY n.nspname || '.' || c.relname = w.name DESC LIMIT 1
) c ON true
LEFT JOIN pg_catalog.pg_publication_rel r
       ON r.prrelid = c.oid AND r.prpubid = (SELECT p.oid FROM pg_catalog.pg_publication p WHERE p.pubname = $2::text)
ORDER BY w.place";

const PUBLICATION: &str = "
SELECT p.oid IS NOT NULL, coalesce(pg_catalog.pg_has_role(p.pubowner, 'USAGE'), false), coalesce(p.puballtables, false),
       coalesce(p.pubviaroot, false), coalesce(p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, false),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1::text";

/// Everything found of the requested streams and their publication.
pub(super) async fn findings(
    client: &Client,
    role: &str,
    publication: &str,
    requests: &[StreamRequest],
) -> Result<Vec<Finding>, SourceError> {
    let names: Vec<&str> = requests.iter().map(|request| request.stream.as_str()).collect();
    let fail = |error| classify("reading the mapped tables and their publication", error);
    let rows = client.query(MEMBERS, &[&names, &publication]).await.map_err(fail)?;
    let members: Vec<Member> =
        requests.iter().zip(&rows).map(|(request, row)| member(&request.stream, row)).collect::<Result<_, _>>().map_err(fail)?;
    let row = client.query_one(PUBLICATION, &[&publication]).await.map_err(fail)?;
    let facts = publication_facts(&row).map_err(fail)?;

    let mut findings: Vec<Finding> = members.iter().filter_map(absent).collect();
    let streams: Vec<StreamName> = members.iter().filter(|member| member.sql.is_some()).map(|member| member.stream.clone()).collect();
    for shape in shapes_of(client, &streams).await? {
        let request = requests.iter().find(|request| request.stream == shape.stream);
        findings.extend(request.into_iter().flat_map(|request| columns(request, &shape)));
        findings.extend(shape.findings.into_iter().filter(|finding| worth_telling(finding, request)));
    }
    findings.extend(publishing(&facts, &members, role, publication));
    Ok(findings)
}

fn member(stream: &StreamName, row: &Row) -> Result<Member, tokio_postgres::Error> {
    Ok(Member {
        stream: stream.clone(),
        sql: row.try_get(1)?,
        partitioned: row.try_get(2)?,
        other: match row.try_get::<_, Option<&str>>(3)? {
            Some("v") => Some("a view"),
            Some("m") => Some("a materialized view"),
            Some("f") => Some("a foreign table"),
            _ => None,
        },
        alike: row.try_get(4)?,
        owned: row.try_get(5)?,
        published: row.try_get(6)?,
        narrowed: row.try_get(7)?,
    })
}

fn publication_facts(row: &Row) -> Result<Publication, tokio_postgres::Error> {
    Ok(Publication {
        exists: row.try_get(0)?,
        owned: row.try_get(1)?,
        all_tables: row.try_get(2)?,
        via_root: row.try_get(3)?,
        all_operations: row.try_get(4)?,
        may_create: row.try_get(5)?,
    })
}

fn absent(member: &Member) -> Option<Finding> {
    if member.sql.is_some() {
        return None;
    }
    if let Some(other) = member.other {
        return Some(fatal(
            "not-a-table",
            format!("{} is {other}: it has no changes of its own to follow", member.stream),
            "map the tables that it reads",
        ));
    }
    let remedy = match member.alike.as_slice() {
        [] => "hub discover lists the tables that can be captured".to_owned(),
        alike => format!("did you mean {}?", alike.join(" or ")),
    };
    Some(fatal("table-missing", format!("there is no table {}", member.stream), remedy))
}

/// Columns that a mapping reads and the stream lacks.
fn columns(request: &StreamRequest, shape: &StreamShape) -> Vec<Finding> {
    let generated = |column: &str| {
        shape
            .findings
            .iter()
            .any(|finding| finding.code == "generated-column" && finding.message.starts_with(&format!("column {column} of ")))
    };
    let absent = |column: &&String| !shape.columns.iter().any(|known| known.name == **column);
    request
        .columns
        .iter()
        .filter(absent)
        .map(|column| {
            if generated(column) {
                return fatal(
                    "generated-column-mapped",
                    format!("column {column} of {} is generated: the server does not send it", request.stream),
                    "compute it in the mapping from the columns it is made of",
                );
            }
            let wanted = column.to_lowercase();
            let alike: Vec<&str> =
                shape.columns.iter().filter(|known| known.name.to_lowercase() == wanted).map(|known| known.name.as_str()).collect();
            let remedy = match alike.as_slice() {
                [] => format!("it has: {}", shape.columns.iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", ")),
                alike => format!("did you mean {}?", alike.join(" or ")),
            };
            fatal("column-missing", format!("{} has no column {column}", request.stream), remedy)
        })
        .collect()
}

/// A generated column is only news where the mapping takes all columns.
fn worth_telling(finding: &Finding, request: Option<&StreamRequest>) -> bool {
    finding.code != "generated-column" || request.is_some_and(|request| request.columns.is_empty())
}

fn publishing(facts: &Publication, members: &[Member], role: &str, name: &str) -> Vec<Finding> {
    let present: Vec<&Member> = members.iter().filter(|member| member.sql.is_some()).collect();
    if present.is_empty() {
        return Vec::new();
    }
    let quoted = quote_identifier(name);
    if !facts.exists {
        return creatable(facts, &present, role, &quoted).into_iter().collect();
    }
    let mut findings = Vec::new();
    let lacking: Vec<&&Member> = present.iter().filter(|member| !facts.all_tables && !member.published).collect();
    let addable = facts.owned && lacking.iter().all(|member| member.owned);
    if !lacking.is_empty() && !addable {
        let tables = list(lacking.iter().map(|member| **member));
        findings.push(fatal(
            "publication-lacks-table",
            format!("publication {name} lacks {tables}, and role {role} does not own both it and them"),
            format!("let the owner run: ALTER PUBLICATION {quoted} ADD TABLE {tables};"),
        ));
    }
    if !facts.owned && !facts.via_root && present.iter().any(|member| member.partitioned) {
        findings.push(fatal(
            "publication-not-via-root",
            format!("publication {name} sends changes of partitions under the partitions' own names"),
            format!("let its owner run: ALTER PUBLICATION {quoted} SET (publish_via_partition_root = true);"),
        ));
    }
    if !facts.owned && !facts.all_operations {
        findings.push(fatal(
            "publication-incomplete",
            format!("publication {name} leaves out inserts, updates, deletes or truncates"),
            format!("let its owner run: ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate');"),
        ));
    }
    findings.extend(present.iter().filter(|member| member.narrowed).map(|member| {
        remark(
            "publication-narrowed",
            format!("publication {name} passes on only some rows or columns of {}; a snapshot reads all of them", member.stream),
            format!("let its owner run: ALTER PUBLICATION {quoted} SET TABLE {};", list(present.iter().copied())),
        )
    }));
    findings
}

fn creatable(facts: &Publication, present: &[&Member], role: &str, quoted: &str) -> Option<Finding> {
    let foreign: Vec<&&Member> = present.iter().filter(|member| !member.owned).collect();
    if facts.may_create && foreign.is_empty() {
        return None;
    }
    let why = if facts.may_create {
        format!("it does not own {}", list(foreign.iter().map(|member| **member)))
    } else {
        "it has no CREATE right on the database".to_owned()
    };
    Some(fatal(
        "publication-not-creatable",
        format!("there is no publication {quoted}, and role {role} cannot make it: {why}"),
        format!(
            "let a superuser or the owner of the tables run: CREATE PUBLICATION {quoted} FOR TABLE {} WITH (publish_via_partition_root = true);",
            list(present.iter().copied())
        ),
    ))
}

fn list<'a>(members: impl Iterator<Item = &'a Member>) -> String {
    members.filter_map(|member| member.sql.as_deref()).collect::<Vec<_>>().join(", ")
}
