//! Lines and delimited records out of text, without a copy of the file in memory.
//!
//! The `csv` crate is not used because it cannot tell an empty text (`""`) from no value (nothing between two delimiters), nor
//! a quote that is never closed from the end of the file.

use std::io;

use memchr::{memchr, memchr2};

use crate::row::{Cells, Row};
use crate::text::{Text, content};

/// Longest record: what is longer is a quote that is not closed, more often than not.
const LONGEST: usize = 16 << 20;
const BUFFER: usize = 256 << 10;

/// What the buffer holds of a record.
enum Found {
    /// All of it, up to here.
    Whole(usize),
    /// Its end does not lie in the buffer.
    Cut,
    /// A quote in a quoted value, or letters behind one: its text is not what lies in the buffer.
    Woven,
}

/// Text that is taken in lines or records.
pub(crate) struct Lines {
    text: Text,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    is_over: bool,
    /// Lines that are behind.
    line: u64,
}

impl Lines {
    /// Begins.
    pub(crate) fn new(text: Text) -> Self {
        Self { text, buffer: vec![0; BUFFER], at: 0, end: 0, is_over: false, line: 0 }
    }

    /// Number of the line that comes next, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line + 1
    }

    /// What comes next, up to the size of the buffer, without taking it.
    pub(crate) fn peek(&mut self) -> io::Result<&[u8]> {
        self.buffer.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        while !self.is_over && self.end < self.buffer.len() {
            self.read_more()?;
        }
        Ok(&self.buffer[..self.end])
    }

    /// The text in which the cells of a record lie that was found in the buffer.
    pub(crate) fn cells<'a>(&'a self, row: &'a Row) -> Cells<'a> {
        row.cells(&self.buffer)
    }

    fn read_more(&mut self) -> io::Result<()> {
        match self.text.read(&mut self.buffer[self.end..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => {
                let count = read?;
                self.is_over = count == 0;
                self.end += count;
            }
        }
        Ok(())
    }

    /// What lies in the buffer and is not taken; empty at the end of the text.
    fn waiting(&mut self) -> io::Result<&[u8]> {
        if self.at == self.end {
            (self.at, self.end) = (0, 0);
            while !self.is_over && self.end == 0 {
                self.read_more()?;
            }
        }
        Ok(&self.buffer[self.at..self.end])
    }

    /// The next line without its end, as the row's only cell. False at the end of the text.
    pub(crate) fn next_line(&mut self, row: &mut Row) -> io::Result<bool> {
        row.clear();
        if self.waiting()?.is_empty() {
            return Ok(false);
        }
        loop {
            let waiting = self.waiting()?;
            if waiting.is_empty() {
                break;
            }
            let ends = memchr(b'\n', waiting);
            let count = ends.unwrap_or(waiting.len());
            row.push(&waiting[..count]);
            self.at += count + usize::from(ends.is_some());
            if ends.is_some() {
                break;
            }
            self.refuse_endless(row)?;
        }
        self.line += 1;
        row.trim_return();
        row.end_cell(false);
        Ok(true)
    }

    /// The next record, whose cells are had by [`Lines::cells`]. A cell is null where nothing stands between its delimiters; `""` is
    /// the empty text. False at the end.
    pub(crate) fn next_record(&mut self, row: &mut Row, delimiter: u8, quote: u8) -> io::Result<bool> {
        if self.waiting()?.is_empty() {
            return Ok(false);
        }
        let mut found = self.find_record(row, delimiter, quote);
        if matches!(found, Found::Cut) && !self.is_over {
            self.peek()?;
            found = self.find_record(row, delimiter, quote);
        }
        match found {
            Found::Whole(end) => {
                self.at = end;
                self.line += 1;
                Ok(true)
            }
            Found::Cut | Found::Woven => self.weave_record(row, delimiter, quote),
        }
    }

    /// Looks for the cells of the next record where they lie.
    fn find_record(&mut self, row: &mut Row, delimiter: u8, quote: u8) -> Found {
        row.borrow();
        let bytes = &self.buffer[..self.end];
        let (mut at, mut lines) = (self.at, 0);
        loop {
            if bytes.get(at) == Some(&quote) {
                let start = at + 1;
                let Some(length) = memchr(quote, &bytes[start..]) else { return Found::Cut };
                let end = start + length;
                row.span(start, end, false);
                lines += memchr::memchr_iter(b'\n', &bytes[start..end]).count() as u64;
                match (bytes.get(end + 1), bytes.get(end + 2)) {
                    (None, _) | (Some(b'\r'), None) => return Found::Cut,
                    (Some(next), _) if *next == delimiter => at = end + 2,
                    (Some(b'\n'), _) => at = end + 2,
                    (Some(b'\r'), Some(b'\n')) => at = end + 3,
                    _ => return Found::Woven,
                }
                if bytes[at - 1] == b'\n' {
                    break;
                }
                continue;
            }
            let Some(length) = bytes.get(at..).and_then(|rest| memchr2(delimiter, b'\n', rest)) else { return Found::Cut };
            let stop = at + length;
            if bytes[stop] == delimiter {
                row.span(at, stop, at == stop);
                at = stop + 1;
                continue;
            }
            let end = if stop > at && bytes[stop - 1] == b'\r' { stop - 1 } else { stop };
            row.span(at, end, at == end);
            at = stop + 1;
            break;
        }
        self.line += lines;
        Found::Whole(at)
    }

    /// The next record piece by piece, into the row's own text.
    fn weave_record(&mut self, row: &mut Row, delimiter: u8, quote: u8) -> io::Result<bool> {
        row.clear();
        loop {
            let is_quoted = self.waiting()?.first() == Some(&quote);
            if is_quoted {
                self.at += 1;
                self.quoted(row, quote)?;
            }
            let closed = row.len();
            let stop = self.plain(row, delimiter)?;
            // A return before the closing quote is part of the text.
            if stop != Some(delimiter) && row.len() > closed {
                row.trim_return();
            }
            row.end_cell(!is_quoted && row.cell_is_empty());
            if stop != Some(delimiter) {
                self.line += 1;
                return Ok(true);
            }
        }
    }

    /// Up to the delimiter, the end of the line or of the text, which is taken and told.
    fn plain(&mut self, row: &mut Row, delimiter: u8) -> io::Result<Option<u8>> {
        loop {
            let waiting = self.waiting()?;
            if waiting.is_empty() {
                return Ok(None);
            }
            let stops = memchr2(delimiter, b'\n', waiting);
            let count = stops.unwrap_or(waiting.len());
            row.push(&waiting[..count]);
            let stop = stops.map(|place| waiting[place]);
            self.at += count + usize::from(stop.is_some());
            if stop.is_some() {
                return Ok(stop);
            }
            self.refuse_endless(row)?;
        }
    }

    /// Up to the quote that closes, which is taken; two quotes are one of the text.
    fn quoted(&mut self, row: &mut Row, quote: u8) -> io::Result<()> {
        let opened = self.line();
        loop {
            let waiting = self.waiting()?;
            if waiting.is_empty() {
                return Err(content(format!("the quote that is opened in line {opened} is never closed")));
            }
            let closes = memchr(quote, waiting);
            let count = closes.unwrap_or(waiting.len());
            let lines = waiting[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
            row.push(&waiting[..count]);
            self.line += lines;
            self.at += count + usize::from(closes.is_some());
            if closes.is_some() {
                if self.waiting()?.first() != Some(&quote) {
                    return Ok(());
                }
                self.at += 1;
                row.push(&[quote]);
            }
            self.refuse_endless(row)?;
        }
    }

    fn refuse_endless(&self, row: &Row) -> io::Result<()> {
        if row.len() <= LONGEST {
            return Ok(());
        }
        let line = self.line();
        Err(content(format!("a record is longer than {} MiB at line {line}: is a quote not closed, or is this no text?", LONGEST >> 20)))
    }
}

/// The delimiter of a text, from its beginning: the one that most lines from the header on have in the same number.
pub(crate) fn delimiter(start: &[u8], quote: u8, header: u64) -> u8 {
    let mut best = (0, b',');
    for candidate in [b',', b';', b'\t', b'|'] {
        let counts = counts(start, candidate, quote);
        let counts = &counts[usize::try_from(header.saturating_sub(1)).unwrap_or(0).min(counts.len())..];
        let Some(first) = counts.first().filter(|first| **first > 0) else { continue };
        let same = counts.iter().filter(|count| *count == first).count();
        // Agreement first, then how many columns it gives.
        let score = same * 1_000 / counts.len() * 1_000 + first.min(&999);
        if score > best.0 {
            best = (score, candidate);
        }
    }
    best.1
}

/// How often a byte is in each whole line, outside of quotes; of the first hundred lines.
fn counts(start: &[u8], candidate: u8, quote: u8) -> Vec<usize> {
    let (mut counts, mut count, mut is_quoted, mut is_blank) = (Vec::new(), 0, false, true);
    for byte in start {
        match *byte {
            b'\n' if !is_quoted => {
                if !is_blank {
                    counts.push(count);
                }
                (count, is_blank) = (0, true);
                if counts.len() == 100 {
                    return counts;
                }
                continue;
            }
            byte if byte == quote => is_quoted = !is_quoted,
            byte if byte == candidate && !is_quoted => count += 1,
            _ => {}
        }
        is_blank = false;
    }
    // The last line may be cut off; it counts where it is all there is.
    if counts.is_empty() {
        counts.push(count);
    }
    counts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::{Cursor, Read};

    use super::*;

    /// Gives one byte at a time, so that every place is a border of the buffer.
    struct Dripping(Cursor<Vec<u8>>);

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }

    fn records(text: &str) -> Vec<Vec<Option<String>>> {
        let whole = read(Box::new(Cursor::new(text.as_bytes().to_vec())));
        assert_eq!(whole, read(Box::new(Dripping(Cursor::new(text.as_bytes().to_vec())))), "borders of the buffer change nothing");
        whole
    }

    fn read(text: Text) -> Vec<Vec<Option<String>>> {
        let (mut lines, mut row, mut records) = (Lines::new(text), Row::default(), Vec::new());
        while lines.next_record(&mut row, b',', b'"').unwrap() {
            let cells = lines.cells(&row);
            records.push((0..cells.len()).map(|cell| cells.text(cell).unwrap().map(str::to_owned)).collect());
        }
        records
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn quotes_ends_of_lines_and_empty_texts_are_what_they_are() {
        assert_eq!(
            records("a,\"b \"\"c\"\"\n,d\",\r\n\"\",,007\n5\" pipe,x\r\n"),
            [vec![some("a"), some("b \"c\"\n,d"), None], vec![some(""), None, some("007")], vec![some("5\" pipe"), some("x")],]
        );
        assert_eq!(records("a,b"), [vec![some("a"), some("b")]], "the last line needs no end");
        assert_eq!(records("a,\n"), [vec![some("a"), None]]);
        assert_eq!(records("\n\n"), [vec![None], vec![None]]);
        assert_eq!(records("\"a\r\"\r\n\"b\r\"\n"), [vec![some("a\r")], vec![some("b\r")]]);
        assert!(records("").is_empty());
    }

    /// A record's cells, and the line that comes after it.
    type Record = (Vec<Option<Vec<u8>>>, u64);

    /// Every record of a text with its number of lines, or the error that ends it; found in the buffer or woven piece by piece.
    fn outcome(text: &[u8], is_woven: bool) -> Vec<Result<Record, String>> {
        let (mut lines, mut row, mut records) = (Lines::new(Box::new(Cursor::new(text.to_vec()))), Row::default(), Vec::new());
        loop {
            let next = match is_woven {
                true if lines.waiting().unwrap().is_empty() => Ok(false),
                true => lines.weave_record(&mut row, b',', b'"'),
                false => lines.next_record(&mut row, b',', b'"'),
            };
            match next {
                Ok(false) => return records,
                Ok(true) => {
                    let cells = lines.cells(&row);
                    records.push(Ok(((0..cells.len()).map(|cell| cells.raw(cell).map(<[u8]>::to_vec)).collect(), lines.line())));
                }
                Err(error) => {
                    records.push(Err(error.to_string()));
                    return records;
                }
            }
        }
    }

    #[test]
    fn a_record_is_the_same_wherever_its_text_lies() {
        // Every text of these letters up to seven, and some longer ones.
        let letters = b"a,\"\n\r";
        for length in 0..=7u32 {
            for number in 0..5usize.pow(length) {
                let text: Vec<u8> = (0..length).map(|place| letters[number / 5usize.pow(place) % 5]).collect();
                assert_eq!(outcome(&text, false), outcome(&text, true), "{}", String::from_utf8_lossy(&text));
            }
        }
        let mut seed = 7u64;
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..40)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    letters[(seed >> 33) as usize % 5]
                })
                .collect();
            assert_eq!(outcome(&text, false), outcome(&text, true), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn records_across_the_borders_of_the_buffer_are_whole() {
        let line = |id: usize| format!("{id},\"{}\",{}\r\n", "x\n".repeat(id % 50), "y".repeat(id % 300));
        let text: String = (0..20_000).map(line).collect();
        assert!(text.len() > 4 * BUFFER);
        assert_eq!(outcome(text.as_bytes(), false), outcome(text.as_bytes(), true));
        let long = format!("a,{}\nb,\"{}\"\nc\n", "z".repeat(3 * BUFFER), "q\n".repeat(BUFFER));
        assert_eq!(outcome(long.as_bytes(), false), outcome(long.as_bytes(), true));
    }

    #[test]
    fn an_open_quote_is_told_with_its_line() {
        let (mut lines, mut row) = (Lines::new(Box::new(Cursor::new(b"a\nb,\"c\nd\n".to_vec()))), Row::default());
        assert!(lines.next_record(&mut row, b',', b'"').unwrap());
        let error = lines.next_record(&mut row, b',', b'"').unwrap_err();
        assert_eq!(error.to_string(), "the quote that is opened in line 2 is never closed");
    }

    #[test]
    fn the_delimiter_is_the_one_that_all_lines_agree_on() {
        for (text, expected) in [
            ("a,b\n1,2\n", b','),
            ("mã;tên, họ;phí\n1;An, Lê;2,5\n2;Bình;3,0\n", b';'),
            ("a\tb c, d\n1\t2\n", b'\t'),
            ("a|b|c\n", b'|'),
            ("a|b|c", b'|'),
            ("\"a,b\";c\n\"1,2,3\";4\n", b';'),
            ("one\n1\n", b','),
        ] {
            assert_eq!(char::from(delimiter(text.as_bytes(), b'"', 1)), char::from(expected), "{text}");
        }
        assert_eq!(delimiter(b"Bao cao, quy, 1\na;b\n1;2\n", b'"', 2), b';');
    }
}
