//! Schema changes: each lands in one commit with its rows, and columns are followed by id whatever they are called.
use std::sync::Arc;

use arrow_array::Int32Array;
use arrow_schema::DataType;
use lakeward_core::{Evolution, Fill, Op, Slot, UpkeepOutcome, UpkeepPolicy};
use serde_json::json;

use crate::support::{World, change, changes, inserts, land, people, row, schema};

const INT: DataType = DataType::Int32;
const LONG: DataType = DataType::Int64;
const TEXT: DataType = DataType::Utf8;

#[tokio::test]
async fn add_drop_rename_swap_and_widen_keep_every_value_in_its_column() {
    let world = World::new().await;
    let v1 = schema("t", &[(1, "id", INT), (2, "a", TEXT), (3, "b", TEXT), (4, "n", INT)], &[0]);
    let mut table = world.table(&v1).await;
    table.write(inserts(&v1, &[row![1, "a1", "b1", 1], row![2, "a2", "b2", 2]])).await.unwrap();
    land(&mut table, &v1).await;

    // Names swapped, the number widened, the key widened, a column added.
    let v2 = schema(
        "t",
        &[(1, "id", LONG), (2, "b", TEXT), (3, "a", TEXT), (4, "n", LONG), (5, "c", TEXT)],
        &[0],
    );
    assert_eq!(table.evolve(&change(&v1, &v2, Fill::Null)).await.unwrap(), Evolution::Staged);
    assert_eq!(table.evolve(&change(&v1, &v2, Fill::Null)).await.unwrap(), Evolution::Unchanged);
    table
        .write(changes(&v2, &[(Op::Update, row![2, "a2", "b2", 5_000_000_000i64, "c2"])]))
        .await
        .unwrap();
    land(&mut table, &v2).await;
    let found = world.read("t");
    assert_eq!(found.columns, ["id", "b", "a", "n", "c"]);
    found.assert(&[row![1, "a1", "b1", 1, ()], row![2, "a2", "b2", 5_000_000_000i64, "c2"]]);

    // Dropped and added again under the same name: another column.
    let v3 = schema("t", &[(1, "id", LONG), (3, "a", TEXT), (4, "n", LONG), (6, "b", TEXT)], &[0]);
    assert_eq!(table.evolve(&change(&v2, &v3, Fill::Null)).await.unwrap(), Evolution::Staged);
    table.write(inserts(&v3, &[row![3, "b3", 3, "new"]])).await.unwrap();
    land(&mut table, &v3).await;
    let found = world.read("t");
    assert_eq!(found.columns, ["id", "a", "n", "b"]);
    found.assert(&[
        row![1, "b1", 1, ()],
        row![2, "b2", 5_000_000_000i64, ()],
        row![3, "b3", 3, "new"],
    ]);
}

#[tokio::test]
async fn an_epoch_holds_batches_of_several_versions() {
    let world = World::new().await;
    let v1 = people("t");
    let v2 = schema("t", &[(1, "id", LONG), (3, "number", LONG), (4, "extra", TEXT)], &[0]);
    let mut table = world.table(&v1).await;
    table.write(inserts(&v1, &[row![1, "a", 1], row![2, "b", 2]])).await.unwrap();
    table.evolve(&change(&v1, &v2, Fill::Null)).await.unwrap();
    table
        .write(changes(&v2, &[(Op::Update, row![1, 10, "x"]), (Op::Insert, row![3, 3, "y"])]))
        .await
        .unwrap();
    // An older batch that comes late is fitted by column id.
    table.write(changes(&v1, &[(Op::Insert, row![4, "gone", 4])])).await.unwrap();
    land(&mut table, &v2).await;
    let expected = [row![1, 10, "x"], row![2, 2, ()], row![3, 3, "y"], row![4, 4, ()]];
    world.read("t").assert(&expected);

    let sink = world.again("writer-2").await;
    let mut table = sink.open_table(&v2, Slot::Visible).await.unwrap();
    table.write(changes(&v2, &[(Op::Delete, row![2, (), ()])])).await.unwrap();
    land(&mut table, &v2).await;
    world.read("t").assert(&[row![1, 10, "x"], row![3, 3, "y"], row![4, 4, ()]]);
}

