//! The engine against a database and a lake in memory: random histories, restarts at any await, lost answers.
//!
//! Every consistent point is compared with the database's state at exactly that position. Seeds are printed; the
//! environment variable `LAKEWARD_SEED` runs one again, `LAKEWARD_SEEDS` sets how many run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests may panic and print"
)]

#[path = "engine/database.rs"]
mod database;
#[path = "engine/lake.rs"]
mod lake;
#[path = "engine/laws.rs"]
mod laws;
#[path = "engine/random.rs"]
mod random;
