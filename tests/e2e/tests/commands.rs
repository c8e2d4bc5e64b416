//! Commands beside a running hub, and those that need none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::process::Output;

use hub_tests_e2e::{Setup, Source, events};
use serde_json::{Value, json};

const TABLE: &str = "CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, sinh text, phi numeric(14,2), trang_thai text, xoa boolean NOT NULL DEFAULT false);";

const MAPPING: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    where: NOT xoa
    map:
      id: id
      name: ten
      born: vn_date(sinh)
      fee: phi
      status: code('person-status', 'demo', trang_thai)
";

/// Rewrites the system's file; the running hub goes on with what it read.
fn edit(setup: &Setup, from: &str, to: &str) {
    let file = setup.folder.join("systems/demo.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn code(output: &Output, expected: i32) {
    assert_eq!(
        output.status.code(),
        Some(expected),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn verify_tells_missing_extra_and_different_and_finds_every_refused_row() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi SELECT i, 'Nguyễn ' || i, '02/09/1945', i, 'HD' FROM generate_series(1, 1000) i").await;
    source.run("INSERT INTO nguoi VALUES (2001, 'A', '31/02/2000', 1, 'HD'); UPDATE nguoi SET xoa = true WHERE id = 3").await;
    let setup = Setup::new(&source, MAPPING);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 999).await;
    let agrees = setup.command(&["verify", "demo", "--json"]);
    code(&agrees, 0);
    let told = &lines(&agrees)[0];
    let counts =
        ["rows", "filtered", "refused", "keys", "missing", "extra", "different", "unlisted"].map(|name| told[name].as_u64().unwrap());
    assert_eq!(counts, [1001, 1, 1, 999, 0, 0, 0, 0]);
    assert_eq!(told["reasons"], json!({"born: bad-date": 1}));

    edit(&setup, "where: NOT xoa", "where: id <> 2");
    edit(&setup, "name: ten", "name: CASE WHEN id = 1 THEN ten || '!' ELSE ten END");
    let differs = setup.command(&["verify", "demo", "--json", "--wait", "1", "--show", "5"]);
    code(&differs, 1);
    let told = &lines(&differs)[0];
    let counts = ["missing", "extra", "different"].map(|name| told[name].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 1]);
    assert_eq!(told["examples"], json!({"missing": [{"id": 3}], "extra": [{"id": 2}], "different": [{"id": 1}]}));
    let slots = source.text(&format!("SELECT count(*)::text FROM pg_replication_slots WHERE database = '{}'", source.database)).await;
    assert_eq!(slots.as_deref(), Some("1"), "the hub's own and no other");
    drop(hub);
}

#[tokio::test]
async fn replayed_rejects_are_published_once_and_never_over_a_newer_row() {
    let source = Source::create(TABLE).await;
    source
        .run(
            "INSERT INTO nguoi VALUES (1, 'A', '31/02/2000', 1, 'HD'), (2, 'B', NULL, 1, 'ZZ'), (3, NULL, NULL, 1, NULL), \
             (5, 'E', '31/02/2000', 1, NULL), (6, 'F', '31/02/2000', 1, NULL), (7, 'G', NULL, 1, NULL)",
        )
        .await;
    let setup = Setup::new(&source, MAPPING);
    let hub = setup.run();
    hub.counts("public.nguoi", "rejected", 5).await;
    source.run("UPDATE nguoi SET sinh = '01/02/2000' WHERE id = 5").await;
    source.run("DELETE FROM nguoi WHERE id = 6").await;
    hub.counts("public.nguoi", "published", 3).await;
    edit(&setup, "vn_date(sinh)", "try_vn_date(sinh)");
    edit(&setup, "code('person-status'", "try_code('person-status'");

    let dry = setup.command(&["rejects", "replay", "demo", "--json", "--dry-run"]);
    code(&dry, 1);
    let replayed = setup.command(&["rejects", "replay", "demo", "--json"]);
    code(&replayed, 1);
    let fates = |output: &Output| -> Vec<(String, u64)> {
        lines(output).iter().map(|line| (line["fate"].as_str().unwrap().to_owned(), line["rows"].as_u64().unwrap())).collect()
    };
    let expected = [("published", 2), ("refused again", 1), ("superseded", 2)].map(|(fate, rows)| (fate.to_owned(), rows));
    assert_eq!(fates(&replayed), expected);
    assert_eq!(fates(&dry), expected);
    let again = setup.command(&["rejects", "replay", "demo", "--json"]);
    assert_eq!(fates(&again), [("refused again".to_owned(), 1)]);

    let told = events(&setup, &setup.topic("person")).await;
    let ops = |id: i64| told.iter().filter(|event| event.key["id"] == id).map(|event| event.op.as_str()).collect::<Vec<_>>();
    assert_eq!([1, 2, 3, 5, 7].map(ops), [vec!["r"], vec!["r"], vec![], vec!["u"], vec!["r"]]);
    assert_eq!(ops(6), ["d", "tombstone"]);
    code(&setup.command(&["verify", "demo"]), 0);

    // The replay's progress in the checkpoint does not disturb the next start.
    assert!(hub.stop());
    let hub = setup.run();
    hub.reaches("following").await;
    source.run("UPDATE nguoi SET ten = 'C' WHERE id = 3").await;
    hub.counts("public.nguoi", "published", 1).await;
    let settled = setup.command(&["rejects", "replay", "demo", "--json"]);
    code(&settled, 0);
    assert_eq!(fates(&settled), [("superseded".to_owned(), 1)]);
    code(&setup.command(&["verify", "demo"]), 0);
    drop(hub);
}

