//! A pipeline's life: one owning task, its sessions, its commands, its end.
pub mod command;
mod deliver;
mod pipeline;
mod planning;
mod session;
pub mod status;
mod upkeep;

pub use command::{Command, RunEnd, RunMode};
pub use pipeline::Pipeline;
pub use status::{Phase, Status, StatusSnapshot, TablePhase, TableStatus};
