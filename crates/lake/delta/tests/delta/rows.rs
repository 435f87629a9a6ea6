//! Rows in, rows out: appends, upserts, deletes, truncates, keyless tables, missing cells, every type.
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, types::Int32Type,
};
use arrow_schema::DataType;
use lakeward_core::{AbsentCells, AbsentColumn, ChangeBatch, Op, Slot};
use serde_json::json;

use crate::support::{Cell, World, changes, inserts, land, people, row, schema, updates};

#[tokio::test]
async fn appends_upserts_and_deletes_read_back() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table
        .write(inserts(&schema, &[row![1, "a", 1], row![2, "b", 2], row![3, "c", ()]]))
        .await
        .unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![1, "a", 1], row![2, "b", 2], row![3, "c", ()]]);

    let mixed = [
        (Op::Update, row![2, "bb", 20]),
        (Op::Delete, row![1, (), ()]),
        (Op::Insert, row![4, "d", 4]),
        (Op::Update, row![4, "dd", 5]),
        (Op::Insert, row![5, "e", 6]),
        (Op::Delete, row![5, (), ()]),
    ];
    table.write(changes(&schema, &mixed)).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![2, "bb", 20], row![3, "c", ()], row![4, "dd", 5]]);

    // A key change is a delete and an insert in one commit.
    table.write(updates(&schema, &[(row![3, "c", ()], row![30, "c", 7])])).await.unwrap();
    let mark = land(&mut table, &schema).await;
    assert_eq!(mark.epoch, 3);
    world.read("t").assert(&[row![2, "bb", 20], row![30, "c", 7], row![4, "dd", 5]]);
}

#[tokio::test]
async fn a_reopened_table_knows_its_keys_and_its_mark() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for epoch in 0..3 {
        table.write(inserts(&schema, &[row![epoch, "a", 1], row![100, "x", epoch]])).await.unwrap();
        land(&mut table, &schema).await;
    }
    let sink = world.again("writer-2").await;
    let mut table = sink.open_table(&schema, Slot::Visible).await.unwrap();
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 3);
    assert!(table.index_bytes() > 0);
    table
        .write(changes(&schema, &[(Op::Delete, row![100, (), ()]), (Op::Update, row![1, "b", 9])]))
        .await
        .unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![0, "a", 1], row![1, "b", 9], row![2, "a", 1]]);
}

#[tokio::test]
async fn truncate_removes_what_came_before_and_nothing_after() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1], row![2, "b", 2]])).await.unwrap();
    land(&mut table, &schema).await;
    table.write(inserts(&schema, &[row![3, "c", 3]])).await.unwrap();
    table.truncate(None).await.unwrap();
    table.write(inserts(&schema, &[row![2, "new", 2]])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![2, "new", 2]]);
    table.truncate(None).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[]);
}

#[tokio::test]
async fn an_epoch_without_rows_makes_an_empty_table_with_a_mark() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    assert_eq!(table.last_commit().await.unwrap(), None);
    assert_eq!(table.version(), None);
    land(&mut table, &schema).await;
    world.read("t").assert(&[]);
    assert!(table.version().is_some());
    let found = world.read("t");
    assert_eq!(found.schema[0], json!(["id", "long", 1]));
    assert_eq!(found.schema[2], json!(["n", "integer", 3]));
    let loading = world.execute(
        Some("t"),
        "result = DeltaTable(path).metadata().configuration['lakeward.loading']",
    );
    assert_eq!(loading, "false");
}

#[tokio::test]
async fn rows_without_a_key_are_counted() {
    let world = World::new().await;
    let schema = schema("t", &[(1, "a", DataType::Int64), (2, "b", DataType::Utf8)], &[]);
    let mut table = world.table(&schema).await;
    table
        .write(inserts(&schema, &[row![1, "x"], row![1, "x"], row![1, "x"], row![2, ()]]))
        .await
        .unwrap();
    land(&mut table, &schema).await;
    table.write(changes(&schema, &[(Op::Delete, row![1, "x"])])).await.unwrap();
    table.write(updates(&schema, &[(row![1, "x"], row![1, "y"])])).await.unwrap();
    land(&mut table, &schema).await;
    world.read("t").assert(&[row![1, "x"], row![1, "y"], row![2, ()]]);
}

#[tokio::test]
async fn missing_cells_are_completed_and_rows_without_a_base_are_named() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "long text", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    let missing = AbsentColumn { column: 1, missing: vec![true, true].into() };
    let batch = ChangeBatch {
        absent: Some(AbsentCells { columns: vec![missing] }),
        ..changes(&schema, &[(Op::Update, row![1, (), 2]), (Op::Update, row![9, (), 9])])
    };
    table.write(batch).await.unwrap();
    let staged = table.stage().await.unwrap();
    let unresolved = staged.unresolved.as_ref().unwrap();
    assert_eq!(unresolved.schema(), schema.arrow());
    assert_eq!(unresolved.column(0).as_ref(), &Int64Array::from(vec![9]));
    assert_eq!(unresolved.column(2).null_count(), 1);
    crate::support::land_staged(&mut table, &schema, staged).await;
    world.read("t").assert(&[row![1, "long text", 2]]);
}

