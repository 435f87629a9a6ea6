//! The type law: what the load reads and what the log brings are the server's own text, for six
//! edge values of every type, as a scalar, as an element of an array, and NULL.
//!
//! The lists are PostgreSQL's; another source brings lists of its own.

use std::sync::Arc;

use crate::judge::Judge;
use crate::world::{LakeTarget, SourceServer, World};
use crate::{Result, host};

/// A type and six of its edge values, as the server reads them.
type Edge = (&'static str, [&'static str; 6]);

const EDGES: &[Edge] = &[
    ("boolean", ["true", "false", "yes", "off", "1", "0"]),
    ("int2", ["-32768", "32767", "0", "-1", "1", "256"]),
    ("int4", ["-2147483648", "2147483647", "0", "-1", "65536", "10"]),
    (
        "int8",
        [
            "-9223372036854775808",
            "9223372036854775807",
            "0",
            "-1",
            "4294967296",
            "9007199254740993",
        ],
    ),
    ("float4", ["-0", "NaN", "Infinity", "1e-45", "3.4028235e38", "0.1"]),
    (
        "float8",
        ["-0", "NaN", "-Infinity", "5e-324", "1.7976931348623157e308", "0.30000000000000004"],
    ),
    (
        "numeric(38,10)",
        [
            "9999999999999999999999999999.9999999999",
            "-9999999999999999999999999999.9999999999",
            "0",
            "0.0000000001",
            "-0.5",
            "10000",
        ],
    ),
    ("numeric(5,0)", ["99999", "-99999", "0", "1", "-1", "10000"]),
    ("numeric(20,19)", ["9.9999999999999999999", "-0.0000000000000000001", "0", "1", "0.1", "-9"]),
    ("numeric(3,5)", ["0.00999", "-0.00001", "0", "0.001", "0.00010", "-0.00999"]),
    ("numeric(4,-2)", ["999900", "-100", "0", "100", "55500", "-999900"]),
    (
        "numeric",
        [
            "NaN",
            "123456789012345678901234567890123456789012345.678",
            "1e-30",
            "-0.00",
            "1.500",
            "1e40",
        ],
    ),
    (
        "text",
        [
            "",
            " ",
            "NULL",
            "tab\tline\nback\\slash \"quoted\" 'single' {brace},",
            "Zoë 😀 \u{0301}",
            "\\N",
        ],
    ),
    ("varchar(10)", ["", "0123456789", "  ends  ", "null", "é", "\\x"]),
    ("char(5)", ["", "a", "ab ", "abcde", "é", "  x"]),
    ("bytea", ["\\x", "\\x00", "\\xff00ff", "\\x5c78", "\\x0a0d09", "\\xc3a9"]),
    ("date", ["0001-01-01", "9999-12-31", "1969-12-31", "1970-01-01", "2000-02-29", "1582-10-10"]),
    (
        "time",
        [
            "00:00:00",
            "23:59:59.999999",
            "00:00:00.000001",
            "12:00:00",
            "01:02:03.4",
            "19:59:59.000010",
        ],
    ),
    (
        "timestamp",
        [
            "0001-01-01 00:00:00",
            "9999-12-31 23:59:59.999999",
            "1969-12-31 23:59:59.999999",
            "1970-01-01 00:00:00",
            "2000-02-29 12:34:56.7",
            "1582-10-10 00:00:00.000001",
        ],
    ),
    (
        "timestamptz",
        [
            "0001-01-01 00:00:00+00",
            "9999-12-31 23:59:59.999999+00",
            "1969-12-31 23:59:59.999999+00",
            "2026-03-29 02:30:00+01",
            "2000-02-29 12:34:56.7-11:30",
            "1900-01-01 00:00:00+00:19:32",
        ],
    ),
    (
        "uuid",
        [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "01234567-89ab-cdef-0123-456789abcdef",
            "80000000-0000-0000-0000-000000000000",
            "00000000-0000-0000-0000-000000000001",
        ],
    ),
    (
        "json",
        [
            "{\"b\": 1,  \"a\":  [null], \"b\": 2}",
            "\"\"",
            "null",
            "  [1 , 2]\n",
            "1e400",
            "\"\\u00e9 \\\\ \\\"\"",
        ],
    ),
    (
        "jsonb",
        [
            "{\"b\": 1, \"a\": [null, {\"x\": \"y\"}]}",
            "\"\"",
            "null",
            "[]",
            "1.500",
            "\"\\u00e9 \\\\ \\\"\"",
        ],
    ),
    ("edge_mood", ["calm", "so so", "", "comma, quote \" brace }", "NULL", "é"]),
    ("edge_domain", ["0.00", "9999.99", "-9999.99", "1.5", "0.01", "-0.01"]),
    (
        "interval",
        [
            "1 year 2 mons -3 days 04:05:06.789",
            "0",
            "-1 day",
            "00:00:00.000001",
            "100 years",
            "-00:01",
        ],
    ),
    ("inet", ["127.0.0.1", "10.0.0.0/8", "::1", "fe80::/10", "0.0.0.0", "255.255.255.255"]),
    ("int4range", ["[1,5)", "empty", "(,)", "[5,)", "(,5]", "[0,0]"]),
    ("point", ["(1,2)", "(-0,0)", "(1e300,1e-300)", "(0.1,0.2)", "(3,4)", "(NaN,1)"]),
    ("bit varying(12)", ["", "0", "1", "101010101010", "000", "111"]),
    (
        "timetz",
        [
            "00:00:00+00",
            "23:59:59.999999-15:59",
            "12:00+01:30",
            "01:02:03.4+00",
            "00:00:00.000001+14",
            "12:00-11",
        ],
    ),
    ("money", ["$0.00", "-$1.00", "$92,233,720,368,547,758.07", "$0.01", "$1.50", "-$0.01"]),
    ("edge_pair", ["(1,a)", "(,)", "(1,\"\")", "(-5,\"b,c\")", "(0,\"q\"\"q\")", "(7,NULL)"]),
    ("oid", ["0", "1", "4294967295", "2147483648", "42", "100000"]),
    ("tsvector", ["'a':1 'b':2", "", "'x'", "'it''s':3", "'a' 'b' 'c'", "'é':1A"]),
    ("xid", ["0", "1", "4294967295", "3", "42", "7"]),
];

