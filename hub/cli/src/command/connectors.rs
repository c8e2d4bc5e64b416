//! `hub connectors`: what is compiled in, with every setting.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::Global;
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub connectors`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the connectors (what `hub connectors` alone does).
    List,
    /// Show the settings of one connector's `config:` section.
    Describe {
        /// The connector.
        name: String,
    },
}

/// Prints the list, or one connector's settings.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), Failure> {
    match &options.what {
        None | Some(What::List) => list(global),
        Some(What::Describe { name }) => describe(global, name)?,
    }
    Ok(())
}

fn list(global: &Global) {
    let mut rows = table(&["connector", "in events", "settings", "what it is"]);
    for kind in hub_connectors::kinds() {
        let schema = kind.config_schema();
        let about = schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
        if global.json {
            print_json(&json!({"name": kind.name, "source": kind.source, "description": about, "schema": schema}));
        }
        rows.add_row([kind.name, kind.source, &settings(&schema).len().to_string(), &about]);
    }
    if !global.json {
        print_line(&format!("{rows}\n`hub connectors describe NAME` shows the settings"));
    }
}

fn describe(global: &Global, name: &str) -> Result<(), Failure> {
    let kinds = hub_connectors::kinds();
    let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        return Err(Failure::Usage(format!("there is no connector {name}; {}", crate::config::schema::suggest(name, &names))));
    };
    let schema = kind.config_schema();
    if global.json {
        print_json(&schema);
        return Ok(());
    }
    let mut rows = table(&["setting", "type", "default", "what it is"]);
    for setting in settings(&schema) {
        rows.add_row([setting.path, setting.kind, setting.default, setting.about]);
    }
    print_line(&rows.to_string());
    Ok(())
}

/// One setting in words.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    path: String,
    kind: String,
    default: String,
    about: String,
}

/// All settings of a schema, those of its sections after them.
fn settings(schema: &Value) -> Vec<Setting> {
    let mut found = Vec::new();
    collect(schema, schema, "", &mut found);
    found
}

fn collect(schema: &Value, root: &Value, prefix: &str, found: &mut Vec<Setting>) {
    let required: Vec<&str> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, about) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let target = resolve(about, root);
        let is_section = target.get("properties").is_some();
        let words = about.get("description").or_else(|| target.get("description")).and_then(Value::as_str).unwrap_or_default();
        let default = match about.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Some(Value::Null) | None => String::new(),
            Some(_) if is_section => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        found.push(Setting { path: path.clone(), kind: kind(about, root), default, about: words.replace('\n', " ") });
        inside(target, root, &path, found);
    }
}

/// No section of a connector is nested deeper; a schema that holds itself ends here.
const DEEPEST: usize = 8;

/// The settings within one: of a section, of each entry of a map (`<name>`) or a list (`[]`), of each of several forms.
fn inside(target: &Value, root: &Value, path: &str, found: &mut Vec<Setting>) {
    if path.split('.').count() > DEEPEST {
        return;
    }
    collect(target, root, path, found);
    for (part, suffix) in [("additionalProperties", ".<name>"), ("items", "[]")] {
        if let Some(entries) = target.get(part).filter(|entries| entries.is_object()) {
            inside(resolve(entries, root), root, &format!("{path}{suffix}"), found);
        }
    }
    for form in target.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        inside(resolve(form, root), root, path, found);
    }
}

/// What a property's schema stands for: its definition, the one branch that is not null.
fn resolve<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    loop {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| root.pointer(target.trim_start_matches('#')));
        let branch = || {
            let branches = schema.get("anyOf").or_else(|| schema.get("allOf"))?.as_array()?;
            branches.iter().find(|branch| branch.get("type").and_then(Value::as_str) != Some("null"))
        };
        match target.or_else(branch) {
            Some(next) => schema = next,
            None => return schema,
        }
    }
}

fn kind(schema: &Value, root: &Value) -> String {
    if is_secret(schema) {
        return "secret".to_owned();
    }
    let target = resolve(schema, root);
    let options = options(target);
    if !options.is_empty() {
        return options.join(" | ");
    }
    let word = |name: &str| match name {
        "integer" | "number" => "number",
        "boolean" => "true | false",
        "array" => "list",
        "object" => "section",
        _ => "text",
    };
    match target.get("type") {
        Some(Value::String(name)) => word(name).to_owned(),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").map(word).unwrap_or_default().to_owned()
        }
        _ => "any value".to_owned(),
    }
}

/// What a setting with several forms may be: words, and names of sections.
fn options(target: &Value) -> Vec<String> {
    let words = |list: &Value| list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    if let Some(list) = target.get("enum") {
        return words(list);
    }
    let form = |form: &Value| -> Vec<String> {
        match (form.get("const").and_then(Value::as_str), form.get("enum"), form.get("properties").and_then(Value::as_object)) {
            (Some(word), _, _) => vec![word.to_owned()],
            (_, Some(list), _) => words(list),
            (_, _, Some(sections)) => sections.keys().cloned().collect(),
            _ => Vec::new(),
        }
    };
    target.get("oneOf").and_then(Value::as_array).into_iter().flatten().flat_map(form).collect()
}

/// Whether a property's value is a secret.
pub(crate) fn is_secret(schema: &Value) -> bool {
    let is_name = |target: &str| target.ends_with("/Secret") || target.ends_with("/Password");
    let named = |schema: &Value| schema.get("$ref").and_then(Value::as_str).is_some_and(is_name);
    let branches = schema.get("anyOf").and_then(Value::as_array);
    named(schema) || branches.is_some_and(|branches| branches.iter().any(named))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn every_setting_of_every_connector_is_explained() {
        for connector in hub_connectors::kinds() {
            let settings = settings(&connector.config_schema());
            assert!(settings.len() > 3, "{}", connector.name);
            for setting in settings {
                assert!(!setting.about.is_empty(), "{}: {} has no description", connector.name, setting.path);
                assert!(!setting.kind.is_empty(), "{}: {} has no type", connector.name, setting.path);
            }
        }
    }

    #[test]
    fn settings_of_each_stream_and_of_each_form_are_shown() {
        let schema = serde_json::json!({
            "properties": {"streams": {"description": "d", "type": "object", "additionalProperties": {"$ref": "#/$defs/Stream"}}},
            "$defs": {
                "Stream": {"type": "object", "properties": {"auth": {"$ref": "#/$defs/Auth", "description": "d"}, "any": {"description": "d"}}},
                "Auth": {"oneOf": [
                    {"const": "none", "type": "string"},
                    {"type": "object", "properties": {"hmac": {"type": "object", "description": "d", "properties": {"header": {"type": "string"}}}}},
                ]},
            },
        });
        let told: Vec<_> = settings(&schema).into_iter().map(|setting| (setting.path, setting.kind)).collect();
        let told: Vec<_> = told.iter().map(|(path, kind)| (path.as_str(), kind.as_str())).collect();
        assert_eq!(
            told,
            [
                ("streams", "section"),
                ("streams.<name>.auth", "none | hmac"),
                ("streams.<name>.auth.hmac", "section"),
                ("streams.<name>.auth.hmac.header", "text"),
                ("streams.<name>.any", "any value"),
            ]
        );
    }

    #[test]
    fn sections_options_and_secrets_are_told_apart() {
        let kinds = hub_connectors::kinds();
        let schema = kinds.iter().find(|kind| kind.name == "postgres").unwrap().config_schema();
        let settings = settings(&schema);
        let kind_of = |path: &str| settings.iter().find(|setting| setting.path == path).map(|setting| setting.kind.as_str());
        assert_eq!(kind_of("password"), Some("secret"));
        assert_eq!(kind_of("port"), Some("number"));
        assert!(kind_of("tls.mode").is_some_and(|kind| kind.contains(" | ")), "{:?}", kind_of("tls.mode"));
    }
}