#[tokio::test]
async fn apply_shows_the_difference_first_and_writes_only_when_told() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, MAPPING);
    code(&setup.command(&["apply", "--dry-run"]), 1);
    let unasked = setup.command(&["apply"]);
    code(&unasked, 2);
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("--yes"), "an error says what to do");
    code(&setup.command(&["apply", "--yes"]), 0);
    code(&setup.command(&["apply", "--dry-run"]), 0);
    edit(&setup, "where: NOT xoa", "where: id > 5");
    let changed = setup.command(&["apply", "--dry-run"]);
    code(&changed, 1);
    let text = String::from_utf8_lossy(&changed.stdout).into_owned();
    assert!(text.contains("-     where: NOT xoa") && text.contains("+     where: id > 5"), "{text}");
    edit(&setup, "system: demo", "system: other");
    code(&setup.command(&["apply", "--yes"]), 0);
    let kept = setup.command(&["apply", "--json", "--dry-run"]);
    code(&kept, 0);
    assert_eq!(lines(&kept)[0], json!({"system": "demo", "change": "not in the folder", "parts": []}));
    code(&setup.command(&["apply", "--yes", "--prune"]), 0);
    let pruned = setup.command(&["apply", "--json", "--dry-run", "--prune"]);
    let told: Vec<_> = lines(&pruned).iter().map(|line| format!("{} {}", line["system"], line["change"])).collect();
    assert_eq!(told, ["\"demo\" \"being removed\"", "\"other\" \"unchanged\""], "a running hub takes it away");
}

