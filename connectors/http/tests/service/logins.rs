//! Logins: tokens that are had once, renewed, refused, and carried where the service wants them.

use std::sync::{Arc, Mutex};

use hub_sdk::model::Checkpoint;
use hub_sdk::{Connector, ErrorKind};
use serde_json::{Value, json};

use crate::reader::{Reader, config, failure, open};
use crate::support::{Asked, FakeLgsp, Reply, Tokens, client};

fn stream() -> Value {
    json!({"a": {"path": "/ds", "key": ["id"]}})
}

fn list() -> Reply {
    Reply::json(&json!([{"id": 1}]))
}

async fn behind(tokens: &Arc<Tokens>) -> FakeLgsp {
    let tokens = Arc::clone(tokens);
    FakeLgsp::start(move |asked| tokens.guard(asked).unwrap_or_else(list)).await
}

#[tokio::test]
async fn a_token_is_had_once_by_all_and_anew_when_it_is_no_longer_taken() {
    let tokens = Arc::new(Tokens::lasting(3_600));
    let server = behind(&tokens).await;
    let mut streams = stream();
    streams["b"] = streams["a"].clone();
    let config = config(&server, json!({"auth": client(), "streams": streams}));
    let connector = open(&config).await;
    let _reader = Reader::start(&connector, &Checkpoint::empty());
    server.was_asked("/ds", 10).await;
    connector.probe().await.unwrap();
    assert!(open(&config).await.probe().await.unwrap().is_ready());
    assert_eq!(server.asked("/token").len(), 1, "streams, probes and later runs share it");
    tokens.revoke();
    let asked = server.asked("/ds").len();
    server.was_asked("/token", 2).await;
    server.was_asked("/ds", asked + 10).await;
    assert_eq!(server.asked("/token").len(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_is_over() {
    let tokens = Arc::new(Tokens::lasting(1));
    let server = behind(&tokens).await;
    let _reader = Reader::start(&open(&config(&server, json!({"auth": client(), "streams": stream()}))).await, &Checkpoint::empty());
    server.was_asked("/token", 3).await;
}

#[tokio::test]
async fn a_login_that_is_refused_is_not_tried_again_and_again() {
    let tokens = Arc::new(Tokens::lasting(3_600));
    let server = behind(&tokens).await;
    let auth = json!({"oauth2": {"client_id": "tinh", "client_secret": "sai-mat-khau", "credentials": "form", "scope": "am"}});
    let config = config(&server, json!({"auth": auth, "streams": stream()}));
    for _ in 0..3 {
        let error = failure(&open(&config).await, &Checkpoint::empty()).await;
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(!error.report().contains("sai-mat-khau"), "{}", error.report());
    }
    assert_eq!(server.asked("/token").len(), 1, "accounts are locked by less");
    let form = crate::support::pairs(&server.asked("/token")[0].body);
    assert_eq!((form["client_secret"].as_str(), form["scope"].as_str()), ("sai-mat-khau", "am"));
}

#[tokio::test]
async fn a_token_that_is_refused_anew_is_denied_after_one_renewal() {
    let server = FakeLgsp::start(|asked| match asked.path.as_str() {
        "/token" => Reply::json(&json!({"access_token": "x", "expires_in": "60"})),
        _ => Reply::status(401),
    })
    .await;
    let config = config(&server, json!({"auth": client(), "streams": stream()}));
    let error = failure(&open(&config).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!((server.asked("/token").len(), server.asked("/ds").len()), (2, 2));
}

async fn first(auth: Value, more: Value) -> Asked {
    let server = FakeLgsp::start(|_| list()).await;
    let mut settings = more;
    settings["auth"] = auth;
    settings["streams"] = stream();
    let mut reader = Reader::start(&open(&config(&server, settings)).await, &Checkpoint::empty());
    reader.first_look().await;
    server.asked("/ds")[0].clone()
}

#[tokio::test]
async fn fixed_logins_and_the_header_of_an_lgsp_stand_where_they_should() {
    let key = first(json!({"api_key": {"header": "X-Api-Key", "value": "k1"}}), json!({"headers": {"X-Don-Vi": "H09"}})).await;
    assert_eq!((key.header("x-api-key"), key.header("x-don-vi")), ("k1", "H09"));
    assert_eq!(first(json!({"api_key": {"query": "khoa", "value": "k&2"}}), json!({})).await.query("khoa"), "k&2");
    assert_eq!(first(json!({"basic": {"user": "a", "password": "b"}}), json!({})).await.header("authorization"), "Basic YTpi");
    assert_eq!(first(json!({"bearer": "t"}), json!({})).await.header("authorization"), "Bearer t");
    let lgsp = json!({"lgsp": {"access_key": "ak", "secret_key": "sk", "app_name": "hub", "partner_code": "000.00.00.H09"}});
    let asked = first(json!({"bearer": "t"}), lgsp).await;
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(asked.header("lgspaccesstoken")).unwrap();
    assert_eq!(
        String::from_utf8(decoded).unwrap(),
        r#"{"AccessKey":"ak","SecretKey":"sk","AppName":"hub","PartnerCode":"000.00.00.H09","PartnerCodeCus":""}"#
    );
}

/// A portal in the manner of the National Service Portal: a session in the body, `error_code` 0 at the login and "00" afterwards.
async fn portal() -> (FakeLgsp, Arc<Mutex<u64>>) {
    let session = Arc::new(Mutex::new(0));
    let given = Arc::clone(&session);
    let server = FakeLgsp::start(move |asked| {
        let (body, mut session) = (asked.json(), given.lock().unwrap());
        match asked.path.as_str() {
            "/login" if body["username"] == "tinh" && body["password"] == "mk\"079" => {
                *session += 1;
                Reply::json(&json!({"error_code": 0, "session": format!("phien-{session}")}))
            }
            "/login" => Reply::json(&json!({"error_code": 1, "session": null})),
            _ if body["session"] == format!("phien-{session}") && body["service"] == "LayDanhSachTTHC" && body["madonvi"] == "H09" => {
                Reply::json(&json!({"error_code": "00", "result": [{"id": "1.001"}]}))
            }
            _ => Reply::json(&json!({"error_code": "99"})),
        }
    })
    .await;
    (server, session)
}

fn portal_config(server: &FakeLgsp, password: &str) -> Value {
    let login = json!({"path": "/login", "json": {"username": "{user}", "password": "{password}"}});
    let session = json!({
        "login": login, "user": "tinh", "password": password, "token": "/session", "ttl_s": 600,
        "success": {"path": "/error_code", "equals": 0}, "expired": {"path": "/error_code", "equals": "99"},
    });
    let stream = json!({
        "path": "/mapi/g", "json": {"session": "{token}", "madonvi": "H09", "service": "LayDanhSachTTHC"},
        "rows": "/result", "key": ["id"], "success": {"path": "/error_code", "equals": "00"},
    });
    config(server, json!({"auth": {"session": session}, "streams": {"tthc": stream}}))
}

#[tokio::test]
async fn a_session_is_carried_in_the_body_and_had_anew_when_the_portal_ends_it() {
    let (server, session) = portal().await;
    let mut reader = Reader::start(&open(&portal_config(&server, "mk\"079")).await, &Checkpoint::empty());
    assert_eq!(reader.first_look().await, ["r id=1.001"]);
    assert_eq!(server.asked("/login").len(), 1);
    *session.lock().unwrap() = 7;
    let asked = server.asked("/mapi/g").len();
    server.was_asked("/login", 2).await;
    server.was_asked("/mapi/g", asked + 5).await;
    assert_eq!(server.asked("/login").len(), 2);
}

#[tokio::test]
async fn a_portal_that_refuses_by_a_code_is_denied_without_the_password() {
    let (server, _session) = portal().await;
    let error = failure(&open(&portal_config(&server, "sai-079")).await, &Checkpoint::empty()).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.report().contains("/error_code is \"1\", not 0") && !error.report().contains("sai-079"), "{}", error.report());
}

#[tokio::test]
async fn a_request_is_signed_over_what_it_says() {
    use sha2::{Digest as _, Sha256};
    let server = FakeLgsp::start(|_| list()).await;
    let stream = json!({
        "path": "/ds", "key": ["id"], "query": {"luc": "{now:%Y%m%d%H%M%S}", "ma": "{uuid}", "ky": "{signature}"},
        "signature": "H09 | {now:%Y%m%d%H%M%S} | {uuid} | bi-mat",
    });
    let mut reader = Reader::start(&open(&config(&server, json!({"streams": {"a": stream}}))).await, &Checkpoint::empty());
    reader.first_look().await;
    server.was_asked("/ds", 2).await;
    let asked = server.asked("/ds");
    let signed = format!("H09 | {} | {} | bi-mat", asked[0].query("luc"), asked[0].query("ma"));
    let expected: String = Sha256::digest(signed).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((asked[0].query("ky"), asked[0].query("luc").len()), (expected.as_str(), 14));
    assert_ne!(asked[0].query("ma"), asked[1].query("ma"));
}
