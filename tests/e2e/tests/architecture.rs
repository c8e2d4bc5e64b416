//! Keeps the directions of ARCHITECTURE.md true: who may depend on whom, and who may know what.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Normal dependencies of each workspace member.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = |package: &Value| {
        let listed = package["dependencies"].as_array().unwrap().iter();
        listed.filter(|edge| edge["kind"].is_null()).map(|edge| edge["name"].as_str().unwrap().to_owned()).collect()
    };
    metadata["packages"].as_array().unwrap().iter().map(|p| (p["name"].as_str().unwrap().to_owned(), names(p))).collect()
}

fn ours(dependencies: &[String]) -> Vec<&str> {
    dependencies.iter().map(String::as_str).filter(|name| name.starts_with("hub-")).collect()
}

#[test]
fn our_crates_depend_only_in_the_directions_of_the_design() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("hub-model", &[][..]),
        ("hub-sdk", &["hub-model"]),
        ("hub-transform", &["hub-model"]),
        ("hub-telemetry", &[]),
        ("hub-kafka", &["hub-model", "hub-telemetry"]),
        ("hub-registry", &["hub-kafka"]),
        ("hub-engine", &["hub-model", "hub-sdk", "hub-transform", "hub-kafka", "hub-registry", "hub-telemetry"]),
        ("hub-conformance", &["hub-sdk"]),
    ]);
    let all = dependencies();
    let connectors = all.keys().filter(|name| name.starts_with("hub-connector-")).map(|name| (name.as_str(), &["hub-sdk"][..]));
    for (krate, edges) in connectors.chain(allowed) {
        let found = ours(all.get(krate).unwrap_or_else(|| panic!("{krate} is not in the workspace")));
        let stray: Vec<_> = found.into_iter().filter(|name| !edges.contains(name)).collect();
        assert!(stray.is_empty(), "{krate} may not depend on {stray:?}");
    }
}

#[test]
fn model_and_transform_know_no_runtime_and_no_kafka() {
    let all = dependencies();
    for krate in ["hub-model", "hub-transform"] {
        for forbidden in ["tokio", "rdkafka", "reqwest", "axum", "tokio-postgres"] {
            assert!(!all[krate].iter().any(|name| name == forbidden), "{krate} may not depend on {forbidden}");
        }
    }
}

#[test]
fn only_connectors_all_and_the_tests_name_a_connector() {
    for (krate, edges) in dependencies() {
        if krate == "hub-connectors" || krate.starts_with("hub-tests-") {
            continue;
        }
        let named: Vec<_> = edges.iter().filter(|name| name.starts_with("hub-connector-")).collect();
        assert!(named.is_empty(), "{krate} names {named:?}; only connectors/all may");
    }
}

#[test]
fn only_the_cli_reads_the_environment() {
    let mut offenders = Vec::new();
    for folder in ["hub", "connectors"] {
        collect(&root().join(folder), &mut offenders);
    }
    assert_eq!(offenders, Vec::<String>::new());
}

fn collect(folder: &Path, offenders: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["tests", "examples", "benches", "cli", "conformance", "target"].contains(&name.as_str()) {
            collect(&path, offenders);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if code.contains("env::var") {
                offenders.push(path.display().to_string());
            }
        }
    }
}
