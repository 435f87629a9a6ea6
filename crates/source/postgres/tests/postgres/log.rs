//! Rows, transactions, positions.
use std::time::Duration;

use lakeward_core::{Coverage, Op, Position, TransactionRef};
use lakeward_source_postgres::position::covers;
use lakeward_testkit::servers::Version;

use crate::follow::Model;
use crate::world::World;

macro_rules! on_both {
    ($($name:ident),* $(,)?) => { mod v15 { $(
        #[tokio::test]
        async fn $name() { super::$name(lakeward_testkit::servers::Version::V15).await }
    )* }
    mod v18 { $(
        #[tokio::test]
        async fn $name() { super::$name(lakeward_testkit::servers::Version::V18).await }
    )* } };
}
pub(crate) use on_both;

on_both! {
    closed_transactions_fold_into_few_batches,
    open_transactions_come_before_they_end,
    a_rolled_back_savepoint_takes_rows_ddl_and_truncate_with_it,
    a_key_change_carries_the_key_before,
    an_unchanged_toast_is_absent_not_null,
    replica_identities,
    truncate_of_two_tables,
    restart_at_every_boundary_brings_exactly_what_is_not_covered,
    an_idle_slot_moves_while_others_write,
}

const KEYED: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n int, s text)";

async fn closed_transactions_fold_into_few_batches(version: Version) {
    let world = World::new(version, KEYED).await;
    let known = world.tables(&["t"]).await;
    for id in 0..200 {
        world.run(&format!("INSERT INTO t VALUES ({id}, {id}, 'x')")).await;
    }
    world.run("UPDATE t SET n = n + 1 WHERE id < 100; DELETE FROM t WHERE id >= 150").await;
    let head = world.head().await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    model.follow(&mut stream, &head).await;
    assert_eq!(model.printed("t"), world.rows("t").await);
    assert_eq!(model.closed.len(), 201);
    assert!(model.commits.len() < 100, "{} commits", model.commits.len());
    assert_eq!(model.diverged, vec![]);
}

async fn open_transactions_come_before_they_end(version: Version) {
    let world = World::new(version, KEYED).await;
    let known = world.tables(&["t"]).await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    let (one, two) = (world.session().await, world.session().await);
    let insert = |from: i32| {
        format!(
            "INSERT INTO t SELECT i, i, repeat('x', 50) FROM generate_series({from}, {from} + 2999) i"
        )
    };
    one.batch_execute(&format!("BEGIN; {}", insert(0))).await.unwrap();
    two.batch_execute(&format!("BEGIN; {}", insert(10_000))).await.unwrap();
    world.run("INSERT INTO t VALUES (-1, 1, 'small')").await;
    model.follow(&mut stream, &world.head().await).await;
    assert!(model.held_rows > 1000, "{} rows came while open", model.held_rows);
    assert_eq!(model.printed("t").len(), 1);
    one.batch_execute(&insert(5000)).await.unwrap();
    two.batch_execute("ROLLBACK").await.unwrap();
    one.batch_execute("UPDATE t SET n = 0 WHERE id % 7 = 0; COMMIT").await.unwrap();
    model.follow(&mut stream, &world.head().await).await;
    assert_eq!(model.printed("t"), world.rows("t").await);
    assert_eq!(model.diverged, vec![]);
}

async fn a_rolled_back_savepoint_takes_rows_ddl_and_truncate_with_it(version: Version) {
    let world = World::new(version, &format!("{KEYED}; CREATE TABLE u (id int PRIMARY KEY)")).await;
    let known = world.tables(&["t", "u"]).await;
    world.run("INSERT INTO u SELECT generate_series(1, 10)").await;
    let rows = "SELECT i, i, repeat('y', 60) FROM generate_series";
    world
        .run(&format!(
            "BEGIN; INSERT INTO t {rows}(1, 2000) i;
             SAVEPOINT a; TRUNCATE u; ALTER TABLE t ADD COLUMN extra int DEFAULT 5;
             INSERT INTO t SELECT i, i, 'z', i FROM generate_series(3000, 6000) i;
             ROLLBACK TO a; INSERT INTO t {rows}(2001, 4000) i;
             SAVEPOINT b; INSERT INTO t {rows}(10001, 12000) i;
             SAVEPOINT c; INSERT INTO t {rows}(20001, 22000) i; RELEASE c;
             ROLLBACK TO b; DELETE FROM t WHERE id < 10; COMMIT"
        ))
        .await;
    world.run("INSERT INTO t VALUES (-5, 1, 'after'); INSERT INTO u VALUES (11)").await;
    let head = world.head().await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    model.follow(&mut stream, &head).await;
    assert!(model.held_rows > 3000);
    assert!(!model.aborts.is_empty(), "a part was rolled back while it was streamed");
    assert!(model.aborts.iter().all(|TransactionRef { part, .. }| part.is_some()));
    assert_eq!(model.printed("t"), world.rows("t").await);
    assert_eq!(model.printed("u"), world.rows("u").await);
    assert!(model.schemas.is_empty(), "the table never changed");
    assert_eq!(model.diverged, vec![]);
}

