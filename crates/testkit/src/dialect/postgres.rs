//! How PostgreSQL spells what the laws say.

use super::{Ability, Dialect, Edge, Edges};
use crate::host;
use crate::workload::shop::Shop;

/// PostgreSQL's language.
pub struct Spoken;

impl Dialect for Spoken {
    fn has(&self, ability: Ability) -> bool {
        !matches!(ability, Ability::LogsStatements)
    }

    fn spell(&self, database: &str, word: &str, args: &[&str]) -> Option<String> {
        Some(match (word, args) {
            ("series", [a, b]) => format!("generate_series({a}, {b}) i"),
            ("instant", []) => "timestamptz".to_owned(),
            ("double", []) => "float8".to_owned(),
            ("key_text", []) => "text".to_owned(),
            ("list", []) => "text[]".to_owned(),
            ("instant_at", [ms]) => {
                format!(
                    "(timestamptz '2020-01-01 00:00:00+00' + ({ms}) * interval '1 millisecond')"
                )
            }
            ("large", [i, n]) => format!(
                "(SELECT string_agg(md5(({i})::text || n), '') FROM generate_series(1, {n}) n)"
            ),
            ("beside_large", []) => "SELECT 1".to_owned(),
            ("out_of_line", [table, column]) => {
                format!("ALTER TABLE {table} ALTER {column} SET STORAGE EXTERNAL")
            }
            ("whole_rows", [table]) => format!("ALTER TABLE {table} REPLICA IDENTITY FULL"),
            ("delete_some", [table, condition, n]) => format!(
                "DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} WHERE {condition} LIMIT {n})"
            ),
            ("update_some", [table, set, condition, n]) => format!(
                "UPDATE {table} SET {set} WHERE ctid IN (SELECT ctid FROM {table} WHERE {condition} LIMIT {n})"
            ),
            ("retype", [table, column, kind]) => {
                format!("ALTER TABLE {table} ALTER {column} TYPE {kind}")
            }
            ("rewrite", [table, column]) => format!(
                "ALTER TABLE {table} ALTER {column} TYPE bigint USING CASE WHEN {column} < 200 THEN {column} ELSE {column} * 10 END"
            ),
            ("add_computed", [table, column]) => {
                format!("ALTER TABLE {table} ADD COLUMN {column} uuid DEFAULT gen_random_uuid()")
            }
            ("swap_columns", [table, a, b]) => format!(
                "ALTER TABLE {table} RENAME {a} TO swapping; ALTER TABLE {table} RENAME {b} TO {a}; \
                 ALTER TABLE {table} RENAME swapping TO {b}"
            ),
            ("swap_tables", [a, b]) => format!(
                "ALTER TABLE {a} RENAME TO swapping; ALTER TABLE {b} RENAME TO {a}; ALTER TABLE swapping RENAME TO {b}"
            ),
            ("begin_open" | "begin_prepared", []) => "BEGIN".to_owned(),
            ("commit_open", []) => "COMMIT".to_owned(),
            ("prepare", []) => format!("PREPARE TRANSACTION '{database}'"),
            ("commit_prepared", []) => format!("COMMIT PREPARED '{database}'"),
            ("rollback_prepared", []) => format!("ROLLBACK PREPARED '{database}'"),
            ("rotate_log", []) => "SELECT pg_switch_wal()".to_owned(),
            ("lose_log", []) => {
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                 WHERE database = current_database()"
                    .to_owned()
            }
            ("end_log_readers", []) => {
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
                 WHERE database = current_database() AND active_pid IS NOT NULL"
                    .to_owned()
            }
            ("uuid", [text]) => format!("md5({text})::uuid"),
            ("negative_zero", []) => "-0.0::float8".to_owned(),
            ("log_end", []) => "SELECT pg_current_wal_insert_lsn()".to_owned(),
            ("kept_from", []) => slot("restart_lsn"),
            ("kept_past", [at]) => slot(&format!("restart_lsn > '{at}'")),
            ("confirmed_at", []) => slot("confirmed_flush_lsn"),
            ("confirmed_past", [at]) => slot(&format!("confirmed_flush_lsn > '{at}'")),
            ("hold_commits", []) => standby("ghost"),
            ("apply_settings", []) => "SELECT pg_reload_conf()".to_owned(),
            ("release_commits", []) => standby(""),
            ("commits_held", []) => {
                "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'".to_owned()
            }
            ("grant_log", [user]) => format!(
                "DROP ROLE IF EXISTS {user}; CREATE ROLE {user} LOGIN REPLICATION; \
                 GRANT CREATE ON DATABASE {database} TO {user}"
            ),
            ("forget_user", [user]) => format!("DROP OWNED BY {user}; DROP ROLE {user}"),
            _ => return None,
        })
    }

