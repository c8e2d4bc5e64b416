//! Statements in the log: the ends of transactions, truncates, and tables that change, go and come back.

use hub_sdk::{ErrorKind, SourceError};

use super::{State, Taken, Trouble};
use crate::binlog::{Header, Query, Statement, TableMap, understand};
use crate::follow::stream::{Place, Stream};
use crate::snapshot::Stance;

impl State {
    pub(super) fn query(&mut self, header: Header, body: &[u8]) -> Result<Taken, Trouble> {
        let query = Query::parse(body)?;
        let database = String::from_utf8_lossy(query.database);
        // By far the most frequent ones are told apart without reading the text.
        let statement = match query.text {
            b"BEGIN" => Statement::Begin,
            b"COMMIT" => Statement::Commit,
            text => understand(&String::from_utf8_lossy(text), &database),
        };
        let mut taken = Taken::Done;
        match &statement {
            Statement::Begin => {
                if let Some(open) = &mut self.transaction {
                    open.has_begun = true;
                }
                return Ok(Taken::Done);
            }
            Statement::Xa => {
                let text = String::from_utf8_lossy(query.text).to_ascii_uppercase();
                let begins = text.starts_with("XA START") || text.starts_with("XA BEGIN");
                if let (true, Some(open)) = (begins, &mut self.transaction) {
                    (open.has_begun, open.is_prepared) = (true, true);
                    return Ok(Taken::Done);
                }
                if text.starts_with("XA END") {
                    return Ok(Taken::Done);
                }
            }
            Statement::Truncate(table) => {
                if let Some(index) = self.index_of(&table.database, &table.name) {
                    taken = self.truncate(header, index)?;
                }
            }
            Statement::Tables { dropped, changed } => {
                for index in dropped.iter().filter_map(|table| self.index_of(&table.database, &table.name)).collect::<Vec<_>>() {
                    if let Some(waits) = self.dropped(header, index)? {
                        return Ok(waits);
                    }
                }
                for table in changed {
                    if let Some(index) = self.index_of(&table.database, &table.name) {
                        self.streams[index].is_stale = true;
                    }
                }
            }
            Statement::DropDatabase(name) => {
                for index in (0..self.streams.len()).filter(|index| self.streams[*index].database == *name).collect::<Vec<_>>() {
                    if let Some(waits) = self.dropped(header, index)? {
                        return Ok(waits);
                    }
                }
            }
            Statement::Rows => self.statement(&database, query.text)?,
            Statement::Commit | Statement::Rollback | Statement::Other => {}
        }
        if matches!(taken, Taken::Wait(_)) {
            return Ok(taken);
        }
        let ends = match statement {
            Statement::Commit | Statement::Rollback => true,
            _ => self.transaction.as_ref().is_some_and(|open| open.is_alone || !open.has_begun),
        };
        if ends {
            self.end(header);
        }
        Ok(taken)
    }

    fn index_of(&self, database: &str, table: &str) -> Option<usize> {
        self.by_name.get(&(database.to_owned(), table.to_owned())).copied()
    }

    fn truncate(&mut self, header: Header, index: usize) -> Result<Taken, Trouble> {
        let at = self.place(header);
        if self.transaction.is_none() {
            self.begin(header, None, None, 0);
        }
        let Some(open) = &mut self.transaction else { return Ok(Taken::Done) };
        if self.land.stance(index, open.place) == Stance::Wait {
            return Ok(Taken::Wait(index));
        }
        let (before, after) = self.land.around(index, open.place);
        if !before {
            // Whatever is or will be read was there after it.
            return Ok(Taken::Done);
        }
        let place = Place { micros: open.micros, commit: open.place, at, transaction: open.number };
        if open.told[index] >= open.behind[index] {
            self.streams[index].truncate(place, open.ordinal);
            self.tally.changes += 1;
        }
        open.ordinal += 1;
        open.told[index] += 1;
        Ok(if after { Taken::Reread(index) } else { Taken::Done })
    }

    /// A statement stands in the log where rows should.
    fn statement(&self, database: &str, text: &[u8]) -> Result<(), SourceError> {
        let text = String::from_utf8_lossy(text).to_lowercase();
        let names = |stream: &&Stream| {
            text.contains(&stream.table.to_lowercase()) && (stream.database == database || text.contains(&stream.database.to_lowercase()))
        };
        let Some(stream) = self.streams.iter().find(names) else { return Ok(()) };
        Err(SourceError::new(ErrorKind::NotPrepared, "reading the log")
            .because(format!("a statement that may change {} was logged instead of its rows", stream.name))
            .advise("SET GLOBAL binlog_format = ROW (sessions keep their own until they end), then read the system anew"))
    }

