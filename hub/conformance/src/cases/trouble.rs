//! Links that break, servers that restart, readers that are slow.

use std::time::Duration;

use hub_sdk::model::Checkpoint;
use hub_sdk::{Connector, ErrorKind};

use super::stream::following;
use crate::run::PATIENCE;
use crate::{Fixture, Run, Stage};

/// The error says that the source is out of reach; the next run goes on where the last one ended.
pub async fn a_cut_link_is_unreachable_and_nothing_is_lost_by_it<F: Fixture>() {
    let able = |abilities: &hub_sdk::Abilities| abilities.follow && !abilities.listens;
    let Some(mut stage) = Stage::<F>::able("follow by calling its source", able).await else { return };
    let mut replica = stage.replica();
    let run = following(&mut stage, &mut replica).await;
    stage.fixture.cut();
    let error = run.failure().await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.report());
    stage.fill(50, 10).await;
    let refused = Run::start(&stage.connector().await, &replica.checkpoint).failure().await;
    assert_eq!(refused.kind(), ErrorKind::Unreachable, "{}", refused.report());
    stage.fixture.mend();
    let mut run = Run::start(&stage.connector().await, &replica.checkpoint);
    stage.catch_up(&mut run, &mut replica).await;
    run.shut().await;
}

/// Changes before and after a server's restart come once.
pub async fn a_server_that_starts_anew_costs_no_change<F: Fixture>() {
    let able = |abilities: &hub_sdk::Abilities| abilities.follow && !abilities.listens;
    let Some(mut stage) = Stage::<F>::able("follow by calling its source", able).await else { return };
    let mut replica = stage.replica();
    let run = following(&mut stage, &mut replica).await;
    stage.fill(50, 10).await;
    stage.fixture.restart().await;
    let error = run.failure().await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{}", error.report());
    stage.fill(70, 10).await;
    let mut run = Run::start(&stage.connector().await, &replica.checkpoint);
    stage.catch_up(&mut run, &mut replica).await;
    run.shut().await;
}

/// A hub that takes nothing makes the connector wait, not grow; then everything comes.
pub async fn memory_stays_within_the_budget<F: Fixture>() {
    let mut stage = Stage::<F>::start().await;
    // A few batches of the narrowest rows are more than the budget, so that it and not the depth of the queue is what holds.
    stage.limits.rows = 500;
    let connector = stage.connector().await;
    let budget = 64 << 10;
    let mut replica = stage.replica();
    let mut run = Run::start_within(&connector, &Checkpoint::empty(), budget);
    if !stage.abilities.snapshot {
        run.take(&mut replica).await.unwrap();
    }
    stage.fill(1, 20_000).await;
    let full = async {
        while run.budget.used() < budget / 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("the queue should fill up");
    assert!(run.budget.used() <= run.budget.total());
    stage.catch_up(&mut run, &mut replica).await;
    run.shut().await;
}

/// However much is under way.
pub async fn a_shut_outlet_ends_a_run_in_time<F: Fixture>() {
    let mut stage = Stage::<F>::start().await;
    stage.fill(1, 5_000).await;
    let connector = stage.connector().await;
    let mut replica = stage.replica();
    let mut run = Run::start_within(&connector, &Checkpoint::empty(), 16 << 10);
    if stage.abilities.snapshot {
        run.take(&mut replica).await.unwrap();
    }
    run.shut_within(Duration::from_secs(5)).await;
    let mut run = Run::start(&stage.connector().await, &replica.checkpoint);
    stage.catch_up(&mut run, &mut replica).await;
    run.shut_within(Duration::from_secs(5)).await;
}

/// Releasing again does no harm.
pub async fn a_released_system_leaves_nothing_behind<F: Fixture>() {
    let mut stage = Stage::<F>::start().await;
    stage.fill(1, 10).await;
    let connector = stage.connector().await;
    let mut replica = stage.replica();
    let mut run = Run::start(&connector, &Checkpoint::empty());
    if stage.abilities.snapshot {
        stage.catch_up(&mut run, &mut replica).await;
    }
    run.shut().await;
    for _twice in 0..2 {
        connector.release().await.unwrap_or_else(|error| panic!("{}", error.report()));
    }
    assert_eq!(stage.fixture.left_behind().await, Vec::<String>::new());
}
