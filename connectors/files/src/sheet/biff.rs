//! Looks through an XLS before its library does, which takes as much memory as the file says that its sheets need: a damaged byte
//! there would end the whole hub.

/// Rows and columns that the format can hold.
const ROWS: u64 = 65_536;
const COLUMNS: u64 = 256;
/// The first number that is no sector.
const NO_SECTOR: u32 = 0xffff_fffa;

/// Cells that the sheets of a workbook span together, empty ones between the filled among them; `None` where it is damaged.
pub(super) fn spanned(file: &[u8]) -> Option<u64> {
    let stream = workbook(file)?;
    let mut total = 0u64;
    for start in sheets(&stream)? {
        total = total.checked_add(sheet(&stream, start)?)?;
    }
    Some(total)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The sectors of a container of OLE, and which follows which.
struct Container<'a> {
    file: &'a [u8],
    size: usize,
    next: Vec<u32>,
}

impl<'a> Container<'a> {
    fn open(file: &'a [u8]) -> Option<Self> {
        let size = match u16_at(file, 30)? {
            9 => 512,
            12 => 4_096,
            _ => return None,
        };
        let mut container = Self { file, size, next: Vec::new() };
        let mut tables: Vec<u32> = numbers(file.get(76..512)?).collect();
        let (mut more, mut left) = (u32_at(file, 68)?, file.len() / size + 1);
        while more < NO_SECTOR {
            left = left.checked_sub(1)?;
            tables.extend(numbers(container.sector(more)?));
            more = tables.pop()?;
        }
        for table in tables.into_iter().filter(|table| *table < NO_SECTOR) {
            let numbers: Vec<u32> = numbers(container.sector(table)?).collect();
            container.next.extend(numbers);
        }
        Some(container)
    }

    /// A sector; the last one of a file may be short.
    fn sector(&self, number: u32) -> Option<&'a [u8]> {
        let start = (number as usize).checked_add(1)?.checked_mul(self.size)?;
        let end = start.checked_add(self.size)?.min(self.file.len());
        self.file.get(start..end)
    }

    fn chain(&self, mut number: u32) -> Option<Vec<u8>> {
        let (mut bytes, mut left) = (Vec::new(), self.next.len() + 1);
        while number < NO_SECTOR {
            left = left.checked_sub(1)?;
            bytes.extend_from_slice(self.sector(number)?);
            number = *self.next.get(number as usize)?;
        }
        Some(bytes)
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).filter_map(|four| u32_at(four, 0))
}

/// The stream of the workbook in its container.
fn workbook(file: &[u8]) -> Option<Vec<u8>> {
    let container = Container::open(file)?;
    let directory = container.chain(u32_at(file, 48)?)?;
    let entries: Vec<&[u8]> = directory.chunks_exact(128).collect();
    let named = |wanted: &str| {
        entries.iter().find(|entry| {
            let letters = entry.chunks_exact(2).take(32).map(|two| u16::from_le_bytes([two[0], two[1]])).take_while(|letter| *letter != 0);
            let name: String = char::decode_utf16(letters).map(|letter| letter.unwrap_or('?')).collect();
            name.eq_ignore_ascii_case(wanted)
        })
    };
    let entry = named("Workbook").or_else(|| named("Book"))?;
    let (start, size) = (u32_at(entry, 116)?, u32_at(entry, 120)? as usize);
    let mut stream = Vec::new();
    if size >= 4_096 {
        stream = container.chain(start)?;
    } else {
        let (small, next) = (container.chain(u32_at(entries.first()?, 116)?)?, container.chain(u32_at(file, 60)?)?);
        let next: Vec<u32> = numbers(&next).collect();
        let (mut number, mut left) = (start, next.len() + 1);
        while number < NO_SECTOR {
            left = left.checked_sub(1)?;
            let at = (number as usize).checked_mul(64)?;
            stream.extend_from_slice(small.get(at..at.checked_add(64)?.min(small.len()))?);
            number = *next.get(number as usize)?;
        }
    }
    stream.truncate(size);
    Some(stream)
}

/// One record after the other from a place on: type and content.
fn records(stream: &[u8], start: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut at = start;
    std::iter::from_fn(move || {
        let (kind, length) = (u16_at(stream, at)?, usize::from(u16_at(stream, at + 2)?));
        let content = stream.get(at + 4..at + 4 + length)?;
        at += 4 + length;
        Some((kind, content))
    })
}

/// Where the sheets begin.
fn sheets(stream: &[u8]) -> Option<Vec<usize>> {
    let globals = records(stream, 0).take_while(|(kind, _)| *kind != 0x000a);
    globals.filter(|(kind, _)| *kind == 0x0085).map(|(_, content)| Some(u32_at(content, 0)? as usize)).collect()
}

/// Cells that one sheet spans, by what it says of itself or by those that it has, whichever are more.
fn sheet(stream: &[u8], start: usize) -> Option<u64> {
    let (mut depth, mut is_begun) = (0usize, false);
    let (mut top, mut bottom, mut left, mut right) = (u64::MAX, 0, u64::MAX, 0);
    let mut said = 0;
    for (kind, content) in records(stream, start) {
        match kind {
            0x0809 if !is_begun => is_begun = true,
            0x0809 => depth += 1,
            0x000a if depth == 0 => break,
            0x000a => depth -= 1,
            _ if depth > 0 => {}
            0x0200 => said = said.max(dimensions(content)?),
            // Cells with values: numbers, texts, errors, formulas, and several of them in a row.
            0x0006 | 0x00bd | 0x00d6 | 0x00fd | 0x0203 | 0x0204 | 0x0205 | 0x027e => {
                let (row, column) = (u64::from(u16_at(content, 0)?), u64::from(u16_at(content, 2)?));
                let last = if kind == 0x00bd { u64::from(u16_at(content, content.len().checked_sub(2)?)?) } else { column };
                if column.max(last) >= COLUMNS {
                    return None;
                }
                (top, bottom) = (top.min(row), bottom.max(row));
                (left, right) = (left.min(column), right.max(last));
            }
            _ => {}
        }
    }
    let had = if top == u64::MAX { 0 } else { (bottom - top + 1) * (right + 1).saturating_sub(left) };
    Some(said.max(had))
}

fn dimensions(content: &[u8]) -> Option<u64> {
    let (first, end, left, right) = match content.len() {
        10 => (u16_at(content, 0)?.into(), u16_at(content, 2)?.into(), u16_at(content, 4)?, u16_at(content, 6)?),
        14 | 16 => (u32_at(content, 0)?, u32_at(content, 4)?, u16_at(content, 8)?, u16_at(content, 10)?),
        _ => return None,
    };
    let (rows, columns) = (u64::from(end), u64::from(right));
    let is_sane = rows <= ROWS && columns <= COLUMNS && first <= end && left <= right;
    is_sane.then_some(rows * columns)
}
