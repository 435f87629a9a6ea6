//! Tables that change while they are followed: read as it happens, and read late, when the catalogue is far ahead.
use std::sync::Arc;

use lakeward_core::{Divergence, Fill, TableSchema};
use lakeward_testkit::servers::Version;

use crate::follow::{Model, cell};
use crate::log::on_both;
use crate::world::World;

on_both! {
    a_name_swap_is_resolved_by_order,
    a_column_dropped_and_added_again_is_another_column,
    the_same_name_and_type_again_is_doubtful_and_said_so,
    new_columns_come_with_their_fill,
    a_volatile_default_diverges,
    a_rewrite_diverges_and_vacuum_full_does_not,
    a_rewrite_that_keeps_the_type_diverges,
    a_wider_varchar_is_only_a_schema_change,
    rows_from_before_what_is_known_get_the_newer_shape,
    ddl_in_an_open_transaction_comes_with_it,
    a_default_in_an_open_transaction_diverges_at_its_commit,
    renamed_and_swapped_tables,
    a_table_dropped_meanwhile_is_still_read,
    a_new_replica_identity_takes_over,
}

/// Reads everything late: the whole log with the catalogue of the end.
async fn late(world: &World, known: &[Arc<TableSchema>]) -> Model {
    let head = world.head().await;
    let mut model = Model::knowing(known);
    let mut stream = world.open(&world.beginning, known).await;
    model.follow(&mut stream, &head).await;
    model
}

/// Runs each part and follows it before the next: the catalogue is never ahead.
async fn live(world: &World, known: &[Arc<TableSchema>], parts: &[&str]) -> Model {
    let mut model = Model::knowing(known);
    let mut stream = world.open(&world.beginning, known).await;
    for part in parts {
        world.run(part).await;
        model.follow(&mut stream, &world.head().await).await;
    }
    model
}

async fn both_ways(version: Version, ddl: &str, parts: &[&str]) -> [(World, Model); 2] {
    let lively = World::new(version, ddl).await;
    let known = lively.tables(&["t"]).await;
    let one = live(&lively, &known, parts).await;
    let lazy = World::new(version, ddl).await;
    let known = lazy.tables(&["t"]).await;
    for part in parts {
        lazy.run(part).await;
    }
    let two = late(&lazy, &known).await;
    [(lively, one), (lazy, two)]
}

async fn agree(world: &World, model: &Model, table: &str) {
    assert_eq!(model.printed(table), world.rows(table).await, "{table}");
}

const TWO: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b int)";

async fn a_name_swap_is_resolved_by_order(version: Version) {
    let parts = [
        "INSERT INTO t VALUES (1, 10, 20), (2, 11, 21)",
        "BEGIN; ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b; COMMIT",
        "INSERT INTO t (id, a, b) VALUES (3, 1, 2); UPDATE t SET a = 99 WHERE id = 1",
    ];
    for (world, model) in both_ways(version, TWO, &parts).await {
        agree(&world, &model, "t").await;
        assert_eq!((model.schemas.len(), model.diverged.len()), (1, 0));
    }
}

async fn a_column_dropped_and_added_again_is_another_column(version: Version) {
    let parts = [
        "INSERT INTO t VALUES (1, 10, 20), (2, 11, 21)",
        "ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN a text",
        "INSERT INTO t (id, a, b) VALUES (3, 'x', 2)",
        "ALTER TABLE t DROP COLUMN b",
        "INSERT INTO t (id, a) VALUES (4, 'y'); DELETE FROM t WHERE id = 1",
    ];
    for (world, model) in both_ways(version, TWO, &parts).await {
        agree(&world, &model, "t").await;
        assert_eq!(model.diverged, vec![]);
    }
}

async fn the_same_name_and_type_again_is_doubtful_and_said_so(version: Version) {
    let parts = [
        "INSERT INTO t VALUES (1, 10, 20), (2, 11, 21)",
        "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b int",
        "INSERT INTO t (id, a, b) VALUES (3, 1, 2)",
    ];
    for (world, model) in both_ways(version, TWO, &parts).await {
        assert_eq!(model.diverged[0], ("t".to_owned(), Divergence::SchemaUnknown));
        // Loaded again, the table is known, and nothing is doubtful any more.
        let known = world.tables(&["t"]).await;
        let from = model.through.clone().unwrap();
        world.run("UPDATE t SET b = 5 WHERE id = 3").await;
        let mut again = Model::knowing(&known);
        again.through = Some(from.clone());
        again.deaf(&mut world.open(&from, &known).await, &world.head().await).await;
        assert_eq!((again.diverged.len(), again.schemas.len()), (0, 0));
    }
}

