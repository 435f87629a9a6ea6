//! Chunks: ranges that cover every key once, snapshots that say exactly what they saw.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakeward_core::{Chunk, Coverage, ErrorKind, KeyText, Position, SourceEvent, TableSchema};
use lakeward_testkit::mariadb::{MariaDb, Version, run, texts};

use crate::load;
use crate::world::{World, server};

async fn chunks_cover(world: &World, table: &TableSchema, rows_per_chunk: u64) -> usize {
    let source = world.source.as_ref();
    let chunks = source.split(table, rows_per_chunk).await.unwrap();
    let mut found = Vec::new();
    for chunk in &chunks {
        found.extend(load::rows(source, table, chunk).await);
    }
    let mut all = load::rows(source, table, &load::ALL).await;
    all.sort();
    found.sort();
    assert_eq!(found, all, "{}: the chunks are not the table", table.table);
    chunks.len()
}

/// Fifty keys of each kind, cut into ranges of seven.
async fn ranges_cover_every_key_once(version: Version) {
    let keys = [
        ("int", "n * 3 - 60"),
        ("bigint unsigned", "18446744073709551615 - CAST(n AS UNSIGNED) * 1000000007"),
        ("decimal(20,5)", "n * 1.00001 - 20"),
        ("float", "n / 10 - 2"),
        ("double", "n / 7 - 2"),
        (
            "varchar(20) collate utf8mb4_general_ci",
            "CONCAT(IF(n % 2, 'Key', 'key'), CHAR(64 + n % 26), n)",
        ),
        ("varchar(20) character set latin1", "CONCAT(CONVERT(X'E9' USING latin1), n)"),
        ("varchar(20) character set utf8mb3 collate utf8mb3_bin", "CONCAT('é', n)"),
        ("char(20)", "CONCAT('\\'', n, '\\\\')"),
        ("binary(4)", "UNHEX(LPAD(HEX(n * 5), 8, '0'))"),
        ("varbinary(9)", "UNHEX(CONCAT(LPAD(HEX(n), 2, '0'), IF(n % 3, '', '00')))"),
        ("date", "DATE'2024-01-01' + INTERVAL n * 17 DAY"),
        ("datetime(6)", "TIMESTAMP'2024-01-01 00:00:00' + INTERVAL n * 1234567 MICROSECOND"),
        ("timestamp(3)", "TIMESTAMP'2024-01-01 00:00:00' + INTERVAL n * 1234 SECOND"),
        ("time(3)", "SEC_TO_TIME(n * 0.5)"),
        ("year", "1950 + n"),
        ("uuid", "CONCAT(LPAD(HEX(n * 77), 8, '0'), '-1111-1111-8111-', LPAD(HEX(n), 12, '0'))"),
        ("inet6", "CONCAT('2001:db8::', HEX(n))"),
        ("inet4", "CONCAT('10.0.0.', n)"),
        ("bit(12)", "n * 3"),
        ("set('a','b','c','d','e','f')", "n"),
    ];
    let server = server(version).await;
    let mut ddl = String::new();
    for (at, (declared, key)) in keys.iter().enumerate() {
        ddl += &format!(
            "CREATE TABLE k{at} (k {declared} NOT NULL PRIMARY KEY, n int); \
             INSERT INTO k{at} SELECT {key}, n FROM (SELECT CAST(seq AS SIGNED) AS n FROM seq_1_to_50) s;"
        );
    }
    ddl += "CREATE TABLE e (k enum('z','y','x','w','v','u','t','s') NOT NULL PRIMARY KEY); \
            INSERT INTO e SELECT seq FROM seq_1_to_8; \
            CREATE TABLE two (a varchar(3) NOT NULL, b int NOT NULL, c int, PRIMARY KEY (b, a)); \
            INSERT INTO two SELECT seq % 5, seq % 9, seq FROM seq_1_to_45; \
            CREATE TABLE prefix (a varchar(30) NOT NULL, PRIMARY KEY (a(9))); \
            INSERT INTO prefix SELECT CONCAT(LPAD(seq, 9, '0'), 'tail') FROM seq_1_to_50; \
            CREATE TABLE uq (a int NOT NULL, b int, UNIQUE KEY (b), UNIQUE KEY (a)); \
            INSERT INTO uq SELECT seq * 9, seq FROM seq_1_to_50";
    let world = World::on(server, &ddl).await;
    assert_eq!(world.known.len(), keys.len() + 4);
    for table in &world.known {
        assert_eq!(
            table.key.len(),
            if table.table.name == "two" { 2 } else { 1 },
            "{}",
            table.table
        );
        let chunks = chunks_cover(&world, table, 7).await;
        let least = if table.table.name == "e" { 2 } else { 6 };
        assert!(chunks >= least, "{}: {chunks} chunks", table.table);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_cover_every_key_once_10_11() {
    ranges_cover_every_key_once(Version::V10_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_cover_every_key_once_11_8() {
    ranges_cover_every_key_once(Version::V11_8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_tables_and_tables_without_a_key_have_one_chunk() {
    let ddl = "CREATE TABLE empty (id int PRIMARY KEY); CREATE TABLE keyless (a int); \
               INSERT INTO keyless VALUES (1), (1), (NULL)";
    let world = World::new(Version::V10_11, ddl).await;
    let [empty, keyless] = &world.known[..] else { panic!("two tables") };
    assert_eq!(world.source.split(empty, 10).await.unwrap(), [load::ALL]);
    assert_eq!(world.source.split(keyless, 10).await.unwrap(), [Chunk::Whole]);
    let mut rows = load::rows(world.source.as_ref(), keyless, &Chunk::Whole).await;
    rows.sort();
    assert_eq!(rows, [["1"], ["1"], ["NULL"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_collation_takes_for_one_are_told_apart() {
    let ddl = "CREATE TABLE t (a varchar(9) COLLATE utf8mb4_general_ci PRIMARY KEY, n int); \
               INSERT INTO t VALUES ('ABC', 1), ('déf', 2), ('g ', 3)";
    let world = World::new(Version::V10_11, ddl).await;
    let table = &world.known[0];
    let keys = |keys: &[&str]| Chunk::Keys(keys.iter().map(|k| vec![(*k).to_owned()]).collect());
    let source = world.source.as_ref();
    assert!(load::rows(source, table, &keys(&["abc", "def", "g"])).await.is_empty());
    let mut found = load::rows(source, table, &keys(&["ABC", "déf", "g ", "none"])).await;
    found.sort();
    assert_eq!(found, [["ABC", "1"], ["déf", "2"], ["g ", "3"]]);
    assert!(load::rows(source, table, &keys(&[])).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_rows_find_those_rows_again() {
    let ddl = "CREATE TABLE t (d datetime(3), u uuid, f float, e enum('x','y'), b varbinary(4), n int, \
                 PRIMARY KEY (d, u, f, e, b)); \
               INSERT INTO t VALUES \
                 ('2024-01-01 00:00:00.125', '00112233-4455-4677-8899-aabbccddeeff', 0.1, 'y', X'00FF', 1), \
                 ('2024-01-01 00:00:00.125', '00112233-4455-4677-8899-aabbccddeeff', 0.1, 'x', X'00FF', 2)";
    let world = World::new(Version::V11_8, ddl).await;
    let table = &world.known[0];
    let source = world.source.as_ref();
    let mut reader = load::open(source, table, &load::ALL).await;
    for batch in load::read(reader.as_mut()).await {
        let keys: Vec<KeyText> = source.key_text(table, &batch).unwrap();
        for (row, key) in keys.into_iter().enumerate() {
            let found = load::rows(source, table, &Chunk::Keys(vec![key])).await;
            assert_eq!(found, [load::texts(&batch)[row].clone()]);
        }
    }
}

/// Sixteen sessions commit as fast as they can; each row says which transaction wrote it. Whatever the log calls covered
/// by a snapshot's exact position must be in the snapshot, and nothing else: also while others take snapshots and ask for
/// the server's status, which the server mixes up.
async fn snapshots_are_exact(version: Version) {
    let ddl = "CREATE TABLE t (w int, n int); CREATE TABLE other (id int PRIMARY KEY)";
    let world = World::new(version, ddl).await;
    let keyless = Arc::clone(world.known.iter().find(|t| t.key.is_empty()).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..16 {
        let mut sql = world.server.connect_to(&world.database).await.unwrap();
        let stop = Arc::clone(&stop);
        writers.push(tokio::spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                run(&mut sql, &format!("INSERT INTO t VALUES ({writer}, {n})")).await.unwrap();
            }
            n
        }));
    }
    let mut monitors = Vec::new();
    for _ in 0..3 {
        let mut sql = world.server.connect_to(&world.database).await.unwrap();
        let stop = Arc::clone(&stop);
        monitors.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                run(&mut sql, "SHOW GLOBAL STATUS").await.unwrap();
            }
        }));
    }
    let mut snapshots: Vec<(Position, BTreeSet<Vec<String>>)> = Vec::new();
    for _ in 0..15 {
        let taken = || exact_rows(&world, &keyless);
        snapshots.extend(<[_; 4]>::from(tokio::join!(taken(), taken(), taken(), taken())));
    }
    stop.store(true, Ordering::Relaxed);
    for monitor in monitors {
        monitor.await.unwrap();
    }
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let logged = logged_rows(&world).await;
    assert_eq!(logged.len(), written);
    for (exact, rows) in &snapshots {
        let covered = |at: &Position| world.source.covers(exact, at) == Coverage::Covered;
        let expected: BTreeSet<_> =
            logged.iter().filter(|(_, at)| covered(at)).map(|(row, _)| row.clone()).collect();
        let missing: Vec<_> = expected.difference(rows).take(5).collect();
        let unexpected: Vec<_> = rows.difference(&expected).take(5).collect();
        assert_eq!((missing, unexpected), (vec![], vec![]), "a snapshot is not where it says");
    }
    let sizes: BTreeSet<_> = snapshots.iter().map(|(_, rows)| rows.len()).collect();
    assert!(sizes.len() > 5, "the snapshots met few changes");
}

async fn exact_rows(
    world: &World,
    keyless: &Arc<TableSchema>,
) -> (Position, BTreeSet<Vec<String>>) {
    let mut reader = load::open(world.source.as_ref(), keyless, &Chunk::Whole).await;
    let exact = reader.exact().unwrap().clone();
    assert_eq!(*reader.saw_nothing_after(), exact);
    let rows = load::read(reader.as_mut()).await.iter().flat_map(load::texts).collect();
    (exact, rows)
}

async fn logged_rows(world: &World) -> BTreeMap<Vec<String>, Position> {
    let mut logged = BTreeMap::new();
    for event in world.follow().await.events().await {
        let SourceEvent::Rows(batch) = event else { continue };
        let mut rows = load::texts(&batch.rows).into_iter();
        for run in &batch.runs {
            let end = run.transaction.end.as_ref().unwrap();
            for row in rows.by_ref().take(run.rows as usize) {
                logged.insert(row, end.position.clone());
            }
        }
    }
    logged
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_exact_10_11() {
    snapshots_are_exact(Version::V10_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_exact_11_8() {
    snapshots_are_exact(Version::V11_8).await;
}

/// The race that loses rows: what the log has handed out must be in every snapshot that is opened afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_sees_everything_that_was_delivered() {
    let mut world =
        World::new(Version::V10_11, "CREATE TABLE t (w int, n int, PRIMARY KEY (w, n))").await;
    let mut follow = world.follow().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..8 {
        let mut sql = world.server.connect_to(&world.database).await.unwrap();
        let stop = Arc::clone(&stop);
        writers.push(tokio::spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                run(&mut sql, &format!("INSERT INTO t VALUES ({writer}, {n})")).await.unwrap();
            }
        }));
    }
    let table = Arc::clone(&world.known[0]);
    let mut delivered = BTreeSet::new();
    for _ in 0..30 {
        for _ in 0..5 {
            if let SourceEvent::Rows(batch) = follow.next().await.unwrap() {
                delivered.extend(load::texts(&batch.rows));
            }
        }
        let seen: BTreeSet<_> =
            load::rows(world.source.as_ref(), &table, &load::ALL).await.into_iter().collect();
        let missing: Vec<_> = delivered.difference(&seen).take(3).collect();
        assert!(missing.is_empty(), "delivered, and not in a later snapshot: {missing:?}");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    world.run("DROP TABLE t").await;
}

/// The same race, held open: a commit that waits for a replica stands in the log, and no snapshot sees it yet.
async fn a_commit_that_waits_for_a_replica_is_waited_for(version: Version) {
    let server = Arc::new(MariaDb::start(version).await.unwrap());
    let world = World::on(Arc::clone(&server), "CREATE TABLE t (id int PRIMARY KEY)").await;
    let table = Arc::clone(&world.known[0]);
    let mut follow = world.follow().await;
    server
        .execute(
            "SET GLOBAL rpl_semi_sync_master_timeout = 4000; \
             SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC; \
             SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON; \
             SET GLOBAL rpl_semi_sync_master_enabled = ON",
        )
        .await
        .unwrap();
    let mut sql = server.connect_to(&world.database).await.unwrap();
    let writer =
        tokio::spawn(async move { run(&mut sql, "INSERT INTO t VALUES (1)").await.unwrap() });
    while !matches!(follow.next().await.unwrap(), SourceEvent::Rows(_)) {}
    let seen = server.text(&world.database, "SELECT COUNT(*) FROM t").await.unwrap();
    assert_eq!(seen.as_deref(), Some("0"), "delivered, and not visible: the race is open");
    let rows = load::rows(world.source.as_ref(), &table, &load::ALL).await;
    assert_eq!(rows, [["1"]], "a chunk was read before it could see what was delivered");
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_for_a_replica_is_waited_for_10_11() {
    a_commit_that_waits_for_a_replica_is_waited_for(Version::V10_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_for_a_replica_is_waited_for_11_8() {
    a_commit_that_waits_for_a_replica_is_waited_for(Version::V11_8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_cannot_change_while_it_is_read() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)";
    let world = World::new(Version::V11_8, ddl).await;
    let mut reader = load::open(world.source.as_ref(), &world.known[0], &load::ALL).await;
    let mut sql = world.server.connect_to(&world.database).await.unwrap();
    let alter = tokio::spawn(async move {
        // The reader has one row and has perhaps ended already: an ALTER may wait or not, it must not tear.
        run(&mut sql, "ALTER TABLE t ADD COLUMN b int DEFAULT 5, ALGORITHM=COPY").await.unwrap();
    });
    let rows: Vec<_> = load::read(reader.as_mut()).await.iter().flat_map(load::texts).collect();
    assert_eq!(rows, [["1", "1"]]);
    drop(reader);
    tokio::time::timeout(Duration::from_secs(30), alter).await.unwrap().unwrap();
    let mut reader = load::open(world.source.as_ref(), &world.known[0], &load::ALL).await;
    assert_eq!(reader.schema().columns.len(), 3);
    let rows: Vec<_> = load::read(reader.as_mut()).await.iter().flat_map(load::texts).collect();
    assert_eq!(rows, [["1", "1", "5"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_rebuilt_all_the_time_are_read_whole_or_not_at_all() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t SELECT seq, 1 FROM seq_1_to_2000";
    let world = World::new(Version::V10_11, ddl).await;
    let mut sql = world.server.connect_to(&world.database).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let rebuilding = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            run(&mut sql, "ALTER TABLE t FORCE, ALGORITHM=COPY").await.unwrap();
        }
    });
    let mut read = 0;
    for _ in 0..20 {
        let delivered = Arc::default();
        let opened = world.source.read_chunk(&world.known[0], &load::ALL, delivered).await;
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => {
                assert_eq!(error.kind().retry(), lakeward_core::Retry::Backoff, "{error}");
                continue;
            }
        };
        let mut rows = 0;
        loop {
            match reader.next().await {
                Ok(Some(batch)) => rows += batch.num_rows(),
                Ok(None) => break assert_eq!(rows, 2000),
                Err(error) => {
                    break assert_eq!(
                        error.kind().retry(),
                        lakeward_core::Retry::Backoff,
                        "{error}"
                    );
                }
            }
        }
        read += usize::from(rows == 2000);
    }
    stop.store(true, Ordering::Relaxed);
    rebuilding.await.unwrap();
    assert!(read > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_may_come_again() {
    let mut world = World::new(Version::V10_11, "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.run("DROP TABLE t").await;
    let table = Arc::clone(&world.known[0]);
    let gone = world.source.read_chunk(&table, &load::ALL, Arc::default()).await.err().unwrap();
    assert_eq!(gone.kind(), ErrorKind::Conflict);
    assert_eq!(world.source.split(&table, 10).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(world.source.drift(&table).await.unwrap().is_none());
    assert!(world.source.discover().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_barrier_waits_for_prepared_transactions() {
    let mut world = World::new(Version::V11_8, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let xid = format!("'{}'", world.database);
    world
        .run(&format!("XA START {xid}; INSERT INTO t VALUES (1); XA END {xid}; XA PREPARE {xid}"))
        .await;
    let source = Arc::clone(&world.source);
    let mut barrier = tokio::spawn(async move { source.barrier().await });
    let early = tokio::time::timeout(Duration::from_millis(700), &mut barrier).await;
    assert!(early.is_err(), "a prepared transaction may still commit");
    world.run(&format!("XA COMMIT {xid}")).await;
    tokio::time::timeout(Duration::from_secs(30), barrier).await.unwrap().unwrap().unwrap();
    let rows = load::rows(world.source.as_ref(), &world.known[0], &load::ALL).await;
    assert_eq!(rows, [["1"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_chunk_comes_in_pieces_and_a_dropped_one_ends() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, a varchar(200)); \
               INSERT INTO t SELECT seq, REPEAT('x', 150) FROM seq_1_to_60000";
    let mut world = World::new(Version::V10_11, ddl).await;
    let table = Arc::clone(&world.known[0]);
    let mut reader = load::open(world.source.as_ref(), &table, &load::ALL).await;
    let batches = load::read(reader.as_mut()).await;
    assert!(batches.len() > 2);
    assert_eq!(batches.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 60_000);
    let mut half = load::open(world.source.as_ref(), &table, &load::ALL).await;
    half.next().await.unwrap().unwrap();
    drop(half);
    // Its connection is closed, so the table is free again.
    tokio::time::timeout(Duration::from_secs(30), world.run("DROP TABLE t")).await.unwrap();
    assert!(texts(&mut world.sql, "SHOW TABLES").await.unwrap().is_empty());
}
