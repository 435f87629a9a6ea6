//! Deletion vectors: one file for a commit's, at most one vector for a data file; and tables that become version 3.
use lakeward_core::{Op, Slot};
use serde_json::{Value, json};

use crate::support::{Row, World, changes, inserts, land, open, people, policy, row, upkeep};

/// Live delete entries: file, format, referenced data file, place in the file, rows.
fn entries(world: &World) -> Vec<Vec<Value>> {
    let paths = "result = [m.manifest_path.removeprefix('file://') \
                 for m in table.current_snapshot().manifests(table.io) if m.content == 1]";
    let paths: Vec<String> = serde_json::from_value(world.execute(Some("t"), paths)).unwrap();
    let of = |path: &String| -> Vec<Vec<Value>> {
        let columns = "file_path, file_format, referenced_data_file, content_offset, content_size_in_bytes, record_count";
        let columns = columns.split(", ").map(|c| format!("data_file.{c}")).collect::<Vec<_>>();
        let columns = columns.join(", ");
        let query = format!("SELECT {columns} FROM read_avro('{path}') WHERE status < 2");
        serde_json::from_value(world.duckdb("t", &query)).unwrap()
    };
    paths.iter().flat_map(of).collect()
}

/// What another engine does that makes the table one of version 3 and changes nothing else.
const UPGRADE: &str = r#"
import gzip, json, sqlite3, uuid
old = table.metadata_location
folder = old.removeprefix("file://").rsplit("/", 1)[0]
metadata = json.loads(gzip.decompress(open(old.removeprefix("file://"), "rb").read()))
metadata |= {"format-version": 3, "next-row-id": 0}
path = f"{folder}/00001-{uuid.uuid4()}.metadata.json"
open(path, "w").write(json.dumps(metadata))
connection = sqlite3.connect(folder.rsplit("/", 3)[0] + "/catalog.db")
connection.execute("UPDATE iceberg_tables SET metadata_location = ?", ("file://" + path,))
connection.commit()
"#;

fn format_of(world: &World) -> Value {
    world.execute(Some("t"), "result = table.metadata.format_version")
}

#[tokio::test]
async fn a_commit_writes_one_file_and_replaces_the_vectors_of_the_files_it_touches() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    let rows = |from: i64| (from..from + 10).map(|n| row![n, "a", n]).collect::<Vec<_>>();
    for from in [0i64, 10, 20] {
        table.write(inserts(&schema, &rows(from))).await.unwrap();
        land(&mut table, &schema).await;
    }
    let gone =
        |ids: &[i64]| ids.iter().map(|id| (Op::Delete, row![*id, (), ()])).collect::<Vec<_>>();
    table.write(changes(&schema, &gone(&[1, 2, 11, 21]))).await.unwrap();
    land(&mut table, &schema).await;
    let first = entries(&world);
    assert_eq!(first.len(), 3, "{first:?}");
    assert!(first.iter().all(|e| e[0] == first[0][0] && e[1] == "PUFFIN"), "{first:?}");

    table.write(changes(&schema, &gone(&[3, 13]))).await.unwrap();
    land(&mut table, &schema).await;
    let second = entries(&world);
    let deleted = |rows: u64| second.iter().filter(|e| e[5] == rows).count();
    assert_eq!((second.len(), deleted(3), deleted(2), deleted(1)), (3, 1, 1, 1), "{second:?}");
    let kept = second.iter().filter(|e| e[0] == first[0][0]).collect::<Vec<_>>();
    assert_eq!(kept.len(), 1, "{second:?}");
    assert!(first.contains(kept[0]), "the untouched file keeps its vector: {second:?}");
    let files = world.files("public/t/data");
    assert_eq!(files.iter().filter(|f| f.ends_with(".puffin")).count(), 2, "{files:?}");
    let left = |n: &i64| ![1, 2, 3, 11, 13, 21].contains(n);
    let expected: Vec<Row> = (0..30i64).filter(left).map(|n| row![n, "a", n]).collect();
    world.read("t").assert(&expected);
    let totals = "s = table.current_snapshot().summary; \
                  result = [s['added-dvs'], s['removed-dvs'], s['total-delete-files'], s['total-position-deletes']]";
    assert_eq!(world.execute(Some("t"), totals), json!(["2", "2", "3", "6"]));

    // The vectors are what the next handle knows of deleted rows.
    let mut table = world.again("writer-2").await.open_table(&schema, Slot::Visible).await.unwrap();
    table.write(changes(&schema, &gone(&[4, 2]))).await.unwrap();
    land(&mut table, &schema).await;
    let expected: Vec<Row> = expected.into_iter().filter(|r| *r != row![4, "a", 4]).collect();
    world.read("t").assert(&expected);
    assert_eq!(entries(&world).iter().map(|e| e[5].as_u64().unwrap()).sum::<u64>(), 7);
}

