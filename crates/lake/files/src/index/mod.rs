//! The key index: which place in which file holds a key's row. It turns every update and delete into a position.
//!
//! It is a set of facts: *row r of file f has key k*. Data files never change, so a fact is true for ever, and whether
//! it still matters is told by the table itself: its file is live and its row not deleted, or not. So nothing is ever
//! removed or moved in the index; what is dead is left out when runs are merged. For the same reason it needs no log,
//! no version and no order: a run on disk says which files it covers, and whatever the table lists beyond that is read
//! again from the files' key columns. Any state of the folder is right or visibly incomplete, never wrong.
//!
//! ```text
//!  epoch, compaction ─▶ memory part ─full─▶ run ─┐
//!  load, lost index  ─▶ sorted buffers ─merged─▶ run ─▶ four of a size ─merged─▶ run …      (runs: local disk)
//!  keys, sorted ─▶ memory part, runs (filter, one page) ─▶ live? ─▶ places
//! ```
//! Derived data: losing it costs time, never correctness. Keys are 128-bit hashes and are not stored; see
//! [`lakeward_core::key`] for the chance of a collision. Deliberately absent: files' contents, and table formats.
use lakeward_core::{Error, ErrorKind, KeyHash};

mod budget;
mod directory;
mod filter;
mod gather;
mod home;
mod memory;
mod merge;
mod page;
mod run;
mod table;
mod write;

#[cfg(test)]
mod tests;

pub use directory::{Covered, Directory};
pub use gather::{Gathered, Gathering};
pub use home::{IndexFolders, IndexHome, IndexLimits};
pub(crate) use memory::AsIs;
pub use memory::MemoryIndex;
pub use table::{Files, TableIndex};

/// First bytes of a run's footer; its last digit is the version of the layout.
const MAGIC: u64 = u64::from_be_bytes(*b"LWINDEX1");

/// A data file of one table, numbered within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A row's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The row in it, from 0, deleted rows counted.
    pub row: u32,
}

/// What one commit changes. Removals come first, then additions.
#[derive(Debug, Clone, Default)]
pub struct IndexChange {
    /// Places that no longer hold their key.
    pub removed: Vec<(KeyHash, Place)>,
    /// Places that hold their key now.
    pub added: Vec<(KeyHash, Place)>,
}

/// The index cannot be believed. Whoever opens the table again reads the keys that it lacks from the table's files.
fn damaged() -> Error {
    Error::new(ErrorKind::Conflict, "the key index on local disk is damaged and must be made anew")
        .remedied("nothing: it is made anew by itself; look after the disk of `pipeline.state_dir`")
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Exhausted, "the key index could not use its folder on local disk")
        .caused_by(error)
        .remedied("free disk space under `pipeline.state_dir`, or make it writable")
}
