//! Code lists of the province and each system's own codes for them, read from CSV text.
//!
//! Header `code,title_vi,title_en,<system>…`; a system's cell may hold several local codes, separated by `|`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

/// All code lists of a configuration.
#[derive(Clone, Debug, Default)]
pub struct CodeLists {
    lists: BTreeMap<String, Arc<CodeList>>,
    set_aside: BTreeSet<String>,
    all_aside: bool,
}

/// One code list.
#[derive(Debug)]
pub struct CodeList {
    name: String,
    codes: Vec<Code>,
    tables: BTreeMap<String, Arc<CodeTable>>,
}

/// One code of a list with its titles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The canonical code.
    pub code: String,
    /// Vietnamese title.
    pub title_vi: String,
    /// English title.
    pub title_en: String,
}

/// One thing wrong with a code list's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}:{line}: code list {list}: {problem}")]
pub struct CodeListFault {
    /// File it was read from.
    pub place: String,
    /// Line of the file, from 1.
    pub line: usize,
    /// The list.
    pub list: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl CodeLists {
    /// Reads one list; `place` is the file that messages name.
    ///
    /// # Errors
    /// All faults of the text at once: header, empty or repeated codes, a local code that means two things.
    pub fn add(&mut self, name: &str, csv: &str, place: &str) -> Result<(), Vec<CodeListFault>> {
        let list = CodeList::read(name, csv, place)?;
        self.lists.insert(name.to_owned(), Arc::new(list));
        Ok(())
    }

    /// Lists of which nothing could be read: a mapping that names any of them is not to blame.
    #[must_use]
    pub fn unread() -> Self {
        Self { all_aside: true, ..Self::default() }
    }

    /// Notes a list that exists and cannot be read: a mapping that names it is not to blame.
    pub fn set_aside(&mut self, name: &str) {
        self.set_aside.insert(name.to_owned());
    }

    pub(crate) fn is_set_aside(&self, name: &str) -> bool {
        self.all_aside || self.set_aside.contains(name)
    }

    /// One list by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&CodeList> {
        self.lists.get(name).map(AsRef::as_ref)
    }

    /// The names of all lists, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lists.keys().map(String::as_str)
    }
}

impl CodeList {
    /// Its canonical codes, in the file's order.
    #[must_use]
    pub fn codes(&self) -> &[Code] {
        &self.codes
    }

    /// The systems that have a column, sorted; `code` is the canonical code itself.
    pub fn systems(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// From one system's codes to canonical ones.
    pub(crate) fn table(&self, system: &str) -> Option<&Arc<CodeTable>> {
        self.tables.get(system)
    }

    fn read(name: &str, csv: &str, place: &str) -> Result<Self, Vec<CodeListFault>> {
        let mut reader = Reader { list: name, place, faults: Vec::new() };
        let mut records = cut(csv).into_iter();
        let Some((_, header)) = records.next() else {
            reader.fault(1, "the file is empty; its first line is code,title_vi,title_en,<system>…".to_owned());
            return Err(reader.faults);
        };
        let systems = reader.header(&header);
        let mut codes: Vec<Code> = Vec::new();
        let mut locals: Vec<HashMap<Box<str>, u32, Fast>> = systems.iter().map(|_| HashMap::default()).collect();
        let mut own: HashMap<Box<str>, u32, Fast> = HashMap::default();
        for (line, cells) in records {
            if cells.len() != header.len() {
                reader.fault(line, format!("{} cells where the header has {}", cells.len(), header.len()));
                continue;
            }
            let index = u32::try_from(codes.len()).unwrap_or(u32::MAX);
            let code = tidy(&cells[0]);
            if code.is_empty() {
                reader.fault(line, "the code is empty".to_owned());
            } else if own.insert(code.as_str().into(), index).is_some() {
                reader.fault(line, format!("code {code} is here a second time"));
            }
            for (map, (system, column)) in locals.iter_mut().zip(&systems) {
                for local in cells[*column].split('|').map(tidy).filter(|local| !local.is_empty()) {
                    if let Some(earlier) = map.insert(local.as_str().into(), index).filter(|earlier| *earlier != index) {
                        let earlier = codes.get(earlier as usize).map_or("?", |code: &Code| code.code.as_str());
                        reader.fault(line, format!("local code {local} of {system} already means {earlier}"));
                    }
                }
            }
            codes.push(Code { code, title_vi: cells[1].trim().to_owned(), title_en: cells[2].trim().to_owned() });
        }
        if !reader.faults.is_empty() {
            return Err(reader.faults);
        }
        let names: Arc<[Box<str>]> = codes.iter().map(|code| code.code.as_str().into()).collect();
        let table = |system: &str, map| {
            let unknown = format!("not among the codes of list {name} for {system}; add it to {place} or have it mended at the source");
            (
                system.to_owned(),
                Arc::new(CodeTable { list: name.to_owned(), system: system.to_owned(), map, codes: Arc::clone(&names), unknown }),
            )
        };
        let mut tables: BTreeMap<_, _> = systems.iter().zip(locals).map(|((system, _), map)| table(system, map)).collect();
        tables.extend([table("code", own)]);
        Ok(Self { name: name.to_owned(), codes, tables })
    }

    /// The list's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

struct Reader<'a> {
    list: &'a str,
    place: &'a str,
    faults: Vec<CodeListFault>,
}

impl Reader<'_> {
    fn fault(&mut self, line: usize, problem: String) {
        self.faults.push(CodeListFault { place: self.place.to_owned(), line, list: self.list.to_owned(), problem });
    }

