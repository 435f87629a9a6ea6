//! Invisible copies: nothing shows until one commit makes the copy the table.
use std::sync::Arc;

use arrow_schema::DataType;
use lakeward_core::{CommitMark, Op, SinkTable, Slot, TableSchema};

use crate::support::{
    World, changes, committed, identified, inserts, land, mark, people, permit, policy, row, upkeep,
};

async fn land_copy(
    table: &mut Box<dyn SinkTable>,
    schema: &TableSchema,
    epoch: u64,
    promote: bool,
) -> CommitMark {
    let staged = table.stage().await.unwrap();
    let last = table.last_commit().await.unwrap();
    let permit = permit(last.as_ref(), mark(schema, epoch, 2), promote);
    committed(table.commit(staged, permit).await)
}

fn copies(world: &World) -> Vec<String> {
    world.files("public/t").into_iter().filter(|f| f.contains("_lakeward_copy_")).collect()
}

#[tokio::test]
async fn a_copy_is_invisible_until_it_is_promoted_in_one_commit() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table
        .write(inserts(&schema, &[row![1, "old", 1], row![2, "gone at the source", 2]]))
        .await
        .unwrap();
    land(&mut table, &schema).await;

    let mut copy = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    assert_eq!(copy.last_commit().await.unwrap(), None);
    copy.write(inserts(&schema, &[row![1, "loading", 1]])).await.unwrap();
    land_copy(&mut copy, &schema, 2, false).await;
    world.read("t").assert(&[row![1, "old", 1], row![2, "gone at the source", 2]]);

    // The visible table goes on meanwhile; both handles know that only the other line moved.
    table.write(inserts(&schema, &[row![3, "c", 3]])).await.unwrap();
    let staged = table.stage().await.unwrap();
    let last = mark(&schema, 1, 1);
    committed(table.commit(staged, permit(Some(&last), mark(&schema, 2, 1), false)).await);
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 2);
    world.read("t").assert(&[row![1, "old", 1], row![2, "gone at the source", 2], row![3, "c", 3]]);

    copy.write(inserts(&schema, &[row![3, "c", 3]])).await.unwrap();
    land_copy(&mut copy, &schema, 3, false).await;
    copy.write(changes(&schema, &[(Op::Update, row![1, "new", 1])])).await.unwrap();
    let promoted = land_copy(&mut copy, &schema, 4, true).await;
    world.read("t").assert(&[row![1, "new", 1], row![3, "c", 3]]);
    assert_eq!(copies(&world), [""; 0]);
    assert_eq!(copy.last_commit().await.unwrap(), Some(promoted.clone()));

    // The handle writes the visible table now, and so does one opened later.
    copy.write(inserts(&schema, &[row![4, "d", 4]])).await.unwrap();
    land_copy(&mut copy, &schema, 5, false).await;
    let mut table = world.table(&schema).await;
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 5);
    table.write(changes(&schema, &[(Op::Delete, row![3, (), ()])])).await.unwrap();
    land_copy(&mut table, &schema, 6, false).await;
    world.read("t").assert(&[row![1, "new", 1], row![4, "d", 4]]);
}

#[tokio::test]
async fn a_copy_makes_the_table_when_there_is_none() {
    let world = World::new().await;
    let schema = people("t");
    let mut copy = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    copy.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land_copy(&mut copy, &schema, 1, false).await;
    assert_eq!(copies(&world).len(), 1);
    assert!(world.files("public/t/_delta_log").is_empty());
    assert_eq!(copy.version(), None);

    let reopened = world.again("writer-2").await;
    let mut copy = reopened.open_table(&schema, Slot::Copy(2)).await.unwrap();
    copy.write(changes(&schema, &[(Op::Update, row![1, "b", 2])])).await.unwrap();
    land_copy(&mut copy, &schema, 2, true).await;
    world.read("t").assert(&[row![1, "b", 2]]);
}

#[tokio::test]
async fn a_copy_can_be_promoted_by_its_first_commit() {
    let world = World::new().await;
    let schema = people("t");
    let mut copy = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    copy.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land_copy(&mut copy, &schema, 1, true).await;
    world.read("t").assert(&[row![1, "a", 1]]);
    assert_eq!(copies(&world), [""; 0]);

    let mut copy = world.sink.open_table(&schema, Slot::Copy(3)).await.unwrap();
    copy.write(inserts(&schema, &[row![2, "b", 2]])).await.unwrap();
    land_copy(&mut copy, &schema, 2, true).await;
    world.read("t").assert(&[row![2, "b", 2]]);
}

