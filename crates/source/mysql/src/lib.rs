//! MariaDB as a source: its tables by SQL, its binary log as a replica reads it.
//!
//! ```text
//!  catalog ─▶ discover · check · drift · split      wire ─▶ binlog ─▶ fold ─▶ log (ChangeStream)
//!     │                  │                                             │
//!     │                  └───▶ tables: what each table is ◀── follow ──┤
//!     └─▶ snapshot ─▶ rows ─▶ types::ColumnBuilder ─▶ Arrow ◀── types::ColumnBuilder
//! ```
//!
//! Deliberately absent: holding of transactions, merging of chunks with the log, retries. The engine does that.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

pub mod batch;
pub mod binlog;
pub mod catalog;
mod check;
pub mod config;
mod connect;
pub mod ddl;
mod discover;
mod drift;
pub mod fold;
pub mod follow;
mod key;
pub mod log;
mod patience;
mod pool;
pub mod position;
mod quote;
mod rows;
pub mod shared;
mod snapshot;
mod split;
pub mod tables;
pub mod types;
pub mod wire;

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use lakeward_core::{
    ChangeStream, CheckReport, Chunk, ChunkReader, Coverage, Delivered, Drift, Env, Error,
    ErrorKind, KeyText, Position, Prepared, Result, Source, SourceKind, StartAt, TableSchema,
    Validate,
};

use crate::catalog::Catalog;
use crate::config::{Config, Settings};
use crate::shared::Shared;
use crate::snapshot::Snapshots;
use crate::tables::Tables;

/// One MariaDB server.
#[derive(Debug)]
pub struct MySql {
    catalog: Arc<Catalog>,
    tables: Arc<Tables>,
    shared: Arc<Shared>,
    snapshots: Snapshots,
}

impl MySql {
    /// Nothing is connected yet.
    pub fn new(settings: Arc<Settings>) -> Self {
        let tables = Arc::new(Tables::new(settings.unrepresentable));
        let catalog = Arc::new(Catalog::new(settings));
        let shared = Arc::<Shared>::default();
        let snapshots = Snapshots {
            catalog: Arc::clone(&catalog),
            tables: Arc::clone(&tables),
            shared: Arc::clone(&shared),
        };
        Self { catalog, tables, shared, snapshots }
    }
}

impl SourceKind for MySql {
    const NAME: &'static str = "mysql";
    type Config = Config;

    async fn open(config: Config, env: Env) -> Result<Arc<dyn Source>> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::new(ErrorKind::Config, problem.message).with("option", problem.path));
        }
        Ok(Arc::new(Self::new(Settings::new(config, &env)?)))
    }
}

#[async_trait]
impl Source for MySql {
    async fn check(&self) -> Result<CheckReport> {
        check::check(&self.catalog).await
    }

    async fn discover(&self) -> Result<Vec<Arc<TableSchema>>> {
        discover::discover(&self.catalog, &self.tables).await
    }

    /// The server keeps its log for nobody in particular: nothing is made.
    async fn prepare(&self, _tables: &[Arc<TableSchema>]) -> Result<Prepared> {
        Ok(Prepared { beginning: snapshot::head(&self.catalog).await?, fresh: true })
    }

    /// The log carries all tables.
    async fn publish(&self, _tables: &[Arc<TableSchema>]) -> Result<bool> {
        Ok(false)
    }

    async fn drift(&self, known: &TableSchema) -> Result<Option<Drift>> {
        drift::drift(&self.catalog, &self.tables, known).await
    }

    async fn barrier(&self) -> Result<()> {
        snapshot::barrier(&self.catalog).await
    }

    async fn head(&self) -> Result<Position> {
        snapshot::head(&self.catalog).await
    }

    async fn split(&self, table: &TableSchema, rows_per_chunk: u64) -> Result<Vec<Chunk>> {
        let mut session = self.catalog.session().await?;
        let described = catalog::describe_one(&mut session, &table.table).await?;
        let described = described.ok_or_else(|| snapshot::gone(&table.table))?;
        let chunks = split::split(&mut session, &described, rows_per_chunk).await?;
        session.give_back();
        Ok(chunks)
    }

    /// `delivered` is not asked: the log itself says what it has handed out, which is never less.
    async fn read_chunk(
        &self,
        table: &TableSchema,
        chunk: &Chunk,
        _delivered: Arc<Delivered>,
    ) -> Result<Box<dyn ChunkReader>> {
        self.snapshots.read(table, chunk).await
    }

    async fn changes(
        &self,
        from: StartAt,
        known: &[Arc<TableSchema>],
    ) -> Result<Box<dyn ChangeStream>> {
        self.tables.seed(known);
        log::open(&self.catalog, Arc::clone(&self.tables), Arc::clone(&self.shared), from).await
    }

    /// How long the server keeps its log is its own affair.
    async fn confirm(&self, _position: &Position) -> Result<()> {
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn covers(&self, through: &Position, transaction: &Position) -> Coverage {
        position::covers(through, transaction)
    }

    /// Positions count transactions, not bytes.
    fn distance_bytes(&self, _from: &Position, _to: &Position) -> Option<u64> {
        None
    }

    fn key_text(&self, table: &TableSchema, rows: &RecordBatch) -> Result<Vec<KeyText>> {
        key::key_texts(table, rows)
    }
}