async fn new_columns_come_with_their_fill(version: Version) {
    let parts = [
        "INSERT INTO t VALUES (1, 10, 20), (2, 11, 21)",
        "ALTER TABLE t ADD COLUMN c int DEFAULT 7, ADD COLUMN d text, ADD COLUMN e numeric(8,2)[] DEFAULT '{1.5,NULL}'",
        "UPDATE t SET a = 0 WHERE id = 1; INSERT INTO t VALUES (3, 1, 2)",
        "ALTER TABLE t ADD COLUMN f timestamptz NOT NULL DEFAULT '2024-02-29 12:00:00+00', ALTER c DROP DEFAULT",
        "INSERT INTO t VALUES (4, 1, 2)",
    ];
    for (world, model) in both_ways(version, TWO, &parts).await {
        agree(&world, &model, "t").await;
        assert_eq!(model.diverged, vec![]);
        let Fill::Constant(seven) = &model.schemas[0].fill[3] else { panic!("no constant") };
        assert_eq!(cell(seven, 0).as_deref(), Some("7"));
    }
}

async fn a_volatile_default_diverges(version: Version) {
    let parts = [
        "INSERT INTO t VALUES (1, 10, 20)",
        "ALTER TABLE t ADD COLUMN r float8 DEFAULT random()",
        "INSERT INTO t VALUES (2, 1, 2)",
    ];
    for (_, model) in both_ways(version, TWO, &parts).await {
        assert_eq!(model.diverged[0], ("t".to_owned(), Divergence::Rewritten));
        assert!(matches!(model.schemas[0].fill[3], Fill::Unknown));
    }
}

async fn a_rewrite_diverges_and_vacuum_full_does_not(version: Version) {
    let world = World::new(version, TWO).await;
    let known = world.tables(&["t"]).await;
    world.run("INSERT INTO t VALUES (1, 10, 20)").await;
    world.run("VACUUM FULL t").await;
    world.run("INSERT INTO t VALUES (2, 1, 2); TRUNCATE t; INSERT INTO t VALUES (3, 1, 2)").await;
    let model = late(&world, &known).await;
    agree(&world, &model, "t").await;
    assert_eq!((model.schemas.len(), model.diverged.len()), (0, 0));
    world
        .run("ALTER TABLE t ALTER a TYPE bigint USING a * 2; INSERT INTO t VALUES (4, 5, 6)")
        .await;
    let model = late(&world, &known).await;
    assert_eq!(model.diverged[0], ("t".to_owned(), Divergence::Rewritten));
}

async fn a_rewrite_that_keeps_the_type_diverges(version: Version) {
    let world = World::new(version, TWO).await;
    let known = world.tables(&["t"]).await;
    let parts = [
        "INSERT INTO t VALUES (1, 10, 20)",
        "ALTER TABLE t ALTER a TYPE int USING a * 2",
        "INSERT INTO t VALUES (4, 5, 6)",
    ];
    let model = live(&world, &known, &[&parts[..], &["SELECT 1"]].concat()).await;
    assert_eq!(model.diverged[0], ("t".to_owned(), Divergence::Rewritten));
    // Said again once the log is surely past it: who loaded in between may have mixed both.
    assert_eq!(model.diverged.len(), 2);
    let mut model = Model::knowing(&known);
    let mut stream = world.open(&world.beginning, &known).await;
    model.follow(&mut stream, &world.head().await).await;
    model.follow(&mut stream, &world.head().await).await;
    assert_eq!(model.diverged.len(), 2);
}

async fn a_wider_varchar_is_only_a_schema_change(version: Version) {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v varchar(5), n numeric(8,2))";
    let parts = [
        "INSERT INTO t VALUES (1, 'abc', 1.50)",
        "ALTER TABLE t ALTER v TYPE varchar(50), ALTER n TYPE numeric(20,2)",
        "INSERT INTO t VALUES (2, 'abcdefghi', 123456789012.25)",
        "ALTER TABLE t ALTER v TYPE text",
        "INSERT INTO t VALUES (3, 'x', 1)",
    ];
    for (world, model) in both_ways(version, ddl, &parts).await {
        agree(&world, &model, "t").await;
        assert_eq!(model.diverged, vec![]);
    }
}

