//! Nobody is compiled in who does not pass the kit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::path::PathBuf;

#[test]
fn every_connector_that_is_compiled_in_brings_a_fixture_and_its_pages() {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests"));
    let kinds = hub_connectors::kinds();
    assert!(!kinds.is_empty());
    for kind in kinds {
        let connector = folder.join("../../connectors").join(kind.name);
        let page =
            |name: &str| std::fs::read_to_string(connector.join(name)).unwrap_or_else(|error| panic!("{}: {name}: {error}", kind.name));
        assert!(page("tests/conformance.rs").contains("hub_conformance::conformance!("), "{} does not run the kit", kind.name);
        assert!(page("README.md").len() > 1_000 && page("TYPES.md").len() > 1_000, "{}", kind.name);
    }
}