async fn a_key_change_carries_the_key_before(version: Version) {
    let world = World::new(version, KEYED).await;
    let known = world.tables(&["t"]).await;
    world.run("INSERT INTO t SELECT i, i, 'v' FROM generate_series(1, 9) i").await;
    world.run("UPDATE t SET id = id + 100 WHERE id % 2 = 0; UPDATE t SET n = 0 WHERE id = 1").await;
    world
        .run("BEGIN; UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 3; COMMIT")
        .await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    model.follow(&mut stream, &world.head().await).await;
    assert_eq!(model.printed("t"), world.rows("t").await);
    let before: usize =
        model.batches.iter().filter_map(|b| b.before.as_ref()).map(|b| b.at.len()).sum();
    assert_eq!(before, 6);
    assert!(model.batches.iter().filter_map(|b| b.before.as_ref()).all(|b| b.key_only));
}

async fn an_unchanged_toast_is_absent_not_null(version: Version) {
    let big = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 300))";
    let world = World::new(
        version,
        "CREATE TABLE t (id int PRIMARY KEY, big text, n int);
         CREATE TABLE f (id int PRIMARY KEY, big text, n int); ALTER TABLE f REPLICA IDENTITY FULL",
    )
    .await;
    let known = world.tables(&["t", "f"]).await;
    for table in ["t", "f"] {
        world
            .run(&format!("INSERT INTO {table} SELECT i, {big}, i FROM generate_series(1, 5) i"))
            .await;
        world.run(&format!("UPDATE {table} SET n = n + 1 WHERE id < 4")).await;
        world.run(&format!("UPDATE {table} SET id = id + 10 WHERE id = 2")).await;
        world.run(&format!("UPDATE {table} SET big = NULL WHERE id = 3")).await;
    }
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    model.follow(&mut stream, &world.head().await).await;
    assert_eq!(model.printed("t"), world.rows("t").await);
    assert_eq!(model.printed("f"), world.rows("f").await);
    let absent = |name: &str| -> usize {
        let of = model.batches.iter().filter(|b| b.schema.table.name == name);
        of.filter_map(|b| b.absent.as_ref())
            .flat_map(|a| &a.columns)
            .map(|c| c.missing.count_set_bits())
            .sum()
    };
    assert_eq!((absent("t"), absent("f")), (4, 0));
}

async fn replica_identities(version: Version) {
    let world = World::new(
        version,
        "CREATE TABLE i (a int NOT NULL, b text NOT NULL, c int); CREATE UNIQUE INDEX ib ON i (b, a);
         ALTER TABLE i REPLICA IDENTITY USING INDEX ib;
         CREATE TABLE f (id int, s text); ALTER TABLE f REPLICA IDENTITY FULL;
         CREATE TABLE p (a int, b int, c text, PRIMARY KEY (b, a))",
    )
    .await;
    let known = world.tables(&["i", "f", "p"]).await;
    assert_eq!(known[0].key, vec![1, 0]);
    assert!(known[1].key.is_empty());
    world.run("INSERT INTO i SELECT i, 'k' || i, i FROM generate_series(1, 6) i").await;
    world.run("UPDATE i SET c = 0 WHERE a = 1; UPDATE i SET b = 'new' WHERE a = 2; DELETE FROM i WHERE a = 3").await;
    world.run("INSERT INTO f VALUES (1, 'x'), (1, 'x'), (2, NULL), (NULL, NULL), (1, 'x')").await;
    world.run("UPDATE f SET s = 'y' WHERE ctid = (SELECT min(ctid) FROM f); DELETE FROM f WHERE id = 2").await;
    world.run("UPDATE f SET id = 7 WHERE id IS NULL").await;
    world.run("INSERT INTO p VALUES (1, 2, 'z'), (3, 4, 'y'); UPDATE p SET a = 9 WHERE a = 1; DELETE FROM p WHERE b = 4").await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    model.follow(&mut stream, &world.head().await).await;
    for table in ["i", "f", "p"] {
        assert_eq!(model.printed(table), world.rows(table).await, "{table}");
    }
    let keyless = model.batches.iter().filter(|b| b.schema.table.name == "f");
    for batch in keyless {
        let updates = batch.ops.iter().filter(|op| **op == Op::Update).count();
        assert_eq!(batch.before.as_ref().map_or(0, |b| b.at.len()), updates);
        assert!(batch.before.as_ref().is_none_or(|b| !b.key_only));
    }
}

