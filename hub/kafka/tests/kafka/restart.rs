//! Bad days of the broker: killed in mid-transaction, away at the start, away for longer than a transaction may last.

use std::time::Duration;

use hub_kafka::{Health, KafkaConfig, LaneError, Next, ReadPlan, Reader};

use crate::broker::Broker;
use crate::fixture::{Ground, at, position, publish, run_source, system};

/// Kills the broker whenever the source has passed one of `kills`, keeps it down for `down`, and checks what arrived.
/// Returns how often the source had to begin anew.
async fn killed(mut config: impl FnMut(KafkaConfig) -> KafkaConfig, kills: &[u64], down: Duration) -> usize {
    const LAST: u64 = 120_000;
    let mut broker = Broker::start().await;
    let ground = Ground::prepare(config(broker.config()), "killed", &[]).await;
    let numbers = system("numbers");
    let mut progress = ground.progress.subscribe();
    let source = async {
        let lane = ground.lane();
        let failures = run_source(&ground, &lane, &numbers, LAST, 300).await;
        lane.stop().await;
        failures
    };
    let faults = async {
        for at in kills {
            progress.wait_for(|reached| reached >= at).await.unwrap();
            broker.kill();
            // The time that the broker is away is what is tested.
            tokio::time::sleep(down).await;
            broker.run().await;
        }
    };
    let (failures, ()) = tokio::join!(source, faults);
    let seen = ground.values().await;
    assert_eq!(seen.len() as u64, LAST, "lost or doubled");
    assert!(seen.into_iter().eq((0..LAST).map(|number| number.to_string())), "out of order");
    assert_eq!(position(&ground.checkpoint(&numbers).await), LAST);
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_in_mid_transaction_and_started_again_loses_and_doubles_nothing() {
    killed(|config| config, &[5_000, 40_000, 80_000], Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_away_for_longer_than_a_transaction_lasts_loses_and_doubles_nothing() {
    let short = |mut config: KafkaConfig| {
        config.transaction_timeout_ms = 2_000;
        config
    };
    let failures = killed(short, &[10_000], Duration::from_secs(5)).await;
    assert!(failures > 0, "the source must have gone on from its checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_started_while_kafka_is_away_begins_when_it_comes() {
    let mut broker = Broker::prepared();
    let ground = Ground::named(broker.config(), "early");
    let lane = ground.lane();
    let name = system("early");
    let refused = lane.open(&name).await;
    assert!(matches!(refused, Err(LaneError::Unreachable { .. })), "{refused:?}");
    assert!(matches!(*lane.health().borrow(), Health::Waiting(_)));
    broker.run().await;
    ground.create(&[]).await;
    let mut health = lane.health();
    health.wait_for(|health| matches!(health, Health::Ready)).await.unwrap();
    let session = lane.open(&name).await.unwrap().session;
    publish(&lane, &session, vec![ground.block(&["1"])], at(1)).await.unwrap();
    assert_eq!(ground.values().await, ["1"]);
    lane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_waits_for_kafka_says_so_and_can_be_stopped() {
    let mut broker = Broker::start().await;
    let ground = Ground::prepare(broker.config(), "waiting", &[]).await;
    let lane = ground.lane();
    let session = lane.open(&system("waits")).await.unwrap().session;
    broker.kill();
    let outcome = crate::fixture::submit(&lane, &session, vec![ground.block(&["1"])], at(1)).await;
    let mut health = lane.health();
    health.wait_for(|health| matches!(health, Health::Waiting(_))).await.unwrap();
    lane.stop().await;
    assert!(matches!(outcome.await.unwrap(), Err(LaneError::Stopped { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_an_end_gives_up_on_a_kafka_that_hangs_however_often_it_is_asked() {
    let broker = Broker::start().await;
    let ground = Ground::prepare(broker.config(), "hangs", &[]).await;
    let (config, topic) = (ground.config.clone(), ground.topic.clone());
    let mut reader = tokio::task::spawn_blocking(move || Reader::open(&config, ReadPlan::whole(topic)).unwrap()).await.unwrap();
    broker.freeze();
    let asked = tokio::task::spawn_blocking(move || {
        let rounds = (0..600).map(|_| reader.next(Duration::from_millis(50)).map(|next| matches!(next, Next::End)));
        rounds.take_while(|answer| !matches!(answer, Ok(true))).find_map(Result::err).map(|error| error.to_string())
    });
    let error = asked.await.unwrap().expect("30 s of silence are an error");
    assert!(error.contains(&ground.topic), "{error}");
}
