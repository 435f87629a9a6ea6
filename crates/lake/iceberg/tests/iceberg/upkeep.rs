//! Compaction and expiry: deleted rows stay deleted, kept versions stay readable, and a crash in between loses nothing.
use std::time::Duration;

use lakeward_core::{Op, SinkTable, Slot, TableVersion, UpkeepOutcome, UpkeepPolicy};

use crate::support::{Row, World, changes, inserts, land, people, policy, row, upkeep};

pub(crate) fn compact() -> UpkeepPolicy {
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

fn plan_of(world: &World) -> serde_json::Value {
    world.execute(
        Some("t"),
        "tasks = list(table.scan().plan_files()); result = [len(tasks), sum(len(t.delete_files) for t in tasks)]",
    )
}

/// Three files of ten rows each, a row deleted in each.
pub(crate) async fn worn(world: &World) -> (Box<dyn SinkTable>, Vec<Row>) {
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
    let operation =
        world.execute(Some("t"), "result = table.current_snapshot().summary.operation.value");
    assert_eq!(operation, "replace");
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
        matches!(&outcome, UpkeepOutcome::Done(told) if told.contains("expired 4 snapshots")),
        "{outcome:?}"
    );
    world.read_at("t", Some(&kept.0)).assert(&left);
    let now: Vec<Row> = left.into_iter().filter(|r| *r != row![1, "a", 1]).collect();
    world.read("t").assert(&now);
    assert!(world.files("public/t").len() < before);
    assert!(upkeep(&mut table, &expire(&[&kept])).await.is_none());

    // Without the kept version only what the current one reaches is left.
    upkeep(&mut table, &expire(&[])).await.unwrap();
    world.read("t").assert(&now);
    assert_eq!(world.files("public/t/data").len(), 2, "{:?}", world.files("public/t/data"));
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
    assert_eq!(orphans(&world), serde_json::json!([]));
}

/// Files in the table's folder that its metadata does not reach.
fn orphans(world: &World) -> serde_json::Value {
    world.execute(
        Some("t"),
        r"
import pathlib
reached = {table.metadata_location} | {entry.metadata_file for entry in table.metadata.metadata_log}
for snapshot in table.metadata.snapshots:
    reached.add(snapshot.manifest_list)
    for manifest in snapshot.manifests(table.io):
        reached.add(manifest.manifest_path)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            reached.add(entry.data_file.file_path)
folder = pathlib.Path(table.location().removeprefix('file://'))
result = sorted(str(f.relative_to(folder)) for f in folder.rglob('*') if f.is_file() and 'file://' + str(f) not in reached)
",
    )
}

fn write_list(path: &std::path::Path, list: &serde_json::Value) {
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    serde_json::to_writer(&mut encoder, list).unwrap();
    encoder.finish().unwrap();
}

#[tokio::test]
async fn an_expiry_that_died_after_its_commit_is_finished_by_the_next_handle() {
    let world = World::new().await;
    let schema = people("t");
    let (mut table, left) = worn(&world).await;
    upkeep(&mut table, &compact()).await.unwrap();
    // What a crash between commit and deletion leaves: the commit stands, the files and their list are there.
    let spare = tempfile::tempdir().unwrap();
    let data = world.files("public/t/data");
    for file in &data {
        std::fs::copy(world.path().join(file), spare.path().join(file.rsplit('/').next().unwrap()))
            .unwrap();
    }
    upkeep(&mut table, &expire(&[])).await.unwrap();
    let gone: Vec<&String> = data.iter().filter(|f| !world.path().join(f).exists()).collect();
    assert!(gone.len() >= 5, "{gone:?}");
    for file in &gone {
        std::fs::copy(spare.path().join(file.rsplit('/').next().unwrap()), world.path().join(file))
            .unwrap();
    }
    let list = serde_json::json!({ "snapshots": [1, 2], "planned_on": 1, "files": gone });
    write_list(&world.path().join("public/t/metadata/writer-1-x.expired.json.gz"), &list);
    // One whose commit never came: its snapshot is still there, and so must its files be.
    let now = table.version().unwrap().0.parse::<i64>().unwrap();
    let alive = world.files("public/t/data").into_iter().find(|f| !gone.contains(&f)).unwrap();
    let list = serde_json::json!({ "snapshots": [now], "planned_on": 1, "files": [alive] });
    write_list(&world.path().join("public/t/metadata/writer-1-y.expired.json.gz"), &list);

    let mut table = world.again("writer-2").await.open_table(&schema, Slot::Visible).await.unwrap();
    assert!(table.upkeep(&policy()).await.unwrap().is_none());
    world.read("t").assert(&left);
    assert_eq!(orphans(&world), serde_json::json!([]));
}

#[tokio::test]
async fn young_versions_and_unforced_upkeep_are_left_alone() {
    let world = World::new().await;
    let (mut table, _) = worn(&world).await;
    let files = world.files("public/t");
    let looked = upkeep(&mut table, &policy()).await;
    assert!(
        matches!(looked, Some(UpkeepOutcome::Done(told)) if told.starts_with("deleted 0 files"))
    );
    assert_eq!(world.files("public/t"), files);
    assert!(table.upkeep(&policy()).await.unwrap().is_none());
    let rules = UpkeepPolicy { force_expire: true, ..policy() };
    assert!(table.upkeep(&rules).await.unwrap().is_none());
}

#[tokio::test]
async fn files_of_young_versions_that_are_thinned_out_stay_until_their_readers_are_done() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for n in 0..140i64 {
        table.write(changes(&schema, &[(Op::Update, row![1, "hot", n])])).await.unwrap();
        land(&mut table, &schema).await;
        upkeep(&mut table, &compact()).await;
    }
    let expiring = UpkeepPolicy { force_expire: true, ..policy() };
    let outcome = upkeep(&mut table, &expiring).await;
    assert!(
        matches!(&outcome, Some(UpkeepOutcome::Done(told)) if told.starts_with("expired")),
        "{outcome:?}"
    );
    let snapshots = world.execute(Some("t"), "result = len(table.metadata.snapshots)");
    assert!((100..120).contains(&snapshots.as_i64().unwrap()), "{snapshots}");
    // What is unreachable and still there are rows and deletes, and the list that names them.
    let left: Vec<String> = serde_json::from_value(orphans(&world)).unwrap();
    let (list, files): (Vec<&String>, Vec<&String>) =
        left.iter().partition(|f| f.ends_with(".expired.json.gz"));
    assert_eq!(list.len(), 1, "{left:?}");
    assert!(files.len() > 20 && files.iter().all(|f| f.starts_with("data/")), "{files:?}");

    // Their time has come.
    let path = world.path().join("public/t").join(list[0]);
    let noted = std::fs::read(&path).unwrap();
    let mut noted: serde_json::Value =
        serde_json::from_reader(flate2::bufread::GzDecoder::new(&noted[..])).unwrap();
    assert_eq!(noted["later"].as_array().unwrap().len(), files.len());
    noted["later_from_ms"] = 0.into();
    write_list(&path, &noted);
    let mut table = world.again("writer-1").await.open_table(&schema, Slot::Visible).await.unwrap();
    table.upkeep(&policy()).await.unwrap();
    assert_eq!(orphans(&world), serde_json::json!([]));
    world.read("t").assert(&[row![1, "hot", 139]]);
}
