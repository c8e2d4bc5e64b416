//! Streams whose server says what has changed: change tracking and change data capture of SQL Server.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use hub_sdk::model::Op;
use hub_sdk::{Ended, ErrorKind, SourceError};

use crate::catalog::table_of;
use crate::config::Cdc;
use crate::dialect::Quotes;
use crate::follower::{Follower, Part, columns_of};
use crate::link::Link;
use crate::reading::Select;
use crate::session::Session;

/// A place in a change table: a commit, a change in it, and what it did.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    lsn: Vec<u8>,
    change: Vec<u8>,
    operation: i64,
}

impl Place {
    /// Behind everything of a commit.
    fn end_of(lsn: Vec<u8>) -> Self {
        Self { lsn, change: vec![0xff; 10], operation: 9 }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let bytes = |hex: &str| {
            (0..hex.len() / 2).map(|place| u8::from_str_radix(hex.get(place * 2..place * 2 + 2)?, 16).ok()).collect::<Option<Vec<u8>>>()
        };
        Some(Self { lsn: bytes(parts.next()?)?, change: bytes(parts.next()?)?, operation: parts.next()?.parse().ok()? })
    }

    fn write(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{}/{}/{}", hex(&self.lsn), hex(&self.change), self.operation)
    }
}

/// What the server knows of its log by now.
struct Bounds {
    /// The last commit that is captured.
    max: Option<Vec<u8>>,
    /// The oldest commit that it still has.
    min: Option<Vec<u8>>,
}

impl Follower {
    /// The present rows first, then what the change table has after them.
    pub(crate) async fn look_at_cdc(&mut self, link: &mut Link, cdc: &Cdc) -> Result<(), Ended> {
        let own = cdc.clone();
        let (stream, wanted) = (Arc::clone(&self.stream), self.wanted.clone());
        let name = self.name.clone();
        let asked = link.run(move |session| Ok((bounds(session, &own)?, session.wanted(&stream, wanted)?))).await;
        let (bounds, columns) = asked.map_err(|error| error.of(name))?;
        let Some(max) = bounds.max else { return Err(self.not_captured(cdc).into()) };
        if !self.is_complete {
            self.position = Some(Place::end_of(max).write());
            self.wanted = columns;
            return self.compare(link, Part { is_all: true, ..Part::default() }).await;
        }
        let Some(from) = self.position.as_deref().and_then(Place::parse) else {
            return Err(self.lost("the checkpoint has no position").into());
        };
        if bounds.min.is_some_and(|min| min > from.lsn) {
            return Err(self.lost("the server has cleaned up changes that were not read yet").into());
        }
        if max <= from.lsn {
            return Ok(());
        }
        let columns = columns_of(&self.stream, &self.key, &columns);
        self.read_changes(link, cdc, from, &columns, max).await
    }

    async fn read_changes(&mut self, link: &mut Link, cdc: &Cdc, from: Place, columns: &[String], max: Vec<u8>) -> Result<(), Ended> {
        let mut look = self.looks.begin();
        let (own, columns, to, rows) = (cdc.clone(), columns.to_vec(), max.clone(), self.rows);
        let select =
            move |session: &Session| Ok(Select { sql: session.select_changes(&own, &columns, &between(session, &from, &to)), rows });
        let mut reading = link.read(format!("reading the changes of {}", cdc.instance), select);
        let Some(_columns) = reading.columns().await else {
            let ended = link.finish(reading).await;
            return Err(self.failed(ended).into());
        };
        let mut any = false;
        while let Some(page) = reading.page().await {
            any = true;
            let (ops, last) = operations(&page.rows).map_err(|why| self.defect(why))?;
            let rows = page.rows.project(&(3..page.rows.num_columns()).collect::<Vec<_>>()).map_err(|error| self.defect(error))?;
            self.position = Some(last.write());
            let batches = look.batches(&self.name, &rows, &ops, &page.faults, true);
            self.deliver(batches, &Part::default(), &[], link.dialect()).await?;
        }
        link.finish(reading).await.map_err(|error| error.of(self.name.clone()))?;
        self.position = Some(Place::end_of(max).write());
        if !any {
            // Without it a quiet table's place would fall behind what the server cleans up.
            self.deliver(Vec::new(), &Part::default(), &[], link.dialect()).await?;
        }
        Ok(())
    }

