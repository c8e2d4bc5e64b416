//! `hub connectors`: what is compiled in, with every setting.

use clap::Args;
use serde_json::{Value, json};

use crate::Global;
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub connectors`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// One connector, with its settings.
    name: Option<String>,
}

/// Prints the list, or one connector's settings.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), Failure> {
    let kinds = hub_connectors::kinds();
    let Some(name) = &options.name else {
        for kind in kinds {
            if global.json { print_json(&json!({"name": kind.name, "schema": kind.config_schema()})) } else { print_line(kind.name) }
        }
        return Ok(());
    };
    let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        return Err(Failure::Usage(format!("there is no connector {name}; {}", crate::config::schema::suggest(name, &names))));
    };
    let schema = kind.config_schema();
    if global.json {
        print_json(&schema);
        return Ok(());
    }
    let mut rows = table(&["setting", "default", "what it is"]);
    settings(&schema, &schema, "", &mut |path, about| {
        let default = about.get("default").map(Value::to_string).unwrap_or_default();
        rows.add_row([path, &default, about.get("description").and_then(Value::as_str).unwrap_or_default()]);
    });
    print_line(&rows.to_string());
    Ok(())
}

fn settings(schema: &Value, root: &Value, prefix: &str, tell: &mut impl FnMut(&str, &Value)) {
    for (name, about) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        tell(&path, about);
        let target = about.get("$ref").and_then(Value::as_str).and_then(|target| root.pointer(target.trim_start_matches('#')));
        settings(target.unwrap_or(about), root, &path, tell);
    }
}
