//! Changes of table definitions while others write. Only columns of its own are added, renamed
//! and dropped, so that the other connections' statements stay valid.

use super::Random;

/// The stream of definition changes of a run. One connection runs them, in order.
pub struct Designer {
    random: Random,
    /// Columns it added: table, name, number.
    extra: Vec<(&'static str, String)>,
    made: u64,
    name_length: u64,
    price_digits: u64,
}

const TABLES: [&str; 5] = ["customers", "products", "orders", "order_items", "visits"];

impl Designer {
    /// The stream of this seed.
    pub fn new(random: Random) -> Designer {
        Designer { random, extra: Vec::new(), made: 0, name_length: 80, price_digits: 12 }
    }

    /// The next change: statements of one transaction. It may carry updates that use it.
    pub fn change(&mut self) -> String {
        self.made += 1;
        match self.made % 7 {
            1 => self.add("int", ""),
            2 => self.add("text", "DEFAULT 'seven'"),
            3 => self.swap_names(),
            4 => self.rename(),
            5 => self.widen(),
            6 => self.add("numeric(10,2)", "NOT NULL DEFAULT 1.50"),
            _ => self.drop_one(),
        }
    }

    fn add(&mut self, kind: &str, tail: &str) -> String {
        let table = TABLES[self.random.below(TABLES.len() as u64) as usize];
        let name = format!("extra_{}", self.made);
        self.extra.push((table, name.clone()));
        format!(
            "ALTER TABLE {table} ADD COLUMN {name} {kind} {tail}; \
             UPDATE {table} SET {name} = '{}' WHERE ctid IN (SELECT ctid FROM {table} LIMIT 20);",
            self.made
        )
    }

    fn swap_names(&self) -> String {
        "ALTER TABLE customers RENAME first_name TO swapping; \
         ALTER TABLE customers RENAME last_name TO first_name; \
         ALTER TABLE customers RENAME swapping TO last_name; \
         UPDATE customers SET first_name = 'after swap' WHERE id % 97 = 0;"
            .to_owned()
    }

    fn rename(&mut self) -> String {
        let made = self.made;
        let Some((table, name)) = self.extra.last_mut() else {
            return self.swap_names();
        };
        let old = std::mem::replace(name, format!("renamed_{made}"));
        format!("ALTER TABLE {table} RENAME {old} TO {name};")
    }

    fn widen(&mut self) -> String {
        if self.random.chance(50) {
            self.name_length += 10;
            return format!("ALTER TABLE products ALTER name TYPE varchar({});", self.name_length);
        }
        self.price_digits += 1;
        format!(
            "ALTER TABLE order_items ALTER price TYPE numeric({},2);",
            self.price_digits.min(38)
        )
    }

    fn drop_one(&mut self) -> String {
        if self.extra.is_empty() {
            return self.swap_names();
        }
        let place = self.random.below(self.extra.len() as u64) as usize;
        let (table, name) = self.extra.swap_remove(place);
        format!("ALTER TABLE {table} DROP COLUMN {name};")
    }
}
