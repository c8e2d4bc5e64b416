//! The rows of one body, compact, until their group takes them over column by column.

use std::collections::HashMap;

use hub_sdk::model::Op;
use hub_sdk::records::Fields;

use crate::config::{Endpoint, Ops};
use crate::keys::{Digest, digest};

/// The columns of a stream so far, with their places. They only grow.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    names: Vec<String>,
    places: HashMap<String, u32>,
}

impl Columns {
    /// These columns in their order; the second of one name is left out.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut columns = Self::default();
        for name in names {
            if !columns.places.contains_key(&name) {
                columns.places.insert(name.clone(), u32::try_from(columns.names.len()).unwrap_or(u32::MAX));
                columns.names.push(name);
            }
        }
        columns
    }

    /// Whether there is one of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Their names in order.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

/// A cell's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// One that was known when the body was read, by its place.
    Known(u32),
    /// Another.
    New(&'a str),
}

#[derive(Clone, Copy, Debug)]
enum Column {
    Known(u32),
    New(u32, u32),
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    column: Column,
    /// Where its text is; `None` for null.
    text: Option<(u32, u32)>,
}

/// What is wrong with one row. It names no column: the hub publishes a row all the same whose faulty column nobody maps, and
/// these make the row itself unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) op: Op,
    /// What identifies it among repeated rows, where rows have such keys.
    pub(crate) key: Option<Digest>,
    pub(crate) fault: Option<Fault>,
    end: usize,
}

/// Rows as ranges of one text.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    text: String,
    cells: Vec<Cell>,
    rows: Vec<Row>,
}

impl Rows {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of their text.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Bytes they take in memory.
    pub(crate) fn memory(&self) -> usize {
        self.text.capacity() + self.cells.capacity() * size_of::<Cell>() + self.rows.capacity() * size_of::<Row>()
    }

    /// The first row's fault where no row is without one.
    pub(crate) fn all_bad(&self) -> Option<&Fault> {
        let first = self.rows.first()?.fault.as_ref()?;
        self.rows.iter().all(|row| row.fault.is_some()).then_some(first)
    }

    /// Every row with its cells.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Row, impl Iterator<Item = (Name<'_>, Option<&str>)> + Clone)> {
        let mut from = 0;
        self.rows.iter().map(move |row| {
            let cells = self.cells.get(from..row.end).unwrap_or_default();
            from = row.end;
            (row, cells.iter().map(|cell| (self.name(cell.column), cell.text.map(|range| self.part(range)))))
        })
    }

    fn name(&self, column: Column) -> Name<'_> {
        match column {
            Column::Known(place) => Name::Known(place),
            Column::New(from, to) => Name::New(self.part((from, to))),
        }
    }

    fn part(&self, (from, to): (u32, u32)) -> &str {
        self.text.get(from as usize..to as usize).unwrap_or_default()
    }

    fn keep(&mut self, text: &str) -> (u32, u32) {
        // A body is at most 256 MiB, and its texts are not longer than itself by much.
        let place = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let from = place(&self.text);
        self.text.push_str(text);
        (from, place(&self.text))
    }
}

/// What is asked of every row of a stream.
#[derive(Debug)]
pub(crate) struct Rules {
    key: Vec<String>,
    op: Option<Ops>,
    /// Columns that make a row's key of repetition.
    fields: Vec<String>,
    max_rows: usize,
}

impl Rules {
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        let fields = endpoint.idempotency.as_ref().map(|idempotency| idempotency.fields.clone()).unwrap_or_default();
        Self { key: endpoint.key.clone(), op: endpoint.op.clone(), fields, max_rows: endpoint.max_rows }
    }

    fn judge(&self, fields: &Fields) -> (Op, Option<Digest>, Option<Fault>) {
        let value = |name: &str| fields.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref());
        let mut fault = None;
        if let Some(missing) = self.key.iter().find(|name| value(name).is_none()) {
            let message = format!("the row has no {missing}, which is part of its key");
            fault = Some(Fault { code: "key-missing", message });
        }
        let op = match &self.op {
            None => Op::Create,
            Some(ops) => match value(&ops.field).and_then(|value| operation(ops, value)) {
                Some(op) => op,
                None => {
                    let message = format!("{} says none of the operations that are configured", ops.field);
                    fault.get_or_insert(Fault { code: "op-unknown", message });
                    Op::Create
                }
            },
        };
        if self.fields.is_empty() {
            return (op, None, fault);
        }
        let parts: Vec<&[u8]> = self.fields.iter().map_while(|name| value(name).map(str::as_bytes)).collect();
        if let Some(missing) = self.fields.get(parts.len()) {
            let message = format!("the row has no {missing}, by which repeated rows are known");
            fault.get_or_insert(Fault { code: "idempotency-missing", message });
            return (op, None, fault);
        }
        (op, Some(digest(parts)), fault)
    }
}

