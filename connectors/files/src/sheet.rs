//! Worksheets of Excel: XLSX and XLS, their header and their rows as text.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{Data, DataRef, ExcelDateTime, Reader, SheetType, SheetVisible, Xls, Xlsx};
use memchr::memmem;
use zip::ZipArchive;

use crate::config::{FileStream, SheetChoice};
use crate::reading::Manner;
use crate::row::Row;
use crate::rows::{Bad, Trouble};
use crate::text::content;

mod biff;

/// Rows in which the header is looked for.
const HEADER_WITHIN: usize = 50;

/// Bytes of `document_mib` that stand for one cell which a sheet of XLS spans, or one text that XLSX says it has: the library makes
/// room for each, filled or not.
const CELLS_OF_BYTES: u64 = 4;

/// One worksheet in memory: its cells in the order of rows.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    text: String,
    cells: Vec<Cell>,
    /// The cell that comes next.
    at: usize,
    /// Columns of the sheet that the header spans, from the first to behind the last.
    columns: (u32, u32),
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    row: u32,
    column: u32,
    start: usize,
    end: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Other,
    Error,
}

impl Sheet {
    /// Reads the sheet that a stream chooses and finds its header; the names of its columns beside it.
    pub(crate) fn open(file: File, manner: &Manner) -> Result<(Self, Vec<String>), Trouble> {
        let (stream, document_mib) = (manner.stream.as_ref(), manner.document_mib);
        // The library walks through offsets that the file gives: a damaged one may make it panic, which must cost the file alone.
        let read = catch_unwind(AssertUnwindSafe(|| Self::read(file, stream.sheet.as_ref(), document_mib)));
        let mut sheet = read.unwrap_or_else(|_| Err(bad("the workbook is damaged")))?;
        let names = sheet.begin(stream, &manner.needed)?;
        Ok((sheet, names))
    }

    fn read(mut file: File, choice: Option<&SheetChoice>, document_mib: u64) -> Result<Self, Trouble> {
        let mut first = Vec::with_capacity(8);
        file.by_ref().take(8).read_to_end(&mut first).map_err(Trouble::Io)?;
        file.seek(SeekFrom::Start(0)).map_err(Trouble::Io)?;
        let mut sheet = Self::default();
        if first.starts_with(b"PK") {
            within(&file, document_mib)?;
            let mut book: Xlsx<_> = calamine::open_workbook_from_rs(BufReader::new(file)).map_err(|error| damaged(&error))?;
            let name = chosen(&book, choice)?;
            let mut cells = book.worksheet_cells_reader(&name).map_err(|error| damaged(&error))?;
            while let Some(cell) = cells.next_cell().map_err(|error| damaged(&error))? {
                sheet.add(cell.get_position(), cell.get_value());
            }
        } else if first.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
            let (limit, mut bytes) = (document_mib << 20, Vec::new());
            file.take(limit + 1).read_to_end(&mut bytes).map_err(Trouble::Io)?;
            let cells = biff::spanned(&bytes).ok_or_else(|| bad("the workbook is damaged"))?;
            if bytes.len() as u64 > limit || cells > limit / CELLS_OF_BYTES {
                return Err(too_large(document_mib));
            }
            let mut book: Xls<_> = calamine::open_workbook_from_rs(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
            let name = chosen(&book, choice)?;
            let range = book.worksheet_range(&name).map_err(|error| damaged(&error))?;
            let (top, left) = range.start().unwrap_or_default();
            for (row, column, value) in range.used_cells() {
                let place = (top + u32::try_from(row).unwrap_or(0), left + u32::try_from(column).unwrap_or(0));
                sheet.add(place, &borrowed(value));
            }
        } else {
            return Err(bad("it is no workbook of Excel (XLSX or XLS)"));
        }
        sheet.cells.sort_by_key(|cell| (cell.row, cell.column));
        Ok(sheet)
    }

    /// Adds a cell unless it is empty.
    fn add(&mut self, (row, column): (u32, u32), value: &DataRef<'_>) {
        let start = self.text.len();
        let kind = match value {
            DataRef::Empty => return,
            DataRef::String(text) => self.put(text, Kind::Text),
            DataRef::SharedString(text) => self.put(text, Kind::Text),
            DataRef::Int(number) => self.put(&number.to_string(), Kind::Other),
            // The shortest text that is this number again: no `.0`, no exponent.
            DataRef::Float(number) => self.put(&number.to_string(), Kind::Other),
            DataRef::Bool(value) => self.put(if *value { "true" } else { "false" }, Kind::Other),
            DataRef::DateTime(time) => self.put(&moment(time), Kind::Other),
            DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => self.put(text, Kind::Other),
            DataRef::Error(error) => self.put(&error.to_string(), Kind::Error),
        };
        // A text of nothing is what a formula gives that hides a zero: no value, as an empty cell is none.
        if self.text.len() > start {
            self.cells.push(Cell { row, column, start, end: self.text.len(), kind });
        }
    }

