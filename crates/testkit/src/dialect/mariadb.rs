//! How MariaDB spells what the laws say.

use super::{Ability, Dialect, Edge, Edges};
use crate::host;
use crate::workload::shop::Shop;

/// MariaDB's language.
pub struct Spoken;

impl Dialect for Spoken {
    fn has(&self, ability: Ability) -> bool {
        !matches!(ability, Ability::TransactionalDdl | Ability::KeepsLog)
    }

    fn spell(&self, database: &str, word: &str, args: &[&str]) -> Option<String> {
        Some(match (word, args) {
            ("series", [a, b]) => {
                format!("(SELECT CAST(seq AS signed) AS i FROM seq_{a}_to_{b}) s")
            }
            ("instant", []) => "timestamp(6)".to_owned(),
            ("double", []) => "double".to_owned(),
            ("key_text", []) => "varchar(100)".to_owned(),
            ("list", []) => "text".to_owned(),
            ("instant_at", [ms]) => {
                format!("TIMESTAMPADD(MICROSECOND, 1000 * ({ms}), '2020-01-01 00:00:00.000000')")
            }
            ("large", [i, n]) => format!("repeat(md5('' || ({i})), {n})"),
            ("beside_large", []) => "SET SESSION binlog_row_image = NOBLOB".to_owned(),
            ("out_of_line", [_, _]) | ("whole_rows", [_]) | ("apply_settings", []) => {
                "DO 0".to_owned()
            }
            ("delete_some", [table, condition, n]) => {
                format!("DELETE FROM {table} WHERE {condition} LIMIT {n}")
            }
            ("update_some", [table, set, condition, n]) => {
                format!("UPDATE {table} SET {set} WHERE {condition} LIMIT {n}")
            }
            ("retype", [table, column, kind]) => {
                format!("ALTER TABLE {table} MODIFY {column} {kind}")
            }
            ("rewrite", [table, column]) => format!(
                "SET sql_mode = 'PIPES_AS_CONCAT'; ALTER TABLE {table} MODIFY {column} tinyint unsigned; \
                 ALTER TABLE {table} MODIFY {column} bigint"
            ),
            ("add_computed", [table, column]) => {
                format!("ALTER TABLE {table} ADD COLUMN {column} varchar(40) DEFAULT uuid()")
            }
            ("swap_columns", [table, a, b]) => {
                format!("ALTER TABLE {table} RENAME COLUMN {a} TO {b}, RENAME COLUMN {b} TO {a}")
            }
            ("swap_tables", [a, b]) => {
                format!("RENAME TABLE {a} TO swapping, {b} TO {a}, swapping TO {b}")
            }
            ("begin_open" | "begin_prepared", []) => format!("XA START '{database}'"),
            ("commit_open", []) => {
                format!("XA END '{database}'; XA PREPARE '{database}'; XA COMMIT '{database}'")
            }
            ("prepare", []) => format!("XA END '{database}'; XA PREPARE '{database}'"),
            ("commit_prepared", []) => format!("XA COMMIT '{database}'"),
            ("rollback_prepared", []) => format!("XA ROLLBACK '{database}'"),
            ("rotate_log", []) => "FLUSH BINARY LOGS".to_owned(),
            // an older file is needed for a moment longer, by the engine's own recovery
            ("lose_log", []) => {
                "FLUSH BINARY LOGS; DO sleep(3); PURGE BINARY LOGS BEFORE '2037-01-01 00:00:00'"
                    .to_owned()
            }
            ("end_log_readers", []) => END_LOG_READERS.to_owned(),
            ("as_statement", []) => {
                "SET SESSION tx_isolation = 'REPEATABLE-READ', binlog_format = STATEMENT".to_owned()
            }
            ("hold_commits", []) => HOLD_COMMITS.to_owned(),
            ("release_commits", []) => "SET GLOBAL rpl_semi_sync_master_enabled = OFF".to_owned(),
            ("commits_held", []) => COMMITS_HELD.to_owned(),
            // not every 16 bytes are a uuid here: version 4 of the usual variant
            ("uuid", [text]) => {
                format!("CAST(insert(insert(md5({text}), 13, 1, '4'), 17, 1, 'a') AS uuid)")
            }
            ("negative_zero", []) => "-0e0".to_owned(),
            ("grant_log", [user]) => format!(
                "CREATE OR REPLACE USER {user}@'127.0.0.1'; GRANT REPLICATION SLAVE, BINLOG MONITOR, \
                 SLAVE MONITOR ON *.* TO {user}@'127.0.0.1'; GRANT INSERT ON {database}.* TO {user}@'127.0.0.1'"
            ),
            ("forget_user", [user]) => format!("DROP USER {user}@'127.0.0.1'"),
            _ => return None,
        })
    }

