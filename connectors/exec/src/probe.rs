//! What `hub check` says of a source: whether it can be started, what its configuration lacks, whether it works, and its streams.

use hub_sdk::{ErrorKind, Finding, OpenContext, Probe, SourceError};
use serde_json::Value;

use crate::ask::{check, discover, spec};
use crate::classify::{advice, kind_of};
use crate::config::Protocol;
use crate::plan::plan;
use crate::source::Source;

/// Asks the source everything that can be asked without reading rows.
pub(crate) async fn probe(source: &Source, context: &OpenContext) -> Result<Probe, SourceError> {
    let protocol = if source.config.protocol == Protocol::Airbyte { "Airbyte source" } else { "Singer tap" };
    let mut probe = Probe { server: format!("{protocol} {}", source.program()), findings: Vec::new() };
    if let Some(why) = source.missing() {
        let remedy = "install the source on the hub's machine, and mend `command`";
        probe.findings.push(fatal("command-missing", why, remedy));
        return Ok(probe);
    }
    if source.launcher.setpriv.is_none() {
        let message = "the program setpriv is in no folder of PATH, so that a child may outlive a hub that is killed".to_owned();
        let remedy = Some("install util-linux".to_owned());
        probe.findings.push(Finding { fatal: false, code: "no-setpriv", message, remedy });
    }
    if source.config.protocol == Protocol::Airbyte {
        settings(source, &mut probe.findings).await;
        // What the source says of a configuration that lacks something is worse to read.
        if probe.is_ready() {
            connection(source, &mut probe.findings).await;
        }
    }
    if probe.is_ready() {
        streams(source, context, &mut probe.findings).await;
    }
    Ok(probe)
}

fn fatal(code: &'static str, message: String, remedy: &str) -> Finding {
    Finding { fatal: true, code, message, remedy: Some(remedy.to_owned()) }
}

/// The finding for a question that failed.
fn told(error: &SourceError) -> Finding {
    let code = match error.kind() {
        ErrorKind::Denied => "login-refused",
        ErrorKind::Unreachable | ErrorKind::Throttled => "source-unreachable",
        _ => "source-failed",
    };
    fatal(code, error.report(), error.advice().unwrap_or("look at the words of the source; its page says more"))
}

async fn settings(source: &Source, findings: &mut Vec<Finding>) {
    match spec(source).await {
        Ok(schema) => wanting(&schema, &source.settings(), "", findings),
        Err(error) => findings.push(told(&error)),
    }
}

/// What a configuration lacks that its schema requires, and what is of another type. Choices (`oneOf`) are left to the source.
fn wanting(schema: &Value, value: &Value, pointer: &str, findings: &mut Vec<Finding>) {
    let properties = schema["properties"].as_object();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        // What begins so is given by an argument, as the manifest of a declarative source.
        if value.get(name).is_none() && !name.starts_with("__") {
            let property = properties.and_then(|all| all.get(name)).unwrap_or(&Value::Null);
            let place =
                if property["airbyte_secret"] == true { format!("secrets: {{{pointer}/{name}: …}}") } else { "config".to_owned() };
            let about = property["title"].as_str().map(|title| format!(" ({title})")).unwrap_or_default();
            let message = format!("config{pointer} has no {name}{about}, which the source requires");
            findings.push(fatal("config-member-missing", message, &format!("add {name} under `{place}`")));
        }
    }
    for (name, property) in properties.into_iter().flatten() {
        let Some(inner) = value.get(name) else { continue };
        let pointer = format!("{pointer}/{name}");
        let allowed: Vec<&str> = match &property["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !allowed.is_empty() && !allowed.iter().any(|one| is_of(one, inner)) {
            let message = format!("config{pointer} is {}, where the source wants {}", words(inner), allowed.join(" or "));
            findings.push(fatal("config-member-type", message, "mend it in `config`"));
        } else if inner.is_object() && property.get("oneOf").is_none() {
            wanting(property, inner, &pointer, findings);
        }
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => true,
    }
}

fn words(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

async fn connection(source: &Source, findings: &mut Vec<Finding>) {
    match check(source).await {
        Ok(connection) if connection.status == "SUCCEEDED" => {}
        Ok(connection) => {
            let raw = connection.message.unwrap_or_else(|| "it does not say why".to_owned());
            let kind = kind_of(&raw).unwrap_or(ErrorKind::BadConfig);
            let code = match kind {
                ErrorKind::Denied => "login-refused",
                ErrorKind::Unreachable | ErrorKind::Throttled => "source-unreachable",
                _ => "check-failed",
            };
            let message = format!("{} says that its configuration does not work: {}", source.program(), source.scrubber().scrub(&raw));
            findings.push(fatal(code, message, advice(kind).unwrap_or("look whether the source can be reached from the hub's machine")));
        }
        Err(error) => findings.push(told(&error)),
    }
}

async fn streams(source: &Source, context: &OpenContext, findings: &mut Vec<Finding>) {
    match discover(source).await {
        Ok(offered) => {
            for request in &context.streams {
                match plan(&source.config, &offered, request) {
                    Ok(plan) => findings.extend(plan.findings),
                    Err(finding) => findings.push(finding),
                }
            }
        }
        Err(error) => findings.push(told(&error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_configuration_lacks_is_told_with_its_place() {
        let schema = json!({"required": ["host", "auth"], "properties": {
            "host": {"type": "string", "title": "Host"},
            "port": {"type": "integer"},
            "auth": {"type": "object", "required": ["password"], "properties": {"password": {"type": "string", "airbyte_secret": true}}},
            "choice": {"type": "object", "oneOf": [{"required": ["x"]}]},
        }});
        let mut findings = Vec::new();
        wanting(&schema, &json!({"port": "5432", "auth": {}, "choice": {}}), "", &mut findings);
        let told: Vec<_> = findings.iter().map(|finding| format!("{} {}", finding.code, finding.message)).collect();
        assert_eq!(
            told,
            [
                "config-member-missing config has no host (Host), which the source requires",
                "config-member-type config/port is a text, where the source wants integer",
                "config-member-missing config/auth has no password, which the source requires",
            ]
        );
        assert_eq!(findings[2].remedy.as_deref(), Some("add password under `secrets: {/auth/password: …}`"));
    }
}
