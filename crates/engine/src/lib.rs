//! The stream between sources and sinks: capture, epochs, the ledger, and the pipeline definition.
//!
//! ```text
//!  log ───▶ stream/held ──▶ write/lane ──▶ commit/epoch ──▶ ledger: Intent … Done ──▶ confirm
//!  chunks ─▶ capture/load ──▶ write/lane      (supervise: one owning task decides the order)
//! ```
//! Deliberately absent: drivers, table formats, names of connectors.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

pub mod capture;
pub mod commit;
mod fan;
pub mod spec;
pub mod stream;
pub mod supervise;
pub mod write;
