//! `hub check`: everything that is wrong at once, each with its place and what mends it.
//!
//! What the files alone tell comes from [`Folder`], which `hub apply` and `hub run` hold to as well. Here the sources are asked too.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use hub_engine::prepare::{code_lists, identity, mapping};
use hub_sdk::{DynConnector, Finding, Kind, StreamShape};
use hub_transform::CanonicalSchema;
use hub_transform::normalise::{MappingSpec, Place as SqlPlace, PlanInput, Target, plan};
use serde::Serialize;

use crate::Global;
use crate::config::streams::in_file;
use crate::config::yaml::Place;
use crate::config::{Fault, Folder, LoadedSystem, secrets};
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub check`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only this system, or all of this configuration folder; all of --config without.
    #[arg(value_name = "SYSTEM|FOLDER")]
    what: Option<String>,
    /// Look at the files alone: connect to nothing.
    #[arg(long)]
    offline: bool,
}

/// One remark on a system, for people and machines.
#[derive(Debug, Serialize)]
struct Remark {
    system: String,
    place: String,
    fatal: bool,
    code: String,
    message: String,
    remedy: Option<String>,
}

/// Checks the folder, then each system against its source.
pub(crate) async fn run(global: &Global, options: Options) -> Result<(), Failure> {
    let kinds = hub_connectors::kinds();
    // `hub run` and `hub apply` are given a folder; here it may be one too.
    let other = options.what.as_ref().map(Path::new).filter(|folder| folder.join("hub.yaml").is_file());
    let (directory, only) = other.map_or((global.config.as_path(), options.what.as_ref()), |folder| (folder, None));
    let folder = Folder::read(directory, &kinds);
    let mut remarks: Vec<Remark> = folder.faults.iter().map(from_fault).collect();
    let wanted = |system: &&LoadedSystem| only.is_none_or(|name| *name == system.desired.spec.system);
    let systems: Vec<&LoadedSystem> = folder.systems.iter().filter(wanted).collect();
    if let Some(name) = only.filter(|_| systems.is_empty() && folder.faults.is_empty()) {
        let known: Vec<&str> = folder.systems.iter().map(|system| system.desired.spec.system.as_str()).collect();
        return Err(super::no_such_system(name, &known, directory.display()));
    }
    if !options.offline {
        for system in &systems {
            remarks.extend(look(system, &kinds).await);
        }
    }
    show(global, &remarks, systems.len());
    if remarks.iter().any(|remark| remark.fatal) { Err(Failure::Config(Vec::new())) } else { Ok(()) }
}

fn from_fault(fault: &Fault) -> Remark {
    Remark {
        system: String::new(),
        place: fault.place.to_string(),
        fatal: true,
        code: "configuration".to_owned(),
        message: fault.message.clone(),
        remedy: fault.suggestion.clone(),
    }
}

fn show(global: &Global, remarks: &[Remark], systems: usize) {
    if global.json {
        return remarks.iter().for_each(print_json);
    }
    for remark in remarks {
        let level = if remark.fatal { "error" } else { "note" };
        let remedy = remark.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        eprintln!("{level}: {}: {}{remedy}", remark.place, remark.message);
    }
    let errors = remarks.iter().filter(|remark| remark.fatal).count();
    if errors == 0 {
        let notes = remarks.len();
        print_line(&format!("{systems} systems checked: nothing stands in the way, {notes} notes"));
    } else {
        let mut counts = table(&["errors", "notes", "systems"]);
        counts.add_row([errors.to_string(), (remarks.len() - errors).to_string(), systems.to_string()]);
        print_line(&counts.to_string());
    }
}

/// Opens a system's connector with its secrets, as `hub run` would.
pub(crate) async fn open(system: &LoadedSystem, kinds: &[Kind]) -> Result<Arc<dyn DynConnector>, String> {
    hub_engine::open(&system.desired, kinds, &secrets::resolve_all, None).await.map_err(|error| error.to_string())
}

async fn look(system: &LoadedSystem, kinds: &[Kind]) -> Vec<Remark> {
    let name = &system.desired.spec.system;
    let whole = system.document.locate("/config");
    let trouble = |message: String| vec![remark(name, &whole, true, "unusable", message, None)];
    let connector = match open(system, kinds).await {
        Ok(connector) => connector,
        Err(error) => return trouble(error),
    };
    let mut remarks = match connector.probe().await {
        Ok(probe) => probe.findings.iter().map(|finding| from_finding(name, &whole, finding)).collect::<Vec<_>>(),
        Err(error) => return trouble(error.report()),
    };
    match connector.discover().await {
        // What a probe says of a stream is not said again where the stream stands.
        Ok(shapes) => {
            let found = check_streams(system, &shapes);
            let is_new = |remark: &Remark| remarks.iter().all(|told| (&told.code, &told.message) != (&remark.code, &remark.message));
            let new: Vec<Remark> = found.into_iter().filter(is_new).collect();
            remarks.extend(new);
        }
        // A probe that already says why the source cannot be used is enough.
        Err(error) if remarks.iter().all(|remark| !remark.fatal) => remarks.extend(trouble(error.report())),
        Err(_) => {}
    }
    remarks
}

fn check_streams(system: &LoadedSystem, shapes: &[StreamShape]) -> Vec<Remark> {
    let (desired, document) = (&system.desired, &system.document);
    let name = &desired.spec.system;
    let codes = match code_lists(&desired.codes) {
        Ok(codes) => codes,
        Err(error) => return vec![remark(name, &document.locate("/streams"), true, "code-list", error, None)],
    };
    let mut remarks = Vec::new();
    for (at, stream) in desired.spec.streams.iter().enumerate() {
        let place = document.locate(&format!("/streams/{at}/source"));
        let Some(shape) = shapes.iter().find(|shape| shape.stream.as_str() == stream.source) else {
            let tables: Vec<&str> = shapes.iter().map(|shape| shape.stream.as_str()).collect();
            let message = format!("the source has no stream {}", stream.source);
            let remedy = (!tables.is_empty()).then(|| crate::config::schema::suggest(&stream.source, &tables));
            remarks.push(remark(name, &place, true, "no-stream", message, remedy));
            continue;
        };
        remarks.extend(shape.findings.iter().map(|finding| from_finding(name, &place, finding)));
        // A delivery that has not come yet: without any column there is nothing that a mapping could be held against.
        if shape.schema.fields().is_empty() {
            let message = format!("the columns of {} are not known yet, so its mapping is not held against them", stream.source);
            remarks.push(remark(name, &place, false, "columns-unknown", message, Some("run `hub check` again then".to_owned())));
            continue;
        }
        let Some(Ok(canonical)) = desired.schemas.get(&stream.entity).map(|text| CanonicalSchema::parse(text)) else { continue };
        let Some(spec) = placed(system, at) else { continue };
        let planned = plan(&PlanInput {
            spec: &spec,
            target: &Target::of(&canonical),
            source: &shape.schema,
            identity: &identity(shape),
            code_lists: &codes,
            system: name,
        });
        let found = planned.err().unwrap_or_default().into_iter().map(|fault| in_file(fault, &place));
        for fault in found.filter(|fault| !system.faults.iter().any(|told| is_same(told, fault))) {
            remarks.push(remark(name, &fault.place, true, "mapping", fault.message, fault.suggestion));
        }
    }
    remarks
}

/// Whether a fault was told already, from the files alone: the same field in the same place.
fn is_same(told: &Fault, found: &Fault) -> bool {
    fn field(fault: &Fault) -> &str {
        fault.message.strip_prefix("field ").and_then(|rest| rest.split(':').next()).unwrap_or(&fault.message)
    }
    told.place == found.place && field(told) == field(found)
}

/// The mapping of a stream with each expression's place in its file, as the file was named here.
pub(crate) fn placed(system: &LoadedSystem, at: usize) -> Option<MappingSpec> {
    let file = system.document.file.display().to_string();
    let mut desired = system.desired.clone();
    if let Some(places) = &mut desired.places {
        places.file.clone_from(&file);
    }
    let mut spec = mapping(&desired, at)?;
    let place = system.document.locate(&format!("/streams/{at}/map"));
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    spec.fields_place = Some(SqlPlace { file: file.into(), line: number(place.line), column: number(place.column) });
    Some(spec)
}

fn from_finding(system: &str, place: &Place, finding: &Finding) -> Remark {
    remark(system, place, finding.fatal, finding.code, finding.message.clone(), finding.remedy.clone())
}

fn remark(system: &str, place: &Place, fatal: bool, code: &str, message: String, remedy: Option<String>) -> Remark {
    Remark { system: system.to_owned(), place: place.to_string(), fatal, code: code.to_owned(), message, remedy }
}