#[tokio::test]
async fn every_type_reads_back_as_it_was_written() {
    let world = World::new().await;
    let utc = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into()));
    let list = DataType::new_list(DataType::Int32, true);
    let kinds = [
        ("k", DataType::Int32),
        ("small", DataType::Int16),
        ("big", DataType::Int64),
        ("real", DataType::Float32),
        ("double", DataType::Float64),
        ("flag", DataType::Boolean),
        ("exact", DataType::Decimal128(12, 2)),
        ("huge", DataType::Decimal128(38, 0)),
        ("words", DataType::Utf8),
        ("raw", DataType::Binary),
        ("day", DataType::Date32),
        ("clock", DataType::Time64(arrow_schema::TimeUnit::Microsecond)),
        ("local", DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None)),
        ("moment", utc),
        ("id", DataType::FixedSizeBinary(16)),
        ("list", list),
    ];
    let columns: Vec<(i32, &str, DataType)> = kinds
        .iter()
        .enumerate()
        .map(|(n, (name, kind))| (n as i32 + 1, *name, kind.clone()))
        .collect();
    let schema = schema("t", &columns, &[0]);
    let uuid: [u8; 16] = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8];
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1, 2])),
        Arc::new(Int16Array::from(vec![Some(-7), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None])),
        Arc::new(Float32Array::from(vec![Some(1.5), None])),
        Arc::new(Float64Array::from(vec![Some(-2.25), None])),
        Arc::new(BooleanArray::from(vec![Some(false), None])),
        Arc::new(
            Decimal128Array::from(vec![Some(-123), None]).with_precision_and_scale(12, 2).unwrap(),
        ),
        Arc::new(
            Decimal128Array::from(vec![Some(10i128.pow(38) - 1), None])
                .with_precision_and_scale(38, 0)
                .unwrap(),
        ),
        Arc::new(StringArray::from(vec![Some("grüße \u{1F600} and more than sixteen"), None])),
        Arc::new(BinaryArray::from(vec![Some([0u8, 255].as_slice()), None])),
        Arc::new(Date32Array::from(vec![Some(-1), None])),
        Arc::new(Time64MicrosecondArray::from(vec![Some(86_399_999_999), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None])),
        Arc::new(
            TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_001), None])
                .with_timezone("UTC"),
        ),
        Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                [Some(uuid), None].into_iter(),
                16,
            )
            .unwrap(),
        ),
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
        ])),
    ];
    let rows = RecordBatch::try_new(schema.arrow(), arrays).unwrap();
    let mut table = world.table(&schema).await;
    let batch = ChangeBatch {
        schema: Arc::clone(&schema),
        ops: vec![Op::Insert; 2],
        rows,
        before: None,
        absent: None,
        origin: None,
        runs: Vec::new(),
    };
    table.write(batch).await.unwrap();
    land(&mut table, &schema).await;
    let found = world.read("t");
    let first = json!([
        "1",
        "-7",
        "-9223372036854775808",
        "1.5",
        "-2.25",
        "false",
        "-1.23",
        "99999999999999999999999999999999999999",
        "grüße \u{1F600} and more than sixteen",
        "00ff",
        "1969-12-31",
        "23:59:59.999999",
        "1969-12-31T23:59:59.999999",
        "2023-11-14T22:13:20.000001Z",
        "12345678-9abc-def0-0102-030405060708",
        ["1", null]
    ]);
    assert_eq!(json!(found.rows[0]), first);
    assert!(found.rows[1][1..].iter().all(serde_json::Value::is_null), "{:?}", found.rows[1]);
    let kinds: Vec<&str> = found
        .schema
        .iter()
        .map(|field| field[1].as_str().or_else(|| field[1]["type"].as_str()).unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "integer",
            "short",
            "long",
            "float",
            "double",
            "boolean",
            "decimal(12,2)",
            "decimal(38,0)",
            "string",
            "binary",
            "date",
            "string",
            "timestamp_ntz",
            "timestamp",
            "string",
            "array"
        ]
    );
}

#[tokio::test]
async fn names_that_are_no_paths_make_tables_all_the_same() {
    let world = World::new().await;
    for name in ["Order Items", "semi;colon", "été", "..", "a'b"] {
        let schema = people(name);
        let mut table = world.table(&schema).await;
        table.write(inserts(&schema, &[row![1, name, 1]])).await.unwrap();
        land(&mut table, &schema).await;
        world.read(name).assert(&[vec![Cell::Int(1), Cell::from(name), Cell::Int(1)]]);
    }
}

