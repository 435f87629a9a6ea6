//! A source without a server: a table of seeded rows and a log of seeded changes, made as fast as columns can be filled. For
//! benchmarks and trials.
//!
//! ```text
//!  sequence: which key a change touches, and what a key holds at any place ──▶ chunks
//!      │                                                                         (state at the log's place)
//!      └────────────▶ log: batches of whole transactions
//! ```
//!
//! A place of the log is the number of changes before it. Every value is a function of seed, key and how often the key was
//! changed, so that a restart, at whatever place, gives the same. Deliberately absent: memory of what was made.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

mod config;
mod log;
mod rows;
mod sequence;
mod shape;
mod source;

pub use config::{Config, Shape};
pub use source::Generator;
