//! What a table has become, told by the catalogue alone: for DDL that no later row in the log announces.
//!
//! The same rules as for a schema that the log announces; see [`crate::relation`].
use std::sync::Arc;

use lakeward_core::{Divergence, Drift, Fill, Result, SchemaChange, TableSchema};

use crate::catalog::{Catalog, Described, table_oid};
use crate::relation;
use crate::snapshot::head;

/// Compares a known schema with the catalogue. `None`: the same, or the table is gone.
pub(crate) async fn drift(catalog: &Catalog, known: &TableSchema) -> Result<Option<Drift>> {
    let Some(now) = catalog.describe(table_oid(known)?).await? else { return Ok(None) };
    let Some((change, diverged)) = compare(known, &now) else { return Ok(None) };
    // Asked for last: whatever the catalogue showed was committed before.
    let seen_by = head(catalog).await?;
    Ok(Some(Drift { change, diverged, seen_by }))
}

fn compare(known: &TableSchema, now: &Described) -> Option<(SchemaChange, Option<Divergence>)> {
    let after = now.schema();
    if after.version == known.version && after.note == known.note {
        return None;
    }
    let rewritten = relation::rewritten(known, now);
    let fill = relation::fills(known, &after, now, rewritten);
    let unknown = fill.iter().any(|fill| matches!(fill, Fill::Unknown));
    let diverged = rewritten || unknown || relation::retyped(known, &after);
    let change = SchemaChange {
        before: Arc::new(known.clone()),
        after: Arc::new(after),
        fill,
        transaction: None,
    };
    Some((change, diverged.then_some(Divergence::Rewritten)))
}
