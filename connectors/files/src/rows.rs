//! The rows of one file, whatever its format.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

use hub_sdk::records::{DocumentError, Fields, json_fields, json_rows, unique_name, xml_rows};

use crate::config::{FileStream, FixedColumn, Format};
use crate::edxml;
use crate::lines::{Lines, delimiter};
use crate::reading::Manner;
use crate::row::{Cells, Row};
use crate::sheet::Sheet;
use crate::text::{Text, content, open, unpacked};

/// Why reading a file ended.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The file cannot be reached.
    Io(io::Error),
    /// The file is not what it should be.
    Bad(Bad),
}

/// What is wrong with a file, and where. Never with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    /// The row, from 1, where rows were read already.
    pub(crate) row: Option<u64>,
    /// The column, where one is to blame.
    pub(crate) column: Option<String>,
    /// In words.
    pub(crate) why: String,
}

impl Bad {
    /// A fault of the whole file.
    pub(crate) fn whole(why: impl Into<String>) -> Self {
        Self { row: None, column: None, why: why.into() }
    }
}

impl Trouble {
    /// An error before the first row.
    pub(crate) fn opening(error: io::Error) -> Self {
        match Self::after(0, error) {
            Self::Bad(bad) => Self::Bad(Bad { row: None, ..bad }),
            other => other,
        }
    }

    /// An error of reading after so many rows.
    pub(crate) fn after(rows: u64, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                Self::Bad(Bad { row: Some(rows + 1), column: None, why: error.to_string() })
            }
            _ => Self::Io(error),
        }
    }
}

impl From<DocumentError> for Trouble {
    fn from(error: DocumentError) -> Self {
        Self::Bad(Bad::whole(error.to_string()))
    }
}

/// Rows, one after the other. Their cells are in the order of [`Rows::columns`], which may grow.
pub(crate) struct Rows {
    form: Form,
    columns: Vec<String>,
    places: HashMap<String, usize>,
    /// Rows that were taken.
    number: u64,
    line: Row,
}

enum Form {
    Delimited { lines: Lines, delimiter: u8, quote: u8 },
    Fixed { lines: Lines, columns: Vec<FixedColumn> },
    Objects { lines: Lines },
    Document { rows: std::vec::IntoIter<Fields> },
    Sheet { sheet: Sheet },
}

impl Rows {
    /// Begins to read a file.
    pub(crate) fn open(file: File, manner: &Manner) -> Result<Self, Trouble> {
        let (stream, document_mib) = (manner.stream.as_ref(), manner.document_mib);
        if stream.format == Format::Edxml {
            let mut rows = Self::new(Form::Document { rows: vec![edxml::read(file, manner)?].into_iter() });
            hub_sdk::edxml::COLUMNS.iter().for_each(|name| _ = rows.place(name));
            return Ok(rows);
        }
        if stream.format == Format::Xlsx {
            let file = unpacked(file, stream.format, document_mib, &manner.spool).map_err(Trouble::opening)?;
            let (sheet, names) = Sheet::open(file, manner)?;
            return Ok(Self::new(Form::Sheet { sheet }).with(names));
        }
        let text = open(file, stream.format, stream.encoding).map_err(Trouble::opening)?;
        let names: Vec<String> = stream.columns.iter().map(|column| column.name.clone()).collect();
        let mut rows = match stream.format {
            Format::Csv | Format::Tsv => return Self::delimited(Lines::new(text), stream, names),
            Format::Fixed => Self::new(Form::Fixed { lines: Lines::new(text), columns: stream.columns.clone() }),
            Format::Ndjson => Self::new(Form::Objects { lines: Lines::new(text) }),
            Format::Json | Format::Xml => {
                let (document, mut rows) = (document(text, document_mib)?, Vec::new());
                match stream.format {
                    Format::Json => json_rows(&document, &stream.rows, |fields| rows.push(fields))?,
                    _ => xml_rows(&document, &stream.rows, |fields| rows.push(fields))?,
                }
                Self::new(Form::Document { rows: rows.into_iter() })
            }
            Format::Xlsx | Format::Parquet | Format::Edxml => return Err(Trouble::Bad(Bad::whole("it is no text"))),
        };
        names.iter().for_each(|name| _ = rows.place(name));
        Ok(rows)
    }

    /// The same with columns whose names a file gives, each under a name of its own.
    fn with(mut self, names: Vec<String>) -> Self {
        for name in names {
            self.place(&unique_name(&name, |name| self.places.contains_key(name)));
        }
        self
    }

    fn new(form: Form) -> Self {
        Self { form, columns: Vec::new(), places: HashMap::new(), number: 0, line: Row::default() }
    }

    fn delimited(mut lines: Lines, stream: &FileStream, mut names: Vec<String>) -> Result<Self, Trouble> {
        let at_start = Trouble::opening;
        let quote = u8::try_from(stream.quote).unwrap_or(b'"');
        let delimiter = match (stream.format, stream.delimiter) {
            (Format::Tsv, _) => b'\t',
            (_, Some(given)) => u8::try_from(given).unwrap_or(b','),
            (_, None) => delimiter(lines.peek().map_err(at_start)?, quote, stream.header_line()),
        };
        let mut row = Row::default();
        for _ in 1..stream.header_line() {
            lines.next_line(&mut row).map_err(at_start)?;
        }
        if stream.header_line() > 0 {
            if !lines.next_record(&mut row, delimiter, quote).map_err(at_start)? {
                return Err(Trouble::Bad(Bad::whole("there is no header line")));
            }
            let cells = lines.cells(&row);
            for cell in 0..cells.len() {
                let wrong = |_| Trouble::Bad(Bad::whole(format!("the name of column {} is not in the encoding of the stream", cell + 1)));
                let name = cells.text(cell).map_err(wrong)?.unwrap_or_default().trim();
                names.push(if name.is_empty() { format!("column_{}", cell + 1) } else { name.to_owned() });
            }
        }
        Ok(Self::new(Form::Delimited { lines, delimiter, quote }).with(names))
    }

    fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.columns.push(name.to_owned());
        self.places.insert(name.to_owned(), self.columns.len() - 1);
        self.columns.len() - 1
    }

    /// Names of the columns so far.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Whether all columns are known from the start, so that one that is missing is a fault of the file.
    pub(crate) fn has_header(&self) -> bool {
        matches!(self.form, Form::Delimited { .. } | Form::Fixed { .. } | Form::Sheet { .. })
    }

    /// Number of the row that was taken last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The cells of the row that was taken last.
    pub(crate) fn cells<'a>(&'a self, row: &'a Row) -> Cells<'a> {
        match &self.form {
            Form::Delimited { lines, .. } => lines.cells(row),
            _ => row.own(),
        }
    }

    /// The next row. False at the end of the file.
    pub(crate) fn next(&mut self, row: &mut Row) -> Result<bool, Trouble> {
        let number = self.number;
        let after = |error| Trouble::after(number, error);
        match &mut self.form {
            Form::Delimited { lines, delimiter, quote } => loop {
                if !lines.next_record(row, *delimiter, *quote).map_err(after)? {
                    return Ok(false);
                }
                let cells = lines.cells(row);
                let (found, expected) = (cells.len(), self.columns.len());
                // A blank line is no row.
                if found == 1 && cells.raw(0).is_none() {
                    continue;
                }
                if found != expected {
                    row.blame(None, "wrong-fields", format!("it has {found} values where the header names {expected} columns"));
                }
                break;
            },
            Form::Fixed { lines, columns } => loop {
                if !lines.next_line(&mut self.line).map_err(after)? {
                    return Ok(false);
                }
                if fixed(&self.line, columns, row) {
                    break;
                }
            },
            Form::Objects { lines } => loop {
                if !lines.next_line(&mut self.line).map_err(after)? {
                    return Ok(false);
                }
                let text = self.line.own().text(0);
                if text.is_ok_and(|text| text.unwrap_or_default().trim().is_empty()) {
                    continue;
                }
                match text.map_err(|_| "it is not in the encoding of the stream".to_owned()).and_then(object) {
                    Ok(fields) => self.spread(fields, row),
                    Err(why) => {
                        row.clear();
                        row.blame(None, "undecodable", why);
                    }
                }
                break;
            },
            Form::Document { rows } => {
                let Some(fields) = rows.next() else { return Ok(false) };
                self.spread(fields, row);
            }
            Form::Sheet { sheet } => {
                if !sheet.next(row, &self.columns) {
                    return Ok(false);
                }
            }
        }
        self.number += 1;
        Ok(true)
    }

    /// Puts named fields into the places of their columns.
    fn spread(&mut self, fields: Fields, row: &mut Row) {
        let mut values: Vec<Option<String>> = vec![None; self.columns.len()];
        for (name, value) in fields {
            let place = self.place(&name);
            values.resize(self.columns.len().max(values.len()), None);
            values[place] = value;
        }
        row.clear();
        values.iter().for_each(|value| row.add(value.as_deref()));
    }
}

fn object(text: Option<&str>) -> Result<Fields, String> {
    json_fields(text.unwrap_or_default().trim()).map_err(|error| match error {
        DocumentError::NotARow { found, .. } => format!("it is {found}, not an object"),
        other => other.to_string(),
    })
}

/// Cuts a line at its columns' places. False for a blank line.
fn fixed(line: &Row, columns: &[FixedColumn], row: &mut Row) -> bool {
    row.clear();
    let Ok(text) = line.own().text(0) else {
        row.blame(None, "undecodable", "it is not in the encoding of the stream".to_owned());
        return true;
    };
    let text = text.unwrap_or_default();
    if text.trim().is_empty() {
        return false;
    }
    for column in columns {
        let from = column.start.saturating_sub(1);
        // Letters and not bytes are counted; where all are ASCII they are the same.
        let cut = if text.is_ascii() {
            text.get(from.min(text.len())..(from + column.width).min(text.len())).unwrap_or_default()
        } else {
            let mut places = text.char_indices().map(|(place, _)| place).chain([text.len()]);
            let start = places.nth(from).unwrap_or(text.len());
            let end = places.nth(column.width.saturating_sub(1)).unwrap_or(text.len());
            &text[start..end]
        };
        let value = cut.trim_end();
        row.add((!value.trim_start().is_empty()).then_some(value));
    }
    true
}

/// A whole document, up to a size.
pub(crate) fn document(text: Text, document_mib: u64) -> Result<String, Trouble> {
    let (limit, mut bytes) = (document_mib << 20, Vec::new());
    text.take(limit + 1).read_to_end(&mut bytes).map_err(Trouble::opening)?;
    if bytes.len() as u64 > limit {
        return Err(Trouble::Bad(Bad::whole(format!(
            "the document is larger than document_mib, {document_mib} MiB; raise it, or have it delivered as ndjson"
        ))));
    }
    String::from_utf8(bytes)
        .map_err(|error| Trouble::opening(content(format!("the document is not in the encoding of the stream: {}", error.utf8_error()))))
}