    /// The present rows first, then the net changes since the version before them.
    pub(crate) async fn look_at_tracking(&mut self, link: &mut Link) -> Result<(), Ended> {
        let table = table_of(&self.stream, &self.name).to_owned();
        let name = self.name.clone();
        let asked = link.run(move |session| {
            let number = |sql: &str| {
                Ok::<_, SourceError>(
                    session.one(sql, "asking for the version of change tracking")?.and_then(|text| text.trim().parse::<i64>().ok()),
                )
            };
            let oldest =
                format!("SELECT CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID({}))", session.dialect.text(&session.quotes.table(&table)));
            Ok((number("SELECT CHANGE_TRACKING_CURRENT_VERSION()")?, number(&oldest)?))
        });
        let (now, oldest) = asked.await.map_err(|error| error.of(name))?;
        let (Some(now), Some(oldest)) = (now, oldest) else { return Err(self.not_tracked().into()) };
        if !self.is_complete {
            self.position = Some(now.to_string());
            return self.compare(link, Part { is_all: true, ..Part::default() }).await;
        }
        let Some(from) = self.position.as_deref().and_then(|position| position.parse::<i64>().ok()) else {
            return Err(self.lost("the checkpoint has no version").into());
        };
        if oldest > from {
            return Err(self.lost("change tracking has cleaned up versions that were not read yet").into());
        }
        if now == from {
            return Ok(());
        }
        self.read_tracked(link, from, now).await
    }

    async fn read_tracked(&mut self, link: &mut Link, from: i64, now: i64) -> Result<(), Ended> {
        let mut look = self.looks.begin();
        let (stream, name, wanted, key, rows) =
            (Arc::clone(&self.stream), self.name.clone(), self.wanted.clone(), self.key.clone(), self.rows);
        let select = move |session: &Session| {
            let mut columns = columns_of(&stream, &key, &wanted);
            if columns.is_empty() {
                let all = session.columns(&session.select(&stream, &name, &[], " WHERE 1 = 0"), "reading the columns of the table")?;
                columns = all.schema.fields().iter().map(|field| field.name().clone()).collect();
            }
            Ok(Select { sql: changed_rows(session.quotes, table_of(&stream, &name), &key, &columns, from, now), rows })
        };
        let mut reading = link.read(format!("reading the tracked changes of {}", self.name), select);
        let Some(_columns) = reading.columns().await else {
            let ended = link.finish(reading).await;
            return Err(self.failed(ended).into());
        };
        let mut any = false;
        while let Some(page) = reading.page().await {
            any = true;
            let (ops, last) = tracked(&page.rows).map_err(|why| self.defect(why))?;
            let rows = page.rows.project(&(3..page.rows.num_columns()).collect::<Vec<_>>()).map_err(|error| self.defect(error))?;
            // A version may go on in the next page: only the versions before it are told whole.
            self.position = Some((last - 1).max(from).to_string());
            let batches = look.batches(&self.name, &rows, &ops, &page.faults, false);
            self.deliver(batches, &Part::default(), &[], link.dialect()).await?;
        }
        link.finish(reading).await.map_err(|error| error.of(self.name.clone()))?;
        self.position = Some(now.to_string());
        if any {
            self.deliver(Vec::new(), &Part::default(), &[], link.dialect()).await?;
        }
        Ok(())
    }

    fn lost(&self, why: &str) -> SourceError {
        SourceError::new(ErrorKind::PositionLost, "going on after the checkpoint")
            .because(why.to_owned())
            .advise("read the stream anew, and let the server keep changes for longer than the hub may stand still")
            .of(self.name.clone())
    }

