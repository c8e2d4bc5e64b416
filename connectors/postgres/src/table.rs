//! The tables that a system captures, as the server's catalogue has them now.

use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, SourceError, StreamRequest};
use tokio_postgres::Client;
use tracing::warn;

use crate::client::classify;
use crate::slot::Member;
use crate::types::{Catalogue, ColumnType, load_columns};

/// One captured table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) stream: StreamName,
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) partitioned: bool,
    /// The captured columns in the table's order.
    pub(crate) columns: Vec<ColumnType>,
    /// Places in `columns` of the primary key, or of the replica identity's index; empty for a table without.
    pub(crate) key: Vec<usize>,
    /// Columns that the mapping asked for by name; empty for all.
    pub(crate) wanted: Vec<String>,
    /// Estimated rows.
    pub(crate) rows: Option<u64>,
}

impl Table {
    /// The table as a member of the publication.
    pub(crate) fn member(&self) -> Member {
        Member { stream: self.stream.clone(), schema: self.schema.clone(), table: self.name.clone(), partitioned: self.partitioned }
    }

    /// Whether a column is captured: asked for, or part of the key.
    pub(crate) fn captures(&self, column: &str) -> bool {
        self.wanted.is_empty()
            || self.wanted.iter().any(|wanted| wanted == column)
            || self.key.iter().any(|place| self.columns.get(*place).is_some_and(|key| key.name.as_ref() == column))
    }
}

const TABLE: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.reltuples::float8,
           ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                 WHERE i.indrelid = c.oid AND i.indexrelid = (
                       SELECT k.indexrelid FROM pg_catalog.pg_index k
                       WHERE k.indrelid = c.oid AND (k.indisprimary OR k.indisreplident)
                       ORDER BY k.indisreplident AND c.relreplident = 'i' DESC, k.indisprimary DESC LIMIT 1)
                 ORDER BY array_position(i.indkey::int2[], a.attnum)),
           ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated <> '')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p')
      AND (n.nspname || '.' || c.relname = $1 OR quote_ident(n.nspname) || '.' || quote_ident(c.relname) = $1)
    ORDER BY n.nspname || '.' || c.relname = $1 DESC LIMIT 1";

/// Reads what the catalogue says of the requested streams.
///
/// # Errors
/// [`ErrorKind::StreamBroken`] with the stream where a table is not there; what [`classify`] makes of other answers.
pub(crate) async fn load_tables(client: &Client, catalogue: &Catalogue, requests: &[StreamRequest]) -> Result<Vec<Table>, SourceError> {
    let mut tables = Vec::with_capacity(requests.len());
    for request in requests {
        tables.push(load_table(client, catalogue, request).await?);
    }
    Ok(tables)
}

async fn load_table(client: &Client, catalogue: &Catalogue, request: &StreamRequest) -> Result<Table, SourceError> {
    let doing = || format!("reading the definition of table {}", request.stream);
    let row = client
        .query_opt(TABLE, &[&request.stream.as_str()])
        .await
        .map_err(|error| classify(doing(), error).of(request.stream.clone()))?
        .ok_or_else(|| {
            SourceError::new(ErrorKind::StreamBroken, doing())
                .of(request.stream.clone())
                .because("there is no such table, or the role may not see its schema")
                .advise("hub discover lists the tables that can be captured")
        })?;
    let read = |row: &tokio_postgres::Row| -> Result<(Table, Vec<String>, Vec<String>), tokio_postgres::Error> {
        let estimate: f64 = row.try_get(4)?;
        let table = Table {
            stream: request.stream.clone(),
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            partitioned: row.try_get(3)?,
            columns: Vec::new(),
            key: Vec::new(),
            wanted: request.columns.clone(),
            rows: (estimate >= 0.0).then_some(estimate as u64),
        };
        Ok((table, row.try_get(5)?, row.try_get(6)?))
    };
    let (mut table, key, generated) = read(&row).map_err(|error| classify(doing(), error))?;
    let all = load_columns(client, catalogue, table.oid).await?;
    for wanted in &request.columns {
        if !all.iter().any(|column| column.name.as_ref() == wanted) || generated.contains(wanted) {
            warn!(stream = %request.stream, column = wanted, "a mapped column is not in the stream of changes");
        }
    }
    // The stream of changes leaves generated columns out, so the snapshot does too: both must yield the same shape.
    table.columns = all
        .into_iter()
        .filter(|column| !generated.iter().any(|name| *name == *column.name))
        .filter(|column| request.columns.is_empty() || request.columns.iter().chain(&key).any(|wanted| *wanted == *column.name))
        .collect();
    table.key = key.iter().filter_map(|name| table.columns.iter().position(|column| *column.name == **name)).collect();
    Ok(table)
}
