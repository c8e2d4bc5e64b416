//! Reads a configuration folder and holds it together: files, types, names that refer to each other.
//!
//! No fault hides another: what is wrong with a file is noted, and what is right of it is looked at further. Nor does a
//! fault bring others along: what hangs on something that could not be read is not judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hub_engine::spec::{Desired, SystemSpec};
use hub_model::SystemName;
use hub_sdk::Kind;
use serde_json::Value;

use super::canonical::Canonical;
use super::schema::Reading;
use super::yaml::{Document, Node, Place};
use super::{Fault, HubFile, hub_file, schema, secrets, streams};

/// A configuration folder that was read; faults are kept beside what could be read.
#[derive(Debug)]
pub(crate) struct Folder {
    /// `hub.yaml`, where it is right.
    pub(crate) hub: Option<HubFile>,
    /// The systems whose files can be used, but for mappings that may have faults.
    pub(crate) systems: Vec<LoadedSystem>,
    /// All faults, in the order of the files.
    pub(crate) faults: Vec<Fault>,
}

/// One system with its file.
#[derive(Debug)]
pub(crate) struct LoadedSystem {
    /// All that a node needs to run it.
    pub(crate) desired: Desired,
    /// Its file, for places.
    pub(crate) document: Document,
    /// What is wrong with its mappings; these are among the folder's faults too.
    pub(crate) faults: Vec<Fault>,
}

impl Folder {
    /// Reads `directory`, which must have a system; nothing is connected to.
    pub(crate) fn read(directory: &Path, kinds: &[Kind]) -> Self {
        let mut folder = Self::read_any(directory, kinds);
        if folder.systems.is_empty() && folder.faults.is_empty() {
            let message = "the folder has no systems/*.yaml; `hub discover` drafts one";
            folder.faults.push(Fault::new(Place { file: directory.join("systems"), line: 0, column: 0 }, message));
        }
        folder
    }

    /// Reads `directory`, even if it has no system (any more).
    pub(crate) fn read_any(directory: &Path, kinds: &[Kind]) -> Self {
        let mut faults = Vec::new();
        let hub = hub_file::read(directory, &mut faults);
        let canonical = hub.schemas.map(|folder| Canonical::read(&folder, &mut faults));
        let mut reader = Reader { directory, kinds, canonical, seen: BTreeMap::new() };
        let mut systems = Vec::new();
        for file in listed(&directory.join("systems"), &["yaml", "yml"]) {
            let before = faults.len();
            systems.extend(reader.system(&file, &mut faults));
            faults[before..].sort_by(|left, right| left.place.cmp(&right.place));
        }
        Self { hub: hub.file, systems, faults }
    }
}

/// Reads a YAML file as far as it is YAML.
pub(super) fn read_document(file: &Path, faults: &mut Vec<Fault>) -> Option<Document> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            faults.push(Fault::new(whole(file), format!("cannot be read: {error}")));
            return None;
        }
    };
    match Document::parse(file, &text) {
        Ok(document) => Some(document),
        Err((place, message)) => {
            faults.push(Fault::new(place, message));
            None
        }
    }
}

/// What a file holds of a type: the tree of what is right, and what is not.
pub(super) fn read_as<T: schemars::JsonSchema>(document: &Document) -> (Reading, Value) {
    let schema = serde_json::to_value(schemars::schema_for!(T)).unwrap_or(Value::Bool(true));
    (schema::read(document, &document.root, &schema), schema)
}

struct Reader<'a> {
    directory: &'a Path,
    kinds: &'a [Kind],
    /// `None` where it is not known which folder it is.
    canonical: Option<Canonical>,
    seen: BTreeMap<String, PathBuf>,
}

