//! Every type: what a chunk reads and what the log brings are the same array, and the server's own text is the judge.
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use lakeward_core::SourceEvent;
use lakeward_testkit::mariadb::{Version, texts};
use serde_json::json;

use crate::load;
use crate::world::{World, server};

/// How the server says a value in the words of our own text: `{}` is the column.
const AS_IS: &str = "CAST({} AS CHAR)";
const HEX: &str = "LOWER(HEX({}))";
const UUID: &str = "REPLACE(CAST({} AS CHAR), '-', '')";
const EXACT: &str = "FORMAT(CAST({} AS DOUBLE), 38)";
const MICROS: &str = "DATE_FORMAT({}, '%Y-%m-%d %H:%i:%s.%f')";
const TIME_MICROS: &str = "TIME_FORMAT({}, '%H:%i:%s.%f')";
const LABEL: &str = "CAST({} AS CHAR)";

struct Case(&'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    Case("tinyint", AS_IS, &["-128", "127", "0", "-1", "1", "NULL"]),
    Case("tinyint unsigned", AS_IS, &["0", "255", "128", "127", "1", "NULL"]),
    Case("tinyint(1)", AS_IS, &["TRUE", "FALSE", "-128", "127", "2", "NULL"]),
    Case("smallint", AS_IS, &["-32768", "32767", "0", "-1", "1", "NULL"]),
    Case("smallint unsigned", AS_IS, &["0", "65535", "32768", "1", "32767", "NULL"]),
    Case("mediumint", AS_IS, &["-8388608", "8388607", "0", "-1", "1", "NULL"]),
    Case("mediumint unsigned", AS_IS, &["0", "16777215", "8388608", "1", "8388607", "NULL"]),
    Case("int", AS_IS, &["-2147483648", "2147483647", "0", "-1", "1", "NULL"]),
    Case(
        "int unsigned zerofill",
        "CAST({} + 0 AS CHAR)",
        &["0", "4294967295", "2147483648", "1", "7", "NULL"],
    ),
    Case("bigint", AS_IS, &["-9223372036854775808", "9223372036854775807", "0", "-1", "1", "NULL"]),
    Case(
        "bigint unsigned",
        AS_IS,
        &["0", "18446744073709551615", "9223372036854775808", "1", "9", "NULL"],
    ),
    Case("year", AS_IS, &["1901", "2155", "2024", "1970", "2000", "NULL"]),
    Case(
        "decimal(38,0)",
        AS_IS,
        &[
            "99999999999999999999999999999999999999",
            "-99999999999999999999999999999999999999",
            "0",
            "1",
            "-1",
            "NULL",
        ],
    ),
    Case(
        "decimal(38,38)",
        AS_IS,
        &[
            "0.99999999999999999999999999999999999999",
            "-0.00000000000000000000000000000000000001",
            "0",
            "0.5",
            "-0.5",
            "NULL",
        ],
    ),
    Case(
        "decimal(12,2)",
        AS_IS,
        &["9999999999.99", "-9999999999.99", "0.01", "-0.01", "0", "NULL"],
    ),
    Case(
        "decimal(9,9) unsigned",
        AS_IS,
        &["0.999999999", "0.000000001", "0", "0.1", "0.5", "NULL"],
    ),
    Case(
        "decimal(65,30)",
        AS_IS,
        &[
            "12345678901234567890123456789012345.123456789012345678901234567890",
            "-0.000000000000000000000000000001",
            "0",
            "-1",
            "1",
            "NULL",
        ],
    ),
    Case(
        "decimal(39,0) zerofill",
        "CAST({} + 0 AS CHAR)",
        &["7", "0", "1", "999999999999999999999999999999999999999", "10", "NULL"],
    ),
    Case("float", EXACT, &["0.1", "-1.5", "0", "16777216", "1e10", "NULL"]),
    Case("double", EXACT, &["0.1", "-1.5", "0", "9007199254740993", "1e10", "NULL"]),
    Case(
        "date",
        AS_IS,
        &["'0001-01-01'", "'9999-12-31'", "'1970-01-01'", "'1969-12-31'", "'2024-02-29'", "NULL"],
    ),
    Case(
        "time",
        TIME_MICROS,
        &["'00:00:00'", "'23:59:59'", "'12:34:56'", "'00:00:01'", "'01:00:00'", "NULL"],
    ),
    Case(
        "time(6)",
        TIME_MICROS,
        &[
            "'00:00:00.000001'",
            "'23:59:59.999999'",
            "'12:34:56.5'",
            "'00:00:00'",
            "'01:00:00.1'",
            "NULL",
        ],
    ),
    Case(
        "time(3)",
        TIME_MICROS,
        &["'00:00:00.001'", "'23:59:59.999'", "'12:34:56.5'", "'00:00:00'", "'01:00:00.1'", "NULL"],
    ),
    Case(
        "datetime",
        MICROS,
        &[
            "'0001-01-01 00:00:00'",
            "'9999-12-31 23:59:59'",
            "'1970-01-01 00:00:00'",
            "'1969-12-31 23:59:59'",
            "'2024-02-29 12:00:00'",
            "NULL",
        ],
    ),
    Case(
        "datetime(6)",
        MICROS,
        &[
            "'0001-01-01 00:00:00.000001'",
            "'9999-12-31 23:59:59.999999'",
            "'1970-01-01 00:00:00.5'",
            "'1969-12-31 23:59:59.999999'",
            "'2024-02-29 12:00:00'",
            "NULL",
        ],
    ),
    Case(
        "datetime(2)",
        MICROS,
        &[
            "'0001-01-01 00:00:00.01'",
            "'9999-12-31 23:59:59.99'",
            "'1970-01-01 00:00:00.5'",
            "'1969-12-31 23:59:59.09'",
            "'2024-02-29 12:00:00'",
            "NULL",
        ],
    ),
    Case(
        "timestamp NULL",
        MICROS,
        &[
            "'1970-01-01 00:00:01'",
            "'2038-01-19 03:14:07'",
            "'2024-02-29 12:00:00'",
            "'2000-01-01 00:00:00'",
            "'1999-12-31 23:59:59'",
            "NULL",
        ],
    ),
    Case(
        "timestamp(6) NULL",
        MICROS,
        &[
            "'1970-01-01 00:00:01.000001'",
            "'2038-01-19 03:14:07.999999'",
            "'2024-02-29 12:00:00'",
            "'2000-01-01 00:00:00.5'",
            "'1999-12-31 23:59:59.999999'",
            "NULL",
        ],
    ),
    Case("char(5)", AS_IS, &["''", "'ab  '", "'é€😀'", "' a'", "'abcde'", "NULL"]),
    Case(
        "char(255)",
        AS_IS,
        &["''", "REPEAT('é', 255)", "'a'", "REPEAT('😀', 255)", "'\\\\'", "NULL"],
    ),
    Case("varchar(20)", AS_IS, &["''", "'ab  '", "'é€😀'", "'\\n\\t'", "'a\\0b'", "NULL"]),
    Case(
        "varchar(5000)",
        AS_IS,
        &["''", "REPEAT('x', 5000)", "REPEAT('é', 300)", "'a'", "REPEAT('y', 255)", "NULL"],
    ),
    Case(
        "varchar(20) character set latin1",
        "CONVERT({} USING utf8mb4)",
        &["''", "'é'", "'€'", "'ÿ'", "'abc'", "NULL"],
    ),
    Case("char(20) character set ascii", AS_IS, &["''", "'~'", "'abc'", "'A b'", "'0'", "NULL"]),
    Case(
        "varchar(20) character set utf8mb3",
        "CONVERT({} USING utf8mb4)",
        &["''", "'é'", "'€'", "'漢字'", "'abc'", "NULL"],
    ),
    Case("varchar(20) compressed", AS_IS, &["''", "'a'", "'é'", "REPEAT('a', 20)", "'b'", "NULL"]),
    Case("tinytext", AS_IS, &["''", "'a  '", "'é'", "REPEAT('x', 255)", "'b'", "NULL"]),
    Case("text", AS_IS, &["''", "'a'", "'é'", "REPEAT('x', 60000)", "'b'", "NULL"]),
    Case("mediumtext", AS_IS, &["''", "'a'", "'é'", "REPEAT('x', 70000)", "'b'", "NULL"]),
    Case(
        "longtext character set latin1",
        "CONVERT({} USING utf8mb4)",
        &["''", "'a'", "'é'", "REPEAT('x', 70000)", "'€'", "NULL"],
    ),
    Case(
        "json",
        AS_IS,
        &[
            "'null'",
            "'{\"a\": [1, 2.50, \"é\"]}'",
            "'[]'",
            "'\"\\\\u0001\"'",
            "'18446744073709551615'",
            "NULL",
        ],
    ),
    Case(
        "binary(4)",
        HEX,
        &["X'00000000'", "X'FF'", "X'61620000'", "X'20202020'", "X'01020304'", "NULL"],
    ),
    Case("binary(255)", HEX, &["X'00'", "REPEAT(X'FF', 255)", "X'61'", "X'20'", "''", "NULL"]),
    Case("varbinary(300)", HEX, &["''", "X'00'", "X'FF00'", "REPEAT(X'AB', 300)", "X'20'", "NULL"]),
    Case("blob", HEX, &["''", "X'00'", "X'FF00'", "REPEAT(X'AB', 60000)", "X'20'", "NULL"]),
    Case("longblob", HEX, &["''", "X'00'", "X'FF00'", "REPEAT(X'AB', 70000)", "X'20'", "NULL"]),
    Case(
        "bit(1)",
        "LPAD(LOWER(HEX({} + 0)), 2, '0')",
        &["b'0'", "b'1'", "b'1'", "b'0'", "b'1'", "NULL"],
    ),
    Case(
        "bit(9)",
        "LPAD(LOWER(HEX({} + 0)), 4, '0')",
        &["b'0'", "b'111111111'", "b'100000000'", "b'1'", "b'10'", "NULL"],
    ),
    Case(
        "bit(64)",
        "LPAD(LOWER(HEX({} + 0)), 16, '0')",
        &["b'0'", "X'FFFFFFFFFFFFFFFF'", "X'8000000000000000'", "b'1'", "b'10'", "NULL"],
    ),
    Case(
        "enum('a','b''c','d\\\\e','é')",
        LABEL,
        &["'a'", "'b\\'c'", "'d\\\\e'", "'é'", "0", "NULL"],
    ),
    Case("enum('x','y') character set latin1", LABEL, &["'x'", "'y'", "1", "2", "0", "NULL"]),
    Case("set('a','b','c','é')", LABEL, &["''", "'a'", "'c,a'", "'a,b,c,é'", "'é'", "NULL"]),
    Case(
        "uuid",
        UUID,
        &[
            "'00112233-4455-1677-8899-aabbccddeeff'",
            "'00112233-4455-4677-8899-aabbccddeeff'",
            "'00112233-4455-7677-8899-aabbccddeeff'",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "NULL",
        ],
    ),
    Case(
        "inet6",
        AS_IS,
        &["'::'", "'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:1.2.3.4'", "'::1.2.3.4'", "NULL"],
    ),
    Case(
        "inet4",
        AS_IS,
        &["'0.0.0.0'", "'255.255.255.255'", "'127.0.0.1'", "'1.0.0.0'", "'0.0.0.1'", "NULL"],
    ),
    Case(
        "point",
        "LOWER(HEX({}))",
        &[
            "POINT(1, 2)",
            "POINT(-1.5, 0)",
            "ST_GeomFromText('POINT(3 4)', 4326)",
            "POINT(0, 0)",
            "POINT(1e10, 1)",
            "NULL",
        ],
    ),
];

