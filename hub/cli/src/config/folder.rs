//! Reads a configuration folder and holds it together: files, types, names that refer to each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hub_engine::spec::{Desired, SystemSpec};
use hub_model::SystemName;
use hub_sdk::Kind;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::yaml::{Document, Place};
use super::{Fault, HubFile, schema, secrets};

/// A configuration folder that was read; faults are kept beside what could be read.
#[derive(Debug)]
pub(crate) struct Folder {
    /// `hub.yaml`, where it is right.
    pub(crate) hub: Option<HubFile>,
    /// The systems that are right.
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
}

struct Canonical {
    schemas: BTreeMap<String, String>,
    codes: BTreeMap<String, String>,
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
        let hub_path = directory.join("hub.yaml");
        let hub = read_hub(&hub_path, directory, &mut faults);
        let schemas = directory.join(hub.as_ref().map_or("schemas", |hub| hub.schemas.as_str()));
        let canonical = read_canonical(&schemas, &hub_path, &mut faults);
        let mut systems = Vec::new();
        let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
        for file in listed(&directory.join("systems"), &["yaml", "yml"]) {
            let Some(loaded) = read_system(&file, directory, kinds, &canonical, &mut faults) else { continue };
            let name = loaded.desired.spec.system.clone();
            if let Some(other) = seen.insert(name.clone(), file.clone()) {
                let message = format!("system {name} is also defined in {}", other.display());
                faults.push(Fault::new(loaded.document.locate("/system"), message));
            }
            systems.push(loaded);
        }
        Self { hub, systems, faults }
    }
}

fn whole(file: &Path) -> Place {
    Place { file: file.to_owned(), line: 1, column: 1 }
}

