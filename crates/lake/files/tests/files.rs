//! The store, Parquet files of every type, and whole-table life, through the public surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may panic, and say when they are skipped"
)]

mod files {
    pub(crate) mod ledger;
    pub(crate) mod pages;
    pub(crate) mod parquet;
    pub(crate) mod store;
}
