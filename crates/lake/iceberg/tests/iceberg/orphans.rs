//! Files that ended writers left go, and no file that somebody may still commit.
use std::sync::Arc;

use lakeward_core::{
    Admission, CommitMark, CommitOutcome, Op, SinkTable, Slot, TableSchema, UpkeepOutcome, admit,
};

use crate::support::{
    Row, World, changes, committed, inserts, land, mark, people, permit, policy, row, upkeep,
};

/// Commits what was written, as another process run.
async fn land_as(writer: &str, table: &mut Box<dyn SinkTable>, schema: &TableSchema) -> CommitMark {
    let staged = table.stage().await.unwrap();
    let last = table.last_commit().await.unwrap();
    let epoch = last.as_ref().map_or(1, |mark| mark.epoch + 1);
    let mark = CommitMark { writer: writer.into(), ..mark(schema, epoch, 1) };
    committed(table.commit(staged, permit(last.as_ref(), mark, false)).await)
}

fn rows(ids: std::ops::Range<i64>) -> Vec<Row> {
    ids.map(|id| row![id, "a", id]).collect()
}

/// A table of ten rows.
async fn table(world: &World, schema: &Arc<TableSchema>) -> Box<dyn SinkTable> {
    let mut table = world.table(schema).await;
    table.write(inserts(schema, &rows(0..10))).await.unwrap();
    land(&mut table, schema).await;
    table
}

async fn successor(world: &World, schema: &Arc<TableSchema>) -> Box<dyn SinkTable> {
    world.again("writer-2").await.open_table(schema, Slot::Visible).await.unwrap()
}

fn told(outcome: Option<UpkeepOutcome>) -> String {
    match outcome {
        Some(UpkeepOutcome::Done(told)) => told,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_dead_writer_staged_goes_when_its_successor_has_committed() {
    let world = World::new().await;
    let schema = people("t");
    let mut old = table(&world, &schema).await;
    old.write(inserts(&schema, &rows(10..20))).await.unwrap();
    old.write(changes(&schema, &[(Op::Delete, row![3, (), ()])])).await.unwrap();
    let staged = old.stage().await.unwrap();
    let foreign = [
        "public/t/data/00000-7-8c2f8ad1-9b0b-4c43-8123-7a8f0c6d7e11-00001.parquet",
        "public/t/metadata/8c2f8ad1-9b0b-4c43-8123-123456789012-m0.avro",
    ];
    for path in foreign {
        std::fs::write(world.path().join(path), b"being written").unwrap();
    }
    let left = world.files("public/t/data");

    // Before the successor's first commit anything may still come.
    let mut new = successor(&world, &schema).await;
    assert!(upkeep(&mut new, &policy()).await.is_none());
    assert_eq!(world.files("public/t/data"), left);

    new.write(inserts(&schema, &rows(10..15))).await.unwrap();
    land_as("writer-2", &mut new, &schema).await;
    let mut expected = left.clone();
    expected.retain(|file| !file.contains("writer-1-g1-e2"));
    assert_eq!(expected.len() + 2, left.len(), "{left:?}");
    let said = told(upkeep(&mut new, &policy()).await);
    assert_eq!(said, "deleted 2 files that ended writers left");

    let now = world.files("public/t/data");
    assert!(expected.iter().all(|file| now.contains(file)), "{now:?}");
    assert!(!now.iter().any(|file| file.contains("writer-1-g1-e2")), "{now:?}");
    assert!(foreign.iter().all(|path| world.path().join(path).exists()));
    assert!(upkeep(&mut new, &policy()).await.is_none());
    world.read("t").assert(&rows(0..15));
    drop(staged);
}

#[tokio::test]
async fn a_fenced_writers_late_commit_finds_the_epoch_taken() {
    let world = World::new().await;
    let schema = people("t");
    let mut old = table(&world, &schema).await;
    old.write(inserts(&schema, &rows(10..20))).await.unwrap();
    let staged = old.stage().await.unwrap();
    let last = old.last_commit().await.unwrap();
    let ours = mark(&schema, 2, 1);
    let late = permit(last.as_ref(), ours.clone(), false);

    let mut new = successor(&world, &schema).await;
    new.write(inserts(&schema, &rows(10..20))).await.unwrap();
    land_as("writer-2", &mut new, &schema).await;
    told(upkeep(&mut new, &policy()).await);

    let outcome = old.commit(staged, late).await;
    assert!(matches!(outcome, CommitOutcome::Conflict { .. }));
    let found = old.last_commit().await.unwrap();
    assert!(matches!(admit(found.as_ref(), ours, false), Admission::AlreadyThere(_)));
    world.read("t").assert(&rows(0..20));
}

#[tokio::test]
async fn a_fenced_writers_late_compaction_is_given_up() {
    let world = World::new().await;
    let schema = people("t");
    let mut old = table(&world, &schema).await;
    old.write(inserts(&schema, &rows(10..20))).await.unwrap();
    land(&mut old, &schema).await;
    let force = lakeward_core::UpkeepPolicy { force_compact: true, ..policy() };
    let done = old.upkeep(&force).await.unwrap().unwrap().run().await.unwrap();
    let compacted = |world: &World| {
        world.files("public/t/data").iter().filter(|file| file.contains("-c3-")).count()
    };
    assert_eq!(compacted(&world), 1);

    let mut new = successor(&world, &schema).await;
    new.write(inserts(&schema, &rows(20..30))).await.unwrap();
    land_as("writer-2", &mut new, &schema).await;
    told(upkeep(&mut new, &policy()).await);
    assert_eq!(compacted(&world), 0);

    let outcome = old.commit_upkeep(done).await.unwrap();
    assert!(matches!(outcome, UpkeepOutcome::Dropped(_)), "{outcome:?}");
    world.read("t").assert(&rows(0..30));
}

#[tokio::test]
async fn what_an_old_version_or_a_loading_copy_has_stays() {
    let world = World::new().await;
    let schema = people("t");
    let mut old = table(&world, &schema).await;
    let version = old.version().unwrap();
    let mut copy = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    copy.write(inserts(&schema, &rows(0..5))).await.unwrap();
    let first = CommitMark { epoch: 2, ..mark(&schema, 2, 2) };
    let staged = copy.stage().await.unwrap();
    let _ = committed(copy.commit(staged, permit(None, first, false)).await);
    copy.write(inserts(&schema, &rows(5..8))).await.unwrap();
    let half = copy.stage().await.unwrap();
    old.last_commit().await.unwrap();
    old.truncate(None).await.unwrap();
    old.write(inserts(&schema, &rows(50..60))).await.unwrap();
    land(&mut old, &schema).await;
    let before = world.files("public/t/data");

    let mut new = successor(&world, &schema).await;
    new.write(inserts(&schema, &rows(60..70))).await.unwrap();
    land_as("writer-2", &mut new, &schema).await;
    upkeep(&mut new, &policy()).await;

    let now = world.files("public/t/data");
    assert!(before.iter().all(|file| now.contains(file)), "{before:?} {now:?}");
    world.read_at("t", Some(&version.0)).assert(&rows(0..10));
    let last = copy.last_commit().await.unwrap();
    let mark = CommitMark { epoch: 3, ..mark(&schema, 3, 2) };
    let half = copy.rebase(half).await.unwrap();
    let _ = committed(copy.commit(half, permit(last.as_ref(), mark, true)).await);
    world.read("t").assert(&rows(0..8));
}
