//! The shop: tables with every kind of key and value, and one connection's random statements.

use super::{Kind, Random};

/// The shop in the words of one server: what the tables are, and what their rows hold. Large
/// values are such that an update beside them may leave them out of the log.
pub struct Shop {
    /// The tables, without rows: `customers`, `products`, `orders`, `order_items`, `events`, `visits`.
    pub schema: &'static str,
    /// The columns of a customer, as a `SELECT` over `i` without its `FROM`.
    pub customers: &'static str,
    /// The columns of a product.
    pub products: &'static str,
    /// The columns of an order; its id is `$uuid('order ' || i)`.
    pub orders: &'static str,
    /// The columns of an order's line.
    pub order_items: &'static str,
    /// The columns of an event.
    pub events: &'static str,
    /// What an update of customers sets; `{salt}` is some number.
    pub touch_customers: &'static str,
}

/// How many rows the tables start with.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rows of `customers`; the other tables are multiples of it.
    pub customers: u64,
}

impl Size {
    /// Rows of all tables.
    pub fn rows(self) -> u64 {
        self.customers * 9
    }
}

impl Shop {
    /// Statements that fill the tables.
    pub fn fill(&self, size: Size) -> Vec<String> {
        let n = size.customers;
        vec![
            self.customers(1, n),
            self.products(1, n),
            self.orders(1, n * 2),
            self.order_items(1, n * 2),
            self.events(1, n),
            visits(1, n * 2),
        ]
    }

    fn customers(&self, from: u64, rows: u64) -> String {
        let columns = "id, email, first_name, last_name, born, tags, profile, active, created";
        format!("INSERT INTO customers ({columns}) {} FROM {}", self.customers, series(from, rows))
    }

    fn products(&self, from: u64, rows: u64) -> String {
        let columns = "sku, name, price, weight, attrs, picture";
        format!("INSERT INTO products ({columns}) {} FROM {}", self.products, series(from, rows))
    }

    fn orders(&self, from: u64, rows: u64) -> String {
        let columns = "id, customer, state, total, placed, note";
        format!("INSERT INTO orders ({columns}) {} FROM {}", self.orders, series(from, rows))
    }

    fn order_items(&self, from: u64, rows: u64) -> String {
        let (columns, rows) = ("order_no, line, sku, quantity, price", series(from, rows));
        format!("INSERT INTO order_items ({columns}) {} FROM {rows}", self.order_items)
    }

    fn events(&self, from: u64, rows: u64) -> String {
        let columns = "id, kind, at, payload, body, score, counters, clock, free";
        format!("INSERT INTO events ({columns}) {} FROM {}", self.events, series(from, rows))
    }
}

fn series(from: u64, rows: u64) -> String {
    format!("$series({from}, {})", from + rows - 1)
}

fn visits(from: u64, rows: u64) -> String {
    format!(
        "INSERT INTO visits (id, page, seconds) SELECT i, '/p/' || (i % 100), i % 600 FROM {}",
        series(from, rows)
    )
}

/// The rows of an order's number, in a `WHERE`.
fn orders_of(from: u64, rows: u64) -> String {
    let ids: Vec<_> = (from..from + rows).map(|i| format!("$uuid('order {i}')")).collect();
    format!("id IN ({})", ids.join(", "))
}

/// The rows of a product's number, in a `WHERE`.
fn products_of(from: u64, rows: u64) -> String {
    let skus: Vec<_> = (from..from + rows).map(|i| format!("'P-{i}'")).collect();
    format!("sku IN ({})", skus.join(", "))
}

/// The statements of one connection. Ids of its inserts are its own; it changes any row.
pub struct Shopper {
    shop: &'static Shop,
    random: Random,
    size: Size,
    next: u64,
    first: u64,
}

impl Shopper {
    /// The `me`-th connection of a run.
    pub fn new(shop: &'static Shop, random: Random, size: Size, me: u64) -> Shopper {
        let first = (me + 1) * 100_000_000;
        Shopper { shop, random, size, next: first, first }
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
            0 => self.shop.customers(from, rows),
            1 => self.shop.products(from, rows),
            2 => self.shop.orders(from, rows),
            3 => self.shop.order_items(from * 2, rows * 2),
            4 => self.shop.events(from, rows),
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
            0 => {
                let set = self.shop.touch_customers.replace("{salt}", &salt.to_string());
                format!("UPDATE customers SET {set} WHERE id BETWEEN {a} AND {b}")
            }
            1 => format!(
                "UPDATE orders SET state = 'paid', total = {salt}.5 WHERE {}",
                orders_of(a, rows)
            ),
            2 => format!(
                "UPDATE order_items SET quantity = {salt}, price = NULL WHERE order_no BETWEEN {a} AND {b} AND line < 2"
            ),
            3 => format!(
                "UPDATE visits SET seconds = {salt}, page = '' WHERE id BETWEEN {a} AND {b}"
            ),
            _ => format!(
                "UPDATE products SET price = {salt}.25, weight = $negative_zero WHERE {}",
                products_of(a, rows)
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
            _ => format!("UPDATE orders SET customer = {salt} WHERE {}", orders_of(a, rows)),
        }
    }

    fn update_toast(&mut self, rows: u64) -> String {
        let (a, salt) = (self.place(1), self.random.below(1000));
        format!(
            "UPDATE events SET body = $large(id || '{salt}', 80) WHERE id BETWEEN {a} AND {}",
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
                "UPDATE products SET sku = sku || '-{fresh}' WHERE {}",
                products_of(a, rows)
            ),
            1 => format!(
                "UPDATE order_items SET line = line + {} WHERE order_no BETWEEN {a} AND {b}",
                fresh % 100_000_000 + 2
            ),
            2 => format!("UPDATE events SET id = id - {a} + {fresh} WHERE id BETWEEN {a} AND {b}"),
            _ => format!(
                "UPDATE orders SET id = $uuid('moved ' || id || '{fresh}') WHERE {}",
                orders_of(a, rows)
            ),
        }
    }

    fn delete(&mut self, rows: u64) -> String {
        let a = self.place(1);
        let b = a + rows - 1;
        match self.random.below(6) {
            0 => format!("DELETE FROM customers WHERE id BETWEEN {a} AND {b}"),
            1 => format!("DELETE FROM products WHERE {}", products_of(a, rows)),
            2 => format!("DELETE FROM orders WHERE {}", orders_of(a, rows)),
            3 => format!("DELETE FROM order_items WHERE order_no BETWEEN {a} AND {b}"),
            4 => format!("DELETE FROM events WHERE id BETWEEN {a} AND {b}"),
            _ => format!("DELETE FROM visits WHERE id BETWEEN {a} AND {b}"),
        }
    }
}
