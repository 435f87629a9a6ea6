//! The contract of a sink: invisible until committed, one small act to commit, the mark inside.
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::change::{ChangeBatch, OriginId};
use crate::commit::{CommitMark, CommitOutcome, CommitPermit};
use crate::config::Validate;
use crate::error::Result;
use crate::schema::{SchemaChange, TableSchema};
use crate::source::{CheckReport, Env};

/// A sink connector, as the registry lists it.
pub trait SinkKind: Send + Sync + 'static {
    /// The `type` in the pipeline file.
    const NAME: &'static str;
    /// Its options. Unknown keys must be refused (`deny_unknown_fields`).
    type Config: DeserializeOwned + JsonSchema + Validate + Send;

    /// Opens it; creates the catalogue if it is not there.
    ///
    /// # Errors
    /// `Unreachable`, `Auth`, `Config` naming the place.
    fn open(config: Self::Config, env: Env) -> impl Future<Output = Result<Arc<dyn Sink>>> + Send;
}

/// Which copy of a table a handle writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The table that readers see.
    Visible,
    /// An invisible copy of this generation, until a commit promotes it.
    Copy(u32),
}

/// A version of a table as its format names it (Iceberg: the snapshot id).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableVersion(pub String);

/// The ledger's storage: create-only objects beside the tables.
#[async_trait]
pub trait LedgerStore: Send + Sync {
    /// Creates an object, durably; `false` when one of that name exists already (its content is unchanged).
    /// After an `OutcomeUnknown` error it may or may not exist: read it.
    async fn create(&self, name: &str, content: Vec<u8>) -> Result<bool>;
    /// Reads an object; `None` when there is none.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// The names of all objects, ascending.
    async fn list(&self) -> Result<Vec<String>>;
    /// Deletes an object; deleting what is not there is fine.
    async fn delete(&self, name: &str) -> Result<()>;
}

/// A sink. Methods may be called from several tasks.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Every finding with its remedy; writes at most a probe that it removes.
    async fn check(&self) -> Result<CheckReport>;

    /// Where this pipeline's ledger for this sink stands.
    fn ledger(&self) -> Arc<dyn LedgerStore>;

    /// Opens a table or an invisible copy. Nothing is created until the first commit.
    ///
    /// # Errors
    /// `Config` when a table of that name exists that this pipeline did not make, with the remedy.
    async fn open_table(&self, schema: &Arc<TableSchema>, slot: Slot)
    -> Result<Box<dyn SinkTable>>;

    /// Drops an invisible copy that will not be promoted, if it exists. May be repeated.
    async fn drop_copy(&self, schema: &TableSchema, generation: u32) -> Result<()>;

    /// Removes a table and its data. Only for `lakeward drop --tables`. May be repeated.
    async fn drop_table(&self, schema: &TableSchema) -> Result<()>;
}

/// What [`SinkTable::evolve`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evolution {
    /// The table already had this shape.
    Unchanged,
    /// The new shape is staged and lands with the next commit.
    Staged,
    /// Staged, but rows that exist already cannot be made right from here: the table must be loaded again.
    NeedsReload(String),
}

/// A table's part of an epoch, complete and checked; only a small act is left.
pub struct Staged {
    /// Rows added.
    pub rows_added: u64,
    /// Rows deleted.
    pub rows_deleted: u64,
    /// Bytes of the new files.
    pub bytes: u64,
    /// The keys (columns of the table's current schema, other columns NULL) of rows that came incomplete and have no base row
    /// anywhere. They were NOT written. The engine reads them by key, or loads the table again.
    pub unresolved: Option<RecordBatch>,
    /// The sink's own.
    pub payload: Box<dyn Any + Send>,
}

