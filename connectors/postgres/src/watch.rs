//! Watches what the stream of changes cannot tell: whether the publication still publishes all that is followed. A table
//! that is taken out of it falls silent, and looks from here as if nobody changed it.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_sdk::{ErrorKind, SourceError};
use tracing::debug;

use crate::connector::Postgres;
use crate::slot::{Member, put_back};
use crate::wire::{Session, WireError, literal};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);

/// What a publication holds: by schema and table, the number of the entry, which a table that comes back has not.
type Entries = BTreeMap<(String, String), u32>;

/// A publication as it is now.
pub(crate) struct Publication {
    /// All tables, whatever their number.
    pub(crate) all: bool,
    /// Inserts, updates, deletes and truncates.
    whole: bool,
    entries: Entries,
}

impl Publication {
    /// The number of a table's entry.
    pub(crate) fn entry(&self, member: &Member) -> Option<u32> {
        self.entries.get(&(member.schema.clone(), member.table.clone())).copied()
    }
}

/// A table that must stay published, and the number of its entry where that is known.
pub(crate) type Watched = (Member, Option<u32>);

/// Looks every few seconds. Returns only when changes are lost or a table is gone; a server that does not answer is the
/// business of the stream.
pub(crate) async fn watch(source: &Postgres, mut sql: Session, publication: &str, watched: &[Watched]) -> SourceError {
    loop {
        match look(&mut sql, publication).await {
            Ok(found) => {
                if let Some((member, why)) = fault(found.as_ref(), watched) {
                    return explain(source, publication, member, why).await;
                }
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

/// Reads a publication; `None` where there is none.
pub(crate) async fn look(sql: &mut Session, publication: &str) -> Result<Option<Publication>, WireError> {
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
        Some(((row.get(2)?.to_owned(), row.get(3)?.to_owned()), row.parse(4)?))
    };
    let entries = (0..rows.len()).filter_map(entry).collect();
    Ok(Some(Publication { all: head.get(0) == Some("t"), whole: head.get(1) == Some("t"), entries }))
}

/// What is wrong, and with which table.
fn fault<'a>(found: Option<&Publication>, watched: &'a [Watched]) -> Option<(Option<&'a Member>, &'static str)> {
    let Some(found) = found else { return Some((None, "it was dropped, and changes since cannot be decoded any more")) };
    if !found.whole {
        return Some((None, "it no longer publishes all of insert, update, delete and truncate; changes since then are lost"));
    }
    if found.all {
        return None;
    }
    watched.iter().find_map(|(member, before)| match (found.entry(member), *before) {
        (None, _) => Some((Some(member), "the table was taken out of it; its changes since then are lost")),
        (Some(now), Some(before)) if now != before => {
            Some((Some(member), "the table was taken out of it and put back, or its entry was narrowed; changes between are lost"))
        }
        (Some(_), _) => None,
    })
}

async fn explain(source: &Postgres, publication: &str, member: Option<&Member>, why: &'static str) -> SourceError {
    let doing = format!("watching publication {publication}");
    let Some(member) = member else {
        return SourceError::new(ErrorKind::PositionLost, doing)
            .because(why)
            .advise(format!("take a new snapshot: hub run … --resnapshot {}", source.context.system));
    };
    // A table that was dropped or renamed leaves its publication too; the answer says so.
    match source.table(&member.stream).await {
        Err(gone) if gone.kind() == ErrorKind::StreamBroken => gone,
        _ => SourceError::new(ErrorKind::StreamBroken, doing)
            .of(member.stream.clone())
            .because(why)
            .advise(format!("its present rows are read anew once it is published again; {}", put_back(publication, member))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use hub_sdk::model::StreamName;

    use super::*;

    fn publication(entries: &[(&str, u32)]) -> Publication {
        let entries = entries.iter().map(|(table, oid)| (("public".to_owned(), (*table).to_owned()), *oid)).collect();
        Publication { all: false, whole: true, entries }
    }

    fn says(found: Option<&Publication>, before: Option<u32>) -> Option<&'static str> {
        let stream = StreamName::new("public.a").unwrap();
        let member = Member { stream, schema: "public".into(), table: "a".into(), partitioned: false };
        fault(found, &[(member, before)]).map(|(_, why)| why)
    }

    #[test]
    fn a_table_that_left_or_came_back_is_told_and_others_may_come_and_go() {
        assert_eq!(says(Some(&publication(&[("a", 1), ("c", 3)])), Some(1)), None);
        assert!(says(Some(&publication(&[("b", 2)])), Some(1)).unwrap().contains("taken out"));
        assert!(says(Some(&publication(&[("a", 9)])), Some(1)).unwrap().contains("put back"));
        assert!(says(None, Some(1)).unwrap().contains("dropped"));
        assert!(says(Some(&Publication { whole: false, ..publication(&[("a", 1)]) }), Some(1)).unwrap().contains("truncate"));
        assert_eq!(says(Some(&Publication { all: true, ..publication(&[]) }), None), None, "all tables are published");
    }
}