#[tokio::test]
async fn a_data_file_never_has_more_than_one_vector_and_a_commit_one_file_of_them() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for epoch in 0..3i64 {
        let rows: Vec<_> = (0..5i64).map(|n| row![epoch * 5 + n, "a", n]).collect();
        table.write(inserts(&schema, &rows)).await.unwrap();
        land(&mut table, &schema).await;
    }
    for n in 0..4i64 {
        let gone: Vec<_> = (0..3i64).map(|e| (Op::Delete, row![e * 5 + n, (), ()])).collect();
        table.write(changes(&schema, &gone)).await.unwrap();
        land(&mut table, &schema).await;
        let vectors = world.files("public/t").iter().filter(|f| f.ends_with(".bin")).count();
        assert_eq!(vectors as i64, n + 1);
    }
    world.read("t").assert(&[row![4, "a", 4], row![9, "a", 4], row![14, "a", 4]]);
    let commit = world.log("t").pop().unwrap();
    let adds: Vec<_> = commit.iter().filter(|action| !action["add"].is_null()).collect();
    let stats: serde_json::Value =
        serde_json::from_str(adds[0]["add"]["stats"].as_str().unwrap()).unwrap();
    assert_eq!((adds.len(), &stats["numRecords"]), (3, &json!(5)));
    assert_eq!(stats["tightBounds"], false);
    assert_eq!(adds[0]["add"]["deletionVector"]["cardinality"], 4);
}

#[tokio::test]
async fn a_commit_names_its_epoch_to_everybody() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    table.write(inserts(&schema, &[row![1, "a", 1]])).await.unwrap();
    land(&mut table, &schema).await;
    let code = "result = [DeltaTable(path).transaction_version('shop/lake'), DeltaTable(path).metadata().name]";
    assert_eq!(world.execute(Some("t"), code), json!([1, "public.t"]));
    let commit = world.log("t").remove(0);
    let keys: Vec<&String> = commit.iter().flat_map(|a| a.as_object().unwrap().keys()).collect();
    assert_eq!(keys, ["commitInfo", "protocol", "metaData", "txn", "domainMetadata", "add"]);
    let mark = commit[4]["domainMetadata"]["configuration"].as_str().unwrap();
    let mark: lakeward_core::CommitMark = serde_json::from_str(mark).unwrap();
    assert_eq!(mark.epoch, 1);
}

#[tokio::test]
async fn many_commits_are_read_from_a_checkpoint() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    for n in 0..25i64 {
        table.write(inserts(&schema, &[row![n, "a", n], row![1000, "hot", n]])).await.unwrap();
        land(&mut table, &schema).await;
    }
    crate::support::wait_for(&world, "public/t/_delta_log/00000000000000000020.checkpoint.parquet")
        .await;
    // Without the older commits only the checkpoint tells what there is.
    for version in 0..20 {
        let path = format!("public/t/_delta_log/{version:020}.json");
        std::fs::remove_file(world.path().join(path)).unwrap();
    }
    let mut expected: Vec<_> = (0..25i64).map(|n| row![n, "a", n]).collect();
    expected.push(row![1000, "hot", 24]);
    world.read("t").assert(&expected);
    let mut table = world.again("writer-2").await.open_table(&schema, Slot::Visible).await.unwrap();
    assert_eq!(table.last_commit().await.unwrap().unwrap().epoch, 25);
    table.write(changes(&schema, &[(Op::Delete, row![1000, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    expected.pop();
    world.read("t").assert(&expected);
}

#[tokio::test]
async fn bounds_let_readers_skip_files_and_never_rows() {
    let world = World::new().await;
    let double = DataType::Float64;
    let at = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None);
    let schema =
        schema("t", &[(1, "id", DataType::Int64), (2, "x", double), (3, "seen", at)], &[0]);
    let mut table = world.table(&schema).await;
    for n in 0..4i64 {
        let xs = [n as f64, if n == 2 { f64::NAN } else { n as f64 + 0.5 }];
        let times = [n * 1_000_000 + 1, n * 1_000_000 + 999_999];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![n * 2, n * 2 + 1])),
            Arc::new(Float64Array::from(xs.to_vec())),
            Arc::new(TimestampMicrosecondArray::from(times.to_vec())),
        ];
        let rows = RecordBatch::try_new(schema.arrow(), arrays).unwrap();
        let batch = ChangeBatch {
            schema: Arc::clone(&schema),
            ops: vec![Op::Insert; 2],
            rows,
            before: None,
            absent: None,
            origin: None,
            runs: Vec::new(),
        };
        table.write(batch).await.unwrap();
        land(&mut table, &schema).await;
    }
    let count = |filter: &str| {
        let code = r#"
import __main__
q = """select count(*) as n from t where FILTER"""
seen = __main__.QueryBuilder().register("t", DeltaTable(path)).execute(q).read_all()
theirs = __main__.DUCK.execute(q.replace("from t", f"from delta_scan('{path}')")).fetchall()
result = [pa.table(seen)["n"][0].as_py(), theirs[0][0]]
"#;
        world.execute(Some("t"), &code.replace("FILTER", filter))
    };
    // NaN is greater than all numbers. DuckDB prunes by the bounds inside the Parquet file, whoever wrote it.
    assert_eq!(count("x > 3")[0], json!(2));
    assert_eq!(count("x = 1.5"), json!([1, 1]));
    assert_eq!(count("seen >= timestamp '1970-01-01 00:00:02.999999'"), json!([3, 3]));
    assert_eq!(count("id = 7"), json!([1, 1]));
}
