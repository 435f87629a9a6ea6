//! The writer of an epoch: changes in, files and positions to delete out.
//!
//! The last change of a key wins. Rows that this epoch wrote already and that a later change replaces are deleted by
//! position in the same commit; older rows are found through the key index when the epoch is finished.
//!
//! ```text
//!  batch ─fit─▶ keys ─▶ state (pure: who wins, who dies, whose cells are missing) ─▶ buffer ─▶ files
//!                                        base: missing cells from this epoch or the lake ┘
//! ```
//!
//! Rows whose keys were never written before (an initial load's) go to files at once.
//!
//! Deliberately absent: the commit. Nothing is published to a [`Head`](crate::Head) here.
use lakeward_core::ChangeBatch;

mod base;
mod buffer;
mod epoch;
pub(crate) mod files;
mod first;
mod fitted;
mod flushed;
mod state;
mod writer;

#[cfg(test)]
pub(crate) mod random;
#[cfg(test)]
mod tests;

pub use epoch::{EpochFiles, FileDeletes, NewFile};
pub use writer::EpochWriter;

/// Where and how an epoch's files are written.
#[derive(Debug, Clone)]
pub struct EpochOptions {
    /// Folder of the data files, without slashes at its ends.
    pub folder: String,
    /// Beginning of their names: writer and epoch. A number and a random part follow.
    pub stem: String,
    /// A file ends when it reaches this size.
    pub target_file_bytes: u64,
    /// Rows are held back up to this many bytes, so that changes of the same row meet before they are written. More
    /// costs memory for every open table, less writes rows that die in the same epoch.
    pub buffer_bytes: u64,
}

impl EpochOptions {
    /// Files of 128 MiB, 4 MiB held back.
    pub fn new(folder: impl Into<String>, stem: impl Into<String>) -> Self {
        Self {
            folder: folder.into(),
            stem: stem.into(),
            target_file_bytes: 128 << 20,
            buffer_bytes: 4 << 20,
        }
    }
}

/// Rows of a batch with missing cells that are handled at once: their base rows are in memory together.
const INCOMPLETE_ROWS_AT_ONCE: usize = 512;

/// The parts in which a batch is handled.
fn pieces(batch: &ChangeBatch) -> impl Iterator<Item = ChangeBatch> + '_ {
    let step = if batch.absent.is_some() { INCOMPLETE_ROWS_AT_ONCE } else { batch.len().max(1) };
    (0..batch.len()).step_by(step).map(move |from| batch.slice(from, step.min(batch.len() - from)))
}
