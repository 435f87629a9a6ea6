//! What the server keeps for a pipeline: a publication and a slot.
//!
//! The publication comes first: a slot decodes with the publication as it was at each place of the log. Whatever was there
//! already and does not fit is refused, never changed.
use std::sync::Arc;
use std::time::Duration;

use lakeward_core::{Error, ErrorKind, Prepared, Result, TableId, TableSchema};
use tokio_postgres::types::PgLsn;

use crate::catalog::{Catalog, cell, table_oid};
use crate::connect::APPLICATION_NAME;
use crate::connect::{Session, sql_error};
use crate::patience::saying;
use crate::position::Place;
use crate::quote::{self, ident};
use crate::wire::ReplicationConnection;

/// Marks a publication as ours to drop.
const MADE_BY_US: &str = "made by lakeward";
/// How long another connection may still hold the slot that is to be dropped.
const RELEASE_ATTEMPTS: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(200);

/// A publication as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) all_tables: bool,
    /// Whether inserts, updates, deletes and truncates are all published.
    pub(crate) all_operations: bool,
    pub(crate) via_root: bool,
    pub(crate) made_by_us: bool,
    /// Tables of which only some rows or columns are published.
    pub(crate) partial: Vec<TableId>,
}

/// A slot as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) plugin: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) temporary: bool,
    pub(crate) two_phase: bool,
    pub(crate) active_pid: Option<i32>,
    pub(crate) wal_status: Option<String>,
    pub(crate) confirmed: Option<u64>,
}

impl Slot {
    /// Why it cannot serve; `None`: it can.
    pub(crate) fn misfit(&self, database: &str) -> Option<&'static str> {
        if self.plugin.as_deref() != Some("pgoutput") {
            return Some("it uses another output plugin than pgoutput");
        }
        if self.database.as_deref() != Some(database) {
            return Some("it belongs to another database");
        }
        if self.two_phase {
            return Some("it decodes prepared transactions (two_phase), whose rows could be lost");
        }
        self.temporary.then_some("it is temporary")
    }

    /// Whether the server has removed log that it still needed.
    pub(crate) fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
    }
}

impl Publication {
    /// Why it cannot serve; `None`: it can.
    pub(crate) fn misfit(&self) -> Option<&'static str> {
        if !self.all_operations {
            return Some("it does not publish all of insert, update, delete and truncate");
        }
        if self.via_root {
            return Some("it publishes partitions under their root (publish_via_partition_root)");
        }
        (!self.partial.is_empty()).then_some("it has row filters or column lists")
    }
}

/// The server's major version.
pub(crate) async fn major(session: &Session) -> Result<i32> {
    let sql = "SELECT current_setting('server_version_num')::int4 / 10000";
    cell(&session.query_one(sql, &[]).await.map_err(sql_error)?, 0)
}

/// The publication of this name, if there is one.
pub(crate) async fn publication(session: &Session, name: &str) -> Result<Option<Publication>> {
    let sql = "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AS all_operations, \
               pubviaroot, coalesce(obj_description(oid, 'pg_publication') = $2, false) AS ours \
               FROM pg_publication WHERE pubname = $1";
    let Some(row) = session.query_opt(sql, &[&name, &MADE_BY_US]).await.map_err(sql_error)? else {
        return Ok(None);
    };
    Ok(Some(Publication {
        all_tables: cell(&row, "puballtables")?,
        all_operations: cell(&row, "all_operations")?,
        via_root: cell(&row, "pubviaroot")?,
        made_by_us: cell(&row, "ours")?,
        partial: partial(session, name).await?,
    }))
}

/// Row filters and column lists came with 15.
async fn partial(session: &Session, name: &str) -> Result<Vec<TableId>> {
    if major(session).await? < 15 {
        return Ok(Vec::new());
    }
    let sql = "SELECT n.nspname, c.relname FROM pg_publication_rel r \
               JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE p.pubname = $1 AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL) ORDER BY 1, 2";
    let rows = session.query(sql, &[&name]).await.map_err(sql_error)?;
    rows.iter()
        .map(|row| Ok(TableId::new(cell::<String>(row, 0)?, cell::<String>(row, 1)?)))
        .collect()
}

