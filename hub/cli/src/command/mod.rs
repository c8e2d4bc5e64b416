//! The commands, one file each.

pub(crate) mod check;
pub(crate) mod config_schema;
pub(crate) mod connectors;
pub(crate) mod discover;
pub(crate) mod functions;
pub(crate) mod preview;
pub(crate) mod rejects;
pub(crate) mod run;
pub(crate) mod schemas;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod verify;

use std::path::Path;

use crate::config::{Folder, HubFile, LoadedSystem};
use crate::failure::Failure;

/// `hub.yaml` of a folder; the systems' faults do not matter to commands that only read Kafka.
fn hub_file(directory: &Path) -> Result<HubFile, Failure> {
    let folder = Folder::read(directory, &hub_connectors::kinds());
    folder.hub.ok_or(Failure::Config(folder.faults))
}

/// A folder's `hub.yaml` and one of its systems.
fn system_of(directory: &Path, name: &str) -> Result<(HubFile, LoadedSystem), Failure> {
    let folder = Folder::read(directory, &hub_connectors::kinds());
    let names: Vec<String> = folder.systems.iter().map(|system| system.desired.spec.system.clone()).collect();
    let found = folder.systems.into_iter().find(|system| system.desired.spec.system == name);
    match (folder.hub, found) {
        (Some(hub), Some(system)) => Ok((hub, system)),
        (_, None) if folder.faults.is_empty() => {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = crate::config::schema::suggest(name, &known);
            Err(Failure::Usage(format!("there is no system {name} in {}; {hint}", directory.display())))
        }
        _ => Err(Failure::Config(folder.faults)),
    }
}
