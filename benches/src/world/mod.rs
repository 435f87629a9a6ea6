//! What the cases stand on: a server with deterministic tables, and pipelines of the product as processes.

pub(crate) mod maria;
pub(crate) mod pipeline;
pub(crate) mod postgres;
pub(crate) mod server;

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::profile::Profile;
pub(crate) use pipeline::Pipeline;
pub(crate) use server::Server;

/// No single run of the product takes longer.
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(1200);

/// Where changes land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lake {
    Iceberg2,
    Iceberg3,
    Delta,
    Null,
}

impl Lake {
    /// As `--lake` names it; `iceberg` is the version that new users get.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "iceberg" => Self::Iceberg2,
            "iceberg-3" => Self::Iceberg3,
            "delta" => Self::Delta,
            "null" => Self::Null,
            _ => return None,
        })
    }

    /// Its lines in a pipeline file.
    pub(crate) fn lines(self, warehouse: &str) -> Vec<String> {
        let at = format!("warehouse: {warehouse}");
        let line = |text: &str| text.to_owned();
        match self {
            Self::Iceberg2 => vec![line("type: iceberg"), at],
            Self::Iceberg3 => vec![line("type: iceberg"), at, line("format_version: 3")],
            Self::Delta => vec![line("type: delta"), at],
            Self::Null => vec![line("type: \"null\""), format!("directory: {warehouse}")],
        }
    }
}

/// What a run of the bench stands on.
pub(crate) struct Bench {
    /// The program under test.
    pub(crate) binary: PathBuf,
    /// 1: the sizes that the aims speak of.
    pub(crate) scale: f64,
    pub(crate) rounds: u32,
    pub(crate) lake: Lake,
    /// Runs of the product go under a profiler.
    pub(crate) profile: Option<Profile>,
    /// All files of this run; gone with it.
    pub(crate) home: TempDir,
}

impl Bench {
    /// A size at this run's scale, never below `least`.
    pub(crate) fn scaled(&self, full: u64, least: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(least)
    }

    /// True if only the form of the outcome counts.
    pub(crate) fn form_only(&self) -> bool {
        self.scale < 0.01
    }
}
