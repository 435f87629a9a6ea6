//! Reading one chunk of a table in one snapshot.
//!
//! The server says at which place of its log a consistent snapshot stands; the place that it says for its log as a whole
//! runs ahead of what new snapshots see. A snapshot that does not hold all that the log has handed out is taken again.
//! The table's shape is looked at before and after the snapshot was taken and the table was opened in it: from then on
//! it cannot change. Merging chunk and log is the engine's.
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use lakeward_core::{Chunk, ChunkReader, Error, ErrorKind, Position, Result, TableId, TableSchema};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::binlog::event::XaId;
use crate::catalog::{self, Catalog, Described, cell, describe_one};
use crate::connect::sql_error;
use crate::key::{KeySql, condition};
use crate::patience::Wait;
use crate::pool::Pooled;
use crate::position::{GtidSet, position};
use crate::quote;
use crate::rows::Rows;
use crate::shared::Shared;
use crate::tables::Tables;
use crate::wire::Conn;

const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// Batches that wait for the engine.
const BATCHES_WAITING: usize = 1;

/// What chunks are read with.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) shared: Arc<Shared>,
}

/// A transaction that reads one table: its snapshot taken, the table held.
struct Opened {
    session: Pooled,
    described: Described,
    at: GtidSet,
}

impl Snapshots {
    /// Opens a snapshot that sees everything that the log has handed out, and begins to read `chunk` in it.
    pub(crate) async fn read(
        &self,
        table: &TableSchema,
        chunk: &Chunk,
    ) -> Result<Box<dyn ChunkReader>> {
        let opened = self.open(&table.table, *chunk == Chunk::Whole).await?;
        let schema = self.tables.as_looked(table, &opened.described.look());
        let policy = self.catalog.settings().unrepresentable;
        let rows = Rows::new(schema, policy)?;
        Ok(Box::new(Reader::start(opened, chunk, rows)?))
    }

    /// Which of the prepared transactions whose commit the log has handed out are still being committed. Their place in
    /// the log says nothing: the server writes them there, and lets snapshots name it, before the engine commits. They
    /// are listed as prepared until then.
    async fn completing(&self, session: &mut Conn, completed: Vec<XaId>) -> Result<Vec<XaId>> {
        if completed.is_empty() {
            return Ok(completed);
        }
        let listed = prepared(session).await?;
        let is_listed = |xid: &XaId| listed.iter().any(|data| data == xid.data());
        let (still, over): (Vec<_>, Vec<_>) = completed.into_iter().partition(is_listed);
        self.shared.over(&over);
        Ok(still)
    }

    /// Tries until the snapshot sees everything that the log has handed out, and the table keeps its shape meanwhile.
    /// An `exact` one has nothing prepared around it: such a transaction's commit could stand in the log, unseen.
    async fn open(&self, table: &TableId, exact: bool) -> Result<Opened> {
        // What is handed out from now on, the engine knows to be newer than this read.
        let handed_out = self.shared.handed_out();
        let mut completed = self.shared.completed();
        let mut wait = Wait::new();
        loop {
            let mut session = self.catalog.session().await?;
            let before = existing(&mut session, table).await?;
            completed = self.completing(&mut session, completed).await?;
            let mut unclear = exact && !prepared(&mut session).await?.is_empty();
            run(&mut session, BEGIN).await?;
            hold(&mut session, table).await?;
            let at = place(&mut session).await?;
            unclear |= exact && !prepared(&mut session).await?.is_empty();
            let behind = unclear
                || !completed.is_empty()
                || handed_out.as_ref().is_some_and(|out| !at.covers(out));
            if !behind {
                let described = existing(&mut session, table).await?;
                if described == before {
                    return Ok(Opened { session, described, at });
                }
            }
            run(&mut session, "ROLLBACK").await?;
            session.give_back();
            if let Some(waited) = wait.pause().await {
                tracing::info!(
                    table = %table, behind, waited_s = waited.as_secs(),
                    "a chunk waits for a snapshot that sees what the log has delivered"
                );
            }
        }
    }
}

