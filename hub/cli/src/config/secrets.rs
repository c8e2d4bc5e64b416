//! Secret references in configuration values: `${env:NAME}` and `${file:path}`, resolved at the last moment.

use std::fmt;
use std::path::Path;

use serde_json::Value;

/// A reference that cannot be resolved. Names the reference, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// JSON pointer of the value that holds it.
    pub(crate) pointer: String,
    /// The reference as written.
    pub(crate) reference: String,
    /// Why it cannot be resolved.
    pub(crate) why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {} cannot be read: {}", self.reference, self.why)
    }
}

/// The value with every reference replaced; relative files start at `directory`.
///
/// # Errors
/// Every reference that cannot be resolved.
pub(crate) fn resolve(value: &Value, directory: &Path) -> Result<Value, Vec<Missing>> {
    let mut missing = Vec::new();
    let resolved = walk(value, directory, "", &mut missing);
    if missing.is_empty() { Ok(resolved) } else { Err(missing) }
}

/// The same as a node wants it: all that is missing in one text.
///
/// # Errors
/// Every reference that cannot be resolved.
pub(crate) fn resolve_all(value: &Value, directory: &Path) -> Result<Value, String> {
    resolve(value, directory).map_err(|missing| missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn walk(value: &Value, directory: &Path, pointer: &str, missing: &mut Vec<Missing>) -> Value {
    match value {
        Value::String(text) => match expand(text, directory) {
            Ok(expanded) => Value::String(expanded),
            Err((reference, why)) => {
                missing.push(Missing { pointer: pointer.to_owned(), reference, why });
                Value::Null
            }
        },
        Value::Array(items) => {
            Value::Array(items.iter().enumerate().map(|(at, item)| walk(item, directory, &format!("{pointer}/{at}"), missing)).collect())
        }
        Value::Object(entries) => Value::Object(
            entries.iter().map(|(key, item)| (key.clone(), walk(item, directory, &format!("{pointer}/{key}"), missing))).collect(),
        ),
        other => other.clone(),
    }
}

fn expand(text: &str, directory: &Path) -> Result<String, (String, String)> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        expanded.push_str(&rest[..start]);
        let Some(end) = rest[start..].find('}').map(|at| start + at) else { break };
        let reference = &rest[start..=end];
        let fail = |why: String| (reference.to_owned(), why);
        match rest[start + 2..end].split_once(':') {
            Some(("env", name)) => {
                let value = std::env::var(name).map_err(|_| fail(format!("the environment has no variable {name}")))?;
                expanded.push_str(&value);
            }
            Some(("file", path)) => {
                let path = directory.join(path);
                let value = std::fs::read_to_string(&path).map_err(|error| fail(format!("{}: {error}", path.display())))?;
                expanded.push_str(value.trim_end_matches(['\r', '\n']));
            }
            _ => return Err(fail("only ${env:NAME} and ${file:path} are known".to_owned())),
        }
        rest = &rest[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_reference_becomes_its_content_without_the_line_end() {
        let directory = std::env::temp_dir().join(format!("hub-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("pw"), "s3cret\n").unwrap();
        let resolved = resolve(&json!({"a": ["${file:pw}", 1]}), &directory).unwrap();
        assert_eq!(resolved, json!({"a": ["s3cret", 1]}));
    }

    #[test]
    fn every_missing_reference_is_named_with_its_pointer() {
        let missing = resolve(&json!({"a": "${file:nope}", "b": {"c": "${env:HUB_NO_SUCH}"}, "d": "${x}"}), Path::new("/tmp")).unwrap_err();
        let found: Vec<_> = missing.iter().map(|m| (m.pointer.as_str(), m.reference.as_str())).collect();
        assert_eq!(found, [("/a", "${file:nope}"), ("/b/c", "${env:HUB_NO_SUCH}"), ("/d", "${x}")]);
    }
}
