//! The contract of a source: what it promises, and when the engine calls it.
//!
//! A source reads its log and its tables. It holds no transaction back, orders nothing, retries nothing: the
//! engine does that once for all sources.
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::change::{Divergence, SourceEvent, TransactionId};
use crate::commit::KeyText;
use crate::config::Validate;
use crate::error::Result;
use crate::position::{Coverage, Position};
use crate::schema::{SchemaChange, TableSchema};

/// What a connector may know of the pipeline it works for.
#[derive(Debug, Clone)]
pub struct Env {
    /// The pipeline's name: letters, digits, `_` and `-`.
    pub pipeline: String,
    /// The connector's name in the pipeline file (for sinks: the name under which its ledger stands).
    pub name: String,
    /// This process run, unique for ever: part of every file name.
    pub writer: String,
    /// A local directory for state that may be lost.
    pub state_dir: PathBuf,
    /// The pipeline's memory cap in bytes.
    pub memory_bytes: u64,
}

/// A source connector, as the registry lists it.
pub trait SourceKind: Send + Sync + 'static {
    /// The `type` in the pipeline file.
    const NAME: &'static str;
    /// Its options. Unknown keys must be refused (`deny_unknown_fields`).
    type Config: DeserializeOwned + JsonSchema + Validate + Send;

    /// Opens it without touching the server beyond what parsing needs; connections are made by the first call that needs one.
    ///
    /// # Errors
    /// `Config` for a secret that cannot be read or options that cannot work together.
    fn open(config: Self::Config, env: Env)
    -> impl Future<Output = Result<Arc<dyn Source>>> + Send;
}

/// How bad a finding of `check` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know: a column that lands as text.
    Note,
    /// It works, with a cost or a risk.
    Warning,
    /// The pipeline cannot run, or could lose something.
    Refused,
}

/// One finding of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What it is about: a table, a column, a server setting.
    pub about: String,
    /// What was found.
    pub message: String,
    /// What to type.
    pub remedy: String,
}

/// What `check` found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Server product and version, as it names itself.
    pub server: String,
    /// All findings.
    pub findings: Vec<Finding>,
}

/// Where the log is opened.
#[derive(Debug, Clone)]
pub enum StartAt {
    /// Where [`Source::prepare`] said the log begins: this pipeline has no durable position yet.
    Beginning(Position),
    /// After a durable position. If the log silently begins later, the source must answer `LogGone`.
    After(Position),
}

/// What a table has become, as [`Source::drift`] found it in the catalogue.
#[derive(Debug, Clone)]
pub struct Drift {
    /// From the known schema to the one of now. The versions may be equal, when only `note` moved.
    pub change: SchemaChange,
    /// Whether rows changed that the log does not carry.
    pub diverged: Option<Divergence>,
    /// A position behind everything that the catalogue look-up saw, which the stream is sure to reach: only when the
    /// log has passed it, and brought no other schema, may the change be applied.
    pub seen_by: Position,
}

/// What [`Source::prepare`] did.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Where the log begins for this pipeline.
    pub beginning: Position,
    /// Whether the log's server-side reader (slot) was made by this call: everything must be loaded.
    pub fresh: bool,
}

/// A part of a table that one reader reads in one snapshot. Plans are kept in the ledger, so a chunk must mean the
/// same rows in every process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chunk {
    /// Keys `from < key <= to`, compared by the source's own order; `None` is unbounded.
    Range {
        /// Lower bound, exclusive.
        from: Option<KeyText>,
        /// Upper bound, inclusive.
        to: Option<KeyText>,
    },
    /// Exactly these keys, as far as they exist.
    Keys(Vec<KeyText>),
    /// All rows, in one exact snapshot (tables without a key).
    Whole,
}

/// Transactions that the log has delivered and that a new snapshot might not see yet.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    /// In no order, without doubles.
    pub ids: Vec<TransactionId>,
}

/// A source. All methods may be called at the same time from several tasks.
#[async_trait]
pub trait Source: Send + Sync {
    /// Every finding with its remedy; changes nothing on the server. Called before anything runs, and by `lakeward check`.
    async fn check(&self) -> Result<CheckReport>;

    /// The selected tables as they are now, in a stable order. Called at start and again every few seconds.
    async fn discover(&self) -> Result<Vec<Arc<TableSchema>>>;

