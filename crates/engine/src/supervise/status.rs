//! What a running pipeline shows of itself. Written by its owner a few times a second, read by anyone.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use lakeward_core::TableVersion;
use serde::Serialize;

/// What a pipeline is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading the ledger, opening source and tables.
    #[default]
    Starting,
    /// Finishing an epoch that an earlier run left torn.
    Recovering,
    /// Following the log; tables may be loading beside it.
    Running,
    /// Waiting to try again after an error.
    Retrying,
    /// One of several sinks, stopped by an error; it is tried again now and then while others go on.
    Stopped,
    /// Finishing what was accepted.
    Draining,
    /// Ended.
    Ended,
}

/// What a table is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TablePhase {
    /// Its load is being prepared.
    Planning,
    /// Chunks are read; rows are visible, the table is in no consistent point.
    Loading,
    /// It follows the log.
    Following,
    /// A new copy is loaded invisibly beside it.
    Resyncing,
}

/// One table.
#[derive(Debug, Clone, Serialize)]
pub struct TableStatus {
    /// `namespace.table`.
    pub table: String,
    /// What it is doing.
    pub phase: TablePhase,
    /// Chunks done and all chunks of the running load.
    pub chunks: Option<(u32, u32)>,
    /// Rows that chunks brought since the process began.
    pub rows_loaded: u64,
    /// Rows that chunks and log brought since the process began.
    pub rows_written: u64,
    /// Seconds until the load ends at the present speed.
    pub load_eta_seconds: Option<u64>,
    /// The version that readers see.
    pub version: Option<TableVersion>,
    /// What a person should know: why it is loaded again.
    pub note: Option<String>,
    /// Bytes of memory of its key index.
    pub index_bytes: u64,
}

/// One sink of a pipeline at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StatusSnapshot {
    /// The sink's name.
    pub sink: String,
    /// What it is doing.
    pub phase: Phase,
    /// The last complete epoch.
    pub epoch: u64,
    /// Its end, as the source prints positions.
    pub position: Option<String>,
    /// Bytes of log between that and the head of the log.
    pub lag_bytes: Option<u64>,
    /// Age in seconds of the oldest source commit that is not yet in the lake; 0 when all is.
    pub lag_seconds: Option<f64>,
    /// Changes that the log brought since the process began.
    pub changes: u64,
    /// Bytes of rows committed since the process began.
    pub bytes: u64,
    /// Bytes of memory that rows of open transactions hold.
    pub held_bytes: u64,
    /// Bytes on disk that rows of open transactions hold.
    pub spilled_bytes: u64,
    /// When the last epoch was completed.
    pub committed_at: Option<SystemTime>,
    /// The last error that is being retried.
    pub last_error: Option<String>,
    /// All tables, in the order of their names.
    pub tables: Vec<TableStatus>,
}

/// The present state of one sink of a pipeline.
#[derive(Debug, Default)]
pub struct Status(Mutex<StatusSnapshot>);

impl Status {
    /// A sink that has not begun.
    pub fn new(sink: impl Into<String>) -> Self {
        Self(Mutex::new(StatusSnapshot { sink: sink.into(), ..StatusSnapshot::default() }))
    }

    /// The present state.
    pub fn snapshot(&self) -> StatusSnapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut StatusSnapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The present state of all sinks of a pipeline, in the order of the file.
#[derive(Debug)]
pub struct Statuses(Vec<Arc<Status>>);

impl Statuses {
    /// Sinks of these names, that have not begun.
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| Arc::new(Status::new(name))).collect())
    }

    /// The present states.
    pub fn snapshots(&self) -> Vec<StatusSnapshot> {
        self.0.iter().map(|status| status.snapshot()).collect()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Status>> {
        self.0.iter()
    }
}