async fn truncate_of_two_tables(version: Version) {
    let world = World::new(
        version,
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY REFERENCES a)",
    )
    .await;
    let known = world.tables(&["a", "b"]).await;
    world.run("INSERT INTO a SELECT generate_series(1, 5); INSERT INTO b SELECT * FROM a").await;
    world
        .run("BEGIN; INSERT INTO a VALUES (6); TRUNCATE a, b; INSERT INTO a VALUES (7); COMMIT")
        .await;
    world.run("INSERT INTO b VALUES (7)").await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    model.follow(&mut stream, &world.head().await).await;
    assert_eq!(model.printed("a"), vec![vec![Some("7".to_owned())]]);
    assert_eq!(model.printed("b"), vec![vec![Some("7".to_owned())]]);
}

async fn restart_at_every_boundary_brings_exactly_what_is_not_covered(version: Version) {
    let world = World::new(version, KEYED).await;
    let known = world.tables(&["t"]).await;
    let mut keepalives: Vec<Position> = Vec::new();
    let long = world.session().await;
    let rows = |from: i32| {
        format!(
            "INSERT INTO t SELECT i, i, repeat('x', 60) FROM generate_series({from}, {from} + 1500) i"
        )
    };
    for round in 0..8 {
        world.run(&format!("INSERT INTO t VALUES ({round}, 1, 'a')")).await;
        match round {
            2 => long.batch_execute(&format!("BEGIN; {}", rows(1000))).await.unwrap(),
            5 => long.batch_execute(&format!("{}; COMMIT", rows(5000))).await.unwrap(),
            _ => keepalives.push(world.head().await),
        }
        world.run(&format!("BEGIN; UPDATE t SET n = 7 WHERE id = {round}; DELETE FROM t WHERE id = {round} - 3; COMMIT")).await;
    }
    let head = world.head().await;
    let mut whole = Model::knowing(&known);
    whole.follow(&mut world.open(&world.beginning, &known).await, &head).await;
    let ends = |model: &Model| -> Vec<(u64, Position)> {
        let mut ends = model.closed.clone();
        let folded = |id: &u64| ends.iter().all(|(closed, _)| closed != id);
        let open: Vec<_> = model.commits.iter().filter(|(id, _)| folded(id)).cloned().collect();
        ends.extend(open);
        ends.sort_by_key(|(id, _)| *id);
        ends
    };
    let all = ends(&whole);
    assert_eq!(all.len(), 17);
    let boundaries =
        all.iter().map(|(_, end)| end.clone()).chain(keepalives).chain(whole.idles.clone());
    for boundary in boundaries.chain(whole.commits.iter().map(|(_, end)| end.clone())) {
        let expected: Vec<u64> = all
            .iter()
            .filter(|(_, end)| covers(&boundary, end) == Coverage::After)
            .map(|(id, _)| *id)
            .collect();
        let mut again = Model::default();
        again.through = Some(boundary.clone());
        let mut stream = world.open(&boundary, &known).await;
        if covers(&boundary, &head) != Coverage::Covered {
            again.deaf(&mut stream, &head).await;
        }
        let got: Vec<u64> = ends(&again).into_iter().map(|(id, _)| id).collect();
        assert_eq!(got, expected, "restart at {boundary}");
    }
}

async fn an_idle_slot_moves_while_others_write(version: Version) {
    let world = World::new(version, KEYED).await;
    let other = World::new(version, KEYED).await;
    let mut stream = world.open(&world.beginning, &[]).await;
    let mut model = Model::default();
    other.run("INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 2000) i").await;
    model.follow(&mut stream, &other.head().await).await;
    assert!(model.commits.is_empty() && !model.idles.is_empty());
    let position = model.through.clone().unwrap();
    let lsn = lakeward_source_postgres::position::resume_lsn(&position).unwrap();
    world.confirmed.store(lsn, std::sync::atomic::Ordering::Release);
    let slot = format!(
        "SELECT confirmed_flush_lsn >= '{}' FROM pg_replication_slots WHERE slot_name = '{}'",
        lakeward_source_postgres::position::print_lsn(lsn),
        world.database
    );
    for _ in 0..100 {
        let moved = world.server.text("postgres", &slot).await.unwrap();
        if moved.as_deref() == Some("t") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the slot did not move");
}
