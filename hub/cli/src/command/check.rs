//! `hub check`: everything that is wrong at once, each with its place and what mends it.

use std::sync::Arc;

use clap::Args;
use hub_engine::prepare::{code_lists, identity, mapping};
use hub_sdk::{DynConnector, Finding, Kind, StreamShape};
use hub_transform::CanonicalSchema;
use hub_transform::normalise::{MappingSpec, Place as SqlPlace, PlanInput, Sql, Target, plan};
use serde::Serialize;

use crate::Global;
use crate::config::yaml::{Document, Place};
use crate::config::{Fault, Folder, LoadedSystem, secrets};
use crate::desired::bare_secrets;
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub check`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only this system; all without.
    system: Option<String>,
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
    let folder = Folder::read(&global.config, &kinds);
    let mut remarks: Vec<Remark> = folder.faults.iter().map(from_fault).collect();
    remarks.extend(folder.systems.iter().flat_map(|system| bare_secrets(system, &kinds)).map(|fault| from_fault(&fault)));
    let known = folder.systems.len();
    let wanted = |system: &&LoadedSystem| options.system.as_ref().is_none_or(|name| *name == system.desired.spec.system);
    let systems: Vec<&LoadedSystem> = folder.systems.iter().filter(wanted).collect();
    if let Some(name) = options.system.as_ref().filter(|_| systems.is_empty() && folder.faults.is_empty()) {
        return Err(Failure::Usage(format!("there is no system {name} among the {known} of {}", global.config.display())));
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
    hub_engine::open(&system.desired, kinds, &secrets::resolve_all).await.map_err(|error| error.to_string())
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
        Ok(shapes) => remarks.extend(check_streams(system, &shapes)),
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
        let Some(Ok(canonical)) = desired.schemas.get(&stream.entity).map(|text| CanonicalSchema::parse(text)) else { continue };
        let planned = plan(&PlanInput {
            spec: &placed(document, at, mapping(stream)),
            target: &Target::of(&canonical),
            source: &shape.schema,
            identity: &identity(shape),
            code_lists: &codes,
            system: name,
        });
        for fault in planned.err().unwrap_or_default() {
            let at = fault.place.as_ref().map_or_else(|| place.to_string(), ToString::to_string);
            let field = fault.field.as_ref().map(|field| format!("field {field}: ")).unwrap_or_default();
            remarks.push(Remark {
                system: name.clone(),
                place: at,
                fatal: true,
                code: "mapping".to_owned(),
                message: format!("{field}{}", fault.problem),
                remedy: fault.remedy,
            });
        }
    }
    remarks
}

/// The mapping with each expression's place in its file.
pub(crate) fn placed(document: &Document, stream: usize, mut spec: MappingSpec) -> MappingSpec {
    let place = |sql: &mut Sql, pointer: &str| {
        let at = document.locate(pointer);
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let file = at.file.display().to_string().into();
        sql.place = Some(SqlPlace { file, line: number(at.line), column: number(at.column) });
    };
    if let Some(filter) = &mut spec.filter {
        place(filter, &format!("/streams/{stream}/where"));
    }
    for (field, sql) in &mut spec.fields {
        place(sql, &format!("/streams/{stream}/map/{field}"));
    }
    spec
}

fn from_finding(system: &str, place: &Place, finding: &Finding) -> Remark {
    remark(system, place, finding.fatal, finding.code, finding.message.clone(), finding.remedy.clone())
}

fn remark(system: &str, place: &Place, fatal: bool, code: &str, message: String, remedy: Option<String>) -> Remark {
    Remark { system: system.to_owned(), place: place.to_string(), fatal, code: code.to_owned(), message, remedy }
}
