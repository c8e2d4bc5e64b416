//! What `hub check` says of a database behind ODBC: everything that is wrong at once, with what mends it.

use arrow_odbc::odbc_api::environment;
use hub_sdk::model::StreamName;
use hub_sdk::{ErrorKind, Finding, Probe, SourceError};

use crate::catalog::table_of;
use crate::columns::{Columns, Form};
use crate::config::{MarkKind, Mode, OdbcStream, Watermark};
use crate::connector::Odbc;
use crate::dialect::Dialect;
use crate::session::Session;

/// Connects, and looks at each mapped stream.
pub(crate) async fn probe(odbc: &Odbc) -> Result<Probe, SourceError> {
    let streams: Vec<_> = odbc
        .context
        .streams
        .iter()
        .map(|request| (request.stream.clone(), odbc.stream(&request.stream), request.columns.clone()))
        .collect();
    let mut link = odbc.link();
    let probed = link.run(move |session| {
        let version = session.dialect.version().and_then(|sql| session.one(sql, "asking for the version").ok().flatten());
        let server = match version {
            Some(version) => format!("{} {version}", session.dbms),
            None => session.dbms.clone(),
        };
        let mut probe = Probe { server, findings: Vec::new() };
        for (name, stream, wanted) in &streams {
            of_stream(session, name, stream, wanted, &mut probe.findings)?;
        }
        Ok(probe)
    });
    match probed.await {
        Ok(probe) => Ok(probe),
        Err(error) => {
            let (code, remedy) = match error.kind() {
                ErrorKind::Denied => ("login-refused", error.advice().map(str::to_owned)),
                ErrorKind::BadConfig => ("driver-missing", Some(drivers())),
                ErrorKind::Unreachable | ErrorKind::Throttled => {
                    ("unreachable", Some("mend server and port, or let the network pass".to_owned()))
                }
                _ => return Err(error),
            };
            let finding = Finding { fatal: true, code, message: error.chain(), remedy };
            Ok(Probe { server: odbc.settings.place(), findings: vec![finding] })
        }
    }
}

/// The finding for a table without a key.
pub(crate) fn no_key(name: &StreamName) -> Finding {
    fatal(
        "key-missing",
        format!("{name} has no primary key that the driver tells of: its rows cannot be told apart"),
        "name the columns that identify a row in `key` of the stream",
    )
}

fn fatal(code: &'static str, message: String, remedy: impl Into<String>) -> Finding {
    Finding { fatal: true, code, message, remedy: Some(remedy.into()) }
}

fn drivers() -> String {
    let names: Vec<String> = environment()
        .and_then(|environment| environment.drivers())
        .map(|drivers| drivers.into_iter().map(|driver| driver.description).collect())
        .unwrap_or_default();
    match names.is_empty() {
        true => "no driver is registered in odbcinst.ini: install one, or give the path of its library".to_owned(),
        false => format!("odbcinst.ini has: {}; the path of a library will do as well", names.join(", ")),
    }
}

fn of_stream(
    session: &Session,
    name: &StreamName,
    stream: &OdbcStream,
    wanted: &[String],
    findings: &mut Vec<Finding>,
) -> Result<(), SourceError> {
    let condition = if stream.query.is_some() { "" } else { " WHERE 1 = 0" };
    let columns = match session.columns(&session.select(stream, name, &[], condition), "reading the columns") {
        Ok(columns) => columns,
        Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Throttled) => return Err(error),
        Err(error) => {
            findings.push(unreadable(session, name, stream, &error)?);
            return Ok(());
        }
    };
    let key = session.key_of(stream, name)?;
    if key.is_empty() {
        findings.push(no_key(name));
    }
    let names: Vec<&str> = columns.schema.fields().iter().map(|field| field.name().as_str()).collect();
    for column in key.iter().chain(wanted).filter(|column| !names.contains(&column.as_str())) {
        findings.push(missing("column-missing", name, column, &names));
    }
    match &stream.mode {
        Mode::Compare => {}
        Mode::Watermark(mark) if !names.contains(&mark.column.as_str()) => {
            findings.push(missing("watermark-missing", name, &mark.column, &names));
        }
        Mode::Watermark(mark) => watermark(session, name, stream, mark, &columns, findings)?,
        Mode::ChangeTracking(_) => findings.extend(tracking(session, name, stream)),
        Mode::Cdc(cdc) => findings.extend(session.captured(cdc).err().map(|error| {
            let remedy = "EXEC sys.sp_cdc_enable_db; EXEC sys.sp_cdc_enable_table @source_schema = …, @source_name = …, @role_name = NULL; \
                          GRANT SELECT ON SCHEMA::cdc TO …;";
            fatal("cdc-off", format!("the changes of {name} cannot be read: {}", error.report()), remedy)
        })),
    }
    Ok(())
}