    fn prelude(&self) -> &'static str {
        "SET SESSION sql_mode = 'PIPES_AS_CONCAT,STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,\
         NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 3, lock_wait_timeout = 3, \
         tx_isolation = 'READ-COMMITTED'"
    }

    /// Deadlock, lock timeout.
    fn lost_a_lock(&self, error: &str) -> bool {
        // 11.8 now and then cannot write a transaction's own temporary file (EFAULT): the transaction is lost with it.
        let file_is_lost = error.starts_with("3:") && error.contains("Errcode: 14");
        file_is_lost || ["1213:", "1205:"].iter().any(|code| error.starts_with(code))
    }

    fn shop(&self) -> &'static Shop {
        &SHOP
    }

    fn edges(&self) -> Edges {
        Edges { prepare: "DO 0", values: EDGES, arrays: false }
    }

    fn literal(&self, kind: &str, value: &str) -> String {
        let literal = host::sql_literal(&value.replace('\\', "\\\\"));
        match kind {
            _ if kind.contains("binary") || kind.ends_with("blob") => format!("x{literal}"),
            _ if kind.starts_with("bit") => format!("b{literal}"),
            "boolean" => value.to_owned(),
            "point" => format!("ST_GeomFromText({literal})"),
            _ => literal,
        }
    }
}

/// The log's readers carry no database: all of the server's are ended.
const END_LOG_READERS: &str = "BEGIN NOT ATOMIC \
     FOR reader IN (SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%') DO \
     KILL reader.id; END FOR; END";

/// The log gets a transaction, then the commit waits for a replica's word.
const HOLD_COMMITS: &str = "SET GLOBAL rpl_semi_sync_master_timeout = 600000, \
     GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC, GLOBAL rpl_semi_sync_master_enabled = ON";

const COMMITS_HELD: &str = "SELECT variable_value = 1 FROM information_schema.global_status \
     WHERE variable_name = 'rpl_semi_sync_master_wait_sessions'";

