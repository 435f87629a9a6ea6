//! The sink, writing format version 2, against foreign readers: what PyIceberg and DuckDB read is what was written, whatever happened in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may panic and print their seeds"
)]

#[path = "iceberg/copies.rs"]
mod copies;
#[path = "iceberg/deletes.rs"]
mod deletes;
#[path = "iceberg/evolution.rs"]
mod evolution;
#[path = "iceberg/faults.rs"]
mod faults;
#[path = "iceberg/foreign.rs"]
mod foreign;
#[path = "iceberg/index.rs"]
mod index;
#[path = "iceberg/killed.rs"]
mod killed;
#[path = "iceberg/orphans.rs"]
mod orphans;
#[path = "iceberg/random.rs"]
mod random;
#[path = "iceberg/rows.rs"]
mod rows;
#[path = "iceberg/support.rs"]
mod support;
#[path = "iceberg/upkeep.rs"]
mod upkeep;

/// The format version that the tables get.
const FORMAT_VERSION: u8 = 2;