    fn prelude(&self) -> &'static str {
        "SET lock_timeout = '10s'; SET deadlock_timeout = '200ms'"
    }

    /// Deadlock, serialisation failure, lock timeout.
    fn lost_a_lock(&self, error: &str) -> bool {
        ["40P01", "40001", "55P03"].iter().any(|code| error.starts_with(code))
    }

    fn shop(&self) -> &'static Shop {
        &SHOP
    }

    fn edges(&self) -> Edges {
        Edges { prepare: PREPARE, values: EDGES, arrays: true }
    }

    fn literal(&self, kind: &str, value: &str) -> String {
        format!("{}::{kind}", host::sql_literal(value))
    }
}

fn slot(what: &str) -> String {
    format!("SELECT {what} FROM pg_replication_slots WHERE database = current_database()")
}

fn standby(name: &str) -> String {
    format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")
}

const SHOP: Shop = Shop {
    schema: r#"
CREATE TYPE order_state AS ENUM ('new', 'paid', 'on its way', 'done');
CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL, first_name text, last_name text, born date,
  tags text[], profile jsonb, active boolean NOT NULL DEFAULT true, created timestamptz NOT NULL);
CREATE TABLE products (sku text PRIMARY KEY, name varchar(80), price numeric(12,2), weight float8, attrs jsonb,
  picture bytea);
ALTER TABLE products ALTER picture SET STORAGE EXTERNAL;
ALTER TABLE products REPLICA IDENTITY FULL;
CREATE TABLE orders (id uuid PRIMARY KEY, customer bigint, state order_state, total numeric(12,2),
  placed timestamp, note text);
ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
CREATE TABLE order_items (order_no bigint, line int, sku text, quantity smallint, price numeric(12,2),
  PRIMARY KEY (order_no, line));
CREATE TABLE events (id bigint PRIMARY KEY, kind text, at timestamptz, payload json, body text, score float4,
  counters int[], clock time, free numeric);
ALTER TABLE events ALTER body SET STORAGE EXTERNAL;
CREATE TABLE visits (id bigint PRIMARY KEY, page text, seconds int);
"#,
    customers: "SELECT i::bigint, 'c' || i || '@example.org', \
        CASE WHEN i % 13 = 0 THEN NULL ELSE 'Zoë ' || i END, CASE WHEN i % 17 = 0 THEN '' ELSE 'O''Brien ' || i END, \
        date '1940-01-01' + i % 25000, \
        CASE WHEN i % 5 = 0 THEN NULL WHEN i % 5 = 1 THEN '{}' ELSE ARRAY['a' || i, NULL, 'x,\"y\"'] END, \
        jsonb_build_object('n', i, 'q', 'a\"b'), i % 3 <> 0, \
        timestamptz '2020-01-01 00:00:00.000001+00' + i * interval '61 seconds'",
    products: "SELECT 'P-' || i, left(md5(i::text), 20), (i % 100000) / 100.0, \
        CASE WHEN i % 9 = 0 THEN 'NaN'::float8 ELSE i / 7.0::float8 END, \
        CASE WHEN i % 4 = 0 THEN NULL ELSE jsonb_build_array(i, NULL, true) END, \
        CASE WHEN i % 10 = 0 THEN decode(repeat(md5(i::text), 80), 'hex') ELSE '\\x00ff' END",
    orders: "SELECT $uuid('order ' || i), i / 2, (ARRAY['new', 'paid', 'on its way', 'done'])[1 + i % 4]::order_state, \
        i / 3.0, timestamp '2021-06-30 23:59:59.999999' + i * interval '17 minutes', \
        CASE WHEN i % 20 = 0 THEN $large(i, 75) WHEN i % 3 = 0 THEN NULL ELSE E'line\\n' || i END",
    order_items: "SELECT i / 2, i % 2, 'P-' || i / 3, (i % 30)::smallint - 3, i / 11.0",
    events: "SELECT i::bigint, 'k' || i % 7, timestamptz '1999-12-31 23:59:59+00' + i * interval '1.000001 seconds', \
        json_build_object('a', i, 'b', ARRAY[1, NULL]), \
        CASE WHEN i % 8 = 0 THEN $large(i, 75) ELSE 'short ' || i END, (i / 3.0)::float4, \
        ARRAY[i, NULL, -1], time '00:00' + (i % 86400) * interval '1 second', i / 9.0",
    touch_customers: "email = email || '{salt}', tags = tags || 't{salt}'::text, active = NOT active, \
        first_name = NULLIF(first_name, ''), born = born + 1",
};

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