async fn existing(session: &mut Conn, table: &TableId) -> Result<Described> {
    describe_one(session, table).await?.ok_or_else(|| gone(table))
}

/// A table that is not there now: it may come again, and the next look at the catalogue tells.
pub(crate) fn gone(table: &TableId) -> Error {
    Error::new(ErrorKind::Conflict, "the table is gone").with("table", table)
}

/// Opens the table in the snapshot, so that nobody changes it. The sooner the better: a table that is rebuilt between the
/// two cannot be read in it.
async fn hold(session: &mut Conn, table: &TableId) -> Result<()> {
    run(session, &format!("SELECT 1 FROM {} LIMIT 0", quote::table(table))).await
}

/// Takes a snapshot, and says which transactions it sees.
async fn snapshot(session: &mut Conn) -> Result<GtidSet> {
    run(session, BEGIN).await?;
    place(session).await
}

/// Which transactions the session's snapshot sees.
async fn place(session: &mut Conn) -> Result<GtidSet> {
    let (file, offset) = settled_place(session).await?;
    let sql = format!("SELECT BINLOG_GTID_POS({}, {offset})", quote::text(&file));
    let known: Option<String> = cell(&catalog::row(session, &sql).await?, 0)?;
    // The file went in between, which only happens to old ones.
    let text = known.ok_or_else(|| {
        Error::new(ErrorKind::Unreachable, "the server no longer knows the place of a snapshot")
    })?;
    catalog::gtids(crate::binlog::Flavour::MariaDb, &text)
}

/// How often in a row the server must name the same place before it is believed.
///
/// The server answers through variables that all sessions share (`TC_LOG_BINLOG::set_status_variables`): whoever else
/// asks for its status at that moment, a monitor or another snapshot, may put another place into this answer. About one
/// answer in a hundred was wrong beside four sessions that asked without pause, on 10.11 and on 11.8. What the snapshot's
/// own place is does not change; what others put there does.
const ALIKE: u32 = 4;

/// Where in the log the session's snapshot stands: file and offset.
async fn settled_place(session: &mut Conn) -> Result<(String, u64)> {
    let mut place = named_place(session).await?;
    let mut alike = 1;
    while alike < ALIKE {
        let again = named_place(session).await?;
        alike = if again == place { alike + 1 } else { 1 };
        place = again;
    }
    Ok(place)
}

/// What the server answers once.
async fn named_place(session: &mut Conn) -> Result<(String, u64)> {
    let mut file = None;
    let mut offset = None;
    for row in catalog::rows(session, "SHOW STATUS LIKE 'binlog_snapshot_%'").await? {
        let (name, value): (String, String) = (cell(&row, 0)?, cell(&row, 1)?);
        match name.to_ascii_lowercase().as_str() {
            "binlog_snapshot_file" => file = Some(value),
            "binlog_snapshot_position" => offset = value.parse::<u64>().ok(),
            _ => {}
        }
    }
    file.filter(|f| !f.is_empty()).zip(offset).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "the server does not say where in its log a snapshot stands",
        )
        .remedied("switch the binary log on; only MariaDB says it")
    })
}

/// A position behind everything that was committed before the call.
pub(crate) async fn head(catalog: &Catalog) -> Result<Position> {
    let at = head_set(catalog).await?;
    Ok(position(&at, &at))
}

/// The same, as a set.
pub(crate) async fn head_set(catalog: &Catalog) -> Result<GtidSet> {
    let flavour = catalog.server().await?.flavour;
    let mut session = catalog.session().await?;
    let at = catalog::head(&mut session, flavour).await?;
    session.give_back();
    Ok(at)
}

