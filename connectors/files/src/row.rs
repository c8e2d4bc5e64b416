//! One row of a file as text in its cells, used again for the next one.

use std::sync::Arc;

/// Cells by their place, and what is wrong with the row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    text: Vec<u8>,
    /// Where each cell ends, and whether it is null.
    ends: Vec<(usize, bool)>,
    /// Why the row cannot be taken as it is.
    pub(crate) fault: Option<Fault>,
}

/// Why a row cannot be taken. Never with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its column, where one is to blame.
    pub(crate) column: Option<Arc<str>>,
    /// Stable code.
    pub(crate) code: &'static str,
    /// In words.
    pub(crate) why: String,
}

/// A cell that is no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable;

impl Row {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.fault = None;
    }

    /// Adds to the cell that is open.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    /// Ends the cell that is open.
    pub(crate) fn end_cell(&mut self, is_null: bool) {
        self.ends.push((self.text.len(), is_null));
    }

    /// Adds a whole cell.
    pub(crate) fn add(&mut self, value: Option<&str>) {
        self.push(value.unwrap_or_default().as_bytes());
        self.end_cell(value.is_none());
    }

    fn start(&self) -> usize {
        self.ends.last().map_or(0, |(end, _)| *end)
    }

    /// Whether nothing was added to the cell that is open.
    pub(crate) fn cell_is_empty(&self) -> bool {
        self.text.len() == self.start()
    }

    /// Takes a carriage return at the end of the open cell away.
    pub(crate) fn trim_return(&mut self) {
        if self.text.len() > self.start() && self.text.last() == Some(&b'\r') {
            self.text.pop();
        }
    }

    /// Bytes of all cells.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// How many cells it has.
    pub(crate) fn cells(&self) -> usize {
        self.ends.len()
    }

    /// The text of a cell, `None` for null and for a cell that is not there.
    pub(crate) fn cell(&self, place: usize) -> Result<Option<&str>, Undecodable> {
        let Some((end, is_null)) = self.ends.get(place) else { return Ok(None) };
        if *is_null {
            return Ok(None);
        }
        let start = if place == 0 { 0 } else { self.ends[place - 1].0 };
        std::str::from_utf8(&self.text[start..*end]).map(Some).map_err(|_| Undecodable)
    }

    /// Says what is wrong, unless something was wrong before.
    pub(crate) fn blame(&mut self, column: Option<&str>, code: &'static str, why: String) {
        self.fault.get_or_insert(Fault { column: column.map(Arc::from), code, why });
    }
}
