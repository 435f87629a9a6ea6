//! A pipeline's life: one owning task, its sessions, its commands, its end.
pub mod command;
mod deliver;
mod landing;
mod pipeline;
mod planning;
mod session;
pub mod status;
mod upkeep;

pub use command::{Command, RunEnd, RunMode};
pub use pipeline::{Landing, Pipeline};
pub use status::{Phase, Status, StatusSnapshot, Statuses, TablePhase, TableStatus};
