//! What a hub must find: rows of each table, and which of them it must reject for which reason.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio_postgres::{Client, Config};

use crate::create::connect;
use crate::error::{Doing as _, ProvinceError};

/// The tables and the rows that a mapping looks at.
const STREAMS: [(&str, &str); 4] =
    [("public.co_quan", "true"), ("public.cong_dan", "true"), ("public.ho_so", "NOT da_xoa"), ("public.buoc_xu_ly", "true")];

/// What must be found, by stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// The seed that made the rows.
    pub seed: u64,
    /// By the source's table, `public.ho_so`.
    pub streams: BTreeMap<String, StreamExpectation>,
}

/// What must be found of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamExpectation {
    /// Rows in the table.
    pub rows: u64,
    /// Rows that the mapping's `where` lets through.
    pub captured: u64,
    /// Captured rows that are sound: what a compacted topic holds in the end.
    pub published: u64,
    /// Rows now in the table that must be rejected: reason code → their keys.
    pub rejected: BTreeMap<String, Vec<String>>,
    /// Entries that the rejects topic holds in the end, by reason: each flawed row as often as it was written.
    pub reject_events: BTreeMap<String, u64>,
}

/// Asks the source and the simulator's notes, in one snapshot.
///
/// # Errors
/// When the server refuses a statement or was never filled.
pub async fn expect(config: &Config) -> Result<Expectation, ProvinceError> {
    let client = connect(config).await?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.doing("beginning to count")?;
    let fill = client.query_opt("SELECT seed FROM province.fill", &[]).await.doing("reading what was loaded")?;
    let seed: i64 = fill.ok_or(ProvinceError::NotFilled)?.get(0);
    let mut streams = BTreeMap::new();
    for (table, filter) in STREAMS {
        streams.insert(table.to_owned(), stream(&client, table, filter).await?);
    }
    Ok(Expectation { seed: seed.cast_unsigned(), streams })
}

async fn stream(client: &Client, table: &str, filter: &str) -> Result<StreamExpectation, ProvinceError> {
    let count = format!("SELECT count(*), count(*) FILTER (WHERE {filter}) FROM {table}");
    let counted = client.query_one(&count, &[]).await.doing(format!("counting the rows of {table}"))?;
    let [rows, captured] = [0, 1].map(|column| counted.get::<_, i64>(column).cast_unsigned());
    let mut found = StreamExpectation { rows, captured, ..StreamExpectation::default() };
    let notes = "SELECT key, reason, mended FROM province.known_rejects WHERE stream = $1 ORDER BY number";
    for note in client.query(notes, &[&table]).await.doing("reading which rows must be rejected")? {
        let (key, reason, mended): (String, String, bool) = (note.get(0), note.get(1), note.get(2));
        *found.reject_events.entry(reason.clone()).or_default() += 1;
        if !mended {
            found.rejected.entry(reason).or_default().push(key);
        }
    }
    let rejected: usize = found.rejected.values().map(Vec::len).sum();
    found.published = captured.saturating_sub(rejected as u64);
    Ok(found)
}
