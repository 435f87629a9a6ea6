//! Which column is which at a place of the log: the log's own list of columns against a catalogue that is newer.
//!
//! The log names a table's live columns in `attnum` order, without the numbers. Numbers are never used again, the
//! catalogue keeps those of dropped columns, so the two lists can be laid against each other. Everything here is pure.
//!
//! Facts that the rules rest on: a column that is live now and older than the newest one the log names must be among
//! those it names; a name may have moved since; a type may have changed since; uncommitted DDL is in the log's list
//! and not in the catalogue.
mod align;
mod change;

use lakeward_core::{ColumnId, Divergence, Fill, TableId, TableSchema};

use crate::catalog::{Attribute, ChosenColumn, Described, Note};
use crate::decode::RelationMessage;
use crate::types::PgType;

use align::{Aligned, align};
use change::holds;
pub(crate) use change::{fills, retyped, rewritten};

/// What is known when a `Relation` message comes.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the engine holds of the table at this place; `None`: nothing.
    pub told: Option<&'a TableSchema>,
    /// The log's list.
    pub relation: &'a RelationMessage,
    /// The types of its columns, one for one.
    pub types: &'a [PgType],
    /// The catalogue now.
    pub now: &'a Described,
    /// What was told is from elsewhere than the log, and may be newer than this place.
    pub told_may_be_newer: bool,
    /// The message stands in a transaction whose own DDL the catalogue may not show yet.
    pub unseen_ddl: bool,
}

/// The answer.
#[derive(Debug)]
pub struct Resolved {
    /// What rows become.
    pub schema: TableSchema,
    /// Per column of the log its place in `schema`; `None`: it came and went, and is not followed.
    pub slots: Vec<Option<u32>>,
    /// Columns of `schema` that the log does not have at this place.
    pub defaults: Vec<(u32, Default)>,
    /// How `schema` follows from what was told.
    pub step: Step,
    /// Rows changed that the log did not carry, or nobody can say which column is which.
    pub diverged: Option<Divergence>,
    /// Whether a divergence, if any, lies exactly here and not at some later place of the log.
    pub exact: bool,
}

/// How a schema follows from what was told before.
#[derive(Debug)]
pub enum Step {
    /// Nothing was told.
    First,
    /// It is what was told.
    Same,
    /// What was told is newer than this place of the log: rows are given the newer shape.
    Behind,
    /// The table has become another version; one fill per column.
    Changed(Vec<Fill>),
}

/// What a row written before a column came shows in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Default {
    /// NULL.
    Null,
    /// This value, as the type's output text.
    Text(String),
    /// Not known.
    Absent,
}

/// Decides.
pub fn resolve(known: Known<'_>) -> Resolved {
    let aligned = align(&known);
    let schema = schema(&known, &aligned.numbers);
    let slots = slots(&schema, &aligned.numbers);
    let resolved = |schema, step| Resolved {
        schema,
        slots: slots.clone(),
        defaults: Vec::new(),
        step,
        diverged: (!aligned.certain).then_some(Divergence::SchemaUnknown),
        exact: true,
    };
    let Some(told) = known.told else { return resolved(schema, Step::First) };
    let rewritten = rewritten(told, known.now);
    let current = is_current(known.relation, known.now);
    // What the catalogue notes is of its own moment: it holds here only where the shape is the same.
    let schema = if current { schema } else { TableSchema { note: told.note.clone(), ..schema } };
    if schema.version == told.version {
        let mut same = resolved(schema, Step::Same);
        if rewritten && current {
            same.diverged.get_or_insert(Divergence::Rewritten);
        }
        same.exact = false;
        return same;
    }
    if let Some(behind) = behind(&known, told, &aligned) {
        return behind;
    }
    let fills = fills(told, &schema, known.now, rewritten);
    let unknown = fills.iter().any(|fill| matches!(fill, Fill::Unknown));
    let explained = unknown || retyped(told, &schema);
    let mut changed = resolved(schema, Step::Changed(fills));
    if explained || (rewritten && current) {
        changed.diverged.get_or_insert(Divergence::Rewritten);
    }
    changed.exact = explained && current;
    changed
}

/// Whether the log's list is the catalogue's, name for name and type for type.
pub fn is_current(relation: &RelationMessage, now: &Described) -> bool {
    let same = |(column, attribute): (&crate::decode::RelationColumn, &Attribute)| {
        column.name == attribute.name
            && column.type_oid == attribute.type_oid
            && column.typmod == attribute.type_modifier
    };
    relation.columns.len() == now.live().count()
        && relation.columns.iter().zip(now.live()).all(same)
}

