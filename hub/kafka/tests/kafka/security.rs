//! Login and TLS against a broker that asks for them.

use hub_kafka::config::{Mechanism, Verify};
use hub_kafka::{Error, KafkaConfig, LaneError, Topics};

use crate::broker::{Broker, PASSWORD};
use crate::fixture::{Ground, at, publish, system};

async fn publishes(config: KafkaConfig) {
    let ground = Ground::prepare(config, "secure", &[]).await;
    let lane = ground.lane();
    let session = lane.open(&system("secure")).await.unwrap().session;
    publish(&lane, &session, vec![ground.block(&["1"])], at(1)).await.unwrap();
    assert_eq!(ground.values().await, ["1"]);
    lane.stop().await;
}

fn refused(config: &KafkaConfig) -> Error {
    Topics::connect(config).unwrap().list().expect_err("must be refused")
}

/// One broker serves all cases: starting it is most of their time.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_login_publishes_and_a_wrong_one_is_named() {
    let broker = Broker::start().await;
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        publishes(broker.sasl(mechanism, PASSWORD)).await;
        publishes(broker.sasl_over_tls(mechanism)).await;
        let error = refused(&broker.sasl(mechanism, "wrong-password"));
        assert!(matches!(error, Error::Denied { .. }), "{mechanism:?}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("wrong-password"));
    }
    publishes(broker.tls()).await;

    let mut stranger = broker.sasl_over_tls(Mechanism::ScramSha256);
    if let Some(tls) = &mut stranger.tls {
        tls.ca = Some(broker.file("other.crt"));
    }
    assert!(matches!(refused(&stranger), Error::Denied { .. }), "{:?}", refused(&stranger));
    if let Some(tls) = &mut stranger.tls {
        tls.verify = Verify::None;
    }
    publishes(stranger).await;

    let mut without_certificate = broker.tls();
    if let Some(tls) = &mut without_certificate.tls {
        (tls.cert, tls.key) = (None, None);
    }
    let error = refused(&without_certificate);
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");

    let mut missing_file = broker.tls();
    if let Some(tls) = &mut missing_file.tls {
        tls.ca = Some(broker.file("there-is-no-such-file"));
    }
    assert!(matches!(Topics::connect(&missing_file), Err(Error::BadConfig { .. })));

    let ground = Ground::named(broker.sasl(Mechanism::ScramSha256, "wrong-password"), "denied");
    let lane = ground.lane();
    let denied = lane.open(&system("denied")).await;
    assert!(matches!(denied, Err(LaneError::Denied { .. })), "{denied:?}");
    lane.stop().await;
}
