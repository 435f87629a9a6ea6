//! What other writers may do to a table, and what they may not.
use arrow_schema::DataType;
use lakeward_core::{ErrorKind, Op, Slot};

use crate::support::{
    World, change, changes, committed, inserts, land, mark, people, permit, row, schema,
};

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
    table.write(changes(&schema, &[(Op::Delete, row![2, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    let rows = "pa.table({'id': pa.array([7, 8], pa.int64()), 'name': ['p', 'q'], 'n': pa.array([7, 8], pa.int32())})";
    world.execute(Some("t"), &format!("writer.append({rows})"));
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 2);
    let mine = [(Op::Update, row![1, "aa", 1]), (Op::Delete, row![7, (), ()])];
    table.write(changes(&schema, &mine)).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![1, "aa", 1], row![3, "c", 3], row![8, "q", 8]]);
}

#[tokio::test]
async fn a_foreign_optimize_between_stage_and_commit_is_survived() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for n in 0..3i64 {
        table.write(inserts(&schema, &[row![n, "a", n], row![10 + n, "b", n]])).await.unwrap();
        land(&mut table, &schema).await;
    }
    let mine = [(Op::Update, row![1, "mine", 1]), (Op::Delete, row![12, (), ()])];
    table.write(changes(&schema, &mine)).await.unwrap();
    let staged = table.stage().await.unwrap();
    world.execute(Some("t"), "writer.optimize()");
    let last = table.last_commit().await.unwrap();
    let staged = table.rebase(staged).await.unwrap();
    committed(table.commit(staged, permit(last.as_ref(), mark(&schema, 4, 1), false)).await);
    let expected =
        [row![0, "a", 0], row![1, "mine", 1], row![2, "a", 2], row![10, "b", 0], row![11, "b", 1]];
    world.read("t").assert(&expected);
    // Its names are the columns' physical ones, and its files have no field ids.
    let mut table = world.again("writer-2").await.open_table(&schema, Slot::Visible).await.unwrap();
    table.write(changes(&schema, &[(Op::Delete, row![0, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&expected[1..]);
}

#[tokio::test]
async fn a_restore_by_someone_else_is_told_and_not_followed() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for n in 0..3 {
        table.write(inserts(&schema, &[row![n, "a", n]])).await.unwrap();
        land(&mut table, &schema).await;
    }
    world.execute(Some("t"), "writer.restore(0)");
    let error = table.last_commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(
        error.remedy().contains("resync") && error.remedy().contains("version 2"),
        "{}",
        error.remedy()
    );
    let again = world.again("writer-2").await;
    let mut late = again.open_table(&schema, Slot::Visible).await.unwrap();
    assert_eq!(late.last_commit().await.unwrap_err().kind(), ErrorKind::Corrupt);

    // Set forward again, all is well.
    world.execute(Some("t"), "writer.restore(2)");
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 3);
    table.write(inserts(&schema, &[row![9, "b", 9]])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![0, "a", 0], row![1, "a", 1], row![2, "a", 2], row![9, "b", 9]]);
}

#[tokio::test]
async fn properties_that_others_set_stay_and_features_that_we_lack_are_refused() {
    let world = World::new().await;
    let v1 = people("t");
    let mut table = world.table(&v1).await;
    table.write(inserts(&v1, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &v1).await;
    let set = r#"
meta = [a for a in writer.actions() if "metaData" in a][-1]
meta["metaData"]["configuration"]["their.property"] = "stays"
writer.commit("SET TBLPROPERTIES", [meta])
"#;
    world.execute(Some("t"), set);
    let v2 = schema("t", &[(1, "id", DataType::Int64), (2, "title", DataType::Utf8)], &[0]);
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 1);
    table.evolve(&change(&v1, &v2, lakeward_core::Fill::Null)).await.unwrap();
    land(&mut table, &v2).await;
    let found = "result = DeltaTable(path).metadata().configuration['their.property']";
    assert_eq!(world.execute(Some("t"), found), "stays");
    world.read("t").assert(&[row![1, "a"]]);

    let feature = r#"
protocol = [a for a in writer.actions() if "protocol" in a][-1]
protocol["protocol"]["writerFeatures"].append("changeDataFeed")
writer.commit("ADD FEATURE", [protocol])
"#;
    world.execute(Some("t"), feature);
    let error = table.last_commit().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("feature")),
        (ErrorKind::Unsupported, Some("changeDataFeed"))
    );
}

#[tokio::test]
async fn a_column_that_another_writer_dropped_is_told_and_a_copy_brings_it_back() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    let drop = r#"
meta = [a for a in writer.actions() if "metaData" in a][-1]
struct = json.loads(meta["metaData"]["schemaString"])
struct["fields"] = [f for f in struct["fields"] if f["name"] != "name"]
meta["metaData"]["schemaString"] = json.dumps(struct)
writer.commit("DROP COLUMNS", [meta])
"#;
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