    fn put(&mut self, text: &str, kind: Kind) -> Kind {
        self.text.push_str(text);
        kind
    }

    fn text(&self, cell: &Cell) -> &str {
        &self.text[cell.start..cell.end]
    }

    /// The text of a cell as a column's name: it is often broken into lines to make the column narrow.
    fn name(&self, cell: &Cell) -> String {
        self.text(cell).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Goes behind the header; the names of the columns.
    fn begin(&mut self, stream: &FileStream, needed: &[String]) -> Result<Vec<String>, Trouble> {
        let header = match stream.header {
            Some(0) => return Ok(self.headless(stream)),
            Some(line) => {
                let row = u32::try_from(line - 1).unwrap_or(u32::MAX);
                let has_cells = self.cells.iter().any(|cell| cell.row == row);
                has_cells.then_some(row).ok_or_else(|| bad(format!("row {line} is the header and has no cells")))?
            }
            None => self.find_header(needed).ok_or_else(|| {
                bad("no header is found: no row near the top has a text in most of its cells; say where it is with `header`")
            })?,
        };
        let of_header = |cell: &&Cell| cell.row == header;
        let cells: Vec<Cell> = self.cells.iter().filter(of_header).copied().collect();
        let first = cells.first().map_or(0, |cell| cell.column);
        let end = cells.last().map_or(0, |cell| cell.column + 1);
        self.columns = (first, end);
        self.at = self.cells.partition_point(|cell| cell.row <= header);
        let name = |column: u32| {
            let cell = cells.iter().find(|cell| cell.column == column);
            let name = cell.map(|cell| self.name(cell)).unwrap_or_default();
            if name.is_empty() { format!("column_{}", column - first + 1) } else { name }
        };
        Ok((first..end).map(name).collect())
    }

    fn headless(&mut self, stream: &FileStream) -> Vec<String> {
        let first = self.cells.iter().map(|cell| cell.column).min().unwrap_or(0);
        self.columns = (first, first + u32::try_from(stream.columns.len()).unwrap_or(u32::MAX));
        stream.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// The row that names every column that is needed; else the first one that is as wide as the table below it, nearly, and has
    /// texts in it: titles above a table fill fewer cells.
    fn find_header(&self, needed: &[String]) -> Option<u32> {
        self.naming(needed).or_else(|| self.widest())
    }

    fn naming(&self, needed: &[String]) -> Option<u32> {
        let mut rows = self.cells.chunk_by(|a, b| a.row == b.row).take(HEADER_WITHIN);
        let names = |row: &&[Cell]| needed.iter().all(|wanted| row.iter().any(|cell| self.name(cell) == *wanted));
        rows.find(|row| !needed.is_empty() && names(row)).and_then(|row| row.first()).map(|cell| cell.row)
    }

    fn widest(&self) -> Option<u32> {
        let mut rows: Vec<(u32, usize, usize)> = Vec::new();
        for cell in &self.cells {
            let is_text = usize::from(cell.kind == Kind::Text);
            let count = rows.len();
            match rows.last_mut() {
                Some((row, filled, texts)) if *row == cell.row => (*filled, *texts) = (*filled + 1, *texts + is_text),
                _ if count == 2 * HEADER_WITHIN => break,
                _ => rows.push((cell.row, 1, is_text)),
            }
        }
        let widest = rows.iter().map(|(_, filled, _)| *filled).max()?;
        let is_header = |(_, filled, texts): &&(u32, usize, usize)| filled * 10 >= widest * 7 && texts * 10 >= filled * 8;
        rows.iter().take(HEADER_WITHIN).find(is_header).map(|(row, ..)| *row)
    }

    /// The next row that has a value. False at the end of the sheet.
    pub(crate) fn next(&mut self, row: &mut Row, names: &[String]) -> bool {
        let Some(number) = self.cells.get(self.at).map(|cell| cell.row) else { return false };
        row.clear();
        let (first, end) = self.columns;
        let mut next = first;
        while let Some(cell) = self.cells.get(self.at).copied().filter(|cell| cell.row == number) {
            self.at += 1;
            let address = || format!("{}{}", letters(cell.column), cell.row + 1);
            if !(first..end).contains(&cell.column) {
                row.blame(None, "wrong-fields", format!("cell {} lies outside of the columns that the header names", address()));
                continue;
            }
            (next..cell.column).for_each(|_| row.add(None));
            next = cell.column + 1;
            if cell.kind == Kind::Error {
                let column = names.get((cell.column - first) as usize).map(String::as_str);
                row.blame(column, "cell-error", format!("cell {} holds the error {}", address(), self.text(&cell)));
                row.add(None);
            } else {
                row.add(Some(self.text(&cell)));
            }
        }
        (next..end).for_each(|_| row.add(None));
        true
    }
}

/// The name of the sheet that is chosen: the first visible one unless a stream says which.
fn chosen<R: Read + Seek, B: Reader<R>>(book: &B, choice: Option<&SheetChoice>) -> Result<String, Trouble> {
    let sheets = book.sheets_metadata();
    let names = || sheets.iter().map(|sheet| sheet.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match choice {
        None => sheets.iter().find(|sheet| sheet.visible == SheetVisible::Visible && sheet.typ == SheetType::WorkSheet),
        Some(SheetChoice::Number(number)) => number.checked_sub(1).and_then(|place| sheets.get(place)),
        Some(SheetChoice::Name(name)) => {
            let folded = name.trim().to_lowercase();
            sheets.iter().find(|sheet| sheet.name == *name).or(sheets.iter().find(|sheet| sheet.name.trim().to_lowercase() == folded))
        }
    };
    let wanted = || match choice {
        None => "visible sheet".to_owned(),
        Some(SheetChoice::Number(number)) => format!("sheet {number}"),
        Some(SheetChoice::Name(name)) => format!("sheet {name}"),
    };
    found.map(|sheet| sheet.name.clone()).ok_or_else(|| bad(format!("the workbook has no {}; it has {}", wanted(), names())))
}

/// The same value as XLSX gives it.
fn borrowed(value: &Data) -> DataRef<'_> {
    match value {
        Data::Empty => DataRef::Empty,
        Data::String(text) => DataRef::SharedString(text),
        Data::Int(number) => DataRef::Int(*number),
        Data::Float(number) => DataRef::Float(*number),
        Data::Bool(value) => DataRef::Bool(*value),
        Data::DateTime(time) => DataRef::DateTime(*time),
        Data::DateTimeIso(text) => DataRef::DateTimeIso(text.clone()),
        Data::DurationIso(text) => DataRef::DurationIso(text.clone()),
        Data::Error(error) => DataRef::Error(error.clone()),
    }
}

/// Refuses a workbook whose parts are larger than the limit when they are unpacked, whatever its directory says of them, or that
/// says of more texts than fit into the limit: the library makes room for as many as it is told.
fn within(file: &File, document_mib: u64) -> Result<(), Trouble> {
    let file = file.try_clone().map_err(Trouble::Io)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(&error))?;
    let limit = document_mib << 20;
    let (mut left, mut part) = (limit, Vec::new());
    for place in 0..archive.len() {
        let member = archive.by_index(place).map_err(|error| damaged(&error))?;
        part.clear();
        member.take(left + 1).read_to_end(&mut part).map_err(|error| damaged(&error))?;
        left = left.checked_sub(part.len() as u64).ok_or_else(|| too_large(document_mib))?;
        if told_texts(&part) > limit / CELLS_OF_BYTES {
            return Err(too_large(document_mib));
        }
    }
    Ok(())
}

/// The largest number of texts that a part says it has.
fn told_texts(part: &[u8]) -> u64 {
    let number = |at: usize| {
        let digits = part[at..].iter().skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'=' | b'"' | b'\'' | b'+'));
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    };
    let name = b"uniqueCount";
    memmem::find_iter(part, name).map(|place| number(place + name.len())).max().unwrap_or(0)
}

