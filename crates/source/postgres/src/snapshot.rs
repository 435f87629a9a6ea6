//! Reading one chunk of a table in one snapshot.
//!
//! The order of the first steps is the point: the table is locked against rewrites, THEN the snapshot is taken, then it is
//! made sure that the snapshot sees all that the log has delivered. Merging chunk and log is the engine's.
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use lakeward_core::{
    Chunk, ChunkReader, Delivered, Error, ErrorKind, Position, Result, TableId, TableSchema,
};
use tokio_postgres::SimpleQueryMessage;

use crate::catalog::{Catalog, Described, table_oid};
use crate::connect::{Session, sql_error};
use crate::copy::Rows;
use crate::key::{KeySql, condition, selected};
use crate::patience::{Wait, saying};
use crate::pool::{Pool, Pooled};
use crate::position::Place;
use crate::quote;
use crate::types::Transfer;
use crate::visibility::Visible;
use crate::wire::{Copied, ReadingConnection, ReplicationConnection};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Opens snapshots and reads chunks in them.
#[derive(Debug)]
pub(crate) struct Snapshots {
    catalog: Arc<Catalog>,
    sessions: Pool<Session>,
    lines: Pool<ReadingConnection>,
}

/// A transaction that reads one table: locked, with its snapshot taken.
struct Opened {
    line: Pooled<ReadingConnection>,
    described: Described,
    exact: Option<Position>,
}

impl Snapshots {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        let sessions = Pool::new(Arc::clone(catalog.settings()));
        let lines = Pool::new(Arc::clone(catalog.settings()));
        Self { catalog, sessions, lines }
    }

    /// A connection that nobody is using now.
    pub(crate) async fn session(&self) -> Result<Pooled<Session>> {
        self.sessions.get().await
    }

    /// Opens a snapshot that sees all of `delivered` and begins to read `chunk` in it.
    pub(crate) async fn read(
        &self,
        table: &TableSchema,
        chunk: &Chunk,
        delivered: &Delivered,
    ) -> Result<Box<dyn ChunkReader>> {
        let opened = match chunk {
            Chunk::Whole => self.open_exact(table).await?,
            Chunk::Range { .. } | Chunk::Keys(_) => self.open(table, delivered).await?,
        };
        // Said after the snapshot was taken, so nothing behind it can be in the snapshot.
        let saw_nothing_after = head(&self.catalog).await?;
        let reader = Reader::start(opened, chunk, saw_nothing_after, &self.catalog).await?;
        Ok(Box::new(reader))
    }

    /// Tries until the snapshot sees everything that the log has delivered.
    async fn open(&self, table: &TableSchema, delivered: &Delivered) -> Result<Opened> {
        let oid = table_oid(table)?;
        let mut wait = Wait::new();
        loop {
            let mut line = self.lines.get().await?;
            let name = self.name_of(oid, &table.table).await?;
            // LOCK takes no snapshot: it is taken behind it.
            let begin = format!("{BEGIN}; {}; SELECT pg_current_snapshot()", lock(&name));
            let visible = Visible::parse(&line.text(&begin).await?)?;
            let unseen = visible.unseen(&delivered.ids);
            // Under the lock the table is for everybody what it is for this snapshot.
            let described = self.catalog.describe(oid).await?;
            match described.filter(|d| d.table == name) {
                Some(described) if unseen == 0 => {
                    return Ok(Opened { line, described, exact: None });
                }
                _ => line.run("ROLLBACK").await?,
            }
            line.give_back();
            if let Some(waited) = wait.pause().await {
                tracing::info!(
                    table = %table.table, unseen, waited_s = waited.as_secs(),
                    "a chunk waits for transactions that the log has delivered and no snapshot sees yet"
                );
            }
        }
    }

    /// One snapshot at an exact place of the log: that of a slot made for it. The lock comes after the snapshot here, so the
    /// table is compared with what it was when the snapshot was taken.
    async fn open_exact(&self, table: &TableSchema) -> Result<Opened> {
        let oid = table_oid(table)?;
        let mut wait = Wait::new();
        loop {
            if let Some(opened) = self.try_exact(oid, &table.table).await? {
                return Ok(opened);
            }
            if let Some(waited) = wait.pause().await {
                tracing::info!(
                    table = %table.table, waited_s = waited.as_secs(),
                    "a table changes its shape each time its snapshot is taken"
                );
            }
        }
    }

    async fn try_exact(&self, oid: u32, table: &TableId) -> Result<Option<Opened>> {
        let mut line = self.lines.get().await?;
        let settings = self.catalog.settings();
        let mut walsender = ReplicationConnection::connect(settings).await?;
        let system = walsender.identify().await?.system;
        let slot = temporary_slot(&settings.slot, oid);
        let slot = saying(walsender.create_slot(&slot, true, true), |waited| {
            tracing::info!(
                table = %table, waited_s = waited.as_secs(),
                "a table's snapshot waits for transactions that are still open"
            );
        })
        .await?;
        let snapshot = slot.snapshot.ok_or_else(|| {
            Error::new(ErrorKind::Bug, "a slot without the snapshot that was asked for")
        })?;
        let name = self.name_of(oid, table).await?;
        let begin = format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}", quote::literal(&snapshot));
        line.run(&begin).await?;
        line.run(&lock(&name)).await?;
        let then = self.described_in(&begin, oid).await?;
        let now = self.catalog.describe(oid).await?;
        match (then, now) {
            (Some(then), Some(now)) if then == now && then.table == name => {
                let exact = Some(Place::before(system, slot.consistent_point));
                Ok(Some(Opened { line, described: then, exact }))
            }
            _ => {
                line.run("ROLLBACK").await?;
                line.give_back();
                Ok(None)
            }
        }
    }

    /// A table as a transaction that `begin` opens sees it.
    async fn described_in(&self, begin: &str, oid: u32) -> Result<Option<Described>> {
        let session = self.sessions.get().await?;
        session.batch_execute(begin).await.map_err(sql_error)?;
        let described = self.catalog.describe_by(&session, &[oid]).await?.pop();
        session.batch_execute("ROLLBACK").await.map_err(sql_error)?;
        session.give_back();
        Ok(described)
    }

    /// The table's name now: it may have been renamed since its schema was read.
    async fn name_of(&self, oid: u32, known: &TableId) -> Result<TableId> {
        let session = self.catalog.session().await?;
        let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c \
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";
        let row = session.query_opt(sql, &[&oid]).await.map_err(sql_error)?.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the table is gone").with("table", known)
        })?;
        let namespace: String = crate::catalog::cell(&row, 0)?;
        Ok(TableId::new(namespace, crate::catalog::cell::<String>(&row, 1)?))
    }
}

