//! PostgreSQL as a source: its tables by SQL, its log by logical replication (`pgoutput`).
//!
//! ```text
//!  catalog ──▶ discover / check / split          log (walsender) ──▶ decode ──┐
//!     │                                                                        ▼
//!     └──▶ snapshot (COPY BINARY) ──▶ types::ColumnBuilder ──▶ Arrow ◀── types::ColumnBuilder
//! ```
//!
//! Deliberately absent: holding of transactions, merging of chunks with the log, retries. The engine does that.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

pub mod batch;
pub mod catalog;
mod check;
pub mod config;
pub mod connect;
pub mod copy;
pub mod decode;
mod discover;
mod drift;
mod feedback;
pub mod fold;
mod key;
pub mod log;
mod now;
mod patience;
mod pool;
pub mod position;
mod quote;
pub mod relation;
mod restart_point;
mod setup;
mod snapshot;
mod split;
pub mod tls;
pub mod types;
mod visibility;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use lakeward_core::{
    ChangeStream, CheckReport, Chunk, ChunkReader, Coverage, Delivered, Drift, Env, Error,
    ErrorKind, KeyText, Position, Prepared, Result, Source, SourceKind, StartAt, TableSchema,
    Validate,
};

use crate::catalog::{Catalog, table_oid};
use crate::config::{Config, Settings};
use crate::restart_point::RestartPoints;
use crate::snapshot::Snapshots;

/// One PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    catalog: Arc<Catalog>,
    snapshots: Snapshots,
    restart_points: RestartPoints,
    /// The LSN before which the server may release its log. The open stream tells the server.
    confirmed: Arc<AtomicU64>,
}

impl Postgres {
    /// Nothing is connected yet.
    pub fn new(settings: Arc<Settings>) -> Self {
        let catalog = Arc::new(Catalog::new(settings));
        let snapshots = Snapshots::new(Arc::clone(&catalog));
        Self {
            catalog,
            snapshots,
            restart_points: RestartPoints::default(),
            confirmed: Arc::default(),
        }
    }
}

impl SourceKind for Postgres {
    const NAME: &'static str = "postgres";
    type Config = Config;

    async fn open(config: Config, env: Env) -> Result<Arc<dyn Source>> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::new(ErrorKind::Config, problem.message).with("option", problem.path));
        }
        Ok(Arc::new(Self::new(Settings::new(config, &env)?)))
    }
}

#[async_trait]
impl Source for Postgres {
    async fn check(&self) -> Result<CheckReport> {
        check::check(&self.catalog).await
    }

    async fn discover(&self) -> Result<Vec<Arc<TableSchema>>> {
        discover::discover(&self.catalog).await
    }

    async fn prepare(&self, tables: &[Arc<TableSchema>]) -> Result<Prepared> {
        setup::prepare(&self.catalog, tables).await
    }

    async fn publish(&self, tables: &[Arc<TableSchema>]) -> Result<bool> {
        setup::publish(&self.catalog, tables).await
    }

    async fn drift(&self, known: &TableSchema) -> Result<Option<Drift>> {
        drift::drift(&self.catalog, known).await
    }

    async fn barrier(&self) -> Result<()> {
        snapshot::barrier(&self.catalog).await
    }

    async fn head(&self) -> Result<Position> {
        let head = snapshot::head(&self.catalog).await?;
        self.restart_points.note(&self.snapshots, &self.catalog.settings().slot).await;
        Ok(head)
    }

    async fn split(&self, table: &TableSchema, rows_per_chunk: u64) -> Result<Vec<Chunk>> {
        let session = self.snapshots.session().await?;
        let described = self.catalog.describe_by(&session, &[table_oid(table)?]).await?.pop();
        let described = described.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the table is gone").with("table", &table.table)
        })?;
        let chunks = split::split(&session, &described, rows_per_chunk).await?;
        session.give_back();
        Ok(chunks)
    }

    async fn read_chunk(
        &self,
        table: &TableSchema,
        chunk: &Chunk,
        delivered: Arc<Delivered>,
    ) -> Result<Box<dyn ChunkReader>> {
        self.snapshots.read(table, chunk, &delivered).await
    }

    async fn changes(
        &self,
        from: StartAt,
        known: &[Arc<TableSchema>],
    ) -> Result<Box<dyn ChangeStream>> {
        log::open(Arc::clone(&self.catalog), from, known, Arc::clone(&self.confirmed)).await
    }

    async fn confirm(&self, position: &Position) -> Result<()> {
        self.confirmed.fetch_max(position::resume_lsn(position)?, Ordering::AcqRel);
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        setup::remove(&self.catalog).await
    }

    fn covers(&self, through: &Position, transaction: &Position) -> Coverage {
        position::covers(through, transaction)
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64> {
        position::distance_bytes(from, to)
    }

    fn key_text(&self, table: &TableSchema, rows: &RecordBatch) -> Result<Vec<KeyText>> {
        key::key_texts(table, rows)
    }
}
