//! Every type, by its edges: chunk (binary), log and the server's own text must tell the same value.
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use lakeward_core::{Chunk, Delivered, Source, TableSchema};
use lakeward_source_postgres::Postgres;
use lakeward_source_postgres::connect::SESSION_OPTIONS;
use lakeward_source_postgres::types::{ColumnBuilder, render};
use lakeward_testkit::postgres::texts;
use lakeward_testkit::servers::Version;
use tokio_postgres::{Client, NoTls};

use crate::follow::Model;
use crate::world::World;

const DDL: &str = "\
    CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy', 'NULL', '', 'a,b');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN price AS numeric(10,2);
    CREATE DOMAIN label AS text;
    CREATE DOMAIN label_of_label AS label;";

/// Type, and literals of its edges.
const TYPES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false", "true", "false", "true", "true"]),
    ("int2", &["-32768", "32767", "0", "-1", "1", "100"]),
    ("int4", &["-2147483648", "2147483647", "0", "-1", "1", "100000"]),
    ("int8", &["-9223372036854775808", "9223372036854775807", "0", "-1", "1", "4294967296"]),
    (
        "float4",
        &[
            "0",
            "-0",
            "NaN",
            "-Infinity",
            "1e-45",
            "3.4028235e38",
            "0.1",
            "123456",
            "1234567",
            "0.0001",
            "0.00001",
        ],
    ),
    (
        "float8",
        &[
            "0",
            "-0",
            "NaN",
            "Infinity",
            "5e-324",
            "1.7976931348623157e308",
            "0.1",
            "123456789012345",
            "1e15",
            "0.0001",
            "1e-5",
        ],
    ),
    ("numeric(12,2)", &["0", "-0.01", "9999999999.99", "-9999999999.99", "1.5", "10000"]),
    (
        "numeric(38,10)",
        &[
            "0",
            "1e-10",
            "9999999999999999999999999999.9999999999",
            "-9999999999999999999999999999.9999999999",
            "100000000",
            "0.0001",
        ],
    ),
    (
        "numeric(38,0)",
        &[
            "99999999999999999999999999999999999999",
            "-99999999999999999999999999999999999999",
            "0",
            "1",
            "10000",
            "100000000",
        ],
    ),
    ("numeric(5,-2)", &["0", "100", "-9999900", "1234549", "50", "200"]),
    ("numeric(3,5)", &["0", "0.00999", "-0.00999", "0.00001", "0.001", "0.0025"]),
    (
        "numeric",
        &[
            "0",
            "NaN",
            "Infinity",
            "1e-30",
            "123456789012345678901234567890123456789012345",
            "1.500",
        ],
    ),
    (
        "numeric(50,3)",
        &[
            "0",
            "1.5",
            "-1.5",
            "12345678901234567890123456789012345678901234567.123",
            "NaN",
            "0.001",
        ],
    ),
    ("text", &["", " ", "NULL", "a,b{}\"\\ '", "ünïcödé 🦀", "line\nbreak\ttab"]),
    ("varchar(20)", &["", " ", "null", "x", "ÄÖÜ", "trailing  "]),
    ("char(5)", &["", "a", "abcde", " b", "é", "NULL"]),
    ("name", &["", "a", "NULL", "a b", "é", "x"]),
    ("\"char\"", &["", "a", "é", " ", "1", ","]),
    ("bytea", &["\\x", "\\x00", "\\xff", "\\xdeadbeef", "\\x5c78", "\\x0a0d"]),
    (
        "date",
        &["0001-01-01", "9999-12-31", "1970-01-01", "1969-12-31", "2024-02-29", "5874897-12-31"],
    ),
    (
        "time",
        &["00:00:00", "23:59:59.999999", "12:00", "00:00:00.000001", "01:02:03.4", "13:14:15.16"],
    ),
    ("time(0)", &["00:00:00", "23:59:59", "12:00", "00:00:01", "01:02:03", "13:14:15"]),
    (
        "timestamp",
        &[
            "0001-01-01 00:00:00",
            "9999-12-31 23:59:59.999999",
            "1969-12-31 23:59:59.999999",
            "1970-01-01",
            "2000-01-01 00:00:00.1",
            "294240-01-01 00:00:00",
        ],
    ),
    (
        "timestamptz",
        &[
            "0001-01-01 00:00:00+00",
            "9999-12-31 23:59:59.999999+00",
            "1969-12-31 23:59:59.999999+00",
            "2024-03-31 02:30:00+02",
            "2000-01-01 00:00:00.1+14",
            "1883-11-18 12:00:00-04:56:02",
        ],
    ),
    (
        "uuid",
        &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "00112233-4455-6677-8899-aabbccddeeff",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a12}",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A13",
        ],
    ),
    ("json", &["null", "{\"b\": 1,  \"a\":2, \"a\":3}", "[]", "\"\\u0041\"", "1e5", " {} "]),
    (
        "jsonb",
        &[
            "null",
            "{\"b\": 1,  \"a\":2, \"a\":3}",
            "[]",
            "\"\\u0041\"",
            "1.500",
            "{\"k\": [1, null, \"x,y\"]}",
        ],
    ),
    ("mood", &["sad", "so so", "happy", "NULL", "", "a,b"]),
    ("price", &["0", "0.01", "-99999999.99", "99999999.99", "1", "2.5"]),
    ("label", &["", "NULL", "a b", "é", "{}", "\""]),
    ("label_of_label", &["", "NULL", "a b", "é", "{}", "\""]),
    ("pair", &["(1,x)", "(,)", "(1,)", "(,\"a,b\")", "(-1,\"\")", "(0,NULL)"]),
    (
        "interval",
        &[
            "0",
            "1 year 2 mons -3 days 04:05:06.789",
            "-1 day",
            "178000000 years",
            "1 microsecond",
            "-00:00:01",
        ],
    ),
    (
        "timetz",
        &[
            "00:00:00+00",
            "24:00:00-05",
            "12:00:00+05:30",
            "23:59:59.999999+14",
            "01:02:03-00:30",
            "00:00:00-15:59",
        ],
    ),
    ("inet", &["1.2.3.4", "1.2.3.4/24", "::1", "::1/64", "0.0.0.0/0", "255.255.255.255"]),
    ("cidr", &["1.2.3.0/24", "1.2.3.4", "::/0", "0.0.0.0/0", "10.0.0.0/8", "fe80::/10"]),
    (
        "macaddr",
        &[
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "08:00:2b:01:02:03",
            "08:00:2b:01:02:04",
            "08:00:2b:01:02:05",
            "08:00:2b:01:02:06",
        ],
    ),
    ("money", &["0", "-0.01", "92233720368547758.07", "-92233720368547758.08", "1000", "1.5"]),
    ("int4range", &["empty", "[1,5)", "(,)", "[1,1]", "(,5]", "[-2147483648,2147483647)"]),
    ("int4multirange", &["{}", "{[1,3),[5,7)}", "{(,)}", "{[1,2)}", "{(,1),[3,)}", "{[5,6)}"]),
    (
        "tstzrange",
        &[
            "empty",
            "[2020-01-01 00:00:00+00,2021-01-01 00:00:00+00)",
            "(,)",
            "[2020-01-01,infinity]",
            "(,2020-01-01]",
            "[2020-01-01,)",
        ],
    ),
    ("point", &["(0,0)", "(-0,0.1)", "(1e300,-1e-300)", "(NaN,Infinity)", "(1,2)", "(3.5,4.5)"]),
    (
        "box",
        &[
            "(1,1),(0,0)",
            "(2,2),(1,1)",
            "(0,0),(0,0)",
            "(1.5,1.5),(0,0)",
            "(9,9),(8,8)",
            "(3,3),(2,2)",
        ],
    ),
    ("bit(3)", &["000", "111", "101", "010", "001", "100"]),
    ("varbit", &["", "1", "0", "10101010", "111", "000"]),
    ("oid", &["0", "1", "4294967295", "16384", "100", "7"]),
    ("regclass", &["pg_class", "pg_type", "0", "pg_proc", "pg_attribute", "1259"]),
    ("tsvector", &["", "a", "a:1 b:2", "'it''s'", "fat:2A cat:3B", "x"]),
];

