//! A sink that throws rows away: what a pipeline costs without a lake. For benchmarks and trials.
//!
//! It keeps the contract all the same: nothing counts before its commit, the mark stands in the same small record as the
//! counts, the ledger's objects are create-only. Deliberately absent: rows, versions to read, upkeep.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

mod config;
mod sink;
mod storage;
mod table;

pub use config::Config;
pub use sink::Null;
