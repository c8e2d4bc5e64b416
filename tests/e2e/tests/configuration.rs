//! `hub check` against a real source, and what `hub apply` and `hub run` refuse before anything reaches Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use hub_tests_e2e::{BROKERS, Setup, Source, root};
use rdkafka::admin::AdminClient;
use rdkafka::config::ClientConfig;

const TABLE: &str = "CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, sinh text, phi numeric(14,2));";
const STREAM: &str = "  - source: public.nguoi
    entity: test.Person
    key: [id]
    map:
      id: id
      name: ten
      born: vn_date(sinh)
      fee: phi
";

/// The exit code and what was said, the folder's own path left out.
fn said(setup: &Setup, arguments: &[&str]) -> (Option<i32>, String) {
    let output = setup.command(arguments);
    let text = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.replace(&format!("{}/", setup.folder.display()), ""))
}

fn topics_of(setup: &Setup) -> Vec<String> {
    let client: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", BROKERS).create().unwrap();
    let found = client.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
    found.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| name.contains(&setup.prefix)).collect()
}

#[tokio::test]
async fn check_holds_mappings_against_the_source_and_says_what_would_fit() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    let (code, text) = said(&setup, &["check"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 systems checked: nothing stands in the way") && !text.contains("error: "), "{text}");

    let wrong = STREAM.replace("name: ten", "name: tne").replace("fee: phi", "fee: ten").replace("vn_date(sinh)", "personal_id(sinh)");
    let config = std::fs::read_to_string(setup.folder.join("systems/demo.yaml")).unwrap();
    setup.write_system(&config.replace(STREAM, &wrong));
    let (code, text) = said(&setup, &["check", "demo"]);
    assert_eq!(code, Some(3), "{text}");
    let told: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let expected = [
        "error: systems/demo.yaml:11:13: field born: wants date but the expression gives text; write vn_date(personal_id(sinh))",
        "error: systems/demo.yaml:10:13: field name: the source has no column tne; did you mean ten?",
        "error: systems/demo.yaml:12:12: field fee: wants decimal(14,2) but the expression gives text; write CAST(ten AS DECIMAL(14,2))",
    ];
    assert_eq!(told, expected, "{text}");

    setup.write_system(&config.replace("public.nguoi", "public.nguoii"));
    let (code, text) = said(&setup, &["check"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("systems/demo.yaml:5:13: the source has no stream public.nguoii; did you mean `public.nguoi`?"), "{text}");
    setup.write_system(&config.replace(&format!("port: {}", source.port), "port: 1"));
    let (code, text) = said(&setup, &["check"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("error: systems/demo.yaml:3:9: ") && text.contains("127.0.0.1"), "a source that is away is told: {text}");
    source.remove().await;
}

#[test]
fn a_delivery_that_has_not_come_yet_is_a_note_and_no_fault_of_its_mapping() {
    let setup = Setup::with_config("config: {}", STREAM);
    let folder = setup.folder.join("in");
    std::fs::create_dir(&folder).unwrap();
    let config = format!("{{folder: {}, streams: {{nguoi: {{pattern: nguoi*.csv}}}}}}", folder.display());
    let streams =
        STREAM.replace("public.nguoi", "nguoi").replace("id: id", "id: CAST(id AS BIGINT)").replace("phi", "CAST(phi AS DECIMAL(14,2))");
    setup.write_system(&format!("system: demo\nconnector: files\nconfig: {config}\nstreams:\n{streams}"));
    let (code, text) = said(&setup, &["check"]);
    assert_eq!(code, Some(0), "{text}");
    let notes: Vec<&str> = text.lines().filter(|line| line.starts_with("note: ")).collect();
    assert_eq!(notes.len(), 2, "{text}");
    assert!(notes[0].contains("fits nguoi*.csv yet") && notes[1].contains("the columns of nguoi are not known yet"), "{text}");

    std::fs::write(folder.join("nguoi1.csv"), "id,ten,phi\n1,Lan,5\n").unwrap();
    let (code, text) = said(&setup, &["check", setup.folder.to_str().unwrap(), "--config", "/nowhere"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("field born: the source has no column sinh"), "{text}");
}

#[test]
fn the_example_that_each_page_begins_with_is_accepted_as_it_stands() {
    let connectors = root().join("connectors");
    let pages = std::fs::read_dir(&connectors).unwrap().map(|entry| entry.unwrap().path().join("README.md"));
    let pages: Vec<_> = pages.filter(|page| page.exists()).chain([root().join("README.md")]).collect();
    let setup = Setup::with_config("config: {}", STREAM);
    let (_, kinds) = said(&setup, &["connectors", "list", "--json"]);
    assert_eq!(pages.len(), kinds.lines().count() + 1, "a page of each connector and the project's own: {kinds}");

    std::fs::remove_file(setup.folder.join("schemas")).unwrap();
    std::os::unix::fs::symlink(root().join("schemas"), setup.folder.join("schemas")).unwrap();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        for secret in example.split("${file:").skip(1).map(|rest| rest.split('}').next().unwrap()) {
            let file = setup.folder.join(secret);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "x").unwrap();
        }
        setup.write_system(example);
        let (code, told) = said(&setup, &["check", "--offline"]);
        assert_eq!(code, Some(0), "{}: {told}", page.display());
    }
}

#[test]
fn a_mapping_that_no_source_can_fit_is_refused_before_anything_reaches_kafka() {
    let config = "config: {host: 127.0.0.1, port: 1, database: x, user: hub, slot: SLOT}";
    let setup = Setup::with_config(config, &STREAM.replace("vn_date(sinh)", "vn_dat(sinh)").replace("name: ten", "nam: ten"));
    for arguments in [&["check", "--offline"][..], &["apply", "--yes"], &["run"], &["verify", "demo"]] {
        let (code, text) = said(&setup, arguments);
        assert_eq!(code, Some(3), "{arguments:?}: {text}");
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        let expected = [
            "error: systems/demo.yaml:10:12: field nam: test.Person has no such field; did you mean name?",
            "error: systems/demo.yaml:11:13: field born: there is no function vn_dat; did you mean vn_date?",
        ];
        assert_eq!(told, expected, "{arguments:?}: {text}");
    }
    assert_eq!(topics_of(&setup), Vec::<String>::new());
}

#[test]
fn files_of_kafkas_tls_are_looked_for_in_the_configuration_folder() {
    let setup = Setup::with_config("config: {host: 127.0.0.1, database: x, user: hub}", STREAM);
    let tls = |ca: &str| {
        let text = format!("kafka: {{brokers: \"127.0.0.1:1\", topic_prefix: {}, tls: {{ca: {ca}}}}}\nschemas: schemas\n", setup.prefix);
        std::fs::write(setup.folder.join("hub.yaml"), text).unwrap();
    };
    std::fs::create_dir_all(setup.folder.join("tls")).unwrap();
    std::fs::write(setup.folder.join("tls/ca.pem"), "").unwrap();
    tls("tls/ca.pem");
    let (code, text) = said(&setup, &["check", "--offline"]);
    assert_eq!(code, Some(0), "{text}");
    tls("tls/cb.pem");
    let (code, text) = said(&setup, &["check", "--offline"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("error: hub.yaml:1:") && text.contains("there is no file tls/cb.pem"), "{text}");
}
