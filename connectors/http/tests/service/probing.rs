//! What `hub check` says, and faults that are told offline.

use hub_connector_http::{Http, HttpConfig};
use hub_sdk::model::{StreamName, SystemName};
use hub_sdk::{Connector, Kind, OpenContext, Probe, StreamRequest};
use serde_json::{Value, json};

use crate::reader::{config, open};
use crate::support::{FakeLgsp, Reply, Tokens, client};

fn codes(probe: &Probe) -> Vec<(&str, bool)> {
    probe.findings.iter().map(|finding| (finding.code, finding.fatal)).collect()
}

/// A probe of a stream `a` whose service answers this.
async fn probe(reply: Reply, more: Value, columns: &[&str]) -> Probe {
    let server = FakeLgsp::start(move |_| reply.clone()).await;
    let mut stream = json!({"path": "/ds", "rows": "/d", "key": ["ma"]});
    for (name, value) in more.as_object().unwrap() {
        stream[name] = value.clone();
    }
    let config: HttpConfig = serde_json::from_value(config(&server, json!({"streams": {"a": stream}}))).unwrap();
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    let request = StreamRequest { stream: StreamName::new("a").unwrap(), columns };
    let context = OpenContext::new(SystemName::new("lgsp").unwrap(), vec![request]);
    Http::open(config, context).await.unwrap().probe().await.unwrap()
}

fn rows(rows: Value) -> Reply {
    Reply::json(&json!({"d": rows}))
}

#[tokio::test]
async fn everything_that_is_wrong_has_a_code_and_what_mends_it() {
    let good = rows(json!([{"ma": 1, "ngay": "26/11/2026"}]));
    let mark = |format: &str, field: &str| json!({"mode": {"watermark": {"field": field, "format": format, "param": "tu"}}});
    let cases = [
        (probe(good.clone(), json!({}), &["ngay"]).await, vec![]),
        (probe(rows(json!([])), json!({}), &[]).await, vec![("no-rows", false)]),
        (probe(rows(json!([{"Ma": 1}])), json!({}), &["ten"]).await, vec![("column-missing", true), ("column-missing", false)]),
        (probe(rows(json!("x")), json!({}), &[]).await, vec![("stream-unreadable", true)]),
        (probe(Reply::status(404), json!({}), &[]).await, vec![("stream-unreadable", true)]),
        (probe(Reply::status(403), json!({}), &[]).await, vec![("login-refused", true)]),
        (probe(Reply::status(502), json!({}), &[]).await, vec![("unreachable", true)]),
        (probe(Reply::status(429).with("Retry-After", "0"), json!({}), &[]).await, vec![("throttled", true)]),
        (probe(good.clone(), mark("%d/%m/%Y", "ngay"), &[]).await, vec![]),
        (probe(good.clone(), mark("%Y-%m-%d", "ngay"), &[]).await, vec![("watermark-unreadable", true)]),
        (probe(good, mark("%d/%m/%Y", "sua"), &[]).await, vec![("watermark-unreadable", true)]),
    ];
    for (probe, expected) in &cases {
        assert_eq!(&codes(probe), expected, "{:?}", probe.findings);
        assert!(probe.findings.iter().all(|finding| finding.remedy.is_some()));
    }
    let meant = cases[2].0.findings[0].remedy.as_deref().unwrap();
    assert!(meant.contains("write Ma in"), "{meant}");
}

#[tokio::test]
async fn without_kafka_it_is_said_that_keys_were_not_looked_at() {
    let keys = json!({"topic": {"name": "hub.dan_cu.nguoi", "field": "so"}});
    let more = json!({"path": "/x/{key}", "mode": {"lookup": {"keys": keys}}});
    let probe = probe(Reply::status(404), more, &[]).await;
    assert_eq!(codes(&probe), [("keys-not-looked-at", false)]);
}

