//! What the tests stand on: throw-away real servers, seeded workloads, foreign readers as
//! judges, and the laws that every pair of source and lake must pass.
//!
//! It never links a source or a lake. The product is used as a process only.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test kit reports to the person who runs it"
)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

pub mod commits;
pub mod dialect;
pub mod host;
pub mod judge;
pub mod laws;
pub mod mariadb;
pub mod pairs;
pub mod postgres;
pub mod product;
pub mod readers;
pub mod servers;
mod watched;
pub mod workload;
pub mod world;

/// Any error of the kit: a sentence for the person who reads the failed test.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The kit's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Returns early with a formatted error.
macro_rules! fail {
    ($($arg:tt)*) => { return Err(format!($($arg)*).into()) };
}
pub(crate) use fail;