impl Reader<'_> {
    fn system(&mut self, file: &Path, faults: &mut Vec<Fault>) -> Option<LoadedSystem> {
        let document = read_document(file, faults)?;
        let (mut reading, _) = read_as::<SystemSpec>(&document);
        let mut found = std::mem::take(&mut reading.faults);
        let sound = reading.sound.clone().map(|root| document.with_root(root));
        let mut mapping = Vec::new();
        if let Some(sound) = &sound {
            self.name(sound, &mut found);
            self.connector(sound, &reading, &mut found);
            let name = sound.root.child("system").and_then(Node::text).unwrap_or_default();
            mapping = streams::check(sound, &reading, name, self.canonical.as_ref());
        }
        let is_usable = found.is_empty();
        faults.extend(found);
        faults.extend(mapping.iter().cloned());
        if !is_usable {
            return None;
        }
        match serde_json::from_value::<SystemSpec>(document.root.value()) {
            Ok(spec) => Some(LoadedSystem { desired: self.desired(spec, &document), document, faults: mapping }),
            Err(error) => {
                faults.push(Fault::new(whole(file), error.to_string()));
                None
            }
        }
    }

    fn desired(&self, spec: SystemSpec, document: &Document) -> Desired {
        let wanted = |entity: &String| spec.streams.iter().any(|stream| stream.entity == *entity);
        let (schemas, codes) = match &self.canonical {
            Some(canonical) => (
                canonical
                    .schemas
                    .iter()
                    .filter(|(entity, _)| wanted(entity))
                    .map(|(entity, text)| (entity.clone(), text.clone()))
                    .collect(),
                canonical.codes.clone(),
            ),
            None => Default::default(),
        };
        let file = document.file.strip_prefix(self.directory).unwrap_or(&document.file).display().to_string();
        Desired {
            schemas,
            codes,
            directory: self.directory.canonicalize().unwrap_or_else(|_| self.directory.to_owned()).display().to_string(),
            places: Some(streams::places(document, file)),
            paused: false,
            removed: false,
            spec,
        }
    }

    fn name(&mut self, document: &Document, faults: &mut Vec<Fault>) {
        let Some((node, name)) = document.root.child("system").and_then(|node| Some((node, node.text()?))) else { return };
        if let Err(error) = SystemName::new(name) {
            faults.push(Fault::new(document.place(node), error.to_string()));
        }
        if let Some(other) = self.seen.insert(name.to_owned(), document.file.clone()) {
            let message = format!("system {name} is also defined in {}", other.display());
            let suggestion = Some("give one of them another name".to_owned());
            faults.push(Fault { place: document.place(node), message, suggestion });
        }
    }

    fn connector(&self, document: &Document, whole: &Reading, faults: &mut Vec<Fault>) {
        let config = document.root.child("config");
        let connector = document.root.child("connector").and_then(|node| Some((node, node.text()?)));
        let kind = connector.and_then(|(node, name)| {
            let kind = self.kinds.iter().find(|kind| kind.name == name);
            if kind.is_none() {
                let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name).collect();
                let message = format!("there is no connector `{name}`");
                faults.push(Fault { place: document.place(node), message, suggestion: Some(schema::suggest(name, &names)) });
            }
            kind
        });
        let Some(config) = config else {
            if !whole.lacks("/config") {
                let message = "missing key `config`: the connector's settings";
                let suggestion = kind.map(|kind| format!("`hub connectors describe {}` shows them", kind.name));
                faults.push(Fault { place: document.locate(""), message: message.to_owned(), suggestion });
            }
            return;
        };
        let Some(kind) = kind else {
            // Which settings there are is not known, but a secret that is missing is missing.
            let (_, missing) = secrets::resolve(&config.value(), self.directory);
            return faults.extend(missing.iter().map(|one| missing_secret(document, "/config", one)));
        };
        let schema = kind.config_schema();
        let mut reading = schema::read(document, config, &schema);
        faults.append(&mut reading.faults);
        let Some(sound) = reading.sound.clone() else { return };
        let value = sound.value();
        let section = document.with_root(sound);
        faults.extend(secrets::in_plain_sight(&value, &schema).into_iter().map(|pointer| plain_secret(section.locate(&pointer))));
        let (value, missing) = secrets::resolve(&value, self.directory);
        faults.extend(missing.iter().map(|one| missing_secret(&section, "", one)));
        let is_whole = reading.gaps.is_empty() && missing.is_empty();
        for fault in kind.check(&schema::filled(value, &schema)) {
            let follows = missing.iter().any(|one| one.pointer == fault.pointer) || reading.may_explain(&fault.pointer, "");
            // Without a pointer it is the whole that cannot be read, and why was told.
            if is_whole || !(follows || fault.pointer.is_empty()) {
                let name = fault.pointer.trim_start_matches('/').replace('/', ".");
                let message = if name.is_empty() { fault.message } else { format!("`{name}` {}", fault.message) };
                faults.push(Fault::new(section.locate(&fault.pointer), message));
            }
        }
    }
}

/// The fault of a secret that cannot be read.
pub(super) fn missing_secret(document: &Document, section: &str, missing: &secrets::Missing) -> Fault {
    let place = document.locate(&format!("{section}{}", missing.pointer));
    Fault { place, message: missing.to_string(), suggestion: Some(missing.remedy()) }
}

/// The fault of a secret that stands in a file itself: git and Kafka would hold it.
pub(super) fn plain_secret(place: Place) -> Fault {
    Fault {
        place,
        message: "a secret stands here in plain sight".to_owned(),
        suggestion: Some("put it into a file or the environment and write ${file:path} or ${env:NAME}".to_owned()),
    }
}

/// The beginning of a file.
pub(super) fn whole(file: &Path) -> Place {
    Place { file: file.to_owned(), line: 1, column: 1 }
}

/// The name of a file or folder without its extension.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Files of a folder with one of the extensions, sorted; none where the folder is missing.
pub(super) fn listed(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let fits =
        |path: &PathBuf| path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| extensions.contains(&extension));
    entries(folder).into_iter().filter(|path| path.is_file()).filter(fits).collect()
}

/// Folders of a folder, sorted.
pub(super) fn listed_folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_dir()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