#[tokio::test]
async fn a_table_of_version_2_becomes_one_of_version_3_with_its_next_commit() {
    let world = World::new().await;
    let schema = people("t");
    let old = open(world.folder.path(), "writer-1", json!({ "format_version": 2 })).await.unwrap();
    let mut table = old.open_table(&schema, Slot::Visible).await.unwrap();
    for from in [0i64, 10] {
        let rows: Vec<Row> = (from..from + 10).map(|n| row![n, "a", n]).collect();
        table.write(inserts(&schema, &rows)).await.unwrap();
        land(&mut table, &schema).await;
        table.write(changes(&schema, &[(Op::Delete, row![from, (), ()])])).await.unwrap();
        land(&mut table, &schema).await;
    }
    assert_eq!(format_of(&world), 2);

    let mut table = world.again("writer-1").await.open_table(&schema, Slot::Visible).await.unwrap();
    table
        .write(changes(&schema, &[(Op::Delete, row![1, (), ()]), (Op::Update, row![2, "b", 2])]))
        .await
        .unwrap();
    land(&mut table, &schema).await;
    assert_eq!(format_of(&world), 3);
    let mut formats: Vec<(String, u64)> = entries(&world)
        .iter()
        .map(|e| (e[1].as_str().unwrap().to_owned(), e[5].as_u64().unwrap()))
        .collect();
    formats.sort();
    assert_eq!(formats, [("PARQUET".to_owned(), 1), ("PUFFIN".to_owned(), 3)]);
    let mut expected: Vec<Row> = (3..20i64).filter(|n| *n != 10).map(|n| row![n, "a", n]).collect();
    expected.push(row![2, "b", 2]);
    world.read("t").assert(&expected);
    let ids = world.duckdb("t", "SELECT count(DISTINCT _row_id), count(*) FROM {table}");
    assert_eq!(ids, json!([[17, 17]]));

    let rules = lakeward_core::UpkeepPolicy { force_compact: true, ..policy() };
    upkeep(&mut table, &rules).await.unwrap();
    world.read("t").assert(&expected);
    assert!(entries(&world).is_empty());

    // A sink that asks for version 2 leaves it at 3.
    let mut table = open(world.folder.path(), "writer-3", json!({ "format_version": 2 }))
        .await
        .unwrap()
        .open_table(&schema, Slot::Visible)
        .await
        .unwrap();
    table.write(changes(&schema, &[(Op::Delete, row![3, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    assert_eq!((format_of(&world), entries(&world)[0][1].clone()), (json!(3), json!("PUFFIN")));
    world
        .read("t")
        .assert(&expected.into_iter().filter(|r| *r != row![3, "a", 3]).collect::<Vec<_>>());
}

#[tokio::test]
async fn work_staged_for_version_2_is_written_anew_when_another_writer_upgrades_the_table() {
    let world = World::new().await;
    let schema = people("t");
    let old = open(world.folder.path(), "writer-1", json!({ "format_version": 2 })).await.unwrap();
    let mut table = old.open_table(&schema, Slot::Visible).await.unwrap();
    let rows: Vec<Row> = (0..10i64).map(|n| row![n, "a", n]).collect();
    table.write(inserts(&schema, &rows)).await.unwrap();
    land(&mut table, &schema).await;
    table.write(changes(&schema, &[(Op::Delete, row![1, (), ()])])).await.unwrap();
    let staged = table.stage().await.unwrap();
    world.execute(Some("t"), UPGRADE);
    let last = table.last_commit().await.unwrap();
    let mark = crate::support::mark(&schema, 2, 1);
    let permit = crate::support::permit(last.as_ref(), mark.clone(), false);
    let staged = match table.commit(staged, permit).await {
        lakeward_core::CommitOutcome::Conflict { staged, .. } => staged,
        other => {
            crate::support::committed(other);
            panic!("committed as version 2");
        }
    };
    let staged = table.rebase(staged).await.unwrap();
    let permit = crate::support::permit(last.as_ref(), mark, false);
    crate::support::committed(table.commit(staged, permit).await);
    assert!(entries(&world).iter().all(|e| e[1] == "PUFFIN"), "{:?}", entries(&world));
    world.read("t").assert(&rows.into_iter().filter(|r| *r != row![1, "a", 1]).collect::<Vec<_>>());
}
