//! Reads the canonical schemas and the code lists of a folder, and tells what is wrong with them in its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hub_transform::{CanonicalSchema, CodeLists};

use super::Fault;
use super::folder::{listed, listed_folders, stem, whole};
use super::yaml::Place;

/// What mappings fill, and what they look up.
pub(super) struct Canonical {
    /// Each entity's file by its name, `public-admin.Dossier`.
    pub(super) schemas: BTreeMap<String, String>,
    /// Each code list's file by its name.
    pub(super) codes: BTreeMap<String, String>,
    /// The entities that can be used.
    pub(super) entities: BTreeMap<String, CanonicalSchema>,
    /// The code lists; those that cannot be used are set aside.
    pub(super) lists: CodeLists,
}

impl Canonical {
    /// Reads a folder that exists.
    pub(super) fn read(folder: &Path, faults: &mut Vec<Fault>) -> Self {
        let mut canonical =
            Self { schemas: BTreeMap::new(), codes: BTreeMap::new(), entities: BTreeMap::new(), lists: CodeLists::default() };
        for domain in listed_folders(folder) {
            for file in listed(&domain, &["avsc"]) {
                canonical.entity(&file, format!("{}.{}", stem(&domain), stem(&file)), faults);
            }
        }
        for file in listed(&folder.join("codes"), &["csv"]) {
            canonical.code_list(&file, stem(&file), faults);
        }
        canonical
    }

    fn entity(&mut self, file: &Path, name: String, faults: &mut Vec<Fault>) {
        // Even a file that cannot be read is there: a stream that names it is not to blame.
        let text = text(file, faults).unwrap_or_default();
        match CanonicalSchema::parse(&text) {
            Ok(entity) => {
                self.entities.insert(name.clone(), entity);
            }
            Err(_) if text.is_empty() => {}
            Err(error) => {
                faults.extend(error.faults.iter().map(|fault| Fault::new(place_in(file, &text, &fault.place), fault.to_string())))
            }
        }
        self.schemas.insert(name, text);
    }

    fn code_list(&mut self, file: &Path, name: String, faults: &mut Vec<Fault>) {
        let read = text(file, faults);
        let added = read.as_deref().map(|text| self.lists.add(&name, text, &format!("codes/{name}.csv")));
        if !matches!(added, Some(Ok(()))) {
            self.lists.set_aside(&name);
        }
        for fault in added.and_then(Result::err).into_iter().flatten() {
            let place = Place { file: file.to_owned(), line: fault.line as u64, column: 1 };
            faults.push(Fault::new(place, format!("code list {name}: {}", fault.problem)));
        }
        self.codes.insert(name, read.unwrap_or_default());
    }
}

fn text(file: &Path, faults: &mut Vec<Fault>) -> Option<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Some(text),
        Err(error) => {
            faults.push(Fault::new(whole(file), format!("cannot be read: {error}")));
            None
        }
    }
}

/// Where a schema's fault is: at the parser's place, at the field's name, or at the file's beginning.
fn place_in(file: &Path, text: &str, part: &str) -> Place {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        return Place { file: file.to_owned(), line: error.line() as u64, column: error.column() as u64 };
    }
    let name = part.strip_prefix("field ").map(|name| name.split(['.', ' ']).next().unwrap_or(name).trim_matches('"'));
    let found = name.and_then(|name| {
        let quoted = format!("\"{name}\"");
        text.match_indices(&quoted)
            .map(|(at, _)| at)
            .find(|at| text[..*at].trim_end().trim_end_matches(':').trim_end().ends_with("\"name\""))
    });
    let Some(at) = found else { return whole(file) };
    let before = &text[..at];
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
    Place { file: PathBuf::from(file), line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schemas_fault_is_told_at_its_field_or_where_the_text_is_no_json() {
        let text = "{\"name\":\"R\",\n \"fields\":[\n  {\"name\": \"fee\"}]}";
        assert_eq!(place_in(Path::new("a.avsc"), text, "field \"fee\"").to_string(), "a.avsc:3:12");
        assert_eq!(place_in(Path::new("a.avsc"), text, "record").to_string(), "a.avsc:1:1");
        assert_eq!(place_in(Path::new("a.avsc"), "{\n \"a\":}", "record").to_string(), "a.avsc:2:6");
    }
}
