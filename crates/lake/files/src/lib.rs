//! What every lake format needs and none should write twice: durable objects, Parquet files, the key index, position
//! deletes, and the writer that turns changes into files and positions.
//!
//! ```text
//!  ChangeBatch ─▶ EpochWriter ─rows─▶ FileWriter ─▶ Store          (invisible until a format commits it)
//!                     │  finish: keys ─▶ Head (key index, live files) ─▶ EpochFiles: new files + positions to delete
//!                     ▼
//!            the format's commit ─▶ Head::publish(EpochFiles)
//! ```
//!
//! Deliberately absent: any table format, any catalogue, any decision on when to commit.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

pub mod compact;
pub mod deletes;
pub mod head;
pub mod index;
pub mod layout;
pub mod ledger;
pub mod lineage;
pub mod orphans;
pub mod parquet;
pub mod read;
pub mod store;
pub mod upsert;

pub use compact::{Compacted, Compaction, CompactionPolicy, FileState, Moves, Spent};
pub use deletes::{DeletionVector, PositionDeletes};
pub use head::{Head, LiveFile};
pub use index::{
    FileId, IndexChange, IndexFolders, IndexHome, IndexLimits, MemoryIndex, Place, TableIndex,
};
pub use layout::{FIELD_ID, Identity, TableLayout};
pub use ledger::StoreLedger;
pub use lineage::Lineage;
pub use orphans::{Origin, Stem, is_superseded};
pub use parquet::{Bound, ColumnMetrics, DataFile, FileWriter, WriterOptions};
pub use read::{DataFileReader, RowChoice};
pub use store::{ObjectWriter, Store};
pub use upsert::{EpochFiles, EpochOptions, EpochWriter, FileDeletes, NewFile};
