//! Watches what the stream of changes cannot tell: whether the publication still publishes all that is followed. A table
//! that is taken out of it falls silent, and looks from here as if nobody changed it.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_sdk::{ErrorKind, SourceError};
use tracing::debug;

use crate::connector::Postgres;
use crate::slot::Member;
use crate::wire::{Session, WireError, literal};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);

/// What a publication holds: by schema and table, the number of the entry, which a table that comes back has not.
type Entries = BTreeMap<(String, String), String>;

struct Publication {
    /// All tables, whatever their number.
    all: bool,
    /// Inserts, updates, deletes and truncates.
    whole: bool,
    entries: Entries,
}

/// Looks every few seconds. Returns only when changes are lost or a table is gone; a server that does not answer is the
/// business of the stream.
pub(crate) async fn watch(source: &Postgres, mut sql: Session, publication: &str, members: &[Member]) -> SourceError {
    let mut first: Option<Entries> = None;
    loop {
        match look(&mut sql, publication).await {
            Ok(found) => {
                if let Some((member, why)) = fault(found.as_ref(), first.as_ref(), members) {
                    return explain(source, publication, member, why).await;
                }
                first = first.or(found.map(|found| found.entries));
            }
            Err(error) => {
                debug!(publication, %error, "the publication cannot be looked at");
                if let Ok(fresh) = source.session().await {
                    sql = fresh;
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn look(sql: &mut Session, publication: &str) -> Result<Option<Publication>, WireError> {
    let rows = sql
        .query(&format!(
            "SELECT p.puballtables, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, n.nspname, c.relname, r.oid \
             FROM pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid \
             LEFT JOIN pg_catalog.pg_class c ON c.oid = r.prrelid LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE p.pubname = {}",
            literal(publication)
        ))
        .await?;
    let Some(head) = rows.first() else { return Ok(None) };
    let entry = |at: usize| {
        let row = rows.get(at)?;
        Some(((row.get(2)?.to_owned(), row.get(3)?.to_owned()), row.get(4)?.to_owned()))
    };
    let entries = (0..rows.len()).filter_map(entry).collect();
    Ok(Some(Publication { all: head.get(0) == Some("t"), whole: head.get(1) == Some("t"), entries }))
}

/// What is wrong, and with which table.
fn fault<'a>(found: Option<&Publication>, first: Option<&Entries>, members: &'a [Member]) -> Option<(Option<&'a Member>, &'static str)> {
    let Some(found) = found else { return Some((None, "it was dropped, and changes since cannot be decoded any more")) };
    if !found.whole {
        return Some((None, "it no longer publishes all of insert, update, delete and truncate; changes since then are lost"));
    }
    if found.all {
        return None;
    }
    members.iter().find_map(|member| {
        let name = (member.schema.clone(), member.table.clone());
        let before = first.and_then(|first| first.get(&name));
        match (found.entries.get(&name), before) {
            (None, _) => Some((Some(member), "the table was taken out of it; its changes since then are lost")),
            (Some(now), Some(before)) if now != before => {
                Some((Some(member), "the table was taken out of it and put back, or its entry was narrowed; changes between are lost"))
            }
            (Some(_), _) => None,
        }
    })
}

async fn explain(source: &Postgres, publication: &str, member: Option<&Member>, why: &'static str) -> SourceError {
    let error = SourceError::new(ErrorKind::PositionLost, format!("watching publication {publication}"))
        .because(why)
        .advise(format!("take a new snapshot: hub run … --resnapshot {}", source.context.system));
    let Some(member) = member else { return error };
    // A table that was dropped or renamed leaves its publication too; the answer says so.
    match source.table(&member.stream).await {
        Err(gone) if gone.kind() == ErrorKind::StreamBroken => gone,
        _ => error.of(member.stream.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use hub_sdk::model::StreamName;

    use super::*;

    fn publication(entries: &[(&str, &str)]) -> Publication {
        let entries = entries.iter().map(|(table, oid)| (("public".to_owned(), (*table).to_owned()), (*oid).to_owned())).collect();
        Publication { all: false, whole: true, entries }
    }

    fn members() -> Vec<Member> {
        let stream = StreamName::new("public.a").unwrap();
        vec![Member { stream, schema: "public".into(), table: "a".into(), partitioned: false }]
    }

    fn says(found: Option<&Publication>, first: Option<&Entries>) -> Option<&'static str> {
        fault(found, first, &members()).map(|(_, why)| why)
    }

    #[test]
    fn a_table_that_left_or_came_back_is_told_and_others_may_come_and_go() {
        let first = publication(&[("a", "1"), ("b", "2")]).entries;
        assert_eq!(says(Some(&publication(&[("a", "1"), ("c", "3")])), Some(&first)), None);
        assert!(says(Some(&publication(&[("b", "2")])), Some(&first)).unwrap().contains("taken out"));
        assert!(says(Some(&publication(&[("a", "9")])), Some(&first)).unwrap().contains("put back"));
        assert!(says(None, Some(&first)).unwrap().contains("dropped"));
        assert!(says(Some(&Publication { whole: false, ..publication(&[("a", "1")]) }), Some(&first)).unwrap().contains("truncate"));
        assert_eq!(says(Some(&Publication { all: true, ..publication(&[]) }), None), None, "all tables are published");
    }
}