#[tokio::test]
async fn a_column_that_comes_and_goes_within_an_epoch_never_comes_back() {
    let world = World::new().await;
    let columns = [(1, "id", LONG), (2, "name", TEXT)];
    let v1 = schema("t", &columns, &[0]);
    let with = |id| schema("t", &[&columns[..], &[(id, "extra", INT)]].concat(), &[0]);
    let mut table = world.table(&v1).await;
    table.write(inserts(&v1, &[row![0, "z"]])).await.unwrap();
    land(&mut table, &v1).await;
    table
        .write(changes(&v1, &[(Op::Delete, row![0, ()]), (Op::Insert, row![1, "a"])]))
        .await
        .unwrap();
    land(&mut table, &v1).await;

    let (v2, v3) = (with(3), with(4));
    table.evolve(&change(&v1, &v2, Fill::Null)).await.unwrap();
    table.write(inserts(&v2, &[row![2, "b", 41]])).await.unwrap();
    table.evolve(&change(&v2, &v1, Fill::Null)).await.unwrap();
    table.write(inserts(&v1, &[row![3, "c"]])).await.unwrap();
    let staged = table.stage().await.unwrap();
    // Another handle rewrites files meanwhile, so that this one reads the table anew.
    let sink = world.again("writer-2").await;
    let mut other = sink.open_table(&v1, Slot::Visible).await.unwrap();
    let rewritten = crate::support::upkeep(&mut other, &compacting()).await.unwrap();
    assert!(matches!(rewritten, UpkeepOutcome::Done(_)), "{rewritten:?}");
    let staged = table.rebase(staged).await.unwrap();
    crate::support::land_staged(&mut table, &v1, staged).await;
    world.read("t").assert(&[row![1, "a"], row![2, "b"], row![3, "c"]]);

    // Another column of the same name, given out by another handle.
    let sink = world.again("writer-3").await;
    let mut table = sink.open_table(&v1, Slot::Visible).await.unwrap();
    table.evolve(&change(&v1, &v3, Fill::Null)).await.unwrap();
    table.write(inserts(&v3, &[row![4, "d", 44]])).await.unwrap();
    land(&mut table, &v3).await;
    let expected = [row![1, "a", ()], row![2, "b", ()], row![3, "c", ()], row![4, "d", 44]];
    world.read("t").assert(&expected);
    crate::support::upkeep(&mut table, &compacting()).await;
    world.read("t").assert(&expected);
}

fn compacting() -> UpkeepPolicy {
    UpkeepPolicy { force_compact: true, ..crate::support::policy() }
}

