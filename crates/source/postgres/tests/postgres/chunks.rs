//! Chunks: every row in exactly one, and none that sees less than the log has delivered.
use std::sync::Arc;
use std::time::Duration;

use lakeward_core::{Chunk, Coverage, Delivered, Source, SourceEvent, TransactionId};
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers::Version;
use tokio::time::timeout;

use crate::base::{Base, drain, read, table};
use crate::follow::Model;
use crate::world::World;

/// Longer than anything here takes, shorter than patience.
const A_MOMENT: Duration = Duration::from_millis(700);
const LONG: Duration = Duration::from_secs(60);

/// Name, columns and key, and what a row of number `i` holds.
const SPLIT: &[(&str, &str, &str)] = &[
    ("dense", "id int PRIMARY KEY", "i"),
    ("dense_negative", "id bigint PRIMARY KEY", "i - 500"),
    ("sparse", "id bigint PRIMARY KEY", "(i::bigint * 7919 * 104729) % 9007199254740881"),
    ("small", "id smallint PRIMARY KEY", "i * 32 - 16000"),
    ("texts", "id text PRIMARY KEY", "md5(i::text)"),
    ("texts_c", "id text COLLATE \"C\" PRIMARY KEY", "chr(65 + i % 58) || i"),
    (
        "texts_icu",
        "id text COLLATE \"en-x-icu\" PRIMARY KEY",
        "chr(192 + i % 60) || ' ' || chr(65 + i % 58) || i",
    ),
    (
        "texts_loose",
        "id text COLLATE loose PRIMARY KEY",
        "CASE WHEN i % 2 = 0 THEN 'Straße' ELSE 'STRASSE' END || i",
    ),
    ("padded", "id char(9) PRIMARY KEY", "i::text || CASE WHEN i % 3 = 0 THEN '' ELSE 'x' END"),
    ("uuids", "id uuid PRIMARY KEY", "md5(i::text)::uuid"),
    (
        "times",
        "id timestamptz PRIMARY KEY",
        "'2020-01-01 00:00:00.000001+00'::timestamptz + i * interval '1 hour'",
    ),
    ("decimals", "id numeric PRIMARY KEY", "(i - 500) / 7.0"),
    (
        "floats",
        "id float8 PRIMARY KEY",
        "CASE i WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' ELSE ln(i)::float8 END",
    ),
    ("bytes", "id bytea PRIMARY KEY", "decode(md5(i::text), 'hex')"),
    ("quoted", "id text PRIMARY KEY", "'o''clock \\ \"' || i"),
    ("domains", "id code PRIMARY KEY", "md5(i::text)"),
    ("composites", "id pair PRIMARY KEY", "ROW(i % 30, 'x,' || i)::pair"),
    ("arrays", "id int[] PRIMARY KEY", "ARRAY[i % 10, i]"),
    ("nets", "id inet PRIMARY KEY", "'10.0.0.0'::inet + i"),
    ("k_names", "k0 text, k1 int, PRIMARY KEY (k1, k0)", "(i % 17)::text || 'x' || i, i % 40"),
    ("two", "a int, b text, PRIMARY KEY (a, b)", "i % 5, md5(i::text)"),
    (
        "three",
        "a text, b uuid, c int, PRIMARY KEY (c, a, b)",
        "'t' || i % 3, md5(i::text)::uuid, i % 2",
    ),
    ("by_index", "a int NOT NULL, b text NOT NULL", "i % 5, md5(i::text)"),
];

const ROWS: usize = 1000;

/// The wheel's server of 18 is built without ICU.
fn split_cases(
    icu: bool,
) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
    SPLIT.iter().filter(move |(name, _, _)| icu || !matches!(*name, "texts_icu" | "texts_loose"))
}