/// A table, or an invisible copy, being written. One owner; calls come one after the other.
///
/// An epoch is: any number of `write`, `truncate`, `evolve` in the log's order, then `stage`, then `commit`.
/// Nothing of it is visible before `commit` answers `Committed`.
#[async_trait]
pub trait SinkTable: Send {
    /// The last mark, read from the target itself now. After an `Unknown` commit this also makes sure that the lost
    /// attempt can no longer land, or will collide with the next. A handle of a copy whose promotion landed answers with
    /// the visible table's mark.
    async fn last_commit(&mut self) -> Result<Option<CommitMark>>;

    /// The version that readers see after the last commit known here; `None` before the first.
    fn version(&self) -> Option<TableVersion>;

    /// Adds changes to the epoch. `Read`, `Insert` and `Update` set the row of their key, `Delete` removes it; the last
    /// change of a key wins. Rows of a table without a key are added or (whole-row identity) removed one for one.
    /// A batch of an older schema version is fitted by column id.
    ///
    /// # Errors
    /// `BadData` naming table and column for values that the format cannot hold.
    async fn write(&mut self, batch: ChangeBatch) -> Result<()>;

    /// Removes all rows (of an origin) that came before.
    async fn truncate(&mut self, origin: Option<OriginId>) -> Result<()>;

    /// Gives the table the shape of `change.after`. Doing it twice is harmless.
    async fn evolve(&mut self, change: &SchemaChange) -> Result<Evolution>;

    /// Bytes of memory held for the epoch so far. The index is counted by `index_bytes`.
    fn buffered_bytes(&self) -> u64;

    /// Bytes of memory that the key index holds.
    fn index_bytes(&self) -> u64;

    /// Ends the epoch's writing: all files are durable, all positions resolved.
    async fn stage(&mut self) -> Result<Staged>;

    /// Files moved since `stage`: resolves the positions again on the table's current head.
    async fn rebase(&mut self, staged: Staged) -> Result<Staged>;

    /// Gives up staged work; deletes only files that no sent commit named.
    async fn abandon(&mut self, staged: Staged) -> Result<()>;

    /// Commits. A permit that promotes turns this copy into the visible table in the same act; afterwards this handle
    /// writes the visible table.
    async fn commit(&mut self, staged: Staged, permit: CommitPermit) -> CommitOutcome;

    /// Plans upkeep: compaction or expiry that is worth doing now. Called between epochs.
    async fn upkeep(&mut self, policy: &UpkeepPolicy) -> Result<Option<Box<dyn Upkeep>>>;

    /// Takes finished upkeep in: one short commit that also moves index and positions. Called between epochs.
    async fn commit_upkeep(&mut self, done: UpkeepDone) -> Result<UpkeepOutcome>;
}

/// When upkeep is worth doing.
#[derive(Debug, Clone)]
pub struct UpkeepPolicy {
    /// Whether to compact when it is worth it.
    pub compact: bool,
    /// Whether to expire old versions when it is worth it.
    pub expire: bool,
    /// Compact even if it is not yet worth it.
    pub force_compact: bool,
    /// Expire even if it is not yet worth it.
    pub force_expire: bool,
    /// Data files aim at this size.
    pub target_file_bytes: u64,
    /// Versions older than this may go.
    pub retain: Duration,
    /// Versions that a consistent point names, and that must stay whatever their age.
    pub keep: Vec<TableVersion>,
}

/// Planned upkeep, detached from its table: may run beside the table's commits.
#[async_trait]
pub trait Upkeep: Send {
    /// What it will do, in a few words, for people.
    fn describe(&self) -> String;
    /// Does the long part. Nothing becomes visible.
    async fn run(self: Box<Self>) -> Result<UpkeepDone>;
}

/// Finished upkeep that waits for its short commit.
pub struct UpkeepDone {
    /// The sink's own.
    pub payload: Box<dyn Any + Send>,
}

/// What became of upkeep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpkeepOutcome {
    /// It stands; what it did, in a few words.
    Done(String),
    /// The table changed too much meanwhile: nothing was done, plan again later.
    Dropped(String),
}
