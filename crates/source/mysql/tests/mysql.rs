//! The source against real servers. One binary: servers are started once and shared.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "tests may panic"
)]

#[path = "mysql/chunks.rs"]
mod chunks;
#[path = "mysql/findings.rs"]
mod findings;
#[path = "mysql/handover.rs"]
mod handover;
#[path = "mysql/heartbeats.rs"]
mod heartbeats;
#[path = "mysql/load.rs"]
mod load;
#[path = "mysql/log.rs"]
mod log;
#[path = "mysql/log_damage.rs"]
mod log_damage;
#[path = "mysql/log_restart.rs"]
mod log_restart;
#[path = "mysql/log_schema.rs"]
mod log_schema;
#[path = "mysql/value_types.rs"]
mod value_types;
#[path = "mysql/world.rs"]
mod world;
