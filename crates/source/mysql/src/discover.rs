//! Which tables are followed, as the server has them now.
//!
//! A table that cannot be followed is left out here and explained by [`crate::check`]. A table that is seen for the first
//! time is looked at twice, with the log's place asked for in between: only when both looks agree is it known that the
//! log up to there says nothing new of it.
use std::collections::HashMap;
use std::sync::Arc;

use lakeward_core::{Result, TableId, TableSchema};

use crate::catalog::{self, Catalog, Described, cell};
use crate::connect::sql_error;
use crate::quote;
use crate::tables::Tables;
use crate::wire::Conn;

/// Why a table cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// A view, a sequence, a table with its history.
    NotATable,
    /// Its engine gives no snapshot.
    Engine(String),
    /// It has no column that could be followed.
    NoColumns,
    /// Foreign keys change its rows without a trace in the log.
    Cascades,
}

/// What a table's shape forbids.
pub(crate) fn obstacle(described: &Described) -> Option<Obstacle> {
    if described.table_type != "BASE TABLE" {
        return Some(Obstacle::NotATable);
    }
    if !described.engine.eq_ignore_ascii_case("InnoDB") {
        return Some(Obstacle::Engine(described.engine.clone()));
    }
    described.followed().next().is_none().then_some(Obstacle::NoColumns)
}

/// Whether foreign keys of a table change its rows. Asked of its DDL: the catalogue hides them from who may only read.
///
/// # Errors
/// `Unreachable`; `Conflict` when the table is gone.
pub(crate) async fn cascades(session: &mut Conn, table: &TableId) -> Result<bool> {
    let sql = format!("SHOW CREATE TABLE {}", quote::table(table));
    let ddl: String = cell(&catalog::row(session, &sql).await?, 1)?;
    Ok(has_cascade(&ddl))
}

fn has_cascade(ddl: &str) -> bool {
    let constraints = ddl.lines().map(str::trim_start).filter(|l| l.starts_with("CONSTRAINT "));
    constraints.filter_map(|line| line.rsplit_once(" REFERENCES ")).any(|(_, rules)| {
        ["CASCADE", "SET NULL", "SET DEFAULT"].iter().any(|act| {
            rules.contains(&format!("ON DELETE {act}"))
                || rules.contains(&format!("ON UPDATE {act}"))
        })
    })
}

/// The selected tables that can be followed, by name.
pub(crate) async fn discover(catalog: &Catalog, tables: &Tables) -> Result<Vec<Arc<TableSchema>>> {
    let flavour = catalog.server().await?.flavour;
    let mut session = catalog.session().await?;
    let found = fit(catalog.selected(&mut session).await?);
    let new = found.iter().any(|described| tables.get(&described.table).is_none());
    let mut again = HashMap::new();
    let mut seen = String::new();
    if new {
        seen = catalog::head(&mut session, flavour).await?.to_string();
        again = fit(catalog.selected(&mut session).await?)
            .into_iter()
            .map(|described| (described.table.clone(), described))
            .collect();
    }
    let mut followed = Vec::with_capacity(found.len());
    for described in found {
        if tables.get(&described.table).is_none() {
            if again.get(&described.table) != Some(&described) {
                tracing::debug!(table = %described.table, "a new table changes while it is looked at");
                continue;
            }
            if !may_follow(catalog, &mut session, &described).await? {
                continue;
            }
        }
        followed.push(tables.looked(&described.table, &described.look(), &seen));
    }
    session.give_back();
    Ok(followed)
}

fn fit(found: Vec<Described>) -> Vec<Described> {
    let fits = |described: &Described| match obstacle(described) {
        None => true,
        Some(obstacle) => {
            tracing::debug!(table = %described.table, ?obstacle, "a selected table cannot be followed");
            false
        }
    };
    found.into_iter().filter(fits).collect()
}

async fn may_follow(catalog: &Catalog, session: &mut Conn, described: &Described) -> Result<bool> {
    if catalog.settings().allow_cascades || !cascades(session, &described.table).await? {
        return Ok(true);
    }
    tracing::debug!(
        table = %described.table, obstacle = ?Obstacle::Cascades, "a selected table cannot be followed"
    );
    Ok(false)
}

/// Whether this user may read a table.
pub(crate) async fn readable(session: &mut Conn, table: &TableId) -> Result<bool> {
    let sql = format!("SELECT 1 FROM {} LIMIT 0", quote::table(table));
    match session.run(&sql).await.map_err(sql_error) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == lakeward_core::ErrorKind::Auth => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_constraints_cascade() {
        let ddl = |constraint: &str| {
            format!(
                "CREATE TABLE `t` (\n  `a` int COMMENT ' REFERENCES ON DELETE CASCADE',\n  {constraint}\n)"
            )
        };
        let fk = |rules: &str| {
            ddl(&format!("CONSTRAINT `c` FOREIGN KEY (`a`) REFERENCES `p` (`id`){rules}"))
        };
        assert!(has_cascade(&fk(" ON DELETE CASCADE")));
        assert!(has_cascade(&fk(" ON DELETE RESTRICT ON UPDATE SET NULL")));
        assert!(!has_cascade(&fk("")));
        assert!(!has_cascade(&fk(" ON DELETE NO ACTION")));
        assert!(!has_cascade(&ddl("PRIMARY KEY (`a`)")));
    }
}