    /// A table is dropped: its stream breaks, unless no row of it was read before. One that came back is read as it is now.
    fn dropped(&mut self, header: Header, index: usize) -> Result<Option<Taken>, SourceError> {
        let place = self.transaction.as_ref().map_or_else(|| self.place(header), |open| open.place);
        if self.land.stance(index, place) == Stance::Wait {
            return Ok(Some(Taken::Wait(index)));
        }
        if self.land.around(index, place).0 {
            return Err(self.gone(index));
        }
        self.streams[index].is_stale = true;
        Ok(None)
    }

    /// Whether no change of a stream at the present place is told, whatever its table looks like there.
    pub(in crate::follow) fn is_left_out(&self, index: usize) -> bool {
        self.transaction.as_ref().is_some_and(|open| !self.land.around(index, open.place).0)
    }

    /// Passes the rows of a table by.
    pub(in crate::follow) fn leave_out(&mut self, map: TableMap) {
        self.tables.insert(map.id, super::Mapped { map, stream: None });
    }

    fn gone(&self, index: usize) -> SourceError {
        let name = self.streams[index].name.clone();
        SourceError::new(ErrorKind::StreamBroken, "following the table")
            .because("it was dropped, renamed, replaced, or lost rows without a trace in the log (a partition)")
            .advise("where the table is there again, its present rows are read anew by themselves; else take it out of the system")
            .of(name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use hub_sdk::BatchLimits;
    use hub_sdk::model::{Op, StreamName};

    use super::*;
    use crate::binlog::kind;
    use crate::follow::LogPosition;
    use crate::kind::{Column, Kind, Layout};
    use crate::snapshot::{Land, Territory};

    /// A stream `d.t` with an `int` key, of which spans were read at these places.
    fn state(territory: serde_json::Value) -> State {
        let name = StreamName::new("d.t").unwrap();
        let column = Column { name: "id".to_owned(), kind: Kind::Int { bytes: 4, unsigned: false }, source_type: "int".to_owned() };
        let layout = Layout { columns: vec![column], key: vec![0] };
        let land = Arc::new(Land::default());
        let territory: Territory = serde_json::from_value(territory).unwrap();
        land.settle(vec![(name.clone(), territory, None)], 0);
        let stream = Stream::new(name, ("d", "t"), layout, crate::decode::Rules::default(), true);
        let position =
            LogPosition { server: String::new(), base: 0, file: "b.000000".to_owned(), offset: 4, gtid: String::new(), open: None };
        State::new(vec![stream], land, BatchLimits::default(), position, None, 0)
    }

    /// A statement that was run in `d`, at a place.
    fn statement(state: &mut State, text: &str, place: u32) -> Result<Taken, Trouble> {
        let mut body = vec![0; 8];
        body.extend_from_slice(&[1, 0, 0, 0, 0, b'd', 0]);
        body.extend_from_slice(text.as_bytes());
        state.query(Header { seconds: 0, kind: kind::QUERY, server: 1, end: place }, &body)
    }

    fn ops(state: &mut State) -> Vec<Op> {
        state.close().unwrap().into_iter().flat_map(|batch| batch.ops).collect()
    }

    #[test]
    fn a_truncate_is_told_by_what_was_read_before_and_after_it() {
        let span = |upto: Option<&str>, read: Option<u64>| match (upto, read) {
            (Some(upto), Some(read)) => serde_json::json!({"upto": [upto], "read": read}),
            (None, Some(read)) => serde_json::json!({"read": read}),
            _ => serde_json::json!({}),
        };
        let cases = [
            (vec![span(Some("9"), Some(50)), span(None, None)], "Done", vec![Op::Truncate]),
            (vec![span(Some("9"), Some(150)), span(None, None)], "Done", vec![]),
            (vec![span(Some("9"), Some(50)), span(None, Some(150))], "Reread(0)", vec![Op::Truncate]),
        ];
        for (spans, taken, told) in cases {
            let mut state = state(serde_json::json!({"complete": false, "spans": spans}));
            assert_eq!(format!("{:?}", statement(&mut state, "TRUNCATE t", 100).unwrap()), taken);
            assert_eq!(ops(&mut state), told);
            assert_eq!(state.reached().offset, 100, "it is behind");
        }
    }

    #[test]
    fn a_dropped_table_breaks_its_stream_only_where_rows_of_it_were_read_before() {
        let mut read = state(serde_json::json!({"complete": true}));
        assert!(
            matches!(statement(&mut read, "DROP TABLE t", 100), Err(Trouble::Source(error)) if error.kind() == ErrorKind::StreamBroken)
        );
        let mut unread = state(serde_json::json!({"complete": false, "spans": [{}]}));
        assert!(matches!(statement(&mut unread, "DROP TABLE t", 100), Ok(Taken::Done)));
    }
}