fn read_document(file: &Path, faults: &mut Vec<Fault>) -> Option<Document> {
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

/// Checks a document against the schema of `T`, then makes a `T` of it.
fn typed<T: DeserializeOwned + schemars::JsonSchema>(document: &Document, value: &Value, faults: &mut Vec<Fault>) -> Option<T> {
    let schema = serde_json::to_value(schemars::schema_for!(T)).unwrap_or(Value::Bool(true));
    let found = schema::faults(document, &document.root, &schema, &schema);
    if !found.is_empty() {
        faults.extend(found);
        return None;
    }
    match serde_json::from_value(value.clone()) {
        Ok(typed) => Some(typed),
        Err(error) => {
            faults.push(Fault::new(whole(&document.file), error.to_string()));
            None
        }
    }
}

fn read_hub(file: &Path, directory: &Path, faults: &mut Vec<Fault>) -> Option<HubFile> {
    let document = read_document(file, faults)?;
    let value = match secrets::resolve(&document.root.value(), directory) {
        Ok(value) => value,
        Err(missing) => {
            faults.extend(missing.iter().map(|one| Fault::new(document.locate(&one.pointer), one.to_string())));
            return None;
        }
    };
    typed(&document, &value, faults)
}

fn read_system(file: &Path, directory: &Path, kinds: &[Kind], canonical: &Canonical, faults: &mut Vec<Fault>) -> Option<LoadedSystem> {
    let document = read_document(file, faults)?;
    let spec: SystemSpec = typed(&document, &document.root.value(), faults)?;
    let before = faults.len();
    if let Err(error) = SystemName::new(&spec.system) {
        faults.push(Fault::new(document.locate("/system"), error.to_string()));
    }
    check_connector(&document, &spec, directory, kinds, faults);
    check_streams(&document, &spec, canonical, faults);
    if faults.len() > before {
        return None;
    }
    let wanted = |entity: &String| spec.streams.iter().any(|stream| stream.entity == *entity);
    let schemas = canonical.schemas.iter().filter(|(entity, _)| wanted(entity)).map(|(entity, text)| (entity.clone(), text.clone()));
    let desired = Desired {
        schemas: schemas.collect(),
        codes: canonical.codes.clone(),
        directory: directory.canonicalize().unwrap_or_else(|_| directory.to_owned()).display().to_string(),
        paused: false,
        removed: false,
        spec,
    };
    Some(LoadedSystem { desired, document })
}

fn check_connector(document: &Document, spec: &SystemSpec, directory: &Path, kinds: &[Kind], faults: &mut Vec<Fault>) {
    let Some(kind) = kinds.iter().find(|kind| kind.name == spec.connector) else {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        faults.push(Fault {
            place: document.locate("/connector"),
            message: format!("there is no connector `{}`", spec.connector),
            suggestion: Some(schema::suggest(&spec.connector, &names)),
        });
        return;
    };
    let config_schema = kind.config_schema();
    let found = match document.root.child("config") {
        Some(node) => schema::faults(document, node, &config_schema, &config_schema),
        None => vec![Fault::new(document.locate(""), "missing key `config`: the connector's settings")],
    };
    if !found.is_empty() {
        return faults.extend(found);
    }
    match secrets::resolve(&spec.config, directory) {
        Ok(config) => faults.extend(
            kind.check(&config).into_iter().map(|fault| Fault::new(document.locate(&format!("/config{}", fault.pointer)), fault.message)),
        ),
        Err(missing) => {
            faults.extend(missing.iter().map(|one| Fault::new(document.locate(&format!("/config{}", one.pointer)), one.to_string())))
        }
    }
}

fn check_streams(document: &Document, spec: &SystemSpec, canonical: &Canonical, faults: &mut Vec<Fault>) {
    let entities: Vec<&str> = canonical.schemas.keys().map(String::as_str).collect();
    let mut seen = BTreeMap::new();
    for (at, stream) in spec.streams.iter().enumerate() {
        if !canonical.schemas.contains_key(&stream.entity) {
            faults.push(Fault {
                place: document.locate(&format!("/streams/{at}/entity")),
                message: format!("there is no canonical entity `{}`", stream.entity),
                suggestion: Some(schema::suggest(&stream.entity, &entities)),
            });
        }
        if stream.key.is_empty() {
            let message = "a stream needs a key: the canonical fields by which its records are told apart";
            faults.push(Fault::new(document.locate(&format!("/streams/{at}/key")), message));
        }
        for key in stream.key.iter().filter(|key| !stream.map.contains_key(*key)) {
            let place = document.locate(&format!("/streams/{at}/key"));
            faults.push(Fault::new(place, format!("key field `{key}` is not in `map`")));
        }
        if let Some(other) = seen.insert(stream.source.as_str(), at) {
            let place = document.locate(&format!("/streams/{at}/source"));
            faults.push(Fault::new(place, format!("`{}` is captured by stream {} already", stream.source, other + 1)));
        }
    }
}

fn read_canonical(folder: &Path, hub_file: &Path, faults: &mut Vec<Fault>) -> Canonical {
    let mut canonical = Canonical { schemas: BTreeMap::new(), codes: BTreeMap::new() };
    if !folder.is_dir() {
        faults.push(Fault::new(whole(hub_file), format!("the schemas folder {} does not exist", folder.display())));
        return canonical;
    }
    let mut take = |file: &Path, into: &mut BTreeMap<String, String>, name: String| match std::fs::read_to_string(file) {
        Ok(text) => {
            into.insert(name, text);
        }
        Err(error) => faults.push(Fault::new(whole(file), format!("cannot be read: {error}"))),
    };
    for domain in listed_folders(folder) {
        let domain_name = stem(&domain);
        for file in listed(&domain, &["avsc"]) {
            take(&file, &mut canonical.schemas, format!("{domain_name}.{}", stem(&file)));
        }
    }
    for file in listed(&folder.join("codes"), &["csv"]) {
        take(&file, &mut canonical.codes, stem(&file));
    }
    for (entity, text) in &canonical.schemas {
        if let Err(error) = hub_transform::CanonicalSchema::parse(text) {
            let (domain, name) = entity.split_once('.').unwrap_or(("", entity));
            faults.push(Fault::new(whole(&folder.join(domain).join(format!("{name}.avsc"))), error.to_string()));
        }
    }
    canonical
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Files of a folder with one of the extensions, sorted; none where the folder is missing.
fn listed(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let fits =
        |path: &PathBuf| path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| extensions.contains(&extension));
    entries(folder).into_iter().filter(|path| path.is_file()).filter(fits).collect()
}

fn listed_folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_dir()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
