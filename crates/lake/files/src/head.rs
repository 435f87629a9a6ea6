//! What is known of a table's current version: its live files, the rows deleted in them, and the key index.
//!
//! Changes only by publishing a commit that stands. Deliberately absent: how a format lists its files.
use std::collections::BTreeMap;
use std::sync::Arc;

use lakeward_core::Result;
use roaring::RoaringBitmap;

use crate::compact::{Compacted, FileState};
use crate::index::{FileId, KeyIndex};
use crate::layout::TableLayout;
use crate::store::Store;
use crate::upsert::EpochFiles;

/// A data file of the current version.
#[derive(Debug, Clone)]
pub struct LiveFile {
    /// Path in the store.
    pub path: Arc<str>,
    /// Rows in the file, deleted ones included.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Rows deleted by position.
    pub deleted: RoaringBitmap,
}

/// A table's current version, as far as changing it needs.
pub struct Head {
    files: BTreeMap<FileId, LiveFile>,
    next: u32,
    index: Box<dyn KeyIndex>,
}

impl Head {
    /// A table without rows.
    pub fn empty() -> Self { todo!() }

    /// Reads the identity columns of all `files` (deleted rows skipped), several files at a time, and indexes them.
    /// In append mode no file is read.
    ///
    /// # Errors
    /// Those of reading; `Unsupported` when a column's type cannot identify a row.
    pub async fn rebuild(store: &Store, layout: &TableLayout, files: Vec<LiveFile>) -> Result<Self> { todo!() }

    /// The live files by id.
    pub fn files(&self) -> &BTreeMap<FileId, LiveFile> {
        &self.files
    }

    /// The id of the file at a path.
    pub fn find(&self, path: &str) -> Option<FileId> { todo!() }

    /// The key index.
    pub fn index(&self) -> &dyn KeyIndex {
        self.index.as_ref()
    }

    /// Live rows: all rows of all files but the deleted ones.
    pub fn live_rows(&self) -> u64 { todo!() }

    /// The files as compaction planning sees them.
    pub fn file_states(&self) -> Vec<FileState> { todo!() }

    /// Takes in an epoch whose commit stands. Call it exactly once per committed [`EpochFiles`].
    pub fn publish(&mut self, epoch: &EpochFiles) { todo!() }

    /// Takes in a compaction whose commit stands; `late` is what [`Compacted::late_deletes`] gave for that commit.
    pub fn publish_compaction(&mut self, done: &Compacted, late: &[RoaringBitmap]) { todo!() }
}
