//! PostgreSQL's spelling of the bench's tables and changes. Every value is a hash of the row's number, so that two runs
//! make the same data.

use super::server::{Columns, DATABASE, Shape};

/// As a small production server, but without syncing and without background work that would disturb a round.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("logical_decoding_work_mem", "64MB"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "32GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("full_page_writes", "off"),
];

/// The publication that all pipelines and raw readers of the large table share.
pub(crate) const PUBLICATION: &str = "bench";

/// A number of 31 bits, made from the row's number `i` and a salt.
fn hash(salt: u32) -> String {
    format!("(hashint8(i * {} + {salt}) & 2147483647)", 2 * salt + 1)
}

fn instant(salt: u32) -> String {
    format!("timestamptz '2020-01-01 00:00:00+00' + {} * interval '59 milliseconds'", hash(salt))
}

fn amount(salt: u32, below: u32) -> String {
    format!("({} % {below}) / 100.0", hash(salt))
}

/// The statements that make a table of this shape with keys 1 to `rows`.
pub(crate) fn fill(shape: Shape, rows: u64) -> Vec<String> {
    let table = shape.table();
    let columns = columns(shape);
    let of = |part: fn(&(String, String, String)) -> String| {
        columns.iter().map(part).collect::<Vec<_>>().join(", ")
    };
    let mut statements = vec![
        format!("CREATE TABLE {table} ({})", of(|(name, kind, _)| format!("{name} {kind}"))),
        format!(
            "INSERT INTO {table} SELECT {} FROM generate_series(1::bigint, {rows}) i",
            of(|(_, _, value)| value.clone())
        ),
        format!("ALTER TABLE {table} ADD PRIMARY KEY (id)"),
        format!("VACUUM ANALYZE {table}"),
    ];
    if shape == Shape::Narrow {
        statements.push(format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE {table}"));
        statements.extend([CHANGE.to_owned(), CHURN.to_owned()]);
    }
    statements
}

/// Name, type and value of each column.
fn columns(shape: Shape) -> Vec<(String, String, String)> {
    let mut all = vec![column("id", "bigint", "i".to_owned())];
    match shape {
        Shape::Narrow => all.extend([
            column("a", "int NOT NULL", format!("{} % 1000000", hash(1))),
            column("b", "int", hash(2)),
            column("amount", "numeric(12,2)", amount(3, 100_000_000)),
            column("at", "timestamptz", instant(4)),
            column("note", "text", "left(md5(i::text), 20)".to_owned()),
        ]),
        Shape::Taxi => all.extend(taxi()),
        Shape::Wide => all.extend(wide()),
    }
    all
}

fn column(name: &str, kind: &str, value: String) -> (String, String, String) {
    (name.to_owned(), kind.to_owned(), value)
}

fn taxi() -> Vec<(String, String, String)> {
    let mut all = vec![
        column("vendor", "int", format!("1 + {} % 2", hash(1))),
        column("picked_up", "timestamp", format!("({})::timestamp", instant(2))),
        column("dropped_off", "timestamp", format!("({})::timestamp", instant(3))),
        column("passengers", "bigint", format!("1 + {} % 6", hash(4))),
        column("distance", "float8", format!("({})::float8", amount(5, 3_000))),
        column("rate", "bigint", format!("1 + {} % 5", hash(6))),
        column("stored", "text", format!("CASE WHEN {} % 100 = 0 THEN 'Y' ELSE 'N' END", hash(7))),
        column("pick_up_zone", "int", format!("1 + {} % 265", hash(8))),
        column("drop_off_zone", "int", format!("1 + {} % 265", hash(9))),
        column("payment", "bigint", format!("1 + {} % 4", hash(10))),
    ];
    let money = ["fare", "extra", "tax", "tip", "tolls", "surcharge", "total", "congestion"];
    all.extend(money.iter().zip(11..).map(|(name, salt)| {
        column(name, "float8", format!("({})::float8", amount(salt, 100 * (salt - 10))))
    }));
    all
}

fn wide() -> Vec<(String, String, String)> {
    let text = |salt: u32| format!("left(md5((i * {salt})::text), 4 + ({} % 28)::int)", hash(salt));
    let json = |salt: u32| {
        format!(
            "jsonb_build_object('n', {}, 'tags', jsonb_build_array({}))",
            hash(salt),
            text(salt)
        )
    };
    let kinds: [Columns<'_>; 8] = [
        (40, "n", "int", &|salt| format!("{} % 100000", hash(salt))),
        (20, "large", "bigint", &|salt| format!("{}::bigint * 1000", hash(salt))),
        (20, "real", "float8", &|salt| format!("{}::float8 / 7", hash(salt))),
        (10, "money", "numeric(12,2)", &|salt| amount(salt, 1_000_000)),
        (5, "at", "timestamptz", &instant),
        (5, "day", "date", &|salt| format!("date '2020-01-01' + ({} % 2000)::int", hash(salt))),
        (15, "text", "text", &text),
        (4, "doc", "jsonb", &json),
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

/// Ten changes: six updates, three inserts, one delete. Writers never touch each other's rows: the ids are cut into units of
/// ten for each writer; of a unit 1 to 6 are updated, 10 is deleted, and what is inserted lies above all rows.
const CHANGE: &str = "
CREATE PROCEDURE ten_changes(step bigint, writer int, writers int, total bigint) LANGUAGE plpgsql AS $$
DECLARE
  unit bigint := 10 * writers;
  units bigint := greatest(total / (10 * writers), 1);
  base bigint := 10 * writer;
BEGIN
  UPDATE narrow SET a = a + 1, amount = amount + 0.01, at = at + interval '1 second'
    WHERE id = ANY(ARRAY[
      (hashint8(step * 6 + 0) & 2147483647) % units * unit + base + 1,
      (hashint8(step * 6 + 1) & 2147483647) % units * unit + base + 2,
      (hashint8(step * 6 + 2) & 2147483647) % units * unit + base + 3,
      (hashint8(step * 6 + 3) & 2147483647) % units * unit + base + 4,
      (hashint8(step * 6 + 4) & 2147483647) % units * unit + base + 5,
      (hashint8(step * 6 + 5) & 2147483647) % units * unit + base + 6]);
  INSERT INTO narrow SELECT total + 1000 + (step * 3 + n) * writers + writer, step, n, step / 100.0,
    timestamptz '2024-01-01 00:00:00+00' + step * interval '1 second', left(md5((step + n)::text), 20)
    FROM generate_series(0, 2) n;
  DELETE FROM narrow WHERE id = (step * 7919) % units * unit + base + 10;
END $$";

/// Transactions of 10 to 1,000 changes.
const CHURN: &str = "
CREATE PROCEDURE churn(writer int, writers int, total bigint, first bigint, steps bigint) LANGUAGE plpgsql AS $$
DECLARE
  step bigint := first;
  size bigint;
BEGIN
  WHILE step < first + steps LOOP
    size := least(1 + (hashint8(step * 31 + writer) & 2147483647) % 100, first + steps - step);
    FOR n IN 1..size LOOP
      CALL ten_changes(step, writer, writers, total);
      step := step + 1;
    END LOOP;
    COMMIT;
  END LOOP;
END $$";

/// Drops a pipeline's slot, whoever reads it.
pub(crate) fn drop_slot(slot: &str) -> String {
    format!(
        "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots \
         WHERE slot_name = '{slot}' AND active_pid IS NOT NULL; \
         SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    )
}

/// Makes a slot that stands where another stands.
pub(crate) fn copy_slot(from: &str, to: &str) -> String {
    format!("SELECT pg_copy_logical_replication_slot('{from}', '{to}')")
}

pub(crate) fn source_lines(port: u16, slot: &str, tables: &str) -> Vec<String> {
    let mut lines = vec![
        "type: postgres".to_owned(),
        "host: 127.0.0.1".to_owned(),
        format!("port: {port}"),
        format!("database: {DATABASE}"),
        "user: postgres".to_owned(),
        format!("slot: {slot}"),
    ];
    if tables == Shape::Narrow.table() {
        lines.push(format!("publication: {PUBLICATION}"));
    }
    lines.push(format!("tables: [\"public.{tables}\"]"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_have_their_columns() {
        assert_eq!(columns(Shape::Narrow).len(), 6);
        assert_eq!(columns(Shape::Taxi).len(), 19);
        assert_eq!(columns(Shape::Wide).len(), 120);
    }
}
