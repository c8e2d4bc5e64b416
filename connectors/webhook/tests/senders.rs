//! Senders as they are in the field: curl with openssl's signatures and certificates, edXML with attachments, CloudEvents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failing test should stop at once")]

#[path = "support/outbox.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod outbox;
#[path = "support/stand.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod stand;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hub_conformance::{Run, authority};
use hub_connector_webhook::Webhook;
use hub_sdk::Connector;
use hub_sdk::model::Checkpoint;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use stand::{Scratch, Stand, answer, rows};

const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Runs a line of a shell in a folder; what it writes, and whether it went well.
fn shell(folder: &Path, line: String) -> JoinHandle<(String, bool)> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || {
        let output = Command::new("bash").args(["-c", &line]).current_dir(folder).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    })
}

/// Acknowledges everything for as long as the test runs; tells the rows.
fn committing(mut run: Run<Webhook>) -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (told, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(delivery) = run.next().await {
            run.connector.acknowledge(&delivery.checkpoint);
            for row in rows(&delivery) {
                if told.send(row).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signed_event_of_the_readme_is_taken_and_an_unsigned_one_is_not() {
    let scratch = Scratch::new();
    let stand =
        Stand::of(json!({"auth": {"hmac": {"secret": SECRET, "secret_previous": "cu"}}, "idempotency": {"header": "Idempotency-Key"}}));
    let mut told = committing(stand.run(&Checkpoint::empty()).await);
    // The command of README.md, with another address.
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let command = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let command = command.replace("https://hub.h09.vn:8443/nhan/tien-do", &format!("http://127.0.0.1:{}/s", stand.port));
    let sign = |secret: &str| command.replace("SECRET=…", &format!("SECRET={secret}"));
    let (output, _) = shell(&scratch.0, sign(SECRET)).await.unwrap();
    assert_eq!(output, r#"{"accepted":1}"#, "{command}");
    assert!(told.recv().await.unwrap().contains("H09.15-260101-0001"));
    let (output, _) = shell(&scratch.0, sign("cu").replace("0001", "0002")).await.unwrap();
    assert_eq!(output, r#"{"accepted":1}"#, "the secret before is valid too");
    let (output, went_well) = shell(&scratch.0, sign("sai")).await.unwrap();
    assert!(output.contains("signature") && !output.contains(SECRET) && !went_well, "{output}");
    let refused = answer(stand.post(&[], "{}")).await;
    assert_eq!((refused.status, refused.body.as_str()), (401, r#"{"error":"there is no header x-hub-signature-256"}"#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_use_up_neither_the_rate_nor_the_places_of_a_stream() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let scratch = Scratch::new();
    let auth = json!({"hmac": {"secret": SECRET, "header": "X-Signature", "prefix": ""}});
    let stand = Stand::of(json!({"auth": auth, "rate_per_s": 0.01, "max_waiting": 1})).with(json!({"waiting_mib": 1}));
    let _told = committing(stand.run(&Checkpoint::empty()).await);
    for _ in 0..5 {
        assert_eq!(answer(stand.post(&[("X-Signature", "00")], "[]")).await.status, 401);
    }
    // One that promises a body and holds it back.
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", stand.port)).await.unwrap();
    let head = b"POST /s HTTP/1.1\r\nHost: a\r\nX-Signature: 00\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n";
    slow.write_all(head).await.unwrap();
    let mut told = vec![0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    slow.read_exact(&mut told).await.unwrap();
    slow.write_all(b"{").await.unwrap();
    let line = format!(r#"printf '[]' | openssl dgst -sha256 -hmac {SECRET} | sed 's/.* //' | tr -d '\n'"#);
    let (signature, _) = shell(&scratch.0, line).await.unwrap();
    assert_eq!(answer(stand.post(&[("X-Signature", &signature)], "[]")).await.status, 200);
    assert_eq!(answer(stand.post(&[("X-Signature", &signature)], "[]")).await.status, 429, "its own rate counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_request_is_refused_when_its_time_is_over_and_its_time_cannot_be_changed() {
    let scratch = Scratch::new();
    let auth =
        json!({"hmac": {"secret": SECRET, "header": "X-Signature", "prefix": "", "timestamp": {"header": "X-Time", "tolerance_s": 60}}});
    let stand = Stand::of(json!({"auth": auth}));
    let _told = committing(stand.run(&Checkpoint::empty()).await);
    let sign = |time: u64| {
        let line = format!(r#"printf '%s.{{"a":1}}' {time} | openssl dgst -sha256 -hmac {SECRET} | sed 's/.* //' | tr -d '\n'"#);
        shell(&scratch.0, line)
    };
    let send = async |time: u64, signature: &str| {
        answer(stand.post(&[("X-Time", &time.to_string()), ("X-Signature", signature)], r#"{"a":1}"#)).await
    };
    let (now, old) = (now_s(), now_s() - 3_600);
    let (fresh, _) = sign(now).await.unwrap();
    assert_eq!(send(now, &fresh).await.status, 200);
    let (recorded, _) = sign(old).await.unwrap();
    let refused = send(old, &recorded).await;
    assert!(refused.status == 401 && refused.body.contains("60 s off"), "{refused:?}");
    assert_eq!(send(now, &recorded).await.status, 401, "the time is signed with the body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_the_senders_authority_are_let_in_by_their_names() {
    let scratch = Scratch::new();
    authority(&scratch.0, "hub");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let sender = |name: &str| {
        format!(
            "openssl req {key} -subj '/O=Sở TT&TT/CN={name}' -utf8 -keyout {name}.key -out {name}.csr && \
             openssl x509 -req -in {name}.csr -CA sender.pem -CAkey sender.key -CAcreateserial -days 2 -extfile san -out {name}.crt"
        )
    };
    let made = format!(
        "openssl req -x509 {key} -days 2 -subj /CN=sender -keyout sender.key -out sender.pem && {} && {} && \
         openssl req -x509 {key} -days 2 -subj /CN=ioc.h09.vn -keyout self.key -out self.crt",
        sender("ioc.h09.vn"),
        sender("khac.vn")
    );
    assert!(shell(&scratch.0, made).await.unwrap().1);
    let mut stand = Stand::of(json!({"auth": {"mtls": {"names": ["ioc.h09.vn"]}}}));
    stand.config["tls"] = json!({
        "certificate": scratch.0.join("server.crt"), "key": scratch.0.join("server.key"), "client_ca": scratch.0.join("sender.pem"),
    });
    let probe = stand.connector().await.probe().await.unwrap();
    assert!(probe.is_ready() && probe.server.starts_with("https"), "{probe:?}");
    let mut told = committing(stand.run(&Checkpoint::empty()).await);
    let curl = |certificate: &str| {
        let url = format!("https://localhost:{}/s", stand.port);
        let shown = if certificate.is_empty() { String::new() } else { format!("--cert {certificate}.crt --key {certificate}.key") };
        shell(&scratch.0, format!(r#"curl -s --resolve localhost:{}:127.0.0.1 --cacert hub.pem {shown} -d '{{"a":1}}' {url}"#, stand.port))
    };
    assert_eq!(curl("ioc.h09.vn").await.unwrap(), (r#"{"accepted":1}"#.to_owned(), true));
    assert_eq!(told.recv().await.unwrap(), "c:1");
    assert!(curl("khac.vn").await.unwrap().0.contains("may not send here"));
    assert!(curl("").await.unwrap().0.contains("no certificate was shown"));
    assert!(!curl("self").await.unwrap().1, "a certificate of another authority ends the handshake");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_with_attachments_is_a_row_and_its_contents_are_on_the_disk() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("dinh_kem");
    let stand =
        Stand::of(json!({"format": "edxml", "attachments": folder, "key": ["Code_CodeNumber"], "auth": {"bearer": {"token": "mật"}}}));
    let mut told = committing(stand.run(&Checkpoint::empty()).await);
    std::fs::write(scratch.0.join("van_ban.xml"), DOCUMENT).unwrap();
    std::fs::write(scratch.0.join("cv.pdf"), b"%PDF-1.7 noi dung").unwrap();
    let line = format!(
        "curl -s -H 'Authorization: Bearer mật' -F 'edxml=@van_ban.xml;type=application/xml' -F '1@a=@cv.pdf;type=application/pdf' http://127.0.0.1:{}/s",
        stand.port
    );
    assert_eq!(shell(&scratch.0, line).await.unwrap().0, r#"{"accepted":1}"#);
    let row = told.recv().await.unwrap();
    assert!(row.contains("|V/v báo cáo|"), "{row}");
    let attachments: Value = serde_json::from_str(&row[row.find("[{\"content_id").unwrap()..]).unwrap();
    let kept = folder.join(attachments[0]["path"].as_str().unwrap());
    assert_eq!(std::fs::read(kept).unwrap(), b"%PDF-1.7 noi dung");
    assert!(!row.contains("%PDF"), "the content is not put on Kafka");
    // Where they cannot be kept, the document is not taken.
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, b"no folder").unwrap();
    let line = format!(
        "curl -s -w '%{{http_code}}' -H 'Authorization: Bearer mật' -F 'edxml=@van_ban.xml;type=application/xml' -F '1@a=@cv.pdf' http://127.0.0.1:{}/s",
        stand.port
    );
    assert!(shell(&scratch.0, line).await.unwrap().0.ends_with("503"));
    let probe = stand.connector().await.probe().await.unwrap();
    assert!(probe.findings.iter().any(|finding| finding.code == "attachments-not-writable" && finding.fatal), "{probe:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xml_lines_of_json_and_cloud_events_come_as_rows() {
    let xml = Stand::of(json!({"format": "xml", "rows": "/Envelope/Body/HoSo", "columns": ["Ma"]}));
    let mut told = committing(xml.run(&Checkpoint::empty()).await);
    let body = "<s:Envelope xmlns:s='x'><s:Body><HoSo><Ma>1</Ma></HoSo><HoSo><Ma>2</Ma></HoSo></s:Body></s:Envelope>";
    assert_eq!(answer(xml.post(&[], body)).await.body, r#"{"accepted":2}"#);
    assert_eq!((told.recv().await.unwrap(), told.recv().await.unwrap()), ("c:1".to_owned(), "c:2".to_owned()));
    let lines = Stand::of(json!({"format": "ndjson"}));
    let mut told = committing(lines.run(&Checkpoint::empty()).await);
    assert_eq!(answer(lines.post(&[], "{\"a\":1}\n{\"a\":2}\n")).await.body, r#"{"accepted":2}"#);
    assert_eq!((told.recv().await.unwrap(), told.recv().await.unwrap()), ("c:1".to_owned(), "c:2".to_owned()));
    let events = Stand::of(json!({"format": "cloudevents", "idempotency": {"fields": ["source", "id"]}}));
    let mut told = committing(events.run(&Checkpoint::empty()).await);
    let headers = [("ce-id", "1"), ("ce-source", "/mc"), ("ce-type", "t"), ("ce-specversion", "1.0"), ("content-type", "application/json")];
    assert_eq!(answer(events.post(&headers, r#"{"ma":"H09"}"#)).await.body, r#"{"accepted":1}"#);
    let row = told.recv().await.unwrap();
    assert!(row.starts_with("c:1|/mc|t|∅|∅|1.0|application/json|∅|") && row.ends_with("H09"), "{row}");
    let same = r#"{"id":"1","source":"/mc","type":"t","specversion":"1.0","data":{"ma":"H09"}}"#;
    let again = answer(events.post(&[("content-type", "application/cloudevents+json")], same)).await;
    assert!(again.body.contains("\"duplicate\":true"), "in whichever mode an event comes, it is known: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_found_before_a_run() {
    let codes = async |stand: &Stand| {
        let probe = stand.connector().await.probe().await.unwrap();
        let codes: Vec<_> = probe.findings.iter().map(|finding| (finding.code, finding.fatal)).collect();
        assert!(probe.findings.iter().all(|finding| finding.remedy.is_some()), "{probe:?}");
        codes
    };
    let taken = Stand::of(json!({"auth": {"hmac": {"secret": "ngan"}}, "idempotency": {"body": true}}));
    let _held = std::net::TcpListener::bind(("127.0.0.1", taken.port)).unwrap();
    assert_eq!(codes(&taken).await, [("address-in-use", false), ("secret-short", false), ("columns-open", false)]);
    let elsewhere = Stand::of(json!({"auth": {"bearer": {"token": "x"}}, "columns": ["a"]})).with(json!({"listen": "192.0.2.1:8443"}));
    assert_eq!(codes(&elsewhere).await, [("address-not-local", true), ("no-tls", false), ("no-idempotency", false)]);
    let mut unreadable = Stand::of(json!({"idempotency": {"body": true}, "columns": ["a"]}));
    unreadable.config["tls"] = json!({"certificate": "/nowhere.pem", "key": "/nowhere.key"});
    assert_eq!(codes(&unreadable).await, [("certificate-unusable", true)]);
    // A run that listens is no hindrance to itself.
    let stand = Stand::of(json!({"idempotency": {"body": true}, "columns": ["a"]}));
    let connector = stand.connector().await;
    let run = Stand::run_of(&connector, &Checkpoint::empty()).await;
    assert!(Arc::clone(&connector).probe().await.unwrap().findings.is_empty());
    run.shut().await;
}

const DOCUMENT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<edXML:edXMLEnvelope xmlns:edXML="http://www.mic.gov.vn/TBT/QCVN_102_2016"><edXML:edXMLHeader><edXML:MessageHeader>
<edXML:From><edXML:OrganId>000.00.01.H09</edXML:OrganId><edXML:OrganName>Sở Nội vụ</edXML:OrganName></edXML:From>
<edXML:To><edXML:OrganId>000.00.02.H09</edXML:OrganId></edXML:To><edXML:To><edXML:OrganId>000.00.03.H09</edXML:OrganId></edXML:To>
<edXML:Code><edXML:CodeNumber>12</edXML:CodeNumber><edXML:CodeNotation>SNV-VP</edXML:CodeNotation></edXML:Code>
<edXML:Subject>V/v báo cáo</edXML:Subject></edXML:MessageHeader></edXML:edXMLHeader>
<edXML:edXMLBody><edXML:edXMLManifest><edXML:Reference><edXML:ContentId>cid:1@a</edXML:ContentId>
<edXML:ContentType>application/pdf</edXML:ContentType></edXML:Reference></edXML:edXMLManifest></edXML:edXMLBody></edXML:edXMLEnvelope>"#;
