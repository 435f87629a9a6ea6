//! The store, Parquet files of every type, and whole-table life, through the public surface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod files {
    pub(crate) mod ledger;
    pub(crate) mod parquet;
    pub(crate) mod store;
}