#[tokio::test]
async fn a_service_that_is_not_there_and_a_login_that_is_refused_are_told() {
    let mut server = FakeLgsp::start(|_| Reply::status(200)).await;
    let config_of = config(&server, json!({"streams": {"a": {"path": "/ds", "key": ["id"]}}}));
    server.stop().await;
    let told = open(&config_of).await.probe().await.unwrap();
    assert_eq!(codes(&told), [("unreachable", true)]);
    let tokens = Tokens::lasting(60);
    let server = FakeLgsp::start(move |asked| tokens.guard(asked).unwrap_or_else(|| Reply::json(&json!([{"id": 1}])))).await;
    let mut auth = client();
    auth["oauth2"]["client_secret"] = json!("sai");
    let told = open(&config(&server, json!({"auth": auth, "streams": {"a": {"path": "/ds", "key": ["id"]}}}))).await.probe().await.unwrap();
    assert_eq!(codes(&told), [("login-refused", true)]);
    assert!(told.findings[0].message.contains("401") && !told.findings[0].message.contains("sai "), "{:?}", told.findings);
}

#[test]
fn every_fault_is_told_with_its_place() {
    let keys = json!({"topic": {"name": "", "field": "x"}});
    let config = json!({
        "base_url": "lgsp.example", "timeout_s": 0, "every_s": 1e9, "document_mib": 0, "tls": {"key": "k.pem"},
        "auth": {"api_key": {"value": "k"}}, "rate": {"per_day": 0, "concurrent": 0}, "retry": {"attempts": 0}, "breaker": {"failures": 0},
        "streams": {
            "a/b": {"path": "/x?{key}", "key": []},
            "mark": {"path": "/x", "key": ["id"], "format": "xml", "mode": {"watermark": {"field": "f", "format": "yyyy"}}},
            "key/more": {"path": "/x", "key": ["id"]},
            "span": {"path": "/x", "key": ["id"], "query": {"tu": "{since}"}, "mode": {"watermark": {
                "field": "f", "format": "number", "start": "1", "window_s": 60, "full_every_s": 60,
            }}},
            "page": {"path": "/x", "key": ["id"], "json": {}, "xml": "", "paging": {"page": {"size": 0}}},
            "key": {"path": "/x", "key": ["id"], "mode": {"lookup": {"keys": keys, "key_column": "khac", "ttl_s": 0}}},
            "push": {"path": "/x", "key": ["id"], "mode": {"push": {
                "keys": keys, "submit": {"request": {"path": "/{ticket}"}, "ticket": ""}, "done": {"path": "/a", "equals": true},
            }}},
        },
    });
    let mut pointers: Vec<_> = Kind::of::<Http>().check(&config).into_iter().map(|fault| fault.pointer).collect();
    pointers.sort();
    assert_eq!(
        pointers,
        [
            "/auth/api_key",
            "/base_url",
            "/breaker/failures",
            "/document_mib",
            "/every_s",
            "/rate/concurrent",
            "/rate/per_day",
            "/retry/attempts",
            "/streams/a~1b",
            "/streams/a~1b/key",
            "/streams/key/mode/lookup",
            "/streams/key/mode/lookup/key_column",
            "/streams/key/mode/lookup/keys/topic/name",
            "/streams/key/mode/lookup/ttl_s",
            "/streams/key~1more",
            "/streams/mark/mode/watermark",
            "/streams/mark/mode/watermark/format",
            "/streams/mark/rows",
            "/streams/page",
            "/streams/page/paging/page",
            "/streams/page/paging/page/size",
            "/streams/push/mode/push",
            "/streams/push/mode/push/keys/topic/name",
            "/streams/push/mode/push/submit/request",
            "/streams/push/mode/push/submit/ticket",
            "/streams/span/mode/watermark/full_every_s",
            "/streams/span/mode/watermark/start",
            "/streams/span/mode/watermark/window_s",
            "/timeout_s",
            "/tls",
        ]
    );
}