const SHOP: Shop = Shop {
    schema: "
CREATE TABLE customers (id bigint PRIMARY KEY, email varchar(400) NOT NULL, first_name varchar(100), last_name varchar(100),
  born date, tags set('a', 'b', 'x y'), profile json, active boolean NOT NULL DEFAULT true, created timestamp(6) NOT NULL);
CREATE TABLE products (sku varchar(200) PRIMARY KEY, name varchar(80), price decimal(12,2), weight double, attrs json,
  picture mediumblob);
CREATE TABLE orders (id uuid PRIMARY KEY, customer bigint, state enum('new', 'paid', 'on its way', 'done'),
  total decimal(12,2), placed datetime(6), note text);
CREATE TABLE order_items (order_no bigint, line int, sku varchar(200), quantity smallint, price decimal(12,2),
  PRIMARY KEY (order_no, line));
CREATE TABLE events (id bigint PRIMARY KEY, kind varchar(60), at timestamp(6) NULL, payload json, body mediumtext,
  score float, counters varbinary(40), clock time(6), free decimal(38,10));
CREATE TABLE visits (id bigint PRIMARY KEY, page varchar(100), seconds mediumint unsigned);
",
    customers: "SELECT i, 'c' || i || '@example.org', if(i % 13 = 0, NULL, 'Zoë ' || i), \
        if(i % 17 = 0, '', 'O''Brien ' || i), date_add('1940-01-01', INTERVAL i % 25000 DAY), \
        CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'a' ELSE 'a,x y' END, \
        json_object('n', i, 'q', 'a\"b'), i % 3 <> 0, \
        timestampadd(SECOND, 61 * (i % 10000000), '2020-01-01 00:00:00.000001')",
    products: "SELECT 'P-' || i, left(md5('' || i), 20), (i % 100000) / 100, \
        if(i % 9 = 0, -1e300, i / 7e0), if(i % 4 = 0, NULL, json_array(i, NULL, true)), \
        if(i % 10 = 0, unhex(repeat(md5('' || i), 80)), x'00ff')",
    orders: "SELECT $uuid('order ' || i), i DIV 2, elt(1 + i % 4, 'new', 'paid', 'on its way', 'done'), i / 3, \
        timestampadd(MINUTE, 17 * (i % 10000000), '2021-06-30 23:59:59.999999'), \
        CASE WHEN i % 20 = 0 THEN $large(i, 75) WHEN i % 3 = 0 THEN NULL ELSE 'line\\n' || i END",
    order_items: "SELECT i DIV 2, i % 2, 'P-' || (i DIV 3), i % 30 - 3, i / 11",
    events: "SELECT i, 'k' || (i % 7), timestampadd(MICROSECOND, 1000001 * (i % 100000000), '1999-12-31 23:59:59'), \
        json_object('a', i, 'b', json_array(1, NULL)), if(i % 8 = 0, $large(i, 75), 'short ' || i), i / 3, \
        left(unhex(md5('' || i)), i % 17), sec_to_time(i % 86400), i / 9",
    touch_customers: "email = left(email || '{salt}', 390), tags = if({salt} % 2 = 0, 'b', 'a,b'), \
        active = NOT active, first_name = NULLIF(first_name, ''), born = born + INTERVAL 1 DAY",
};

