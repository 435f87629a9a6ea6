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

    /// The next change: statements of one transaction where the server changes definitions in
    /// transactions. It may carry updates that use it.
    pub fn change(&mut self) -> Vec<String> {
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

    fn add(&mut self, kind: &str, tail: &str) -> Vec<String> {
        let table = TABLES[self.random.below(TABLES.len() as u64) as usize];
        let name = format!("extra_{}", self.made);
        self.extra.push((table, name.clone()));
        vec![
            format!("ALTER TABLE {table} ADD COLUMN {name} {kind} {tail}"),
            format!("$update_some({table}, {name} = '{}', 1 = 1, 20)", self.made),
        ]
    }

    fn swap_names(&self) -> Vec<String> {
        let swap = "$swap_columns(customers, first_name, last_name)";
        let use_it = "UPDATE customers SET first_name = 'after swap' WHERE id % 97 = 0";
        [swap, use_it].map(str::to_owned).into()
    }

    fn rename(&mut self) -> Vec<String> {
        let made = self.made;
        let Some((table, name)) = self.extra.last_mut() else {
            return self.swap_names();
        };
        let old = std::mem::replace(name, format!("renamed_{made}"));
        vec![format!("ALTER TABLE {table} RENAME COLUMN {old} TO {name}")]
    }

    fn widen(&mut self) -> Vec<String> {
        if self.random.chance(50) {
            self.name_length += 10;
            return vec![format!("$retype(products, name, varchar({}))", self.name_length)];
        }
        self.price_digits += 1;
        vec![format!("$retype(order_items, price, numeric({},2))", self.price_digits.min(38))]
    }

    fn drop_one(&mut self) -> Vec<String> {
        if self.extra.is_empty() {
            return self.swap_names();
        }
        let place = self.random.below(self.extra.len() as u64) as usize;
        let (table, name) = self.extra.swap_remove(place);
        vec![format!("ALTER TABLE {table} DROP COLUMN {name}")]
    }
}
