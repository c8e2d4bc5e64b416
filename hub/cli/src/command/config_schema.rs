//! `hub config schema`: the JSON Schema of configuration files, for editors.

use clap::{Args, Subcommand};
use hub_engine::spec::SystemSpec;
use serde_json::{Value, json};

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
    let choices: Vec<Value> = hub_connectors::kinds()
        .iter()
        .map(|kind| {
            let named = json!({"properties": {"connector": {"const": kind.name}}});
            json!({"if": named, "then": {"properties": {"config": kind.config_schema()}}})
        })
        .collect();
    schema["allOf"] = Value::Array(choices);
    Ok(schema)
}
