//! Another writer of the same tables, PyIceberg: what it commits is taken in, what it takes back is told.
//!
//! It writes version 2 only; of version 3 the other writer is Spark, in the laws.
use lakeward_core::{ErrorKind, Op, Slot, UpkeepOutcome};

use crate::support::{Row, World, changes, committed, inserts, land, mark, people, permit, row};
use crate::upkeep::{compact, worn};

#[tokio::test]
async fn a_rollback_by_someone_else_is_told_and_not_followed() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for n in 0..2 {
        table.write(inserts(&schema, &[row![n, "a", n]])).await.unwrap();
        land(&mut table, &schema).await;
    }
    let first =
        "first = min(table.metadata.snapshots, key=lambda s: s.sequence_number).snapshot_id\n";
    // A branch on an old version is no rollback.
    let branch = "table.manage_snapshots().create_branch(first, 'old').commit()";
    world.execute(Some("t"), &format!("{first}{branch}"));
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 2);
    let back = "table.manage_snapshots().set_current_snapshot(snapshot_id=first).commit()";
    world.execute(Some("t"), &format!("{first}{back}"));
    let error = table.last_commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.remedy().contains("resync"), "{}", error.remedy());
    let again = world.again("writer-2").await;
    let mut table = match again.open_table(&schema, Slot::Visible).await {
        Ok(table) => table,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Corrupt),
    };
    assert_eq!(table.last_commit().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn commits_of_another_engine_on_top_are_taken_in() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table
        .write(inserts(&schema, &[row![1, "a", 1], row![2, "b", 2], row![3, "c", 3]]))
        .await
        .unwrap();
    land(&mut table, &schema).await;
    // PyIceberg rewrites the file without the row, and adds a file of its own.
    world.execute(Some("t"), "table.delete('id = 2')");
    let rows = "pa.table({'id': pa.array([7], pa.int64()), 'name': ['p'], 'n': pa.array([7], pa.int32())}, \
                schema=pa.schema([pa.field('id', pa.int64(), nullable=False), ('name', pa.string()), ('n', pa.int32())]))";
    world.execute(Some("t"), &format!("table.append({rows})"));
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 1);
    let mine = [
        (Op::Update, row![1, "aa", 1]),
        (Op::Delete, row![7, (), ()]),
        (Op::Delete, row![2, (), ()]),
    ];
    table.write(changes(&schema, &mine)).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![1, "aa", 1], row![3, "c", 3]]);
}

#[tokio::test]
async fn a_column_that_another_writer_dropped_is_told_and_a_copy_brings_it_back() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    let drop = "update = table.update_schema()\nupdate.delete_column('name')\nupdate.add_column('theirs', \
                __import__('pyiceberg.types').types.IntegerType())\nupdate.commit()";
    world.execute(Some("t"), drop);
    let error = table.last_commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    let mut copy = world.sink.open_table(&schema, Slot::Copy(2)).await.unwrap();
    copy.write(inserts(&schema, &[row![1, "again", 1]])).await.unwrap();
    let staged = copy.stage().await.unwrap();
    committed(copy.commit(staged, permit(None, mark(&schema, 2, 2), true)).await);
    let found = world.read("t");
    assert_eq!(found.columns, ["id", "name", "n"]);
    found.assert(&[row![1, "again", 1]]);
}

#[tokio::test]
async fn compaction_of_files_that_another_writer_rewrote_is_dropped() {
    let world = World::new().await;
    let (mut table, left) = worn(&world).await;
    let done = table.upkeep(&compact()).await.unwrap().unwrap().run().await.unwrap();
    world.execute(Some("t"), "table.delete('id = 1')");
    let outcome = table.commit_upkeep(done).await.unwrap();
    assert!(matches!(outcome, UpkeepOutcome::Dropped(_)), "{outcome:?}");
    let expected: Vec<Row> = left.into_iter().filter(|r| *r != row![1, "a", 1]).collect();
    world.read("t").assert(&expected);
    assert!(!world.files("public/t/data").iter().any(|f| f.contains("compacted")));
}
