//! What single changes look like.

use hub_sdk::Delivery;
use hub_sdk::model::{ChangeBatch, Checkpoint, KeyChange, Op};

use crate::replica::{Replica, cell};
use crate::rig::{Rig, Run};

/// The batches of one stream that come until one holds a row of this key.
async fn batches_until(run: &mut Run, stream: &str, key: &str) -> Vec<ChangeBatch> {
    let mut all = Vec::new();
    loop {
        let Delivery { batches, .. } = run.next().await;
        for batch in batches {
            let end = (0..batch.len()).any(|row| cell(&batch.rows, 0, row) == key);
            if batch.stream.as_str() == stream {
                all.push(batch);
            }
            if end {
                return all;
            }
        }
    }
}

fn described(batches: &[ChangeBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for (row, op) in batch.ops.iter().enumerate() {
            let cells: Vec<_> = (0..batch.rows.num_columns()).map(|column| cell(&batch.rows, column, row)).collect();
            lines.push(format!("{} {}", op.letter(), cells.join("|")));
        }
    }
    lines
}

async fn following(rig: &Rig, streams: &[&str]) -> Run {
    let connector = rig.connector(streams).await;
    let mut run = Run::start(&connector, &Checkpoint::empty());
    let mut replica = Replica::default();
    while !streams.iter().all(|stream| replica.is_complete(stream)) {
        replica.one(&mut run).await;
    }
    run
}

#[tokio::test]
async fn a_changed_key_is_a_delete_and_a_create_that_belong_together() {
    let rig = Rig::start(
        "CREATE TABLE a (id int PRIMARY KEY, ten text); INSERT INTO a VALUES (1, 'một'), (2, 'hai');
         CREATE TABLE b (id int PRIMARY KEY, ten text); ALTER TABLE b REPLICA IDENTITY FULL; INSERT INTO b VALUES (1, 'một');",
    )
    .await;
    let mut run = following(&rig, &["public.a", "public.b"]).await;
    rig.run("UPDATE a SET id = 10 WHERE id = 1; DELETE FROM a WHERE id = 2; INSERT INTO a VALUES (99, 'hết')").await;
    let batches = batches_until(&mut run, "public.a", "99").await;
    assert_eq!(described(&batches), ["d 1|∅", "c 10|một", "d 2|∅", "c 99|hết"]);
    assert_eq!(batches[0].key_changes, [KeyChange { delete: 0, create: 1 }]);
    assert!(!batches[0].full_images);
    assert!(batches[0].old.is_none());
    rig.run("UPDATE b SET ten = 'MỘT'; UPDATE b SET id = 5; DELETE FROM b; INSERT INTO b VALUES (99, 'hết')").await;
    let batches = batches_until(&mut run, "public.b", "99").await;
    assert_eq!(described(&batches), ["u 1|MỘT", "d 1|MỘT", "c 5|MỘT", "d 5|MỘT", "c 99|hết"]);
    assert!(batches[0].full_images);
    let old = batches[0].old.as_ref().unwrap();
    assert_eq!(cell(old, 1, 0), "một");
    assert!(batches[0].key_changes.iter().all(|change| batches[0].ops[change.delete as usize] == Op::Delete));
    run.shut().await;
}

#[tokio::test]
async fn an_unchanged_toasted_value_is_filled_from_the_old_image_or_read_again() {
    let rig = Rig::start(
        "CREATE TABLE a (id int PRIMARY KEY, n int, ten text); ALTER TABLE a ALTER ten SET STORAGE EXTERNAL;
         CREATE TABLE b (LIKE a INCLUDING ALL); ALTER TABLE b REPLICA IDENTITY FULL;
         INSERT INTO a SELECT i, 0, repeat('á', 3000 + i) FROM generate_series(1, 3) i; INSERT INTO b SELECT * FROM a;",
    )
    .await;
    let mut run = following(&rig, &["public.a", "public.b"]).await;
    rig.run("UPDATE a SET n = 1 WHERE id < 3; INSERT INTO a VALUES (99, 0, 'hết')").await;
    let batches = batches_until(&mut run, "public.a", "99").await;
    let sizes = |batches: &[ChangeBatch]| -> Vec<usize> {
        batches.iter().flat_map(|batch| (0..batch.len()).map(|row| cell(&batch.rows, 2, row).chars().count())).collect()
    };
    assert_eq!(sizes(&batches), [3001, 3002, 3]);
    rig.run("UPDATE b SET n = 1 WHERE id < 3; INSERT INTO b VALUES (99, 0, 'hết')").await;
    let batches = batches_until(&mut run, "public.b", "99").await;
    assert_eq!(sizes(&batches), [3001, 3002, 3]);
    // In one transaction the row is gone before it can be read again.
    rig.run("BEGIN; UPDATE a SET n = 2 WHERE id = 3; DELETE FROM a WHERE id = 3; INSERT INTO a VALUES (100, 0, ''); COMMIT").await;
    let batches = batches_until(&mut run, "public.a", "100").await;
    let faults = &batches[0].faults;
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].row, faults[0].code, faults[0].column.as_deref()), (0, "toast-vanished", Some("ten")));
    run.shut().await;
}

