//! Every canonical schema and code list of the repository is whole, titled, tagged and written in one Unicode form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hub_transform::encode::{envelope_schema, key_schema};
use hub_transform::normalise::is_nfc;
use hub_transform::schema::Privacy;
use hub_transform::{CanonicalSchema, CodeLists};

fn files(extension: &str) -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let entries = |folder: &Path| -> Vec<PathBuf> { folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect() };
    let mut found = Vec::new();
    for folder in entries(&root).into_iter().filter(|path| path.is_dir()) {
        for file in entries(&folder).into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)) {
            let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
            found.push((name(&folder), name(&file), std::fs::read_to_string(&file).unwrap()));
        }
    }
    found.sort();
    found
}

fn schemas() -> Vec<(String, CanonicalSchema)> {
    let read = |(domain, name, text): (String, String, String)| {
        let schema = CanonicalSchema::parse(&text).unwrap_or_else(|error| panic!("schemas/{domain}/{name}.avsc: {error}"));
        assert_eq!(schema.name(), name, "schemas/{domain}/{name}.avsc names another record");
        assert_eq!(schema.namespace(), domain.replace('-', "_"), "schemas/{domain}/{name}.avsc has another namespace");
        (format!("{domain}.{name}"), schema)
    };
    files("avsc").into_iter().map(read).collect()
}

fn lists() -> CodeLists {
    let mut lists = CodeLists::default();
    for (_, name, text) in files("csv") {
        lists.add(&name, &text, &format!("schemas/codes/{name}.csv")).unwrap_or_else(|faults| panic!("{faults:?}"));
    }
    lists
}

#[test]
fn every_schema_is_documented_and_its_code_lists_exist() {
    let (schemas, lists) = (schemas(), lists());
    let names: Vec<&str> = schemas.iter().map(|(name, _)| name.as_str()).collect();
    for wanted in [
        "business.Business",
        "documents.Document",
        "land.LandParcel",
        "organisation.Agency",
        "organisation.Official",
        "population.Citizen",
        "public-admin.Dossier",
        "public-admin.DossierStep",
    ] {
        assert!(names.contains(&wanted), "{wanted} is missing");
    }
    for (name, schema) in &schemas {
        assert!(!schema.doc().is_empty(), "{name} has no doc");
        for field in schema.fields() {
            assert!(!field.doc().is_empty(), "{name}.{} has no doc", field.name());
            assert!(is_nfc(&field.titles().vi), "{name}.{}: its Vietnamese title is not NFC", field.name());
            if let Some(list) = field.codes() {
                assert!(lists.get(list).is_some(), "{name}.{}: schemas/codes/{list}.csv is missing", field.name());
            }
        }
    }
}

#[test]
fn what_names_a_person_is_tagged() {
    for (name, schema) in schemas() {
        for field in schema.fields() {
            let telling = ["personal_id", "full_name", "birth", "ethnicity", "applicant_id", "officer_code", "holder_ids", "signer"];
            let names_a_person = telling.iter().any(|part| field.name().contains(part)) && field.name() != "signer_title";
            assert!(!names_a_person || field.privacy() > Privacy::None, "{name}.{} is not tagged", field.name());
        }
    }
}

#[test]
fn every_schema_makes_an_envelope_and_a_key_that_avro_takes() {
    let keys: BTreeMap<&str, &str> = [
        ("business.Business", "tax_code"),
        ("land.LandParcel", "parcel_code"),
        ("population.Citizen", "personal_id"),
        ("documents.Document", "id"),
        ("public-admin.DossierStep", "id"),
    ]
    .into();
    for (name, schema) in schemas() {
        let topic = format!("hub.mot-cua.{name}");
        let key = keys.get(name.as_str()).copied().unwrap_or("code");
        apache_avro::Schema::parse_str(&envelope_schema(&schema, &topic)).unwrap_or_else(|error| panic!("{name}: {error}"));
        apache_avro::Schema::parse_str(&key_schema(&schema, &[key], &topic).unwrap()).unwrap();
    }
}

#[test]
fn code_lists_are_titled_and_hold_the_one_stop_shops_codes() {
    let lists = lists();
    for name in lists.names() {
        for code in lists.get(name).unwrap().codes() {
            assert!(!code.title_vi.is_empty() && !code.title_en.is_empty(), "{name}: {} has no title", code.code);
            assert!(is_nfc(&code.title_vi), "{name}: {} is not NFC", code.code);
        }
    }
    assert_eq!(lists.get("ethnicity").unwrap().codes().len(), 54);
    assert_eq!(lists.get("document-type").unwrap().codes().len(), 29);
    for name in ["dossier-status", "step-status", "gender", "ethnicity", "dossier-channel", "agency-level"] {
        assert!(lists.get(name).unwrap().systems().any(|system| system == "mot-cua"), "{name} has no column mot-cua");
    }
}
