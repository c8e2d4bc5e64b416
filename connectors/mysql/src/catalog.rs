//! Tables, columns and keys as `information_schema` has them.

use std::collections::{BTreeMap, BTreeSet};

use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, SourceError};

use crate::kind::{Column, Kind, Layout, literal};
use crate::server::cell;
use crate::wire::{Row, Session, WireError};

/// One table as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) stream: StreamName,
    pub(crate) database: String,
    pub(crate) name: String,
    /// `BASE TABLE`, `VIEW`, `SYSTEM VERSIONED`.
    pub(crate) sort: String,
    pub(crate) engine: String,
    pub(crate) rows: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) layout: Layout,
    /// Whether each column may be null, and the remark on it.
    pub(crate) remarks: Vec<(bool, Option<String>)>,
}

/// Databases that belong to the server itself.
const OWN: &str = "('mysql', 'sys', 'information_schema', 'performance_schema')";

/// The database and the table of a stream's name; a database's name has no dot.
pub(crate) fn parts(stream: &StreamName) -> Option<(&str, &str)> {
    stream.as_str().split_once('.').filter(|(database, table)| !database.is_empty() && !table.is_empty())
}

/// Tables of these databases; of all but the server's own where none is given.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn tables_of(session: &mut Session, databases: &[String]) -> Result<Vec<Table>, WireError> {
    let names: Vec<String> = databases.iter().map(|name| literal(name)).collect();
    let filter = |column: &str| {
        if names.is_empty() { format!("{column} NOT IN {OWN}") } else { format!("{column} IN ({})", names.join(", ")) }
    };
    load(session, filter("TABLE_SCHEMA"), "TABLE_SCHEMA", "TABLE_NAME").await
}

/// The tables of streams; those that are not there are left out.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn tables(session: &mut Session, streams: &[StreamName]) -> Result<Vec<Table>, WireError> {
    let wanted: Vec<(&str, &str)> = streams.iter().filter_map(parts).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let pair = |(database, name): &(&str, &str)| format!("(TABLE_SCHEMA = {} AND TABLE_NAME = {})", literal(database), literal(name));
    let filter = wanted.iter().map(pair).collect::<Vec<_>>().join(" OR ");
    let mut found = load(session, format!("({filter})"), "TABLE_SCHEMA", "TABLE_NAME").await?;
    found.retain(|table| streams.contains(&table.stream));
    found.sort_by_key(|table| streams.iter().position(|stream| *stream == table.stream));
    Ok(found)
}

/// The table of one stream.
///
/// # Errors
/// It is not there, or the server cannot be asked.
pub(crate) async fn table(session: &mut Session, stream: &StreamName) -> Result<Table, SourceError> {
    let found = tables(session, std::slice::from_ref(stream)).await.map_err(|error| error.into_source("reading the table's columns"))?;
    found.into_iter().next().ok_or_else(|| missing(stream))
}

/// A table that is not there, or that the account may not see.
pub(crate) fn missing(stream: &StreamName) -> SourceError {
    SourceError::new(ErrorKind::StreamBroken, "looking for the table")
        .because("it is not there, or the account may not read it")
        .advise(format!(
            "name it as the server does (database.table); GRANT SELECT ON {stream} TO the account; or take it out of the system"
        ))
        .of(stream.clone())
}

async fn load(session: &mut Session, filter: String, database: &str, name: &str) -> Result<Vec<Table>, WireError> {
    let key = |row: &Row| (cell(row, 0), cell(row, 1));
    let sql = format!(
        "SELECT {database}, {name}, TABLE_TYPE, ENGINE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES WHERE {filter} ORDER BY 1, 2"
    );
    let found = session.query(&sql).await?;
    let sql = format!(
        "SELECT {database}, {name}, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, NUMERIC_PRECISION, NUMERIC_SCALE, IS_NULLABLE, \
         COLUMN_COMMENT FROM information_schema.COLUMNS WHERE {filter} ORDER BY 1, 2, ORDINAL_POSITION"
    );
    let mut columns: BTreeMap<(String, String), Vec<Row>> = BTreeMap::new();
    for row in session.query(&sql).await? {
        columns.entry(key(&row)).or_default().push(row);
    }
    let sql = format!(
        "SELECT {database}, {name}, INDEX_NAME, COLUMN_NAME, NULLABLE, SUB_PART FROM information_schema.STATISTICS \
         WHERE NON_UNIQUE = 0 AND {filter} ORDER BY 1, 2, INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
    );
    let mut keys: BTreeMap<(String, String), Vec<Row>> = BTreeMap::new();
    for row in session.query(&sql).await? {
        keys.entry(key(&row)).or_default().push(row);
    }
    Ok(found
        .iter()
        .filter_map(|row| {
            let place = key(row);
            let columns = columns.get(&place).map(Vec::as_slice).unwrap_or_default();
            let keys = keys.get(&place).map(Vec::as_slice).unwrap_or_default();
            build(row, columns, keys)
        })
        .collect())
}

fn build(row: &Row, columns: &[Row], keys: &[Row]) -> Option<Table> {
    let (database, name) = (cell(row, 0), cell(row, 1));
    let number = |place: usize| row.get(place).cloned().flatten().and_then(|text| text.parse().ok());
    let column = |row: &Row| {
        let digits = |place: usize| cell(row, place).parse::<u8>().unwrap_or(0);
        let charset = row.get(5).cloned().flatten();
        let source_type = cell(row, 4);
        let kind = Kind::parse(&cell(row, 3), &source_type, charset.as_deref(), (digits(6), digits(7)));
        Column { name: cell(row, 2), kind, source_type }
    };
    let described: Vec<Column> = columns.iter().map(column).collect();
    let identity = identity(keys);
    let key = identity.iter().filter_map(|name| described.iter().position(|column| column.name == *name)).collect();
    let remark = |row: &Row| (cell(row, 8) != "NO", Some(cell(row, 9)).filter(|text| !text.is_empty()));
    Some(Table {
        stream: StreamName::new(&format!("{database}.{name}")).ok()?,
        database,
        name,
        sort: cell(row, 2),
        engine: cell(row, 3),
        rows: number(4),
        bytes: number(5),
        layout: Layout { columns: described, key },
        remarks: columns.iter().map(remark).collect(),
    })
}

/// Columns of the primary key, or of the first unique one whose columns are never null.
fn identity(keys: &[Row]) -> Vec<String> {
    let mut names = keys.iter().map(|row| cell(row, 2)).collect::<Vec<_>>();
    names.dedup();
    let nullable: BTreeSet<String> =
        keys.iter().filter(|row| cell(row, 4) == "YES" || !cell(row, 5).is_empty()).map(|row| cell(row, 2)).collect();
    let Some(name) = names.into_iter().find(|name| name == "PRIMARY" || !nullable.contains(name)) else {
        return Vec::new();
    };
    keys.iter().filter(|row| cell(row, 2) == name).map(|row| cell(row, 3)).collect()
}
