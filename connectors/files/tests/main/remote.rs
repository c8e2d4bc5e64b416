//! What only servers do: host keys, logins by key, putting aside from afar, times of whole seconds, TLS.

use std::time::Duration;

use hub_sdk::ErrorKind;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::places::{Objects, Place, Remote};

fn whole() -> Value {
    json!({"pattern": "*.csv", "key": ["id"], "mode": "whole"})
}

/// A desk whose place is another one than its own folder.
fn desk(place: Value) -> Desk {
    Desk { place: Some(place), ..Desk::new(whole()) }
}

#[tokio::test]
async fn a_host_key_is_told_by_the_check_and_must_be_the_one_that_is_set() {
    let remote = Remote::start().await;
    let mut section = remote.section();
    section.as_object_mut().unwrap().remove("host_key");
    let unset = desk(json!({"sftp": section}));
    let probe = unset.probe().await;
    assert_eq!(probe.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["host-key-missing"]);
    let remedy = probe.findings[0].remedy.clone().unwrap();
    assert!(remedy.contains(&format!("set host_key: \"{}\"", remote.fingerprint())), "{remedy}");
    assert_eq!(unset.run().await.failure().await.kind(), ErrorKind::BadConfig);

    section["host_key"] = json!(format!("SHA256:{}", "A".repeat(43)));
    let changed = desk(json!({"sftp": section}));
    assert_eq!(changed.probe().await.findings[0].code, "host-key-changed");
    assert_eq!(changed.run().await.failure().await.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_key_logs_in_and_an_encrypted_one_with_its_passphrase() {
    let remote = Remote::start().await;
    remote.deliver("a.csv", b"id,ten\n1,An\n").await;
    let mut section = remote.section();
    section.as_object_mut().unwrap().remove("password");
    section["key_file"] = json!(remote.file("key"));
    let mut by_key = desk(json!({"sftp": section}));
    let mut run = by_key.run().await;
    assert_eq!(by_key.snapshot(&mut run).await, ["r 1|An"]);
    run.shut().await;
    section["key_file"] = json!(remote.file("rsa_key"));
    assert_eq!(desk(json!({"sftp": section})).probe().await.findings[0].code, "key-unreadable");
    section["key_passphrase"] = json!("câu mật");
    let probe = desk(json!({"sftp": section})).probe().await;
    assert!(probe.findings.is_empty(), "{:?}", probe.findings);
    assert!(probe.server.starts_with("sftp://nhan@127.0.0.1:") && probe.server.ends_with("with 1 files"), "{}", probe.server);
    section["folder"] = json!(format!("{}/khong_co", remote.file("home").display()));
    let codes: Vec<_> = desk(json!({"sftp": section})).probe().await.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["folder-missing"]);
}

#[tokio::test]
async fn streams_share_a_connection_and_it_ends_with_its_connector() {
    let remote = Remote::start().await;
    remote.deliver("a.csv", b"id,ten\n1,An\n").await;
    let mut desk = desk(remote.config());
    for _ in 0..3 {
        let mut run = desk.run().await;
        desk.take(&mut run).await;
        assert_eq!(remote.connections(), 1);
        run.shut().await;
        while remote.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        desk.checkpoint = hub_sdk::model::Checkpoint::empty();
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_within_a_second_is_not_missed() {
    let remote = Remote::start().await;
    let mut desk = desk(remote.config());
    remote.deliver("a.csv", b"id,ten\n1,0000\n").await;
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    // Each of the same size; most within the second of the one before, which is all that SFTP tells of their times.
    for round in 1..=30 {
        remote.deliver("a.csv", format!("id,ten\n1,{round:04}\n").as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    while desk.take(&mut run).await.last().is_none_or(|change| change != "u 1|0030") {}
    run.shut().await;
}

async fn put_aside(place: impl Place) {
    let mut desk = desk(place.config());
    place.deliver("1.csv", b"id,ten\n1,An\n").await;
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    for (count, expected) in [(1, "rejected/2.csv"), (2, "rejected/2_2.csv")] {
        let bad = format!("id,ten\n1,\"An {count}\n");
        place.deliver("2.csv", bad.as_bytes()).await;
        while place.content("2.csv").await.is_some() {
            assert_eq!(desk.take(&mut run).await, Vec::<String>::new());
        }
        assert_eq!(place.content(expected).await.as_deref(), Some(bad.as_bytes()), "none was written over");
        let report = String::from_utf8(place.content(&format!("{expected}.rejected.txt")).await.unwrap()).unwrap();
        assert!(report.contains("row:    1") && report.contains("never closed"), "{report}");
    }
    place.deliver("2.csv", "id,ten\n1,An\n2,Bình\n".as_bytes()).await;
    assert_eq!(desk.changes(&mut run, 1).await, ["c 2|Bình"]);
    run.shut().await;
}

#[tokio::test]
async fn a_bad_file_on_a_server_goes_aside_with_its_report() {
    put_aside(Remote::start().await).await;
}

#[tokio::test]
async fn a_bad_object_goes_aside_with_its_report() {
    put_aside(Objects::start().await).await;
}

#[tokio::test]
async fn an_object_that_is_replaced_at_once_is_not_missed() {
    let objects = Objects::start().await;
    let mut desk = desk(objects.config());
    objects.deliver("a.csv", b"id,ten\n1,0000\n").await;
    let mut run = desk.run().await;
    desk.snapshot(&mut run).await;
    for round in 1..=30 {
        objects.deliver("a.csv", format!("id,ten\n1,{round:04}\n").as_bytes()).await;
    }
    while desk.take(&mut run).await.last().is_none_or(|change| change != "u 1|0030") {}
    run.shut().await;
}

#[tokio::test]
async fn a_store_behind_tls_is_read_where_its_authority_is_known() {
    let objects = Objects::start_tls().await;
    objects.deliver("a.csv", b"id,ten\n1,An\n").await;
    let mut section = objects.section();
    let unknown = desk(json!({"s3": section}));
    let probe = unknown.probe().await;
    assert_eq!(probe.findings[0].code, "store-unreachable");
    assert!(probe.findings[0].message.contains("certificate"), "{:?}", probe.findings);
    section["ca_file"] = json!(objects.file("ca.pem"));
    let mut known = desk(json!({"s3": section}));
    let mut run = known.run().await;
    assert_eq!(known.snapshot(&mut run).await, ["r 1|An"]);
    run.shut().await;
    section["bucket"] = json!("kho_khac");
    assert_eq!(desk(json!({"s3": section})).probe().await.findings[0].code, "bucket-missing");
}

#[test]
fn a_place_is_checked_offline() {
    let faults = |place: Value| {
        let mut config = place;
        config["streams"] = json!({"s": whole()});
        let faults = hub_sdk::Kind::of::<hub_connector_files::Files>().check(&config);
        faults.into_iter().map(|fault| fault.pointer).collect::<Vec<_>>()
    };
    let s3 = json!({"bucket": "a", "access_key_id": "a", "secret_access_key": "b"});
    assert_eq!(faults(json!({})), [""]);
    assert_eq!(faults(json!({"folder": "a", "s3": s3})), [""]);
    assert_eq!(faults(json!({"sftp": {"host": "", "user": "a", "host_key": "MD5:1"}})), ["/sftp/host", "/sftp", "/sftp/host_key"]);
    let http = json!({"endpoint": "http://a", "bucket": "a/b", "access_key_id": "", "secret_access_key": "b"});
    assert_eq!(faults(json!({"s3": http})), ["/s3/endpoint", "/s3/bucket", "/s3/access_key_id"]);
}