    /// The systems and their columns.
    fn header(&mut self, cells: &[String]) -> Vec<(String, usize)> {
        let names: Vec<&str> = cells.iter().map(|cell| cell.trim()).collect();
        if names.get(..3) != Some(&["code", "title_vi", "title_en"]) {
            self.fault(1, "the header must begin with code,title_vi,title_en".to_owned());
            return Vec::new();
        }
        let mut systems = Vec::new();
        for (column, name) in names.iter().enumerate().skip(3) {
            if name.is_empty() || *name == "code" || systems.iter().any(|(earlier, _)| earlier == name) {
                self.fault(1, format!("column {} has no name of its own; name it after its system", column + 1));
            } else {
                systems.push(((*name).to_owned(), column));
            }
        }
        systems
    }
}

/// From one system's local codes to canonical ones.
pub(crate) struct CodeTable {
    list: String,
    system: String,
    map: HashMap<Box<str>, u32, Fast>,
    codes: Arc<[Box<str>]>,
    unknown: String,
}

impl CodeTable {
    /// The canonical code, if the local one is known.
    #[inline]
    pub(crate) fn find(&self, local: &str) -> Option<&str> {
        let index = match self.map.get(local) {
            Some(index) => *index,
            None => *self.map.get(tidy(local).as_str())?,
        };
        self.codes.get(index as usize).map(AsRef::as_ref)
    }

    /// What to say of a local code that is not there.
    pub(crate) fn unknown(&self) -> &str {
        &self.unknown
    }

    /// Local and canonical codes in a stable order, for the version of a mapping.
    pub(crate) fn entries(&self) -> Vec<(&str, &str)> {
        let mut entries: Vec<_> =
            self.map.iter().filter_map(|(local, index)| Some((local.as_ref(), self.codes.get(*index as usize)?.as_ref()))).collect();
        entries.sort_unstable();
        entries
    }
}

impl fmt::Debug for CodeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.list, self.system)
    }
}

fn tidy(text: &str) -> String {
    text.trim().nfc().collect()
}

/// Cuts CSV text (RFC 4180) into records with their line; blank lines are left out.
fn cut(csv: &str) -> Vec<(usize, Vec<String>)> {
    let mut records = Vec::new();
    let (mut cells, mut cell) = (Vec::new(), String::new());
    let (mut quoted, mut line, mut start) = (false, 1, 1);
    let mut chars = csv.trim_start_matches('\u{feff}').chars().peekable();
    let mut close = |cells: &mut Vec<String>, cell: &mut String, start| {
        cells.push(std::mem::take(cell));
        let record = std::mem::take(cells);
        if record.iter().any(|cell| !cell.trim().is_empty()) {
            records.push((start, record));
        }
    };
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                close(&mut cells, &mut cell, start);
                start = line;
            }
            '\r' if !quoted => {}
            other => cell.push(other),
        }
    }
    if !cell.is_empty() || !cells.is_empty() {
        close(&mut cells, &mut cell, start);
    }
    records
}

/// Hashes short codes quickly (FNV-1a). Keys come from configuration, so no one can choose them to collide.
#[derive(Clone)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The hasher of small tables whose keys come from configuration.
pub(crate) type Fast = BuildHasherDefault<Fnv>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn each_system_has_its_own_codes_for_one_canonical_code() {
        let mut lists = CodeLists::default();
        let csv =
            "code,title_vi,title_en,mot-cua,dvc\nreceived,Đã tiếp nhận,Received,1|01,\"TN\"\nreturned,\"Đã trả, xong\",Returned,Đã trả,\n";
        lists.add("dossier-status", csv, "codes/dossier-status.csv").unwrap();
        let list = lists.get("dossier-status").unwrap();
        let table = list.table("mot-cua").unwrap();
        assert_eq!(table.find("1"), Some("received"));
        assert_eq!(table.find(" 01 "), Some("received"));
        assert_eq!(table.find("\u{110}a\u{303} tra\u{309}"), Some("returned"), "decomposed text");
        assert_eq!(table.find("9"), None);
        assert_eq!(list.table("dvc").unwrap().find("TN"), Some("received"));
        assert_eq!(list.table("code").unwrap().find("returned"), Some("returned"));
        assert_eq!(list.codes()[1].title_vi, "Đã trả, xong");
    }

    #[test]
    fn all_faults_of_a_list_are_told_at_once_with_their_lines() {
        let csv = "code,title_vi,title_en,a\nx,,,1\n\"x\",,,2\n,,,3\ny,,,1\nz,,\n";
        let faults = CodeLists::default().add("l", csv, "l.csv").unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!(faults[2].to_string(), "l.csv:5: code list l: local code 1 of a already means x");
    }
}
