//! Documents as rows: JSON and XML become text columns, in the document's own words.
//!
//! A source without declared types (REST, pushes, files) yields text: `2.50` stays `2.50`, `0079…` keeps its zeros, and the
//! mapping casts what it needs. A nested object's fields are named `outer_inner`; a list is JSON text.

mod json;
mod text;
mod xml;

pub use json::{json_at, json_fields, json_rows};
pub use text::{TEXT, TextRows};
pub use xml::{xml_at, xml_rows};

/// The fields of one row: name and text, `None` for null. A name appears once.
pub type Fields = Vec<(String, Option<String>)>;

/// A document that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON or XML at all.
    #[error("not well-formed {form}: {why}")]
    Malformed {
        /// `JSON` or `XML`.
        form: &'static str,
        /// What the parser says, with the place.
        why: String,
    },
    /// The rows are not where they should be.
    #[error("there is nothing at {path}: {found}")]
    NoRows {
        /// The path as configured, up to the step that failed.
        path: String,
        /// What is there instead: the names that one could have meant.
        found: String,
    },
    /// A row is no object.
    #[error("row {row} is {found}, not an object")]
    NotARow {
        /// Place of the row, from 1.
        row: usize,
        /// What it is.
        found: &'static str,
    },
}

/// The steps of a path such as `/data/items`; an empty one (or `/`) is the document itself.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|step| !step.is_empty())
}

/// A name that is not taken: the second of one name is `name_2`.
#[must_use]
pub fn unique_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut unique = name.to_owned();
    let mut count = 1;
    while is_taken(&unique) {
        count += 1;
        unique = format!("{name}_{count}");
    }
    unique
}

/// Adds a field under a name of its own.
fn add(fields: &mut Fields, name: &str, value: Option<String>) {
    let name = unique_name(name, |name| fields.iter().any(|(known, _)| known == name));
    fields.push((name, value));
}
