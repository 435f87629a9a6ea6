//! The shop: tables with every kind of key and value, and one connection's random statements.

use super::{Kind, Random};

/// The tables, without rows. `events.body` and `products.picture` are stored out of line and
/// uncompressed, so that an update beside them leaves them out of the log.
pub const SCHEMA: &str = r#"
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
"#;

/// How many rows the tables start with.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rows of `customers`; the other tables are multiples of it.
    pub customers: u64,
}

/// The order number of the `n`-th order, as a UUID expression over `i`.
const ORDER_ID: &str = "md5('order ' || i)::uuid";

/// A large text over `i`, out of line, about 2.4 kB.
const BODY: &str = "(SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 75) n)";

impl Size {
    /// Rows of all tables.
    pub fn rows(self) -> u64 {
        self.customers * 9
    }

    /// Statements that fill the tables.
    pub fn fill(self) -> Vec<String> {
        let n = self.customers;
        vec![
            customers(1, n),
            products(1, n),
            orders(1, n * 2),
            order_items(1, n * 2),
            events(1, n),
            visits(1, n * 2),
        ]
    }
}

fn series(from: u64, rows: u64) -> String {
    format!("generate_series({from}::bigint, {}::bigint) i", from + rows - 1)
}

fn customers(from: u64, rows: u64) -> String {
    format!(
        "INSERT INTO customers (id, email, first_name, last_name, born, tags, profile, active, created) SELECT i, \
         'c' || i || '@example.org', CASE WHEN i % 13 = 0 THEN NULL ELSE 'Zoë ' || i END, \
         CASE WHEN i % 17 = 0 THEN '' ELSE 'O''Brien ' || i END, date '1940-01-01' + (i % 25000)::int, \
         CASE WHEN i % 5 = 0 THEN NULL WHEN i % 5 = 1 THEN '{{}}' ELSE ARRAY['a' || i, NULL, 'x,\"y\"'] END, \
         jsonb_build_object('n', i, 'q', 'a\"b'), i % 3 <> 0, \
         timestamptz '2020-01-01 00:00:00.000001+00' + i * interval '61 seconds' FROM {}",
        series(from, rows)
    )
}

fn products(from: u64, rows: u64) -> String {
    format!(
        "INSERT INTO products (sku, name, price, weight, attrs, picture) SELECT 'P-' || i, left(md5(i::text), 20), \
         (i % 100000) / 100.0, CASE WHEN i % 9 = 0 THEN 'NaN'::float8 ELSE i / 7.0::float8 END, \
         CASE WHEN i % 4 = 0 THEN NULL ELSE jsonb_build_array(i, NULL, true) END, \
         CASE WHEN i % 10 = 0 THEN decode(repeat(md5(i::text), 80), 'hex') ELSE '\\x00ff' END FROM {}",
        series(from, rows)
    )
}

fn orders(from: u64, rows: u64) -> String {
    format!(
        "INSERT INTO orders (id, customer, state, total, placed, note) SELECT {ORDER_ID}, i / 2, \
         (ARRAY['new', 'paid', 'on its way', 'done'])[1 + i % 4]::order_state, i / 3.0, \
         timestamp '2021-06-30 23:59:59.999999' + i * interval '17 minutes', \
         CASE WHEN i % 20 = 0 THEN {BODY} WHEN i % 3 = 0 THEN NULL ELSE 'line\n' || i END FROM {}",
        series(from, rows)
    )
}

fn order_items(from: u64, rows: u64) -> String {
    format!(
        "INSERT INTO order_items (order_no, line, sku, quantity, price) SELECT i / 2, i % 2, 'P-' || i / 3, \
         (i % 30)::smallint - 3, i / 11.0 FROM {}",
        series(from, rows)
    )
}

fn events(from: u64, rows: u64) -> String {
    format!(
        "INSERT INTO events (id, kind, at, payload, body, score, counters, clock, free) SELECT i, 'k' || i % 7, \
         timestamptz '1999-12-31 23:59:59+00' + i * interval '1.000001 seconds', \
         json_build_object('a', i, 'b', ARRAY[1, NULL]), \
         CASE WHEN i % 8 = 0 THEN {BODY} ELSE 'short ' || i END, (i / 3.0)::float4, \
         ARRAY[i::int, NULL, -1], time '00:00' + (i % 86400) * interval '1 second', i / 9.0 FROM {}",
        series(from, rows)
    )
}

fn visits(from: u64, rows: u64) -> String {
    format!(
        "INSERT INTO visits (id, page, seconds) SELECT i, '/p/' || i % 100, (i % 600)::int FROM {}",
        series(from, rows)
    )
}

/// The statements of one connection. Ids of its inserts are its own; it changes any row.
pub struct Shopper {
    random: Random,
    size: Size,
    next: u64,
    first: u64,
}

impl Shopper {
    /// The `me`-th connection of a run.
    pub fn new(random: Random, size: Size, me: u64) -> Shopper {
        let first = (me + 1) * 100_000_000;
        Shopper { random, size, next: first, first }
    }

