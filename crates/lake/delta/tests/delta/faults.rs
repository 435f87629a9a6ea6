//! What goes wrong: stale and racing committers, other people's tables, dropped tables, bad disks.
use std::time::Duration;

use lakeward_core::{CommitOutcome, ErrorKind, Op, SinkTable, Slot, Staged, TableSchema};
use serde_json::json;

use crate::support::{
    World, changes, inserts, land, land_staged, mark, open, people, permit, row, wait_for,
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
}

#[tokio::test]
async fn tables_of_others_are_refused() {
    let world = World::new().await;
    let schema = people("t");
    let create = "import deltalake; deltalake.write_deltalake(warehouse + '/public/t', pa.table({'id': [1]}))";
    world.execute(None, create);
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
        <lakeward_delta::Delta as lakeward_core::SinkKind>::open(config, other).await.unwrap();
    let refused = other.open_table(&schema, Slot::Visible).await.err().unwrap();
    assert_eq!(
        (refused.kind(), refused.context("made_by")),
        (ErrorKind::Config, Some("shop/lake"))
    );
}

#[tokio::test]
async fn a_dropped_table_is_noticed_and_can_be_made_anew() {
    let world = World::new().await;
    let schema = people("t");
    for made_again in [false, true] {
        let mut table = world.table(&schema).await;
        table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
        land(&mut table, &schema).await;
        std::fs::remove_dir_all(world.path().join("public/t")).unwrap();
        if made_again {
            let mut other = world.table(&schema).await;
            land(&mut other, &schema).await;
        }
        let error = table.last_commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        world.sink.drop_table(&schema).await.unwrap();
    }
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![2, "b", 2]])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![2, "b", 2]]);
    for _ in 0..2 {
        world.sink.drop_table(&schema).await.unwrap();
    }
    assert_eq!(world.files("public"), [""; 0]);
}

#[tokio::test]
async fn a_warehouse_that_cannot_be_written_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"not a folder").unwrap();
    let error = open(&file.join("warehouse"), "writer-1", json!({})).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("warehouse"), "{error}");

    // A file where the table's folder should be.
    let world = World::new().await;
    assert!(world.sink.check().await.unwrap().findings.is_empty());
    let schema = people("t");
    let mut table = world.table(&schema).await;
    std::fs::write(world.path().join("public"), b"in the way").unwrap();
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    let error = table.stage().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
}

#[tokio::test]
async fn damaged_metadata_is_named_and_never_a_panic() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1], row![2, "b", 2]])).await.unwrap();
    land(&mut table, &schema).await;
    for n in 0..10 {
        table.write(changes(&schema, &[(Op::Update, row![1, "b", n])])).await.unwrap();
        land(&mut table, &schema).await;
    }
    wait_for(&world, "public/t/_delta_log/_last_checkpoint").await;
    table.write(changes(&schema, &[(Op::Update, row![1, "b", 99])])).await.unwrap();
    land(&mut table, &schema).await;
    for end in [".bin", "10.checkpoint.parquet", "11.json", "-e1-00000-", "-e12-00000-"] {
        let file = world.files("public/t").into_iter().rfind(|f| f.contains(end)).unwrap();
        let content = std::fs::read(world.path().join(&file)).unwrap();
        for damaged in [Vec::new(), content[..content.len() / 2].to_vec(), vec![0; content.len()]] {
            std::fs::write(world.path().join(&file), damaged).unwrap();
            let sink = world.again("writer-2").await;
            let error = sink.open_table(&schema, Slot::Visible).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{end}: {error:?}");
        }
        if !end.contains("1") || end.contains('e') {
            std::fs::remove_file(world.path().join(&file)).unwrap();
            let again = world.again("writer-2").await;
            if let Err(error) = again.open_table(&schema, Slot::Visible).await {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{end}: {error:?}");
            }
        }
        std::fs::write(world.path().join(&file), content).unwrap();
    }
    // A hole in the log.
    std::fs::remove_file(
        world.path().join("public/t/_delta_log/00000000000000000010.checkpoint.parquet"),
    )
    .unwrap();
    std::fs::remove_file(world.path().join("public/t/_delta_log/00000000000000000005.json"))
        .unwrap();
    let error =
        world.again("writer-2").await.open_table(&schema, Slot::Visible).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.context("file").unwrap().ends_with("00000000000000000005.json"), "{error}");
    tokio::time::timeout(Duration::from_secs(10), table.last_commit()).await.unwrap().unwrap();
}
