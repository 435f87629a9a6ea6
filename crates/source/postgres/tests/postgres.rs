//! The source against real servers. One binary: servers are started once and shared.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests may panic"
)]

#[path = "postgres/base.rs"]
mod base;
#[path = "postgres/chunks.rs"]
mod chunks;
#[path = "postgres/encryption.rs"]
mod encryption;
#[path = "postgres/findings.rs"]
mod findings;
#[path = "postgres/follow.rs"]
mod follow;
#[path = "postgres/log.rs"]
mod log;
#[path = "postgres/log_damage.rs"]
mod log_damage;
#[path = "postgres/log_line.rs"]
mod log_line;
#[path = "postgres/log_schema.rs"]
mod log_schema;
#[path = "postgres/setup.rs"]
mod setup;
#[path = "postgres/value_types.rs"]
mod value_types;
#[path = "postgres/world.rs"]
mod world;