fn too_large(document_mib: u64) -> Trouble {
    bad(format!("the workbook is larger than document_mib, {document_mib} MiB unpacked; raise it, or have it delivered as CSV"))
}

fn bad(why: impl Into<String>) -> Trouble {
    Trouble::Bad(Bad::whole(why))
}

fn damaged(error: &(dyn std::error::Error + 'static)) -> Trouble {
    Trouble::opening(content(format!("the workbook cannot be read: {error}")))
}

/// Letters of a column as Excel shows them: A, Z, AA.
fn letters(column: u32) -> String {
    let (mut left, mut letters) = (column + 1, Vec::new());
    while left > 0 {
        letters.push(b'A' + u8::try_from((left - 1) % 26).unwrap_or(0));
        left = (left - 1) / 26;
    }
    letters.iter().rev().map(|letter| char::from(*letter)).collect()
}

/// A date or a time in the form of ISO 8601: `2026-01-31`, `2026-01-31T13:05:00`, `13:05:00`; a span as `36:30:00`.
fn moment(time: &ExcelDateTime) -> String {
    let value = time.as_f64();
    if time.is_duration() {
        #[allow(clippy::cast_possible_truncation, reason = "no span is longer than a table of Excel can show")]
        let seconds = (value * 86_400.0).round() as i64;
        let sign = if seconds < 0 { "-" } else { "" };
        let seconds = seconds.abs();
        return format!("{sign}{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    }
    // Outside of what Excel calls a date it is a number in a column that is formatted as one.
    if !(0.0..2_958_466.0).contains(&value) {
        return value.to_string();
    }
    let (year, month, day, hour, minute, second, milli) = time.to_ymd_hms_milli();
    let fraction = if milli == 0 { String::new() } else { format!(".{milli:03}") };
    let clock = format!("{hour:02}:{minute:02}:{second:02}{fraction}");
    let is_midnight = (hour, minute, second, milli) == (0, 0, 0, 0);
    match (value < 1.0, is_midnight) {
        (true, _) => clock,
        (false, true) => format!("{year:04}-{month:02}-{day:02}"),
        (false, false) => format!("{year:04}-{month:02}-{day:02}T{clock}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use calamine::ExcelDateTimeType;

    use super::*;

    #[test]
    fn moments_are_iso_text_in_both_systems_of_dates() {
        let text = |value, is_1904| moment(&ExcelDateTime::new(value, ExcelDateTimeType::DateTime, is_1904));
        assert_eq!(text(45_943.0, false), "2025-10-13");
        assert_eq!(text(44_481.0, true), "2025-10-13");
        assert_eq!(text(45_943.5, false), "2025-10-13T12:00:00");
        assert_eq!(text(45_943.541, false), "2025-10-13T12:59:02.400");
        assert_eq!(text(0.25, false), "06:00:00");
        assert_eq!(text(-3.0, false), "-3");
        assert_eq!(moment(&ExcelDateTime::new(1.5, ExcelDateTimeType::TimeDelta, false)), "36:00:00");
    }

    #[test]
    fn columns_have_the_letters_that_excel_shows() {
        assert_eq!([0, 25, 26, 701, 702].map(letters), ["A", "Z", "AA", "ZZ", "AAA"]);
    }

    fn sheet(rows: &[&[&str]]) -> Sheet {
        let mut sheet = Sheet::default();
        for (row, cells) in rows.iter().enumerate() {
            for (column, text) in cells.iter().enumerate() {
                let value = text.parse::<f64>().map_or(DataRef::String((*text).to_owned()), DataRef::Float);
                sheet.add((row as u32, column as u32), &value);
            }
        }
        sheet
    }

    #[test]
    fn a_header_is_the_first_row_that_is_as_wide_as_the_table_and_full_of_texts() {
        assert_eq!(sheet(&[&["a", "b"], &["1", "2"]]).find_header(&[]), Some(0));
        assert_eq!(sheet(&[&["BÁO CÁO"], &["", "Quý I"], &["mã", "tên", "phí"], &["1", "An", "2"]]).find_header(&[]), Some(2));
        assert_eq!(sheet(&[&["năm", "", "", "2026"], &["mã", "tên", "phí", ""], &["1", "An", "2", ""]]).find_header(&[]), Some(1));
        assert_eq!(sheet(&[&["1", "2"], &["3", "4"]]).find_header(&[]), None);
        assert_eq!(sheet(&[&["mã"], &["1"]]).find_header(&[]), Some(0));
        assert_eq!(sheet(&[]).find_header(&[]), None);
        let two_lines = sheet(&[&["người", "nơi ở", "phí"], &["mã", "số\nnhà", "đồng"], &["1", "2", "3"]]);
        assert_eq!(two_lines.find_header(&[]), Some(0));
        assert_eq!(two_lines.find_header(&["số nhà".to_owned(), "mã".to_owned()]), Some(1), "what is needed says more than how it looks");
    }
}
