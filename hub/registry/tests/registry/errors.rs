//! Every error code, with its HTTP status.

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Served, record};

/// Subjects: `live` (v1), `soft` (v1 deleted), `half` (v1 deleted, v2 live), `free` (any change fits).
async fn prepared() -> Served {
    let registry = Served::fresh("errors").await;
    for subject in ["live", "soft", "half"] {
        registry.register(subject, &record("R", &["a:int"])).await;
    }
    registry.register("half", &record("R", &["a:int", "b:int=0"])).await;
    registry.delete("/subjects/soft").await;
    registry.delete("/subjects/half/versions/1").await;
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_confluents_code_status_and_words() {
    let registry = prepared().await;
    let schema = |text: &str| Some(json!({"schema": text}));
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let not_first = "was not deleted first before being permanently deleted";
    let cases: Vec<(&Method, &str, Option<Value>, i64, &str)> = vec![
        (&get, "/subjects/none/versions", None, 40401, "Subject 'none' not found."),
        (&get, "/subjects/soft/versions", None, 40401, "Subject 'soft' not found."),
        (&get, "/subjects/none/versions/1", None, 40401, "Subject 'none' not found."),
        (&get, "/subjects/none/versions/latest", None, 40401, "Subject 'none' not found."),
        (&get, "/subjects/none/versions/1/referencedby", None, 40401, "Subject 'none' not found."),
        (&post, "/subjects/none", schema("\"int\""), 40401, "Subject 'none' not found."),
        (&delete, "/subjects/none", None, 40401, "Subject 'none' not found."),
        (&delete, "/subjects/none/versions/1", None, 40401, "Subject 'none' not found."),
        (&delete, "/subjects/none/versions/latest", None, 40401, "Subject 'none' not found."),
        (&delete, "/config/none", None, 40401, "Subject 'none' not found."),
        (&delete, "/mode/none", None, 40401, "Subject 'none' not found."),
        (&get, "/subjects/live/versions/9", None, 40402, "Version 9 not found."),
        (&get, "/subjects/live/versions/9/schema", None, 40402, "Version 9 not found."),
        (&get, "/subjects/half/versions/1", None, 40402, "Version 1 not found."),
        (&delete, "/subjects/live/versions/9", None, 40402, "Version 9 not found."),
        (&post, "/compatibility/subjects/live/versions/9", schema("\"int\""), 40402, "Version 9 not found."),
        (&get, "/schemas/ids/9999", None, 40403, "Schema 9999 not found"),
        (&get, "/schemas/ids/9999/schema", None, 40403, "Schema 9999 not found"),
        (&get, "/schemas/ids/9999/subjects", None, 40403, "Schema 9999 not found"),
        (&get, "/schemas/ids/9999/versions", None, 40403, "Schema 9999 not found"),
        (&post, "/subjects/live", schema("\"int\""), 40403, "Schema not found"),
        (&delete, "/subjects/soft", None, 40404, "Subject 'soft' was soft deleted.Set permanent=true to delete permanently"),
        (&delete, "/subjects/live?permanent=true", None, 40405, not_first),
        (&delete, "/subjects/half/versions/1", None, 40406, "Subject 'half' Version 1 was soft deleted.Set permanent=true"),
        (&delete, "/subjects/live/versions/1?permanent=true", None, 40407, not_first),
        (&get, "/config/live", None, 40408, "Subject 'live' does not have subject-level compatibility configured"),
        (&get, "/mode/live", None, 40409, "Subject 'live' does not have subject-level mode configured"),
        (
            &post,
            "/subjects/live/versions",
            schema(&record("S", &["z:int"])),
            409,
            "incompatible with an earlier schema for subject \"live\"",
        ),
        (&post, "/subjects/new/versions", schema("\"nothing\""), 42201, "Invalid schema: Undefined name: \"nothing\""),
        (&post, "/subjects/new/versions", schema("{"), 42201, "Invalid schema: the schema is not JSON"),
        (&post, "/subjects/new/versions", schema(""), 42201, "Empty schema"),
        (&post, "/subjects/new/versions", Some(json!({})), 42201, "Empty schema"),
        (&post, "/subjects/new/versions", Some(json!({"schema": "syntax", "schemaType": "PROTOBUF"})), 42201, "keeps AVRO only"),
        (&post, "/subjects/new/versions", Some(json!({"schema": "\"int\"", "metadata": {}})), 42201, "keeps no metadata"),
        (
            &post,
            "/subjects/new/versions",
            Some(json!({"schema": "\"x.Y\"", "references": [{"name": "x.Y", "subject": "none", "version": 1}]})),
            42201,
            "No schema reference found for subject \"none\" and version 1",
        ),
        (&post, "/compatibility/subjects/live/versions/latest", schema("[]]"), 42201, "Invalid schema"),
        (&get, "/subjects/live/versions/0", None, 42202, "The specified version '0' is not a valid version id."),
        (&get, "/subjects/live/versions/first", None, 42202, "The specified version 'first' is not a valid version id."),
        (&delete, "/subjects/live/versions/2147483648", None, 42202, "'2147483648' is not a valid version id."),
        (&post, "/compatibility/subjects/live/versions/x", schema("\"int\""), 42202, "'x' is not a valid version id."),
        (&put, "/config", Some(json!({"compatibility": "SOMETIMES"})), 42203, "Invalid compatibility level. Valid values are none,"),
        (&put, "/config/live", Some(json!({})), 42203, "Invalid compatibility level."),
        (&put, "/mode", Some(json!({"mode": "SLOW"})), 42204, "Invalid mode. Valid values are READWRITE,"),
        (&put, "/mode/live", Some(json!({"mode": "IMPORT"})), 42205, "Cannot import since found existing subjects"),
        (&put, "/mode", Some(json!({"mode": "IMPORT"})), 42205, "Cannot import since found existing subjects"),
        (&post, "/subjects/new/versions", Some(json!({"schema": "\"int\"", "id": 77})), 42205, "Subject new is not in import mode"),
        (&post, "/subjects/live/versions", Some(json!({"schema": record("R", &["a:int"]), "id": 77})), 42207, "instead of input id 77"),
        (&post, "/subjects/a%0Ab/versions", schema("\"int\""), 42208, "The specified subject 'a\\nb' is not a valid subject."),
        (&post, "/subjects/new/versions", Some(json!({"schema": "\"int\"", "ruleSet": {}})), 42210, "keeps no rule sets"),
        (&get, "/nothing", None, 404, "HTTP 404 Not Found"),
        (&get, "/schemas/ids/x", None, 404, "HTTP 404 Not Found"),
        (&put, "/subjects", None, 405, "HTTP 405 Method Not Allowed"),
        (&post, "/subjects/new/versions", None, 422, "The request has no body"),
        (&post, "/subjects/new/versions", Some(json!([])), 42201, "Empty schema"),
        (&put, "/config", Some(json!(1)), 400, "The request's body is not understood"),
    ];
    for (method, path, body, code, words) in cases {
        let (status, got, message) = registry.refused(method.clone(), path, body).await;
        assert_eq!((got, i64::from(status)), (code, head(code)), "{method} {path}: {message}");
        assert!(message.contains(words), "{method} {path}: {message}");
    }
    assert_eq!(registry.get("/subjects").await, json!(["half", "live"]), "what was refused left nothing behind");
}

/// The HTTP status within a code.
fn head(code: i64) -> i64 {
    if code < 1_000 { code } else { code / 100 }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_import_mode_an_id_keeps_its_schema() {
    let registry = Served::fresh("import").await;
    registry.put("/mode", json!({"mode": "IMPORT"})).await;
    registry.post("/subjects/a/versions", json!({"schema": "\"int\"", "id": 5, "version": 1})).await;
    let other = json!({"schema": "\"long\"", "id": 5, "version": 2});
    let (_, code, message) = registry.refused(Method::POST, "/subjects/a/versions", Some(other)).await;
    assert_eq!((code, message.as_str()), (42205, "Overwrite new schema with id 5 is not permitted."));
    let (_, code, _) = registry.refused(Method::POST, "/subjects/b/versions", Some(json!({"schema": "\"long\""}))).await;
    assert_eq!(code, 42205, "an import names its ids");
    // Imports are not judged: they come from a registry that did.
    registry.post("/subjects/a/versions", json!({"schema": "\"string\"", "id": 6, "version": 9})).await;
    assert_eq!(registry.get("/subjects/a/versions").await, json!([1, 9]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_larger_than_a_record_may_be_is_refused_as_too_large() {
    let registry = Served::fresh("large").await;
    let doc = "x".repeat(1_200_000);
    let schema = json!({"type": "record", "name": "R", "doc": doc, "fields": []}).to_string();
    let (status, code, message) = registry.refused(Method::POST, "/subjects/s/versions", Some(json!({"schema": schema}))).await;
    assert_eq!((status, code), (422, 42209), "{message}");
    registry.register("s", "\"int\"").await;
}