fn split_ddl(icu: bool) -> String {
    let mut ddl =
        "CREATE TYPE pair AS (x int, y text); CREATE DOMAIN code AS text COLLATE \"C\";".to_owned();
    if icu {
        ddl += "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);";
    }
    for (name, columns, values) in split_cases(icu) {
        ddl += &format!(
            "CREATE TABLE {name} ({columns}, note text);
             INSERT INTO {name} SELECT {values}, i::text FROM generate_series(1, {ROWS}) i;"
        );
    }
    ddl + "CREATE UNIQUE INDEX wide ON by_index (b, a) INCLUDE (note);
           ALTER TABLE by_index REPLICA IDENTITY USING INDEX wide; ANALYZE;"
}

async fn every_row_is_in_one_chunk(version: Version) {
    let icu = version == Version::V15;
    let base = Base::new(version, &split_ddl(icu)).await;
    let source = base.source().await;
    for (name, _, _) in split_cases(icu) {
        let table = table(&source, name).await;
        assert!(!table.key.is_empty(), "{name}");
        let chunks = source.split(&table, 100).await.unwrap();
        assert!((5..=25).contains(&chunks.len()), "{name}: {} chunks", chunks.len());
        let mut notes = Vec::new();
        for chunk in &chunks {
            let rows = read(&source, &table, chunk).await;
            assert!(rows.len() <= 250, "{name}: {} rows in {chunk:?}", rows.len());
            notes.extend(rows.iter().map(|row| row.last().unwrap().parse::<usize>().unwrap()));
        }
        notes.sort_unstable();
        assert_eq!(notes, (1..=ROWS).collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_in_one_chunk_on_15() {
    every_row_is_in_one_chunk(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_in_one_chunk_on_18() {
    every_row_is_in_one_chunk(Version::V18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_rows_find_exactly_these_rows() {
    let base = Base::new(Version::V15, &split_ddl(true)).await;
    let source = base.source().await;
    for (name, _, _) in SPLIT {
        let table = table(&source, name).await;
        let whole = Chunk::Range { from: None, to: None };
        let mut reader = source.read_chunk(&table, &whole, Arc::default()).await.unwrap();
        let batch = reader.next().await.unwrap().unwrap().slice(17, 40);
        let mut keys = source.key_text(&table, &batch).unwrap();
        let mut absent = keys[0].clone();
        absent[0] = match absent[0].as_str() {
            text if text.starts_with('(') => "(-7,none)".into(),
            text if text.starts_with('{') => "{-7}".into(),
            _ => continue_with(&keys, &table.columns[table.key[0] as usize].declared),
        };
        keys.push(absent);
        let mut found = read(&source, &table, &Chunk::Keys(keys)).await;
        let mut expected = crate::base::texts(&batch);
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{name}");
    }
    let dense = table(&source, "dense").await;
    assert!(read(&source, &dense, &Chunk::Keys(vec![])).await.is_empty());
}

/// A value of the type that no row has.
fn continue_with(_: &[Vec<String>], declared: &str) -> String {
    match declared {
        "uuid" => "00000000-0000-0000-0000-000000000000",
        "timestamp with time zone" => "1999-01-01 00:00:00+00",
        "inet" => "9.9.9.9",
        "bytea" => "\\x00",
        "smallint" => "-32768",
        "integer" | "bigint" | "numeric" | "double precision" => "-12345678",
        _ => "none",
    }
    .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_after_the_plan_are_in_one_chunk_too() {
    let base = Base::new(Version::V18, "CREATE TABLE t (id int PRIMARY KEY)").await;
    base.run("INSERT INTO t SELECT i * 2 FROM generate_series(1, 1000) i; ANALYZE").await;
    let source = base.source().await;
    let table = table(&source, "t").await;
    let chunks = source.split(&table, 100).await.unwrap();
    base.run("INSERT INTO t SELECT i * 2 + 1 FROM generate_series(-600, 2000) i").await;
    let mut found: Vec<i64> = Vec::new();
    for chunk in &chunks {
        let rows = read(&source, &table, chunk).await;
        found.extend(rows.iter().map(|r| r[0].parse::<i64>().unwrap()));
    }
    assert_eq!(found.len(), 1000 + 2601);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 1000 + 2601);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_and_one_without_a_key_are_one_chunk() {
    let ddl = "CREATE TABLE e (id int PRIMARY KEY); CREATE TABLE f (v int); \
               ALTER TABLE f REPLICA IDENTITY FULL";
    let base = Base::new(Version::V15, ddl).await;
    let source = base.source().await;
    let empty = table(&source, "e").await;
    let whole = Chunk::Range { from: None, to: None };
    assert_eq!(source.split(&empty, 100).await.unwrap(), vec![whole.clone()]);
    assert!(read(&source, &empty, &whole).await.is_empty());
    let keyless = table(&source, "f").await;
    assert_eq!(source.split(&keyless, 100).await.unwrap(), vec![Chunk::Whole]);
}

/// A commit that waits for a standby which never comes is in the log, and no new snapshot sees it.
async fn a_chunk_waits_for_a_held_commit(version: Version) {
    let server = Arc::new(Postgres::start(version).await.unwrap());
    let world = World::on(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old')",
    )
    .await;
    let base_source: Arc<dyn Source> =
        Arc::new(lakeward_source_postgres::Postgres::new(Arc::clone(&world.settings)));
    let t = table(&base_source, "t").await;
    let mut stream = world.open(&world.beginning, std::slice::from_ref(&t)).await;
    world.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    world.run("SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let writer = world.session().await;
    let update = tokio::spawn(async move {
        writer.batch_execute("UPDATE t SET v = 'new' WHERE id = 1").await.unwrap();
    });

    let xid = loop {
        let event = timeout(LONG, stream.next()).await.expect("the held commit is not in the log");
        if let SourceEvent::Rows(batch) = event.unwrap() {
            break batch.runs[0].transaction.transaction.id;
        }
    };
    assert!(!update.is_finished(), "the commit was not held");
    let whole = Chunk::Range { from: None, to: None };
    let unaware = read(&base_source, &t, &whole).await;
    assert_eq!(unaware, [["1", "old"]], "the trap is not there");

    let delivered = Arc::new(Delivered { ids: vec![xid, TransactionId(3)] });
    let source = Arc::clone(&base_source);
    let (chunk, schema) = (whole.clone(), Arc::clone(&t));
    let mut reading = tokio::spawn(async move {
        drain(source.read_chunk(&schema, &chunk, delivered).await.unwrap()).await
    });
    let barrier_source = Arc::clone(&base_source);
    let mut barrier = tokio::spawn(async move { barrier_source.barrier().await.unwrap() });
    assert!(timeout(A_MOMENT, &mut reading).await.is_err(), "the chunk did not wait");
    assert!(timeout(A_MOMENT, &mut barrier).await.is_err(), "the barrier did not wait");

    let release = world.session().await;
    release.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    release.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    assert_eq!(timeout(LONG, reading).await.unwrap().unwrap(), [["1", "new"]]);
    timeout(LONG, barrier).await.unwrap().unwrap();
    update.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_waits_for_a_held_commit_on_15() {
    a_chunk_waits_for_a_held_commit(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_waits_for_a_held_commit_on_18() {
    a_chunk_waits_for_a_held_commit(Version::V18).await;
}

/// On a server of its own: a barrier waits for the writers of all databases.
#[tokio::test(flavor = "multi_thread")]
async fn the_barrier_waits_for_writers_and_prepared_transactions_but_not_for_readers() {
    let server = Arc::new(Postgres::start(Version::V15).await.unwrap());
    let base = Base::on(server, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let source = base.source().await;
    let reader = base.session().await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; TABLE t").await.unwrap();
    timeout(LONG, source.barrier()).await.unwrap().unwrap();

    // The newest transaction of all: no snapshot names it, its id lies at xmax.
    let writer = base.session().await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let waiting = Arc::clone(&source);
    let mut barrier = tokio::spawn(async move { waiting.barrier().await.unwrap() });
    assert!(timeout(A_MOMENT, &mut barrier).await.is_err(), "an open writer was passed");
    writer.batch_execute("PREPARE TRANSACTION 'held'").await.unwrap();
    assert!(timeout(A_MOMENT, &mut barrier).await.is_err(), "a prepared transaction was passed");
    base.run("COMMIT PREPARED 'held'").await;
    timeout(LONG, barrier).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_met_a_rewrite_does_not_read_an_empty_table() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 50) i";
    let base = Base::new(Version::V18, ddl).await;
    let source = base.source().await;
    let t = table(&source, "t").await;
    let writer = base.session().await;
    writer.batch_execute("BEGIN; ALTER TABLE t ALTER v TYPE text USING v::text").await.unwrap();
    let (chunk_source, schema) = (Arc::clone(&source), Arc::clone(&t));
    let mut reading = tokio::spawn(async move {
        let whole = Chunk::Range { from: None, to: None };
        let reader = chunk_source.read_chunk(&schema, &whole, Arc::default()).await.unwrap();
        (reader.schema().version, drain(reader).await.len())
    });
    assert!(timeout(A_MOMENT, &mut reading).await.is_err(), "the chunk did not wait for the lock");
    writer.batch_execute("COMMIT").await.unwrap();
    let (version, rows) = timeout(LONG, reading).await.unwrap().unwrap();
    assert_eq!(rows, 50);
    assert_ne!(version, t.version, "the reader says under which schema it read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_table_is_found_and_a_dropped_one_is_said_to_be_gone() {
    let base =
        Base::new(Version::V15, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
            .await;
    let source = base.source().await;
    let t = table(&source, "t").await;
    base.run("ALTER TABLE t RENAME TO u; CREATE TABLE t (id int PRIMARY KEY, other text)").await;
    let whole = Chunk::Range { from: None, to: None };
    assert_eq!(read(&source, &t, &whole).await, [["1"]]);
    base.run("DROP TABLE u").await;
    let Err(error) = source.read_chunk(&t, &whole, Arc::default()).await else {
        panic!("a dropped table was read")
    };
    assert_eq!(error.kind(), lakeward_core::ErrorKind::Unsupported);
    assert!(source.split(&t, 10).await.is_err());
}

/// The whole table and what the log brings after it are the table, however many write meanwhile.
async fn a_whole_table_meets_the_log_exactly(version: Version) {
    let ddl = "CREATE TABLE f (v int); ALTER TABLE f REPLICA IDENTITY FULL; INSERT INTO f SELECT generate_series(1, 2000)";
    let world = World::new(version, ddl).await;
    let source: Arc<dyn Source> =
        Arc::new(lakeward_source_postgres::Postgres::new(Arc::clone(&world.settings)));
    let f = table(&source, "f").await;
    let mut writers = Vec::new();
    for offset in [10_000, 20_000] {
        let writer = world.session().await;
        writers.push(tokio::spawn(async move {
            for i in 0..400 {
                writer
                    .batch_execute(&format!("INSERT INTO f VALUES ({})", offset + i))
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    let reader = source.read_chunk(&f, &Chunk::Whole, Arc::default()).await.unwrap();
    let exact = reader.exact().unwrap().clone();
    let mut values: Vec<i64> =
        drain(reader).await.iter().map(|row| row[0].parse::<i64>().unwrap()).collect();
    let read = values.len();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut model = Model::knowing(std::slice::from_ref(&f));
    let mut stream = world.open(&world.beginning, std::slice::from_ref(&f)).await;
    model.follow(&mut stream, &world.head().await).await;
    for batch in &model.batches {
        let rows = crate::base::texts(&batch.rows);
        let mut at = 0;
        for run in &batch.runs {
            let end = run.transaction.end.as_ref().unwrap();
            if source.covers(&exact, &end.position) == Coverage::After {
                let run = &rows[at..at + run.rows as usize];
                values.extend(run.iter().map(|row| row[0].parse::<i64>().unwrap()));
            }
            at += run.rows as usize;
        }
    }
    values.sort_unstable();
    let expected: Vec<i64> = (1..=2000).chain(10_000..10_400).chain(20_000..20_400).collect();
    assert_eq!(values, expected);
    assert!((2001..2800).contains(&read), "nobody wrote beside the snapshot: {read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_table_meets_the_log_exactly_on_15() {
    a_whole_table_meets_the_log_exactly(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_table_meets_the_log_exactly_on_18() {
    a_whole_table_meets_the_log_exactly(Version::V18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wide_rows_come_in_batches_of_a_few_mebibytes() {
    let ddl = "CREATE TABLE w (id int PRIMARY KEY, v text); \
               INSERT INTO w SELECT i, repeat('x', 100000) FROM generate_series(1, 200) i";
    let base = Base::new(Version::V15, ddl).await;
    let source = base.source().await;
    let w = table(&source, "w").await;
    let whole = Chunk::Range { from: None, to: None };
    let mut reader = source.read_chunk(&w, &whole, Arc::default()).await.unwrap();
    let (mut rows, mut batches) = (0, 0);
    while let Some(batch) = reader.next().await.unwrap() {
        assert!(batch.get_array_memory_size() < 12 << 20, "{}", batch.get_array_memory_size());
        rows += batch.num_rows();
        batches += 1;
    }
    assert_eq!(rows, 200);
    assert!(batches >= 4, "{batches}");
}

/// The position behind a snapshot, and the head, are reached although nobody writes.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_reaches_what_the_reader_and_the_head_name() {
    let world = World::new(Version::V18, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let source: Arc<dyn Source> =
        Arc::new(lakeward_source_postgres::Postgres::new(Arc::clone(&world.settings)));
    let t = table(&source, "t").await;
    let mut stream = world.open(&world.beginning, std::slice::from_ref(&t)).await;
    let mut model = Model::knowing(std::slice::from_ref(&t));
    let whole = Chunk::Range { from: None, to: None };
    let reader = source.read_chunk(&t, &whole, Arc::default()).await.unwrap();
    model.follow(&mut stream, reader.saw_nothing_after()).await;
    model.follow(&mut stream, &source.head().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_dropped_leaves_no_lock() {
    let ddl = "CREATE TABLE w (id int PRIMARY KEY, v text); \
               INSERT INTO w SELECT i, repeat('x', 10000) FROM generate_series(1, 5000) i";
    let base = Base::new(Version::V15, ddl).await;
    let source = base.source().await;
    let w = table(&source, "w").await;
    let whole = Chunk::Range { from: None, to: None };
    let mut reader = source.read_chunk(&w, &whole, Arc::default()).await.unwrap();
    assert!(reader.next().await.unwrap().is_some());
    let blocked = "SET lock_timeout = '300ms'; ALTER TABLE w ADD c int";
    assert!(base.session().await.batch_execute(blocked).await.is_err(), "the table was not locked");
    drop(reader);
    let free = "SET lock_timeout = '20s'; ALTER TABLE w ADD c int";
    base.session().await.batch_execute(free).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarted_is_found_again() {
    let server = Arc::new(Postgres::start(Version::V15).await.unwrap());
    let base =
        Base::on(server, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let source = base.source().await;
    let t = table(&source, "t").await;
    let whole = Chunk::Range { from: None, to: None };
    assert_eq!(read(&source, &t, &whole).await, [["1"]]);
    base.server.kill9().await.unwrap();
    let error = source.discover().await.unwrap_err();
    assert_eq!(error.kind(), lakeward_core::ErrorKind::Unreachable, "{error}");
    base.server.start_again().await.unwrap();
    let again = async {
        while source.discover().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, again).await.unwrap();
    assert_eq!(read(&source, &t, &whole).await, [["1"]]);
}
