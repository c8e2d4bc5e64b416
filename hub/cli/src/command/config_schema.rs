//! `hub config schema`: the JSON Schema of configuration files, for editors.

use clap::{Args, Subcommand};
use hub_engine::spec::SystemSpec;
use serde_json::{Map, Value, json};

use crate::config::HubFile;
use crate::failure::Failure;
use crate::table::print_line;

/// Options of `hub config`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Print the schema of hub.yaml or of a system's file.
    Schema {
        /// Which file.
        #[arg(value_parser = ["hub", "system"], default_value = "system")]
        file: String,
    },
}

/// Prints it.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let What::Schema { file } = &options.what;
    let schema = if file == "hub" { serde_json::to_value(schemars::schema_for!(HubFile)) } else { system() };
    let text = schema.and_then(|schema| serde_json::to_string_pretty(&schema));
    print_line(&text.map_err(|error| Failure::unavailable("writing the schema", error))?);
    Ok(())
}

/// The schema of a system's file, in which `connector` decides what `config` must be.
fn system() -> Result<Value, serde_json::Error> {
    let mut schema = serde_json::to_value(schemars::schema_for!(SystemSpec))?;
    let mut names = Vec::new();
    let mut choices = Vec::new();
    let mut definitions = Map::new();
    for kind in hub_connectors::kinds() {
        let mut config = kind.config_schema();
        let own = config.as_object_mut().and_then(|config| config.remove("$defs"));
        rename(&mut config, kind.name);
        if let Some(config) = config.as_object_mut() {
            config.remove("$schema");
        }
        if let Some(Value::Object(own)) = own {
            for (name, mut definition) in own {
                rename(&mut definition, kind.name);
                definitions.insert(format!("{}.{name}", kind.name), definition);
            }
        }
        names.push(kind.name);
        choices.push(json!({
            "if": {"properties": {"connector": {"const": kind.name}}, "required": ["connector"]},
            "then": {"properties": {"config": config}, "required": ["config"]}
        }));
    }
    schema["properties"]["connector"]["enum"] = json!(names);
    schema["allOf"] = Value::Array(choices);
    if let Some(held) = schema.as_object_mut() {
        match held.entry("$defs").or_insert_with(|| json!({})) {
            Value::Object(held) => held.extend(definitions),
            other => *other = Value::Object(definitions),
        }
    }
    Ok(schema)
}

/// Lets references of a connector's schema name its definitions where they stand in the whole.
fn rename(schema: &mut Value, connector: &str) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        *target = target.replacen("#/$defs/", &format!("#/$defs/{connector}."), 1);
                    }
                    other => rename(other, connector),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, connector)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn references(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(entries) => entries.iter().for_each(|(key, value)| match value {
                Value::String(target) if key == "$ref" => found.push(target.clone()),
                other => references(other, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_of_the_schemas_is_defined_in_them() {
        let hub = serde_json::to_value(schemars::schema_for!(HubFile)).unwrap();
        for schema in [system().unwrap(), hub] {
            let mut found = Vec::new();
            references(&schema, &mut found);
            assert!(!found.is_empty());
            for target in found {
                assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
        }
    }

    #[test]
    fn the_connector_decides_what_its_settings_are() {
        let schema = system().unwrap();
        let postgres =
            schema["allOf"].as_array().unwrap().iter().find(|choice| choice["if"]["properties"]["connector"]["const"] == "postgres");
        assert!(postgres.unwrap()["then"]["properties"]["config"]["properties"]["host"].is_object());
        let names: Vec<_> = hub_connectors::kinds().iter().map(|kind| kind.name).collect();
        assert!(names.contains(&"postgres"));
        assert_eq!(schema["properties"]["connector"]["enum"], json!(names));
    }
}