    fn not_captured(&self, cdc: &Cdc) -> SourceError {
        SourceError::new(ErrorKind::NotPrepared, format!("asking for the changes of {}", cdc.instance))
            .because("the server knows no last change: change data capture is off, or has not begun")
            .advise("EXEC sys.sp_cdc_enable_db; EXEC sys.sp_cdc_enable_table …; and start SQL Server Agent")
            .of(self.name.clone())
    }

    fn not_tracked(&self) -> SourceError {
        SourceError::new(ErrorKind::NotPrepared, "asking for the version of change tracking")
            .because("change tracking is off for the database or the table, or the account may not see it")
            .advise(
                "ALTER DATABASE … SET CHANGE_TRACKING = ON; ALTER TABLE … ENABLE CHANGE_TRACKING; GRANT VIEW CHANGE TRACKING ON … TO …;",
            )
            .of(self.name.clone())
    }
}

fn bounds(session: &Session, cdc: &Cdc) -> Result<Bounds, SourceError> {
    let doing = "asking for the bounds of the change tables";
    let function = |name: &str, argument: &str| format!("SELECT {}.{name}({argument})", session.quotes.name(&cdc.functions));
    Ok(Bounds {
        max: session.one_binary(&function("fn_cdc_get_max_lsn", ""), doing)?,
        min: session.one_binary(&function("fn_cdc_get_min_lsn", &session.dialect.text(&cdc.instance)), doing)?,
    })
}

/// Changes after a place and up to a commit, in order. Operation 3 is the state before an update, which 4 follows.
fn between(session: &Session, from: &Place, to: &[u8]) -> String {
    let [lsn, change, operation] = ["__$start_lsn", "__$seqval", "__$operation"].map(|name| session.quotes.name(name));
    let (at, step, end) = (session.dialect.lsn(&from.lsn), session.dialect.lsn(&from.change), session.dialect.lsn(to));
    let last = from.operation;
    format!(
        " WHERE {operation} <> 3 AND {lsn} <= {end} AND ({lsn} > {at} OR ({lsn} = {at} AND ({change} > {step} OR ({change} = {step} AND {operation} > {last})))) \
         ORDER BY {lsn}, {change}, {operation}"
    )
}

/// The net changes of a table between two versions of change tracking, with the rows as they are now.
fn changed_rows(quotes: Quotes, table: &str, key: &[String], columns: &[String], from: i64, to: i64) -> String {
    let table = quotes.table(table);
    let first = key.first().map(|column| quotes.name(column)).unwrap_or_default();
    let column = |column: &String| {
        let (side, name) = (if key.contains(column) { "hub_c" } else { "hub_t" }, quotes.name(column));
        format!("{side}.{name} AS {name}")
    };
    let joined = |column: &String| format!("hub_t.{0} = hub_c.{0}", quotes.name(column));
    format!(
        "SELECT hub_c.SYS_CHANGE_VERSION, hub_c.SYS_CHANGE_OPERATION, CASE WHEN hub_t.{first} IS NULL THEN 1 ELSE 0 END AS hub_gone, {} \
         FROM CHANGETABLE(CHANGES {table}, {from}) AS hub_c LEFT OUTER JOIN {table} AS hub_t ON {} \
         WHERE hub_c.SYS_CHANGE_VERSION <= {to} ORDER BY hub_c.SYS_CHANGE_VERSION",
        columns.iter().map(column).collect::<Vec<_>>().join(", "),
        key.iter().map(joined).collect::<Vec<_>>().join(" AND "),
    )
}

/// What each row of a change table did, and the place of the last one.
fn operations(rows: &RecordBatch) -> Result<(Vec<Op>, Place), String> {
    let numbers = whole(rows.column(2))?;
    let op = |number: i64| match number {
        1 => Ok(Op::Delete),
        2 => Ok(Op::Create),
        4 => Ok(Op::Update),
        other => Err(format!("a change table has operation {other}")),
    };
    let ops = numbers.iter().map(|number| op(*number)).collect::<Result<Vec<_>, _>>()?;
    let bytes = |place: usize| {
        let column = rows.column(place);
        match (column.data_type(), column.len().checked_sub(1)) {
            (DataType::Binary, Some(last)) => Ok(column.as_binary::<i32>().value(last).to_vec()),
            (kind, _) => Err(format!("positions of a change table are {kind}, not binary")),
        }
    };
    let operation = numbers.last().copied().unwrap_or_default();
    Ok((ops, Place { lsn: bytes(0)?, change: bytes(1)?, operation }))
}

