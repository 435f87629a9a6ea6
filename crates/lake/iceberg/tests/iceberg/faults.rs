//! What goes wrong: stale and racing committers, lost answers, locks, rollbacks, other people's tables, bad disks.
use std::time::Duration;

use lakeward_core::{CommitOutcome, ErrorKind, Op, Retry, SinkTable, Slot, Staged, TableSchema};
use serde_json::json;

use crate::support::{
    World, changes, committed, inserts, land, land_staged, mark, open, people, permit, row,
};

/// Commits as epoch `epoch`, believing that the table's last mark was that of `last`.
async fn try_land(
    table: &mut Box<dyn SinkTable>,
    schema: &TableSchema,
    epoch: u64,
    staged: Staged,
) -> CommitOutcome {
    let last = (epoch > 1).then(|| mark(schema, epoch - 1, 1));
    table.commit(staged, permit(last.as_ref(), mark(schema, epoch, 1), false)).await
}

fn unknown(outcome: CommitOutcome) -> Staged {
    match outcome {
        CommitOutcome::Unknown { staged, error } => {
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:?}");
            staged
        }
        _ => panic!("the answer was not lost"),
    }
}

fn lose_answers(world: &World, but: &str) {
    let catalog = world.catalog();
    let trigger = format!(
        "CREATE TRIGGER lost AFTER UPDATE ON iceberg_tables BEGIN SELECT RAISE({but}, 'the line broke'); END"
    );
    catalog.execute_batch(&trigger).unwrap();
}

fn heal(world: &World) {
    world.catalog().execute_batch("DROP TRIGGER lost").unwrap();
}

#[tokio::test]
async fn a_stale_committer_is_refused_and_rebases() {
    let world = World::new().await;
    let schema = people("t");
    let mut one = world.table(&schema).await;
    one.write(inserts(&schema, &[row![1, "a", 1], row![2, "b", 2]])).await.unwrap();
    land(&mut one, &schema).await;
    let mut two = world.again("writer-2").await.open_table(&schema, Slot::Visible).await.unwrap();

    two.write(changes(&schema, &[(Op::Update, row![1, "two", 2]), (Op::Insert, row![5, "e", 5])]))
        .await
        .unwrap();
    let staged = two.stage().await.unwrap();
    one.write(changes(&schema, &[(Op::Update, row![1, "one", 1]), (Op::Delete, row![2, (), ()])]))
        .await
        .unwrap();
    land(&mut one, &schema).await;
    let staged = match try_land(&mut two, &schema, 2, staged).await {
        CommitOutcome::Conflict { staged, .. } => staged,
        _ => panic!("a stale commit was not refused"),
    };
    world.read("t").assert(&[row![1, "one", 1]]);
    assert_eq!(two.last_commit().await.unwrap().unwrap().epoch, 2);
    let staged = two.rebase(staged).await.unwrap();
    land_staged(&mut two, &schema, staged).await;
    world.read("t").assert(&[row![1, "two", 2], row![5, "e", 5]]);
}

#[tokio::test]
async fn a_lost_answer_of_a_commit_that_stands_is_found_by_its_mark() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;

    table
        .write(changes(&schema, &[(Op::Update, row![1, "b", 2]), (Op::Insert, row![2, "c", 3])]))
        .await
        .unwrap();
    let staged = table.stage().await.unwrap();
    lose_answers(&world, "FAIL");
    let staged = unknown(try_land(&mut table, &schema, 2, staged).await);
    heal(&world);
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 2);
    // A retry without looking must collide, and giving the work up must not take its files away.
    let staged = match try_land(&mut table, &schema, 3, staged).await {
        CommitOutcome::Conflict { staged, .. } => staged,
        _ => panic!("the same work was committed twice"),
    };
    table.abandon(staged).await.unwrap();
    table.write(inserts(&schema, &[row![3, "d", 4]])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![1, "b", 2], row![2, "c", 3], row![3, "d", 4]]);
}

