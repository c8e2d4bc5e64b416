//! Events of rows: where each cell of their images is.

use super::table_map::Width;
use super::{Header, LogColumn, kind};
use crate::decode::Cell;
use crate::wire::{Bytes, WireError, little};

/// What happened to the rows of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Insert,
    Update,
    Delete,
}

/// The head of an event of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsHead<'a> {
    pub(crate) table: u64,
    pub(crate) change: Change,
    pub(crate) columns: usize,
    /// Which columns are in the images (before, and after for an update).
    pub(crate) present: &'a [u8],
    pub(crate) present_after: &'a [u8],
    /// The images, packed where `is_packed`.
    pub(crate) rows: &'a [u8],
    pub(crate) is_packed: bool,
}

impl<'a> RowsHead<'a> {
    pub(crate) fn parse(header: Header, body: &'a [u8]) -> Result<Self, WireError> {
        let change = match header.kind {
            kind::WRITE_V1 | kind::WRITE | kind::WRITE_PACKED_V1 | kind::WRITE_PACKED => Change::Insert,
            kind::UPDATE_V1 | kind::UPDATE | kind::UPDATE_PACKED_V1 | kind::UPDATE_PACKED => Change::Update,
            _ => Change::Delete,
        };
        let has_extra = matches!(header.kind, kind::WRITE..=kind::DELETE | kind::WRITE_PACKED..=kind::DELETE_PACKED);
        let mut bytes = Bytes::new(body);
        let table = bytes.number(6)?;
        bytes.take(2)?;
        if has_extra {
            let length = usize::from(bytes.u16()?);
            bytes.take(length.saturating_sub(2))?;
        }
        let columns = bytes.length()?;
        let present = bytes.take(columns.div_ceil(8))?;
        let present_after = if change == Change::Update { bytes.take(columns.div_ceil(8))? } else { present };
        let is_packed = header.kind >= kind::WRITE_PACKED_V1;
        Ok(Self { table, change, columns, present, present_after, rows: bytes.rest(), is_packed })
    }
}

/// Finds the cells of images, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Cells of all images, `width` a row; those of columns that are not there are null.
    pub(crate) cells: Vec<Cell>,
}

impl Walk {
    /// Walks through all images of an event; gives how many there are.
    pub(crate) fn all(&mut self, head: &RowsHead<'_>, columns: &[LogColumn], rows: &[u8]) -> Result<usize, WireError> {
        self.cells.clear();
        let mut at = 0;
        let mut images = 0;
        while at < rows.len() {
            at = self.image(columns, head.present, rows, at)?;
            images += 1;
            if head.change == Change::Update {
                at = self.image(columns, head.present_after, rows, at)?;
                images += 1;
            }
        }
        Ok(images)
    }

    #[inline]
    fn image(&mut self, columns: &[LogColumn], present: &[u8], rows: &[u8], mut at: usize) -> Result<usize, WireError> {
        const SHORT: WireError = WireError::Protocol("a row is cut off");
        let there = present.iter().map(|byte| byte.count_ones() as usize).sum::<usize>().min(columns.len());
        let nulls = rows.get(at..at + there.div_ceil(8)).ok_or(SHORT)?;
        at += nulls.len();
        let mut place = 0;
        for (index, column) in columns.iter().enumerate() {
            if present.get(index / 8).is_none_or(|byte| byte >> (index % 8) & 1 == 0) {
                self.cells.push(Cell::NULL);
                continue;
            }
            let is_null = nulls.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1);
            place += 1;
            if is_null {
                self.cells.push(Cell::NULL);
                continue;
            }
            let length = match column.width {
                Width::Fixed(length) => length,
                Width::Prefixed(bytes) => {
                    let length = little(rows.get(at..at + bytes).ok_or(SHORT)?) as usize;
                    at += bytes;
                    length
                }
            };
            if at + length > rows.len() {
                return Err(SHORT);
            }
            self.cells.push(Cell::of(at, at + length));
            at += length;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const COLUMNS: [LogColumn; 2] = [LogColumn::fixed(4), LogColumn::prefixed(1)];

    #[test]
    fn rows_of_mysql_have_extra_data_in_their_head() {
        let header = Header { seconds: 0, kind: kind::UPDATE, server: 1, end: 0 };
        // Table 7, flags, five bytes of extra data, two columns, all present before and after.
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 5, 0, 0xaa, 0xbb, 0xcc, 2, 3, 3];
        body.extend_from_slice(&[0, 1, 0, 0, 0, 2, b'h', b'i']);
        body.extend_from_slice(&[2, 1, 0, 0, 0]);
        let head = RowsHead::parse(header, &body).unwrap();
        assert_eq!((head.table, head.change, head.columns, head.is_packed), (7, Change::Update, 2, false));
        let mut walk = Walk::default();
        assert_eq!(walk.all(&head, &COLUMNS, head.rows).unwrap(), 2);
        let texts: Vec<_> = walk.cells.iter().map(|cell| cell.bytes(head.rows)).collect();
        assert_eq!(texts, [Some(&[1, 0, 0, 0][..]), Some(b"hi"), Some(&[1, 0, 0, 0]), None]);
    }

    #[test]
    fn rows_that_are_cut_off_are_refused() {
        let header = Header { seconds: 0, kind: kind::WRITE_V1, server: 1, end: 0 };
        let body = [7, 0, 0, 0, 0, 0, 1, 0, 2, 3, 0, 1, 0, 0, 0, 9, b'h', b'i'];
        let head = RowsHead::parse(header, &body).unwrap();
        assert!(Walk::default().all(&head, &COLUMNS, head.rows).is_err());
    }
}