struct Case {
    declared: &'static str,
    table: String,
}

fn cases() -> Vec<Case> {
    let case = |(at, (declared, _)): (usize, &(&'static str, &[&str]))| Case {
        declared,
        table: format!("t{at:02}"),
    };
    TYPES.iter().enumerate().map(case).collect()
}

fn ddl() -> String {
    let create = |case: &Case| {
        format!("CREATE TABLE {0} (id int PRIMARY KEY, v {1}, a {1}[]);", case.table, case.declared)
    };
    DDL.to_owned() + &cases().iter().map(create).collect::<String>()
}

fn inserts() -> Vec<String> {
    let insert = |(case, (declared, values)): (&Case, &(&str, &[&str]))| {
        let row = |(id, value): (usize, &&str)| {
            let value = format!("'{}'::{declared}", value.replace('\'', "''"));
            format!("({id}, {value}, ARRAY[{value}, NULL, {value}]::{declared}[])")
        };
        let mut rows: Vec<String> = values.iter().enumerate().map(row).collect();
        rows.push("(100, NULL, NULL)".into());
        rows.push(format!("(101, NULL, '{{}}'::{declared}[])"));
        rows.push(format!("(102, NULL, ARRAY[NULL]::{declared}[])"));
        format!("INSERT INTO {} VALUES {};", case.table, rows.join(", "))
    };
    cases().iter().zip(TYPES).map(insert).collect()
}

/// A session whose text is the log's.
async fn pinned(world: &World) -> Client {
    let mut config: tokio_postgres::Config = world.server.url(&world.database).parse().unwrap();
    let (client, connection) = config.options(SESSION_OPTIONS).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub async fn whole_chunk(source: &Postgres, table: &TableSchema) -> RecordBatch {
    let chunk = Chunk::Range { from: None, to: None };
    let delivered = Arc::new(Delivered::default());
    let mut reader = source.read_chunk(table, &chunk, delivered).await.unwrap();
    assert_eq!(reader.schema().version, table.version);
    let batch = reader.next().await.unwrap().unwrap();
    assert!(reader.next().await.unwrap().is_none());
    batch
}

fn from_text(of: &ArrayRef, texts: &[Option<String>]) -> ArrayRef {
    let mut builder = ColumnBuilder::new(of.data_type(), false).unwrap();
    for text in texts {
        match text {
            Some(text) => builder.push_text(text.as_bytes()).unwrap(),
            None => builder.push_null(),
        }
    }
    builder.finish().unwrap()
}

async fn all_paths_agree(version: Version) {
    let world = World::new(version, &ddl()).await;
    for insert in inserts() {
        world.run(&insert).await;
    }
    let source = Postgres::new(Arc::clone(&world.settings));
    let tables = source.discover().await.unwrap();
    assert_eq!(tables.len(), TYPES.len());

    let mut model = Model::knowing(&tables);
    let mut stream = world.open(&world.beginning, &tables).await;
    model.follow(&mut stream, &world.head().await).await;
    let sql = pinned(&world).await;
    for case in cases() {
        let declared = case.declared;
        let table = tables.iter().find(|t| t.table.name == case.table).unwrap();
        let chunk = whole_chunk(&source, table).await;
        let query = format!("SELECT v, a FROM public.{}", case.table);
        let server = texts(&sql, &query).await.unwrap();
        for (column, name) in [(1, "v"), (2, "a")] {
            let array = chunk.column(column);
            let expected: Vec<_> = server.iter().map(|row| row[column - 1].clone()).collect();
            assert_eq!(array, &from_text(array, &expected), "{declared} {name}: binary and text");
            for (row, text) in expected.iter().enumerate() {
                let mut rendered = String::new();
                render(array, row, &mut rendered).unwrap();
                assert_eq!(array.is_null(row), text.is_none(), "{declared} {name} {row}");
                assert_eq!(rendered, text.clone().unwrap_or_default(), "{declared} {name} {row}");
            }
        }
        let mut seen = 0;
        for batch in model.batches.iter().filter(|b| b.schema.table == table.table) {
            assert_eq!(batch.rows, chunk.slice(seen, batch.len()), "{declared}: log and chunk");
            seen += batch.len();
        }
        assert_eq!(seen, chunk.num_rows(), "{declared}: rows in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunk_log_and_text_tell_the_same_on_15() {
    all_paths_agree(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunk_log_and_text_tell_the_same_on_18() {
    all_paths_agree(Version::V18).await;
}

/// Values that fit the server's type and not the lake's.
const UNREPRESENTABLE: &[(&str, &str)] = &[
    ("numeric(12,2)", "'NaN'"),
    ("date", "'infinity'"),
    ("date", "'0044-03-15 BC'"),
    ("timestamp", "'-infinity'"),
    ("timestamp", "'0044-03-15 12:00:00 BC'"),
    ("timestamp", "'294276-12-31 23:59:59.999999'"),
    ("timestamptz", "'infinity'"),
    ("time", "'24:00:00'"),
    ("int4[]", "'{{1,2},{3,4}}'"),
    ("int4[]", "'[2:3]={1,2}'"),
    ("date[]", "'{2000-01-01,infinity}'"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_place_follows_the_policy() {
    let mut world = World::new(Version::V15, "").await;
    let policies = ["fail", "null", "text"];
    for (at, (declared, value)) in UNREPRESENTABLE.iter().enumerate() {
        let name = format!("u{at}");
        world.run(&format!("CREATE TABLE {name} (id int PRIMARY KEY, v {declared})")).await;
        world.run(&format!("INSERT INTO {name} VALUES (1, {value}), (2, NULL)")).await;
        for policy in policies {
            let settings = Arc::make_mut(&mut world.settings);
            settings.unrepresentable = serde_json::from_value(serde_json::json!(policy)).unwrap();
            let source = Postgres::new(Arc::clone(&world.settings));
            let tables = source.discover().await.unwrap();
            let table = tables.iter().find(|t| t.table.name == name).unwrap();
            let chunk = Chunk::Range { from: None, to: None };
            let mut reader = source.read_chunk(table, &chunk, Arc::default()).await.unwrap();
            let outcome = reader.next().await;
            match policy {
                "fail" => {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.kind(), lakeward_core::ErrorKind::BadData, "{declared}");
                    assert_eq!(error.context("column"), Some("v"));
                    assert_eq!(error.context("table"), Some(format!("public.{name}").as_str()));
                }
                "null" => {
                    let column = Arc::clone(outcome.unwrap().unwrap().column(1));
                    let inner = if declared == &"date[]" { 1 } else { 2 };
                    assert_eq!(column.null_count(), inner, "{declared} {value}");
                }
                _ => {
                    let column = Arc::clone(outcome.unwrap().unwrap().column(1));
                    let mut text = String::new();
                    render(&column, 0, &mut text).unwrap();
                    assert_eq!(text, value.trim_matches('\''), "{declared}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_no_place_stops_even_the_lenient() {
    let mut world = World::new(Version::V15, "CREATE TABLE k (id date PRIMARY KEY)").await;
    world.run("INSERT INTO k VALUES ('infinity'), ('-infinity')").await;
    Arc::make_mut(&mut world.settings).unrepresentable =
        serde_json::from_value(serde_json::json!("null")).unwrap();
    let source = Postgres::new(Arc::clone(&world.settings));
    let table = source.discover().await.unwrap().pop().unwrap();
    let chunk = Chunk::Range { from: None, to: None };
    let mut reader = source.read_chunk(&table, &chunk, Arc::default()).await.unwrap();
    assert!(reader.next().await.is_err());
}
