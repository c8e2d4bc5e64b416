//! What the driver tells of tables: their names, columns and keys, and the statements that read them.

use hub_sdk::SourceError;
use hub_sdk::model::StreamName;

use crate::config::{Cdc, Mode, OdbcStream};
use crate::dialect::{Dialect, days};
use crate::session::Session;

/// Schemas of the databases themselves.
const SYSTEM: &[&str] =
    &["information_schema", "pg_catalog", "pg_toast", "sys", "mysql", "performance_schema", "sysibm", "syscat", "sysstat"];

/// One table or view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    /// `schema.table`, or the table alone where there are no schemas.
    pub(crate) name: String,
    /// The database's remark on it.
    pub(crate) remark: Option<String>,
}

/// What a table is called in the configuration or by its stream.
pub(crate) fn table_of<'a>(stream: &'a OdbcStream, name: &'a StreamName) -> &'a str {
    stream.table.as_deref().unwrap_or(name.as_str())
}

/// The table of changes of a capture instance.
fn change_table(cdc: &Cdc) -> String {
    format!("{}.{}_CT", cdc.schema, cdc.instance)
}

impl Session {
    /// The statement that reads a stream: these columns (none: all), under a condition.
    pub(crate) fn select(&self, stream: &OdbcStream, name: &StreamName, columns: &[String], condition: &str) -> String {
        let list = if columns.is_empty() { "*".to_owned() } else { self.quotes.list(columns) };
        match &stream.query {
            // A query that is taken as it is may have an order or hints that it could not have inside of another.
            Some(query) if condition.is_empty() && columns.is_empty() => bare(query).to_owned(),
            Some(query) => format!("SELECT {list} FROM ({}) hub_q{condition}", bare(query)),
            None => format!("SELECT {list} FROM {}{condition}", self.quotes.table(table_of(stream, name))),
        }
    }

    /// The statement that reads changes out of a change table of CDC.
    pub(crate) fn select_changes(&self, cdc: &Cdc, columns: &[String], condition: &str) -> String {
        let own = ["__$start_lsn", "__$seqval", "__$operation"].map(str::to_owned);
        let list = self.quotes.list(&[&own[..], columns].concat());
        format!("SELECT {list} FROM {}{condition}", self.quotes.table(&change_table(cdc)))
    }

    /// The columns that a change table captures.
    pub(crate) fn captured(&self, cdc: &Cdc) -> Result<Vec<String>, SourceError> {
        let sql = format!("SELECT * FROM {} WHERE 1 = 0", self.quotes.table(&change_table(cdc)));
        let columns = self.columns(&sql, "reading the columns of the change table")?;
        Ok(columns.schema.fields().iter().map(|field| field.name().clone()).filter(|name| !name.starts_with("__$")).collect())
    }

    /// The columns that a stream reads: those asked for, or for CDC those that are captured. Empty means all.
    pub(crate) fn wanted(&self, stream: &OdbcStream, wanted: Vec<String>) -> Result<Vec<String>, SourceError> {
        match &stream.mode {
            Mode::Cdc(cdc) if wanted.is_empty() => self.captured(cdc),
            _ => Ok(wanted),
        }
    }

