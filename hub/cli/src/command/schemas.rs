//! `hub schemas`: canonical schemas, and whether they fit what is registered.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use hub_engine::spec::Naming;
use hub_transform::encode::{envelope_schema, key_schema};
use hub_transform::schema::{CanonicalField, Privacy};
use hub_transform::{CanonicalSchema, reject};
use serde_json::json;

use super::{entities, schemas};
use crate::Global;
use crate::config::{Folder, HubFile};
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub schemas`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the canonical entities and the topics that carry them.
    List,
    /// Show the fields of one entity.
    Show {
        /// The entity, `public-admin.Dossier`.
        entity: String,
        /// The Avro schema as it is registered for a topic, instead of a table.
        #[arg(long)]
        avro: bool,
    },
    /// Judge the schema of every topic's subjects against what is registered.
    Check {
        /// Only this system.
        system: Option<String>,
    },
}

/// Lists, shows or checks.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let folder = Folder::read(&global.config, &hub_connectors::kinds());
    let (Some(hub), true) = (&folder.hub, folder.faults.is_empty()) else {
        return Err(Failure::Config(folder.faults));
    };
    match options.what {
        What::List => list(global, &folder, hub),
        What::Show { entity, avro } => show(global, hub, &entity, avro),
        What::Check { system } => check(global, &folder, hub, system.as_deref()).await,
    }
}

fn list(global: &Global, folder: &Folder, hub: &HubFile) -> Result<(), Failure> {
    let naming = Naming::new(hub.kafka.topic_prefix.clone());
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for system in &folder.systems {
        for stream in &system.desired.spec.streams {
            topics.entry(&stream.entity).or_default().push(naming.data(&system.desired.spec.system, &stream.entity));
        }
    }
    let mut rows = table(&["entity", "Vietnamese", "English", "fields", "personal", "topics"]);
    for (name, canonical) in entities(&global.config, hub)? {
        let personal = canonical.fields().iter().filter(|field| field.privacy() != Privacy::None).count();
        let (titles, carried) = (canonical.titles(), topics.get(name.as_str()).cloned().unwrap_or_default());
        if global.json {
            print_json(&json!({
                "entity": name, "vi": *titles.vi, "en": *titles.en, "fields": canonical.fields().len(), "personal": personal, "topics": carried
            }));
        }
        let numbers = [canonical.fields().len().to_string(), personal.to_string()];
        rows.add_row([name.as_str(), &titles.vi, &titles.en, &numbers[0], &numbers[1], &carried.join("\n")]);
    }
    if !global.json {
        print_line(&rows.to_string());
    }
    Ok(())
}

fn show(global: &Global, hub: &HubFile, entity: &str, avro: bool) -> Result<(), Failure> {
    let entities = entities(&global.config, hub)?;
    let Some(canonical) = entities.get(entity) else {
        let names: Vec<&str> = entities.keys().map(String::as_str).collect();
        return Err(Failure::Usage(format!("there is no entity {entity}; {}", crate::config::schema::suggest(entity, &names))));
    };
    if avro || global.json {
        print_line(canonical.json());
        return Ok(());
    }
    print_line(&format!("{entity}: {} ({})\n{}", canonical.titles().vi, canonical.titles().en, canonical.doc()));
    let mut rows = table(&["field", "Vietnamese", "English", "type", "must be", "data", "codes", "meaning"]);
    for field in canonical.fields() {
        rows.add_row([
            field.name(),
            &field.titles().vi,
            &field.titles().en,
            &type_of(field),
            if field.nullable() { "" } else { "given" },
            if field.privacy() == Privacy::None { "" } else { field.privacy().word() },
            field.codes().unwrap_or_default(),
            field.doc(),
        ]);
    }
    print_line(&rows.to_string());
    Ok(())
}

/// A field's type in a word or two.
pub(super) fn type_of(field: &CanonicalField) -> String {
    use arrow::datatypes::DataType;
    match field.data_type() {
        DataType::Utf8 => "text".to_owned(),
        DataType::Int32 | DataType::Int64 => "whole number".to_owned(),
        DataType::Float32 | DataType::Float64 => "number".to_owned(),
        DataType::Boolean => "true or false".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(_, Some(_)) => "instant".to_owned(),
        DataType::Timestamp(_, None) => "date and time".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Dictionary(..) => {
            field.symbols().map(|symbols| symbols.iter().flatten().collect::<Vec<_>>().join(" | ")).unwrap_or_else(|| "symbol".to_owned())
        }
        DataType::Binary => "bytes".to_owned(),
        DataType::List(_) => "list".to_owned(),
        other => other.to_string(),
    }
}

async fn check(global: &Global, folder: &Folder, hub: &HubFile, only: Option<&str>) -> Result<(), Failure> {
    let client = schemas(hub, &global.config).await?;
    let mut rows = table(&["subject", "entity", "verdict", "what does not fit"]);
    let mut broken = 0;
    for (subject, entity, schema) in subjects(folder, hub, only)? {
        let doing = || format!("checking {subject}");
        let latest = client.latest(&subject).await.map_err(|error| Failure::unavailable(doing(), error))?;
        let verdict = client.check(&subject, &schema).await.map_err(|error| Failure::unavailable(doing(), error))?;
        broken += usize::from(!verdict.compatible);
        let word = match &latest {
            _ if !verdict.compatible => "INCOMPATIBLE".to_owned(),
            None => "new".to_owned(),
            Some(latest) if same(&latest.schema, &schema) => format!("as registered (version {})", latest.version),
            Some(latest) => format!("fits, becomes version {}", latest.version + 1),
        };
        if global.json {
            print_json(&json!({
                "subject": subject, "entity": entity, "compatible": verdict.compatible, "verdict": word, "messages": verdict.messages,
                "registered_version": latest.map(|latest| latest.version)
            }));
        }
        rows.add_row([&subject, &entity, &word, &verdict.messages.join("\n")]);
    }
    if !global.json {
        print_line(&rows.to_string());
    }
    match broken {
        0 => Ok(()),
        _ => Err(Failure::Differs(format!(
            "{broken} subjects would refuse their schema: give new fields a default and leave old ones in, or relax the subject's compatibility in the registry"
        ))),
    }
}

/// Whether the registry would find the one under the other: it keeps schemas without what means nothing.
fn same(registered: &str, ours: &str) -> bool {
    let canonical = |text: &str| hub_registry::schema::Schema::parse(text, &[]).map(|schema| schema.canonical()).ok();
    canonical(registered).is_some_and(|registered| canonical(ours) == Some(registered))
}

/// Subject, entity and schema of everything that the systems publish.
fn subjects(folder: &Folder, hub: &HubFile, only: Option<&str>) -> Result<Vec<(String, String, String)>, Failure> {
    let naming = Naming::new(hub.kafka.topic_prefix.clone());
    let mut subjects = Vec::new();
    let wanted = folder.systems.iter().filter(|system| only.is_none_or(|only| only == system.desired.spec.system));
    for system in wanted {
        let name = &system.desired.spec.system;
        for stream in &system.desired.spec.streams {
            let Some(Ok(canonical)) = system.desired.schemas.get(&stream.entity).map(|text| CanonicalSchema::parse(text)) else { continue };
            let topic = naming.data(name, &stream.entity);
            let key = key_schema(&canonical, &stream.key, &topic)
                .map_err(|error| Failure::Usage(format!("the key of {} in {name} cannot be used: {error}", stream.source)))?;
            subjects.push((format!("{topic}-key"), stream.entity.clone(), key));
            subjects.push((format!("{topic}-value"), stream.entity.clone(), envelope_schema(&canonical, &topic)));
        }
        subjects.push((format!("{}-value", naming.rejects(name)), "(rejects)".to_owned(), reject::SCHEMA.to_owned()));
    }
    match only {
        Some(only) if subjects.is_empty() => Err(Failure::Usage(format!("there is no system {only} in this folder"))),
        _ => Ok(subjects),
    }
}
