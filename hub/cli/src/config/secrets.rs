//! Secret references in configuration values: `${env:NAME}` and `${file:path}`, resolved at the last moment.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::command::connectors::is_secret;

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

impl Missing {
    /// What mends it.
    pub(crate) fn remedy(&self) -> String {
        match self.reference.trim_start_matches("${").split_once(':') {
            Some(("env", name)) => format!("set {} in the hub's environment, or write ${{file:path}}", name.trim_end_matches('}')),
            Some(("file", _)) => "write the secret into that file; a relative path begins at the configuration folder".to_owned(),
            _ => "write ${env:NAME} or ${file:path}".to_owned(),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {} cannot be read: {}", self.reference, self.why)
    }
}

/// What stands for a secret that cannot be read, so that the rest of a configuration can be looked at.
const UNREAD: &str = "unread";

/// The value with every reference replaced, and those that cannot be; relative files start at `directory`.
pub(crate) fn resolve(value: &Value, directory: &Path) -> (Value, Vec<Missing>) {
    let mut missing = Vec::new();
    let resolved = walk(value, directory, "", &mut missing);
    (resolved, missing)
}

/// The same as a node wants it: all that is missing in one text.
///
/// # Errors
/// Every reference that cannot be resolved.
pub(crate) fn resolve_all(value: &Value, directory: &Path) -> Result<Value, String> {
    let (resolved, missing) = resolve(value, directory);
    if missing.is_empty() {
        return Ok(resolved);
    }
    Err(missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// JSON pointers of the secrets that stand in a value in plain sight; `schema` says which values are secrets.
pub(crate) fn in_plain_sight(value: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    plain(value, schema, schema, "", &mut found);
    found
}

/// Whether a text is a secret itself and no reference to one.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains("${")
}

fn plain(value: &Value, schema: &Value, root: &Value, pointer: &str, found: &mut Vec<String>) {
    if is_secret(schema) {
        if value.as_str().is_some_and(is_plain) {
            found.push(pointer.to_owned());
        }
        return;
    }
    let resolved = schema.get("$ref").and_then(Value::as_str).and_then(|target| root.pointer(target.trim_start_matches('#')));
    let branches = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    for schema in resolved.into_iter().chain(branches) {
        plain(value, schema, root, pointer, found);
    }
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = value.get(name) {
            plain(value, inner, root, &format!("{pointer}/{name}"), found);
        }
    }
}

fn walk(value: &Value, directory: &Path, pointer: &str, missing: &mut Vec<Missing>) -> Value {
    match value {
        Value::String(text) => match expand(text, directory) {
            Ok(expanded) => Value::String(expanded),
            Err((reference, why)) => {
                missing.push(Missing { pointer: pointer.to_owned(), reference, why });
                Value::String(UNREAD.to_owned())
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
        let resolved = resolve(&json!({"a": ["${file:pw}", 1]}), &directory);
        assert_eq!(resolved, (json!({"a": ["s3cret", 1]}), Vec::new()));
    }

    #[test]
    fn every_missing_reference_is_named_with_its_pointer() {
        let (_, missing) = resolve(&json!({"a": "${file:nope}", "b": {"c": "${env:HUB_NO_SUCH}"}, "d": "${x}"}), Path::new("/tmp"));
        let found: Vec<_> = missing.iter().map(|m| (m.pointer.as_str(), m.reference.as_str())).collect();
        assert_eq!(found, [("/a", "${file:nope}"), ("/b/c", "${env:HUB_NO_SUCH}"), ("/d", "${x}")]);
        assert!(missing[1].remedy().starts_with("set HUB_NO_SUCH in"), "{}", missing[1].remedy());
    }

    #[test]
    fn a_secret_in_plain_sight_is_found_and_a_reference_is_none() {
        let kinds = hub_connectors::kinds();
        let schema = kinds.iter().find(|kind| kind.name == "postgres").unwrap().config_schema();
        assert_eq!(in_plain_sight(&json!({"host": "a", "password": "hunter2"}), &schema), ["/password"]);
        assert_eq!(in_plain_sight(&json!({"password": "${file:pw}"}), &schema), Vec::<String>::new());
        let hub = serde_json::to_value(schemars::schema_for!(crate::config::HubFile)).unwrap();
        let plain = json!({"kafka": {"sasl": {"password": "hunter2"}}, "registry": {"password": "hunter2"}});
        assert_eq!(in_plain_sight(&plain, &hub), ["/kafka/sasl/password", "/registry/password"]);
    }
}
