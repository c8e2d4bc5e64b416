//! A mapping as an engineer wrote it: one SQL expression per canonical field, each with its place in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where a text stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file, as it was given.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One SQL expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sql {
    /// The expression.
    pub text: String,
    /// Where its first character stands, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl From<&str> for Sql {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), place: None }
    }
}

/// How one stream becomes one canonical entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingSpec {
    /// The canonical entity, `public-admin.Dossier`.
    pub entity: String,
    /// Which rows are wanted; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Sql>,
    /// The canonical fields that identify a record.
    pub key: Vec<String>,
    /// An expression per canonical field.
    pub fields: Vec<(String, Sql)>,
    /// For a code list, the column that holds this system's codes, where it is not named after the system.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, String>,
    /// Where the key stands, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_place: Option<Place>,
    /// Where the expressions as a whole begin, where that is known: a field that lacks one has no place of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields_place: Option<Place>,
}
