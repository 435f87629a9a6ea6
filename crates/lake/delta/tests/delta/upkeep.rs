//! Compaction and expiry: deleted rows stay deleted, kept versions stay readable, and a crash in between loses nothing.
use std::time::Duration;

use lakeward_core::{Op, SinkTable, Slot, TableVersion, UpkeepOutcome, UpkeepPolicy};

use crate::support::{Row, World, changes, inserts, land, people, policy, row, upkeep};

fn compact() -> UpkeepPolicy {
    UpkeepPolicy { force_compact: true, ..policy() }
}

fn expire(keep: &[&TableVersion]) -> UpkeepPolicy {
    UpkeepPolicy {
        force_expire: true,
        retain: Duration::ZERO,
        keep: keep.iter().map(|version| (*version).clone()).collect(),
        ..policy()
    }
}

/// Live files, and how many of them have a deletion vector.
fn plan_of(world: &World) -> serde_json::Value {
    let code = "live = writer.live().values(); result = [len(live), sum('deletionVector' in add for add in live)]";
    world.execute(Some("t"), code)
}

/// Three files of ten rows each, a row deleted in each.
async fn worn(world: &World) -> (Box<dyn SinkTable>, Vec<Row>) {
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for epoch in 0..3i64 {
        let rows: Vec<Row> = (0..10i64).map(|n| row![epoch * 10 + n, "a", n]).collect();
        table.write(inserts(&schema, &rows)).await.unwrap();
        table.write(changes(&schema, &[(Op::Delete, row![epoch * 5, (), ()])])).await.unwrap();
        land(&mut table, &schema).await;
    }
    table.write(changes(&schema, &[(Op::Delete, row![25, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    let gone = [0i64, 5, 10, 25];
    let left =
        (0..30i64).filter(|id| !gone.contains(id)).map(|id| row![id, "a", id % 10]).collect();
    (table, left)
}

#[tokio::test]
async fn compaction_changes_files_and_no_row() {
    let world = World::new().await;
    let schema = people("t");
    let (mut table, left) = worn(&world).await;
    world.read("t").assert(&left);
    let before = table.last_commit().await.unwrap();
    let outcome = upkeep(&mut table, &compact()).await.unwrap();
    assert!(
        matches!(&outcome, UpkeepOutcome::Done(told) if told.contains("26 rows")),
        "{outcome:?}"
    );
    world.read("t").assert(&left);
    assert_eq!(plan_of(&world), serde_json::json!([1, 0]));
    let commit = world.log("t").pop().unwrap();
    assert_eq!(commit[0]["commitInfo"]["operation"], "OPTIMIZE");
    let data_changes =
        commit[1..].iter().map(|a| &a.as_object().unwrap().values().next().unwrap()["dataChange"]);
    assert!(data_changes.into_iter().all(|change| change == false), "{commit:?}");
    assert_eq!(table.last_commit().await.unwrap(), before);
    assert!(upkeep(&mut table, &compact()).await.is_none());

    // The index followed, and so does one made anew.
    table
        .write(changes(&schema, &[(Op::Delete, row![1, (), ()]), (Op::Update, row![2, "b", 2])]))
        .await
        .unwrap();
    land(&mut table, &schema).await;
    let mut table = world.again("writer-2").await.open_table(&schema, Slot::Visible).await.unwrap();
    table.write(changes(&schema, &[(Op::Delete, row![3, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    let mut expected: Vec<Row> =
        left.into_iter().filter(|r| ![row![1, "a", 1], row![3, "a", 3]].contains(r)).collect();
    expected.iter_mut().filter(|r| **r == row![2, "a", 2]).for_each(|r| *r = row![2, "b", 2]);
    world.read("t").assert(&expected);
}

#[tokio::test]
async fn rows_deleted_while_compaction_ran_do_not_come_back() {
    let world = World::new().await;
    let schema = people("t");
    let (mut table, left) = worn(&world).await;
    let work = table.upkeep(&compact()).await.unwrap().unwrap();
    assert!(work.describe().contains("3 files"), "{}", work.describe());
    let done = work.run().await.unwrap();
    let late = [
        (Op::Delete, row![1, (), ()]),
        (Op::Update, row![29, "late", 9]),
        (Op::Insert, row![99, "new", 0]),
    ];
    table.write(changes(&schema, &late)).await.unwrap();
    land(&mut table, &schema).await;
    let outcome = table.commit_upkeep(done).await.unwrap();
    assert!(matches!(outcome, UpkeepOutcome::Done(_)), "{outcome:?}");
    let mut expected: Vec<Row> =
        left.into_iter().filter(|r| ![row![1, "a", 1], row![29, "a", 9]].contains(r)).collect();
    expected.extend([row![29, "late", 9], row![99, "new", 0]]);
    world.read("t").assert(&expected);

    table.write(changes(&schema, &[(Op::Delete, row![2, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    expected.retain(|r| *r != row![2, "a", 2]);
    world.read("t").assert(&expected);
}

#[tokio::test]
async fn compaction_of_files_that_another_writer_rewrote_is_dropped() {
    let world = World::new().await;
    let (mut table, left) = worn(&world).await;
    let done = table.upkeep(&compact()).await.unwrap().unwrap().run().await.unwrap();
    world.execute(Some("t"), "writer.optimize()");
    let outcome = table.commit_upkeep(done).await.unwrap();
    assert!(matches!(outcome, UpkeepOutcome::Dropped(_)), "{outcome:?}");
    world.read("t").assert(&left);
    assert!(!world.files("public/t/data").iter().any(|f| f.contains("-g1-c")));
}

#[tokio::test]
async fn expiry_keeps_named_versions_and_deletes_what_nobody_reaches() {
    let world = World::new().await;
    let schema = people("t");
    let (mut table, left) = worn(&world).await;
    let kept = table.version().unwrap();
    upkeep(&mut table, &compact()).await.unwrap();
    table.write(changes(&schema, &[(Op::Delete, row![1, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    let before = world.files("public/t").len();

    let outcome = upkeep(&mut table, &expire(&[&kept])).await.unwrap();
    assert!(
        matches!(&outcome, UpkeepOutcome::Done(told) if told.contains("expired 4 versions")),
        "{outcome:?}"
    );
    world.read_at("t", Some(&kept.0)).assert(&left);
    let now: Vec<Row> = left.into_iter().filter(|r| *r != row![1, "a", 1]).collect();
    world.read("t").assert(&now);
    assert!(world.files("public/t").len() <= before);

    // Without the kept version only what the current one reaches is left.
    upkeep(&mut table, &expire(&[])).await.unwrap();
    world.read("t").assert(&now);
    assert_eq!(world.files("public/t/data").len(), 1, "{:?}", world.files("public/t/data"));
    assert_eq!(orphans(&world), serde_json::json!([]));
    table.write(changes(&schema, &[(Op::Delete, row![2, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&now.into_iter().filter(|r| *r != row![2, "a", 2]).collect::<Vec<_>>());
}

#[tokio::test]
async fn expiry_between_kept_versions_leaves_each_of_them_whole() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    let mut versions = Vec::new();
    for n in 0..9i64 {
        table.write(inserts(&schema, &[row![n, "a", n]])).await.unwrap();
        table.write(changes(&schema, &[(Op::Delete, row![n - 2, (), ()])])).await.unwrap();
        land(&mut table, &schema).await;
        let rows: Vec<Row> = (0.max(n - 1)..=n).map(|id| row![id, "a", id]).collect();
        versions.push((table.version().unwrap(), rows));
        if n % 4 == 3 {
            upkeep(&mut table, &compact()).await.unwrap();
        }
    }
    let keep: Vec<&TableVersion> = [2, 3, 5, 6].iter().map(|n| &versions[*n].0).collect();
    upkeep(&mut table, &expire(&keep)).await.unwrap();
    for n in [2, 3, 5, 6, 8] {
        let (version, rows) = &versions[n];
        world.read_at("t", Some(&version.0)).assert(rows);
    }
    upkeep(&mut table, &expire(&[])).await.unwrap();
    world.read("t").assert(&versions[8].1);
    assert_eq!(orphans(&world), serde_json::json!([]));
}

/// Files in the table's folder, the log's apart, that the newest version does not name.
fn orphans(world: &World) -> serde_json::Value {
    world.execute(
        Some("t"),
        r#"
named = set(DeltaTable(path).file_uris())
named = {name.removeprefix("file://").removeprefix(path).lstrip("/") for name in named}
names = [str(f.relative_to(path)) for f in pathlib.Path(path).rglob("*") if f.is_file()]
vectors = sum("deletionVector" in add for add in writer.live().values())
data = [name for name in names if name.endswith(".parquet") and not name.startswith("_delta_log/") and name not in named]
result = sorted(data) + [name for name in sorted(names) if name.endswith(".bin")][vectors:]
"#,
    )
}

#[tokio::test]
async fn expiry_cleans_the_log_up_to_a_checkpoint_and_removes_what_dead_writers_left() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    let mut kept = None;
    for n in 0..36i64 {
        table.write(inserts(&schema, &[row![n, "a", n], row![1000, "hot", n]])).await.unwrap();
        land(&mut table, &schema).await;
        if n == 24 {
            kept = table.version();
        }
        if n % 10 == 0 && n > 0 {
            crate::support::wait_for(
                &world,
                &format!("public/t/_delta_log/{n:020}.checkpoint.parquet"),
            )
            .await;
        }
    }
    // Another process staged epoch 37 and died; this one has staged it too, and may still commit.
    let mut dead =
        world.again("dead-writer").await.open_table(&schema, Slot::Visible).await.unwrap();
    dead.write(changes(
        &schema,
        &[(Op::Insert, row![77, "dead", 0]), (Op::Delete, row![1, (), ()])],
    ))
    .await
    .unwrap();
    drop(dead.stage().await.unwrap());
    let foreign = world.path().join("public/t/part-of-somebody-else.parquet");
    std::fs::write(&foreign, b"not committed yet").unwrap();
    let kept = kept.unwrap();
    upkeep(&mut table, &expire(&[&kept])).await.unwrap();
    let log = world.files("public/t/_delta_log");
    assert!(log[0].contains("00000000000000000020"), "{log:?}");
    let dead_files = |world: &World| {
        let files = world.files("public/t");
        files.iter().filter(|f| f.contains("dead-writer") || f.contains("-0025-8")).count()
    };
    assert_eq!(dead_files(&world), 2, "{:?}", world.files("public/t"));
    let mut at_24: Vec<Row> = (0..25i64).map(|n| row![n, "a", n]).collect();
    at_24.push(row![1000, "hot", 24]);
    world.read_at("t", Some(&kept.0)).assert(&at_24);
    // A version that is gone already is no reason to take others for useless.
    upkeep(&mut table, &expire(&[&TableVersion("1".into()), &kept])).await;
    world.read_at("t", Some(&kept.0)).assert(&at_24);

    // The table has moved past epoch 37 by another hand: what the dead writer staged can never land.
    table.write(inserts(&schema, &[row![50, "b", 0]])).await.unwrap();
    land(&mut table, &schema).await;
    upkeep(&mut table, &expire(&[])).await.unwrap();
    assert_eq!(dead_files(&world), 0, "{:?}", world.files("public/t"));
    assert!(foreign.exists());
    std::fs::remove_file(foreign).unwrap();
    let mut now: Vec<Row> = (0..36i64).map(|n| row![n, "a", n]).collect();
    now.extend([row![1000, "hot", 35], row![50, "b", 0]]);
    world.read("t").assert(&now);
    let mut table = world.again("writer-3").await.open_table(&schema, Slot::Visible).await.unwrap();
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 37);
}

#[tokio::test]
async fn young_versions_and_unforced_upkeep_are_left_alone() {
    let world = World::new().await;
    let (mut table, _) = worn(&world).await;
    assert!(table.upkeep(&policy()).await.unwrap().is_none());
    let rules = UpkeepPolicy { force_expire: true, ..policy() };
    assert!(table.upkeep(&rules).await.unwrap().is_none());
}

#[tokio::test]
async fn compaction_is_given_up_when_another_writer_has_the_table() {
    let world = World::new().await;
    let schema = people("t");
    let (mut table, left) = worn(&world).await;
    let mut older = world.again("writer-0").await.open_table(&schema, Slot::Visible).await.unwrap();
    let done = older.upkeep(&compact()).await.unwrap().unwrap().run().await.unwrap();
    table.write(inserts(&schema, &[row![50, "b", 0]])).await.unwrap();
    land(&mut table, &schema).await;
    // The newer writer takes what the older one compacted for left over.
    upkeep(&mut table, &expire(&[])).await.unwrap();
    assert!(!world.files("public/t/data").iter().any(|f| f.contains("-g1-c")));
    let outcome = older.commit_upkeep(done).await.unwrap();
    assert!(matches!(outcome, UpkeepOutcome::Dropped(_)), "{outcome:?}");
    world.read("t").assert(&left.into_iter().chain([row![50, "b", 0]]).collect::<Vec<_>>());
}
