//! What is there already, and how it meets what comes later.

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use hub_sdk::model::{Checkpoint, Op};
use hub_sdk::{Budget, Connector, outlet};

use crate::{Fixture, Run, Stage, cell};

/// Every row is read once, and a run after the last checkpoint reads nothing again.
pub async fn what_is_there_is_read_once<F: Fixture>() {
    let Some(mut stage) = Stage::<F>::able("snapshot", |abilities| abilities.snapshot).await else { return };
    stage.fill(1, 1_000).await;
    let connector = stage.connector().await;
    let mut replica = stage.replica();
    let mut run = Run::start(&connector, &Checkpoint::empty());
    while replica.completed == 0 {
        run.take(&mut replica).await.unwrap();
    }
    assert_eq!((replica.reads, replica.completed), (1_000, 1), "the last row is told as such");
    if stage.abilities.follow {
        stage.fill(2_001, 1).await;
        stage.catch_up(&mut run, &mut replica).await;
        run.kill().await;
        let mut run = Run::start(&stage.connector().await, &replica.checkpoint);
        stage.fill(2_002, 1).await;
        stage.catch_up(&mut run, &mut replica).await;
        assert_eq!((replica.reads, replica.completed), (1_000, 1), "nothing is read again");
        return run.shut().await;
    }
    run.shut().await;
}

/// Behind the last row that is there comes an empty delivery: without it a system would seem to read, and to fall behind, until something changes.
pub async fn once_all_is_read_it_says_that_it_follows<F: Fixture>() {
    let able = |abilities: &hub_sdk::Abilities| abilities.snapshot && abilities.follow;
    let Some(mut stage) = Stage::<F>::able("snapshot and follow", able).await else { return };
    stage.fill(1, 10).await;
    let connector = stage.connector().await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let (mut reads, mut completed, mut follows) = (0, false, false);
    while reads < 10 || !completed || !follows {
        let delivery = run.next().await.unwrap();
        let says_so = delivery.batches.is_empty() && delivery.checkpoint.is_empty() && delivery.evidence.is_empty();
        follows = says_so || (follows && delivery.batches.is_empty());
        reads += delivery.batches.iter().map(hub_sdk::model::ChangeBatch::len).sum::<usize>();
        completed |= !delivery.completed.is_empty();
    }
    run.shut().await;
}

/// The hardest values of every type are the same columns and cells, whether read or followed.
pub async fn snapshot_and_stream_give_identical_columns_and_values<F: Fixture>() {
    let able = |abilities: &hub_sdk::Abilities| abilities.snapshot && abilities.follow;
    let Some(mut stage) = Stage::<F>::able("snapshot and follow", able).await else { return };
    let count = stage.fixture.put_extremes(1).await;
    let stream = stage.fixture.extremes();
    let connector = stage.connector_of(&stage.fixture.config(), &[stream]).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let read = rows::<F>(&mut run, count).await;
    stage.fixture.put_extremes(1_001).await;
    let followed = rows::<F>(&mut run, count).await;
    assert_eq!(read.schema(), followed.schema(), "the columns");
    let key = read.schema().index_of(F::KEY).unwrap();
    for (place, field) in read.schema().fields().iter().enumerate().filter(|(place, _)| *place != key) {
        let (read, followed) = (column::<F>(&read, place, 0), column::<F>(&followed, place, 1_000));
        assert_eq!(read, followed, "column {}", field.name());
    }
    run.shut().await;
}

/// The cells of a column in the order of the keys, which are told from `first` on.
fn column<F: Fixture>(rows: &RecordBatch, place: usize, first: i64) -> Vec<(i64, String)> {
    let key = rows.schema().index_of(F::KEY).unwrap();
    let id = |row| cell(rows, key, row).parse::<i64>().unwrap() - first;
    let mut cells: Vec<_> = (0..rows.num_rows()).map(|row| (id(row), cell(rows, place, row))).collect();
    cells.sort();
    cells
}