/// What each tracked row did, and the version of the last one. One that is gone by now is a delete, whatever it was.
fn tracked(rows: &RecordBatch) -> Result<(Vec<Op>, i64), String> {
    let (versions, gone) = (whole(rows.column(0))?, whole(rows.column(2))?);
    let letters = cast(rows.column(1), &DataType::Utf8).map_err(|error| error.to_string())?;
    let letters = letters.as_string::<i32>();
    let op = |row: usize| match (letters.value(row).trim(), gone.get(row)) {
        ("D", _) | (_, Some(1)) => Ok(Op::Delete),
        ("I", _) => Ok(Op::Create),
        ("U", _) => Ok(Op::Update),
        (other, _) => Err(format!("change tracking has operation {other}")),
    };
    Ok(((0..rows.num_rows()).map(op).collect::<Result<Vec<_>, _>>()?, versions.last().copied().unwrap_or_default()))
}

fn whole(column: &ArrayRef) -> Result<Vec<i64>, String> {
    let numbers = cast(column, &DataType::Int64).map_err(|error| error.to_string())?;
    let numbers = numbers.as_primitive::<Int64Type>();
    (numbers.null_count() == 0).then(|| numbers.values().to_vec()).ok_or_else(|| "a version or operation is null".to_owned())
}

/// The rows of a page that a sample keeps.
pub(crate) fn first(rows: &RecordBatch, count: usize) -> Result<RecordBatch, arrow::error::ArrowError> {
    let places = UInt32Array::from_iter_values(0..u32::try_from(count.min(rows.num_rows())).unwrap_or(0));
    take_record_batch(rows, &places)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::array::{Int32Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_place_in_a_change_table_is_written_and_read() {
        let place = Place { lsn: vec![0, 37, 255], change: vec![1], operation: 4 };
        assert_eq!((place.write().as_str(), Place::parse("0025ff/01/4")), ("0025ff/01/4", Some(place.clone())));
        assert!(place < Place::end_of(vec![0, 37, 255]));
        assert_eq!(Place::parse("xx"), None);
    }

    #[test]
    fn change_tracking_is_asked_for_net_changes_between_two_versions() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let sql = changed_rows(Quotes(Some('"')), "dbo.HoSo", &names(&["Ma"]), &names(&["Ma", "Ten"]), 7, 9);
        assert_eq!(
            sql,
            "SELECT hub_c.SYS_CHANGE_VERSION, hub_c.SYS_CHANGE_OPERATION, CASE WHEN hub_t.\"Ma\" IS NULL THEN 1 ELSE 0 END AS hub_gone, \
             hub_c.\"Ma\" AS \"Ma\", hub_t.\"Ten\" AS \"Ten\" \
             FROM CHANGETABLE(CHANGES \"dbo\".\"HoSo\", 7) AS hub_c LEFT OUTER JOIN \"dbo\".\"HoSo\" AS hub_t ON hub_t.\"Ma\" = hub_c.\"Ma\" \
             WHERE hub_c.SYS_CHANGE_VERSION <= 9 ORDER BY hub_c.SYS_CHANGE_VERSION"
        );
    }

    #[test]
    fn a_tracked_row_that_is_gone_by_now_is_a_delete() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("v", Arc::new(Int64Array::from(vec![3, 3, 4, 5]))),
            ("o", Arc::new(StringArray::from(vec!["I", "U", "U", "D"]))),
            ("g", Arc::new(Int32Array::from(vec![0, 0, 1, 1]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        assert_eq!(tracked(&rows), Ok((vec![Op::Create, Op::Update, Op::Delete, Op::Delete], 5)));
    }
}