#[tokio::test]
async fn truncates_come_in_their_place() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY, ten text); INSERT INTO a VALUES (1, 'một')").await;
    let mut run = following(&rig, &["public.a"]).await;
    rig.run("BEGIN; INSERT INTO a VALUES (2, ''); TRUNCATE a; INSERT INTO a VALUES (3, 'ba'); COMMIT").await;
    let batches = batches_until(&mut run, "public.a", "3").await;
    assert_eq!(described(&batches), ["c 2|", "t ∅|∅", "c 3|ba"]);
    assert_eq!(batches[0].origin.ordinal, [0, 1, 2]);
    run.shut().await;
}

#[tokio::test]
async fn a_table_that_changes_its_shape_goes_on_in_the_new_one() {
    let rig = Rig::start("CREATE TABLE a (id int PRIMARY KEY, ten text, cu int)").await;
    let mut run = following(&rig, &["public.a"]).await;
    rig.run(
        "INSERT INTO a VALUES (1, 'một', 1); ALTER TABLE a ADD moi date; INSERT INTO a VALUES (2, 'hai', 2, '2024-02-29');
         ALTER TABLE a DROP cu; CREATE TYPE mau AS ENUM ('đỏ', 'xanh'); ALTER TABLE a ADD mau mau;
         INSERT INTO a VALUES (3, 'ba', NULL, 'đỏ')",
    )
    .await;
    let batches = batches_until(&mut run, "public.a", "3").await;
    assert_eq!(described(&batches), ["c 1|một|1", "c 2|hai|2|2024-02-29", "c 3|ba|∅|đỏ"]);
    assert_eq!(batches.len(), 3);
    run.shut().await;
}

#[tokio::test]
async fn the_stream_and_the_snapshot_give_one_shape_and_the_same_values() {
    let columns = "id int PRIMARY KEY, a boolean, b smallint, c real, d double precision, e numeric(20,6), f numeric, \
        g text, h varchar(10), i char(5), j bytea, k date, l time, m timestamp, n timestamptz, o uuid, p jsonb, q json, \
        r int[], s interval, t inet, u timetz, v oid, w bit(3), x xml, y int4range, z money, \"Tên riêng\" text";
    let values = "true, -3, 1.5, -0.1, 12.345678, 'NaN', 'tiếng Việt', 'mười', 'ab', '\\x00ff', '0044-03-15 BC', '24:00:00', \
        'infinity', '2024-01-01 00:00:00.123456+07', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": [1, null]}', '{\"b\" : 2}', \
        '{1,NULL,3}', '1 mon -2 days 03:00', '10.1.2.3/8', '12:00:00+07', 4294967295, '101', '<a/>', '[1,5)', '-12.30', 'x'";
    for opaque in [true, false] {
        let rig = Rig::start(&format!("CREATE TABLE a ({columns}); INSERT INTO a VALUES (1, {values}); INSERT INTO a VALUES (2)")).await;
        if !opaque {
            // What is left has a binary form throughout, so the stream is binary too.
            let drop: Vec<_> = ["r", "s", "t", "u", "w", "y", "z"].iter().map(|name| format!("DROP {name}")).collect();
            rig.run(&format!("ALTER TABLE a {}", drop.join(", "))).await;
        }
        let connector = rig.connector(&["public.a"]).await;
        let mut run = Run::start(&connector, &Checkpoint::empty());
        let read = batches_until(&mut run, "public.a", "2").await;
        rig.run("CREATE TABLE kept AS TABLE a; DELETE FROM a; INSERT INTO a SELECT * FROM kept ORDER BY id").await;
        let mut streamed = Vec::new();
        while streamed.is_empty() {
            let batches = batches_until(&mut run, "public.a", "2").await;
            streamed.extend(batches.into_iter().filter(|batch| batch.ops.contains(&Op::Create)));
        }
        let batch = &streamed[0];
        let first = batch.ops.iter().position(|op| *op == Op::Create).unwrap();
        assert_eq!(batch.rows.slice(first, 2), read[0].rows, "opaque: {opaque}");
        assert_eq!(batch.faults, read[0].faults);
        run.shut().await;
    }
}

#[tokio::test]
async fn partitions_come_as_their_table_and_odd_names_are_kept() {
    let rig = Rig::start(
        "CREATE TABLE \"Hồ sơ\" (id int, nam int, PRIMARY KEY (id, nam)) PARTITION BY RANGE (nam);
         CREATE TABLE p1 PARTITION OF \"Hồ sơ\" FOR VALUES FROM (2000) TO (2020);
         CREATE TABLE p2 PARTITION OF \"Hồ sơ\" FOR VALUES FROM (2020) TO (2030);
         INSERT INTO \"Hồ sơ\" VALUES (1, 2001), (2, 2021)",
    )
    .await;
    let mut run = {
        let connector = rig.connector(&["public.Hồ sơ"]).await;
        Run::start(&connector, &Checkpoint::empty())
    };
    let mut replica = Replica::default();
    while !replica.is_complete("public.Hồ sơ") {
        replica.one(&mut run).await;
    }
    assert_eq!(replica.reads, 2);
    rig.run("UPDATE \"Hồ sơ\" SET nam = 2022 WHERE id = 1; INSERT INTO \"Hồ sơ\" VALUES (3, 2005)").await;
    replica.until_key(&mut run, "public.Hồ sơ", "3").await;
    assert_eq!(replica.rows["public.Hồ sơ"]["1"], "1|2022");
    run.shut().await;
}
