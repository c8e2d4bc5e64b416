//! What is seen from outside: metrics, readiness, status, and the status topic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::float_cmp, reason = "a test may panic; counts are exact")]

use std::time::{SystemTime, UNIX_EPOCH};

use hub_telemetry::CATALOGUE;
use hub_tests_e2e::{Hub, Kafka, Scrape, Setup, Source, eventually, free_port, raw_records};
use serde_json::Value;

const TABLE: &str = "CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, sinh text, phi numeric(14,2), trang_thai text);";
const STREAM: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    map: {id: id, name: ten, born: vn_date(sinh), fee: phi, status: \"code('person-status', 'demo', trang_thai)\"}
";
const NGUOI: &[(&str, &str)] = &[("system", "demo"), ("stream", "public.nguoi")];
const DEMO: &[(&str, &str)] = &[("system", "demo")];

async fn scrape(hub: &Hub) -> Scrape {
    Scrape::read(&hub.get("/metrics").await.expect("the port answers"))
}

async fn becomes_ready(hub: &Hub) {
    eventually("readiness", async || hub.get("/readyz").await.filter(|body| body == "ready\n")).await;
}

async fn not_ready(hub: &Hub, because: &str) -> String {
    let what = format!("/readyz to say: {because}");
    eventually(&what, async || hub.get("/readyz").await.filter(|body| body.contains(because))).await
}

#[tokio::test]
async fn the_allocator_has_an_arena_a_core_and_not_eight() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.reaches("following").await;
    let arenas: usize = hub.variable("MALLOC_ARENA_MAX").expect("it is bounded").parse().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(std::env::var_os("MALLOC_ARENA_MAX").is_some() || arenas == cores.max(2), "{arenas} arenas on {cores} cores");
    assert!(hub.stop(), "it ends by the id that it was started with");
}

