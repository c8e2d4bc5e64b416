//! One row of a file as text in its cells, used again for the next one.

use std::sync::Arc;

/// Cells by their place, and what is wrong with the row. Their text is the row's own, or lies in the buffer of the lines that they
/// were found in: nothing is copied where nothing needs to be.
#[derive(Debug, Default)]
pub(crate) struct Row {
    text: Vec<u8>,
    /// Where the cell that is open begins in the row's own text.
    open: usize,
    spans: Vec<Span>,
    is_borrowed: bool,
    /// Why the row cannot be taken as it is.
    pub(crate) fault: Option<Fault>,
}

/// Where a cell's text is.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
    is_null: bool,
}

/// The cells of a row with the text that they lie in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cells<'a> {
    text: &'a [u8],
    spans: &'a [Span],
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

fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl Row {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
        self.open = 0;
        self.is_borrowed = false;
        self.fault = None;
    }

    /// Begins a row whose cells lie in somebody else's text.
    pub(crate) fn borrow(&mut self) {
        self.clear();
        self.is_borrowed = true;
    }

    /// Adds a cell that lies in somebody else's text.
    pub(crate) fn span(&mut self, start: usize, end: usize, is_null: bool) {
        self.spans.push(Span { start: narrow(start), end: narrow(end), is_null });
    }

    /// Adds to the cell that is open.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    /// Ends the cell that is open.
    pub(crate) fn end_cell(&mut self, is_null: bool) {
        self.span(self.open, self.text.len(), is_null);
        self.open = self.text.len();
    }

    /// Adds a whole cell.
    pub(crate) fn add(&mut self, value: Option<&str>) {
        self.push(value.unwrap_or_default().as_bytes());
        self.end_cell(value.is_none());
    }

    /// Whether nothing was added to the cell that is open.
    pub(crate) fn cell_is_empty(&self) -> bool {
        self.text.len() == self.open
    }

    /// Takes a carriage return at the end of the open cell away.
    pub(crate) fn trim_return(&mut self) {
        if self.text.len() > self.open && self.text.last() == Some(&b'\r') {
            self.text.pop();
        }
    }

    /// Bytes of the row's own text.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Its cells; `outside` is the text that they lie in where it is not the row's own.
    pub(crate) fn cells<'a>(&'a self, outside: &'a [u8]) -> Cells<'a> {
        Cells { text: if self.is_borrowed { outside } else { &self.text }, spans: &self.spans }
    }

    /// Its cells where their text is its own.
    pub(crate) fn own(&self) -> Cells<'_> {
        self.cells(&[])
    }

    /// Says what is wrong, unless something was wrong before.
    pub(crate) fn blame(&mut self, column: Option<&str>, code: &'static str, why: String) {
        self.fault.get_or_insert(Fault { column: column.map(Arc::from), code, why });
    }
}

impl<'a> Cells<'a> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The bytes of a cell, `None` for null and for a cell that is not there.
    pub(crate) fn raw(&self, place: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(place).filter(|span| !span.is_null)?;
        self.text.get(span.start as usize..span.end as usize)
    }

    /// The text of a cell, `None` for null and for a cell that is not there.
    pub(crate) fn text(&self, place: usize) -> Result<Option<&'a str>, Undecodable> {
        self.raw(place).map(std::str::from_utf8).transpose().map_err(|_| Undecodable)
    }
}