/// The slot of this name, if there is one.
pub(crate) async fn slot(session: &Session, name: &str) -> Result<Option<Slot>> {
    let sql = "SELECT plugin::text, database::text, temporary, active_pid, wal_status, \
               two_phase, confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1";
    let Some(row) = session.query_opt(sql, &[&name]).await.map_err(sql_error)? else {
        return Ok(None);
    };
    let confirmed: Option<PgLsn> = cell(&row, "confirmed_flush_lsn")?;
    Ok(Some(Slot {
        plugin: cell(&row, "plugin")?,
        database: cell(&row, "database")?,
        temporary: cell(&row, "temporary")?,
        two_phase: cell(&row, "two_phase")?,
        active_pid: cell(&row, "active_pid")?,
        wal_status: cell(&row, "wal_status")?,
        confirmed: confirmed.map(u64::from),
    }))
}

/// Ends the connection of ours that reads a slot, if there is one. Another program's is left alone.
pub(crate) async fn end_reader(session: &Session, slot: &str) -> Result<()> {
    let sql = "SELECT pg_terminate_backend(a.pid) FROM pg_replication_slots s \
               JOIN pg_stat_activity a ON a.pid = s.active_pid \
               WHERE s.slot_name = $1 AND a.application_name = $2";
    let ended = session.query(sql, &[&slot, &APPLICATION_NAME]).await.map_err(sql_error)?;
    if !ended.is_empty() {
        tracing::warn!(slot, "ended the older reader of the slot");
    }
    Ok(())
}

/// Makes publication and slot where they are missing, and refuses what does not fit.
pub(crate) async fn prepare(catalog: &Catalog, tables: &[Arc<TableSchema>]) -> Result<Prepared> {
    let settings = catalog.settings();
    publish(catalog, tables).await?;
    let session = catalog.session().await?;
    if let Some(found) = slot(&session, &settings.slot).await? {
        return existing(catalog, &found).await;
    }
    let mut walsender = ReplicationConnection::connect(settings).await?;
    let system = walsender.identify().await?.system;
    let made = saying(walsender.create_slot(&settings.slot, false, false), |waited| {
        tracing::info!(
            slot = settings.slot,
            waited_s = waited.as_secs(),
            "making the slot waits for transactions that are still open"
        );
    })
    .await?;
    tracing::info!(slot = settings.slot, publication = settings.publication, "made the slot");
    Ok(Prepared { beginning: Place::before(system, made.consistent_point), fresh: true })
}

async fn existing(catalog: &Catalog, found: &Slot) -> Result<Prepared> {
    let settings = catalog.settings();
    if let Some(why) = found.misfit(&settings.database) {
        return Err(Error::new(ErrorKind::Config, format!("the slot cannot be used: {why}"))
            .with("slot", &settings.slot)
            .remedied("name another slot in the source's options, or drop this one"));
    }
    if found.is_lost() {
        return Err(Error::new(
            ErrorKind::LogGone,
            "the server has removed log that the slot needed",
        )
        .with("slot", &settings.slot));
    }
    // A slot that is still being made has no place yet.
    let confirmed = found.confirmed.ok_or_else(|| {
        Error::new(ErrorKind::Conflict, "the slot is not ready yet").with("slot", &settings.slot)
    })?;
    let mut walsender = ReplicationConnection::connect(settings).await?;
    let system = walsender.identify().await?.system;
    Ok(Prepared { beginning: Place::before(system, confirmed), fresh: false })
}

