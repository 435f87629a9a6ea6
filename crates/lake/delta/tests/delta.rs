//! The sink against foreign readers: what DuckDB and deltalake read is what was written, whatever happened in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may panic and print their seeds"
)]

#[path = "delta/copies.rs"]
mod copies;
#[path = "delta/evolution.rs"]
mod evolution;
#[path = "delta/faults.rs"]
mod faults;
#[path = "delta/foreign.rs"]
mod foreign;
#[path = "delta/index.rs"]
mod index;
#[path = "delta/killed.rs"]
mod killed;
#[path = "delta/random.rs"]
mod random;
#[path = "delta/rows.rs"]
mod rows;
#[path = "delta/support.rs"]
mod support;
#[path = "delta/upkeep.rs"]
mod upkeep;
