//! MariaDB's spelling of the bench's tables and changes. Every value is a hash of the row's number.

use super::server::{Columns, DATABASE, Shape};

/// As a small production server, without syncing.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("innodb-buffer-pool-size", "1G"),
    ("innodb-log-file-size", "1G"),
    ("innodb-flush-log-at-trx-commit", "0"),
    ("max-binlog-size", "1G"),
];

/// The statements that make a table of this shape with keys 1 to `rows`.
pub(crate) fn fill(shape: Shape, rows: u64) -> Vec<String> {
    let table = shape.table();
    let columns = match shape {
        Shape::Narrow => narrow(),
        Shape::Taxi => taxi(),
        Shape::Wide => wide(),
    };
    let of = |part: fn(&(String, String, String)) -> String| {
        columns.iter().map(part).collect::<Vec<_>>().join(", ")
    };
    let values = of(|(_, _, value)| value.clone());
    let mut statements = vec![format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, {})",
        of(|(name, kind, _)| format!("{name} {kind}"))
    )];
    // in pieces: one transaction of everything would sit in the server's memory and log as a whole
    let piece = 500_000;
    for first in (1..=rows).step_by(piece) {
        let last = rows.min(first + piece as u64 - 1);
        statements.push(format!(
            "SET sql_log_bin = 0; INSERT INTO {table} SELECT i, {values} FROM (SELECT seq AS i FROM seq_{first}_to_{last}) s"
        ));
    }
    if shape == Shape::Narrow {
        statements.extend([CHANGE.to_owned(), CHURN.to_owned()]);
    }
    statements
}

fn column(name: &str, kind: &str, value: String) -> (String, String, String) {
    (name.to_owned(), kind.to_owned(), value)
}

fn hash(salt: u32) -> String {
    format!("(crc32(i * {} + {salt}) & 2147483647)", 2 * salt + 1)
}

fn instant(salt: u32) -> String {
    format!("timestamp'2020-01-01 00:00:00' + INTERVAL {} * 59000 MICROSECOND", hash(salt))
}

fn narrow() -> Vec<(String, String, String)> {
    vec![
        column("a", "int NOT NULL", format!("{} % 1000000", hash(1))),
        column("b", "int", hash(2)),
        column("amount", "decimal(12,2)", format!("({} % 100000000) / 100", hash(3))),
        column("at", "timestamp(6) NULL", instant(4)),
        column("note", "varchar(40)", "left(md5(i), 20)".to_owned()),
    ]
}

fn taxi() -> Vec<(String, String, String)> {
    let mut all = vec![
        column("vendor", "int", format!("1 + {} % 2", hash(1))),
        column("picked_up", "datetime(6)", instant(2)),
        column("dropped_off", "datetime(6)", instant(3)),
        column("passengers", "bigint", format!("1 + {} % 6", hash(4))),
        column("distance", "double", format!("({} % 3000) / 100", hash(5))),
        column("rate", "bigint", format!("1 + {} % 5", hash(6))),
        column("stored", "varchar(1)", format!("IF({} % 100 = 0, 'Y', 'N')", hash(7))),
        column("pick_up_zone", "int", format!("1 + {} % 265", hash(8))),
        column("drop_off_zone", "int", format!("1 + {} % 265", hash(9))),
        column("payment", "bigint", format!("1 + {} % 4", hash(10))),
    ];
    let money = ["fare", "extra", "tax", "tip", "tolls", "surcharge", "total", "congestion"];
    all.extend(money.iter().zip(11..).map(|(name, salt)| {
        column(name, "double", format!("({} % {}) / 100", hash(salt), 100 * (salt - 10)))
    }));
    all
}