const EDGES: &[Edge] = &[
    ("boolean", ["true", "false", "1", "0", "-1", "127"]),
    ("tinyint", ["-128", "127", "0", "-1", "1", "100"]),
    ("tinyint unsigned", ["0", "255", "128", "127", "1", "200"]),
    ("smallint", ["-32768", "32767", "0", "-1", "1", "256"]),
    ("smallint unsigned", ["0", "65535", "32768", "32767", "1", "256"]),
    ("mediumint", ["-8388608", "8388607", "0", "-1", "1", "65536"]),
    ("mediumint unsigned", ["0", "16777215", "8388608", "8388607", "1", "65536"]),
    ("int", ["-2147483648", "2147483647", "0", "-1", "65536", "10"]),
    ("int unsigned", ["0", "4294967295", "2147483648", "2147483647", "1", "10"]),
    (
        "bigint",
        [
            "-9223372036854775808",
            "9223372036854775807",
            "0",
            "-1",
            "4294967296",
            "9007199254740993",
        ],
    ),
    (
        "bigint unsigned",
        [
            "0",
            "18446744073709551615",
            "9223372036854775808",
            "9223372036854775807",
            "1",
            "9007199254740993",
        ],
    ),
    ("float", ["-0e0", "1e-38", "3.40282e38", "-3.40282e38", "0.1", "16777216"]),
    (
        "double",
        [
            "-0e0",
            "1e-300",
            "2.2250738585072014e-308",
            "1.7976931348623157e308",
            "0.30000000000000004",
            "-1",
        ],
    ),
    (
        "decimal(38,10)",
        [
            "9999999999999999999999999999.9999999999",
            "-9999999999999999999999999999.9999999999",
            "0",
            "0.0000000001",
            "-0.5",
            "10000",
        ],
    ),
    ("decimal(5,0)", ["99999", "-99999", "0", "1", "-1", "10000"]),
    ("decimal(20,19)", ["9.9999999999999999999", "-0.0000000000000000001", "0", "1", "0.1", "-9"]),
    ("decimal(10,2) unsigned", ["99999999.99", "0.01", "0", "1", "0.1", "9"]),
    (
        "decimal(65,30)",
        [
            "99999999999999999999999999999999999.999999999999999999999999999999",
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "0",
            "0.000000000000000000000000000001",
            "-1.5",
            "123456789.123456789",
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
    ("varchar(10) CHARACTER SET latin1", ["", "é", "€", "ß", "  x ", "ÿ"]),
    ("char(5)", ["", "a", "ab ", "abcde", "é", "  x"]),
    ("mediumtext", ["", "a", "\n", "é", "😀", "  x  "]),
    ("binary(4)", ["00000000", "ff00ff00", "0000", "61", "ffffffff", "20202020"]),
    ("varbinary(10)", ["", "00", "ff00ff", "5c78", "0a0d09", "c3a900"]),
    ("blob", ["", "00", "ff00ff", "5c78", "0a0d09", "c3a9"]),
    ("date", ["0001-01-01", "9999-12-31", "1969-12-31", "1970-01-01", "2000-02-29", "1582-10-10"]),
    (
        "time(6)",
        [
            "00:00:00",
            "23:59:59.999999",
            "00:00:00.000001",
            "12:00:00",
            "01:02:03.4",
            "19:59:59.000010",
        ],
    ),
    ("time", ["00:00:00", "23:59:59", "00:00:01", "12:00:00", "01:02:03", "19:59:59"]),
    (
        "time(3)",
        ["00:00:00", "23:59:59.999", "00:00:00.001", "12:00", "01:02:03.4", "19:00:00.010"],
    ),
    (
        "datetime(6)",
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
        "datetime",
        [
            "0001-01-01 00:00:00",
            "9999-12-31 23:59:59",
            "1969-12-31 23:59:59",
            "1970-01-01 00:00:00",
            "2000-02-29 12:34:56",
            "1582-10-10 00:00:00",
        ],
    ),
    (
        "timestamp(6)",
        [
            "1970-01-01 00:00:01",
            "2038-01-19 03:14:07.999999",
            "2000-02-29 12:34:56.7",
            "2026-03-29 02:30:00",
            "1999-12-31 23:59:59.000001",
            "1970-01-02 00:00:00",
        ],
    ),
    (
        "timestamp",
        [
            "1970-01-01 00:00:01",
            "2038-01-19 03:14:07",
            "2000-02-29 12:34:56",
            "2026-03-29 02:30:00",
            "1999-12-31 23:59:59",
            "1970-01-02 00:00:00",
        ],
    ),
    ("year", ["0000", "1901", "2155", "1970", "2000", "2026"]),
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
        "enum('calm', 'so so', 'comma, quote \" brace }', 'NULL', 'é', 'x')",
        ["calm", "so so", "comma, quote \" brace }", "NULL", "é", "x"],
    ),
    ("set('a', 'b c', 'é')", ["", "a", "b c", "a,é", "a,b c,é", "é"]),
    ("bit(12)", ["0", "1", "101010101010", "000", "111", "111111111111"]),
    ("bit(1)", ["0", "1", "0", "1", "0", "1"]),
    (
        "uuid",
        [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-4fff-bfff-ffffffffffff",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "01234567-89ab-7def-8123-456789abcdef",
            "80000000-0000-1000-8000-000000000000",
            "00000000-0000-5000-a000-000000000001",
        ],
    ),
    (
        "inet6",
        [
            "::7f00:1",
            "::",
            "::1",
            "fe80::1",
            "::ffff:1.2.3.4",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ],
    ),
    (
        "point",
        [
            "POINT(1 2)",
            "POINT(0 0)",
            "POINT(1e300 1e-300)",
            "POINT(0.1 0.2)",
            "POINT(3 4)",
            "POINT(-1 1)",
        ],
    ),
];
