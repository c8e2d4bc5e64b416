//! What happens when Kafka is away: at start, in the middle of a snapshot, and while changes arrive.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use hub_tests_e2e::{Kafka, Setup, Source, eventually, raw_records_of};

const TABLE: &str = "CREATE TABLE nguoi (id bigint PRIMARY KEY, ten text, phi numeric(14,2));";
const STREAM: &str = "
  - source: public.nguoi
    entity: test.Person
    key: [id]
    map: {id: id, name: ten, fee: phi}
";

#[tokio::test]
async fn a_hub_started_before_its_kafka_waits_and_then_publishes_everything() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi SELECT i, 'A', 1 FROM generate_series(1, 1000) i").await;
    let setup = Setup::new(&source, STREAM);
    let mut kafka = Kafka::prepare();
    setup.write_hub(&kafka.brokers);
    let mut hub = setup.run();
    eventually("the hub says that it waits", async || hub.log().contains("kafka does not answer").then_some(())).await;
    assert!(!hub.has_ended());
    kafka.start().await;
    hub.counts("public.nguoi", "published", 1000).await;
    assert_eq!(raw_records_of(&kafka.brokers, &setup.topic("person")).len(), 1000);
    drop(hub);
}

#[tokio::test]
async fn a_tail_that_follows_says_when_kafka_goes_and_when_it_is_back() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi VALUES (1, 'A', 1)").await;
    let setup = Setup::new(&source, STREAM);
    let mut kafka = Kafka::prepare();
    kafka.start().await;
    setup.write_hub(&kafka.brokers);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    let mut tail = setup.start(&["tail", &setup.topic("person"), "--follow", "--from", "beginning"]);
    let says = async |what: &str| {
        let said = || std::fs::read_to_string(setup.folder.join("said")).unwrap();
        eventually(&format!("the tail to say {what}"), async || said().contains(what).then_some(())).await;
    };
    says(r#""name":"A""#).await;
    kafka.kill();
    says("kafka does not answer").await;
    kafka.start().await;
    says("kafka answers again").await;
    source.run("INSERT INTO nguoi VALUES (2, 'B', 2)").await;
    says(r#""name":"B""#).await;
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(hub.stop());
}

#[tokio::test]
async fn a_kafka_that_dies_in_mid_transaction_costs_no_row_and_doubles_none() {
    let source = Source::create(TABLE).await;
    source.run("INSERT INTO nguoi SELECT i, 'A', 1 FROM generate_series(1, 100000) i").await;
    let setup = Setup::new(&source, STREAM);
    let mut kafka = Kafka::prepare();
    kafka.start().await;
    setup.write_hub(&kafka.brokers);
    let hub = setup.run();
    hub.counts("public.nguoi", "published", 1).await;
    kafka.kill();
    source.run("INSERT INTO nguoi SELECT i, 'B', 1 FROM generate_series(200001, 205000) i").await;
    kafka.start().await;
    hub.reaches("following").await;
    // A Kafka that is killed while it writes the markers of a commit may forget them; the next commit of the same producer
    // ends that transaction for readers, so each producer of the lane gets to commit.
    for round in 0..6 {
        let before = hub.status().await.unwrap()["streams"]["public.nguoi"]["published"].as_u64().unwrap();
        source.run(&format!("UPDATE nguoi SET phi = {round} WHERE id <= 100")).await;
        hub.counts("public.nguoi", "published", before + 100).await;
    }
    let (topic, total) = (setup.topic("person"), 105_600);
    eventually("everything in the topic", async || (raw_records_of(&kafka.brokers, &topic).len() >= total).then_some(())).await;
    assert_eq!(raw_records_of(&kafka.brokers, &topic).len(), total, "lost 0, duplicates 0");
    drop(hub);
}

#[tokio::test]
async fn a_kafka_whose_disk_is_full_is_waited_for_and_gets_every_row_once_when_it_has_room() {
    let source = Source::create(TABLE).await;
    let long = "(SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 30) j)";
    source.run(&format!("INSERT INTO nguoi SELECT i, {long}, 1 FROM generate_series(1, 60000) i")).await;
    let setup = Setup::new(&source, STREAM);
    let mut kafka = Kafka::prepare();
    // The broker's indexes alone take 10 MiB a file.
    kafka.start_with_room(12).await;
    setup.write_hub(&kafka.brokers);
    let mut hub = setup.run();
    eventually("the broker to run out of room", async || kafka.has_ended().then_some(())).await;
    eventually("the hub to say so", async || hub.get("/readyz").await.filter(|body| body != "ready\n")).await;
    assert!(!hub.has_ended());
    let published = hub.status().await.unwrap()["streams"]["public.nguoi"]["published"].as_u64().unwrap();
    assert!(published < 60_000, "there was no room for all, and {published} are said to be published");
    kafka.kill();
    kafka.start().await;
    let (topic, total) = (setup.topic("person"), 60_000);
    eventually("everything in the topic", async || (raw_records_of(&kafka.brokers, &topic).len() >= total).then_some(())).await;
    assert_eq!(raw_records_of(&kafka.brokers, &topic).len(), total, "lost 0, duplicates 0");
    drop(hub);
}
