//! What a connector says: settings, findings, errors and pages.

use hub_sdk::{Connector, Kind};
use serde_json::{Value, json};

use crate::{Fixture, Stage};

/// A mistyped key is a fault, not silence.
pub async fn unknown_keys_of_the_configuration_are_refused<F: Fixture>() {
    let stage = Stage::<F>::start().await;
    let kind = Kind::of::<F::Connector>();
    assert!(kind.check(&stage.fixture.config()).is_empty(), "{:?}", kind.check(&stage.fixture.config()));
    let mut config = stage.fixture.config();
    config["no_such_key"] = json!(1);
    let faults = kind.check(&config);
    assert!(faults.iter().any(|fault| fault.message.contains("no_such_key")), "{faults:?}");
}

/// `hub check` has nothing to say of a source that the fixture has set up.
pub async fn a_probe_is_ready_where_all_is_set_up<F: Fixture>() {
    let stage = Stage::<F>::start().await;
    let probe = stage.connector().await.probe().await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(probe.is_ready(), "{:?}", probe.findings);
    assert!(!probe.server.is_empty(), "the server is named");
}

/// The finding has a code and a remedy, and neither it nor the run's error shows the secret.
pub async fn a_refused_login_is_told_without_its_secret<F: Fixture>() {
    let Some(stage) = Stage::<F>::able("calling its source", |abilities| !abilities.listens).await else { return };
    let (config, secret) = stage.fixture.refused();
    let connector = stage.connector_of(&config, &[stage.fixture.stream()]).await;
    let told = match connector.probe().await {
        Ok(probe) => {
            let fatal: Vec<_> = probe.findings.iter().filter(|finding| finding.fatal).collect();
            assert!(!fatal.is_empty(), "a refused login is fatal");
            assert!(fatal.iter().all(|finding| finding.remedy.is_some()), "what mends it is told: {fatal:?}");
            format!("{probe:?}")
        }
        Err(error) => error.report(),
    };
    let error = crate::Run::start(&connector, &hub_sdk::model::Checkpoint::empty()).failure().await;
    assert_eq!(error.kind(), hub_sdk::ErrorKind::Denied, "{}", error.report());
    for shown in [told, error.report(), format!("{error:?}")] {
        assert!(!shown.contains(secret), "the secret is shown: {shown}");
    }
}

/// `hub connectors describe` and editors show what a setting means.
pub async fn every_setting_is_explained<F: Fixture>() {
    let schema = Kind::of::<F::Connector>().config_schema();
    let settings = schema["properties"].as_object().expect("the configuration has settings");
    let unexplained: Vec<_> = settings.iter().filter(|(_, setting)| !is_explained(setting)).map(|(name, _)| name).collect();
    assert!(unexplained.is_empty(), "{unexplained:?} have no words");
}

fn is_explained(setting: &Value) -> bool {
    setting["description"].as_str().is_some_and(|words| words.len() > 3)
}

/// The pages are there, and begin with a working example.
pub async fn readme_and_types_are_written<F: Fixture>() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let page = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"));
    let readme = page("README.md");
    let example = readme.split("```yaml").nth(1).and_then(|rest| rest.split("```").next()).expect("README.md begins with an example");
    for key in ["system:", &format!("connector: {}", F::Connector::NAME), "config:", "streams:", "key:", "map:"] {
        assert!(example.contains(key), "the example has no {key}");
    }
    assert!(page("TYPES.md").contains('|'), "TYPES.md is a table");
}
