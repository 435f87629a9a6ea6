//! PostgreSQL as a source: its tables by SQL, its log by logical replication (`pgoutput`).
//!
//! ```text
//!  catalog ──▶ discover / check / split          log (walsender) ──▶ decode ──┐
//!     │                                                                        ▼
//!     └──▶ snapshot (COPY BINARY) ──▶ types::ColumnBuilder ──▶ Arrow ◀── types::ColumnBuilder
//! ```
//!
//! Deliberately absent: holding of transactions, merging of chunks with the log, retries. The engine does that.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

pub mod catalog;
pub mod config;
pub mod connect;
pub mod tls;
pub mod types;
