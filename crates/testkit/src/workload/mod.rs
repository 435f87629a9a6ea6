//! Seeded random workloads: a shop with everything that hurts a follower of logs, and a bank
//! whose sum must never change. All statements are valid SQL; what they touched is counted.
//!
//! A seed fixes each connection's stream of statements. How the connections interleave is up to
//! the server.

pub mod bank;
pub mod counts;
pub mod ddl;
pub mod drive;
pub mod random;
pub mod shop;

pub use counts::{Counts, Kind};
pub use drive::{Drive, Plan};
pub use random::Random;