    /// Makes what the server needs to keep the log for this pipeline (publication, then slot), and checks it.
    /// May be repeated.
    ///
    /// # Errors
    /// `Auth`, `Config` with what to grant or set.
    async fn prepare(&self, tables: &[Arc<TableSchema>]) -> Result<Prepared>;

    /// Sees to it that the log carries these tables from now on; the engine calls [`barrier`](Source::barrier)
    /// before the first chunk. May be repeated. Returns whether anything had to change.
    async fn publish(&self, tables: &[Arc<TableSchema>]) -> Result<bool>;

    /// What the table that `known` describes has become by now, for changes that no row in the log announces
    /// (DDL without a later change of a row, a rewrite). `None` when it is the same, or gone. `fill` of new columns is
    /// as in the log's own schema events; `diverged` says that rows changed without being sent since `known.note`.
    async fn drift(&self, known: &TableSchema) -> Result<Option<Drift>>;

    /// Returns when every transaction that ran or was in the log at the call is visible to new snapshots (or gone).
    /// May take as long as the oldest writing transaction of the server.
    async fn barrier(&self) -> Result<()>;

    /// A position behind everything that was committed before the call, which the stream is sure to reach
    /// although nobody else writes.
    async fn head(&self) -> Result<Position>;

    /// Cuts a table into chunks of about `rows_per_chunk` rows that cover every possible key. A table without a key
    /// is one `Whole` chunk.
    async fn split(&self, table: &TableSchema, rows_per_chunk: u64) -> Result<Vec<Chunk>>;

    /// Opens a snapshot that sees all of `delivered`, waiting if it must, and begins to read the chunk in it.
    /// The table cannot be rewritten or changed while the reader lives.
    ///
    /// # Errors
    /// `Unreachable`; `Unsupported` when the table is gone.
    async fn read_chunk(
        &self,
        table: &TableSchema,
        chunk: &Chunk,
        delivered: Arc<Delivered>,
    ) -> Result<Box<dyn ChunkReader>>;

    /// Opens the log. `known` is what the engine holds of each table: the first schema event of a table is relative to it.
    /// One stream at a time; dropping it closes the connection.
    ///
    /// # Errors
    /// `LogGone` when what is owed is no longer there.
    async fn changes(
        &self,
        from: StartAt,
        known: &[Arc<TableSchema>],
    ) -> Result<Box<dyn ChangeStream>>;

    /// Everything up to `position` is durable downstream: the log before `position.resume` may be released.
    /// Returns at once; the stream's own feedback carries it. May be repeated, never goes backwards.
    async fn confirm(&self, position: &Position) -> Result<()>;

    /// Removes everything that `prepare` and `publish` made on the server. May be repeated.
    async fn remove(&self) -> Result<()>;

    /// Whether a transaction that ended at `transaction` is contained in all that ends at `through`. Pure.
    fn covers(&self, through: &Position, transaction: &Position) -> Coverage;

    /// Bytes of log between two positions, for showing lag; `None` where that means nothing. Pure.
    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64>;

    /// The keys of `rows` (columns of `table`) as text that [`Chunk::Keys`] understands, one per row. Pure.
    fn key_text(&self, table: &TableSchema, rows: &RecordBatch) -> Result<Vec<KeyText>>;
}

/// Reads one chunk in one snapshot.
#[async_trait]
pub trait ChunkReader: Send {
    /// The schema under which it reads; the engine drops a reader whose schema is not the one it expects.
    fn schema(&self) -> &Arc<TableSchema>;

    /// A position after which the snapshot saw nothing.
    fn saw_nothing_after(&self) -> &Position;

    /// For `Whole`: the position such that the snapshot saw exactly the transactions that it covers.
    fn exact(&self) -> Option<&Position>;

    /// The next rows, with the columns of [`schema`](ChunkReader::schema); `None` when all were read.
    /// Batches hold at most a few MiB.
    async fn next(&mut self) -> Result<Option<RecordBatch>>;
}

/// The log, opened.
#[async_trait]
pub trait ChangeStream: Send {
    /// The next event. Cancel safe. After an error the stream is dead; open a new one.
    ///
    /// # Errors
    /// `Unreachable` when the connection broke, `BadData` naming table and column, `LogGone`.
    async fn next(&mut self) -> Result<SourceEvent>;
}