/// Brings a column by both ways. The table is `v(id, a)`.
async fn both_ways(world: &mut World, values: &[&str]) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
    let mut follow = world.follow().await;
    world.run("SET sql_mode = 'ALLOW_INVALID_DATES'").await;
    for (id, value) in values.iter().enumerate() {
        world.run(&format!("INSERT INTO v VALUES ({id}, {value})")).await;
    }
    let mut logged = Vec::new();
    for event in follow.events().await {
        if let SourceEvent::Rows(batch) = event {
            logged.push(batch.rows);
        }
    }
    let table = Arc::clone(&world.known[0]);
    let mut reader = load::open(world.source.as_ref(), &table, &load::ALL).await;
    let loaded = load::read(reader.as_mut()).await;
    (cells(&loaded), cells(&logged))
}

/// The second column, a cell each.
fn cells(batches: &[RecordBatch]) -> Vec<ArrayRef> {
    let cells = |batch: &RecordBatch| {
        let column = Arc::clone(batch.column(1));
        (0..batch.num_rows()).map(move |row| column.slice(row, 1)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(cells).collect()
}

fn rendered(cells: &[ArrayRef]) -> Vec<Option<String>> {
    let text = |cell: &ArrayRef| {
        let mut out = String::new();
        lakeward_source_mysql::types::render(cell, 0, &mut out).unwrap();
        cell.is_valid(0).then_some(out)
    };
    cells.iter().map(text).collect()
}

async fn every_type(version: Version) {
    let server = server(version).await;
    for Case(declared, judge, values) in CASES {
        let ddl = format!("CREATE TABLE v (id int PRIMARY KEY, a {declared})");
        let mut world = World::on(Arc::clone(&server), &ddl).await;
        let (loaded, logged) = both_ways(&mut world, values).await;
        assert_eq!(loaded[0].data_type(), logged[0].data_type(), "{declared}");
        assert_eq!(&loaded, &logged, "{declared}: the load and the log differ");
        world.run("SET NAMES utf8mb4; SET time_zone = '+00:00'").await;
        let sql = format!("SELECT {} FROM v ORDER BY id", judge.replace("{}", "a"));
        let said = texts(&mut world.sql, &sql).await.unwrap();
        for ((ours, theirs), value) in rendered(&loaded).iter().zip(&said).zip(*values) {
            assert_said(declared, judge, value, ours.as_ref(), theirs[0].as_ref());
        }
    }
}

fn assert_said(
    declared: &str,
    judge: &str,
    value: &str,
    ours: Option<&String>,
    theirs: Option<&String>,
) {
    if judge == EXACT {
        let theirs = theirs.map(|text| text.replace(',', "").parse::<f64>().unwrap());
        let ours = ours.map(|text| text.parse::<f64>().unwrap());
        return assert_eq!(ours, theirs, "{declared} {value:.40}");
    }
    assert_eq!(ours, theirs, "{declared} {value:.40}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_read_alike_by_load_and_log_10_11() {
    every_type(Version::V10_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_read_alike_by_load_and_log_11_8() {
    every_type(Version::V11_8).await;
}

/// Values that no calendar has, as the server's text.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_text_nothing_is_lost() {
    let server = server(Version::V10_11).await;
    for (declared, values) in [
        (
            "date",
            &["'0000-00-00'", "'2024-00-15'", "'2023-02-30'", "'0000-01-01'", "'9999-12-31'"][..],
        ),
        (
            "datetime(3)",
            &["'0000-00-00 00:00:00'", "'2024-02-30 12:00:00.125'", "'2024-01-01 00:00:00'"],
        ),
        ("timestamp(2) NULL", &["'0000-00-00 00:00:00'", "'2024-01-01 00:00:00.25'", "NULL"]),
        (
            "time(6)",
            &["'-838:59:59'", "'838:59:59'", "'-00:00:00.000001'", "'24:00:00'", "'-01:30:00.5'"],
        ),
        ("time", &["'-838:59:59'", "'838:59:59'", "'-00:00:01'", "'00:00:00'"]),
        ("time(3)", &["'-00:00:00.001'", "'-12:00:00.999'", "'100:00:00.5'"]),
    ] {
        let ddl = format!("SET sql_mode = ''; CREATE TABLE v (id int PRIMARY KEY, a {declared})");
        let options = json!({"unrepresentable": "text"});
        let mut world = World::with(Arc::clone(&server), &ddl, options).await;
        let (loaded, logged) = both_ways(&mut world, values).await;
        assert_eq!(&loaded, &logged, "{declared}");
        world.run("SET time_zone = '+00:00'").await;
        let said =
            texts(&mut world.sql, "SELECT CAST(a AS CHAR) FROM v ORDER BY id").await.unwrap();
        let said: Vec<_> = said.into_iter().map(|row| row[0].clone()).collect();
        assert_eq!(rendered(&loaded), said, "{declared}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_fail_a_zero_date_names_its_column() {
    let ddl = "SET sql_mode = ''; CREATE TABLE v (id int PRIMARY KEY, a date); \
               INSERT INTO v VALUES (1, '0000-00-00')";
    let world = World::new(Version::V10_11, ddl).await;
    let table = &world.known[0];
    let mut reader = load::open(world.source.as_ref(), table, &load::ALL).await;
    let error = reader.next().await.unwrap_err();
    assert_eq!(error.kind(), lakeward_core::ErrorKind::BadData);
    assert_eq!(error.context("column"), Some("a"));
    assert!(error.remedy().contains("unrepresentable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_null_a_zero_date_is_null() {
    let ddl = "SET sql_mode = ''; CREATE TABLE v (id int PRIMARY KEY, a date)";
    let server = server(Version::V10_11).await;
    let mut world = World::with(server, ddl, json!({"unrepresentable": "null"})).await;
    let (loaded, logged) = both_ways(&mut world, &["'0000-00-00'", "'2024-01-01'"]).await;
    assert_eq!(&loaded, &logged);
    assert!(loaded[0].is_null(0) && loaded[1].is_valid(0));
}