/// Why a stream cannot be read, with the table that may be meant.
fn unreadable(session: &Session, name: &StreamName, stream: &OdbcStream, error: &SourceError) -> Result<Finding, SourceError> {
    if error.kind() == ErrorKind::Denied {
        return Ok(fatal("no-select-right", error.report(), format!("GRANT SELECT ON {} TO …;", table_of(stream, name))));
    }
    if stream.query.is_some() {
        return Ok(fatal("query-refused", error.report(), "mend the query of the stream"));
    }
    let tables = session.tables()?;
    let table = table_of(stream, name);
    if tables.iter().any(|known| known.name == table) {
        return Ok(fatal("unreadable", error.report(), "mend the rights of the account, or the view"));
    }
    let remedy = match nearest(table, tables.iter().map(|table| table.name.as_str())) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "hub discover lists the tables that can be read".to_owned(),
    };
    Ok(fatal("table-missing", format!("there is no table {table}"), remedy))
}

fn missing(code: &'static str, name: &StreamName, column: &str, names: &[&str]) -> Finding {
    let remedy = match nearest(column, names.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("it has: {}", names.join(", ")),
    };
    fatal(code, format!("{name} has no column {column}"), remedy)
}

fn watermark(
    session: &Session,
    name: &StreamName,
    stream: &OdbcStream,
    mark: &Watermark,
    columns: &Columns,
    findings: &mut Vec<Finding>,
) -> Result<(), SourceError> {
    let place = columns.schema.index_of(&mark.column).unwrap_or(0);
    let fits = match (mark.kind, columns.forms[place]) {
        (MarkKind::Timestamp, Form::Timestamp(_) | Form::Date) | (MarkKind::Rowversion, Form::Binary(_)) => true,
        (MarkKind::Number, form) => form.arrow().is_integer() || matches!(form, Form::Decimal(_, 0)),
        _ => false,
    };
    if !fits {
        let message = format!("{} of {name} is {}, no {:?}", mark.column, columns.schema.field(place).data_type(), mark.kind);
        findings.push(fatal("watermark-kind", message, "mend `kind`, name another column, or use mode compare"));
        return Ok(());
    }
    let column = session.quotes.name(&mark.column);
    let sql = session.select(stream, name, std::slice::from_ref(&mark.column), &format!(" WHERE {column} IS NULL"));
    let mut any = false;
    session.read(&crate::reading::Select { sql, rows: 1 }, "looking for rows without a watermark", |told| match told {
        crate::reading::Told::Page(_) => {
            any = true;
            std::ops::ControlFlow::Break(())
        }
        crate::reading::Told::Columns(_) => std::ops::ControlFlow::Continue(()),
    })?;
    if any {
        let message = format!("{name} has rows whose {} is null: no look would ever meet them", mark.column);
        let remedy = "fill them, use a query with COALESCE, set full_compare_every_s, or use mode compare";
        findings.push(Finding {
            fatal: mark.full_compare_every_s.is_none(),
            code: "watermark-null",
            message,
            remedy: Some(remedy.to_owned()),
        });
    }
    if stream.query.is_none() && indexed(session, table_of(stream, name), &mark.column) == Some(false) {
        findings.push(Finding {
            fatal: false,
            code: "watermark-not-indexed",
            message: format!("{} of {name} leads no index: every look reads the whole table", mark.column),
            remedy: Some(format!("CREATE INDEX … ON {} ({column});", session.quotes.table(table_of(stream, name)))),
        });
    }
    Ok(())
}