/// Returns when new snapshots see everything that was in the log at the call, and every transaction that was prepared
/// has been committed or rolled back: the log brings its end, but perhaps not its rows.
pub(crate) async fn barrier(catalog: &Catalog) -> Result<()> {
    let bound = head_set(catalog).await?;
    let mut session = catalog.session().await?;
    let mut prepared = prepared(&mut session).await?;
    let mut wait = Wait::new();
    loop {
        let at = snapshot(&mut session).await?;
        run(&mut session, "ROLLBACK").await?;
        if !prepared.is_empty() {
            let still = self::prepared(&mut session).await?;
            prepared.retain(|one| still.contains(one));
        }
        if at.covers(&bound) && prepared.is_empty() {
            session.give_back();
            return Ok(());
        }
        if let Some(waited) = wait.pause().await {
            report(prepared.len(), waited);
        }
    }
}

fn report(prepared: usize, waited: Duration) {
    tracing::info!(
        prepared,
        waited_s = waited.as_secs(),
        "the initial load waits for transactions that are committing or prepared (XA RECOVER lists those)"
    );
}

/// The transactions that are prepared now.
async fn prepared(session: &mut Conn) -> Result<Vec<Vec<u8>>> {
    catalog::rows(session, "XA RECOVER").await?.iter().map(|row| cell(row, 3)).collect()
}

async fn run(session: &mut Conn, sql: &str) -> Result<()> {
    session.run(sql).await.map_err(sql_error)
}

/// A chunk being read. The connection is read by a task of its own, which ends with the reader.
struct Reader {
    schema: Arc<TableSchema>,
    at: Position,
    whole: bool,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    fn start(opened: Opened, chunk: &Chunk, rows: Rows) -> Result<Self> {
        let Opened { session, described, at } = opened;
        let schema = Arc::clone(rows.schema());
        let sql = select(&described, &schema, chunk)?;
        let (send, batches) = mpsc::channel(BATCHES_WAITING);
        let task = tokio::spawn(async move {
            if let Err(error) = read(session, &sql, rows, &send).await {
                let _ = send.send(Err(error)).await;
            }
        });
        let at = position(&at, &at);
        Ok(Self { schema, at, whole: *chunk == Chunk::Whole, batches, task })
    }
}

fn select(described: &Described, schema: &TableSchema, chunk: &Chunk) -> Result<String> {
    let columns: Vec<_> =
        schema.columns.iter().map(|c| format!("t.{}", quote::ident(&c.name))).collect();
    Ok(format!(
        "SELECT SQL_NO_CACHE {columns} FROM {table} t WHERE {condition}",
        columns = columns.join(", "),
        table = quote::table(&described.table),
        condition = condition(chunk, KeySql::of(described).as_ref())?,
    ))
}

/// Reads all rows in the binary protocol, which is exact where text is not, and ends the transaction.
async fn read(
    mut session: Pooled,
    sql: &str,
    mut rows: Rows,
    out: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<()> {
    let connection: &mut Conn = &mut session;
    let mut found = connection.binary(sql).await.map_err(sql_error)?;
    while let Some(row) = found.next().await.map_err(sql_error)? {
        rows.push(&row)?;
        if rows.is_full() && !hand_on(&mut rows, out).await? {
            return Ok(());
        }
    }
    hand_on(&mut rows, out).await?;
    if rows.nulled() > 0 {
        tracing::warn!(
            values = rows.nulled(),
            "values that have no place in the lake were read as NULL"
        );
    }
    run(&mut session, "COMMIT").await?;
    session.give_back();
    Ok(())
}

/// False: nobody listens any more.
async fn hand_on(rows: &mut Rows, out: &mpsc::Sender<Result<RecordBatch>>) -> Result<bool> {
    match rows.take()? {
        Some(batch) => Ok(out.send(Ok(batch)).await.is_ok()),
        None => Ok(true),
    }
}

#[async_trait]
impl ChunkReader for Reader {
    fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    fn saw_nothing_after(&self) -> &Position {
        &self.at
    }

    fn exact(&self) -> Option<&Position> {
        self.whole.then_some(&self.at)
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.batches.recv().await.transpose()
    }
}