/// Adds what is missing to the publication, making it when there is none. Returns whether anything changed.
pub(crate) async fn publish(catalog: &Catalog, tables: &[Arc<TableSchema>]) -> Result<bool> {
    let name = &catalog.settings().publication;
    let session = catalog.session().await?;
    let found = publication(&session, name).await?;
    if let Some(why) = found.as_ref().and_then(Publication::misfit) {
        return Err(Error::new(
            ErrorKind::Config,
            format!("the publication cannot be used: {why}"),
        )
        .with("publication", name)
        .remedied("name another publication in the source's options, or alter this one"));
    }
    if found.as_ref().is_some_and(|p| p.all_tables) {
        return Ok(false);
    }
    let missing = missing(&session, name, tables).await?;
    if found.is_some() && missing.is_empty() {
        return Ok(false);
    }
    let sql = match found {
        Some(_) => format!("ALTER PUBLICATION {} ADD TABLE {}", ident(name), only(&missing)),
        None => create(name, &missing),
    };
    // It may wait for a lock, and the control connection must not: the log's look-ups go over it.
    let session = Session::open(catalog.settings()).await?;
    session.batch_execute(&sql).await.map_err(sql_error).map_err(|error| {
        error.with("publication", name).remedied(
            "the user needs CREATE on the database and must own the tables; `lakeward check` names them",
        )
    })?;
    tracing::info!(publication = name, tables = missing.len(), "published tables");
    Ok(true)
}

fn create(name: &str, tables: &[TableId]) -> String {
    let list =
        if tables.is_empty() { String::new() } else { format!(" FOR TABLE {}", only(tables)) };
    let name = ident(name);
    format!(
        "BEGIN; CREATE PUBLICATION {name}{list}; COMMENT ON PUBLICATION {name} IS {}; COMMIT",
        quote::literal(MADE_BY_US)
    )
}

fn only(tables: &[TableId]) -> String {
    let names: Vec<_> = tables.iter().map(|t| format!("ONLY {}", quote::table(t))).collect();
    names.join(", ")
}

/// The tables that the publication does not carry yet, under their names of now. What is gone is left out.
async fn missing(
    session: &Session,
    publication: &str,
    tables: &[Arc<TableSchema>],
) -> Result<Vec<TableId>> {
    let oids = tables.iter().map(|t| table_oid(t)).collect::<Result<Vec<u32>>>()?;
    let sql = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.oid = ANY($1) AND NOT EXISTS (SELECT FROM pg_publication_tables p \
                 WHERE p.pubname = $2 AND p.schemaname = n.nspname AND p.tablename = c.relname) \
               ORDER BY 1, 2";
    let rows = session.query(sql, &[&oids, &publication]).await.map_err(sql_error)?;
    rows.iter()
        .map(|row| Ok(TableId::new(cell::<String>(row, 0)?, cell::<String>(row, 1)?)))
        .collect()
}

/// Drops the slot, then the publication if it was ours.
pub(crate) async fn remove(catalog: &Catalog) -> Result<()> {
    let settings = catalog.settings();
    let session = catalog.session().await?;
    drop_slot(&session, &settings.slot).await?;
    if publication(&session, &settings.publication).await?.is_some_and(|p| p.made_by_us) {
        let sql = format!("DROP PUBLICATION IF EXISTS {}", ident(&settings.publication));
        session.batch_execute(&sql).await.map_err(sql_error)?;
    }
    Ok(())
}

async fn drop_slot(session: &Session, name: &str) -> Result<()> {
    let sql =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
    for attempt in 1.. {
        match session.execute(sql, &[&name]).await.map_err(sql_error) {
            Ok(_) => return Ok(()),
            // A connection of ours that has just ended may still hold it.
            Err(error)
                if error.context("sqlstate") == Some("55006") && attempt < RELEASE_ATTEMPTS =>
            {
                tokio::time::sleep(RELEASE_PAUSE).await;
            }
            Err(error) => {
                return Err(error
                    .with("slot", name)
                    .remedied("stop the pipeline that reads this slot"));
            }
        }
    }
    Ok(())
}