#[tokio::test]
async fn a_lost_answer_of_a_commit_that_does_not_stand_is_committed_again() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    table.write(changes(&schema, &[(Op::Update, row![1, "b", 2])])).await.unwrap();
    let staged = table.stage().await.unwrap();
    lose_answers(&world, "ABORT");
    let staged = unknown(try_land(&mut table, &schema, 2, staged).await);
    let metadata = |world: &World| world.files("public/t/metadata").len();
    let left = metadata(&world);
    heal(&world);
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 1);
    committed(try_land(&mut table, &schema, 2, staged).await);
    world.read("t").assert(&[row![1, "b", 2]]);
    assert_eq!(
        metadata(&world),
        left,
        "what the lost commit wrote goes when the head has moved on"
    );

    // Given up instead: its files go, but only when the head has moved past its parent.
    table.write(inserts(&schema, &[row![9, "never", 9]])).await.unwrap();
    let staged = table.stage().await.unwrap();
    lose_answers(&world, "ABORT");
    let staged = unknown(try_land(&mut table, &schema, 3, staged).await);
    heal(&world);
    let data = world.files("public/t/data").len();
    table.abandon(staged).await.unwrap();
    assert_eq!(world.files("public/t/data").len(), data);
    table.write(inserts(&schema, &[row![2, "c", 3]])).await.unwrap();
    land(&mut table, &schema).await;
    assert_eq!(world.files("public/t/data").len(), data);
    world.read("t").assert(&[row![1, "b", 2], row![2, "c", 3]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_racing_lose_no_row_and_double_none() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![0, "start", 0]])).await.unwrap();
    land(&mut table, &schema).await;
    let mut tasks = Vec::new();
    for writer in 0..2i64 {
        let sink = world.again(&format!("racer-{writer}")).await;
        let schema = schema.clone();
        tasks.push(tokio::spawn(async move {
            let mut conflicts = 0;
            let mut table = sink.open_table(&schema, Slot::Visible).await.unwrap();
            for n in 0..12i64 {
                let own = row![1000 * (writer + 1) + n, "own", n];
                table
                    .write(changes(
                        &schema,
                        &[(Op::Insert, own), (Op::Update, row![0, "shared", n])],
                    ))
                    .await
                    .unwrap();
                let mut staged = table.stage().await.unwrap();
                loop {
                    let last = table.last_commit().await.unwrap();
                    let epoch = last.as_ref().map_or(1, |m| m.epoch + 1);
                    match table
                        .commit(staged, permit(last.as_ref(), mark(&schema, epoch, 1), false))
                        .await
                    {
                        CommitOutcome::Committed(_) => break,
                        CommitOutcome::Conflict { staged: again, .. } => {
                            conflicts += 1;
                            staged = table.rebase(again).await.unwrap();
                        }
                        CommitOutcome::Unknown { error, .. }
                        | CommitOutcome::Failed { error, .. } => panic!("{error:?}"),
                    }
                }
            }
            conflicts
        }));
    }
    let mut conflicts = 0;
    for task in tasks {
        conflicts += task.await.unwrap();
    }
    eprintln!("{conflicts} conflicts");
    let found = world.read("t");
    assert_eq!(found.rows.len(), 25);
    assert_eq!(found.rows.iter().filter(|row| row[1] == "own").count(), 24);
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 25);
    let lost = world
        .files("public/t/metadata")
        .into_iter()
        .filter(|f| f.ends_with(".metadata.json"))
        .count();
    assert_eq!(lost, 21, "a lost swap takes its metadata file along");
}

#[tokio::test]
async fn a_locked_catalogue_is_unreachable_and_nothing_is_lost() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    table.write(inserts(&schema, &[row![2, "b", 2]])).await.unwrap();
    let staged = table.stage().await.unwrap();

    let holder = world.catalog();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let staged = match try_land(&mut table, &schema, 2, staged).await {
        CommitOutcome::Failed { staged, error } => {
            assert_eq!(
                (error.kind(), error.kind().retry()),
                (ErrorKind::Unreachable, Retry::Backoff),
                "{error:?}"
            );
            assert!(error.remedy().contains("catalog_timeout"), "{}", error.remedy());
            staged
        }
        _ => panic!("a locked catalogue took a commit"),
    };
    let report = world.sink.check().await.unwrap();
    assert!(report.findings[0].message.contains("catalog"), "{report:?}");
    holder.execute_batch("ROLLBACK").unwrap();
    assert!(world.sink.check().await.unwrap().findings.is_empty());
    committed(try_land(&mut table, &schema, 2, staged).await);
    world.read("t").assert(&[row![1, "a", 1], row![2, "b", 2]]);
}

