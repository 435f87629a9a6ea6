//! Delta Lake tables as a sink: a local warehouse, one folder per table, its log written by us.
//!
//! ```text
//!  ChangeBatch ─▶ write ─▶ lakeward-files: data files, key index ─▶ stage: deletion vectors
//!                                                                     │
//!        _delta_log/NNN.json ◀─ create-only ─ commit: actions ◀───────┘   mark inside, one act
//! ```
//!
//! Deliberately absent: scans (readers bring their own), partitioned tables, change data files, object stores.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

mod action;
mod checkpoint;
mod columns;
mod commit;
mod config;
mod content;
mod features;
mod folder;
mod log;
mod maintain;
mod open;
mod schema;
mod sink;
mod stage;
mod state;
mod stats;
mod table;
mod text;
mod types;
mod vectors;
mod write;

#[cfg(test)]
mod lost;

pub use config::Config;
pub use sink::Delta;
