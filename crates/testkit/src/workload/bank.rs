//! The bank: transfers between two tables. Whoever sees a consistent state sees the same sum.

use super::Random;

/// Accounts in each of the two tables.
pub const ACCOUNTS: u64 = 200;

/// The sum of all balances, always.
pub const SUM: i64 = 2 * ACCOUNTS as i64 * 1000;

/// The column that is summed.
pub const COLUMN: &str = "balance";

/// The two tables.
pub const TABLES: [&str; 2] = ["checking", "savings"];

/// Tables with their first balances.
pub fn create() -> String {
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, balance bigint NOT NULL); \
             INSERT INTO {name} SELECT i, 1000 FROM $series(1, {ACCOUNTS});"
        )
    };
    TABLES.map(table).concat()
}

/// One transaction: money goes from one table to the other, sometimes with the account's number
/// changed or the account closed and opened again. Each of `clerks` clerks has accounts of its own: one that is closed
/// while another clerk waits for it would swallow that clerk's money.
pub fn transfer(random: &mut Random, clerk: u64, clerks: u64) -> String {
    let (from, to) =
        if random.chance(50) { ("checking", "savings") } else { ("savings", "checking") };
    let mut account = || 1 + clerk + clerks * random.between(0, ACCOUNTS / clerks);
    let (giver, taker) = (account(), account());
    let amount = random.between(1, 500);
    let mut sql = format!(
        "BEGIN; UPDATE {from} SET balance = balance - {amount} WHERE id = {giver}; \
         UPDATE {to} SET balance = balance + {amount} WHERE id = {taker}; "
    );
    if random.chance(10) {
        sql += &format!(
            "INSERT INTO {from} SELECT id + 100000, balance FROM {from} WHERE id = {giver}; \
             DELETE FROM {from} WHERE id = {giver}; UPDATE {from} SET id = {giver} WHERE id = {giver} + 100000; "
        );
    }
    sql + if random.chance(5) { "ROLLBACK" } else { "COMMIT" }
}
