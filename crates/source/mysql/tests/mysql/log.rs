//! What the log says of rows and transactions.
use lakeward_core::{SourceEvent, StartAt};
use lakeward_testkit::mariadb::Version::{self, V10_11, V11_8};

use crate::world::{World, lines};

const TABLE: &str = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n INT)";

async fn rows_come_change_and_go(version: Version) {
    let mut world = World::new(version, TABLE).await;
    world.run("INSERT INTO t VALUES (1,'a',10),(2,'b',NULL)").await;
    world.run("UPDATE t SET v='c' WHERE id=1").await;
    world.run("UPDATE t SET id=9 WHERE id=2").await;
    world.run("BEGIN; DELETE FROM t WHERE id=1; INSERT INTO t VALUES (3,'','5'); COMMIT").await;
    world.run("BEGIN; INSERT INTO t VALUES (4,'x',1); ROLLBACK").await;
    world.run("REPLACE INTO t VALUES (3,'r',6)").await;
    let expected = [
        "+ t 1|a|10",
        "+ t 2|b|NULL",
        "~ t 1|c|10",
        "~ t 9|b|NULL was 2",
        "- t 1|c|10",
        "+ t 3||5",
        "~ t 3|r|6",
    ];
    assert_eq!(world.lines().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_change_and_go_10_11() {
    rows_come_change_and_go(V10_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_change_and_go_11_8() {
    rows_come_change_and_go(V11_8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_tells_whole_rows() {
    let mut world = World::new(V10_11, "CREATE TABLE t (a INT, b VARCHAR(9))").await;
    world.run("INSERT INTO t VALUES (1,'x'),(1,'x'),(NULL,NULL)").await;
    world.run("UPDATE t SET b='y' LIMIT 1; DELETE FROM t WHERE a IS NULL").await;
    let expected = ["+ t 1|x", "+ t 1|x", "+ t NULL|NULL", "~ t 1|y was 1|x", "- t NULL|NULL"];
    assert_eq!(world.lines().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_that_a_minimal_image_leaves_out_are_absent() {
    let mut world = World::new(V10_11, TABLE).await;
    world.run("INSERT INTO t VALUES (1,'a',10)").await;
    world.run("SET SESSION binlog_row_image=MINIMAL").await;
    world.run("UPDATE t SET v='b'; UPDATE t SET id=2, n=NULL; DELETE FROM t").await;
    let expected = ["+ t 1|a|10", "~ t 1|b|?", "~ t 2|?|NULL was 1", "- t 2|NULL|NULL"];
    assert_eq!(world.lines().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_unchanged_blobs_takes_the_rest_from_before() {
    let mut world = World::new(V10_11, "CREATE TABLE t (id INT PRIMARY KEY, b TEXT, n INT)").await;
    world.run("SET SESSION binlog_row_image=NOBLOB; INSERT INTO t VALUES (1,'long',10)").await;
    world.run("UPDATE t SET n=11; UPDATE t SET b='longer'").await;
    assert_eq!(world.lines().await, ["+ t 1|long|10", "~ t 1|?|11", "~ t 1|longer|11"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_events_are_read() {
    let mut world = World::new(V10_11, TABLE).await;
    world.run("SET GLOBAL log_bin_compress_min_len=10; SET GLOBAL log_bin_compress=ON").await;
    let long = "x".repeat(20);
    let values: Vec<_> = (0..500).map(|id| format!("({id},'{long}',{id})")).collect();
    world.run(&format!("INSERT INTO t VALUES {}", values.join(","))).await;
    world.run("UPDATE t SET n=-7; DELETE FROM t WHERE id>=250").await;
    world
        .run("ALTER TABLE t ADD COLUMN a_column_with_a_long_name INT DEFAULT 5 /* and a comment */")
        .await;
    world.run("SET GLOBAL log_bin_compress=OFF; INSERT INTO t (id) VALUES (900)").await;
    let lines = world.lines().await;
    let expected: Vec<_> = (0..500).map(|id| format!("+ t {id}|{long}|{id}")).collect();
    assert!(lines[..500] == expected, "{:?}", &lines[..3]);
    assert!(
        lines[500..1000] == (0..500).map(|id| format!("~ t {id}|{long}|-7")).collect::<Vec<_>>(),
        "{:?}",
        &lines[500..503]
    );
    assert_eq!(lines.iter().filter(|line| line.starts_with('-')).count(), 250);
    assert_eq!(lines.last().unwrap(), "+ t 900|NULL|NULL|5");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_statement_may_change_several_tables() {
    let mut world = World::new(
        V10_11,
        "CREATE TABLE a (id INT PRIMARY KEY, v INT); CREATE TABLE b (id INT PRIMARY KEY, v INT);
         INSERT INTO a VALUES (1,1),(2,2); INSERT INTO b VALUES (1,1),(2,2)",
    )
    .await;
    world.run("UPDATE a JOIN b USING (id) SET a.v=5, b.v=6 WHERE id=1").await;
    world.run("DELETE a, b FROM a JOIN b USING (id) WHERE id=2").await;
    let mut lines = world.lines().await;
    lines.sort();
    assert_eq!(lines, ["- a 2|2", "- b 2|2", "~ a 1|5", "~ b 1|6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_comes_in_pieces_and_ends_behind_them() {
    let mut world = World::new(V11_8, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200))").await;
    world.run("INSERT INTO t SELECT seq, REPEAT('x', 150) FROM seq_1_to_200000").await;
    let mut follow = world.follow().await;
    let (mut rows, mut batches, mut commits_within) = (0, 0, 0);
    for event in follow.events().await {
        match event {
            SourceEvent::Rows(batch) => {
                assert!(batch.memory_bytes() < 32 << 20, "{}", batch.memory_bytes());
                (rows, batches) = (rows + batch.len(), batches + 1);
            }
            SourceEvent::Commit { .. } if (1..200_000).contains(&rows) => commits_within += 1,
            _ => {}
        }
    }
    assert_eq!((rows, commits_within), (200_000, 0));
    assert!(batches > 3, "{batches}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_are_real_when_they_commit() {
    let mut world = World::new(V10_11, TABLE).await;
    let mut other = world.server.connect_to(&world.database).await.unwrap();
    let xa = |name: &str, id: i32, end: &str| {
        format!(
            "XA START '{name}','b',7; INSERT INTO t (id) VALUES ({id}); XA END '{name}','b',7; {end}"
        )
    };
    let name = world.database.clone();
    world.run(&xa(&name, 1, &format!("XA PREPARE '{name}','b',7"))).await;
    lakeward_testkit::mariadb::run(&mut other, "INSERT INTO t (id) VALUES (2)").await.unwrap();
    let mut follow = world.follow().await;
    assert_eq!(follow.lines().await, ["?+ t 1|NULL|NULL", "+ t 2|NULL|NULL"]);
    world.run(&format!("XA COMMIT '{name}','b',7")).await;
    let events = follow.events().await;
    assert!(matches!(events[..], [SourceEvent::Commit { .. }]), "{events:?}");
    world
        .run(&xa(&name, 3, &format!("XA PREPARE '{name}','b',7; XA ROLLBACK '{name}','b',7")))
        .await;
    assert_eq!(follow.lines().await, ["?+ t 3|NULL|NULL", "abort"]);
    world.run(&xa(&name, 4, &format!("XA COMMIT '{name}','b',7 ONE PHASE"))).await;
    assert_eq!(follow.lines().await, ["+ t 4|NULL|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_changed_by_text_are_named() {
    let mut world = World::new(V10_11, TABLE).await;
    world.run("SET SESSION binlog_format=STATEMENT; INSERT INTO t (id) VALUES (1)").await;
    world.run("SET SESSION binlog_format=ROW; INSERT INTO t (id) VALUES (2)").await;
    let lines = world.lines().await;
    assert!(
        lines[0].starts_with("diverged t: ") && lines[0].contains("binlog_format"),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["+ t 2|NULL|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_follows_moves_the_position_all_the_same() {
    let mut world = World::new(V10_11, TABLE).await;
    let mut follow = world.follow().await;
    world.server.execute("CREATE DATABASE IF NOT EXISTS elsewhere").await.unwrap();
    world
        .run("CREATE TABLE IF NOT EXISTS elsewhere.e (a INT); INSERT INTO elsewhere.e VALUES (1)")
        .await;
    assert_eq!(follow.lines().await, Vec::<String>::new());
    let through = follow.through.clone().unwrap();
    drop(follow);
    world.run("INSERT INTO t (id) VALUES (1)").await;
    let mut again = world.follow_from(StartAt::After(through)).await;
    assert_eq!(
        again.events().await.iter().flat_map(lines).collect::<Vec<_>>(),
        ["+ t 1|NULL|NULL"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rolled_back_to_a_savepoint_never_comes() {
    let mut world = World::new(V10_11, TABLE).await;
    world
        .run(
            "BEGIN; INSERT INTO t (id) VALUES (1); SAVEPOINT a; INSERT INTO t (id) VALUES (2);
             ROLLBACK TO a; INSERT INTO t (id) VALUES (3); COMMIT",
        )
        .await;
    assert_eq!(world.lines().await, ["+ t 1|NULL|NULL", "+ t 3|NULL|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_over_two_engines_that_is_rolled_back_leaves_nothing_false() {
    let mut world =
        World::new(V10_11, &format!("{TABLE}; CREATE TABLE m (id INT) ENGINE=MyISAM")).await;
    world
        .run(
            "BEGIN; INSERT INTO t (id) VALUES (1); INSERT INTO m VALUES (1); ROLLBACK;
             INSERT INTO t (id) VALUES (2)",
        )
        .await;
    let lines = world.lines().await;
    let told = lines.iter().any(|line| line == "+ t 1|NULL|NULL");
    let named = lines.iter().any(|line| line.starts_with("diverged t"));
    assert!(!told || named, "{lines:?}");
    assert_eq!(lines.last().unwrap(), "+ t 2|NULL|NULL");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_the_server_computes_are_left_out() {
    for version in [V10_11, V11_8] {
        let mut world = World::new(
            version,
            "CREATE TABLE t (id INT PRIMARY KEY, s INT AS (id + 1) STORED, v INT AS (id * 2) VIRTUAL, n INT)",
        )
        .await;
        world.run("INSERT INTO t (id,n) VALUES (1,5); UPDATE t SET n=6; DELETE FROM t").await;
        assert_eq!(world.lines().await, ["+ t 1|5", "~ t 1|6", "- t 1|6"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_stored_compressed_are_read() {
    let mut world = World::new(
        V10_11,
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000) COMPRESSED, b TEXT COMPRESSED)",
    )
    .await;
    let (v, b) = ("ab".repeat(600), "c".repeat(5000));
    world.run(&format!("INSERT INTO t VALUES (1,'{v}','{b}'),(2,'x',''),(3,NULL,NULL)")).await;
    assert_eq!(
        world.lines().await,
        [format!("+ t 1|{v}|{b}"), "+ t 2|x|".into(), "+ t 3|NULL|NULL".into()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_table_that_a_prepared_transaction_brings_has_an_end_of_its_own() {
    let mut world = World::new(V10_11, TABLE).await;
    let name = world.database.clone();
    world
        .run(&format!(
            "ALTER TABLE t ADD COLUMN x INT;
             XA START '{name}'; INSERT INTO t (id,x) VALUES (1,2); XA END '{name}'; XA PREPARE '{name}'"
        ))
        .await;
    let mut within = false;
    for event in world.follow().await.events().await {
        match event {
            SourceEvent::Schema(_) => within = true,
            SourceEvent::Commit { .. } => within = false,
            SourceEvent::Idle { position } => assert!(!within, "idle at {position}"),
            _ => {}
        }
    }
    assert!(!within);
    world.run(&format!("XA ROLLBACK '{name}'")).await;
}