#[tokio::test]
async fn rows_are_previewed_before_and_tailed_after_they_are_published() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'Trần Thị Ánh', '02/09/1945', 8, 'HD'), (2, 'B', '31/02/2000', 1, 'HD')").await;
    let setup = Setup::new(&source, MAPPING);
    let preview = setup.command(&["preview", "demo/public.nguoi", "--json"]);
    code(&preview, 0);
    let told = lines(&preview);
    assert_eq!(told[0]["canonical"]["born"], "1945-09-02");
    assert_eq!((told[1]["field"].as_str(), told[1]["reason"].as_str()), (Some("born"), Some("bad-date")));
    let discovered = setup.command(&["discover", "demo", "--stream", "public.nguoi", "--draft"]);
    code(&discovered, 0);
    assert!(String::from_utf8_lossy(&discovered.stdout).contains("- source: public.nguoi"));
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    let tail = setup.command(&["tail", &setup.topic("person"), "--json", "--key", "1"]);
    code(&tail, 0);
    let record = &lines(&tail)[0];
    assert_eq!(record["value"]["after"], json!({"id": 1, "name": "Trần Thị Ánh", "born": "1945-09-02", "fee": "8.00", "status": "active"}));
    let checked = setup.command(&["schemas", "check", "--json"]);
    code(&checked, 0);
    assert!(lines(&checked).iter().all(|line| line["verdict"] == "as registered (version 1)"), "{:?}", lines(&checked));
    code(&setup.command(&["tail", "no.such.topic"]), 4);
    code(&setup.command(&["preview", "demo/public.nguoii"]), 2);
    drop(hub);
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn what_a_running_hub_does_and_what_it_refused_is_shown() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', NULL, 1, NULL), (2, 'B', '31/02/2000', 1, NULL), (3, 'C', NULL, 1, 'ZZ')").await;
    let setup = Setup::new(&source, MAPPING);
    let none = setup.command(&["status"]);
    code(&none, 4);
    assert!(String::from_utf8_lossy(&none.stderr).contains(&setup.http.to_string()), "it says where no hub answers");
    let hub = setup.run();
    hub.counts("public.nguoi", "rejected", 2).await;
    hub.reaches("following").await;

    let status = setup.command(&["status", "--json"]);
    code(&status, 0);
    let told = &lines(&status)[0];
    let counts = ["captured", "published", "rejected"].map(|name| told["streams"]["public.nguoi"][name].as_u64().unwrap());
    assert_eq!((told["system"].as_str(), told["state"].as_str(), counts), (Some("demo"), Some("following"), [3, 1, 2]));
    let table = text(&setup.command(&["status", "--streams"]));
    assert!(table.contains("following for") && table.contains(&setup.topic("person")), "{table}");

    let rejects = setup.command(&["rejects", "list", "demo", "--json"]);
    code(&rejects, 0);
    let told: Vec<_> =
        lines(&rejects).into_iter().map(|line| json!([line["stream"], line["field"], line["reason"], line["count"]])).collect();
    let expected = [json!(["public.nguoi", "born", "bad-date", 1]), json!(["public.nguoi", "status", "unknown-code", 1])];
    assert_eq!(told, expected);

    let discovered = setup.command(&["discover", "demo", "--json"]);
    code(&discovered, 0);
    let streams = lines(&discovered);
    assert_eq!(streams.len(), 1);
    assert_eq!((streams[0]["stream"].as_str(), &streams[0]["identity"]), (Some("public.nguoi"), &json!(["id"])));
    let table = text(&setup.command(&["discover", "demo"]));
    assert!(table.lines().any(|line| line.contains("public.nguoi") && line.contains("yes")), "it says what is mapped: {table}");
    edit(&setup, "vn_date(sinh)", "vn_dat(sinh)");
    code(&setup.command(&["discover", "demo"]), 0);
    code(&setup.command(&["preview", "demo"]), 3);
    assert!(hub.stop());
    source.remove().await;
}

#[test]
fn the_words_of_a_configuration_are_explained_by_the_hub_itself() {
    let setup = Setup::with_config("config: {host: a, database: b, user: c}", MAPPING);
    let listed = setup.command(&["schemas", "list", "--json"]);
    code(&listed, 0);
    let told: Vec<_> =
        lines(&listed).into_iter().map(|line| json!([line["entity"], line["fields"], line["personal"], line["topics"]])).collect();
    let expected = [json!(["test.Other", 5, 2, []]), json!(["test.Person", 5, 2, [setup.topic("person")]])];
    assert_eq!(told, expected);
    let shown = text(&setup.command(&["schemas", "show", "test.Person"]));
    let row = |name: &str| shown.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default().to_owned();
    assert!(row("fee").contains("decimal(14,2)") && row("name").contains("personal") && row("status").contains("person-status"), "{shown}");
    let avro = lines(&setup.command(&["schemas", "show", "test.Person", "--avro"]));
    assert_eq!(avro[0]["namespace"], "vn.hub.test");
    let unknown = setup.command(&["schemas", "show", "test.Persn"]);
    code(&unknown, 2);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean `test.Person`"));

    let functions = text(&setup.command(&["functions", "--markdown"]));
    let page = std::fs::read_to_string(hub_tests_e2e::root().join("docs/functions.md")).unwrap();
    assert_eq!(functions.trim_end(), page.trim_end(), "docs/functions.md is what `hub functions --markdown` prints");
    assert!(text(&setup.command(&["functions"])).contains("vn_date("));
    assert!(text(&setup.command(&["functions", "try_vn_date"])).contains("bad-date"));
    code(&setup.command(&["functions", "vn_dat"]), 2);

    let connectors = setup.command(&["connectors", "--json"]);
    code(&connectors, 0);
    let told = lines(&connectors);
    let postgres = told.iter().find(|kind| kind["name"] == "postgres").unwrap();
    assert!(postgres["schema"]["properties"]["host"].is_object(), "{postgres}");
    let settings = text(&setup.command(&["connectors", "describe", "postgres"]));
    assert!(settings.lines().any(|line| line.contains("password") && line.contains("secret")), "{settings}");

    for (arguments, key) in [(&["config", "schema"][..], "connector"), (&["config", "schema", "hub"], "kafka")] {
        let schema: Value = serde_json::from_str(&text(&setup.command(arguments))).unwrap();
        assert!(schema["properties"][key].is_object(), "{arguments:?}: {schema}");
    }
}