/// Whether an index begins with a column; `None` where that is not asked for in this database.
fn indexed(session: &Session, table: &str, column: &str) -> Option<bool> {
    let dialect = session.dialect;
    let (schema, bare) = table.rsplit_once('.').map_or((None, table), |(schema, bare)| (Some(schema), bare));
    let (quoted, name) = (dialect.text(&session.quotes.table(table)), dialect.text(column));
    let sql = match dialect {
        Dialect::Postgres => format!(
            "SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
             WHERE i.indrelid = CAST({quoted} AS regclass) AND a.attname = {name}"
        ),
        Dialect::Mysql => format!(
            "SELECT count(*) FROM information_schema.statistics WHERE table_schema = {} AND table_name = {} AND column_name = {name} AND seq_in_index = 1",
            schema.map_or_else(|| "DATABASE()".to_owned(), |schema| dialect.text(schema)),
            dialect.text(bare)
        ),
        Dialect::Sqlite => format!(
            "SELECT count(*) FROM pragma_table_info({0}) t WHERE t.name = {name} AND (t.pk = 1 OR EXISTS (SELECT 1 FROM pragma_index_list({0}) l, \
             pragma_index_info(l.name) c WHERE c.seqno = 0 AND c.name = {name}))",
            dialect.text(bare)
        ),
        Dialect::SqlServer => format!(
            "SELECT count(*) FROM sys.index_columns i JOIN sys.columns c ON c.object_id = i.object_id AND c.column_id = i.column_id \
             WHERE i.object_id = OBJECT_ID({quoted}) AND i.key_ordinal = 1 AND c.name = {name}"
        ),
        Dialect::Oracle | Dialect::Db2 | Dialect::Generic => return None,
    };
    session.one(&sql, "looking for an index").ok().flatten().map(|count| count.trim() != "0")
}

fn tracking(session: &Session, name: &StreamName, stream: &OdbcStream) -> Option<Finding> {
    let table = session.dialect.text(&session.quotes.table(table_of(stream, name)));
    let sql = format!("SELECT CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID({table}))");
    let why = match session.one(&sql, "asking for the version of change tracking") {
        Ok(Some(_)) => return None,
        Ok(None) => "the server has no version of it".to_owned(),
        Err(error) => error.report(),
    };
    let table = table_of(stream, name);
    let remedy = format!(
        "ALTER DATABASE … SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 7 DAYS); ALTER TABLE {table} ENABLE CHANGE_TRACKING; \
         GRANT VIEW CHANGE TRACKING ON {table} TO …;"
    );
    Some(fatal("change-tracking-off", format!("the changes of {name} are not tracked: {why}"), remedy))
}

/// The name that is spelled most alike, where one is.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = |name: &str| name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect::<Vec<char>>();
    let tail = |name: &str| folded(name.rsplit('.').next().unwrap_or(name));
    let of = |name: &str| distance(&folded(wanted), &folded(name)).min(distance(&tail(wanted), &tail(name)));
    let (best, steps) = names.map(|name| (name, of(name))).min_by_key(|(_, steps)| *steps)?;
    (steps <= (tail(wanted).len() / 3).max(1)).then_some(best)
}

/// Letters to add, take or change between two names.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut now = vec![row + 1];
        for (column, same) in other.iter().enumerate() {
            let changed = before[column] + usize::from(letter != same);
            now.push(changed.min(before[column + 1] + 1).min(now[column] + 1));
        }
        before = now;
    }
    before[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_found() {
        let names = ["public.ho_so", "public.cong_dan"];
        assert_eq!(nearest("public.hoso", names.into_iter()), Some("public.ho_so"));
        assert_eq!(nearest("CONG_DAN", names.into_iter()), Some("public.cong_dan"));
        assert_eq!(nearest("thua_dat", names.into_iter()), None);
    }
}