/// A position behind everything that was committed before the call. The message also moves an idle server's log.
pub(crate) async fn head(catalog: &Catalog) -> Result<Position> {
    let session = catalog.session().await?;
    let sql = "SELECT pg_logical_emit_message(false, 'lakeward', '') AS lsn, \
               (SELECT system_identifier FROM pg_control_system()) AS system";
    let row = session.query_one(sql, &[]).await.map_err(sql_error)?;
    let lsn: tokio_postgres::types::PgLsn = crate::catalog::cell(&row, "lsn")?;
    let system: i64 = crate::catalog::cell(&row, "system")?;
    Ok(Place::before(system.cast_unsigned(), lsn.into()))
}

/// Returns when every transaction that had an id at the call has ended and is visible.
///
/// A snapshot's xmax is no such bound: transactions that run may have higher ids. An id of our own is.
pub(crate) async fn barrier(catalog: &Catalog) -> Result<()> {
    let session = catalog.session().await?;
    let bound = text(&session, "SELECT pg_current_xact_id()").await?;
    let bound: u64 = bound.parse().map_err(|_| {
        Error::new(ErrorKind::Corrupt, "the server gave a transaction id that is no number")
    })?;
    let mut wait = Wait::new();
    loop {
        let session = catalog.session().await?;
        let visible = Visible::parse(&text(&session, "SELECT pg_current_snapshot()").await?)?;
        if visible.xmin() >= bound {
            return Ok(());
        }
        if let Some(waited) = wait.pause().await {
            report_writers(&session, visible.xmin(), waited).await?;
        }
    }
}

