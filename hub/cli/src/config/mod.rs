//! The configuration folder: `hub.yaml`, `systems/*.yaml`, canonical schemas and code lists, checked once.

mod canonical;
mod folder;
mod hub_file;
pub(crate) mod schema;
pub(crate) mod secrets;
pub(crate) mod streams;
pub(crate) mod yaml;

use std::fmt;

pub(crate) use folder::{Folder, LoadedSystem};
pub(crate) use hub_file::{HubFile, RegistryChoice};
use yaml::Place;

/// One fault of the configuration, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where.
    pub(crate) place: Place,
    /// What is wrong.
    pub(crate) message: String,
    /// What would be right, where that is known.
    pub(crate) suggestion: Option<String>,
}

impl Fault {
    /// A fault without a suggestion.
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), suggestion: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}
