//! Evidence: every exchange, as digests, and whole where it is asked for; without logins.

use hub_sdk::Evidence;
use hub_sdk::model::Checkpoint;
use serde_json::json;

use crate::reader::{Reader, config, open};
use crate::support::{FakeLgsp, Reply, Tokens, client};

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hub-http-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("2001-01-01")).unwrap();
        std::fs::create_dir_all(path.join("ghi-chu")).unwrap();
        Self(path)
    }

    /// SHA-256 of a file, by a program of its own.
    fn sha256(&self, name: &str) -> String {
        let output = std::process::Command::new("sha256sum").arg(self.0.join(name)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()[..64].to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn every_exchange_is_proven_by_digests_of_what_is_kept() {
    let folder = Folder::new("giu");
    let tokens = Tokens::lasting(3_600);
    let server = FakeLgsp::start(move |asked| tokens.guard(asked).unwrap_or_else(|| Reply::json(&json!([{"id": 1, "ten": "An"}])))).await;
    let stream = json!({"path": "/ds", "key": ["id"], "query": {"ma": "079 1"}, "json": {"hoi": "đáp"}});
    let more = json!({"auth": client(), "evidence": {"keep": folder.0}, "streams": {"đơn/vị": stream}});
    let mut reader = Reader::start(&open(&config(&server, more)).await, &Checkpoint::empty());
    reader.first_look().await;
    let [login, exchange]: [Evidence; 2] = std::mem::take(&mut reader.evidence).try_into().unwrap();
    assert_eq!((login.what, login.outcome.as_str()), (format!("POST {}/token", server.url()), "200"));
    assert_eq!(login.request_sha256 + &login.answer_sha256 + &login.kept, "", "a login is only said to have been");
    assert_eq!((exchange.what, exchange.outcome.as_str()), (format!("POST {}/ds", server.url()), "200"));
    assert_eq!((exchange.account.as_str(), exchange.stream.as_str()), ("tinh", "đơn/vị"));
    let kept = |end: &str| format!("{}.{end}", exchange.kept);
    assert_eq!(folder.sha256(&kept("answer")), exchange.answer_sha256);
    assert_eq!(folder.sha256(&kept("request")), exchange.request_sha256);
    let request = std::fs::read_to_string(folder.0.join(kept("request"))).unwrap();
    assert_eq!(request, format!("POST {}/ds?ma=079+1\n{{\"hoi\":\"đáp\"}}", server.url()));
    assert_eq!(exchange.answer_bytes, std::fs::metadata(folder.0.join(kept("answer"))).unwrap().len());
    assert!(!folder.0.join("2001-01-01").exists() && folder.0.join("ghi-chu").exists(), "days that are over are removed");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(folder.0.join(kept("answer"))).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn exchanges_that_failed_are_proven_too_and_a_session_is_not_shown() {
    let server = FakeLgsp::start(|asked| match asked.path.as_str() {
        "/login" => Reply::json(&json!({"phien": "bi-mat-phien"})),
        _ => Reply::status(502),
    })
    .await;
    let folder = Folder::new("hong");
    let session = json!({"login": {"path": "/login"}, "token": "/phien"});
    let stream = json!({"path": "/ds", "key": ["id"], "json": {"phien": "{token}"}});
    let more = json!({"auth": {"session": session}, "evidence": {"keep": folder.0}, "streams": {"a": stream}});
    let connector = open(&config(&server, more)).await;
    let mut run = hub_conformance::Run::start(&connector, &Checkpoint::empty());
    let delivery = run.next().await.unwrap();
    let outcomes: Vec<_> = delivery.evidence.iter().map(|evidence| evidence.outcome.as_str()).collect();
    assert_eq!(outcomes, ["200", "502", "502", "502"]);
    let request = std::fs::read_to_string(folder.0.join(format!("{}.request", delivery.evidence[1].kept))).unwrap();
    assert!(request.ends_with("{\"phien\":\"***\"}"), "{request}");
}

#[tokio::test]
async fn nothing_is_told_unless_it_is_asked_for() {
    let server = FakeLgsp::start(|_| Reply::json(&json!([{"id": 1}]))).await;
    let mut reader =
        Reader::start(&open(&config(&server, json!({"streams": {"a": {"path": "/ds", "key": ["id"]}}}))).await, &Checkpoint::empty());
    reader.first_look().await;
    assert_eq!(reader.evidence, []);
}
