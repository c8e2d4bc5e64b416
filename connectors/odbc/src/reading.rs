//! Reads one statement to its end: the driver fills buffers, pages go out as long as somebody takes them.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_odbc::odbc_api::Cursor;
use arrow_odbc::odbc_api::buffers::ColumnarDynBuffer;
use hub_sdk::{ErrorKind, SourceError};

use crate::columns::{Columns, Lengths};
use crate::page::{Page, page};
use crate::session::Session;

/// What a reading tells, in this order: once its columns, then its pages.
pub(crate) enum Told {
    /// The columns of the result.
    Columns(Arc<Columns>),
    /// Rows of it.
    Page(Page),
}

/// A SELECT, and how much of it is fetched at once.
#[derive(Clone, Debug)]
pub(crate) struct Select {
    /// The statement.
    pub(crate) sql: String,
    /// Rows of a page at most.
    pub(crate) rows: usize,
}

impl Session {
    /// How long values may be.
    pub(crate) fn lengths(&self) -> Lengths {
        Lengths {
            max_value: self.config().max_value(),
            are_ignored: self.dialect.ignores_lengths(),
            is_wide: self.is_wide(),
            is_single_broken: self.dialect.breaks_singles(),
        }
    }

    /// The columns of a SELECT, of which no row is read.
    pub(crate) fn columns(&self, sql: &str, doing: &str) -> Result<Columns, SourceError> {
        let mut cursor = self.rows(sql, doing)?;
        Columns::of(&mut cursor, self.lengths()).map_err(|error| self.failed(&error, doing))
    }

    /// Reads a SELECT until its end, or until `take` has enough.
    pub(crate) fn read(&self, select: &Select, doing: &str, mut take: impl FnMut(Told) -> ControlFlow<()>) -> Result<(), SourceError> {
        let failed = |error: arrow_odbc::odbc_api::Error| self.failed(&error, doing);
        let mut cursor = self.rows(&select.sql, doing)?;
        let columns = Arc::new(Columns::of(&mut cursor, self.lengths()).map_err(failed)?);
        if take(Told::Columns(Arc::clone(&columns))).is_break() {
            return Ok(());
        }
        let rows = (self.config().fetch_bytes() / columns.row_bytes()).clamp(1, select.rows.max(1));
        let buffers = ColumnarDynBuffer::try_from_descs(rows, columns.forms.iter().map(|form| form.buffer())).map_err(failed)?;
        let mut block = cursor.bind_buffer(buffers).map_err(failed)?;
        // Values that were cut are found row by row: they must not end the reading.
        while let Some(buffers) = block.fetch_with_truncation_check(false).map_err(failed)? {
            let page = page(&columns, buffers).map_err(|error| SourceError::new(ErrorKind::Defect, doing).because(error))?;
            if take(Told::Page(page)).is_break() {
                break;
            }
        }
        Ok(())
    }
}
