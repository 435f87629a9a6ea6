//! The key index on local disk: what a start reads, and what it must find out.
use std::fs;
use std::path::Path;
use std::sync::Arc;

use lakeward_core::{Env, Op, Sink, SinkKind, Slot};
use lakeward_iceberg::Iceberg;
use serde_json::json;

use crate::support::{World, changes, env, inserts, land, people, row};

/// Enough rows for the index to go to disk.
const ROWS: i64 = 70_000;

async fn sink(world: &World, state: &Path, writer: &str) -> Arc<dyn Sink> {
    let config = json!({ "warehouse": world.folder.path() });
    let env = Env { state_dir: state.to_owned(), ..env(writer) };
    Iceberg::open(serde_json::from_value(config).unwrap(), env).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_reads_no_data_file_that_the_index_covers() {
    let world = World::new().await;
    let state = tempfile::tempdir().unwrap();
    let schema = people("t");
    let one = sink(&world, state.path(), "one").await;
    let mut table = one.open_table(&schema, Slot::Visible).await.unwrap();
    let rows: Vec<_> = (0..ROWS).map(|id| row![id, "a", id]).collect();
    table.write(inserts(&schema, &rows)).await.unwrap();
    land(&mut table, &schema).await;
    // No new row: an index that knew no deletes would still be complete.
    table.write(changes(&schema, &[(Op::Delete, row![7, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    drop(table);

    let size = |file: &String| fs::metadata(world.folder.path().join(file)).unwrap().len();
    let parquet = world.files("").into_iter().filter(|file| file.ends_with(".parquet"));
    let data = world.folder.path().join(parquet.max_by_key(size).unwrap());
    let hidden = state.path().join("hidden");
    fs::rename(&data, &hidden).unwrap();
    let two = sink(&world, state.path(), "two").await;
    let mut table = two.open_table(&schema, Slot::Visible).await.unwrap();
    table
        .write(changes(&schema, &[(Op::Delete, row![8, (), ()]), (Op::Update, row![9, "b", 0])]))
        .await
        .unwrap();
    let staged = table.stage().await.unwrap();
    assert_eq!((staged.rows_deleted, staged.rows_added), (2, 1));
    table.abandon(staged).await.unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    let lost = sink(&world, elsewhere.path(), "three").await;
    assert!(lost.open_table(&schema, Slot::Visible).await.is_err(), "a lost index is read again");
    fs::rename(&hidden, &data).unwrap();
    let mut table = lost.open_table(&schema, Slot::Visible).await.unwrap();
    table.write(changes(&schema, &[(Op::Delete, row![8, (), ()])])).await.unwrap();
    assert_eq!(table.stage().await.unwrap().rows_deleted, 1);
}