    /// The generator, for decisions about transactions.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The next statement of up to `rows` rows.
    pub fn statement(&mut self, rows: u64) -> (Kind, String) {
        let kind = self.random.weighted(&[
            (40, Kind::Insert),
            (25, Kind::Update),
            (10, Kind::UpdateBesideToast),
            (5, Kind::UpdateToast),
            (8, Kind::KeyChange),
            (12, Kind::Delete),
        ]);
        let kind = kind.unwrap_or(Kind::Insert);
        let rows = self.random.between(1, rows.max(1) + 1);
        let sql = match kind {
            Kind::Insert => self.insert(rows),
            Kind::Update => self.update(rows),
            Kind::UpdateBesideToast => self.update_beside_toast(rows),
            Kind::UpdateToast => self.update_toast(rows.min(20)),
            Kind::KeyChange => self.change_key(rows.min(10)),
            Kind::Delete => self.delete(rows),
        };
        (kind, sql)
    }

    /// New rows in one table.
    pub fn insert(&mut self, rows: u64) -> String {
        let from = self.next;
        self.next += rows;
        match self.random.below(6) {
            0 => customers(from, rows),
            1 => products(from, rows),
            2 => orders(from, rows),
            3 => order_items(from * 2, rows * 2),
            4 => events(from, rows),
            _ => visits(from, rows),
        }
    }

    /// The start of a range of rows: old ones or this connection's own.
    fn place(&mut self, multiple: u64) -> u64 {
        if self.next > self.first && self.random.chance(50) {
            return self.random.between(self.first, self.next);
        }
        self.random.between(1, self.size.customers * multiple)
    }

    fn update(&mut self, rows: u64) -> String {
        let salt = self.random.below(1000);
        let a = self.place(1);
        let b = a + rows - 1;
        match self.random.below(5) {
            0 => format!(
                "UPDATE customers SET email = email || '{salt}', tags = tags || 't{salt}'::text, active = NOT active, \
                 first_name = NULLIF(first_name, ''), born = born + 1 WHERE id BETWEEN {a} AND {b}"
            ),
            1 => format!(
                "UPDATE orders SET state = 'paid', total = {salt}.5 WHERE id IN (SELECT {ORDER_ID} FROM {})",
                series(a, rows)
            ),
            2 => format!(
                "UPDATE order_items SET quantity = {salt}, price = NULL WHERE order_no BETWEEN {a} AND {b} AND line < 2"
            ),
            3 => format!(
                "UPDATE visits SET seconds = {salt}, page = '' WHERE id BETWEEN {a} AND {b}"
            ),
            _ => format!(
                "UPDATE products SET price = {salt}.25, weight = -0.0::float8 \
                 WHERE sku IN (SELECT 'P-' || i FROM {})",
                series(a, rows)
            ),
        }
    }

    fn update_beside_toast(&mut self, rows: u64) -> String {
        let (a, salt) = (self.place(1), self.random.below(1000));
        let b = a + rows - 1;
        match self.random.below(2) {
            0 => format!(
                "UPDATE events SET kind = 'u{salt}', score = {salt} WHERE id BETWEEN {a} AND {b}"
            ),
            _ => format!(
                "UPDATE orders SET customer = {salt} WHERE id IN (SELECT {ORDER_ID} FROM {})",
                series(a, rows)
            ),
        }
    }

    fn update_toast(&mut self, rows: u64) -> String {
        let (a, salt) = (self.place(1), self.random.below(1000));
        format!(
            "UPDATE events SET body = (SELECT string_agg(md5(id::text || n || '{salt}'), '') \
             FROM generate_series(1, 80) n) WHERE id BETWEEN {a} AND {}",
            a + rows - 1
        )
    }

    fn change_key(&mut self, rows: u64) -> String {
        let a = self.place(1);
        let fresh = self.next;
        self.next += rows + 1;
        let b = a + rows - 1;
        match self.random.below(4) {
            0 => format!(
                "UPDATE products SET sku = sku || '-{fresh}' WHERE sku IN (SELECT 'P-' || i FROM {})",
                series(a, rows)
            ),
            1 => format!(
                "UPDATE order_items SET line = line + {} WHERE order_no BETWEEN {a} AND {b}",
                fresh % 100_000_000 + 2
            ),
            2 => format!("UPDATE events SET id = id - {a} + {fresh} WHERE id BETWEEN {a} AND {b}"),
            _ => format!(
                "UPDATE orders SET id = md5('moved ' || id || '{fresh}')::uuid \
                 WHERE id IN (SELECT {ORDER_ID} FROM {})",
                series(a, rows)
            ),
        }
    }

    fn delete(&mut self, rows: u64) -> String {
        let a = self.place(1);
        let b = a + rows - 1;
        match self.random.below(6) {
            0 => format!("DELETE FROM customers WHERE id BETWEEN {a} AND {b}"),
            1 => format!(
                "DELETE FROM products WHERE sku IN (SELECT 'P-' || i FROM {})",
                series(a, rows)
            ),
            2 => format!(
                "DELETE FROM orders WHERE id IN (SELECT {ORDER_ID} FROM {})",
                series(a, rows)
            ),
            3 => format!("DELETE FROM order_items WHERE order_no BETWEEN {a} AND {b}"),
            4 => format!("DELETE FROM events WHERE id BETWEEN {a} AND {b}"),
            _ => format!("DELETE FROM visits WHERE id BETWEEN {a} AND {b}"),
        }
    }
}
