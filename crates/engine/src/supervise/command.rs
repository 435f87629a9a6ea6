//! What a running pipeline can be told, and how it can end.
use lakeward_core::{Result, TableId};
use tokio::sync::oneshot;

/// How long a pipeline runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// Until it is told to stop.
    Follow,
    /// Until all tables are loaded and the log that existed at the start is in the lake.
    UntilCaughtUp,
}

/// How a pipeline ended, when it ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// It was told to stop and finished what it had accepted.
    Drained,
    /// Everything that existed at its start is in the lake.
    CaughtUp,
}

/// An order to a running pipeline. Replies come when the order is accepted or refused; for compaction when it is done.
#[derive(Debug)]
pub enum Command {
    /// Finish what was accepted, then end.
    Drain,
    /// End now. Nothing is lost: what was not committed is read again.
    Abort,
    /// Load a table again, invisibly, and swap it in.
    Resync {
        /// The table.
        table: TableId,
        /// The answer.
        reply: oneshot::Sender<Result<String>>,
    },
    /// Compact a table, or all.
    Compact {
        /// The table; `None`: all.
        table: Option<TableId>,
        /// The answer.
        reply: oneshot::Sender<Result<String>>,
    },
}