fn operation(ops: &Ops, value: &str) -> Option<Op> {
    let says = |values: &[String]| values.iter().any(|known| known == value);
    let of = [(&ops.create, Op::Create), (&ops.update, Op::Update), (&ops.delete, Op::Delete)];
    of.into_iter().find(|(values, _)| says(values)).map(|(_, op)| op)
}

/// Puts the rows of a body together.
pub(crate) struct Builder<'a> {
    rules: &'a Rules,
    columns: &'a Columns,
    rows: Rows,
    count: usize,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(rules: &'a Rules, columns: &'a Columns, bytes: usize) -> Self {
        let rows = Rows { text: String::with_capacity(bytes), cells: Vec::with_capacity(columns.names.len()), rows: Vec::new() };
        Self { rules, columns, rows, count: 0 }
    }

    /// Adds a row; beyond the most rows it is only counted.
    pub(crate) fn push(&mut self, fields: &Fields) {
        self.push_with(fields, None);
    }

    /// The same for a row in which something is wrong already.
    pub(crate) fn push_with(&mut self, fields: &Fields, wrong: Option<Fault>) {
        self.count += 1;
        if self.count > self.rules.max_rows {
            return;
        }
        let (op, key, fault) = self.rules.judge(fields);
        for (name, value) in fields {
            let column = match self.columns.places.get(name) {
                Some(place) => Column::Known(*place),
                None => {
                    let (from, to) = self.rows.keep(name);
                    Column::New(from, to)
                }
            };
            let text = value.as_deref().map(|value| self.rows.keep(value));
            self.rows.cells.push(Cell { column, text });
        }
        let fault = wrong.or(fault);
        self.rows.rows.push(Row { op, key, fault, end: self.rows.cells.len() });
    }

    /// The rows, or how many there were where they are too many.
    pub(crate) fn finish(self) -> Result<Rows, usize> {
        if self.count > self.rules.max_rows { Err(self.count) } else { Ok(self.rows) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    fn fields(pairs: &[(&str, Option<&str>)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
    }

    fn rules(settings: serde_json::Value) -> Rules {
        let mut endpoint = json!({"path": "/a", "auth": "none"});
        endpoint.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        Rules::new(&serde_json::from_value(endpoint).unwrap())
    }

    #[test]
    fn cells_keep_their_columns_and_null_is_not_empty() {
        let (rules, columns) = (rules(json!({})), Columns::new(["id".to_owned()]));
        let mut builder = Builder::new(&rules, &columns, 0);
        builder.push(&fields(&[("moi", Some("")), ("id", Some("7"))]));
        builder.push(&fields(&[("id", None)]));
        let rows = builder.finish().unwrap();
        let cells: Vec<Vec<_>> = rows.iter().map(|(_, cells)| cells.collect()).collect();
        assert_eq!(cells, [vec![(Name::New("moi"), Some("")), (Name::Known(0), Some("7"))], vec![(Name::Known(0), None)]]);
    }

    #[test]
    fn a_row_s_operation_key_and_repetition_are_judged() {
        let rules = rules(json!({"key": ["id"], "op": {"field": "op"}, "idempotency": {"fields": ["id", "lan"]}}));
        let columns = Columns::default();
        let mut builder = Builder::new(&rules, &columns, 0);
        for row in [
            [("id", Some("1")), ("op", Some("delete")), ("lan", Some("1"))],
            [("id", Some("1")), ("op", Some("u")), ("lan", Some("1"))],
            [("id", None), ("op", Some("c")), ("lan", Some("1"))],
            [("id", Some("1")), ("op", Some("?")), ("lan", Some("2"))],
            [("id", Some("1")), ("op", Some("c")), ("lan", None)],
        ] {
            builder.push(&fields(&row));
        }
        let rows = builder.finish().unwrap();
        let judged: Vec<_> = rows.iter().map(|(row, _)| (row.op, row.fault.as_ref().map(|fault| fault.code))).collect();
        let (missing, unknown, unkeyed) = (Some("key-missing"), Some("op-unknown"), Some("idempotency-missing"));
        assert_eq!(judged, [(Op::Delete, None), (Op::Update, None), (Op::Create, missing), (Op::Create, unknown), (Op::Create, unkeyed)]);
        assert_eq!(rows.rows[0].key, rows.rows[1].key);
        assert_ne!(rows.rows[0].key, rows.rows[3].key);
    }

    #[test]
    fn too_many_rows_are_counted_and_not_kept() {
        let (rules, columns) = (rules(json!({"max_rows": 2})), Columns::default());
        let mut builder = Builder::new(&rules, &columns, 0);
        (0..5).for_each(|_| builder.push(&fields(&[("a", None)])));
        assert_eq!(builder.finish().unwrap_err(), 5);
    }
}