const PREPARE: &str = "CREATE TYPE edge_mood AS ENUM ('calm', 'so so', '', 'comma, quote \" brace }', 'NULL', 'é'); \
     CREATE DOMAIN edge_domain AS numeric(6,2); CREATE TYPE edge_pair AS (n int, t text);";

/// The law.
pub async fn law<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let mut world = World::<S, L>::create(source, "types").await?;
    world.options.rows_per_chunk = 10_000;
    let mut session = world.session().await?;
    session.run(PREPARE).await?;
    for (place, edge) in EDGES.iter().enumerate() {
        session.run(&create(place, edge)).await.map_err(|error| format!("{}: {error}", edge.0))?;
        session.run(&rows(place, edge, 0)).await.map_err(|error| format!("{}: {error}", edge.0))?;
    }
    let mut judge = Judge::start().await?;
    world.catch_up().await?;
    world.judge(&mut judge).await.map_err(|error| format!("after the load: {error}"))?;
    for (place, edge) in EDGES.iter().enumerate() {
        session.run(&rows(place, edge, 100)).await?;
        session.run(&rotate(place)).await?;
    }
    world.catch_up().await?;
    let verdict =
        world.judge(&mut judge).await.map_err(|error| format!("after the log: {error}"))?;
    println!(
        "type law, {}: {} types, {} rows agree",
        world.source.title(),
        verdict.tables,
        verdict.rows
    );
    world.done().await
}

fn create(place: usize, (kind, _): &Edge) -> String {
    format!("CREATE TABLE edge_{place} (id int PRIMARY KEY, v {kind}, a {kind}[])")
}

/// Each value alone, beside NULL and all others in an array; then NULLs and an empty array.
fn rows(place: usize, (kind, values): &Edge, from: usize) -> String {
    let quoted: Vec<String> =
        values.iter().map(|value| format!("{}::{kind}", host::sql_literal(value))).collect();
    let all = quoted.join(", ");
    let mut sql = String::new();
    for (n, value) in quoted.iter().enumerate() {
        let id = from + n;
        sql += &format!(
            "INSERT INTO edge_{place} VALUES ({id}, {value}, ARRAY[{value}, NULL, {all}]);"
        );
    }
    let (null, empty) = (from + 10, from + 11);
    sql + &format!(
        "INSERT INTO edge_{place} VALUES ({null}, NULL, NULL), ({empty}, NULL, '{{}}'), ({}, NULL, ARRAY[NULL::{kind}]);",
        from + 12
    )
}

/// Updates that bring every value of the first rows to another row, by the log.
fn rotate(place: usize) -> String {
    format!(
        "UPDATE edge_{place} t SET v = s.v, a = s.a FROM edge_{place} s \
         WHERE t.id < 6 AND s.id = 100 + (t.id + 1) % 6; \
         UPDATE edge_{place} SET v = NULL WHERE id = 100; UPDATE edge_{place} SET a = NULL WHERE id = 101; \
         UPDATE edge_{place} t SET v = s.v, a = s.a FROM edge_{place} s WHERE t.id = 10 AND s.id = 102"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Postgres;
    use crate::servers::Version;

    #[tokio::test]
    async fn the_edge_values_are_values_on_every_server() {
        for version in Version::ALL {
            let server = Postgres::start(version).await.unwrap();
            server.execute(PREPARE).await.unwrap();
            for (place, edge) in EDGES.iter().enumerate() {
                server.execute(&create(place, edge)).await.unwrap();
                server.execute(&rows(place, edge, 0)).await.unwrap();
                server.execute(&rows(place, edge, 100)).await.unwrap();
                server.execute(&rotate(place)).await.unwrap();
            }
        }
    }
}