async fn rows_from_before_what_is_known_get_the_newer_shape(version: Version) {
    let world = World::new(version, TWO).await;
    world.run("INSERT INTO t VALUES (1, 10, 20), (2, 11, 21)").await;
    world.run("ALTER TABLE t ADD COLUMN c int DEFAULT 7, ADD COLUMN d text; ALTER TABLE t DROP COLUMN a").await;
    world.run("INSERT INTO t VALUES (3, 4, 5, 'd')").await;
    let known = world.tables(&["t"]).await;
    let model = late(&world, &known).await;
    agree(&world, &model, "t").await;
    assert_eq!((model.schemas.len(), model.diverged.len()), (0, 0));
}

async fn ddl_in_an_open_transaction_comes_with_it(version: Version) {
    let part = "BEGIN; INSERT INTO t SELECT i, i, i FROM generate_series(1, 3000) i;
         ALTER TABLE t ADD COLUMN c text; ALTER TABLE t RENAME b TO bb;
         INSERT INTO t SELECT i, i, i, 'c' FROM generate_series(3001, 6000) i; COMMIT";
    let parts = [part, "INSERT INTO t VALUES (0, 1, 2, 'after')"];
    for (world, model) in both_ways(version, TWO, &parts).await {
        assert!(model.held_rows > 5000);
        agree(&world, &model, "t").await;
        assert!(model.schemas.iter().any(|change| change.transaction.is_some()));
        assert_eq!(model.diverged, vec![]);
    }
}

async fn a_default_in_an_open_transaction_diverges_at_its_commit(version: Version) {
    let world = World::new(version, TWO).await;
    let known = world.tables(&["t"]).await;
    world.run("INSERT INTO t VALUES (-1, 1, 1)").await;
    let ddl = "BEGIN; INSERT INTO t SELECT i, i, i FROM generate_series(1, 3000) i;
         ALTER TABLE t ADD COLUMN c int DEFAULT 7;
         INSERT INTO t SELECT i, i, i, 1 FROM generate_series(3001, 6000) i;";
    let open = world.session().await;
    open.batch_execute(ddl).await.unwrap();
    let mut model = Model::knowing(&known);
    let mut stream = world.open(&world.beginning, &known).await;
    model.follow(&mut stream, &world.head().await).await;
    open.batch_execute("ROLLBACK").await.unwrap();
    model.follow(&mut stream, &world.head().await).await;
    assert_eq!(model.diverged, vec![], "what was rolled back never was");
    agree(&world, &model, "t").await;
    open.batch_execute(ddl).await.unwrap();
    model.follow(&mut stream, &world.head().await).await;
    open.batch_execute("COMMIT").await.unwrap();
    model.follow(&mut stream, &world.head().await).await;
    assert_eq!(model.diverged[0], ("t".to_owned(), Divergence::Rewritten));
}

async fn renamed_and_swapped_tables(version: Version) {
    let world = World::new(version, &format!("{TWO}; CREATE TABLE u (id int PRIMARY KEY)")).await;
    let known = world.tables(&["t", "u"]).await;
    world.run("INSERT INTO t VALUES (1, 2, 3); INSERT INTO u VALUES (1)").await;
    world.run("BEGIN; ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u; COMMIT").await;
    world.run("INSERT INTO t VALUES (2); INSERT INTO u VALUES (2, 3, 4)").await;
    let head = world.head().await;
    let mut model = Model::default();
    let mut stream = world.open(&world.beginning, &known).await;
    model.deaf(&mut stream, &head).await;
    assert_eq!(model.diverged, vec![]);
}

async fn a_table_dropped_meanwhile_is_still_read(version: Version) {
    let world = World::new(version, TWO).await;
    let known = world.tables(&["t"]).await;
    world.run("INSERT INTO t VALUES (1, 2, 3); DROP TABLE t").await;
    world
        .run("CREATE TABLE t (id int PRIMARY KEY, other text); INSERT INTO t VALUES (5, 'x')")
        .await;
    let head = world.head().await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::default();
    model.deaf(&mut stream, &head).await;
    let identities: Vec<_> = model.batches.iter().map(|b| b.schema.identity.clone()).collect();
    assert_eq!(model.diverged, vec![]);
    assert!(identities.is_empty(), "deaf models keep no rows");
    assert_eq!(model.closed.len(), 2);
}

async fn a_new_replica_identity_takes_over(version: Version) {
    let parts = [
        "INSERT INTO t VALUES (1, 10, 20), (2, 11, 21), (3, 12, 22)",
        "UPDATE t SET a = 1 WHERE id = 1",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "UPDATE t SET a = 2 WHERE id = 2; UPDATE t SET id = 30 WHERE id = 3; DELETE FROM t WHERE id = 1",
    ];
    for (world, model) in both_ways(version, TWO, &parts).await {
        agree(&world, &model, "t").await;
        assert_eq!(model.diverged, vec![]);
    }
}