#[tokio::test]
async fn a_dropped_copy_leaves_nothing_behind() {
    let world = World::new().await;
    let schema = people("t");
    world.sink.drop_copy(&schema, 2).await.unwrap();
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    let mut copy = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    copy.write(inserts(&schema, &[row![7, "x", 1]])).await.unwrap();
    land_copy(&mut copy, &schema, 2, false).await;
    assert_eq!(world.files("public/t/data").len(), 2);
    for _ in 0..2 {
        world.sink.drop_copy(&schema, 2).await.unwrap();
    }
    assert_eq!(copies(&world), [""; 0]);
    assert_eq!(world.files("public/t/data").len(), 1);
    table.write(inserts(&schema, &[row![2, "b", 2]])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![1, "a", 1], row![2, "b", 2]]);
}

#[tokio::test]
async fn expiry_keeps_what_a_copy_needs() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for n in 0..3 {
        table.write(inserts(&schema, &[row![1, "a", n]])).await.unwrap();
        land(&mut table, &schema).await;
    }
    let mut copy = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    copy.write(inserts(&schema, &[row![7, "x", 1]])).await.unwrap();
    land_copy(&mut copy, &schema, 4, false).await;
    let rules = lakeward_core::UpkeepPolicy {
        force_expire: true,
        retain: std::time::Duration::ZERO,
        ..policy()
    };
    table.last_commit().await.unwrap();
    upkeep(&mut table, &rules).await.unwrap();
    copy.write(inserts(&schema, &[row![8, "y", 1]])).await.unwrap();
    land_copy(&mut copy, &schema, 5, true).await;
    world.read("t").assert(&[row![7, "x", 1], row![8, "y", 1]]);
}

#[tokio::test]
async fn a_new_table_of_an_old_name_comes_through_a_copy() {
    let world = World::new().await;
    let old = people("t");
    let mut table = world.table(&old).await;
    table.write(inserts(&old, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &old).await;

    let new =
        identified("t", "20000", &[(1, "name", DataType::Utf8), (2, "id", DataType::Int64)], &[1]);
    let refused = table.write(inserts(&new, &[row!["b", 2]])).await.unwrap_err();
    assert_eq!(refused.kind(), lakeward_core::ErrorKind::Conflict);
    let mut copy = world.sink.open_table(&new, Slot::Copy(2)).await.unwrap();
    copy.write(inserts(&new, &[row!["b", 2]])).await.unwrap();
    land_copy(&mut copy, &new, 2, false).await;
    world.read("t").assert(&[row![1, "a", 1]]);
    copy.write(inserts(&new, &[row!["c", 3]])).await.unwrap();
    land_copy(&mut copy, &new, 3, true).await;
    let found = world.read("t");
    found.assert(&[row!["b", 2], row!["c", 3]]);
    assert_eq!(found.columns, ["name", "id"]);
    let _: Arc<TableSchema> = new;
}

#[tokio::test]
async fn a_promotion_that_another_handle_made_is_recognised() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "old", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    let mut copy = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    copy.write(inserts(&schema, &[row![1, "new", 1]])).await.unwrap();
    land_copy(&mut copy, &schema, 2, false).await;

    let mut other = world.again("writer-2").await.open_table(&schema, Slot::Copy(2)).await.unwrap();
    let promoted = land_copy(&mut other, &schema, 3, true).await;
    assert_eq!(copy.last_commit().await.unwrap(), Some(promoted.clone()));
    let mut late = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    assert_eq!(late.last_commit().await.unwrap(), Some(promoted));
    late.write(inserts(&schema, &[row![2, "late", 1]])).await.unwrap();
    land_copy(&mut late, &schema, 4, false).await;
    world.read("t").assert(&[row![1, "new", 1], row![2, "late", 1]]);
    // Dropping it now must not take the table's files along.
    world.sink.drop_copy(&schema, 2).await.unwrap();
    world.read("t").assert(&[row![1, "new", 1], row![2, "late", 1]]);
    assert_eq!(copies(&world), [""; 0]);
}