#[tokio::test]
async fn tables_of_others_are_refused() {
    let world = World::new().await;
    let schema = people("t");
    world.execute(
        None,
        "catalog.create_namespace_if_not_exists('public')\ncatalog.create_table(('public', 't'), pa.schema([('id', pa.int64())]))",
    );
    let refused = world.sink.open_table(&schema, Slot::Visible).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert_eq!(refused.context("made_by"), Some("another program"));
    assert_eq!(world.sink.drop_table(&schema).await.unwrap_err().kind(), ErrorKind::Config);

    let schema = people("mine");
    let mut table = world.table(&schema).await;
    land(&mut table, &schema).await;
    let other = lakeward_core::Env { pipeline: "other".into(), ..crate::support::env("writer-9") };
    let config = serde_json::from_value(json!({ "warehouse": world.path() })).unwrap();
    let other =
        <lakeward_iceberg::Iceberg as lakeward_core::SinkKind>::open(config, other).await.unwrap();
    let refused = other.open_table(&schema, Slot::Visible).await.err().unwrap();
    assert_eq!(
        (refused.kind(), refused.context("made_by")),
        (ErrorKind::Config, Some("shop/lake"))
    );
}

#[tokio::test]
async fn a_dropped_table_is_noticed_and_can_be_made_anew_elsewhere() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    world.execute(None, "catalog.drop_table(('public', 't'))");
    let error = table.last_commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");

    // Its files are still there: the new table gets a folder of its own.
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![2, "b", 2]])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![2, "b", 2]]);
    let folders: std::collections::BTreeSet<String> =
        world.files("public").iter().map(|f| f.split('/').nth(1).unwrap().to_owned()).collect();
    assert_eq!(folders.len(), 2, "{folders:?}");

    for _ in 0..2 {
        world.sink.drop_table(&schema).await.unwrap();
    }
    assert!(!world.files("public").iter().any(|f| !f.starts_with("public/t/")));
}

#[tokio::test]
async fn a_warehouse_that_cannot_be_written_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"not a folder").unwrap();
    let error = open(&file.join("warehouse"), "writer-1", json!({})).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("warehouse"), "{error}");

    std::fs::create_dir(folder.path().join("lake")).unwrap();
    std::fs::write(
        folder.path().join("lake/catalog.db"),
        b"this is no database, whatever its name says",
    )
    .unwrap();
    let error = open(&folder.path().join("lake"), "writer-1", json!({})).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

#[tokio::test]
async fn damaged_metadata_is_named_and_never_a_panic() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    for end in [".parquet", "-m0.avro", "-list.avro", ".metadata.json"] {
        let file = world.files("public/t").into_iter().rfind(|f| f.ends_with(end)).unwrap();
        let content = std::fs::read(world.path().join(&file)).unwrap();
        for damaged in [Vec::new(), content[..content.len() / 2].to_vec(), vec![0; content.len()]] {
            std::fs::write(world.path().join(&file), damaged).unwrap();
            let sink = world.again("writer-2").await;
            let error = sink.open_table(&schema, Slot::Visible).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{end}: {error:?}");
        }
        std::fs::remove_file(world.path().join(&file)).unwrap();
        let error =
            world.again("writer-2").await.open_table(&schema, Slot::Visible).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{end}: {error:?}");
        std::fs::write(world.path().join(&file), content).unwrap();
    }
    tokio::time::timeout(Duration::from_secs(10), table.last_commit()).await.unwrap().unwrap();
}
