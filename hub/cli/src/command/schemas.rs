//! `hub schemas`: canonical schemas, and whether they fit what is registered.

use clap::{Args, Subcommand};
use hub_engine::spec::Naming;
use hub_transform::CanonicalSchema;
use hub_transform::encode::{envelope_schema, key_schema};
use serde_json::json;

use crate::Global;
use crate::config::Folder;
use crate::failure::Failure;
use crate::setup::registry_client;
use crate::table::{print_json, print_line, table};

/// Options of `hub schemas`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the entities that the systems fill.
    List,
    /// Judge every subject's schema against what is registered.
    Check,
}

/// Lists or checks.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let folder = Folder::read(&global.config, &hub_connectors::kinds());
    let (Some(hub), true) = (&folder.hub, folder.faults.is_empty()) else {
        return Err(Failure::Config(folder.faults));
    };
    let naming = Naming::new(hub.kafka.topic_prefix.clone());
    let mut subjects: Vec<(String, String, String)> = Vec::new();
    let mut entities = table(&["entity", "Vietnamese", "English", "fields", "personal", "topic"]);
    for system in &folder.systems {
        for stream in &system.desired.spec.streams {
            let Some(Ok(canonical)) = system.desired.schemas.get(&stream.entity).map(|text| CanonicalSchema::parse(text)) else { continue };
            let topic = naming.data(&system.desired.spec.system, &stream.entity);
            let personal = canonical.fields().iter().filter(|field| field.privacy() != hub_transform::schema::Privacy::None).count();
            let titles = canonical.titles();
            let counts = (canonical.fields().len().to_string(), personal.to_string());
            entities.add_row([stream.entity.as_str(), &titles.vi, &titles.en, &counts.0, &counts.1, &topic]);
            subjects.push((format!("{topic}-value"), stream.entity.clone(), envelope_schema(&canonical, &topic)));
            if let Ok(key) = key_schema(&canonical, &stream.key, &topic) {
                subjects.push((format!("{topic}-key"), stream.entity.clone(), key));
            }
        }
    }
    match options.what {
        What::List => {
            print_line(&entities.to_string());
            Ok(())
        }
        What::Check => check(global, hub, subjects).await,
    }
}

async fn check(global: &Global, hub: &crate::config::HubFile, subjects: Vec<(String, String, String)>) -> Result<(), Failure> {
    let client = registry_client(hub, &global.config)?;
    let mut rows = table(&["subject", "entity", "verdict", "what does not fit"]);
    let mut broken = 0;
    for (subject, entity, schema) in subjects {
        let verdict = client.check(&subject, &schema).await.map_err(|error| Failure::unavailable(format!("checking {subject}"), error))?;
        broken += usize::from(!verdict.compatible);
        if global.json {
            print_json(&json!({"subject": subject, "entity": entity, "compatible": verdict.compatible, "messages": verdict.messages}));
        }
        let word = if verdict.compatible { "fits" } else { "INCOMPATIBLE" };
        rows.add_row([&subject, &entity, word, &verdict.messages.join("\n")]);
    }
    if !global.json {
        print_line(&rows.to_string());
    }
    if broken == 0 { Ok(()) } else { Err(Failure::Differs(format!("{broken} subjects would refuse their schema"))) }
}
