//! What a table has become, told by the catalogue alone: for DDL that no later row in the log announces.
//!
//! The same rules as for a schema that the log announces; see [`crate::follow`].
use std::sync::Arc;

use lakeward_core::{Drift, Result, TableSchema};

use crate::catalog::{Catalog, describe_one};
use crate::discover::obstacle;
use crate::follow;
use crate::position::position;
use crate::snapshot::head_set;
use crate::tables::Tables;

/// Compares a known schema with the catalogue. `None`: the same, or the table is gone.
pub(crate) async fn drift(
    catalog: &Catalog,
    tables: &Tables,
    known: &TableSchema,
) -> Result<Option<Drift>> {
    let mut session = catalog.session().await?;
    let now = describe_one(&mut session, &known.table).await?;
    session.give_back();
    let Some(now) = now.filter(|described| obstacle(described).is_none()) else { return Ok(None) };
    let after = tables.as_looked(known, &now.look());
    if after.version == known.version && after.note == known.note {
        return Ok(None);
    }
    let (change, diverged) = follow::change(&Arc::new(known.clone()), Arc::clone(&after));
    // Asked for last: whatever the catalogue showed was committed before.
    let at = head_set(catalog).await?;
    tables.drifted(&after, at.clone());
    Ok(Some(Drift { change, diverged, seen_by: position(&at, &at) }))
}