    /// The columns of the key: as configured, or the primary key.
    pub(crate) fn key_of(&self, stream: &OdbcStream, name: &StreamName) -> Result<Vec<String>, SourceError> {
        if !stream.key.is_empty() || stream.query.is_some() {
            return Ok(stream.key.clone());
        }
        let doing = "reading the primary key";
        let (schema, table) = match table_of(stream, name).rsplit_once('.') {
            Some((schema, table)) => (Some(schema.rsplit('.').next().unwrap_or(schema)), table),
            None => (None, table_of(stream, name)),
        };
        let rows = match self.dialect {
            // A schema is a database, and a database a catalogue.
            Dialect::Mysql => self.connection().primary_keys(schema, None, table),
            _ => self.connection().primary_keys(None, schema, table),
        };
        let rows = match rows {
            Ok(rows) => rows,
            // A driver that cannot tell is as good as a table without a key: the configuration names it then.
            Err(error) => {
                let failed = self.failed(&error, doing);
                return if failed.kind() == hub_sdk::ErrorKind::Unreachable && self.connection().is_dead().unwrap_or(true) {
                    Err(failed)
                } else {
                    Ok(Vec::new())
                };
            }
        };
        let mut key = Vec::new();
        for row in rows {
            let row = row.map_err(|error| self.failed(&error, doing))?;
            key.push((row.key_seq, text(row.column.as_bytes()).unwrap_or_default()));
        }
        key.sort();
        Ok(key.into_iter().map(|(_, column)| column).collect())
    }

    /// Tables and views, without those of the database itself.
    pub(crate) fn tables(&self) -> Result<Vec<Table>, SourceError> {
        let doing = "listing the tables";
        let failed = |error: arrow_odbc::odbc_api::Error| self.failed(&error, doing);
        let catalog = self.connection().current_catalog().unwrap_or_default();
        let schema = if self.dialect == Dialect::Mysql || self.dialect == Dialect::Sqlite { "" } else { "%" };
        let mut tables = Vec::new();
        for row in self.connection().tables(&catalog, schema, "%", "").map_err(failed)? {
            let row = row.map_err(failed)?;
            let kind = text(row.table_type.as_bytes()).unwrap_or_default().to_uppercase();
            let Some(table) = text(row.table.as_bytes()) else { continue };
            let schema = text(row.schema.as_bytes()).filter(|schema| !schema.is_empty());
            let is_own = |name: &str| SYSTEM.contains(&name.to_lowercase().as_str());
            let is_system = kind.contains("SYSTEM") || schema.as_deref().is_some_and(is_own) || table.starts_with("sqlite_");
            if is_system || !(kind.contains("TABLE") || kind.contains("VIEW")) {
                continue;
            }
            let name = schema.map_or_else(|| table.clone(), |schema| format!("{schema}.{table}"));
            tables.push(Table { name, remark: text(row.remarks.as_bytes()).filter(|remark| !remark.is_empty()) });
        }
        tables.sort();
        tables.dedup_by(|one, other| one.name == other.name);
        Ok(tables)
    }

    /// The time by the clock of the source, nanoseconds since 1970 in the form of its timestamps.
    pub(crate) fn now(&self) -> Result<i128, SourceError> {
        let doing = "asking the source for its time";
        let text = self.one(self.dialect.now(), doing)?.unwrap_or_default();
        instant(&text).ok_or_else(|| {
            SourceError::new(hub_sdk::ErrorKind::BadConfig, doing)
                .because("its answer is no time")
                .advise("leave settle_s out for this database")
        })
    }
}

fn bare(query: &str) -> &str {
    query.trim().trim_end_matches(';').trim_end()
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// `2024-02-29 23:59:59.123456` as nanoseconds since 1970.
fn instant(text: &str) -> Option<i128> {
    let (day, time) = text.trim().split_once([' ', 'T'])?;
    let numbers = |text: &str, mark: char| text.split(mark).map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<i64>>>();
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let (day, whole) = (numbers(day, '-')?, numbers(whole, ':')?);
    let ([year, month, day], [hour, minute, second]) = (&day[..], &whole[..]) else { return None };
    let digits: String = fraction.chars().take_while(char::is_ascii_digit).chain("000000000".chars()).take(9).collect();
    let seconds = days(*year, *month, *day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(i128::from(seconds) * 1_000_000_000 + digits.parse::<i128>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_clocks_are_read_with_any_fraction() {
        assert_eq!(instant("1970-01-02 00:00:01"), Some(86_401_000_000_000));
        assert_eq!(instant("1970-01-01T00:00:00.1234567"), Some(123_456_700));
        assert_eq!(instant("now"), None);
    }
}
