//! What changes later: order, deletes, nulls, truncates, and going on from anywhere.

use hub_sdk::model::Checkpoint;

use crate::{Fixture, NULL, Run, Stage};

/// Changes of one key come in their order, and each of them comes.
pub async fn changes_of_a_key_keep_their_order<F: Fixture>() {
    let able = |abilities: &hub_sdk::Abilities| abilities.follow && abilities.exactly_once && abilities.every_change;
    let Some(mut stage) = Stage::<F>::able("follow every change exactly once", able).await else { return };
    let mut replica = stage.replica();
    let mut run = following(&mut stage, &mut replica).await;
    for step in 0..50 {
        stage.fixture.put(&[(7, Some(format!("bước {step}"))), (8, Some(format!("bước {step}")))]).await;
    }
    stage.catch_up(&mut run, &mut replica).await;
    let told = replica.changes.iter().filter(|change| *change == "c7" || *change == "u7").count();
    assert_eq!(told, 50, "no change is left out: {:?}", replica.changes);
    run.shut().await;
}

/// A delete takes the row away, and null is null.
pub async fn deletes_and_nulls_are_told<F: Fixture>() {
    let able = |abilities: &hub_sdk::Abilities| abilities.follow && abilities.deletes;
    let Some(mut stage) = Stage::<F>::able("follow with deletes", able).await else { return };
    let mut replica = stage.replica();
    let mut run = following(&mut stage, &mut replica).await;
    stage.fixture.put(&[(1, Some(String::new())), (2, None), (3, Some("Đặng Thị Ánh".to_owned()))]).await;
    stage.catch_up(&mut run, &mut replica).await;
    assert_eq!((replica.rows["1"].as_str(), replica.rows["2"].as_str()), ("", NULL), "an empty text is no null");
    stage.fixture.delete(&[1, 3]).await;
    stage.catch_up(&mut run, &mut replica).await;
    assert!(replica.changes.contains(&"d1".to_owned()) && replica.changes.contains(&"d3".to_owned()), "{:?}", replica.changes);
    run.shut().await;
}

/// What is put after a truncate outlives it.
pub async fn a_truncate_is_told_at_its_place<F: Fixture>() {
    let able = |abilities: &hub_sdk::Abilities| abilities.follow && abilities.truncates;
    let Some(mut stage) = Stage::<F>::able("truncates", able).await else { return };
    let mut replica = stage.replica();
    let mut run = following(&mut stage, &mut replica).await;
    stage.fill(1, 10).await;
    stage.fixture.truncate().await;
    stage.fill(5, 2).await;
    stage.catch_up(&mut run, &mut replica).await;
    let place = replica.changes.iter().position(|change| change == "t").expect("the truncate is told");
    assert_eq!(replica.changes.len() - place - 1, 2, "{:?}", replica.changes);
    run.shut().await;
}

/// A run from each checkpoint tells exactly what came after it.
pub async fn a_run_goes_on_from_every_checkpoint<F: Fixture>() {
    let Some(mut stage) = Stage::<F>::able("follow", |abilities| abilities.follow).await else { return };
    stage.limits.rows = 10;
    stage.fill(1, 300).await;
    let mut before = stage.replica();
    let connector = stage.connector().await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let mut rounds = 0;
    // Each delivery is the last one that became durable before a kill.
    while rounds < 12 {
        run.take(&mut before).await.unwrap();
        run.kill().await;
        stage.fixture.put(&[(1_000 + rounds, Some("sau".to_owned())), (rounds + 1, Some(format!("đổi {rounds}")))]).await;
        run = Run::start(&stage.connector().await, &before.checkpoint);
        rounds += 1;
    }
    stage.catch_up(&mut run, &mut before).await;
    run.shut().await;
}

/// The rows go on; what the new column holds is the mapping's business.
pub async fn a_new_column_does_not_stop_the_stream<F: Fixture>() {
    let Some(mut stage) = Stage::<F>::able("follow", |abilities| abilities.follow).await else { return };
    let mut replica = stage.replica();
    let mut run = following(&mut stage, &mut replica).await;
    stage.fixture.add_column().await;
    stage.fill(10, 5).await;
    stage.catch_up(&mut run, &mut replica).await;
    run.kill().await;
    let mut run = Run::start(&stage.connector().await, &replica.checkpoint);
    stage.fill(20, 5).await;
    stage.catch_up(&mut run, &mut replica).await;
    run.shut().await;
}

/// A run that follows an empty stream already.
pub(super) async fn following<F: Fixture>(stage: &mut Stage<F>, replica: &mut crate::Replica) -> Run<F::Connector> {
    let connector = stage.connector().await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    // The first row shows that the run is under way, read or followed.
    stage.fill(1_000_000, 1).await;
    stage.catch_up(&mut run, replica).await;
    run
}