fn wide() -> Vec<(String, String, String)> {
    let text = |salt: u32| format!("left(md5(i * {salt}), 4 + {} % 28)", hash(salt));
    let json =
        |salt: u32| format!("json_object('n', {}, 'tags', json_array({}))", hash(salt), text(salt));
    let kinds: [Columns<'_>; 8] = [
        (40, "n", "int", &|salt| format!("{} % 100000", hash(salt))),
        (20, "large", "bigint", &|salt| format!("{} * 1000", hash(salt))),
        (20, "real_", "double", &|salt| format!("{} / 7", hash(salt))),
        (10, "money", "decimal(12,2)", &|salt| format!("({} % 1000000) / 100", hash(salt))),
        (5, "at", "timestamp(6) NULL", &instant),
        (5, "day", "date", &|salt| {
            format!("date'2020-01-01' + INTERVAL {} % 2000 DAY", hash(salt))
        }),
        (15, "text_", "varchar(60)", &text),
        (4, "doc", "json", &json),
    ];
    let mut all = Vec::new();
    for (count, name, kind, value) in kinds {
        for n in 1..=count {
            let salt = all.len() as u32 + 1;
            all.push(column(&format!("{name}_{n}"), kind, value(salt)));
        }
    }
    all
}

/// As PostgreSQL's: six updates, three inserts, one delete, on rows that no other writer touches.
const CHANGE: &str = "
CREATE PROCEDURE ten_changes(step bigint, writer int, writers int, n bigint)
BEGIN
  DECLARE unit bigint DEFAULT 10 * writers;
  DECLARE units bigint DEFAULT greatest(n DIV (10 * writers), 1);
  DECLARE base bigint DEFAULT 10 * writer;
  UPDATE narrow SET a = a + 1, amount = amount + 0.01, at = at + INTERVAL 1 SECOND WHERE id IN (
    (crc32(step * 6 + 0) & 2147483647) % units * unit + base + 1,
    (crc32(step * 6 + 1) & 2147483647) % units * unit + base + 2,
    (crc32(step * 6 + 2) & 2147483647) % units * unit + base + 3,
    (crc32(step * 6 + 3) & 2147483647) % units * unit + base + 4,
    (crc32(step * 6 + 4) & 2147483647) % units * unit + base + 5,
    (crc32(step * 6 + 5) & 2147483647) % units * unit + base + 6);
  INSERT INTO narrow VALUES
    (n + 1000 + (step * 3 + 0) * writers + writer, step, 0, step / 100, timestamp'2024-01-01 00:00:00', left(md5(step), 20)),
    (n + 1000 + (step * 3 + 1) * writers + writer, step, 1, step / 100, timestamp'2024-01-01 00:00:00', left(md5(step + 1), 20)),
    (n + 1000 + (step * 3 + 2) * writers + writer, step, 2, step / 100, timestamp'2024-01-01 00:00:00', left(md5(step + 2), 20));
  DELETE FROM narrow WHERE id = (step * 7919) % units * unit + base + 10;
END";

/// Transactions of 10 to 1,000 changes.
const CHURN: &str = "
CREATE PROCEDURE churn(writer int, writers int, n bigint, first bigint, steps bigint)
BEGIN
  DECLARE step bigint DEFAULT first;
  DECLARE size bigint;
  WHILE step < first + steps DO
    SET size = least(1 + (crc32(step * 31 + writer) & 2147483647) % 100, first + steps - step);
    START TRANSACTION;
    WHILE size > 0 DO
      CALL ten_changes(step, writer, writers, n);
      SET step = step + 1;
      SET size = size - 1;
    END WHILE;
    COMMIT;
  END WHILE;
END";

pub(crate) fn source_lines(port: u16, tables: &str) -> Vec<String> {
    vec![
        "type: mysql".to_owned(),
        "host: 127.0.0.1".to_owned(),
        format!("port: {port}"),
        "user: root".to_owned(),
        format!("tables: [\"{DATABASE}.{tables}\"]"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_have_their_columns() {
        assert_eq!((narrow().len(), taxi().len(), wide().len()), (5, 18, 119));
    }
}