/// A stand-in for the catalogue of a table that is gone: as it was told.
pub fn as_told(relation: &RelationMessage, told: Option<&TableSchema>) -> Described {
    let attribute = |(index, number, name): (usize, i16, &str)| Attribute {
        number,
        name: name.to_owned(),
        type_oid: relation.columns.get(index).map_or(0, |c| c.type_oid),
        type_modifier: relation.columns.get(index).map_or(-1, |c| c.typmod),
        pg_type: None,
        not_null: false,
        has_default: false,
        dropped: false,
        generated: false,
        has_missing: false,
        missing: None,
        xmin: 0,
    };
    let numbered = told.map(|told| {
        told.columns.iter().enumerate().map(|(i, c)| (i, c.id.0 as i16, c.name.as_str()))
    });
    let note = told.and_then(Note::of).unwrap_or_default();
    Described {
        oid: relation.relid,
        table: TableId::new(&relation.namespace, &relation.name),
        file_node: note.file_node,
        replica_identity: char::from(relation.identity),
        attributes: numbered.into_iter().flatten().map(attribute).collect(),
        key: told.into_iter().flat_map(|t| t.key_columns().map(|c| c.id.0 as i16)).collect(),
    }
}

fn schema(known: &Known<'_>, numbers: &[i16]) -> TableSchema {
    let followed = |number: i16| {
        told_column(known, number).is_some()
            || known.now.attribute(number).is_none_or(|attribute| !attribute.dropped)
    };
    let columns = known.relation.columns.iter().zip(known.types).zip(numbers);
    let chosen =
        columns.filter(|(_, number)| followed(**number)).map(|((column, pg_type), number)| {
            ChosenColumn { number: *number, name: column.name.clone(), pg_type: pg_type.clone() }
        });
    let table = TableId::new(&known.relation.namespace, &known.relation.name);
    let now = known.now.schema_from(table, chosen);
    let key = key(known, numbers, &now);
    TableSchema::new(now.table, now.identity, now.columns, key, now.note)
}

/// The key at this place: with a replica identity by index what the log marks, in the order of the
/// catalogue or of what was told where that is the same set; with `FULL` the catalogue's.
fn key(known: &Known<'_>, numbers: &[i16], now: &TableSchema) -> Vec<u32> {
    if !matches!(known.relation.identity, b'd' | b'i') {
        return if known.relation.identity == b'f' { now.key.clone() } else { Vec::new() };
    }
    let columns = known.relation.columns.iter().zip(numbers);
    let marked: Vec<u32> = columns
        .filter(|(column, _)| column.key)
        .filter_map(|(_, number)| index_of(now, *number))
        .collect();
    let told = known.told.into_iter().flat_map(TableSchema::key_columns);
    let told: Option<Vec<u32>> = told.map(|c| now.column(c.id).map(|(at, _)| at as u32)).collect();
    let orders = [Some(now.key.clone()), told].into_iter().flatten();
    let same_set =
        |order: &Vec<u32>| marked.len() == order.len() && marked.iter().all(|m| order.contains(m));
    orders.into_iter().find(same_set).unwrap_or(marked)
}

fn index_of(schema: &TableSchema, number: i16) -> Option<u32> {
    schema.column(ColumnId(i32::from(number))).map(|(index, _)| index as u32)
}

fn slots(schema: &TableSchema, numbers: &[i16]) -> Vec<Option<u32>> {
    numbers.iter().map(|number| index_of(schema, *number)).collect()
}

/// What was told is newer than this place: a column of it is not here yet, or it is the catalogue's own shape.
fn behind(known: &Known<'_>, told: &TableSchema, aligned: &Aligned) -> Option<Resolved> {
    let here = |id: ColumnId| aligned.numbers.iter().position(|n| i32::from(*n) == id.0);
    let live = |id: ColumnId| {
        let number = i16::try_from(id.0).ok()?;
        known.now.attribute(number).filter(|a| !a.dropped)
    };
    let newer = told.columns.iter().any(|c| here(c.id).is_none() && live(c.id).is_some())
        || told.version == known.now.schema().version;
    let fits = told.columns.iter().all(|c| match here(c.id) {
        Some(index) => known.types.get(index).is_some_and(|t| holds(&c.data_type, &t.data_type)),
        None => live(c.id).is_some(),
    });
    let keyed = told.key_columns().all(|c| here(c.id).is_some());
    let listed = aligned.numbers.iter().all(|n| known.now.attribute(*n).is_some());
    if known.unseen_ddl || !known.told_may_be_newer || !(newer && fits && keyed && listed) {
        return None;
    }
    let lacking = told.columns.iter().enumerate().filter(|(_, c)| here(c.id).is_none());
    let defaults = lacking
        .map(|(index, c)| (index as u32, live(c.id).map_or(Default::Absent, default)))
        .collect();
    Some(Resolved {
        schema: told.clone(),
        slots: slots(told, &aligned.numbers),
        defaults,
        step: Step::Behind,
        diverged: (!aligned.certain).then_some(Divergence::SchemaUnknown),
        exact: false,
    })
}

fn default(attribute: &Attribute) -> Default {
    match (&attribute.missing, attribute.has_missing) {
        (Some(text), true) => Default::Text(text.clone()),
        (None, true) => Default::Absent,
        (_, false) if attribute.has_default => Default::Absent,
        (_, false) => Default::Null,
    }
}

fn told_column<'a>(known: &Known<'a>, number: i16) -> Option<&'a lakeward_core::Column> {
    known.told?.column(ColumnId(i32::from(number))).map(|(_, column)| column)
}

#[cfg(test)]
mod tests;