#[tokio::test]
async fn every_metric_is_there_and_true_after_known_work() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi SELECT i, 'A', CASE WHEN i <= 10 THEN '31/02/2000' END, 1, 'HD' FROM generate_series(1, 5000) i").await;
    source.run("ANALYZE nguoi").await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 4990).await;
    hub.reaches("following").await;
    source
        .run("INSERT INTO nguoi SELECT i, 'B', NULL, 1, CASE WHEN i <= 6003 THEN 'ZZ' ELSE 'HD' END FROM generate_series(6001, 6020) i")
        .await;
    hub.counts("public.nguoi", "published", 5007).await;
    // What is looked at now and then (lag, source) and what comes to rest.
    let settled = |told: &Scrape| {
        told.value("hub_capture_lag_bytes", DEMO).is_some()
            && told.value("hub_capture_lag_seconds", DEMO) == Some(0.0)
            && told.value("hub_queue_bytes", &[]) == Some(0.0)
    };
    let told = eventually("the metrics to come to rest", async || Some(scrape(&hub).await).filter(settled)).await;

    for metric in CATALOGUE.iter().filter(|metric| metric.name != "hub_system_restarts_total") {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        assert_eq!(told.kinds.get(metric.name), Some(&kind), "{}", metric.name);
    }
    let of = |name: &str, labels: &[(&str, &str)]| told.value(name, labels).unwrap_or_else(|| panic!("no {name}{labels:?}"));
    let rejected = |reason| of("hub_reject_rows_total", &[("system", "demo"), ("reason", reason)]);
    assert_eq!(of("hub_capture_rows_total", NGUOI), 5020.0);
    assert_eq!(of("hub_publish_rows_total", NGUOI), 5007.0);
    assert_eq!((rejected("bad-date"), rejected("unknown-code")), (10.0, 3.0));
    assert!(of("hub_capture_bytes_total", NGUOI) > 5020.0 * 8.0 && of("hub_publish_bytes_total", NGUOI) > 5007.0 * 20.0);
    assert!((0.0..1e9).contains(&of("hub_capture_lag_bytes", DEMO)));
    assert_eq!((of("hub_snapshot_rows", NGUOI), of("hub_snapshot_expected_rows", NGUOI)), (5000.0, 5000.0));
    let chunks = of("hub_snapshot_chunks", NGUOI);
    assert!(chunks >= 1.0 && of("hub_snapshot_done_chunks", NGUOI) == chunks, "the snapshot is complete: {chunks}");
    assert!(of("hub_transform_batch_seconds_count", DEMO) >= 2.0 && of("hub_transform_batch_seconds_sum", DEMO) > 0.0);
    assert_eq!(of("hub_queue_limit_bytes", &[]), f64::from(12 << 20));
    assert_eq!(of("hub_queue_oldest_seconds", DEMO), 0.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((0.0..60.0).contains(&(now - of("hub_system_progress_timestamp_seconds", DEMO))));
    let states: Vec<_> = told.series("hub_system_state").map(|(labels, value)| (labels["state"].as_str(), value)).collect();
    assert_eq!(states.len(), 8, "{states:?}");
    assert!(states.iter().all(|(state, value)| *value == f64::from(u8::from(*state == "following"))), "{states:?}");
    let sum = |name: &str| told.series(name).map(|(_, value)| value).sum::<f64>();
    assert!(sum("hub_lane_transaction_seconds_count") >= 2.0 && sum("hub_lane_transaction_seconds_sum") > 0.0);
    assert!(sum("hub_lane_transaction_rows_sum") >= 5020.0, "rows and rejects");
    let outcome = |outcome: &str| {
        told.series("hub_lane_transactions_total").filter(|(labels, _)| labels["outcome"] == outcome).map(|it| it.1).sum::<f64>()
    };
    assert_eq!((outcome("committed"), outcome("aborted")), (sum("hub_lane_transaction_seconds_count"), 0.0));
    assert!(told.series("hub_lane_ready").all(|(_, value)| value == 1.0));
    assert!(of("hub_process_resident_bytes", &[]) > 1e6 && of("hub_process_cpu_seconds", &[]) > 0.0);
    assert_eq!(of("hub_source_slot_active", DEMO), 1.0);
    assert_eq!(of("hub_source_slot_wal_status", &[("system", "demo"), ("wal_status", "reserved")]), 1.0);
    assert_eq!(told.series("hub_source_lag_bytes").count(), 0, "the lag in bytes has one name");
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_commit_that_hangs_is_no_progress_and_the_lag_grows_until_it_is_through() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A')").await;
    let setup = Setup::new(&source, STREAM);
    let mut kafka = Kafka::prepare();
    kafka.start().await;
    setup.write_hub(&kafka.brokers);
    setup.edit_hub("http: {", "http: {stalled_after_s: 1, ");
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    becomes_ready(&hub).await;
    kafka.freeze();
    source.run("INSERT INTO nguoi VALUES (2, 'B')").await;
    let why = not_ready(&hub, "wait for Kafka, the oldest for").await;
    assert!(why.starts_with("demo: ") && why.contains("1 s are allowed"), "{why}");
    let lag = |told: &Scrape| told.value("hub_capture_lag_seconds", DEMO).unwrap();
    let first = scrape(&hub).await;
    assert!(lag(&first) > 1.0 && first.value("hub_queue_oldest_seconds", DEMO).unwrap() > 1.0);
    assert!(first.value("hub_queue_bytes", &[]).unwrap() > 0.0);
    eventually("the lag to grow", async || Some(scrape(&hub).await).filter(|told| lag(told) > lag(&first) + 1.0)).await;
    kafka.thaw();
    hub.counts("public.nguoi", "published", 2).await;
    becomes_ready(&hub).await;
    eventually("the lag to end", async || Some(scrape(&hub).await).filter(|told| lag(told) == 0.0)).await;
    // A tail takes its time to give up; a broker that hangs for that long is not to be relied on afterwards.
    kafka.freeze();
    let tail = setup.command(&["tail", &setup.topic("person")]);
    let said = String::from_utf8(tail.stderr).unwrap();
    assert_eq!(tail.status.code(), Some(4), "a tail without --follow ends: {said}");
    assert!(said.contains(&kafka.brokers), "{said}");
    drop(hub);
}