async fn rows<F: Fixture>(run: &mut Run<F::Connector>, count: i64) -> RecordBatch {
    let mut batches = Vec::new();
    while batches.iter().map(RecordBatch::num_rows).sum::<usize>() < usize::try_from(count).unwrap() {
        let delivery = run.next().await.unwrap();
        for batch in &delivery.batches {
            assert!(batch.faults.is_empty(), "no value is refused: {:?}", batch.faults);
            batches.push(batch.rows.clone());
        }
        run.connector.acknowledge(&delivery.checkpoint);
    }
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// Rows change while they are read: at the end the subscriber knows what the source knows, and was told nothing twice.
pub async fn the_hand_off_has_no_gap_and_no_duplicate<F: Fixture>() {
    let able = |abilities: &hub_sdk::Abilities| abilities.snapshot && abilities.follow;
    let Some(mut stage) = Stage::<F>::able("snapshot and follow", able).await else { return };
    stage.fill(1, 5_000).await;
    let connector = stage.connector().await;
    let mut replica = stage.replica();
    let mut run = Run::start(&connector, &Checkpoint::empty());
    for round in 0..100 {
        let changed: Vec<_> = [round * 37 % 5_000 + 1, 10_000 + round].map(|id| (id, Some(format!("lần {round}")))).to_vec();
        stage.fixture.put(&changed).await;
        if stage.abilities.deletes && round % 3 == 0 {
            stage.fixture.delete(&[round * 41 % 5_000 + 1]).await;
        }
        run.take(&mut replica).await.unwrap();
    }
    stage.catch_up(&mut run, &mut replica).await;
    assert!(replica.reads > 0 && !replica.changes.is_empty());
    run.shut().await;
}

/// Preview and verify see what is published.
pub async fn a_sample_and_a_scan_are_what_a_capture_yields<F: Fixture>() {
    let Some(mut stage) = Stage::<F>::able("snapshot", |abilities| abilities.snapshot).await else { return };
    stage.fill(1, 500).await;
    let connector = stage.connector().await;
    let stream = stage.fixture.stream();
    let sample = connector.sample(&stream, 10).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!((1..=10).contains(&sample.len()), "{} rows", sample.len());
    let (out, mut deliveries) = outlet(Budget::new(64 << 20), 64);
    connector.scan(&stream, out).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let mut scanned = stage.replica();
    while let Some((delivery, _permit)) = deliveries.recv().await {
        assert!(delivery.checkpoint.is_empty(), "a scan moves nothing");
        assert!(delivery.batches.iter().all(|batch| batch.ops.iter().all(|op| *op == Op::Read)));
        scanned.apply(&delivery);
    }
    assert_eq!(scanned.rows, stage.fixture.rows().await);
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let captured = first_rows(&mut run).await;
    assert_eq!(sample.rows.schema(), captured.schema());
    run.shut().await;
}

/// A draft of a mapping names the columns that come.
pub async fn discover_tells_the_columns_that_a_capture_yields<F: Fixture>() {
    let mut stage = Stage::<F>::start().await;
    stage.fill(1, 1).await;
    let connector = stage.connector().await;
    let shapes = connector.discover().await.unwrap_or_else(|error| panic!("{}", error.report()));
    let stream = stage.fixture.stream();
    let shape = shapes.iter().find(|shape| shape.stream == stream).unwrap_or_else(|| panic!("{stream} is not among the streams"));
    assert!(shape.findings.iter().all(|finding| !finding.fatal), "{:?}", shape.findings);
    assert!(shape.identity.contains(&F::KEY.to_owned()), "{:?}", shape.identity);
    let mut run = Run::start(&connector, &Checkpoint::empty());
    if !stage.abilities.snapshot {
        stage.fill(2, 1).await;
    }
    assert_eq!(shape.schema.fields(), first_rows(&mut run).await.schema().fields());
    run.shut().await;
}

async fn first_rows<C: Connector>(run: &mut Run<C>) -> RecordBatch {
    loop {
        if let Some(batch) = run.next().await.unwrap().batches.into_iter().next() {
            return batch.rows;
        }
    }
}
