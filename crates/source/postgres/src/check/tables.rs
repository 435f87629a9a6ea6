//! What stands in the way of following single tables and columns.
use std::collections::BTreeSet;

use lakeward_core::{Finding, Result, Selection, TableId, TablePattern};

use super::{note, refused, warning};
use crate::catalog::{Attribute, Described, cell};
use crate::connect::{Session, sql_error};
use crate::discover::{self, Candidate, Obstacle};
use crate::quote;

/// The tables that a publication carries.
pub(super) async fn published(session: &Session, publication: &str) -> Result<BTreeSet<TableId>> {
    let sql = "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1";
    let rows = session.query(sql, &[&publication]).await.map_err(sql_error)?;
    rows.iter()
        .map(|row| Ok(TableId::new(cell::<String>(row, 0)?, cell::<String>(row, 1)?)))
        .collect()
}

/// What the selected relations and their columns mean.
pub(super) fn judge(
    found: &[Candidate],
    described: &[Described],
    published: &BTreeSet<TableId>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for candidate in found {
        if let Some(obstacle) = candidate.obstacle() {
            findings.push(explain(&candidate.table, obstacle));
            continue;
        }
        rights(candidate, published.contains(&candidate.table), &mut findings);
        let table = described.iter().find(|d| d.oid == candidate.oid);
        // A table that never had a column has nothing to describe.
        match table.map_or(Some(Obstacle::NoColumns), discover::obstacle) {
            Some(obstacle) => findings.push(explain(&candidate.table, obstacle)),
            None => table.into_iter().for_each(|table| shape(table, &mut findings)),
        }
    }
    findings
}

fn explain(table: &TableId, obstacle: Obstacle) -> Finding {
    let (about, name) = (table.to_string(), quote::table(table));
    let exclude = format!("add `{table}` to `exclude`");
    match obstacle {
        Obstacle::Partitioned => refused(
            about,
            "is partitioned, which is not supported yet",
            format!(
                "{exclude}; its partitions are followed as tables of their own if they are selected"
            ),
        ),
        Obstacle::NotATable => {
            warning(about, "is a view or a foreign table and is not followed", exclude)
        }
        Obstacle::Unlogged => refused(
            about,
            "is unlogged: its changes do not reach the log",
            format!("ALTER TABLE {name} SET LOGGED, or {exclude}"),
        ),
        Obstacle::NoColumns => warning(about, "has no columns to follow and is left out", exclude),
        Obstacle::NoIdentity => refused(
            about,
            "has no replica identity: once published, its own UPDATE and DELETE would fail",
            format!(
                "ALTER TABLE {name} REPLICA IDENTITY FULL, or give it a primary key, or {exclude}"
            ),
        ),
        Obstacle::GeneratedKey => refused(
            about,
            "is identified by a generated column, which the log does not carry",
            format!(
                "ALTER TABLE {name} REPLICA IDENTITY USING INDEX another unique index, or {exclude}"
            ),
        ),
    }
}

fn rights(candidate: &Candidate, published: bool, findings: &mut Vec<Finding>) {
    let (about, name) = (candidate.table.to_string(), quote::table(&candidate.table));
    if !candidate.readable {
        let schema = quote::ident(&candidate.table.namespace);
        findings.push(refused(
            about.clone(),
            "may not be read by the user",
            format!(
                "GRANT USAGE ON SCHEMA {schema} TO the user; GRANT SELECT ON {name} TO the user"
            ),
        ));
    }
    if candidate.filtered {
        findings.push(refused(
            about.clone(),
            "row security hides rows from the user",
            "ALTER ROLE the user BYPASSRLS",
        ));
    }
    if !candidate.owned && !published {
        findings.push(refused(
            about,
            "is not owned by the user, who therefore cannot publish it",
            format!(
                "GRANT the table's owner TO the user, or add {name} to the publication as its owner"
            ),
        ));
    }
}

fn shape(table: &Described, findings: &mut Vec<Finding>) {
    let about = |column: &Attribute| format!("{}.{}", table.table, column.name);
    if table.key.is_empty() {
        findings.push(warning(
            table.table.to_string(),
            "has no key: its load cannot be resumed, and every change carries the whole row",
            "give it a primary key",
        ));
    }
    for column in table.attributes.iter().filter(|a| !a.dropped) {
        if column.generated {
            findings.push(note(
                about(column),
                "is a generated column and is not followed: the log does not carry it",
                "compute it where the lake is read",
            ));
        } else if let Some(found) = column.pg_type.as_ref().filter(|t| t.as_text) {
            findings.push(note(
                about(column),
                format!("lands as text: the lake has no better type for `{}`", found.declared),
                "nothing, unless readers expect another type",
            ));
        }
    }
}

/// Patterns that no table answers to.
pub(super) fn patterns(found: &[Candidate], selection: &Selection) -> Vec<Finding> {
    let tables: Vec<&Candidate> = found.iter().filter(|c| c.kind == 'r').collect();
    let idle = |pattern: &&TablePattern| !tables.iter().any(|c| pattern.matches(&c.table));
    selection
        .tables
        .iter()
        .filter(idle)
        .map(|pattern| {
            let (about, message) = (format!("tables: {pattern}"), "no table matches this pattern");
            let remedy = "correct the pattern, or create the table: it is followed when it comes";
            if pattern.to_string().contains('*') {
                warning(about, message, remedy)
            } else {
                refused(about, message, remedy)
            }
        })
        .collect()
}
