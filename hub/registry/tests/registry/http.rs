//! The HTTP interface, answer by answer.

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Served, record};

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_registered_listed_found_and_deleted_in_two_steps() {
    let registry = Served::fresh("life").await;
    let (one, two) = (record("R", &["a:int"]), record("R", &["a:int", "b:int=0"]));
    assert_eq!(registry.register("s", &one).await, json!({"id": 1}));
    assert_eq!(registry.register("s", &two).await, json!({"id": 2}));
    assert_eq!(registry.register("s", &one).await, json!({"id": 1}), "registering again finds it");
    assert_eq!(registry.register("other", &two).await, json!({"id": 2}), "one text has one id everywhere");
    assert_eq!(registry.register("third", "\"string\"").await, json!({"id": 3}));

    assert_eq!(registry.get("/subjects").await, json!(["other", "s", "third"]));
    assert_eq!(registry.get("/subjects?subjectPrefix=t").await, json!(["third"]));
    assert_eq!(registry.get("/subjects/s/versions").await, json!([1, 2]));
    let second = json!({"subject": "s", "version": 2, "id": 2, "schema": two});
    assert_eq!(registry.get("/subjects/s/versions/2").await, second);
    assert_eq!(registry.get("/subjects/s/versions/latest").await, second);
    assert_eq!(registry.get("/subjects/s/versions/-1").await, second);
    assert_eq!(registry.get("/subjects/s/versions/1/schema").await.to_string(), one);
    assert_eq!(registry.post("/subjects/s", json!({"schema": one})).await["version"], 1);
    assert_eq!(registry.get("/schemas/ids/2").await, json!({"schema": two}));
    assert_eq!(registry.get("/schemas/ids/2?fetchMaxId=true").await, json!({"schema": two, "maxId": 3}));
    assert_eq!(registry.get("/schemas/ids/2/schema").await.to_string(), two);
    assert_eq!(registry.get("/schemas/ids/2/subjects").await, json!(["other", "s"]));
    let uses = json!([{"subject": "other", "version": 1}, {"subject": "s", "version": 2}]);
    assert_eq!(registry.get("/schemas/ids/2/versions").await, uses);
    assert_eq!(registry.get("/schemas/types").await, json!(["AVRO"]));
    assert_eq!(registry.get("/schemas").await.as_array().unwrap().len(), 4);
    assert_eq!(registry.get("/schemas?latestOnly=true&subjectPrefix=s").await, json!([second]));
    assert_eq!(registry.get("/schemas?offset=1&limit=1").await[0]["subject"], "s");

    assert_eq!(registry.delete("/subjects/s/versions/1").await, json!(1));
    assert_eq!(registry.get("/subjects/s/versions").await, json!([2]));
    assert_eq!(registry.get("/subjects/s/versions?deleted=true").await, json!([1, 2]));
    assert_eq!(registry.get("/subjects/s/versions?deletedOnly=true").await, json!([1]));
    let deleted = json!({"subject": "s", "version": 1, "id": 1, "schema": one, "deleted": true});
    assert_eq!(registry.get("/subjects/s/versions/1?deleted=true").await, deleted);
    assert_eq!(registry.get("/schemas/ids/1").await, json!({"schema": one}), "messages with the id can still be read");
    assert_eq!(registry.get("/schemas/ids/1/subjects").await, json!([]));
    assert_eq!(registry.get("/schemas/ids/1/subjects?deleted=true").await, json!(["s"]));
    assert_eq!(registry.delete("/subjects/s/versions/1?permanent=true").await, json!(1));

    assert_eq!(registry.delete("/subjects/s").await, json!([2]));
    assert_eq!(registry.get("/subjects").await, json!(["other", "third"]));
    assert_eq!(registry.get("/subjects?deleted=true").await, json!(["other", "s", "third"]));
    assert_eq!(registry.get("/subjects?deletedOnly=true").await, json!(["s"]));
    assert_eq!(registry.register("s", &two).await, json!({"id": 2}), "a deleted subject lives again, with a new version");
    assert_eq!(registry.get("/subjects/s/versions").await, json!([3]));
    assert_eq!(registry.delete("/subjects/s").await, json!([3]));
    assert_eq!(registry.delete("/subjects/s?permanent=true").await, json!([2, 3]));
    assert_eq!(registry.get("/subjects?deleted=true").await, json!(["other", "third"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_hold_for_all_subjects_or_for_one() {
    let registry = Served::fresh("levels").await;
    assert_eq!(registry.get("/config").await, json!({"compatibilityLevel": "BACKWARD"}));
    assert_eq!(registry.put("/config", json!({"compatibility": "full"})).await, json!({"compatibility": "FULL"}));
    assert_eq!(registry.put("/config/s", json!({"compatibility": "NONE"})).await, json!({"compatibility": "NONE"}));
    assert_eq!(registry.get("/config").await, json!({"compatibilityLevel": "FULL"}));
    assert_eq!(registry.get("/config/s").await, json!({"compatibilityLevel": "NONE"}));
    assert_eq!(registry.get("/config/t?defaultToGlobal=true").await, json!({"compatibilityLevel": "FULL"}));

    registry.register("s", &record("R", &["a:int"])).await;
    registry.register("s", &record("Other", &["z:string"])).await;
    registry.register("t", &record("R", &["a:int"])).await;
    let wider = json!({"schema": record("R", &["a:long"])});
    let (_, code, message) = registry.refused(Method::POST, "/subjects/t/versions", Some(wider.clone())).await;
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Schema being registered is incompatible with an earlier schema for subject \"t\", details: [{errorType:'TYPE_MISMATCH', \
         description:'The type (path '/fields/0/type') of a field in the old schema does not match with the new schema', \
         additionalInfo:'reader type: INT not compatible with writer type: LONG'}, {oldSchemaVersion: 1}, \
         {oldSchema: '{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":\"int\"}]}'}, \
         {validateFields: 'false', compatibility: 'FULL'}]"
    );
    assert_eq!(registry.delete("/config/s").await, json!({"compatibilityLevel": "NONE"}));
    assert_eq!(registry.delete("/config").await, json!({"compatibilityLevel": "FULL"}));
    assert_eq!(registry.get("/config").await, json!({"compatibilityLevel": "BACKWARD"}));
    registry.post("/subjects/t/versions", wider).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_can_be_judged_without_being_registered() {
    let registry = Served::fresh("judge").await;
    let offer = |fields: &[&str]| json!({"schema": record("R", fields)});
    let latest = "/compatibility/subjects/s/versions/latest";
    assert_eq!(registry.post(latest, offer(&["a:int"])).await, json!({"is_compatible": true}), "the first one always fits");
    registry.register("s", &record("R", &["a:int"])).await;
    registry.register("s", &record("R", &["a:int", "b:int=1"])).await;
    let plain = offer(&["a:int", "b:int"]);
    assert_eq!(registry.post(latest, plain.clone()).await, json!({"is_compatible": true}));
    let first = registry.post("/compatibility/subjects/s/versions/1?verbose=true", plain.clone()).await;
    assert_eq!(first["is_compatible"], false);
    let messages = first["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 4);
    assert!(messages[0].as_str().unwrap().starts_with("{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE'"), "{first}");
    let all = "/compatibility/subjects/s/versions?verbose=true";
    assert_eq!(registry.post(all, plain.clone()).await, json!({"is_compatible": true, "messages": []}));
    registry.put("/config/s", json!({"compatibility": "BACKWARD_TRANSITIVE"})).await;
    assert_eq!(registry.post(all, plain).await["is_compatible"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_may_refer_to_others_which_then_cannot_be_deleted() {
    let registry = Served::fresh("references").await;
    let agency = r#"{"type":"record","name":"Agency","namespace":"hub","fields":[{"name":"code","type":"string"}]}"#;
    let unit = r#"{"type":"record","name":"Unit","namespace":"hub","fields":[{"name":"agency","type":"hub.Agency"}]}"#;
    let dossier = r#"{"type":"record","name":"Dossier","namespace":"hub","fields":[{"name":"unit","type":"hub.Unit"}]}"#;
    let refer = |name: &str, subject: &str, version: i32| json!([{"name": name, "subject": subject, "version": version}]);
    registry.register("agency", agency).await;
    let body = json!({"schema": unit, "references": refer("hub.Agency", "agency", 1)});
    assert_eq!(registry.post("/subjects/unit/versions", body.clone()).await, json!({"id": 2}));
    // A chain, and -1 for the latest.
    let body_of_dossier = json!({"schema": dossier, "schemaType": "AVRO", "references": refer("hub.Unit", "unit", -1)});
    assert_eq!(registry.post("/subjects/dossier/versions", body_of_dossier).await, json!({"id": 3}));
    let found = registry.get("/subjects/dossier/versions/1").await;
    assert_eq!(found["references"], refer("hub.Unit", "unit", 1));
    assert_eq!(registry.get("/schemas/ids/2").await["references"], refer("hub.Agency", "agency", 1));
    assert_eq!(registry.post("/subjects/unit", body).await["version"], 1);
    assert_eq!(registry.get("/subjects/agency/versions/1/referencedby").await, json!([2]));
    assert_eq!(registry.get("/subjects/dossier/versions/latest/referencedby").await, json!([]));

    for path in ["/subjects/agency/versions/1", "/subjects/agency"] {
        let (status, code, _) = registry.refused(Method::DELETE, path, None).await;
        assert_eq!((status, code), (422, 42206), "{path}");
    }
    registry.delete("/subjects/dossier").await;
    registry.delete("/subjects/unit").await;
    registry.delete("/subjects/agency").await;
    let (_, code, _) = registry.refused(Method::DELETE, "/subjects/agency?permanent=true", None).await;
    assert_eq!(code, 42206, "a schema that is only soft-deleted may be needed to decode, and so what it refers to");
    for subject in ["dossier", "unit", "agency"] {
        registry.delete(&format!("/subjects/{subject}?permanent=true")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whitespace_and_order_do_not_make_another_schema_and_properties_do_only_until_normalised() {
    let registry = Served::fresh("identity").await;
    let spaced = r#"{ "name": "R", "fields": [ {"type": "int", "name": "a"} ], "type": "record", "x": 1, "y": 2 }"#;
    let turned = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}],"y":2,"x":1}"#;
    assert_eq!(registry.register("s", spaced).await, json!({"id": 1}));
    assert_eq!(registry.register("s", &spaced.replace(' ', "\n")).await, json!({"id": 1}));
    let (_, code, _) = registry.refused(Method::POST, "/subjects/s", Some(json!({"schema": turned}))).await;
    assert_eq!(code, 40403);
    assert_eq!(registry.post("/subjects/s?normalize=true", json!({"schema": turned})).await["version"], 1);
    assert_eq!(registry.post("/subjects/s/versions?normalize=true", json!({"schema": turned})).await, json!({"id": 1}));
    assert_eq!(registry.register("s", turned).await, json!({"id": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_keep_writers_out_and_let_imports_in() {
    let registry = Served::fresh("modes").await;
    assert_eq!(registry.get("/mode").await, json!({"mode": "READWRITE"}));
    assert_eq!(registry.put("/mode/imported", json!({"mode": "import"})).await, json!({"mode": "IMPORT"}));
    let import = json!({"schema": "\"string\"", "id": 40, "version": 7});
    assert_eq!(registry.post("/subjects/imported/versions", import).await, json!({"id": 40}));
    assert_eq!(registry.get("/subjects/imported/versions").await, json!([7]));
    assert_eq!(registry.delete("/mode/imported").await, json!({"mode": "IMPORT"}));
    assert_eq!(registry.register("s", "\"int\"").await, json!({"id": 41}), "ids go on after the highest");

    registry.put("/mode/s", json!({"mode": "READONLY"})).await;
    assert_eq!(registry.get("/mode/s").await, json!({"mode": "READONLY"}));
    assert_eq!(registry.get("/mode/t?defaultToGlobal=true").await, json!({"mode": "READWRITE"}));
    assert_eq!(registry.register("s", "\"int\"").await, json!({"id": 41}), "what is there is found even when only reading");
    for (method, path, body) in [
        (Method::POST, "/subjects/s/versions", Some(json!({"schema": "\"long\""}))),
        (Method::DELETE, "/subjects/s", None),
        (Method::PUT, "/config/s", Some(json!({"compatibility": "NONE"}))),
    ] {
        let (_, code, message) = registry.refused(method, path, body).await;
        assert_eq!((code, message.as_str()), (42205, "Subject s is in read-only mode"), "{path}");
    }
    registry.put("/mode/s", json!({"mode": "READWRITE"})).await;
    assert_eq!(registry.register("s", "\"long\"").await, json!({"id": 42}));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_subject_forgets_its_level_and_its_mode() {
    let registry = Served::fresh("forget").await;
    registry.register("s", "\"int\"").await;
    registry.put("/config/s", json!({"compatibility": "NONE"})).await;
    registry.put("/mode/s", json!({"mode": "READWRITE"})).await;
    registry.delete("/subjects/s").await;
    assert_eq!(registry.refused(Method::GET, "/config/s", None).await.1, 40408);
    assert_eq!(registry.refused(Method::GET, "/mode/s", None).await.1, 40409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_may_have_any_printable_name() {
    let registry = Served::fresh("names").await;
    for (path, subject) in [("a%2Fb%3Fc", "a/b?c"), ("h%E1%BB%93-s%C6%A1", "hồ-sơ")] {
        registry.register(path, "\"int\"").await;
        assert_eq!(registry.get(&format!("/subjects/{path}/versions/1")).await["subject"], subject);
    }
    assert_eq!(registry.get("/").await, json!({}));
    let metadata: Value = registry.get("/v1/metadata/id").await;
    assert_eq!(metadata["scope"]["clusters"]["kafka-cluster"].as_str().unwrap(), registry.registry.cluster());
    assert!(!registry.registry.cluster().is_empty());
}
