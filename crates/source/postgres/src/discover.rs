//! Which tables are followed, as the server has them now.
//!
//! A table that cannot be followed is left out here and explained by [`crate::check`].
use std::sync::Arc;

use lakeward_core::{Result, Selection, TableId, TableSchema};
use tokio_postgres::{Client, Row};

use crate::catalog::{Catalog, Described, cell, character};
use crate::connect::sql_error;

/// A relation whose name is selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) oid: u32,
    pub(crate) table: TableId,
    /// `pg_class.relkind`.
    pub(crate) kind: char,
    /// `pg_class.relpersistence`.
    pub(crate) persistence: char,
    /// Whether this user may read it.
    pub(crate) readable: bool,
    /// Whether this user may publish it.
    pub(crate) owned: bool,
    /// Whether row security hides rows from this user.
    pub(crate) filtered: bool,
}

/// Why a table cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Its parts hold the rows.
    Partitioned,
    /// A view, a materialized view or a foreign table.
    NotATable,
    /// Its changes do not reach the log.
    Unlogged,
    /// It has no column that could be followed.
    NoColumns,
    /// Published, its own UPDATE and DELETE would fail, or come without a key.
    NoIdentity,
    /// A generated column identifies its rows, and the log does not carry those.
    GeneratedKey,
}

const CANDIDATES: &str = "\
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, \
           has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AS readable, \
           pg_has_role(c.relowner, 'USAGE') AS owned, \
           c.relkind IN ('r', 'p') AND row_security_active(c.oid) AS filtered \
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' \
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
     ORDER BY n.nspname, c.relname";

/// Everything with a selected name, tables or not, by name.
pub(crate) async fn candidates(client: &Client, selection: &Selection) -> Result<Vec<Candidate>> {
    let rows = client.query(CANDIDATES, &[]).await.map_err(sql_error)?;
    let all = rows.iter().map(candidate).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|c| selection.takes(&c.table)).collect())
}

fn candidate(row: &Row) -> Result<Candidate> {
    let namespace: String = cell(row, "nspname")?;
    Ok(Candidate {
        oid: cell(row, "oid")?,
        table: TableId::new(namespace, cell::<String>(row, "relname")?),
        kind: character(row, "relkind")?,
        persistence: character(row, "relpersistence")?,
        readable: cell(row, "readable")?,
        owned: cell(row, "owned")?,
        filtered: cell(row, "filtered")?,
    })
}

impl Candidate {
    /// What its kind alone forbids.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        match (self.kind, self.persistence) {
            ('p', _) => Some(Obstacle::Partitioned),
            ('r', 'u') => Some(Obstacle::Unlogged),
            ('r', _) => None,
            _ => Some(Obstacle::NotATable),
        }
    }
}

/// What a table's shape forbids.
pub(crate) fn obstacle(described: &Described) -> Option<Obstacle> {
    if described.live().next().is_none() {
        return Some(Obstacle::NoColumns);
    }
    let generated = |number: &i16| described.attribute(*number).is_none_or(|a| a.generated);
    if described.key.iter().any(generated) {
        return Some(Obstacle::GeneratedKey);
    }
    (described.key.is_empty() && described.replica_identity != 'f').then_some(Obstacle::NoIdentity)
}

/// The selected tables that can be followed, by name.
pub(crate) async fn discover(catalog: &Catalog) -> Result<Vec<Arc<TableSchema>>> {
    let session = catalog.session().await?;
    let selection = &catalog.settings().selection;
    let oids: Vec<u32> = candidates(&session, selection)
        .await?
        .iter()
        .filter(|c| c.obstacle().is_none() && c.readable)
        .map(|c| c.oid)
        .collect();
    let mut tables: Vec<Arc<TableSchema>> = Vec::with_capacity(oids.len());
    for described in catalog.describe_by(&session, &oids).await? {
        match obstacle(&described) {
            None => tables.push(Arc::new(described.schema())),
            Some(obstacle) => tracing::debug!(
                table = %described.table, ?obstacle, "a selected table cannot be followed"
            ),
        }
    }
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(tables)
}