#[tokio::test]
async fn a_source_that_is_away_makes_the_lag_grow_and_leaves_no_old_figure_of_itself() {
    let source = Source::create(TABLE).await;
    let link = hub_tests_e2e::Proxy::to(source.port, true).await;
    let config = format!(
        "config: {{host: 127.0.0.1, port: {}, database: {}, user: postgres, slot: SLOT, tls: {{mode: disable}}}}",
        link.port, source.database
    );
    let setup = Setup::with_config(&config, STREAM);
    let hub = setup.run();
    becomes_ready(&hub).await;
    eventually("the lag in bytes", async || scrape(&hub).await.value("hub_capture_lag_bytes", DEMO)).await;
    link.cut();
    not_ready(&hub, "retrying").await;
    let gone = |told: &Scrape| {
        told.value("hub_capture_lag_bytes", DEMO).is_none() && told.value("hub_capture_lag_seconds", DEMO).is_some_and(|lag| lag > 2.0)
    };
    eventually("the lag to grow and old figures to go", async || Some(scrape(&hub).await).filter(gone)).await;
    link.mend();
    becomes_ready(&hub).await;
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn a_hub_that_waits_for_kafka_answers_at_once_and_says_for_what() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    let nowhere = format!("127.0.0.1:{}", free_port());
    setup.write_hub(&nowhere);
    let mut hub = setup.run();
    not_ready(&hub, &format!("waiting for Kafka at {nowhere}: connecting to Kafka failed")).await;
    assert_eq!(hub.get("/healthz").await.unwrap(), "ok\n");
    assert!(scrape(&hub).await.value("hub_process_resident_bytes", &[]).unwrap() > 1e6);
    let status = setup.command(&["status"]);
    let said = String::from_utf8(status.stderr).unwrap();
    assert_eq!(status.status.code(), Some(4), "{said}");
    assert!(said.contains("is not ready") && said.contains(&format!("waiting for Kafka at {nowhere}")), "{said}");
    assert!(!hub.has_ended());
    assert!(hub.stop(), "it can be stopped while it waits");
    source.remove().await;
}

#[tokio::test]
async fn the_first_ready_means_that_every_system_runs() {
    let source = Source::create(TABLE).await;
    let setup = Setup::new(&source, STREAM);
    let hub = setup.run();
    becomes_ready(&hub).await;
    assert_eq!(hub.status().await.expect("the system is known")["state"], "following");
    assert!(hub.stop());
    source.remove().await;
}

#[tokio::test]
async fn the_status_topic_tells_state_node_and_position_and_a_removed_system_leaves_a_tombstone() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'Bí Mật')").await;
    let setup = Setup::new(&source, STREAM);
    let topic = format!("hub.{}.status", setup.prefix);
    let last = || -> Option<Value> {
        let (key, value, _) = raw_records(&topic).pop()?;
        assert_eq!(key.as_deref(), Some(&b"demo"[..]));
        value.map(|value| serde_json::from_slice(&value).unwrap())
    };
    let becomes = async |what: &str, is_so: &dyn Fn(&Value) -> bool| eventually(what, async || last().filter(|record| is_so(record))).await;
    let hub = setup.run();
    hub.reaches("following").await;
    source.run("INSERT INTO nguoi VALUES (2, 'Bí Mật')").await;
    let record = becomes("both rows", &|record| record["figures"]["published"] == 2).await;
    assert_eq!((&record["system"], &record["state"], &record["error"]), (&"demo".into(), &"following".into(), &Value::Null));
    assert!(record["node"].as_str().unwrap().ends_with(&format!(":{}", setup.http)), "{record}");
    assert!(record["figures"]["position"]["position"].as_u64().unwrap() > 0, "{record}");
    let age = record["at_ms"].as_i64().unwrap() - record["figures"]["position"]["committed_ms"].as_i64().unwrap();
    assert!((0..60_000).contains(&age), "{record}");
    source.run("DROP TABLE nguoi").await;
    let record = becomes("the trouble", &|record| record["state"] == "waiting").await;
    assert!(record["error"].as_str().unwrap().contains("no such table"), "{record}");
    source.run(TABLE).await;
    assert!(hub.stop());
    let record = last().unwrap();
    assert_eq!((&record["state"], &record["node"]), (&"unassigned".into(), &Value::Null));
    let hub = setup.run();
    becomes("the node to be back", &|record| record["node"].is_string()).await;
    std::fs::remove_file(setup.folder.join("systems/demo.yaml")).unwrap();
    assert!(setup.command(&["apply", "--yes", "--prune"]).status.success());
    eventually("the tombstone", async || raw_records(&topic).pop().filter(|(_, value, _)| value.is_none())).await;
    eventually("the status to forget it", async || hub.get("/status").await.filter(|body| body == "[]")).await;
    assert!(hub.stop());
    assert!(raw_records(&topic).pop().unwrap().1.is_none(), "nothing is written behind it");
    let all: String = raw_records(&topic).into_iter().filter_map(|(_, value, _)| String::from_utf8(value?).ok()).collect();
    assert!(!all.contains("Bí Mật"), "no value of a row is told");
    source.remove().await;
}