#[tokio::test]
async fn a_schema_change_alone_is_invisible_until_its_commit() {
    let world = World::new().await;
    let (v1, v2) = (people("t"), schema("t", &[(1, "id", LONG), (2, "name", TEXT)], &[0]));
    let mut table = world.table(&v1).await;
    table.write(inserts(&v1, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &v1).await;
    table.evolve(&change(&v1, &v2, Fill::Null)).await.unwrap();
    let staged = table.stage().await.unwrap();
    assert_eq!(world.read("t").columns, ["id", "name", "n"]);
    crate::support::land_staged(&mut table, &v2, staged).await;
    world.read("t").assert(&[row![1, "a"]]);
}

#[tokio::test]
async fn values_for_old_rows_ask_for_a_reload_only_where_there_are_rows() {
    let world = World::new().await;
    let v1 = people("t");
    let v2 =
        schema("t", &[(1, "id", LONG), (2, "name", TEXT), (3, "n", INT), (4, "seven", INT)], &[0]);
    let seven = || Fill::Constant(Arc::new(Int32Array::from(vec![7])));
    let mut table = world.table(&v1).await;
    assert_eq!(table.evolve(&change(&v1, &v2, seven())).await.unwrap(), Evolution::Staged);
    table.write(inserts(&v2, &[row![1, "a", 1, 7]])).await.unwrap();
    land(&mut table, &v2).await;

    let v3 =
        schema("t", &[(1, "id", LONG), (2, "name", INT), (3, "n", INT), (4, "seven", INT)], &[0]);
    let reload = table.evolve(&change(&v2, &v3, Fill::Null)).await.unwrap();
    assert!(matches!(&reload, Evolution::NeedsReload(why) if why.contains("name")), "{reload:?}");
    land(&mut table, &v3).await;
    world.read("t").assert(&[row![1, (), 1, 7]]);

    let v4 = schema("t", &[(1, "id", LONG), (5, "eight", INT)], &[0]);
    table.truncate(None).await.unwrap();
    assert_eq!(table.evolve(&change(&v3, &v4, seven())).await.unwrap(), Evolution::Staged);
    land(&mut table, &v4).await;
    world.read("t").assert(&[]);
}

#[tokio::test]
async fn another_key_finds_old_rows_and_rows_of_the_same_epoch() {
    let world = World::new().await;
    let columns = [(1, "id", LONG), (2, "code", LONG), (3, "name", TEXT)];
    let (by_id, by_code) = (schema("t", &columns, &[0]), schema("t", &columns, &[1]));
    let mut table = world.table(&by_id).await;
    table
        .write(inserts(&by_id, &[row![1, 10, "a"], row![2, 20, "b"], row![3, 30, "c"]]))
        .await
        .unwrap();
    land(&mut table, &by_id).await;

    table
        .write(changes(&by_id, &[(Op::Update, row![1, 11, "aa"]), (Op::Insert, row![4, 40, "d"])]))
        .await
        .unwrap();
    assert_eq!(
        table.evolve(&change(&by_id, &by_code, Fill::Null)).await.unwrap(),
        Evolution::Staged
    );
    let mixed = [
        (Op::Delete, row![(), 20, ()]),
        (Op::Update, row![100, 11, "by code"]),
        (Op::Update, row![400, 40, "dd"]),
    ];
    table.write(changes(&by_code, &mixed)).await.unwrap();
    land(&mut table, &by_code).await;
    let expected = [row![100, 11, "by code"], row![3, 30, "c"], row![400, 40, "dd"]];
    world.read("t").assert(&expected);

    let identifiers = world.execute(
        Some("t"),
        "result = [table.schema().find_field(i).name for i in table.schema().identifier_field_ids]",
    );
    assert_eq!(identifiers, json!([]));
    table.write(changes(&by_code, &[(Op::Delete, row![(), 30, ()])])).await.unwrap();
    land(&mut table, &by_code).await;
    world.read("t").assert(&[row![100, 11, "by code"], row![400, 40, "dd"]]);
}

#[tokio::test]
async fn an_abandoned_change_of_the_key_leaves_the_table_usable() {
    let world = World::new().await;
    let columns = [(1, "id", LONG), (2, "code", LONG)];
    let (by_id, by_code) = (schema("t", &columns, &[0]), schema("t", &columns, &[1]));
    let mut table = world.table(&by_id).await;
    table.write(inserts(&by_id, &[row![1, 10], row![2, 20]])).await.unwrap();
    land(&mut table, &by_id).await;
    table.write(changes(&by_id, &[(Op::Delete, row![1, ()])])).await.unwrap();
    table.evolve(&change(&by_id, &by_code, Fill::Null)).await.unwrap();
    let staged = table.stage().await.unwrap();
    table.abandon(staged).await.unwrap();

    table.evolve(&change(&by_id, &by_code, Fill::Null)).await.unwrap();
    table.write(changes(&by_code, &[(Op::Update, row![9, 10])])).await.unwrap();
    land(&mut table, &by_code).await;
    world.read("t").assert(&[row![9, 10], row![2, 20]]);
    assert_eq!(world.files("public/t/data").len(), 3, "{:?}", world.files("public/t/data"));
}