async fn report_writers(session: &Session, xmin: u64, waited: Duration) -> Result<()> {
    let sql = "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL) AS writers, \
               (SELECT count(*) FROM pg_prepared_xacts) AS prepared, \
               (SELECT string_agg(pid::text, ',') FROM pg_stat_activity \
                 WHERE backend_xid::text::bigint = $1) AS pid";
    let low = i64::from(xmin as u32);
    let row = session.query_one(sql, &[&low]).await.map_err(sql_error)?;
    let (writers, prepared): (i64, i64) =
        (crate::catalog::cell(&row, "writers")?, crate::catalog::cell(&row, "prepared")?);
    let pid: Option<String> = crate::catalog::cell(&row, "pid")?;
    tracing::info!(
        writers,
        prepared,
        oldest_transaction = xmin,
        oldest_pid =
            pid.as_deref().unwrap_or("none: a prepared transaction, or a commit that waits"),
        waited_s = waited.as_secs(),
        "the initial load waits for open transactions"
    );
    Ok(())
}

fn lock(table: &TableId) -> String {
    format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", quote::table(table))
}

fn temporary_slot(slot: &str, oid: u32) -> String {
    format!("{slot:.50}_{oid:x}")
}

/// The only cell of a query, as text, by the simple protocol: nothing else can take a snapshot on its way.
async fn text(session: &Session, sql: &str) -> Result<String> {
    let messages = session.simple_query(sql).await.map_err(sql_error)?;
    let cell = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    cell.map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the server answered nothing to a question about itself")
    })
}

/// A chunk being read.
struct Reader {
    schema: Arc<TableSchema>,
    saw_nothing_after: Position,
    exact: Option<Position>,
    rows: Rows,
    /// `None`: everything was read.
    line: Option<Pooled<ReadingConnection>>,
}

impl Reader {
    async fn start(
        opened: Opened,
        chunk: &Chunk,
        saw_nothing_after: Position,
        catalog: &Catalog,
    ) -> Result<Self> {
        let Opened { mut line, described, exact } = opened;
        let schema = Arc::new(described.schema());
        let sql = copy(&described, chunk)?;
        let transfers = described
            .live()
            .map(|a| a.pg_type.as_ref().map_or(Transfer::Text, |t| t.transfer))
            .collect();
        let policy = catalog.settings().unrepresentable;
        let rows = Rows::new(Arc::clone(&schema), transfers, policy)?;
        line.copy(&sql).await?;
        Ok(Self { schema, saw_nothing_after, exact, rows, line: Some(line) })
    }

    async fn end(&mut self) -> Result<()> {
        self.rows.finish()?;
        if self.rows.nulled() > 0 {
            tracing::warn!(
                table = %self.schema.table, values = self.rows.nulled(),
                "values that have no place in the lake were read as NULL"
            );
        }
        if let Some(mut line) = self.line.take() {
            line.run("COMMIT").await?;
            line.give_back();
        }
        Ok(())
    }
}

fn copy(described: &Described, chunk: &Chunk) -> Result<String> {
    let columns: Vec<String> = described.live().map(selected).collect();
    Ok(format!(
        "COPY (SELECT {columns} FROM ONLY {table} t WHERE {condition}) TO STDOUT (FORMAT binary)",
        columns = columns.join(", "),
        table = quote::table(&described.table),
        condition = condition(chunk, KeySql::of(described).as_ref())?,
    ))
}

#[async_trait]
impl ChunkReader for Reader {
    fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    fn saw_nothing_after(&self) -> &Position {
        &self.saw_nothing_after
    }

    fn exact(&self) -> Option<&Position> {
        self.exact.as_ref()
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let rows = &mut self.rows;
        while let Some(line) = &mut self.line {
            let copied = line.copied(|piece| {
                rows.feed(piece)?;
                Ok(!rows.is_full())
            })?;
            if rows.is_full() {
                break;
            }
            match copied {
                Copied::Some => line.read().await?,
                Copied::All => {
                    self.end().await?;
                    break;
                }
            }
        }
        self.rows.take()
    }
}
